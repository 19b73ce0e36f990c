"""Numbers and other JSON values as text."""

import math

import jinja2
import pytest

from cgan_tf.report import format


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (-math.inf, "–"),
        ("7", "–"),
        (True, "–"),
        (0, "0"),
        (10**400, "–"),
        (1e308, "–"),
        (jinja2.ChainableUndefined(), "–"),
        (0.0, "0"),
        (5000, "5,000"),
        (1234567, "1,234,567"),
        (6.914, "6.91"),
        (12.85, "12.8"),
        (137.2, "137"),
        (1234.5, "1,234"),
        (0.0123, "0.0123"),
        (-0.5, "−0.500"),
        (1.2e-5, "1.20 × 10⁻⁵"),
    ],
)
def test_number(value, text):
    assert format.number(value) == text


def test_signs():
    assert format.number(0.625, signed=True) == "+0.625"
    assert format.fixed(0.625, 2, signed=True) == "+0.62"
    assert format.fixed(-0.625, 1, signed=True) == "−0.6"
    assert format.fixed(-0.001, 2, signed=True) == "0.00"
    assert format.fixed(1234.5, 1) == "1,234.5"
    assert format.short(1.0, signed=True) == "+1"
    assert format.short(-0.5) == "−0.5"
    assert format.short(0.0, signed=True) == "0"
    assert format.short(2e7) == "20,000,000"


def test_units():
    assert format.percent(0.9731) == "97.3\N{NO-BREAK SPACE}%"
    assert format.percent(None) == "–"
    assert format.tiny(2.5e-6) == "2.5 × 10⁻⁶"
    assert format.tiny(0.0) == "0"
    assert format.size(4_350_000) == "4.35 MB"
    assert format.size(57_300) == "57.3 kB"
    assert format.size(None) == "–"
    assert format.unit(0.0031, "ms", 1000) == "3.1 ms"
    assert format.unit(61.23, "dB") == "61.2 dB"
    assert format.unit(None, "dB") == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (-1, "–"),
        (3.14, "3.1 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (187, "3 min 7 s"),
        (2467, "41 min"),
        (3599.9, "1 h 0 min"),
        (8040, "2 h 14 min"),
    ],
)
def test_duration(seconds, text):
    assert format.duration(seconds) == text


def test_plain_values():
    assert format.plain([1, 2.5, None]) == "1, 2.5, –"
    assert format.plain({"a": True, "b": []}) == "a: yes; b: –"
    assert format.plain(math.nan) == "–"
    assert format.plain("") == "–"


def test_raw_json_has_null_for_nan():
    assert format.raw_json({"a": [math.nan, 1.5]}) == '{\n "a": [\n  null,\n  1.5\n ]\n}'


def test_intervals_show_half_their_width():
    space = "\N{NO-BREAK SPACE}"
    block = {
        "change": 0.6543,
        "share": 0.5,
        "lost": None,
        "interval": {"change": [0.62, 0.69], "share": [0.4, 0.62], "lost": [0.1, 0.2]},
    }
    assert format.interval(block, "change", 3, signed=True) == f"+0.654{space}± 0.035"
    assert format.interval_percent(block, "share") == f"50.0{space}± 11.0{space}%"
    assert format.interval(block, "lost") == format.interval(None, "x") == format.DASH
    for broken in (None, [0.1], [None, 0.2], 3, ["a", "b"]):
        block = {"share": 0.5, "interval": {"share": broken}}
        assert format.interval(block, "share") == "0.50"
        assert format.interval_percent(block, "share") == f"50.0{space}%"
    assert format.interval({"share": 0.5, "interval": 3}, "share") == "0.50"


def test_the_worst_value_ignores_what_is_not_a_number():
    blocks = [{"kept": 0.9}, {"kept": None}, {"kept": 0.7}, {}]
    assert format.worst(blocks, "kept", "min") == 0.7
    assert format.worst(blocks, "kept", "max") == 0.9
    assert format.worst(blocks, "other", "max") is None
