"""The search of strengths for target predictions, on functions with known answers."""

import numpy as np
import pytest

from cgan_tf.editing import strengths
from cgan_tf.editing.strengths import LONGEST, TOLERANCE


def sigmoid(x):
    return 1 / (1 + np.exp(-np.float64(x)))


def line(latents, steps):
    """One attribute; the latent is the logit at strength 0 and its slope."""
    return sigmoid(latents[:, :1] + latents[:, 1:2] * steps[:, :1])


def counted(predict, calls):
    """The function; `calls` collects the number of photos of each call."""

    def call(latents, steps):
        calls.append(len(latents))
        return predict(latents, steps)

    return call


def test_a_linear_logit_is_solved_exactly():
    latents = np.float32([[-2, 2], [-2, 4], [3, 2], [0.5, 1]])
    calls = []
    found = strengths.search(counted(line, calls), latents, np.float32([0]), [0], [0.8])
    wanted = (np.log(4) - latents[:, 0]) / latents[:, 1]  # logit of 0.8
    assert found.hit.all() and found.strengths.dtype == np.float32
    np.testing.assert_allclose(found.values[:, 0], 0.8, atol=TOLERANCE)
    # 0.16 is the slope of the sigmoid there.
    slack = TOLERANCE / (0.16 * latents[:, 1])
    assert (np.abs(found.strengths[:, 0] - wanted) < 1.1 * slack).all()
    assert found.strengths[2, 0] < 0 < found.strengths[3, 0]
    # All four at the start; steps of 0.5 pass it after 4, 2, 2 and 2; the secant needs one more.
    assert sum(calls) == 4 + (4 + 2 + 2 + 2) + 4


def test_a_photo_that_has_the_value_already_is_not_moved():
    found = strengths.search(line, np.float32([[np.log(4), 2]]), np.float32([0]), [0], [0.8])
    assert found.hit.all() and found.strengths[0, 0] == 0


def test_a_photo_does_not_depend_on_its_neighbors():
    latents = np.random.default_rng(0).normal(0, 3, (40, 2)).astype(np.float32)
    together = strengths.search(line, latents, np.float32([0]), [0], [0.3])
    for row in range(40):
        alone = strengths.search(line, latents[row : row + 1], np.float32([0]), [0], [0.3])
        np.testing.assert_array_equal(alone.strengths[0], together.strengths[row])
        np.testing.assert_array_equal(alone.values[0], together.values[row])


def test_each_photo_may_have_its_own_targets():
    latents = np.random.default_rng(1).normal(0, 1.5, (6, 3)).astype(np.float32)
    targets = np.linspace(0.2, 0.8, 12).reshape(6, 2)

    def predict(rows, steps):
        return mixed(rows, steps)[:, [2, 0]]

    together = strengths.search(predict, latents, np.zeros(3, np.float32), [2, 0], targets)
    for row, target in enumerate(targets):
        alone = strengths.search(
            predict, latents[row : row + 1], np.zeros(3, np.float32), [2, 0], target
        )
        np.testing.assert_array_equal(alone.strengths[0], together.strengths[row])
        np.testing.assert_array_equal(alone.hit[0], together.hit[row])
    assert together.hit.all()


def test_the_first_of_several_solutions_is_taken():
    """A prediction that rises, falls and rises again is 0.8 at three strengths."""

    def wave(latents, steps):
        return 0.5 + 0.4 * np.sin(2 * np.float64(steps))

    found = strengths.search(wave, np.zeros((1, 1), np.float32), np.float32([0]), [0], [0.8])
    assert found.hit.all()
    assert found.strengths[0, 0] == pytest.approx(np.arcsin(0.75) / 2, abs=TOLERANCE)


def test_out_of_reach_gives_the_smallest_strength_with_the_closest_value():
    def saturating(latents, steps):
        return 0.1 + 0.5 * np.minimum(np.float64(steps), 1.0) + 0.001 * np.float64(steps)

    found = strengths.search(saturating, np.zeros((1, 1), np.float32), np.float32([0]), [0], [0.9])
    assert not found.hit.any()
    assert found.strengths[0, 0] == 1.0  # the rest gains only a thousandth per unit
    assert found.values[0, 0] == pytest.approx(0.601)
    steep = strengths.search(line, np.float32([[-9, 2]]), np.float32([0]), [0], [0.9])
    assert not steep.hit.any() and steep.strengths[0, 0] == LONGEST
    assert steep.values[0, 0] == pytest.approx(sigmoid(-3.0))


def test_the_search_only_goes_in_the_sense_of_the_direction():
    """An opposite edit that raises the prediction is not a solution."""

    def falling(latents, steps):
        return sigmoid(-1 - np.float64(steps))

    found = strengths.search(falling, np.zeros((1, 1), np.float32), np.float32([0]), [0], [0.9])
    assert not found.hit.any() and found.strengths[0, 0] == 0
    assert found.values[0, 0] == pytest.approx(sigmoid(-1.0))


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_0_and_1_are_hit_within_the_tolerance(target):
    calls = []
    found = strengths.search(
        counted(line, calls), np.float32([[0.3, 3]]), np.float32([0]), [0], [target]
    )
    assert found.hit.all() and sum(calls) == 5  # the first one within the tolerance
    assert abs(found.values[0, 0] - target) <= TOLERANCE
    assert abs(found.strengths[0, 0]) < LONGEST


MIXING = np.array([[2.0, 0.7, 0.8], [-0.5, 3.0, 0.4], [0.3, 0.3, 2.0]])


def mixed(latents, steps):
    """Each direction moves all three attributes; the latents are the logits at strength 0."""
    return sigmoid(latents + np.float64(steps) @ MIXING)


def test_several_values_are_hit_at_once_next_to_an_edit():
    latents = np.random.default_rng(1).normal(0, 1.5, (30, 3)).astype(np.float32)
    target = [0.2, 0.7]
    found = strengths.search(
        lambda rows, steps: mixed(rows, steps)[:, [2, 0]],
        latents,
        np.float32([0, 0.75, 0]),
        [2, 0],
        target,
    )
    inside = (np.abs(found.strengths) < LONGEST).all(axis=1)
    assert inside.sum() > 25 and found.hit[inside].all()
    assert (found.strengths[:, 1] == np.float32(0.75)).all()
    reached = mixed(latents, found.strengths)[:, [2, 0]]
    np.testing.assert_allclose(found.values, reached)
    assert (np.abs(reached[inside] - target) <= TOLERANCE).all()


def test_contradicting_values_end_after_one_pass():
    """Two names of one attribute: no strengths give 0.2 and 0.8, and nothing diverges."""

    def twins(latents, steps):
        return np.repeat(sigmoid(np.float64(steps).sum(axis=1, keepdims=True)), 2, axis=1)

    calls = []
    found = strengths.search(
        counted(twins, calls),
        np.zeros((1, 1), np.float32),
        np.zeros(2, np.float32),
        [0, 1],
        [0.2, 0.8],
    )
    assert not found.hit.all()
    assert np.abs(found.values - [0.2, 0.8]).sum() == pytest.approx(0.6, abs=2 * TOLERANCE)
    assert sum(calls) == 12  # one pass, which gets no closer


def test_a_nan_prediction_ends_the_search():
    found = strengths.search(
        lambda rows, steps: np.full((len(rows), 1), np.nan),
        np.zeros((2, 1), np.float32),
        np.float32([0]),
        [0],
        [0.5],
    )
    assert not found.hit.any() and (found.strengths == 0).all()
