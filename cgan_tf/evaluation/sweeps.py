"""Measures edits over many strengths and along random directions."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from cgan_tf.evaluation import edits, metrics
from cgan_tf.evaluation.edits import RANDOM_DRAWS
from cgan_tf.evaluation.statistics import Numbers, estimate, mean
from cgan_tf.evaluation.subject import Chain, Photos

SWEPT_PHOTOS = 200  # behind all strengths, the re-scoring matrix and the way back
SWEPT = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # strengths, in both signs
SWEPT_RANDOM = (1.0, 2.0, 4.0, 6.0)  # in lengths of the learned ones, which change far less
BINS = (0.0, 0.3, 0.6, 0.9)  # of |target change|


# ---- over a range of strengths ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Photos moved by several strengths of one step, and what the judge sees of it."""

    rows: np.ndarray  # [N], of the photos
    strengths: tuple[float, ...]  # S of them
    before: np.ndarray  # [N, K], probabilities of the reconstructions
    after: np.ndarray  # [S, N, K]
    identity: np.ndarray  # [S, N], cosine to the reconstruction; NaN where it has none


def sweep(
    chain: Chain,
    photos: Photos,
    rows: np.ndarray,
    direction: np.ndarray,
    strengths: Sequence[float],
) -> Sweep:
    """Moves the rows' reconstructions along the direction by each of the strengths."""
    before, features = photos.reconstructed_probabilities[rows], photos.reconstructed_features[rows]
    after = np.zeros((len(strengths), *before.shape))
    identity = np.zeros((len(strengths), len(rows)))
    for index, strength in enumerate(strengths if len(rows) else ()):
        moved, after[index] = edits.judged(chain, photos, rows, np.float32(strength) * direction)
        identity[index] = edits._identity(features, moved)
    return Sweep(rows, tuple(strengths), before, after, identity)


def sweep_learned(chain: Chain, photos: Photos) -> dict[str, tuple[Sweep, Sweep]]:
    """Each direction's sweeps, towards what the photos lack: down those with the attribute, and
    up those without it."""
    sweeps = {}
    for name, direction in chain.directions.items():
        up = edits.rows_without(chain, photos, name)
        down = np.setdiff1d(np.arange(len(photos.labels)), up)
        fall = [-strength for strength in reversed(SWEPT)]
        sweeps[name] = (
            sweep(chain, photos, down, direction, fall),
            sweep(chain, photos, up, direction, SWEPT),
        )
    return sweeps


def sweep_random(chain: Chain, photos: Photos, draws: int = RANDOM_DRAWS) -> list[Sweep]:
    """All photos along random directions of the learned ones' mean length.

    One set for all attributes: a random direction belongs to none.
    """
    shape = next(iter(chain.directions.values())).shape
    length = np.mean([np.linalg.norm(direction) for direction in chain.directions.values()])
    rows, sweeps = np.arange(len(photos.labels)), []
    for step in np.random.default_rng(photos.seed).standard_normal((draws, *shape)):
        step = (step * length / np.linalg.norm(step)).astype(np.float32)
        sweeps.append(sweep(chain, photos, rows, step, SWEPT_RANDOM))
    return sweeps


def measure_strengths(
    chain: Chain, photos: Photos, sweeps: Mapping[str, tuple[Sweep, Sweep]]
) -> Numbers:
    """The `strengths` block: what each direction does at each strength.

    Args:
        chain: the models.
        photos: those that were swept.
        sweeps: of `sweep_learned`.
    """
    block: Numbers = {"n_photos": len(photos.labels), "seed": photos.seed, "attributes": {}}
    for name, both in sweeps.items():
        column = chain.names.index(name)
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
        "identity": mean(swept.identity[index]),
        "interval": {"target_change": change_interval, "success": success_interval},
        "n": len(swept.rows),
        "n_success": int(to_cross.sum()),
    }


def measure_preservation(
    chain: Chain,
    photos: Photos,
    learned: Mapping[str, tuple[Sweep, Sweep]],
    random: Sequence[Sweep],
) -> Numbers:
    """The `preservation` block: what stays as it was, by how far the target has moved.

    Edits of all photos at all strengths fall into bins of |target change|; in each, how many of
    the other attributes the judge still sees on the same side of 0.5, how far they have moved, and
    the identity (the protocol of Zhuang et al. 2021). Edits of one photo depend on each other, so
    the intervals draw photos.

    Args:
        chain: the models.
        photos: those that were swept.
        learned: of `sweep_learned`.
        random: of `sweep_random`; every attribute is the target of each of them in turn.
    """
    count = len(photos.labels)
    block: Numbers = {
        "strengths": {"learned": list(SWEPT), "random": list(SWEPT_RANDOM)},
        "n_photos": count,
        "draws": len(random),
        "seed": photos.seed,
    }
    sweeps = {"learned": learned, "random": dict.fromkeys(chain.directions, tuple(random))}
    for method, attributes in sweeps.items():
        edits = {
            name: np.concatenate([_edits(each, chain.names.index(name)) for each in both], axis=1)
            for name, both in attributes.items()
        }
        block[method] = {
            "all": _bins(np.concatenate([*edits.values()], axis=1), count, photos.seed),
            "attributes": {name: _bins(part, count, photos.seed) for name, part in edits.items()},
        }
    return block


def _edits(swept: Sweep, column: int) -> np.ndarray:
    """Each edit's photo, |target change|, preservation, leakage and identity, `[5, M]`."""
    size = np.abs(swept.after - swept.before)
    flipped = (swept.after > 0.5) != (swept.before > 0.5)
    return np.stack(
        [
            np.broadcast_to(swept.rows, size.shape[:2]),
            size[..., column],
            1.0 - np.delete(flipped, column, axis=-1).mean(axis=-1),
            np.delete(size, column, axis=-1).mean(axis=-1),
            swept.identity,
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
        for key, values in zip(("preserved", "leakage", "identity"), edits[2:], strict=True):
            known = inside & ~np.isnan(values)
            entry[key] = mean(values[known])
            entry["interval"][key] = None
            if known.any():
                sums = np.bincount(rows[known], values[known], photos)
                counts = np.bincount(rows[known], minlength=photos)
                draws = metrics.bootstrap_means(np.stack([sums, counts], axis=1), seed)
                whole = draws[draws[:, 1] > 0]
                entry["interval"][key] = list(metrics.interval(whole[:, 0] / whole[:, 1]))
        found.append(entry)
    return found
