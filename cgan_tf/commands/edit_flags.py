"""The text of --edit and --set: Smiling=+1.0,Blond_Hair=-0.5."""

import math

from cgan_tf.commands.flag_errors import flag_errors
from cgan_tf.core.errors import UserError
from cgan_tf.editing.request import EditRequest


def parse(edit: str | None, values: str | None) -> EditRequest:
    """The request of the flags --edit and --set.

    Raises:
        UserError: neither is given, one cannot be read, or both name the same attribute.
    """
    if not edit and not values:
        raise UserError("--edit, --set: give one of them, or both; see --help")
    request = EditRequest(parse_edit(edit) if edit else {}, parse_set(values) if values else {})
    for name in request.targets:
        if name in request.strengths:
            raise UserError(
                f"--edit={name}={request.strengths[name]:g}, "
                f"--set={name}={request.targets[name]:g}: they contradict each other; give {name} "
                "in one of them"
            )
    with flag_errors():
        request.check()
    return request


def parse_edit(text: str) -> dict[str, float]:
    """`Smiling=+1.0,Blond_Hair=-0.5` as {attribute: strength}, in the order given.

    Raises:
        UserError: a part is not NAME=NUMBER, a strength is not finite, or a name comes twice.
    """
    return _parse("edit", text, "STRENGTH", "strength", "+1.0")


def parse_set(text: str) -> dict[str, float]:
    """`Smiling=0.8,Male=0.2` as {attribute: target prediction}, in the order given.

    Raises:
        UserError: a part is not NAME=NUMBER, a value is outside [0, 1], or a name comes twice.
    """
    values = _parse("set", text, "VALUE", "value", "0.8")
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise UserError(
                f"--set={text}: {name}'s value is {value:g}; give one from 0, absent, to 1, present"
            )
    return values


def _parse(option: str, text: str, form: str, noun: str, example: str) -> dict[str, float]:
    """NAME=NUMBER,NAME=NUMBER as a dictionary."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not name or not equals:
            raise UserError(
                f"--{option}={text}: {part.strip()!r} is not NAME={form} (Smiling={example})"
            )
        try:
            value = float(number)
        except ValueError:
            raise UserError(
                f"--{option}={text}: the {noun} of {name} is {number!r}; "
                f"give a number ({name}={example})"
            ) from None
        if not math.isfinite(value):
            raise UserError(f"--{option}={text}: {name}'s {noun} is {number}; give a finite number")
        if name in found:
            raise UserError(f"--{option}={text}: {name} is given twice; give it once")
        found[name] = value
    return found
