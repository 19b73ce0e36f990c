"""Finds where a function reaches a target value: walk outward, then narrow the bracket.

Serves every search for a strength: of a calibrated direction, of `--keep_detail`, of `--set`, and
of edits that are compared at the same change. Pure NumPy; one evaluation of the function may cost
thousands of network evaluations, so the search spends as few as it can and never repeats one.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

# A secant step moves at least this fraction of the bracket, from either end: a step that lands next
# to an end hardly shrinks the bracket.
LEAST_SHARE = 0.1
STALLED = 2  # secant steps in a row that replace the same end: the next step bisects

# row numbers [m], positions [m] -> values [m]
Function = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Result:
    """How N searches ended; all arrays are `[N]`."""

    position: np.ndarray  # float64, of the evaluated points the one with the closest value
    value: np.ndarray  # float64, the function's value there
    reached: np.ndarray  # bool, the target lies within the tolerance or was passed
    crossing: np.ndarray  # float64, of the bracket's secant; `position` if nothing was passed


def search(
    function: Function,
    start: np.ndarray,
    start_value: np.ndarray,
    target: float,
    steps: np.ndarray,
    narrowings: int,
    tolerance: float,
    transform: Callable[[np.ndarray], np.ndarray] = lambda values: values,
) -> Result:
    """Walks each of N rows along its steps until the target is passed, then narrows the bracket.

    The walk starts at the known value `start_value`; the target is passed once the value is on the
    other side of it. The function need not be monotone: the first crossing along the steps counts.
    Narrowing takes secant steps (the regula falsi method), bisecting where the secant stalls. A row
    stops as soon as its value is within the tolerance. A later point replaces the best one only if
    it is closer by more than the tolerance, or is the first within it, so that a function that has
    levelled off gives the shortest step.

    Args:
        function: evaluated for some of the rows at a time; a row's value must not depend on others.
        start: positions `[N]`.
        start_value: the function's values there, `[N]`.
        target: of the values.
        steps: positions `[N, S]` to walk through, in order; a repeated position ends a row's walk.
        narrowings: maximum number of evaluations of a row after its walk.
        tolerance: of the values; equal or less is close enough.
        transform: increasing; the secant is taken on the transformed values.
    """
    level = transform(np.float64(target))
    best, best_value = np.array(start, np.float64), np.array(start_value, np.float64)
    sign = np.where(best_value < target, 1.0, -1.0)
    near, near_gap = best.copy(), sign * (transform(best_value) - level)  # not yet passed: below 0
    far, far_gap = near.copy(), near_gap.copy()

    def searching(rows: np.ndarray) -> np.ndarray:
        return rows[np.abs(best_value[rows] - target) > tolerance]

    def evaluate(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
        values = np.float64(function(rows, positions))
        before, after = np.abs(best_value[rows] - target), np.abs(values - target)
        closer = (after < before - tolerance) | ((after <= tolerance) & (before > tolerance))
        best[rows[closer]], best_value[rows[closer]] = positions[closer], values[closer]
        return sign[rows] * (transform(values) - level)

    def secant(rows: np.ndarray) -> np.ndarray:
        """Where the secant crosses the target, as a fraction of the bracket."""
        return near_gap[rows] / (near_gap[rows] - far_gap[rows])

    walking = everyone = np.arange(len(best))
    for step in np.float64(steps).T:
        walking = searching(walking)
        walking = walking[step[walking] != far[walking]]
        if not len(walking):
            break
        near[walking], near_gap[walking] = far[walking], far_gap[walking]
        far[walking] = step[walking]
        far_gap[walking] = evaluate(walking, far[walking])
        walking = walking[far_gap[walking] < 0]
    passed = far_gap >= 0

    repeats = np.zeros(len(best), int)  # of the end that moved last: > 0 the far one, < 0 the near
    for _ in range(narrowings):
        rows = searching(everyone[passed])
        if not len(rows):
            break
        share = np.clip(secant(rows), LEAST_SHARE, 1 - LEAST_SHARE)
        share[np.abs(repeats[rows]) >= STALLED] = 0.5
        middle = near[rows] + share * (far[rows] - near[rows])
        gap = evaluate(rows, middle)
        beyond = gap >= 0
        far[rows[beyond]], far_gap[rows[beyond]] = middle[beyond], gap[beyond]
        near[rows[~beyond]], near_gap[rows[~beyond]] = middle[~beyond], gap[~beyond]
        last = np.where(np.abs(repeats[rows]) >= STALLED, 0, repeats[rows])
        repeats[rows] = np.where(beyond, np.maximum(last, 0) + 1, np.minimum(last, 0) - 1)
    crossing, rows = best.copy(), everyone[passed & (near != far)]
    crossing[rows] = near[rows] + secant(rows) * (far[rows] - near[rows])
    reached = passed | (np.abs(best_value - target) <= tolerance)
    return Result(best, best_value, reached, crossing)


@dataclasses.dataclass(frozen=True)
class ScalarResult:
    """How one search ended; see `Result`."""

    position: float
    value: float
    reached: bool
    crossing: float
    evaluated: dict[float, float]  # values by position in the order of the search, the start first


def search_scalar(
    function: Callable[[float], float],
    target: float,
    steps: Sequence[float],
    narrowings: int,
    tolerance: float,
) -> ScalarResult:
    """`search` for one function that is 0 at position 0, where the search starts."""
    evaluated = {0.0: 0.0}

    def evaluate(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
        position = float(positions[0])
        evaluated[position] = float(function(position))
        return np.array([evaluated[position]])

    zero = np.zeros(1)
    found = search(evaluate, zero, zero, target, np.array([steps]), narrowings, tolerance)
    return ScalarResult(
        float(found.position[0]),
        float(found.value[0]),
        bool(found.reached[0]),
        float(found.crossing[0]),
        evaluated,
    )
