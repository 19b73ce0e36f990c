"""Finds where a function reaches a target value: walk outward, then narrow the bracket.

Serves every search for a strength: of a calibrated direction, of `--set`, and of edits that are
compared at the same change. Pure NumPy; one evaluation of the function may cost thousands of
network evaluations, so the search spends as few as it can and never repeats one.
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
    target: float | np.ndarray,
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
        target: of the values; one for all rows, or `[N]`.
        steps: positions `[N, S]` to walk through, in order; a repeated position ends a row's walk.
        narrowings: maximum number of evaluations of a row after its walk.
        tolerance: of the values; equal or less is close enough.
        transform: increasing; the secant is taken on the transformed values.
    """
    brackets = _Brackets(function, start, start_value, target, tolerance, transform)
    brackets.walk(steps)
    brackets.narrow(narrowings)
    return brackets.result()


class _Brackets:
    """The state of N searches: the best points so far, and the last two positions of each.

    A gap is the signed distance of a transformed value from the target's, below 0 until the target
    is passed: it is below 0 at `near`, and at `far` it is the newest one of the walk.
    """

    def __init__(
        self,
        function: Function,
        start: np.ndarray,
        start_value: np.ndarray,
        target: float | np.ndarray,
        tolerance: float,
        transform: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        self.function = function
        self.tolerance = tolerance
        self.transform = transform
        self.best = np.array(start, np.float64)
        self.best_value = np.array(start_value, np.float64)
        self.target = np.broadcast_to(np.float64(target), self.best.shape)
        self.level = transform(self.target)
        self.sign = np.where(self.best_value < self.target, 1.0, -1.0)
        self.near = self.best.copy()
        self.near_gap = self.sign * (transform(self.best_value) - self.level)
        self.far, self.far_gap = self.near.copy(), self.near_gap.copy()
        self.everyone = np.arange(len(self.best))

    def walk(self, steps: np.ndarray) -> None:
        """Moves each row along its steps until the target is passed or close enough."""
        rows = self.everyone
        for step in np.float64(steps).T:
            rows = self._unfinished(rows)
            rows = rows[step[rows] != self.far[rows]]
            if not len(rows):
                break
            self.near[rows], self.near_gap[rows] = self.far[rows], self.far_gap[rows]
            self.far[rows] = step[rows]
            self.far_gap[rows] = self._evaluate(rows, self.far[rows])
            rows = rows[self.far_gap[rows] < 0]

    def narrow(self, count: int) -> None:
        """Shrinks the brackets of the rows that passed the target, up to `count` times."""
        passed = self.everyone[self.far_gap >= 0]
        # How often in a row the same end moved: > 0 the far one, < 0 the near one.
        repeats = np.zeros(len(self.best), int)
        for _ in range(count):
            rows = self._unfinished(passed)
            if not len(rows):
                break
            stalled = np.abs(repeats[rows]) >= STALLED
            share = np.clip(self._secant(rows), LEAST_SHARE, 1 - LEAST_SHARE)
            share[stalled] = 0.5
            middle = self.near[rows] + share * (self.far[rows] - self.near[rows])
            gap = self._evaluate(rows, middle)
            beyond = gap >= 0
            for moved, position, gaps in (
                (beyond, self.far, self.far_gap),
                (~beyond, self.near, self.near_gap),
            ):
                position[rows[moved]], gaps[rows[moved]] = middle[moved], gap[moved]
            last = np.where(stalled, 0, repeats[rows])
            repeats[rows] = np.where(beyond, np.maximum(last, 0) + 1, np.minimum(last, 0) - 1)

    def result(self) -> Result:
        passed = self.far_gap >= 0
        crossing, rows = self.best.copy(), self.everyone[passed & (self.near != self.far)]
        crossing[rows] = self.near[rows] + self._secant(rows) * (self.far[rows] - self.near[rows])
        reached = passed | (np.abs(self.best_value - self.target) <= self.tolerance)
        return Result(self.best, self.best_value, reached, crossing)

    def _unfinished(self, rows: np.ndarray) -> np.ndarray:
        return rows[np.abs(self.best_value[rows] - self.target[rows]) > self.tolerance]

    def _evaluate(self, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """The gaps at new positions; updates the best points."""
        values = np.float64(self.function(rows, positions))
        before = np.abs(self.best_value[rows] - self.target[rows])
        after = np.abs(values - self.target[rows])
        first_hit = (after <= self.tolerance) & (before > self.tolerance)
        closer = (after < before - self.tolerance) | first_hit
        self.best[rows[closer]], self.best_value[rows[closer]] = positions[closer], values[closer]
        return self.sign[rows] * (self.transform(values) - self.level[rows])

    def _secant(self, rows: np.ndarray) -> np.ndarray:
        """Where the secant crosses the target, as a fraction of the bracket."""
        return self.near_gap[rows] / (self.near_gap[rows] - self.far_gap[rows])


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
