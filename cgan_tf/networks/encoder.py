"""The encoder: image to latent, as an offset from the mean latent (Richardson et al. 2021)."""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import layers

from cgan_tf.networks.dcgan import SLOPE, level_widths
from cgan_tf.networks.normalization import BatchNormalization


class AddMean(layers.Layer):
    """Adds the mean latent, a non-trainable weight."""

    def build(self, input_shape: tuple) -> None:
        self.mean = self.add_weight(
            shape=input_shape[1:], initializer="zeros", trainable=False, name="mean"
        )

    def call(self, offset: tf.Tensor) -> tf.Tensor:
        return offset + self.mean


def _convolution(x: tf.Tensor, channels: int, side: int, strides: int, dtype: str) -> tf.Tensor:
    """A convolution and batch norm, without activation."""
    x = layers.Conv2D(
        channels,
        side,
        strides,
        "same",
        use_bias=False,
        kernel_initializer="he_normal",
        dtype=dtype,
    )(x)
    return BatchNormalization(momentum=0.95, dtype=dtype)(x)


class Encoder(keras.Model):
    """Strided convolutions with batch norm down to 4 px, then two dense layers.

    Args:
        resolution: side of the image in px.
        latent_shape: shape of one latent.
        width: channels at half the resolution.
        dtype: dtype policy of the computation; the latent is always float32.

    Call arguments:
        image: float32 `[N, resolution, resolution, 3]` in [-1, 1].

    Returns:
        latent float32 `[N, *latent_shape]`.
    """

    def __init__(
        self,
        resolution: int,
        latent_shape: Sequence[int],
        width: int,
        dtype: str = "float32",
        name: str = "encoder",
    ) -> None:
        image = keras.Input((resolution, resolution, 3), name="image")
        x = image
        for channels in reversed(level_widths(resolution, width)):
            x = _convolution(x, channels, 4, 2, dtype)
            x = layers.LeakyReLU(SLOPE, dtype=dtype)(x)
        x = layers.Flatten(dtype=dtype)(x)  # [N, 4 * 4 * C]
        # Four times the size of one latent vector, however many vectors a latent has.
        x = layers.Dense(4 * latent_shape[-1], kernel_initializer="he_normal", dtype=dtype)(x)
        x = layers.LeakyReLU(SLOPE, dtype=dtype)(x)
        offset = layers.Dense(math.prod(latent_shape), dtype="float32", name="offset")(x)
        offset = layers.Reshape(latent_shape, dtype="float32")(offset)
        add_mean = AddMean(dtype="float32", name="latent")
        super().__init__(image, add_mean(offset), name=name)

        self.add_mean = add_mean
        self.resolution = resolution
        self.latent_shape = tuple(latent_shape)
        self.width = width

    def get_config(self) -> dict:
        return {
            "resolution": self.resolution,
            "latent_shape": list(self.latent_shape),
            "width": self.width,
        }
