"""Compares families of directions, each scaled to the same change of its attribute by the judge.

The evaluate stage compares the run's directions with random ones, benchmarks/directions.py all
families. `edits` measures directions at their own length.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cgan_tf.editing import bracketing
from cgan_tf.evaluation import hyperplane
from cgan_tf.evaluation.edits import RANDOM_DRAWS, judge_edits, judged_figures, rows_without
from cgan_tf.evaluation.evaluated import EvaluatedModels, TestPhotos
from cgan_tf.evaluation.metrics import edit_change
from cgan_tf.evaluation.statistics import Numbers, mean, number, ratio

COMPARED_CHANGE = 0.4  # of the attribute by the judge, in the evaluate stage
COMPARED_PHOTOS = 50  # in the evaluate stage: fifty edits of each, for the random directions
CURVE_POINTS = 6  # of a direction's curve, at equal steps
LEAST_CHANGE = 0.02  # that a random direction must reach to be compared with
MATCH_TOLERANCE = 0.01  # of the requested change
MATCH_STRENGTHS = (1.0, 1.5, 2.25, 3.375, 5.0625, 6.0)  # tried until the change is passed
MATCH_NARROWINGS = 20


def match_strength(change: Callable[[float], float], requested: float) -> tuple[float, bool]:
    """The strength at which an edit's change is `requested`, within `MATCH_TOLERANCE` of it.

    Args:
        change: as a function of the strength; 0 at strength 0.
        requested: more than 0.

    Returns:
        the strength, and whether it reaches the requested change. If not, the strength up to 6 with
        the largest change.
    """
    found = bracketing.search_scalar(
        change, requested, MATCH_STRENGTHS, MATCH_NARROWINGS, MATCH_TOLERANCE * requested
    )
    if found.reached:
        return found.position, abs(found.value - requested) <= MATCH_TOLERANCE * requested
    changes = {strength: value for strength, value in found.evaluated.items() if strength}
    return max(changes, key=changes.__getitem__), False


class Line:
    """Photos without an attribute, moved along a direction; the judge sees each strength once.

    Args:
        models: of the run.
        photos: the test photos.
        name: the attribute.
        direction: a step in the latent space.
    """

    def __init__(
        self, models: EvaluatedModels, photos: TestPhotos, name: str, direction: np.ndarray
    ) -> None:
        self.models, self.photos, self.direction = models, photos, direction
        self.rows = rows_without(models, photos, name)
        self.column = models.all_attributes.index(name)
        self.before = photos.reconstructed_probabilities[self.rows]
        self._judged: dict[float, tuple[np.ndarray, np.ndarray]] = {}

    def step(self, strength: float) -> np.ndarray:
        """The direction times the strength, float32."""
        return np.float32(strength) * self.direction

    def judged(self, strength: float) -> tuple[np.ndarray, np.ndarray]:
        """The judge's features and probabilities of the edited images."""
        if strength not in self._judged:
            step = self.step(strength)
            self._judged[strength] = judge_edits(self.models, self.photos, self.rows, step)
        return self._judged[strength]

    def change(self, strength: float) -> float:
        """The mean change of the attribute's probability from the reconstruction."""
        after = self.judged(strength)[1]
        return float(np.mean(after[:, self.column] - self.before[:, self.column]))

    def match(self, requested: float, sign: int = 1) -> "Match":
        """Where the change is `requested`, at strengths of this sign; see `match_strength`."""
        strength, reached = match_strength(lambda size: self.change(sign * size), requested)
        return Match(self, sign * strength, reached)

    def match_raising(self, requested: float) -> "Match":
        """`match` with the sign that raises the attribute at first."""
        return self.match(requested, 1 if self.change(1.0) >= self.change(-1.0) else -1)


class Match(NamedTuple):
    """The strength that `Line.match` found."""

    line: Line
    strength: float
    reached: bool  # whether the change is the requested one

    @property
    def step(self) -> np.ndarray:
        """The scaled direction, float32."""
        return self.line.step(self.strength)

    @property
    def length(self) -> float:
        """Its Euclidean norm."""
        return float(np.linalg.norm(self.step))

    def judged(self) -> tuple[np.ndarray, np.ndarray]:
        """The judge's features and probabilities of the edited images."""
        return self.line.judged(self.strength)

    def curve(self) -> "Curve":
        """The effect at `CURVE_POINTS` points from no edit to this strength."""
        line, points = self.line, [(0.0, 0.0)]
        for share in np.linspace(0, 1, CURVE_POINTS)[1:]:
            after = line.judged(share * self.strength)[1]
            parts = edit_change(line.before, after, line.column)
            points.append(tuple(float(part.mean()) for part in parts))
        return Curve(*np.array(points).T)


def measure_families(
    models: EvaluatedModels,
    photos: TestPhotos,
    families: Mapping[str, Mapping[str, np.ndarray]],
    requested: float,
    draws: int = RANDOM_DRAWS,
) -> tuple[Numbers, dict[str, dict[str, np.ndarray]]]:
    """The `comparison` block: families of directions, each at the same change of its attribute.

    Each direction is compared with random ones twice: with those of the same length; and with the
    family "random", which has the sign that raises the attribute and the same change or, if it is
    out of reach, the largest one. Few random directions reach the requested change. Leakages are
    therefore compared in pairs, at the largest change up to the requested one that both reach.

    Args:
        models: of the run.
        photos: those without an attribute are edited.
        families: directions by family and attribute, at lengths with a clear effect; a family may
            lack some attributes.
        requested: the judge's mean change of the attribute.
        draws: random directions per attribute.

    Returns:
        {"requested", "attributes": {NAME: {FAMILY: the figures of `measure_edits`, reached (how
        many of the directions reach the requested change), length, random_leakage,
        random_target_change and leakage_over_same_length (of random ones of the same length),
        leakage_over_random and n_over_random (of those that raise the attribute, in pairs)}},
        "mean": {FAMILY: means}}; and the scaled directions, without the random ones.
    """
    generator = np.random.default_rng(photos.seed)
    block: Numbers = {"requested": requested, "attributes": {}}
    scaled: dict[str, dict[str, np.ndarray]] = {family: {} for family in families}
    for name in dict.fromkeys(name for vectors in families.values() for name in vectors):
        if not len(rows_without(models, photos, name)):
            continue
        vectors = {family: found[name] for family, found in families.items() if name in found}
        units = generator.standard_normal((draws, *models.generator.latent_shape))
        units = [(unit / np.linalg.norm(unit)).astype(np.float32) for unit in units]
        matched = {
            family: Line(models, photos, name, vector).match(requested)
            for family, vector in vectors.items()
        }
        for family, match in matched.items():
            scaled[family][name] = match.step
        mean_length = float(np.mean([match.length for match in matched.values()]))
        others = [Line(models, photos, name, mean_length * unit) for unit in units]
        raised = [other.match_raising(requested) for other in others]
        curves = [match.curve() for match in raised]
        entries: Numbers = {}
        for family, match in matched.items():
            figures = judged_figures(models, photos, name, [match.judged()], True)
            # Of the same length; exactly 1 if there is one family.
            same = [other.judged(match.length / mean_length) for other in others]
            random = judged_figures(models, photos, name, same, False)
            entries[family] = (
                figures
                | over_random(match.curve(), curves)
                | {
                    "reached": int(match.reached),
                    "length": match.length,
                    "random_leakage": random["leakage"],
                    "random_target_change": random["target_change"],
                    "leakage_over_same_length": ratio(figures["leakage"], random["leakage"]),
                }
            )
        judged = [match.judged() for match in raised]
        entries["random"] = judged_figures(models, photos, name, judged, True) | {
            "reached": sum(match.reached for match in raised),
            "length": mean([match.length for match in raised]),
        }
        block["attributes"][name] = entries
    block["mean"] = _family_means(block["attributes"], (*families, "random"))
    return block, scaled


class Curve(NamedTuple):
    """The effect of a direction at `CURVE_POINTS` points from no edit to its end."""

    change: np.ndarray  # mean change of its attribute
    leakage: np.ndarray  # mean |change| of the others


def over_random(own: Curve, others: Sequence[Curve]) -> Numbers:
    """The ratio of a direction's mean leakage to that of random ones, and the number of pairs.

    Each pair is compared at the largest change that both reach, interpolated on their curves.
    """
    pairs = []
    for other in others:
        common = min(own.change.max(), other.change.max())
        if common >= LEAST_CHANGE:
            pairs.append([_leakage_at(one, common) for one in (own, other)])
    if not pairs:
        return {"leakage_over_random": None, "n_over_random": 0}
    leakage, random = np.mean(pairs, axis=0)
    return {"leakage_over_random": ratio(leakage, random), "n_over_random": len(pairs)}


def _leakage_at(one: Curve, change: float) -> float:
    """The leakage where the curve first reaches the change."""
    last = int(np.argmax(one.change >= change))
    ends = slice(max(last - 1, 0), last + 1)
    return float(np.interp(change, one.change[ends], one.leakage[ends]))


def _family_means(attributes: Numbers, families: Sequence[str]) -> Numbers:
    """Means of each family's figures over its attributes."""
    keys = (
        "target_change",
        "leakage",
        "retrieval",
        "length",
        "leakage_over_random",
        "leakage_over_same_length",
    )
    means = {}
    for family in families:
        entries = [found[family] for found in attributes.values() if family in found]
        means[family] = {
            key: mean([entry[key] for entry in entries if entry.get(key) is not None])
            for key in keys
        }
        means[family]["n_attributes"] = len(entries)
        means[family]["n_reached"] = sum(entry["reached"] > 0 for entry in entries)
    return means


def measure_rescoring(
    models: EvaluatedModels, photos: TestPhotos, directions: Mapping[str, np.ndarray]
) -> Numbers:
    """The re-scoring matrix: {A: {B: the judge's mean change of B along the direction of A}}.

    Measured on the photos without A; None if there are none.
    """
    matrix = {}
    for name, direction in directions.items():
        rows = rows_without(models, photos, name)
        if not len(rows):
            matrix[name] = dict.fromkeys(models.all_attributes)
            continue
        _, after = judge_edits(models, photos, rows, direction)
        change = np.mean(after - photos.reconstructed_probabilities[rows], axis=0)
        matrix[name] = {other: number(change[k]) for k, other in enumerate(models.all_attributes)}
    return matrix


def measure_cosines(directions: Mapping[str, np.ndarray]) -> Numbers:
    """The cosine matrix: {A: {B: the cosine between the directions of A and of B}}."""
    matrix = hyperplane.cosines(np.stack([*directions.values()]))
    return {
        name: {other: number(cosine) for other, cosine in zip(directions, row, strict=True)}
        for name, row in zip(directions, matrix, strict=True)
    }


def entangled_pairs(
    rescoring: Numbers, others: Sequence[str], count: int = 2
) -> list[tuple[str, str]]:
    """The `count` pairs (A, B) with the largest change of B, one of the others, along A."""
    sizes = {
        (name, other): abs(row[other])
        for name, row in rescoring.items()
        for other in others
        if other != name
    }
    return sorted(sizes, key=sizes.__getitem__, reverse=True)[:count]


def measure_projection(
    models: EvaluatedModels,
    photos: TestPhotos,
    pairs: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]],
    requested: float,
) -> list[Numbers]:
    """The effect of conditional projection on the preserved attribute, at the same change.

    Args:
        models: of the run.
        photos: those without the edited attribute are edited.
        pairs: for an edited and a preserved attribute, the direction and the projected one.
        requested: the judge's mean change of the edited attribute.

    Returns:
        for each pair {edited, preserved, before, after: {preserved_leakage (mean |change| of the
        preserved attribute), preserved_change (mean change), leakage (of all others), reached,
        length}, ratio (of the preserved leakages), n}
    """
    entries = []
    for (name, preserved), both in pairs.items():
        entry: Numbers = {"edited": name, "preserved": preserved}
        entry["n"] = len(rows_without(models, photos, name))
        for when, direction in zip(("before", "after"), both, strict=True):
            match = Line(models, photos, name, direction).match(requested)
            change = match.judged()[1] - match.line.before
            column = models.all_attributes.index(preserved)
            entry[when] = {
                "preserved_leakage": mean(np.abs(change[:, column])),
                "preserved_change": mean(change[:, column]),
                "leakage": mean(
                    np.delete(np.abs(change), models.all_attributes.index(name), axis=1)
                ),
                "reached": match.reached,
                "length": match.length,
            }
        entry["ratio"] = ratio(
            entry["after"]["preserved_leakage"], entry["before"]["preserved_leakage"]
        )
        entries.append(entry)
    return entries
