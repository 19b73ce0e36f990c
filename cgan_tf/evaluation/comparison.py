"""Compares families of directions, each scaled to the same change of its attribute by the judge.

The evaluate stage compares the run's directions with random ones, benchmarks/directions.py all
families. `edits` measures directions at their own length.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cgan_tf.editing import bracketing
from cgan_tf.evaluation import hyperplane
from cgan_tf.evaluation.edits import edit_figures, judge_edits, rows_without
from cgan_tf.evaluation.evaluated import EvaluatedModels, TestPhotos
from cgan_tf.evaluation.metrics import edit_change
from cgan_tf.evaluation.statistics import Numbers, mean, number, ratio

COMPARED_CHANGE = 0.4  # of the attribute by the judge, in the evaluate stage
COMPARED_DRAWS = 8  # random directions per attribute
COMPARED_PHOTOS = 100  # in the evaluate stage: matching a strength edits each some ten times
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


def match_direction(
    models: EvaluatedModels, photos: TestPhotos, name: str, direction: np.ndarray, requested: float
) -> tuple[np.ndarray, bool]:
    """The direction at the length at which its attribute changes by `requested`.

    The change is that of the judge's prediction, from the reconstruction to the edited image, a
    mean over the photos without the attribute.

    Returns:
        the scaled direction, and whether it reaches that; see `match_strength`.
    """
    rows, column = rows_without(models, photos, name), models.all_attributes.index(name)
    before = photos.reconstructed_probabilities[rows, column]

    def change(strength: float) -> float:
        _, after = judge_edits(models, photos, rows, np.float32(strength) * direction)
        return float(np.mean(after[:, column] - before))

    strength, reached = match_strength(change, requested)
    return (strength * direction).astype(np.float32), reached


def measure_families(
    models: EvaluatedModels,
    photos: TestPhotos,
    families: Mapping[str, Mapping[str, np.ndarray]],
    requested: float,
    draws: int = COMPARED_DRAWS,
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
        entries: Numbers = {}
        for family, vector in vectors.items():
            vector, reached = match_direction(models, photos, name, vector, requested)
            scaled[family][name] = vector
            entries[family] = _figures_over_same_length(models, photos, name, vector, units)
            entries[family]["reached"] = int(reached)
        mean_length = float(np.mean([entry["length"] for entry in entries.values()]))
        raising = [
            _match_raising(models, photos, name, mean_length * unit, requested) for unit in units
        ]
        others = [vector for vector, _ in raising]
        curves = [curve(models, photos, name, vector) for vector in others]
        for family in vectors:
            own = curve(models, photos, name, scaled[family][name])
            entries[family] |= over_random(own, curves)
        entries["random"] = edit_figures(models, photos, name, others, True) | {
            "reached": sum(reached for _, reached in raising),
            "length": mean([np.linalg.norm(vector) for vector in others]),
        }
        block["attributes"][name] = entries
    block["mean"] = _family_means(block["attributes"], (*families, "random"))
    return block, scaled


def _figures_over_same_length(
    models: EvaluatedModels,
    photos: TestPhotos,
    name: str,
    vector: np.ndarray,
    units: Sequence[np.ndarray],
) -> Numbers:
    """The figures of a direction, compared with random directions of the same length.

    Args:
        models: of the run.
        photos: those without the attribute are edited.
        name: the attribute.
        vector: the direction.
        units: the random directions, of length 1.
    """
    length = float(np.linalg.norm(vector))
    figures = edit_figures(models, photos, name, [vector], True)
    random = edit_figures(models, photos, name, [length * unit for unit in units], False)
    return figures | {
        "length": length,
        "random_leakage": random["leakage"],
        "random_target_change": random["target_change"],
        "leakage_over_same_length": ratio(figures["leakage"], random["leakage"]),
    }


def _match_raising(
    models: EvaluatedModels, photos: TestPhotos, name: str, direction: np.ndarray, requested: float
) -> tuple[np.ndarray, bool]:
    """`match_direction` for the direction or its opposite, whichever raises the attribute."""
    rows, column = rows_without(models, photos, name), models.all_attributes.index(name)
    after = [judge_edits(models, photos, rows, sign * direction)[1][:, column] for sign in (1, -1)]
    sign = 1 if after[0].mean() >= after[1].mean() else -1
    return match_direction(models, photos, name, sign * direction, requested)


class Curve(NamedTuple):
    """The effect of a direction at `CURVE_POINTS` points from no edit to its end."""

    change: np.ndarray  # mean change of its attribute
    leakage: np.ndarray  # mean |change| of the others


def curve(models: EvaluatedModels, photos: TestPhotos, name: str, vector: np.ndarray) -> Curve:
    """The curve of the vector on photos without its attribute."""
    rows, column = rows_without(models, photos, name), models.all_attributes.index(name)
    before = photos.reconstructed_probabilities[rows]
    points = [(0.0, 0.0)]
    for share in np.linspace(0, 1, CURVE_POINTS, dtype=np.float32)[1:]:
        after = judge_edits(models, photos, rows, share * vector)[1]
        points.append(tuple(float(part.mean()) for part in edit_change(before, after, column)))
    return Curve(*np.array(points).T)


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
        "identity",
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
        rows = rows_without(models, photos, name)
        probabilities = photos.reconstructed_probabilities[rows]
        entry: Numbers = {"edited": name, "preserved": preserved, "n": len(rows)}
        for when, direction in zip(("before", "after"), both, strict=True):
            vector, reached = match_direction(models, photos, name, direction, requested)
            change = judge_edits(models, photos, rows, vector)[1] - probabilities
            column = models.all_attributes.index(preserved)
            entry[when] = {
                "preserved_leakage": mean(np.abs(change[:, column])),
                "preserved_change": mean(change[:, column]),
                "leakage": mean(
                    np.delete(np.abs(change), models.all_attributes.index(name), axis=1)
                ),
                "reached": reached,
                "length": float(np.linalg.norm(vector)),
            }
        entry["ratio"] = ratio(
            entry["after"]["preserved_leakage"], entry["before"]["preserved_leakage"]
        )
        entries.append(entry)
    return entries
