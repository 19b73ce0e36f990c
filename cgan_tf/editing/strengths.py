"""What --edit and --set ask for, and the search for the strengths that --set stands for.

Between the command line of `cgan translate` and the editor: `--edit` gives a strength as it is,
`--set` a value that the regressor R shall predict, for which each photo needs a strength of its
own. Pure NumPy: R(G(latent + strengths * directions)) is a function that is handed in, so that a
run folder, a SavedModel and the evaluate stage are searched alike.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cgan_tf.core.errors import UserError

if TYPE_CHECKING:  # at run time it would import TensorFlow, with its start-up lines
    from cgan_tf.editing.backends import Editor

LONGEST = 3.0  # strength either way; what lies farther no calibration table vouches for
WALK = 0.5  # strength between two looks while the value has not been passed yet
TOLERANCE = 0.005  # of a predicted value: near enough
NARROWINGS = 10  # at most, once it has been passed
PASSES = 8  # over all attributes, where several are set at once
_LEAST = 1e-6  # probability whose logit is still worth telling apart

# latents [n, *latent_shape], strengths [n, K] -> images float32 [n, R, R, 3]
See = Callable[[np.ndarray, np.ndarray], np.ndarray]
# the same -> R's predictions [n, T] of the T set attributes
Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]


# ---- what was asked for ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Wish:
    """What a command's --edit and --set ask for: strengths and predicted values by attribute."""

    edit: dict[str, float]
    values: dict[str, float]

    def check(self, attributes: tuple[str, ...]) -> None:
        """Raises a UserError for what a model of these attributes cannot do."""
        strength_vector(self.edit, attributes)
        check_names("set", self.values, attributes)

    def resolve(
        self, editor: "Editor", latent: np.ndarray, see: See
    ) -> tuple[np.ndarray, str]:
        """A face's strengths float32 `[K]`, and in words what they amount to.

        Args:
            editor: with its scores if there are values to look for.
            latent: of the face, float32 `[*latent_shape]`.
            see: what becomes of the face, of `[1, *latent_shape]` and `[1, K]`.
        """
        words = [f"{name} {strength:+g}" for name, strength in self.edit.items()]
        step = strength_vector(self.edit, editor.attributes)
        if not self.values:
            return step, ", ".join(words)
        columns = [editor.attributes.index(name) for name in self.values]
        found = search(
            predictor(editor, tuple(self.values), see), latent[None], step, columns,
            list(self.values.values()),
        )  # fmt: skip
        parts = zip(
            self.values.items(), found.strengths[0][columns], found.values[0], found.met[0],
            strict=True,
        )  # fmt: skip
        words += [
            f"{name} {value:.2f} (strength {strength:+.2f})" if hit else
            f"{name} {value:.2f}, the nearest to {asked:.2f} (strength {strength:+.2f})"
            for (name, asked), strength, value, hit in parts
        ]  # fmt: skip
        return found.strengths[0], ", ".join(words)


def parse(edit: str | None, values: str | None) -> Wish:
    """What the flags --edit and --set hold.

    Raises:
        UserError: neither is given, one cannot be read, or both name the same attribute.
    """
    if not edit and not values:
        raise UserError("--edit, --set: give one of them, or both; see --help")
    wish = Wish(parse_edit(edit) if edit else {}, parse_set(values) if values else {})
    for name in wish.values:
        if name in wish.edit:
            raise UserError(
                f"--edit={name}={wish.edit[name]:g}, --set={name}={wish.values[name]:g}: they "
                f"contradict each other; give {name} in one of them"
            )
    return wish


def parse_edit(text: str) -> dict[str, float]:
    """`Smiling=+1.0,Blond_Hair=-0.5` as {attribute: strength}, in the order given.

    Raises:
        UserError: a part is not NAME=NUMBER, a strength is not finite, or a name comes twice.
    """
    return _parse("edit", text, "STRENGTH", "strength", "+1.0")


def parse_set(text: str) -> dict[str, float]:
    """`Smiling=0.8,Male=0.2` as {attribute: predicted value}, in the order given.

    Raises:
        UserError: a part is not NAME=NUMBER, a value lies outside [0, 1], or a name comes twice.
    """
    values = _parse("set", text, "VALUE", "value", "0.8")
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise UserError(
                f"--set={text}: {name}'s value is {value:g}; give one from 0, absent, to 1, present"
            )
    return values


def check_names(option: str, names: Iterable[str], attributes: Sequence[str]) -> None:
    """Raises a UserError for a name that the model has no direction of.

    Args:
        option: "edit" or "set".
        names: as they were given.
        attributes: those of the model.
    """
    for name in names:
        if name not in attributes:
            lowered = {known.lower(): known for known in attributes}
            near = difflib.get_close_matches(name.lower(), lowered, n=1)
            hint = f" (did you mean {lowered[near[0]]}?)" if near else ""
            raise UserError(
                f"--{option}={name}: unknown attribute{hint}; the model has {', '.join(attributes)}"
            )


def strength_vector(edit: dict[str, float], attributes: tuple[str, ...]) -> np.ndarray:
    """float32 `[K]` in the order of the model's attributes, 0 where nothing was asked for.

    Raises:
        UserError: an attribute that the model does not have.
    """
    check_names("edit", edit, attributes)
    vector = np.zeros(len(attributes), np.float32)
    for name, strength in edit.items():
        if abs(strength) > np.finfo(np.float32).max:
            raise UserError(
                f"--edit={name}={strength:g}: too large for a float32; give a smaller number"
            )
        vector[attributes.index(name)] = strength
    return vector


def _parse(option: str, text: str, form: str, noun: str, example: str) -> dict[str, float]:
    """NAME=NUMBER,NAME=NUMBER of an option as a dictionary."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not name or not equals:
            raise UserError(
                f"--{option}={text}: {part.strip()!r} is not NAME={form} (Smiling={example})"
            )
        try:
            value = float(number)
        except ValueError:
            raise UserError(
                f"--{option}={text}: the {noun} of {name} is {number!r}; "
                f"give a number ({name}={example})"
            ) from None
        if not math.isfinite(value):
            raise UserError(f"--{option}={text}: {name}'s {noun} is {number}; give a finite number")
        if name in found:
            raise UserError(f"--{option}={text}: {name} is given twice; give it once")
        found[name] = value
    return found


# ---- the search --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search has found for N photos and T set attributes."""

    strengths: np.ndarray  # float32 [N, K], those of --edit among them
    values: np.ndarray  # float [N, T]: what R predicts there
    met: np.ndarray  # bool [N, T]: within TOLERANCE of what was asked


def predictor(
    editor: "Editor", names: Sequence[str], see: See
) -> Predict:
    """What the editor's regressor predicts of these attributes, as `search` wants it.

    Args:
        editor: with its scores.
        names: of the attributes.
        see: the images float32 `[n, R, R, 3]` of latents moved by strengths.
    """
    columns = [editor.score_names.index(name) for name in names]

    def predict(latents: np.ndarray, strengths: np.ndarray) -> np.ndarray:
        return editor.run("attributes", image=see(latents, strengths))[:, columns]

    return predict


def search(
    predict: Predict,
    latents: np.ndarray,
    strengths: np.ndarray,
    columns: Sequence[int],
    asked: Sequence[float],
) -> Found:
    """The strengths at which R predicts what was asked, for each photo by itself.

    For one attribute: outwards along its direction from where the photo stands, to the first
    strength that passes the value, which is then narrowed in logits. Only that way: R need not be
    monotonic, but a value that only the opposite direction reaches would not be that attribute.
    Several move each other, so they take turns until all are met or none comes nearer. Where the
    value lies beyond `LONGEST`, the smallest strength with the nearest one is given.

    Args:
        predict: in batches of any size; a row's answer must not depend on its neighbors.
        latents: float32 `[N, *latent_shape]`.
        strengths: float32 `[K]` of --edit; 0 at `columns`.
        columns: of the T set attributes among the K.
        asked: the T values in [0, 1].
    """
    wanted = np.asarray(asked, np.float64)
    point = np.tile(np.float32(strengths), (len(latents), 1))
    value = np.float64(predict(latents, point))
    best_point, best_value = point.copy(), value.copy()
    unfinished = np.arange(len(latents))
    for _ in range(PASSES if len(columns) > 1 else 1):
        for index, column in enumerate(columns):
            away = np.abs(value[unfinished, index] - wanted[index]) > TOLERANCE
            rows = unfinished[away]
            if len(rows):
                point[rows], value[rows] = _along(
                    predict, latents[rows], point[rows], value[rows], column, index, wanted[index]
                )
        before, after = (np.abs(values - wanted)[unfinished] for values in (best_value, value))
        nearer = after.sum(axis=1) < before.sum(axis=1)
        rows = unfinished[nearer]
        best_point[rows], best_value[rows] = point[rows], value[rows]
        unfinished = unfinished[nearer & (after.max(axis=1) > TOLERANCE)]
        if not len(unfinished):
            break
    return Found(best_point, best_value, np.abs(best_value - wanted) <= TOLERANCE)


def _along(
    predict: Predict,
    latents: np.ndarray,
    start: np.ndarray,
    value: np.ndarray,
    column: int,
    index: int,
    asked: float,
) -> tuple[np.ndarray, np.ndarray]:
    """One attribute's turn: the rows' new strengths `[n, K]` and values `[n, T]` there.

    Args:
        predict, latents: as in `search`, of the rows.
        start: float32 `[n, K]`, where the rows stand.
        value: `[n, T]` there.
        column: of the attribute among the K, index: among the T, asked: its value.
    """
    sign = np.where(value[:, index] < asked, 1.0, -1.0)
    best, best_value = start.copy(), value.copy()

    def gap(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        """How far the rows' logits have passed what was asked; below 0 as long as they have not."""
        return sign[rows] * (_logit(values[:, index]) - _logit(asked))

    def look(rows: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """The gaps at other strengths; keeps what is nearer, or near enough for the first time.

        Less than TOLERANCE is no difference: where R has had enough no step goes on in vain.
        """
        points = start[rows].copy()
        points[:, column] = steps
        values = np.float64(predict(latents[rows], points))
        left, distance = np.abs(best_value[rows, index] - asked), np.abs(values[:, index] - asked)
        nearer = (distance < left - TOLERANCE) | ((distance <= TOLERANCE) & (left > TOLERANCE))
        best[rows[nearer]], best_value[rows[nearer]] = points[nearer], values[nearer]
        return gap(rows, values)

    def away(rows: np.ndarray) -> np.ndarray:
        return np.abs(best_value[rows, index] - asked) > TOLERANCE

    everyone = np.arange(len(start))
    far = np.float64(start[:, column])
    far_gap = gap(everyone, value)
    near, near_gap = far.copy(), far_gap.copy()
    rows = everyone[sign * far < LONGEST]
    while len(rows):  # outwards, until the value is passed or the direction ends
        near[rows], near_gap[rows] = far[rows], far_gap[rows]
        far[rows] = np.clip(far[rows] + sign[rows] * WALK, -LONGEST, LONGEST)
        far_gap[rows] = look(rows, far[rows])
        rows = rows[(far_gap[rows] < 0) & (np.abs(far[rows]) < LONGEST) & away(rows)]
    passed = everyone[far_gap >= 0]
    for _ in range(NARROWINGS):  # at the point of the straight line, a tenth at least
        rows = passed[away(passed)]
        if not len(rows):
            break
        share = np.clip(near_gap[rows] / (near_gap[rows] - far_gap[rows]), 0.1, 0.9)
        middle = near[rows] + share * (far[rows] - near[rows])
        middle_gap = look(rows, middle)
        past = middle_gap >= 0
        far[rows[past]], far_gap[rows[past]] = middle[past], middle_gap[past]
        near[rows[~past]], near_gap[rows[~past]] = middle[~past], middle_gap[~past]
    return best, best_value


def _logit(probability: np.ndarray | float) -> np.ndarray:
    clipped = np.clip(probability, _LEAST, 1 - _LEAST)
    return np.log(clipped) - np.log1p(-clipped)
