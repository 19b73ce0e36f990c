"""The bracketing search on closed-form functions."""

import numpy as np
import pytest

from cgan_tf.editing import bracketing

STEPS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def find(function, target, tolerance=1e-3, narrowings=12, steps=STEPS):
    return bracketing.search_scalar(function, target, steps, narrowings, tolerance)


@pytest.mark.parametrize(
    "function, target, expected",
    [
        (lambda x: 0.3 * x, 0.5, 0.5 / 0.3),
        (lambda x: 0.2 * x * x, 0.5, 2.5**0.5),
        (lambda x: np.tanh(x), 0.9, np.arctanh(0.9)),
        (lambda x: -0.3 * x, -0.5, 0.5 / 0.3),  # falling
    ],
)
def test_a_monotone_function_is_solved_within_the_tolerance(function, target, expected):
    found = find(function, target)
    assert found.reached
    assert found.value == function(found.position) == pytest.approx(target, abs=1e-3)
    assert found.position == pytest.approx(expected, rel=0.01)
    walked = sum(step < expected for step in STEPS) + 1
    assert len(found.evaluated) <= 1 + walked + 4
    assert list(found.evaluated)[: walked + 1] == [0.0, *STEPS[:walked]]


def test_a_linear_function_takes_one_secant_step():
    found = find(lambda x: 0.3 * x, 0.5)
    assert list(found.evaluated)[:-1] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert found.position == pytest.approx(0.5 / 0.3, rel=1e-12)


def test_the_first_crossing_of_a_non_monotone_function_is_taken():
    found = find(lambda x: np.sin(2 * x), 0.8)
    assert found.reached
    assert found.position == pytest.approx(np.arcsin(0.8) / 2, abs=1e-3)


def test_a_target_that_is_never_reached():
    found = find(lambda x: min(0.1 * x, 0.3), 0.8)
    assert not found.reached
    assert (found.position, found.value) == (3.0, pytest.approx(0.3))  # not 4 or 6
    assert list(found.evaluated) == [0.0, *STEPS]
    assert not find(lambda x: -0.1 * x, 0.8).reached
    assert find(lambda x: -0.1 * x, 0.8).position == 0.0


def test_a_target_that_is_reached_at_the_first_step():
    found = find(lambda x: x, 0.5)
    assert (found.position, list(found.evaluated)) == (0.5, [0.0, 0.5])
    found = find(lambda x: 10 * x, 0.5)  # and far passed
    assert found.position == pytest.approx(0.05) and len(found.evaluated) == 3
    found = find(lambda x: x, 0.0)  # at the start
    assert (found.position, found.reached, found.evaluated) == (0.0, True, {0.0: 0.0})


def test_noise_does_not_leave_the_bracket():
    for seed in range(50):
        noise = np.random.default_rng(seed)
        found = find(lambda x, noise=noise: 0.2 * x + noise.normal(0, 0.02), 0.5, 0.01)
        assert found.reached
        assert found.position == pytest.approx(2.5, abs=0.6)
        assert len(found.evaluated) <= 1 + len(STEPS) + 12


@pytest.mark.parametrize("jump", [2.03, 2.5, 2.97])
def test_a_jump_is_narrowed_at_least_as_fast_as_by_every_third_bisection(jump):
    """Secant steps alone would move one end by a tenth of the bracket each time."""
    found = find(lambda x: -0.1 if x < jump else 9.0, 0.5, narrowings=12)
    positions = np.array(list(found.evaluated))
    width = positions[positions >= jump].min() - positions[positions < jump].max()
    assert width <= 0.5**4


def test_rows_are_searched_independently():
    slopes = np.array([0.1, 0.3, 0.02, -0.3, 0.7])
    calls = []

    def function(rows, positions):
        calls.append(rows)
        return slopes[rows] * positions

    start = np.zeros(5)
    steps = np.tile(STEPS, (5, 1))
    found = bracketing.search(function, start, start, 0.5, steps, 10, 1e-3)
    for row, slope in enumerate(slopes):
        alone = find(lambda x, slope=slope: slope * x, 0.5, narrowings=10)
        assert found.position[row] == alone.position
        assert found.value[row] == alone.value and found.reached[row] == alone.reached
        assert sum(row in rows for rows in calls) == len(alone.evaluated) - 1
    assert found.reached.tolist() == [True, True, False, False, True]


def test_each_row_may_have_its_own_target():
    targets = np.array([0.2, 0.5, -0.4, 0.0])
    steps = np.stack([STEPS, STEPS, np.negative(STEPS), STEPS])
    start = np.zeros(4)
    found = bracketing.search(lambda rows, x: np.tanh(x), start, start, targets, steps, 12, 1e-3)
    assert found.reached.all()
    np.testing.assert_allclose(found.value, targets, atol=1e-3)
    np.testing.assert_allclose(found.position, np.arctanh(targets), atol=2e-3)


def test_a_repeated_position_ends_the_walk():
    calls = []

    def function(rows, positions):
        calls.append((rows.tolist(), positions.tolist()))
        return 0.01 * positions

    start, steps = np.array([0.0, 1.0]), np.array([[1.0, 2.0, 2.0, 2.0], [1.0, 1.0, 2.0, 3.0]])
    bracketing.search(function, start, 0.01 * start, 0.5, steps, 10, 1e-3)
    assert calls == [([0], [1.0]), ([0], [2.0])]


def test_the_secant_is_taken_on_transformed_values():
    def logistic(x):
        return 1 / (1 + np.exp(4 - 3 * x))

    def logit(p):
        return np.log(p) - np.log1p(-p)

    counts = {}
    for transform in (logit, lambda values: values):
        positions = []

        def function(rows, x, positions=positions):
            positions.extend(x)
            return logistic(x)

        start = np.zeros(1)
        found = bracketing.search(
            function, start, logistic(start), 0.9, np.array([[3.0]]), 20, 1e-6, transform
        )
        assert found.position[0] == pytest.approx((4 + logit(0.9)) / 3, abs=1e-4)
        counts[transform] = len(positions)
    assert counts.pop(logit) == 2 < min(counts.values())


def test_nan_is_never_better_and_ends_the_search():
    found = bracketing.search(
        lambda rows, x: np.full(len(rows), np.nan),
        np.zeros(2),
        np.zeros(2),
        0.5,
        np.ones((2, 3)),
        10,
        1e-3,
    )
    assert not found.reached.any() and (found.position == 0).all()
