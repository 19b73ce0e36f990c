"""JSON values as text for a reader: the filters of the page's templates.

Every filter takes any value: a missing, undefined or non-finite number becomes a dash.
"""

import json
import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

DASH = "–"  # a value that does not exist
NBSP = "\N{NO-BREAK SPACE}"


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[Any]:
    """The value if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def entries(value: Any) -> dict[str, dict[str, Any]]:
    """A JSON object of objects; whatever else it contains becomes an empty object."""
    return {name: mapping(entry) for name, entry in mapping(value).items()}


def finite(value: Any) -> bool:
    """Whether the value is a number that can be shown; from 1e100 on, plots overflow."""
    return isinstance(value, Real) and not isinstance(value, bool) and abs(value) < 1e100


def number(value: Any, signed: bool = False) -> str:
    """Three significant digits; integers in full, with a thousands separator."""
    if not finite(value):
        return DASH
    if isinstance(value, int) or (abs(value) >= 1000 and abs(value) < 1e15):
        text = f"{round(value):,}"
    elif value and not 1e-4 <= abs(value) < 1000:
        text = _scientific(f"{value:.2e}")
    else:
        decimals = 2 - math.floor(math.log10(abs(value))) if value else 0
        text = f"{value:.{min(max(decimals, 0), 6)}f}"
    return _minus(f"+{text}" if signed and value > 0 else text)


def short(value: Any, signed: bool = False) -> str:
    """A round value without trailing zeros: strengths, kimg, ticks."""
    if not finite(value):
        return DASH
    if abs(value) >= 1e6:
        return number(value, signed)
    return _minus(f"{value:{'+' if signed and value else ''}.6g}")


def fixed(value: Any, decimals: int = 2, signed: bool = False) -> str:
    """A fixed number of decimals, so that columns line up."""
    if not finite(value):
        return DASH
    text = f"{value:{'+' if signed else ''},.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")  # zero has no sign
    return _minus(text)


def tiny(value: Any) -> str:
    """A small difference in scientific notation."""
    if not finite(value):
        return DASH
    return _minus(_scientific(f"{value:.1e}")) if value else "0"


def _minus(text: str) -> str:
    return text.replace("-", "−", 1) if text.startswith("-") else text


def _scientific(text: str) -> str:
    """1.2e-05 as 1.2 × 10⁻⁵."""
    digits, power = text.split("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits} × 10{raised}"


def percent(value: Any) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * value:.1f}{NBSP}%" if finite(value) else DASH


def interval_ends(value: Any) -> tuple[float, float] | None:
    """An interval [low, high] of a report; None for anything else."""
    if isinstance(value, list | tuple) and len(value) == 2 and all(map(finite, value)):
        return float(value[0]), float(value[1])
    return None


def interval(block: Any, key: str, decimals: int = 2, signed: bool = False) -> str:
    """`block[key]` with half the width of its confidence interval, where it has one."""
    value, found = _with_interval(block, key)
    text = fixed(value, decimals, signed)
    return f"{text}{NBSP}± {fixed((found[1] - found[0]) / 2, decimals)}" if found else text


def interval_percent(block: Any, key: str) -> str:
    """`interval` of a fraction, as a percentage with one decimal."""
    value, found = _with_interval(block, key)
    if not found:
        return percent(value)
    return f"{fixed(100 * value, 1)}{NBSP}± {fixed(50 * (found[1] - found[0]), 1)}{NBSP}%"


def _with_interval(block: Any, key: str) -> tuple[Any, tuple[float, float] | None]:
    value, found = mapping(block).get(key), mapping(mapping(block).get("interval")).get(key)
    return value, interval_ends(found) if finite(value) else None


def duration(seconds: Any) -> str:
    """Seconds in the one or two most useful units."""
    if not finite(seconds) or seconds < 0:
        return DASH
    if seconds < 59.5:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.2g} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(minutes + (seconds >= 30), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def size(count: Any) -> str:
    """Bytes in decimal kB or MB."""
    if not finite(count):
        return DASH
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def unit(value: Any, name: str, factor: float = 1.0) -> str:
    """A measured value with one decimal, times `factor`, and its unit."""
    return f"{factor * value:.1f} {name}" if finite(value) else DASH


def worst(blocks: Iterable[Mapping[str, Any]], key: str, kind: str) -> Any:
    """The "min" or "max" of one number of several JSON objects; None if there is none."""
    values = [block[key] for block in blocks if finite(block.get(key))]
    return {"min": min, "max": max}[kind](values, default=None)


def date(text: str) -> str:
    """2025-03-31 14:05 UTC from an ISO 8601 time in UTC."""
    return f"{text[:10]} {text[11:16]} UTC" if len(text) >= 16 else text


def plain(value: Any) -> str:
    """Any JSON value: numbers in full, lists separated by commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else DASH
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or DASH
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {plain(part)}" for key, part in value.items()) or DASH
    return DASH if value is None else str(value) or DASH


def raw_json(value: Any) -> str:
    """A JSON value as it stands in its file; NaN as null."""
    return json.dumps(_without_nan(value), indent=1, ensure_ascii=False, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


FILTERS = (
    date, duration, entries, fixed, interval, interval_percent, listed, mapping, number,
    percent, plain, raw_json, short, size, tiny, unit, worst,
)  # fmt: skip
