"""Class differences of the latents: the first guess of a direction for each attribute."""

import numpy as np

from cgan_tf.data import ImageData, pipeline
from cgan_tf.networks.encoder import Encoder

PHOTOS = 2000  # of the training split, at most
BATCH = 50  # photos per call of the encoder


def class_differences(encoder: Encoder, dataset: ImageData) -> tuple[np.ndarray, np.ndarray]:
    """Mean latent of the photos with an attribute minus that of those without, for each attribute.

    Args:
        encoder: photos to latents.
        dataset: its first `PHOTOS` training photos are used.

    Returns:
        float32 `[K, *latent_shape]`, 0 where all of these photos have the attribute, or none; and
        how many of them are in the smaller class of each attribute, int `[K]`.
    """
    rows = dataset.splits["train"][:PHOTOS]
    latents = np.concatenate(
        [
            encoder(batch, training=False).numpy()
            for batch in pipeline.sequential_batches(dataset, rows, BATCH)
        ]
    )
    labels = dataset.labels[rows] > 0.5  # [N, K]
    least = np.minimum(labels.sum(axis=0), (~labels).sum(axis=0))
    differences = np.zeros((labels.shape[1], *latents.shape[1:]), np.float32)
    for column in np.flatnonzero(least):
        has = labels[:, column]
        differences[column] = latents[has].mean(axis=0) - latents[~has].mean(axis=0)
    return differences, least
