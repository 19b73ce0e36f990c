"""Compares families of directions, each at the same change of its attribute, by the judge.

For the evaluate stage and benchmarks/directions.py; `editing` measures one direction's edits.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cgan_tf.evaluation import hyperplane
from cgan_tf.evaluation.edits import edit_figures, judged, rows_without
from cgan_tf.evaluation.metrics import edit_change
from cgan_tf.evaluation.statistics import Numbers, mean, number, ratio
from cgan_tf.evaluation.subject import Chain, Photos

COMPARED_CHANGE = 0.4  # of the attribute by the judge, in the evaluate stage
COMPARED_DRAWS = 8  # random directions per attribute
CURVE = 6  # points of a direction's curve, at equal steps
LEAST_CHANGE = 0.02  # that a random direction must reach to be compared with
COMPARED_PHOTOS = 100  # there: the search for the lengths takes some ten edits of each photo
MATCH_TOLERANCE = 0.01  # of the change that families are compared at
MATCH_GROWTH, MATCH_LONGEST, MATCH_STEPS = 1.5, 6.0, 20  # of the search for its strength


def match_strength(change: Callable[[float], float], asked: float) -> tuple[float, bool]:
    """The strength at which an edit's change is `asked` within `MATCH_TOLERANCE` of it.

    Strengths grow from 1 until the change is too large, or shrink to none; the bracket is then
    narrowed at the point of its straight line, at least a tenth of it at a time.

    Args:
        change: by strength; 0 at strength 0.
        asked: more than 0.

    Returns:
        the strength, and whether it reaches what was asked. If it does not, the strength of the
        largest change up to `MATCH_LONGEST`.
    """
    tried = {0.0: 0.0}
    low, high = 0.0, 1.0
    while True:
        tried[high] = change(high)
        if tried[high] >= asked or high >= MATCH_LONGEST:
            break
        low, high = high, min(high * MATCH_GROWTH, MATCH_LONGEST)
    if tried[high] < asked:
        del tried[0.0]
        return max(tried, key=tried.__getitem__), False
    best = high
    for _ in range(MATCH_STEPS):
        if abs(tried[best] - asked) <= MATCH_TOLERANCE * asked:
            return best, True
        share = (asked - tried[low]) / (tried[high] - tried[low])
        best = low + min(max(share, 0.1), 0.9) * (high - low)
        tried[best] = change(best)
        low, high = (low, best) if tried[best] >= asked else (best, high)
    return best, abs(tried[best] - asked) <= MATCH_TOLERANCE * asked


def matched(
    chain: Chain, photos: Photos, name: str, direction: np.ndarray, asked: float
) -> tuple[np.ndarray, bool]:
    """The direction at the length at which the judge sees its attribute change by `asked`.

    The change is the mean over the photos without the attribute, from reconstruction to edit.

    Returns:
        the vector, and whether it reaches that; see `match_strength`.
    """
    rows, column = rows_without(chain, photos, name), chain.names.index(name)
    before = photos.reconstructed_probabilities[rows, column]

    def change(strength: float) -> float:
        _, after = judged(chain, photos, rows, np.float32(strength) * direction)
        return float(np.mean(after[:, column] - before))

    strength, reached = match_strength(change, asked)
    return (strength * direction).astype(np.float32), reached


def measure_families(
    chain: Chain,
    photos: Photos,
    families: Mapping[str, Mapping[str, np.ndarray]],
    asked: float,
    draws: int = COMPARED_DRAWS,
) -> tuple[Numbers, dict[str, dict[str, np.ndarray]]]:
    """The `comparison` block: families of directions, each at the same change of its attribute.

    Beside each direction stand random ones: of the same length, and, as the family "random", with
    the sign that raises the attribute and at the same change or, where they do not reach it, at
    their largest. Few reach it, so that leakages are compared pair by pair: a direction and a
    random one at the largest change, up to what was asked, that both reach.

    Args:
        chain: the models.
        photos: those without an attribute are edited.
        families: directions by family and attribute, at lengths that make a plain change; a
            family may lack some attributes.
        asked: the judge's mean change of the attribute.
        draws: random directions per attribute.

    Returns:
        {"asked", "attributes": {NAME: {FAMILY: the figures of `measure_edits`, reached (how many
        of the directions reach what was asked), length, random_leakage, random_target_change and
        leakage_over_same_length (random ones of the same length), leakage_over_random and
        n_over_random (those that raise the attribute at all, pair by pair)}}, "mean": {FAMILY:
        means}}; and the directions as they were scaled, but for the random ones.
    """
    generator = np.random.default_rng(photos.seed)
    block: Numbers = {"asked": asked, "attributes": {}}
    scaled: dict[str, dict[str, np.ndarray]] = {family: {} for family in families}
    for name in dict.fromkeys(name for vectors in families.values() for name in vectors):
        if not len(rows_without(chain, photos, name)):
            continue
        vectors = {family: found[name] for family, found in families.items() if name in found}
        units = generator.standard_normal((draws, *chain.generator.latent_shape))
        units = [(unit / np.linalg.norm(unit)).astype(np.float32) for unit in units]
        entries: Numbers = {}
        for family, vector in vectors.items():
            vector, reached = matched(chain, photos, name, vector, asked)
            scaled[family][name] = vector
            length = float(np.linalg.norm(vector))
            entries[family] = edit_figures(chain, photos, name, [vector], True)
            beside = edit_figures(chain, photos, name, [length * unit for unit in units], False)
            entries[family] |= {
                "reached": int(reached),
                "length": length,
                "random_leakage": beside["leakage"],
                "random_target_change": beside["target_change"],
                "leakage_over_same_length": ratio(entries[family]["leakage"], beside["leakage"]),
            }
        usual = float(np.mean([entry["length"] for entry in entries.values()]))
        both = [_raising(chain, photos, name, usual * unit, asked) for unit in units]
        others = [vector for vector, _ in both]
        curves = [curve(chain, photos, name, vector) for vector in others]
        for family in vectors:
            own = curve(chain, photos, name, scaled[family][name])
            entries[family] |= over_random(own, curves)
        entries["random"] = edit_figures(chain, photos, name, others, True) | {
            "reached": sum(reached for _, reached in both),
            "length": mean([np.linalg.norm(vector) for vector in others]),
        }
        block["attributes"][name] = entries
    block["mean"] = _family_means(block["attributes"], (*families, "random"))
    return block, scaled


def _raising(
    chain: Chain, photos: Photos, name: str, direction: np.ndarray, asked: float
) -> tuple[np.ndarray, bool]:
    """`matched` of the direction or its opposite, whichever raises the attribute at this length."""
    rows, column = rows_without(chain, photos, name), chain.names.index(name)
    after = [judged(chain, photos, rows, sign * direction)[1][:, column] for sign in (1, -1)]
    sign = 1 if after[0].mean() >= after[1].mean() else -1
    return matched(chain, photos, name, sign * direction, asked)


class Curve(NamedTuple):
    """What a direction does at `CURVE` points up to its end, the first of them no edit."""

    change: np.ndarray  # mean change of its attribute by the judge
    leakage: np.ndarray  # mean |change| of the others


def curve(chain: Chain, photos: Photos, name: str, vector: np.ndarray) -> Curve:
    """The curve of the vector on photos without its attribute."""
    rows, column = rows_without(chain, photos, name), chain.names.index(name)
    before = photos.reconstructed_probabilities[rows]
    points = [(0.0, 0.0)]
    for share in np.linspace(0, 1, CURVE, dtype=np.float32)[1:]:
        after = judged(chain, photos, rows, share * vector)[1]
        points.append(tuple(float(part.mean()) for part in edit_change(before, after, column)))
    return Curve(*np.array(points).T)


def over_random(own: Curve, others: Sequence[Curve]) -> Numbers:
    """A direction's mean leakage over that of random ones, and how many of these raise at all.

    Each pair is compared at the largest change that both reach, between the points of the curves.
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
    """Where the curve first reaches the change."""
    last = int(np.argmax(one.change >= change))
    ends = slice(max(last - 1, 0), last + 1)
    return float(np.interp(change, one.change[ends], one.leakage[ends]))


def _family_means(attributes: Numbers, families: Sequence[str]) -> Numbers:
    """Plain means of each family's figures over the attributes that it has."""
    keys = ("target_change", "leakage", "identity", "length", "leakage_over_random",
            "leakage_over_same_length")  # fmt: skip
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
    chain: Chain, photos: Photos, directions: Mapping[str, np.ndarray]
) -> Numbers:
    """The re-scoring matrix: {A: {B: the judge's mean change of B along the direction of A}}.

    On the photos without A.
    """
    matrix = {}
    for name, direction in directions.items():
        rows = rows_without(chain, photos, name)
        _, after = judged(chain, photos, rows, direction)
        change = np.mean(after - photos.reconstructed_probabilities[rows], axis=0)
        matrix[name] = {other: number(change[k]) for k, other in enumerate(chain.names)}
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
    """The `count` pairs (A, B) of which B, one of the others, moves most along A's direction."""
    sizes = {
        (name, other): abs(row[other])
        for name, row in rescoring.items()
        for other in others
        if other != name
    }
    return sorted(sizes, key=sizes.__getitem__, reverse=True)[:count]


def measure_projection(
    chain: Chain,
    photos: Photos,
    pairs: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]],
    asked: float,
) -> list[Numbers]:
    """What conditional projection does to the leakage into the held attribute, at matched change.

    Args:
        chain: the models.
        photos: those without the edited attribute are edited.
        pairs: of the edited and the held attribute: the direction, and the projected one.
        asked: the judge's mean change of the edited attribute.

    Returns:
        for each pair {edited, held, before, after: {held_leakage (mean |change| of the held one),
        held_change (mean change), leakage (of all others), reached, length}, ratio (of the held
        leakages), n}
    """
    entries = []
    for (name, held), both in pairs.items():
        rows = rows_without(chain, photos, name)
        probabilities = photos.reconstructed_probabilities[rows]
        entry: Numbers = {"edited": name, "held": held, "n": len(rows)}
        for when, direction in zip(("before", "after"), both, strict=True):
            vector, reached = matched(chain, photos, name, direction, asked)
            change = judged(chain, photos, rows, vector)[1] - probabilities
            column = chain.names.index(held)
            entry[when] = {
                "held_leakage": mean(np.abs(change[:, column])),
                "held_change": mean(change[:, column]),
                "leakage": mean(np.delete(np.abs(change), chain.names.index(name), axis=1)),
                "reached": reached,
                "length": float(np.linalg.norm(vector)),
            }
        entry["ratio"] = ratio(entry["after"]["held_leakage"], entry["before"]["held_leakage"])
        entries.append(entry)
    return entries
