"""Measures edits at many strengths, along learned and random directions."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from cgan_tf.evaluation import edits, metrics
from cgan_tf.evaluation.edits import RANDOM_DRAWS
from cgan_tf.evaluation.evaluated import EvaluatedModels, TestPhotos
from cgan_tf.evaluation.statistics import Numbers, estimate, mean

SWEPT_PHOTOS = 100  # for all strengths, the re-scoring matrix and the consistency
SWEPT = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # strengths, in both signs
SWEPT_RANDOM = (1.0, 2.0, 4.0, 6.0)  # times the mean learned length; random steps do far less
BINS = (0.0, 0.3, 0.6, 0.9)  # of |target change|


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Photos edited at several strengths of one step, and the judge's predictions."""

    rows: np.ndarray  # [N], of the photos
    strengths: tuple[float, ...]  # S of them
    before: np.ndarray  # [N, K], probabilities of the reconstructions
    after: np.ndarray  # [S, N, K]
    found: np.ndarray  # [S, N], whether the images find their photos; see `retrieval`


def sweep(
    models: EvaluatedModels,
    photos: TestPhotos,
    rows: np.ndarray,
    direction: np.ndarray,
    strengths: Sequence[float],
) -> Sweep:
    """Edits the rows' reconstructions along the direction at each of the strengths."""
    before = photos.reconstructed_probabilities[rows]
    after = np.zeros((len(strengths), *before.shape))
    found = np.zeros((len(strengths), len(rows)))
    for index, strength in enumerate(strengths if len(rows) else ()):
        features, after[index] = edits.judge_edits(
            models, photos, rows, np.float32(strength) * direction
        )
        found[index] = photos.found(rows, features)
    return Sweep(rows, tuple(strengths), before, after, found)


def sweep_learned(models: EvaluatedModels, photos: TestPhotos) -> dict[str, tuple[Sweep, Sweep]]:
    """Each direction's two sweeps: negative strengths on photos with the attribute, and positive
    ones on photos without it."""
    sweeps = {}
    for name, direction in models.directions.items():
        up = edits.rows_without(models, photos, name)
        down = edits.rows_with(models, photos, name)
        fall = [-strength for strength in reversed(SWEPT)]
        sweeps[name] = (
            sweep(models, photos, down, direction, fall),
            sweep(models, photos, up, direction, SWEPT),
        )
    return sweeps


def sweep_random(
    models: EvaluatedModels, photos: TestPhotos, draws: int = RANDOM_DRAWS
) -> list[Sweep]:
    """Sweeps of all photos along random directions, as long as the learned ones on average.

    One set serves all attributes, since a random direction belongs to none.
    """
    shape = next(iter(models.directions.values())).shape
    length = np.mean([np.linalg.norm(direction) for direction in models.directions.values()])
    rows, sweeps = np.arange(len(photos.labels)), []
    for step in np.random.default_rng(photos.seed).standard_normal((draws, *shape)):
        step = (step * length / np.linalg.norm(step)).astype(np.float32)
        sweeps.append(sweep(models, photos, rows, step, SWEPT_RANDOM))
    return sweeps


def measure_strengths(
    models: EvaluatedModels, photos: TestPhotos, sweeps: Mapping[str, tuple[Sweep, Sweep]]
) -> Numbers:
    """The `strengths` block: the effect of each direction at each strength.

    Args:
        models: of the run.
        photos: those of the sweeps.
        sweeps: of `sweep_learned`.
    """
    block: Numbers = {"n_photos": len(photos.labels), "seed": photos.seed, "attributes": {}}
    for name, both in sweeps.items():
        column = models.all_attributes.index(name)
        block["attributes"][name] = [
            _at_strength(each, index, column, photos.seed)
            for each in both
            for index in range(len(each.strengths))
        ]
    return block


def _at_strength(swept: Sweep, index: int, column: int, seed: int) -> Numbers:
    strength, after = swept.strengths[index], swept.after[index]
    start, end = swept.before[:, column], after[:, column]
    to_cross, crossed = (start <= 0.5, end > 0.5) if strength > 0 else (start > 0.5, end <= 0.5)
    change, change_interval = estimate(end - start, seed)
    success, success_interval = estimate(np.where(to_cross, crossed, np.nan), seed)
    return {
        "strength": strength,
        "target_change": change,
        "success": success,
        "leakage": mean(np.delete(np.abs(after - swept.before), column, axis=1)),
        "retrieval": mean(swept.found[index]),
        "interval": {"target_change": change_interval, "success": success_interval},
        "n": len(swept.rows),
        "n_success": int(to_cross.sum()),
    }


def measure_preservation(
    models: EvaluatedModels,
    photos: TestPhotos,
    learned: Mapping[str, tuple[Sweep, Sweep]],
    random: Sequence[Sweep],
) -> Numbers:
    """The `preservation` block: attribute preservation by size of the target's change.

    Edits of all photos at all strengths are grouped into bins of |target change|. Each bin has the
    share of other attributes whose predictions stay on the same side of 0.5, their mean |change|,
    and the retrieval (after the protocol of Zhuang et al. 2021). Edits of one photo are correlated,
    so the bootstrap resamples photos.

    Args:
        models: of the run.
        photos: those of the sweeps.
        learned: of `sweep_learned`.
        random: of `sweep_random`; each counts for every attribute as the target.
    """
    count = len(photos.labels)
    block: Numbers = {
        "strengths": {"learned": list(SWEPT), "random": list(SWEPT_RANDOM)},
        "n_photos": count,
        "draws": len(random),
        "seed": photos.seed,
    }
    sweeps = {"learned": learned, "random": dict.fromkeys(models.directions, tuple(random))}
    for method, attributes in sweeps.items():
        edits = {
            name: np.concatenate(
                [_edits(each, models.all_attributes.index(name)) for each in both], axis=1
            )
            for name, both in attributes.items()
        }
        block[method] = {
            "all": _bins(np.concatenate([*edits.values()], axis=1), count, photos.seed),
            "attributes": {name: _bins(part, count, photos.seed) for name, part in edits.items()},
        }
    return block


def _edits(swept: Sweep, column: int) -> np.ndarray:
    """Photo row, |target change|, preservation, leakage and retrieval of each edit, `[5, M]`."""
    size = np.abs(swept.after - swept.before)
    flipped = (swept.after > 0.5) != (swept.before > 0.5)
    return np.stack(
        [
            np.broadcast_to(swept.rows, size.shape[:2]),
            size[..., column],
            1.0 - metrics.mean_of_others(flipped, column),
            metrics.mean_of_others(size, column),
            swept.found,
        ]
    ).reshape(5, -1)


def _bins(edits: np.ndarray, photos: int, seed: int) -> list[Numbers]:
    """The figures of each bin of the edits `[5, M]`; see `_edits`."""
    rows, size = edits[0].astype(int), edits[1]
    found = []
    for low, high in zip(BINS, BINS[1:], strict=False):
        inside = (size > low) & (size <= high)
        entry: Numbers = {"above": low, "up_to": high, "n": int(inside.sum()), "interval": {}}
        entry["n_photos"] = len(np.unique(rows[inside]))
        for key, values in zip(("preserved", "leakage", "retrieval"), edits[2:], strict=True):
            known = inside & ~np.isnan(values)
            entry[key] = mean(values[known])
            entry["interval"][key] = None
            if known.any():
                sums = np.bincount(rows[known], values[known], photos)
                counts = np.bincount(rows[known], minlength=photos)
                draws = metrics.bootstrap_means(np.stack([sums, counts], axis=1), seed)
                valid = draws[draws[:, 1] > 0]
                entry["interval"][key] = list(metrics.interval(valid[:, 0] / valid[:, 1]))
        found.append(entry)
    return found
