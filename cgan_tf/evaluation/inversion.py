"""Measures the regressor, and the inversion in its three tiers."""

import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from cgan_tf.core.config import Config
from cgan_tf.editing import models, projection
from cgan_tf.evaluation import metrics, statistics, subject
from cgan_tf.evaluation.statistics import Numbers
from cgan_tf.evaluation.subject import BATCH, Chain, Photos

RANDOM_SAMPLES = 1000  # that a reconstruction must beat
WITHIN = 1.05  # times optimize's distance: near enough, in hybrid's seconds_to_optimize
FEATURE_BYTES = 2 * 2**30  # perceptual features of random samples that are held at once


def measure_regressor(chain: Chain, photos: Photos) -> Numbers:
    """The `regressor` block: accuracy of the regressor, the judge and of always the majority."""
    labels = photos.labels
    majority = np.broadcast_to(photos.base_rates > 0.5, labels.shape)
    answers = {
        "regressor": subject.batched(chain.score, photos.images),
        "judge": photos.probabilities,
        "majority": majority.astype(np.float32),
    }
    accuracy = {who: metrics.accuracy(scores, labels) for who, scores in answers.items()}
    balanced = {who: metrics.balanced_accuracy(scores, labels) for who, scores in answers.items()}
    block: Numbers = {"n": len(labels), "seed": photos.seed}
    for who in answers:
        block[who] = {
            "accuracy": statistics.mean(accuracy[who]),
            "balanced_accuracy": statistics.mean(balanced[who]),
        }
    block["attributes"] = {
        name: {
            "positive": statistics.number(labels[:, column].mean()),
            "accuracy": statistics.number(accuracy["regressor"][column]),
            "balanced_accuracy": statistics.number(balanced["regressor"][column]),
            "judge_accuracy": statistics.number(accuracy["judge"][column]),
            "judge_balanced_accuracy": statistics.number(balanced["judge"][column]),
        }
        for column, name in enumerate(chain.names)
    }
    return block


def measure_inversion(chain: Chain, photos: Photos, samples: int = RANDOM_SAMPLES) -> Numbers:
    """The `inversion` block of the encoder: how near reconstructions are to their photos.

    Args:
        chain: the models.
        photos: the test photos.
        samples: random samples; each photo's nearest is what its reconstruction must beat.
    """
    own = subject.batched(chain.distance, photos.images, photos.reconstructions)
    best = nearest_sample(chain, photos, samples)
    start = time.perf_counter()  # everything has been traced before
    subject.batched(lambda images: chain.generate(chain.encode(images)), photos.images)
    seconds = time.perf_counter() - start
    return {
        "encoder": {
            "psnr": statistics.mean(metrics.psnr(photos.images, photos.reconstructions)),
            "ssim": statistics.mean(metrics.ssim(photos.images, photos.reconstructions)),
            "perceptual": statistics.mean(own),
            "identity": statistics.mean(metrics.cosine(photos.features, photos.reconstructed_features)),
            "seconds_per_image": seconds / len(photos.images),
            "nearer_than_random": statistics.mean(own < best),
            "perceptual_random_best": statistics.mean(best),
            "n": len(photos.images),
            "n_random": samples,
            "seed": photos.seed,
        }
    }


def measure_projections(chain: Chain, photos: Photos, config: Config) -> Numbers:
    """The `inversion` block's hybrid and optimize, on some of the photos.

    Args:
        chain: the models.
        photos: the test photos; `eval_projections` of them are used, a choice by their seed.
        config: the run's options.
    """
    rows = subject.choose(np.arange(len(photos.images)), config.evaluate.projections, photos.seed)
    targets = photos.images[rows]
    perceptual = models.load_perceptual(config, chain.translator.regressor)
    encoder = statistics.mean(subject.batched(chain.distance, targets, photos.reconstructions[rows]))
    block = {}
    for mode in ("hybrid", "optimize"):
        settings = projection.Settings.of(config, mode)
        projector = projection.Projector(chain.generator, perceptual, settings)
        parts = projection.invert(projector, chain.translator.encoder, targets, mode)
        reached = subject.batched(chain.generate, np.concatenate([part.latents for part in parts]))
        if mode == "hybrid":
            _, seconds, curve = mean_curve(chain.generate, chain.distance, targets, parts)
        features = subject.batched(chain.judge, reached)[0]
        block[mode] = {
            "psnr": statistics.mean(metrics.psnr(targets, reached)),
            "ssim": statistics.mean(metrics.ssim(targets, reached)),
            "perceptual": statistics.mean(subject.batched(chain.distance, targets, reached)),
            "perceptual_encoder": encoder,
            "identity": statistics.mean(metrics.cosine(photos.features[rows], features)),
            "seconds_per_image": sum(part.seconds[-1] for part in parts) / len(targets),
            "n": len(targets),
            "seed": photos.seed,
        }
    near = np.flatnonzero(curve <= WITHIN * block["optimize"]["perceptual"])
    block["hybrid"]["seconds_to_optimize"] = (
        statistics.number(seconds[near[0]] / len(targets)) if len(near) else None
    )
    return block


def mean_curve(
    generate: Callable[[np.ndarray], np.ndarray],
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray],
    targets: np.ndarray,
    parts: list[projection.Projection],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How a descent came nearer: steps, seconds of all photos, mean distance, each `[T]`.

    A batch that stopped before another stays at its last point.

    Args:
        generate: images of latents.
        distance: of photos and images, `[N]`.
        targets: the photos float32 `[N, R, R, 3]`.
        parts: what `projection.invert` found for them.
    """
    points = max(len(part.steps) for part in parts)
    steps = max((part.steps for part in parts), key=len)
    seconds, curve, first = np.zeros(points), np.zeros(points), 0
    for part in parts:
        batch = targets[first : first + len(part.latents)]
        distances = [
            subject.batched(distance, batch, subject.batched(generate, latents)).sum() for latents in part.path
        ]
        missing = (0, points - len(distances))
        seconds += np.pad(part.seconds, missing, mode="edge")
        curve += np.pad(distances, missing, mode="edge")
        first += len(batch)
    return steps, seconds, curve / len(targets)


def nearest_sample(chain: Chain, photos: Photos, samples: int) -> np.ndarray:
    """Perceptual distance of each photo to the nearest of `samples` random samples, `[N]`.

    The samples' features are computed once, in blocks that fit `FEATURE_BYTES`; each block meets
    all photos by matrix products.
    """
    z = chain.generator.sample_prior(samples, seed=photos.seed).numpy()
    width = chain.flat_features(photos.images[:1]).shape[1]
    size = max(BATCH, FEATURE_BYTES // (4 * width) // BATCH * BATCH)
    best = np.full(len(photos.images), np.inf, np.float32)
    for first in range(0, samples, size):
        block = z[first : first + size]
        parts = [
            tf.constant(chain.flat_features(chain.sample(block[start : start + BATCH])))
            for start in range(0, len(block), BATCH)
        ]
        for start in range(0, len(best), BATCH):
            rows = tf.constant(chain.flat_features(photos.images[start : start + BATCH]))
            nearest = [_nearest(rows, part).numpy() for part in parts]
            best[start : start + BATCH] = np.min([best[start : start + BATCH], *nearest], axis=0)
    return best


def _nearest(rows: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Squared distance of each row `[N, D]` to the nearest of the others `[M, D]`.

    TensorFlow's product: NumPy's takes seventy times as long where D is some hundred thousand.
    """
    products = tf.matmul(rows, others, transpose_b=True)
    squares = [tf.reduce_sum(tf.square(part), axis=1) for part in (rows, others)]
    distances = squares[0][:, None] + squares[1][None, :] - 2.0 * products
    return tf.reduce_min(distances, axis=1)
