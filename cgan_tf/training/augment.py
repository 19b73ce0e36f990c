"""Augmentation: of photos for the attribute networks, and of what the discriminator sees.

`jitter` is for the regressor and the judge. `diff_augment` changes reals and fakes alike before D,
and gradients pass through it to G: D cannot learn few photos by heart, and G does not learn the
changes (DiffAugment, Zhao et al. 2020). With a probability below 1 and steered by how sure D is of
the reals it is ADA (Karras et al. 2020), with DiffAugment's changes in the place of its own.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from cgan_tf.core import replicas

# DiffAugment's ranges, for images in [-1, 1].
TRANSLATION = 1 / 8  # of the side, at most, in either direction
CUTOUT = 1 / 2  # side of the grey square, of the image's
ADA_MEMORY = 0.5 ** (1 / 256)  # per image: the sign of D on reals is a mean over some 256 / ln 2

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
    every = count * replicas.count()  # drawn for the global batch
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


def color(images: tf.Tensor, draw: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Brightness by up to half of the half range, saturation by 0 to 2, contrast by 0.5 to 1.5.

    Args:
        images: float32 `[N, H, W, 3]` in [-1, 1]; the result may leave the range.
        draw: `[N, 3]` in [0, 1); 0.5 everywhere changes nothing.
        chosen: `[N]`, 1 for the images to change, 0 for the others.
    """
    size = (draw - 0.5) * chosen[:, None]  # [N, 3] in [-0.5, 0.5)
    brightness, saturation, contrast = (size[:, k, None, None, None] for k in range(3))
    images += brightness
    gray = tf.reduce_mean(images, axis=3, keepdims=True)
    images = gray + (images - gray) * (1.0 + 2.0 * saturation)
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    return mean + (images - mean) * (1.0 + contrast)


def translation(images: tf.Tensor, draw: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Shifts each image by whole pixels, up to an eighth of the side; what comes in is grey (0).

    By products with shifted unit matrices, whose gradient is one more product; a gather's is a slow
    scatter.

    Args:
        images: float32 `[N, H, W, 3]`, H = W.
        draw: `[N, 2]` in [0, 1): down and right.
        chosen: `[N]`, 1 for the images to change, 0 for the others.
    """
    side = images.shape[1]
    most = round(side * TRANSLATION)
    offset = tf.floor(draw * (2 * most + 1)) - most  # [N, 2] in [-most, most]
    source = tf.range(side)[None, :, None] - tf.cast(offset * chosen[:, None], tf.int32)[:, None, :]
    # [N, to, from], by rows and by columns; outside of the image one_hot is 0.
    rows, columns = (tf.one_hot(source[:, :, axis], side) for axis in (0, 1))
    return tf.einsum("nij,njwc,nkw->nikc", rows, images, columns)


def cutout(images: tf.Tensor, draw: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Turns a square of half the side grey (0); its centre may be anywhere in the image.

    Args:
        images: float32 `[N, H, W, 3]`, H = W.
        draw: `[N, 2]` in [0, 1): the centre, down and right.
        chosen: `[N]`, 1 for the images to change, 0 for the others.
    """
    side = images.shape[1]
    half = side * CUTOUT / 2
    centre = tf.floor(draw * side) + 0.5  # [N, 2]
    place = tf.range(side, dtype=tf.float32)[None, :, None] + 0.5
    inside = tf.cast(tf.abs(place - centre[:, None, :]) < half, tf.float32)  # [N, side, 2]
    hole = inside[:, :, None, 0] * inside[:, None, :, 1] * chosen[:, None, None]  # [N, H, W]
    return images * (1.0 - hole)[..., None]


# What --gan_augment_ops names, with the number of draws that each takes.
OPS = {"color": (color, 3), "translation": (translation, 2), "cutout": (cutout, 2)}


def diff_augment(
    images: tf.Tensor,
    ops: Sequence[str],
    probability: tf.Tensor | float,
    seed: keras.random.SeedGenerator,
) -> tf.Tensor:
    """Each op changes each image with a probability; gradients pass through.

    Args:
        images: float32 `[N, H, W, 3]` in [-1, 1], H = W.
        ops: names of `OPS`, in the order in which they are applied.
        probability: of each op and image, by itself.
        seed: advances by the draws.

    Returns:
        The same shape; the colours may leave the range.
    """
    count = images.shape[0]
    for name in ops:
        op, draws = OPS[name]
        draw = keras.random.uniform((count * replicas.count(), draws + 1), seed=seed)
        draw = replicas.own_rows(draw)
        chosen = tf.cast(draw[:, -1] < probability, tf.float32)
        images = op(images, draw[:, :-1], chosen)
    return images
