"""The search for the strengths at which the regressor R predicts given targets.

Each photo takes a strength of its own. Pure NumPy: the edited images come from a function, so that
the search works alike on a run folder, on an exported model and in the evaluate stage.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cgan_tf.editing import bracketing

if TYPE_CHECKING:  # at run time this would import TensorFlow, with its start-up messages
    from cgan_tf.editing.backends import Backend

LONGEST = 3.0  # strength in either direction; calibration tables go no further
WALK = 0.5  # strength between evaluations until the value has been passed
TOLERANCE = 0.005  # of a predicted value
NARROWINGS = 10  # maximum number, once the value has been passed
PASSES = 8  # over all attributes, where several are set at once
_LEAST = 1e-6  # probabilities are clipped to this before their logit is taken

# what identifies n photos [n, ...], strengths [n, K] -> images float32 [n, R, R, 3]
Render = Callable[[np.ndarray, np.ndarray], np.ndarray]
# the same -> R's predictions [n, T] of the T set attributes
Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Found:
    """The result of a search for N photos and T set attributes."""

    strengths: np.ndarray  # float32 [N, K], including those of --edit
    values: np.ndarray  # float [N, T]: R's predictions at these strengths
    hit: np.ndarray  # bool [N, T]: within TOLERANCE of the target


def predictor(editor: "Backend", names: Sequence[str], render: Render) -> Predict:
    """The predictions of the editor's regressor for these attributes, as `search` takes them.

    Args:
        editor: with its scores.
        names: of the attributes.
        render: the images float32 `[n, R, R, 3]` of photos edited by strengths.
    """
    columns = [editor.score_names.index(name) for name in names]

    def predict(photos: np.ndarray, strengths: np.ndarray) -> np.ndarray:
        return editor.run("attributes", image=render(photos, strengths))["scores"][:, columns]

    return predict


def search(
    predict: Predict,
    photos: np.ndarray,
    strengths: np.ndarray,
    columns: Sequence[int],
    targets: Sequence[float] | np.ndarray,
) -> Found:
    """The strengths at which R predicts the targets, for each photo separately.

    One attribute is searched outward along its direction, from the photo's own prediction to the
    first strength that passes the target. Only in the direction's own sense: R need not be
    monotone, but a value that only the opposite edit reaches would not be that attribute. Several
    attributes affect one another, so they take turns until all are hit or none gets closer. Where
    the target lies beyond `LONGEST`, the result is the smallest strength with the closest value.

    Args:
        predict: in batches of any size; a row's answer must not depend on the other rows.
        photos: `[N, ...]`, what `predict` knows the photos by: their latents, or their numbers.
        strengths: float32 `[K]` of --edit; 0 at `columns`.
        columns: of the T set attributes among the K.
        targets: the T values in [0, 1], of all photos or `[N, T]`.
    """
    targets = np.broadcast_to(np.float64(targets), (len(photos), len(columns)))
    point = np.tile(np.float32(strengths), (len(photos), 1))
    value = np.float64(predict(photos, point))
    best_point, best_value = point.copy(), value.copy()
    unfinished = np.arange(len(photos))
    for _ in range(PASSES if len(columns) > 1 else 1):
        for index, column in enumerate(columns):
            off = np.abs(value - targets)[unfinished, index] > TOLERANCE
            rows = unfinished[off]
            if len(rows):
                target = targets[rows, index]
                point[rows], value[rows] = _search_along(
                    predict, photos[rows], point[rows], value[rows], column, index, target
                )
        before, after = (np.abs(values - targets)[unfinished] for values in (best_value, value))
        closer = after.sum(axis=1) < before.sum(axis=1)
        rows = unfinished[closer]
        best_point[rows], best_value[rows] = point[rows], value[rows]
        unfinished = unfinished[closer & (after.max(axis=1) > TOLERANCE)]
        if not len(unfinished):
            break
    return Found(best_point, best_value, np.abs(best_value - targets) <= TOLERANCE)


def _search_along(
    predict: Predict,
    photos: np.ndarray,
    start: np.ndarray,
    value: np.ndarray,
    column: int,
    index: int,
    target: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """One attribute's turn: the rows' new strengths `[n, K]` and values `[n, T]`.

    Args:
        predict, photos: as in `search`, of the rows.
        start: float32 `[n, K]`, the rows' strengths so far.
        value: `[n, T]` at these.
        column: of the attribute among the K.
        index: of the attribute among the T.
        target: its value `[n]`.
    """
    evaluations: list[tuple[np.ndarray, ...]] = []

    def evaluate(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
        points = start[rows].copy()
        points[:, column] = positions
        values = np.float64(predict(photos[rows], points))
        evaluations.append((rows, positions, values))
        return values[:, index]

    sign = np.where(value[:, index] < target, 1.0, -1.0)
    walk = WALK * np.arange(1, 2 * LONGEST / WALK + 1)  # from one end to the other at most
    steps = np.clip(start[:, [column]] + np.outer(sign, walk), -LONGEST, LONGEST)
    found = bracketing.search(
        evaluate, start[:, column], value[:, index], target, steps, NARROWINGS, TOLERANCE, _logit
    )
    point, value = start.copy(), value.copy()
    point[:, column] = found.position
    for rows, positions, values in evaluations:
        best = positions == found.position[rows]
        value[rows[best]] = values[best]
    return point, value


def _logit(probability: np.ndarray) -> np.ndarray:
    clipped = np.clip(probability, _LEAST, 1 - _LEAST)
    return np.log(clipped) - np.log1p(-clipped)
