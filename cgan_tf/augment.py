"""Augmentation of photos for the attribute networks (the regressor and the judge)."""

import keras
import tensorflow as tf

SHIFT = 1 / 16  # of the side, at most, in either direction
BRIGHTNESS = 0.2  # of the half range
CONTRAST = 0.2


def jitter(images: tf.Tensor, seed: keras.random.SeedGenerator) -> tf.Tensor:
    """Shifts each image by whole pixels and changes its brightness and contrast a little.

    Args:
        images: float32 `[N, H, W, 3]` in [-1, 1].
        seed: advances by the draws.

    Returns:
        The same shape and range.
    """
    count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    pad = round(height * SHIFT)
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]], "REFLECT")
    offsets = keras.random.randint((2, count, 1), 0, 2 * pad + 1, seed=seed)
    rows = tf.cast(offsets[0], tf.int32) + tf.range(height)  # [N, H]
    columns = tf.cast(offsets[1], tf.int32) + tf.range(width)  # [N, W]
    shifted = tf.gather(padded, rows, axis=1, batch_dims=1)
    shifted = tf.gather(tf.transpose(shifted, (0, 2, 1, 3)), columns, axis=1, batch_dims=1)
    shifted = tf.transpose(shifted, (0, 2, 1, 3))
    brightness = keras.random.uniform((count, 1, 1, 1), -BRIGHTNESS, BRIGHTNESS, seed=seed)
    contrast = keras.random.uniform((count, 1, 1, 1), 1 - CONTRAST, 1 + CONTRAST, seed=seed)
    mean = tf.reduce_mean(shifted, axis=(1, 2, 3), keepdims=True)
    return tf.clip_by_value((shifted - mean) * contrast + mean + brightness, -1.0, 1.0)
