"""The text of --edit and --set, and errors that name these flags."""

import pytest

from cgan_tf.commands import edit_flags
from cgan_tf.commands.flag_errors import flag_errors
from cgan_tf.core.errors import UserError
from cgan_tf.editing.request import EditRequest

NAMES = ("Smiling", "Blond_Hair", "Eyeglasses")


def test_parse_edit():
    assert edit_flags.parse_edit("Smiling=+1.0,Blond_Hair=-0.5") == {
        "Smiling": 1.0,
        "Blond_Hair": -0.5,
    }
    assert edit_flags.parse_edit(" Smiling = 1e-1 ") == {"Smiling": 0.1}


@pytest.mark.parametrize(
    "text, message",
    [
        ("Smiling", "'Smiling' is not NAME=STRENGTH"),
        ("=1", "'=1' is not NAME=STRENGTH"),
        ("Smiling=1,", "'' is not NAME=STRENGTH"),
        ("Smiling=", "the strength of Smiling is ''; give a number"),
        ("Smiling=very", "the strength of Smiling is 'very'; give a number"),
        ("Smiling=1=2", "the strength of Smiling is '1=2'; give a number"),
        ("Smiling=nan", "Smiling's strength is nan; give a finite number"),
        ("Smiling=-inf", "Smiling's strength is -inf; give a finite number"),
        ("Smiling=1e999", "Smiling's strength is 1e999; give a finite number"),
        ("Smiling=1,Smiling=2", "Smiling is given twice"),
    ],
)
def test_parse_edit_refuses(text, message):
    with pytest.raises(UserError) as caught:
        edit_flags.parse_edit(text)
    assert str(caught.value).startswith(f"--edit={text}: ") and message in str(caught.value)


def test_parse_set():
    values = edit_flags.parse_set("Smiling=0,Male=1,Young=.25")
    assert values == {"Smiling": 0.0, "Male": 1.0, "Young": 0.25}


@pytest.mark.parametrize(
    "text, message",
    [
        ("Smiling", "'Smiling' is not NAME=VALUE (Smiling=0.8)"),
        ("Smiling=high", "the value of Smiling is 'high'; give a number (Smiling=0.8)"),
        ("Smiling=nan", "Smiling's value is nan; give a finite number"),
        ("Smiling=1.01", "Smiling's value is 1.01; give one from 0, absent, to 1, present"),
        ("Male=0.5,Smiling=-0.1", "Smiling's value is -0.1; give one from 0"),
        ("Smiling=0.1,Smiling=0.2", "Smiling is given twice"),
    ],
)
def test_parse_set_refuses(text, message):
    with pytest.raises(UserError) as caught:
        edit_flags.parse_set(text)
    assert str(caught.value).startswith(f"--set={text}: ") and message in str(caught.value)


def test_both_flags_on_different_attributes():
    request = edit_flags.parse("Smiling=1", "Eyeglasses=0.9,Blond_Hair=0")
    assert request == EditRequest({"Smiling": 1.0}, {"Eyeglasses": 0.9, "Blond_Hair": 0.0})
    request.check_names(NAMES)
    assert edit_flags.parse(None, "Smiling=0.5") == EditRequest({}, {"Smiling": 0.5})
    assert edit_flags.parse("Smiling=1", None) == EditRequest({"Smiling": 1.0}, {})


def test_an_edit_that_contradicts_a_value():
    with pytest.raises(UserError) as caught:
        edit_flags.parse("Blond_Hair=1,Smiling=-1", "Eyeglasses=0,Smiling=0.8")
    assert str(caught.value) == (
        "--edit=Smiling=-1, --set=Smiling=0.8: they contradict each other; give Smiling in one of "
        "them"
    )


def test_neither_flag():
    with pytest.raises(UserError, match="^--edit, --set: give one of them, or both; see --help$"):
        edit_flags.parse(None, "")


@pytest.mark.parametrize("option", ["edit", "set"])
@pytest.mark.parametrize(
    "name, near", [("smiling", "Smiling"), ("Blond", "Blond_Hair"), ("Zebra", None)]
)
def test_an_unknown_attribute_lists_the_known_ones(option, name, near):
    hint = f" (did you mean {near}?)" if near else ""
    texts = {"edit": None, "set": None} | {option: f"{name}=1"}
    with pytest.raises(UserError) as caught:
        with flag_errors():
            edit_flags.parse(texts["edit"], texts["set"]).check_names(NAMES)
    expected = f"--{option}={name}: unknown attribute{hint}; the model has {', '.join(NAMES)}"
    assert str(caught.value) == expected


def test_a_strength_too_large_for_a_float32():
    with pytest.raises(UserError, match="^--edit=Smiling=1e.300: too large for a float32"):
        edit_flags.parse("Smiling=1e300", None)
