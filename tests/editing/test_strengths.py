"""What --edit and --set ask for, and the search, on functions whose answers are known."""

import numpy as np
import pytest

from cgan_tf.core.errors import UserError
from cgan_tf.editing import strengths
from cgan_tf.editing.strengths import LONGEST, TOLERANCE

NAMES = ("Smiling", "Blond_Hair", "Eyeglasses")


# ---- what was asked for ------------------------------------------------------------------------


def test_parse_edit():
    assert strengths.parse_edit("Smiling=+1.0,Blond_Hair=-0.5") == {
        "Smiling": 1.0,
        "Blond_Hair": -0.5,
    }
    assert strengths.parse_edit(" Smiling = 1e-1 ") == {"Smiling": 0.1}


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
        strengths.parse_edit(text)
    assert str(caught.value).startswith(f"--edit={text}: ") and message in str(caught.value)


def test_parse_set():
    assert strengths.parse_set("Smiling=0,Male=1,Young=.25") == {
        "Smiling": 0.0, "Male": 1.0, "Young": 0.25}  # fmt: skip


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
        strengths.parse_set(text)
    assert str(caught.value).startswith(f"--set={text}: ") and message in str(caught.value)


def test_both_flags_on_different_attributes():
    wish = strengths.parse("Smiling=1", "Eyeglasses=0.9,Blond_Hair=0")
    assert wish == strengths.Wish({"Smiling": 1.0}, {"Eyeglasses": 0.9, "Blond_Hair": 0.0})
    wish.check(NAMES)
    assert strengths.parse(None, "Smiling=0.5") == strengths.Wish({}, {"Smiling": 0.5})
    assert strengths.parse("Smiling=1", None) == strengths.Wish({"Smiling": 1.0}, {})


def test_an_edit_that_contradicts_a_value():
    with pytest.raises(UserError) as caught:
        strengths.parse("Blond_Hair=1,Smiling=-1", "Eyeglasses=0,Smiling=0.8")
    assert str(caught.value) == (
        "--edit=Smiling=-1, --set=Smiling=0.8: they contradict each other; give Smiling in one of "
        "them"
    )


def test_neither_flag():
    with pytest.raises(UserError, match="^--edit, --set: give one of them, or both; see --help$"):
        strengths.parse(None, "")


def test_strength_vector_follows_the_model():
    vector = strengths.strength_vector({"Eyeglasses": -2.0, "Smiling": 0.5}, NAMES)
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, np.float32([0.5, 0, -2]))


@pytest.mark.parametrize("option", ["edit", "set"])
@pytest.mark.parametrize(
    "name, near", [("smiling", "Smiling"), ("Blond", "Blond_Hair"), ("Zebra", None)]
)
def test_an_unknown_attribute_lists_the_known(option, name, near):
    hint = f" (did you mean {near}?)" if near else ""
    texts = {"edit": None, "set": None} | {option: f"{name}=1"}
    with pytest.raises(UserError) as caught:
        strengths.parse(texts["edit"], texts["set"]).check(NAMES)
    expected = f"--{option}={name}: unknown attribute{hint}; the model has {', '.join(NAMES)}"
    assert str(caught.value) == expected


def test_a_strength_too_large_for_a_float32():
    with pytest.raises(UserError, match="too large for a float32"):
        with np.errstate(over="ignore"):
            strengths.strength_vector({"Smiling": 1e300}, NAMES)


# ---- the search --------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-np.float64(x)))


def line(latents, steps):
    """One attribute; the latent holds the logit at strength 0 and its slope."""
    return sigmoid(latents[:, :1] + latents[:, 1:2] * steps[:, :1])


def counted(predict, looks):
    """The function, which notes how many photos it was asked about each time."""

    def call(latents, steps):
        looks.append(len(latents))
        return predict(latents, steps)

    return call


def test_a_value_is_met_where_the_line_has_it():
    latents = np.float32([[-2, 2], [-2, 4], [3, 2], [0.5, 1]])
    looks = []
    found = strengths.search(counted(line, looks), latents, np.float32([0]), [0], [0.8])
    wanted = (np.log(4) - latents[:, 0]) / latents[:, 1]  # logit of 0.8
    assert found.met.all() and found.strengths.dtype == np.float32
    np.testing.assert_allclose(found.values[:, 0], 0.8, atol=TOLERANCE)
    # 0.16 is the slope of the sigmoid there.
    slack = TOLERANCE / (0.16 * latents[:, 1])
    assert (np.abs(found.strengths[:, 0] - wanted) < 1.1 * slack).all()
    assert found.strengths[2, 0] < 0 < found.strengths[3, 0]
    # All start; steps of 0.5 pass it after 4, 2, 2 and 2; a straight line needs one look more.
    assert sum(looks) == 4 + (4 + 2 + 2 + 2) + 4


def test_what_is_there_already_stays():
    found = strengths.search(line, np.float32([[np.log(4), 2]]), np.float32([0]), [0], [0.8])
    assert found.met.all() and found.strengths[0, 0] == 0


def test_a_photo_does_not_depend_on_its_neighbors():
    latents = np.random.default_rng(0).normal(0, 3, (40, 2)).astype(np.float32)
    together = strengths.search(line, latents, np.float32([0]), [0], [0.3])
    for row in range(40):
        alone = strengths.search(line, latents[row : row + 1], np.float32([0]), [0], [0.3])
        np.testing.assert_array_equal(alone.strengths[0], together.strengths[row])
        np.testing.assert_array_equal(alone.values[0], together.values[row])


def test_the_first_strength_of_several_is_taken():
    """A prediction that rises, falls and rises again has 0.8 at three strengths."""

    def wave(latents, steps):
        return 0.5 + 0.4 * np.sin(2 * np.float64(steps))

    found = strengths.search(wave, np.zeros((1, 1), np.float32), np.float32([0]), [0], [0.8])
    assert found.met.all()
    assert found.strengths[0, 0] == pytest.approx(np.arcsin(0.75) / 2, abs=TOLERANCE)


def test_beyond_reach_the_nearest_is_given_and_not_the_farthest():
    def saturating(latents, steps):
        return 0.1 + 0.5 * np.minimum(np.float64(steps), 1.0) + 0.001 * np.float64(steps)

    found = strengths.search(
        saturating, np.zeros((1, 1), np.float32), np.float32([0]), [0], [0.9]
    )  # fmt: skip
    assert not found.met.any()
    assert found.strengths[0, 0] == 1.0  # two more would bring a thousandth each
    assert found.values[0, 0] == pytest.approx(0.601)
    steep = strengths.search(line, np.float32([[-9, 2]]), np.float32([0]), [0], [0.9])
    assert not steep.met.any() and steep.strengths[0, 0] == LONGEST
    assert steep.values[0, 0] == pytest.approx(sigmoid(-3.0))


def test_only_the_way_that_the_attribute_goes():
    """Less of an attribute that predicts more of it is no answer."""

    def falling(latents, steps):
        return sigmoid(-1 - np.float64(steps))

    found = strengths.search(falling, np.zeros((1, 1), np.float32), np.float32([0]), [0], [0.9])
    assert not found.met.any() and found.strengths[0, 0] == 0
    assert found.values[0, 0] == pytest.approx(sigmoid(-1.0))


@pytest.mark.parametrize("asked", [0.0, 1.0])
def test_the_ends_are_met_within_the_tolerance(asked):
    looks = []
    found = strengths.search(counted(line, looks), np.float32([[0.3, 3]]), np.float32([0]), [0],
                             [asked])  # fmt: skip
    assert found.met.all() and sum(looks) == 5  # the first within the tolerance is enough
    assert abs(found.values[0, 0] - asked) <= TOLERANCE
    assert abs(found.strengths[0, 0]) < LONGEST


MIXING = np.array([[2.0, 0.7, 0.8], [-0.5, 3.0, 0.4], [0.3, 0.3, 2.0]])


def mixed(latents, steps):
    """Three attributes of which each direction moves all; the latents are the logits at 0."""
    return sigmoid(latents + np.float64(steps) @ MIXING)


def test_several_are_met_at_once_beside_an_edit():
    latents = np.random.default_rng(1).normal(0, 1.5, (30, 3)).astype(np.float32)
    asked = [0.2, 0.7]
    found = strengths.search(
        lambda rows, steps: mixed(rows, steps)[:, [2, 0]], latents, np.float32([0, 0.75, 0]),
        [2, 0], asked,
    )  # fmt: skip
    inside = (np.abs(found.strengths) < LONGEST).all(axis=1)
    assert inside.sum() > 25 and found.met[inside].all()
    assert (found.strengths[:, 1] == np.float32(0.75)).all()
    reached = mixed(latents, found.strengths)[:, [2, 0]]
    np.testing.assert_allclose(found.values, reached)
    assert (np.abs(reached[inside] - asked) <= TOLERANCE).all()


def test_what_cannot_be_had_together_ends_at_the_nearest_passes():
    """Two names of one thing: no strengths give 0.2 and 0.8, and nothing runs away."""

    def twins(latents, steps):
        return np.repeat(sigmoid(np.float64(steps).sum(axis=1, keepdims=True)), 2, axis=1)

    looks = []
    found = strengths.search(counted(twins, looks), np.zeros((1, 1), np.float32),
                             np.zeros(2, np.float32), [0, 1], [0.2, 0.8])  # fmt: skip
    assert not found.met.all()
    assert np.abs(found.values - [0.2, 0.8]).sum() == pytest.approx(0.6, abs=2 * TOLERANCE)
    assert sum(looks) == 12  # one round, which came no nearer


def test_a_prediction_that_is_no_number_ends_the_search():
    found = strengths.search(lambda rows, steps: np.full((len(rows), 1), np.nan),
                             np.zeros((2, 1), np.float32), np.float32([0]), [0], [0.5])  # fmt: skip
    assert not found.met.any() and (found.strengths == 0).all()
