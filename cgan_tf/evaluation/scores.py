"""The regressor's scores of generated images: labels for samples of the latent space."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from cgan_tf.evaluation.batching import BATCH, batched
from cgan_tf.networks.generators import AnyGenerator


class LabelledSamples(NamedTuple):
    """Latents sampled from the prior, and R's scores of their images."""

    latents: np.ndarray  # float32 [N, *latent_shape]
    scores: np.ndarray  # float32 [N, all attributes] in [0, 1]


def label_samples(
    generator: AnyGenerator, regressor: keras.Model, count: int, seed: int
) -> LabelledSamples:
    """`count` samples of the generator's latent space with R's scores of their images."""
    latents = generator.sample_latent(count, seed=seed).numpy()
    score = scorer(generator, regressor)
    bar = tqdm(
        total=count,
        unit=" images",
        desc="labels",
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        scores = []
        for start in range(0, count, BATCH):
            scores.append(score(latents[start : start + BATCH]))
            bar.update(len(scores[-1]))
    return LabelledSamples(latents, np.concatenate(scores))


def scorer(
    generator: AnyGenerator, regressor: keras.Model, batch: int = BATCH
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from latents `[N, *latent_shape]` to R's scores of their images.

    Args:
        generator: in the space of the latents.
        regressor: R.
        batch: images per network evaluation.

    Returns:
        the function; its scores are float32 `[N, all attributes]`.
    """
    graph = tf.function(
        lambda latent: regressor(generator(latent, training=False), training=False),
        autograph=False,
        reduce_retracing=True,
    )
    return lambda latents: batched(graph, latents, batch=batch)
