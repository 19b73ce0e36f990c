"""DCGAN generator and discriminator (Radford et al. 2015) for any power-of-two resolution.

The side of the feature maps doubles (generator) or halves (discriminator) per level between 4 px
and the image. The number of channels is `width` at half the resolution and doubles as the side
halves, up to `MOST_CHANNELS`.
"""

import math

import keras
import tensorflow as tf
from keras import layers

from cgan_tf.networks import convolution, equalized
from cgan_tf.networks.generators import ZGenerator
from cgan_tf.networks.normalization import BatchNormalization

LOWEST = 4  # px, side of the coarsest feature map
SLOPE = 0.2  # of the leaky ReLUs
MOST_CHANNELS = 512  # of a level; without a limit, each doubling of the side quadruples the weights


def level_widths(resolution: int, width: int) -> list[int]:
    """Channels of the feature maps at 4 px, 8 px, ... resolution / 2, coarsest first."""
    levels = int(math.log2(resolution // LOWEST))
    most = max(width, MOST_CHANNELS)
    return [min(width * 2 ** (levels - 1 - level), most) for level in range(levels)]


class LayerFactory:
    """Makes a network's dense layers and its convolutions, 4 px with stride 2."""

    def __init__(self, equalized_lr: bool, initializer, dtype: str) -> None:
        self.dense_layer = equalized.Dense if equalized_lr else layers.Dense
        self.module = equalized if equalized_lr else convolution
        # Layers with an equalized learning rate have their own initializer.
        self.options = {"dtype": dtype}
        if not equalized_lr:
            self.options["kernel_initializer"] = initializer
        self.padding = () if equalized_lr else ("same",)

    def dense(self, units: int, use_bias: bool = True) -> layers.Layer:
        return self.dense_layer(units, use_bias=use_bias, **self.options)

    def convolution(self, channels: int, use_bias: bool = True) -> layers.Layer:
        return self.module.Conv2D(channels, 4, 2, *self.padding, use_bias=use_bias, **self.options)

    def transposed(self, channels: int, use_bias: bool = True) -> layers.Layer:
        return self.module.Conv2DTranspose(
            channels, 4, 2, *self.padding, use_bias=use_bias, **self.options
        )


def generator_layers(equalized_lr: bool, dtype: str) -> LayerFactory:
    """The layers of a generator."""
    return LayerFactory(equalized_lr, keras.initializers.RandomNormal(stddev=0.02), dtype)


class Generator(ZGenerator):
    """Latent to image: a dense layer to 4 px, then transposed convolutions with normalization.

    Args:
        resolution: side of the image in px, a power of two from 8.
        z_dim: size of the latent.
        width: channels at half the resolution.
        prior: distribution of z, "normal" N(0, I) or "uniform" U(-1, 1).
        norm: "batch" or "pixel".
        equalized_lr: use the layers of `networks.equalized`.
        dtype: dtype policy of the computation; the image is always float32.

    Call arguments:
        latent: float32 `[N, z_dim]`.

    Returns:
        float32 `[N, resolution, resolution, 3]` in [-1, 1].
    """

    def __init__(
        self,
        resolution: int,
        z_dim: int,
        width: int,
        prior: str = "normal",
        norm: str = "batch",
        equalized_lr: bool = False,
        dtype: str = "float32",
        name: str = "generator",
    ) -> None:
        make = generator_layers(equalized_lr, dtype)

        def normalize(x: keras.KerasTensor) -> keras.KerasTensor:
            if norm == "pixel":
                return equalized.PixelNorm(dtype=dtype)(x)
            return BatchNormalization(momentum=0.9, dtype=dtype)(x)

        widths = level_widths(resolution, width)
        latent = keras.Input((z_dim,), name="latent")
        # Batch norm has its own bias.
        x = make.dense(LOWEST * LOWEST * widths[0], use_bias=norm != "batch")(latent)
        x = layers.Reshape((LOWEST, LOWEST, widths[0]), dtype=dtype)(x)  # [N, 4, 4, C]
        x = layers.LeakyReLU(SLOPE, dtype=dtype)(normalize(x))
        maps = {LOWEST: x}
        for channels in widths[1:]:
            x = make.transposed(channels, use_bias=norm != "batch")(x)
            x = layers.LeakyReLU(SLOPE, dtype=dtype)(normalize(x))
            maps[x.shape[1]] = x  # up to [N, R/2, R/2, width]
        x = make.transposed(3)(x)
        image = layers.Activation("tanh", dtype="float32", name="image")(x)  # [N, R, R, 3]
        super().__init__(latent, image, name=name)

        self.maps = maps
        self.cuts = {side: [x] for side, x in maps.items()}
        self.resolution = resolution
        self.z_dim = z_dim
        self.width = width
        self.prior = prior
        self.norm = norm
        self.equalized_lr = equalized_lr

    def get_config(self) -> dict:
        return super().get_config() | {"equalized_lr": self.equalized_lr}


class MinibatchStd(layers.Layer):
    """Appends one channel: the standard deviation within a group of images (Karras et al. 2018).

    A group is `group` consecutive images, so that replicas that share a batch hold complete groups;
    the batch size must be divisible by it. The statistic is computed in float32.
    """

    def __init__(self, group: int = 4, **kwargs) -> None:
        super().__init__(**kwargs)
        self.group = group

    def call(self, x: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(x)
        grouped = tf.reshape(tf.cast(x, tf.float32), (-1, self.group, *x.shape[1:]))
        grouped -= tf.reduce_mean(grouped, axis=1, keepdims=True)
        deviation = tf.sqrt(tf.reduce_mean(tf.square(grouped), axis=1) + 1e-8)  # [M, H, W, C]
        statistic = tf.reduce_mean(deviation, axis=(1, 2, 3), keepdims=True)  # [M, 1, 1, 1]
        statistic = tf.repeat(tf.cast(statistic, x.dtype), self.group, axis=0)  # [N, 1, 1, 1]
        statistic = tf.tile(statistic, (1, shape[1], shape[2], 1))
        return tf.concat([x, statistic], axis=-1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], input_shape[-1] + 1)


def from_rgb(
    image: keras.KerasTensor, channels: int, norm: str, equalized_lr: bool, dtype: str
) -> keras.KerasTensor:
    """A discriminator's first layer: maps of half the image's side, without batch norm."""
    make = _discriminator_layers(norm, equalized_lr, dtype)
    x = _normalized(make.convolution(channels), norm, dtype)(image)
    return layers.LeakyReLU(SLOPE, dtype=dtype)(x)


def _discriminator_layers(norm: str, equalized_lr: bool, dtype: str) -> LayerFactory:
    # Without normalization the initializer must preserve the scale of the signal.
    initializer = keras.initializers.RandomNormal(stddev=0.02) if norm == "batch" else "he_normal"
    return LayerFactory(equalized_lr, initializer, dtype)


def _normalized(layer: layers.Layer, norm: str, dtype: str) -> layers.Layer:
    """The layer, with spectral normalization if that is the norm."""
    return layers.SpectralNormalization(layer, dtype=dtype) if norm == "spectral" else layer


class Discriminator(keras.Model):
    """Image to logit: strided convolutions down to 4 px, then one dense layer.

    Args:
        resolution: side of the image in px.
        width: channels at half the resolution.
        norm: "none", "batch" (not on the first layer) or "spectral" (Miyato et al. 2018).
        minibatch_std: append the minibatch standard deviation before the dense layer.
        equalized_lr: use the layers of `networks.equalized`.
        dtype: dtype policy of the computation; the logits are always float32.

    Call arguments:
        image: float32 `[N, resolution, resolution, 3]` in [-1, 1].

    Returns:
        Raw logits, float32 `[N, 1]`.
    """

    def __init__(
        self,
        resolution: int,
        width: int,
        norm: str = "none",
        minibatch_std: bool = True,
        equalized_lr: bool = False,
        dtype: str = "float32",
        name: str = "discriminator",
    ) -> None:
        make = _discriminator_layers(norm, equalized_lr, dtype)
        first, *widths = reversed(level_widths(resolution, width))
        image = keras.Input((resolution, resolution, 3), name="image")
        x = from_rgb(image, first, norm, equalized_lr, dtype)
        maps = {resolution // 2: x}
        for channels in widths:
            layer = make.convolution(channels, use_bias=norm != "batch")
            x = _normalized(layer, norm, dtype)(x)
            if norm == "batch":
                x = BatchNormalization(penalized=True, momentum=0.9, dtype=dtype)(x)
            x = layers.LeakyReLU(SLOPE, dtype=dtype)(x)
            maps[x.shape[1]] = x
        if minibatch_std:
            x = MinibatchStd(dtype=dtype)(x)
        x = layers.Flatten(dtype=dtype)(x)
        x = _normalized(make.dense(1), norm, dtype)(x)
        logits = layers.Activation("linear", dtype="float32", name="logits")(x)  # [N, 1]
        super().__init__(image, logits, name=name)

        self.maps = maps
        self.resolution = resolution
        self.width = width
        self.norm = norm
        self.minibatch_std = minibatch_std
        self.equalized_lr = equalized_lr

    def get_config(self) -> dict:
        return {
            "resolution": self.resolution,
            "width": self.width,
            "norm": self.norm,
            "minibatch_std": self.minibatch_std,
            "equalized_lr": self.equalized_lr,
        }
