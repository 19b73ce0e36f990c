"""Damaged and strange content for the fuzz tests, a function of a seed."""

import copy
import json
import random
import struct
from typing import Any

# Numbers that end loops, indices and allocations.
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
# Values of every JSON type, among them those that overflow, vanish or name something else.
STRANGE = (
    None,
    True,
    False,
    0,
    -1,
    1,
    10**6,
    2**63,
    10**400,
    -0.5,
    1e-320,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "0",
    "\0",
    "../../x",
    "\ud800",
    "e\u0301" * 40,
    [],
    [None],
    [[]],
    [0] * 70,
    {},
    {"": None},
)


def damaged(draw: random.Random, content: bytes) -> bytes:
    """The content of a file after one or several damages; at times empty or as it was."""
    content = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        _damage(draw, content)
    return bytes(content)


def _damage(draw: random.Random, content: bytearray) -> None:
    kind = draw.randrange(8)
    # Headers are short, and decide about the rest.
    size = len(content) if draw.random() < 0.5 else min(len(content), 256)
    place = draw.randrange(size) if size else 0
    length = draw.choice((1, 2, 4, 8, 64, 1000))
    if kind == 0:
        del content[place:]
    elif kind == 1:
        for _ in range(length if size else 0):
            content[draw.randrange(size)] ^= 1 << draw.randrange(8)
    elif kind == 2:
        content[place : place + length] = bytes(length)
    elif kind == 3:
        content[place:place] = draw.randbytes(length)
    elif kind == 4:
        del content[place : place + length]
    elif kind == 5:  # a number, such as a size or an offset
        code = draw.choice(("<H", ">H", "<I", ">I"))
        limit = 0xFFFF if code[1] == "H" else 0xFFFFFFFF
        number = struct.pack(code, min(draw.choice(_EDGES), limit))
        content[place : place + len(number)] = number
    elif kind == 6:  # a part of the file in another place
        other = draw.randrange(size) if size else 0
        content[place : place + length] = content[other : other + length]
    else:
        content[place : place + length] = draw.randbytes(length)


def changed_json(draw: random.Random, value: Any) -> Any:
    """A copy of a JSON value in which one to three values are others, missing or elsewhere."""
    value = json.loads(json.dumps(value))
    for _ in range(draw.choice((1, 1, 2, 3))):
        value = _changed(draw, value)
    return value


def _changed(draw: random.Random, value: Any) -> Any:
    if not isinstance(value, dict | list) or not value or draw.random() < 0.1:
        return copy.deepcopy(draw.choice(STRANGE))
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = draw.choice(keys)
    kind = draw.randrange(8)
    if kind == 0:
        del value[key]
    elif kind == 1:
        other = draw.choice(keys)
        value[key], value[other] = value[other], value[key]
    elif kind == 2 and isinstance(value, dict):
        value[draw.choice(("", "format", "new", "\u00e9"))] = copy.deepcopy(value[key])
    elif kind == 2:
        value.append(copy.deepcopy(value[key]))
    else:
        value[key] = _changed(draw, value[key])
    return value


def json_text(draw: random.Random, value: Any) -> bytes:
    """JSON of `changed_json`, at times damaged as text, too."""
    content = json.dumps(changed_json(draw, value)).encode("utf-8", "surrogatepass")
    return damaged(draw, content) if draw.random() < 0.2 else content


def changed_text(draw: random.Random, text: str, parts: tuple[str, ...]) -> str:
    """Text in which some of the parts are inserted, doubled, missing or in another place."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        place = draw.randrange(len(text) + 1)
        end = min(len(text), place + draw.choice((0, 0, 1, 5, 20)))
        kind = draw.randrange(4)
        if kind == 0:
            text = text[:place] + draw.choice(parts) + text[end:]
        elif kind == 1:
            text = text[:end] + text[place:]
        elif kind == 2:
            text = text[:place] + text[end:]
        else:
            lines = text.split("\n")
            draw.shuffle(lines)
            text = "\n".join(lines)
    return text
