"""Measures the inversion: the encoder's reconstructions, and those of hybrid and optimize."""

import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from cgan_tf.core.config import Config
from cgan_tf.editing import projection
from cgan_tf.editing.models import load_perceptual
from cgan_tf.evaluation import metrics, statistics
from cgan_tf.evaluation.batching import BATCH, batched, choose
from cgan_tf.evaluation.evaluated import EvaluatedModels, TestPhotos
from cgan_tf.evaluation.statistics import Numbers

RANDOM_SAMPLES = 500  # the closest of them is what a reconstruction is compared with
MATCHED = 1.05  # times optimize's distance: matched, for hybrid's seconds_to_match_optimize
FEATURE_BYTES = 2 * 2**30  # memory for the perceptual features of random samples


def measure_encoder(
    models: EvaluatedModels, photos: TestPhotos, samples: int = RANDOM_SAMPLES
) -> Numbers:
    """The `encoder` entry of the `inversion` block: how close reconstructions are to the photos.

    Args:
        models: of the run.
        photos: the test photos.
        samples: random samples; the one closest to a photo is the baseline of its reconstruction.
    """
    own = batched(models.distance, photos.images, photos.reconstructions)
    best = closest_sample_distance(models, photos, samples)
    models.invert(photos.images[:BATCH])  # traces it
    start = time.perf_counter()
    batched(models.invert, photos.images)
    seconds = time.perf_counter() - start
    everyone = np.arange(len(photos.images))
    mirrored, _ = batched(models.judge, photos.images[:, :, ::-1])
    return {
        "psnr": statistics.mean(metrics.psnr(photos.images, photos.reconstructions)),
        "ssim": statistics.mean(metrics.ssim(photos.images, photos.reconstructions)),
        "perceptual": statistics.mean(own),
        "retrieval": statistics.mean(photos.found(everyone, photos.reconstructed_features)),
        "retrieval_floor": photos.gallery.chance,
        "retrieval_ceiling": statistics.mean(photos.found(everyone, mirrored)),
        **same_person(photos, everyone, photos.reconstructions),
        "seconds_per_image": seconds / len(photos.images),
        "closer_than_random": statistics.mean(own < best),
        "perceptual_random_best": statistics.mean(best),
        "n": len(photos.images),
        "n_random": samples,
        "seed": photos.seed,
    }


def measure_projections(models: EvaluatedModels, photos: TestPhotos, config: Config) -> Numbers:
    """The entries `hybrid` and `optimize` of the `inversion` block, on some of the photos.

    Args:
        models: of the run.
        photos: the test photos; a seeded choice of `--evaluate_projections` is used.
        config: the run's options.
    """
    rows = choose(np.arange(len(photos.images)), config.evaluate.projections, photos.seed)
    targets = photos.images[rows]
    perceptual = load_perceptual(config, models.network.regressor)
    encoder = statistics.mean(batched(models.distance, targets, photos.reconstructions[rows]))
    block = {}
    for mode in ("hybrid", "optimize"):
        settings = projection.Settings.of(config, mode)
        projector = projection.Projector(models.network.codec, perceptual, settings)
        parts = projection.invert(projector, targets, mode)
        images = np.concatenate([batched(models.reconstruct, *part.path[-1]) for part in parts])
        if mode == "hybrid":
            _, seconds, curve = mean_curve(models.reconstruct, models.distance, targets, parts)
        features = batched(models.judge, images)[0]
        block[mode] = {
            "psnr": statistics.mean(metrics.psnr(targets, images)),
            "ssim": statistics.mean(metrics.ssim(targets, images)),
            "perceptual": statistics.mean(batched(models.distance, targets, images)),
            "perceptual_encoder": encoder,
            "retrieval": statistics.mean(photos.found(rows, features)),
            **same_person(photos, rows, images),
            "seconds_per_image": sum(part.seconds[-1] for part in parts) / len(targets),
            "n": len(targets),
            "seed": photos.seed,
        }
    matched = np.flatnonzero(curve <= MATCHED * block["optimize"]["perceptual"])
    block["hybrid"]["seconds_to_match_optimize"] = (
        statistics.number(seconds[matched[0]] / len(targets)) if len(matched) else None
    )
    return block


def same_person(photos: TestPhotos, rows: np.ndarray, images: np.ndarray) -> Numbers:
    """The shares of the rows' images that show their photos' people, with a recognizer."""
    found = photos.same_person(rows, images)
    return {key: statistics.mean(values) for key, values in found.items()}


def mean_curve(
    reconstruct: Callable[[np.ndarray, np.ndarray], np.ndarray],
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray],
    targets: np.ndarray,
    parts: list[projection.Projection],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The progress of an optimization: steps, total seconds and mean distance, each `[T]`.

    A batch that stopped before another one keeps its last point.

    Args:
        reconstruct: latents and features to images.
        distance: of photos and images, `[N]`.
        targets: the photos float32 `[N, R, R, 3]`.
        parts: the results of `projection.invert` for them.
    """
    points = max(len(part.steps) for part in parts)
    steps = max((part.steps for part in parts), key=len)
    seconds, curve, first = np.zeros(points), np.zeros(points), 0
    for part in parts:
        batch = targets[first : first + len(part.latents)]
        distances = [
            batched(distance, batch, batched(reconstruct, *code)).sum() for code in part.path
        ]
        missing = (0, points - len(distances))
        seconds += np.pad(part.seconds, missing, mode="edge")
        curve += np.pad(distances, missing, mode="edge")
        first += len(batch)
    return steps, seconds, curve / len(targets)


def closest_sample_distance(
    models: EvaluatedModels, photos: TestPhotos, samples: int
) -> np.ndarray:
    """Perceptual distance of each photo to the closest of `samples` random samples, `[N]`.

    The samples' features are computed once, in blocks that fit `FEATURE_BYTES`; matrix products
    compare each block with all photos.
    """
    z = models.generator.sample_prior(samples, seed=photos.seed).numpy()
    width = models.flat_features(photos.images[:1]).shape[1]
    size = max(BATCH, FEATURE_BYTES // (4 * width) // BATCH * BATCH)
    best = np.full(len(photos.images), np.inf, np.float32)
    for first in range(0, samples, size):
        block = z[first : first + size]
        parts = [
            tf.constant(models.flat_features(models.sample(block[start : start + BATCH])))
            for start in range(0, len(block), BATCH)
        ]
        for start in range(0, len(best), BATCH):
            rows = tf.constant(models.flat_features(photos.images[start : start + BATCH]))
            closest = [_closest(rows, part).numpy() for part in parts]
            best[start : start + BATCH] = np.min([best[start : start + BATCH], *closest], axis=0)
    return best


def _closest(rows: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Squared distance of each row `[N, D]` to the closest of the others `[M, D]`.

    With TensorFlow's matrix product: NumPy's takes seventy times as long at D of some 100,000.
    """
    products = tf.matmul(rows, others, transpose_b=True)
    squares = [tf.reduce_sum(tf.square(part), axis=1) for part in (rows, others)]
    distances = squares[0][:, None] + squares[1][None, :] - 2.0 * products
    return tf.reduce_min(distances, axis=1)
