"""A generator and a regressor whose attributes are linear in the latent."""

import numpy as np
import tensorflow as tf

SLOPES = np.zeros((8, 3), np.float32)  # of the logits, [latent, attributes]
SLOPES[:, 0] = [3.0, 0.0, -2.0, 0.0, 1.0, 0.0, 0.0, 0.5]
SLOPES[:, 1] = [1.0, 2.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0]
SLOPES[:, 2] = [0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0]


class TransparentGenerator:
    """The image is the latent; `spread` is the standard deviation of its coordinates."""

    def __init__(self, shape=(8,), spread=1.0):
        self.latent_shape = shape
        self.spread = np.float32(spread)

    def sample_latent(self, count, seed):
        draw = np.random.default_rng(seed)
        latents = draw.standard_normal((count, *self.latent_shape)).astype(np.float32)
        return tf.constant(latents * self.spread)

    def __call__(self, latent, training):
        assert training is False
        return latent


class LinearRegressor:
    """The logits are linear in the image."""

    def __init__(self, slopes=SLOPES, offset=0.0):
        self.slopes = tf.constant(slopes)
        self.offset = offset

    def __call__(self, images, training):
        assert training is False
        flat = tf.reshape(images, (-1, self.slopes.shape[0]))
        return tf.sigmoid(tf.cast(flat, tf.float32) @ self.slopes + self.offset)


def cosine(one, two):
    """Cosine of the angle between two arrays."""
    one, two = np.ravel(one).astype(np.float64), np.ravel(two).astype(np.float64)
    return one @ two / np.linalg.norm(one) / np.linalg.norm(two)
