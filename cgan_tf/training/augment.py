"""Augmentation of photos for the attribute networks, and of the discriminator's input.

`jitter` is for the regressor and the judge. `diff_augment` augments both reals and fakes before D,
and gradients pass through it to G: D cannot memorize few photos, and G does not learn the
augmentations (DiffAugment, Zhao et al. 2020). With a probability that follows D's overfitting it is
ADA (Karras et al. 2020a), with the augmentations of DiffAugment instead of ADA's own.
"""

import keras
import tensorflow as tf

from cgan_tf.core import replicas

# DiffAugment's ranges, for images in [-1, 1].
TRANSLATION = 1 / 8  # maximum shift, as a fraction of the side
ADA_DECAY = 0.5 ** (1 / 256)  # per image, of the moving average of the sign of D on reals

# Ranges of `jitter`.
SHIFT = 1 / 16  # maximum shift, as a fraction of the side
BRIGHTNESS = 0.2  # maximum change
CONTRAST = 0.2  # maximum relative change


def jitter(images: tf.Tensor, seed: keras.random.SeedGenerator) -> tf.Tensor:
    """Shifts each image by whole pixels, and changes its brightness and contrast slightly.

    Args:
        images: float32 `[N, H, W, 3]` in [-1, 1].
        seed: generator of the random numbers.

    Returns:
        The same shape and range.
    """
    count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    pad = round(height * SHIFT)
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]], "REFLECT")
    every = count * replicas.count()  # sampled for the global batch
    offsets = keras.random.randint((2, every, 1), 0, 2 * pad + 1, seed=seed)
    offsets = replicas.own_rows(offsets, axis=1)
    rows = tf.cast(offsets[0], tf.int32) + tf.range(height)  # [N, H]
    columns = tf.cast(offsets[1], tf.int32) + tf.range(width)  # [N, W]
    shifted = tf.gather(padded, rows, axis=1, batch_dims=1)
    shifted = tf.gather(tf.transpose(shifted, (0, 2, 1, 3)), columns, axis=1, batch_dims=1)
    shifted = tf.transpose(shifted, (0, 2, 1, 3))
    brightness = keras.random.uniform((every, 1, 1, 1), -BRIGHTNESS, BRIGHTNESS, seed=seed)
    contrast = keras.random.uniform((every, 1, 1, 1), 1 - CONTRAST, 1 + CONTRAST, seed=seed)
    brightness, contrast = replicas.own_rows(brightness), replicas.own_rows(contrast)
    mean = tf.reduce_mean(shifted, axis=(1, 2, 3), keepdims=True)
    return tf.clip_by_value((shifted - mean) * contrast + mean + brightness, -1.0, 1.0)


def crop(images: tf.Tensor, corner: tf.Tensor, side: int) -> tf.Tensor:
    """The same window of all images, `[N, side, side, C]`.

    A slice with a variable corner would make XLA compile the training step anew for each corner.

    Args:
        images: `[N, H, W, C]`.
        corner: the window's upper left one, int32 `[2]`.
        side: of the window, in px.
    """
    return tf.roll(images, -corner, (1, 2))[:, :side, :side]


def color(images: tf.Tensor, uniform: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Random brightness (plus -0.5 to 0.5), saturation (times 0 to 2), contrast (times 0.5 to 1.5).

    Args:
        images: float32 `[N, H, W, 3]` in [-1, 1]; the result may leave the range.
        uniform: random numbers `[N, 3]` in [0, 1); 0.5 everywhere is the identity.
        chosen: `[N]`, 1 for the images to augment, 0 for the others.
    """
    size = (uniform - 0.5) * chosen[:, None]  # [N, 3] in [-0.5, 0.5)
    brightness, saturation, contrast = (size[:, k, None, None, None] for k in range(3))
    images += brightness
    gray = tf.reduce_mean(images, axis=3, keepdims=True)
    images = gray + (images - gray) * (1.0 + 2.0 * saturation)
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    return mean + (images - mean) * (1.0 + contrast)


def translation(images: tf.Tensor, uniform: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Shifts each image by whole pixels, up to an eighth of the side, and pads with gray (0).

    Multiplies by shifted identity matrices, whose gradient is another product; the gradient of a
    gather would be a slow scatter.

    Args:
        images: float32 `[N, H, W, 3]`, H = W.
        uniform: random numbers `[N, 2]` in [0, 1): shift down and right.
        chosen: `[N]`, 1 for the images to augment, 0 for the others.
    """
    side = images.shape[1]
    limit = round(side * TRANSLATION)
    offset = tf.floor(uniform * (2 * limit + 1)) - limit  # [N, 2] in [-limit, limit]
    source = tf.range(side)[None, :, None] - tf.cast(offset * chosen[:, None], tf.int32)[:, None, :]
    # [N, target, source] for rows and columns; one_hot is 0 outside of the image.
    rows, columns = (tf.one_hot(source[:, :, axis], side) for axis in (0, 1))
    return tf.einsum("nij,njwc,nkw->nikc", rows, images, columns)


# The augmentations in their order, and how many random numbers each needs per image.
OPS = {"color": (color, 3), "translation": (translation, 2)}


def diff_augment(
    images: tf.Tensor,
    probability: tf.Tensor | float,
    seed: keras.random.SeedGenerator,
) -> tf.Tensor:
    """Applies each of `OPS` to each image with a probability; gradients pass through.

    DiffAugment (Zhao et al. 2020) without its third operation, cutout: on 1,000 faces it cost more
    than it gained.

    Args:
        images: float32 `[N, H, W, 3]` in [-1, 1], H = W.
        probability: of each op on each image, independently.
        seed: generator of the random numbers.

    Returns:
        The same shape; the colors may leave the range.
    """
    count = images.shape[0]
    for op, needed in OPS.values():
        uniform = keras.random.uniform((count * replicas.count(), needed + 1), seed=seed)
        uniform = replicas.own_rows(uniform)
        chosen = tf.cast(uniform[:, -1] < probability, tf.float32)
        images = op(images, uniform[:, :-1], chosen)
    return images
