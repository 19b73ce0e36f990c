"""Edit requests: their checks, and their strengths for a model."""

import math

import numpy as np
import pytest

from cgan_tf.editing.errors import EditorError
from cgan_tf.editing.request import EditRequest

NAMES = ("Smiling", "Blond_Hair", "Eyeglasses")


def test_the_vector_is_in_the_order_of_the_model():
    vector = EditRequest({"Eyeglasses": -2.0, "Smiling": 0.5}).vector(NAMES)
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, np.float32([0.5, 0, -2]))


@pytest.mark.parametrize(
    "strengths, targets, argument, message",
    [
        ({}, {}, "strengths", "no attribute to edit; give a strength, as Smiling=+1"),
        ({"Smiling": math.nan}, {}, "strengths", "Smiling=nan: the strength must be finite"),
        ({"Smiling": -math.inf}, {}, "strengths", "Smiling=-inf: the strength must be finite"),
        ({"Smiling": 1e300}, {}, "strengths", "Smiling=1e+300: too large for a float32"),
        ({"Smiling": "very"}, {}, "strengths", "Smiling='very': the strength is no number"),
        ({"Smiling": True}, {}, "strengths", "Smiling=True: the strength is no number"),
        ({}, {"Smiling": None}, "target", "Smiling=None: the target is no number"),
        ({}, {"Smiling": math.nan}, "target", "Smiling=nan: the target must be finite"),
        ({}, {"Smiling": 1.5}, "target", "Smiling=1.5: Smiling's value is 1.5; give one from 0"),
        (
            {"Smiling": 1.0},
            {"Smiling": 0.5},
            "target",
            "Smiling=0.5: Smiling also has the strength 1, which contradicts the target",
        ),
    ],
)
def test_requests_that_make_no_sense(strengths, targets, argument, message):
    with pytest.raises(EditorError) as caught:
        EditRequest(strengths, targets).check()
    assert str(caught.value).startswith(message) and caught.value.argument == argument


def test_numpy_numbers_are_numbers():
    EditRequest({"Smiling": np.float32(1), "Eyeglasses": np.int64(-1)}).check()


@pytest.mark.parametrize("name, near", [("smiling", "Smiling"), ("Blond", "Blond_Hair"), ("Z", "")])
def test_an_unknown_attribute_lists_the_known_ones(name, near):
    hint = f" (did you mean {near}?)" if near else ""
    for argument, request in (
        ("strengths", EditRequest({name: 1.0})),
        ("target", EditRequest({}, {name: 1.0})),
    ):
        with pytest.raises(EditorError) as caught:
            request.check_names(NAMES)
        assert str(caught.value) == (
            f"{name}: unknown attribute{hint}; the model has {', '.join(NAMES)}"
        )
        assert caught.value.argument == argument
