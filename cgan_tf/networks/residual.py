"""Residual generator and discriminator, for 128 px and more, where the DCGAN is too shallow.

Each level has two convolutions on a residual branch and a linear shortcut (He et al. 2016; in GANs
Gulrajani et al. 2017). Both work at the lower resolution of the level, at which a DCGAN's single
convolution costs as much. The last convolution of a branch starts at zero, so that the networks
begin as their shortcuts; with it the discriminator needs no normalization (Huang et al. 2024). The
image is a sum over the levels (Karras et al. 2020). As in `networks.dcgan`, the maps end at half
the resolution: maps of the image's side would cost as much as all others together.
"""

import keras
import tensorflow as tf
from keras import layers

from cgan_tf.networks import convolution, equalized
from cgan_tf.networks.dcgan import LOWEST, SLOPE, MinibatchStd, level_widths
from cgan_tf.networks.generators import ZGenerator
from cgan_tf.networks.normalization import BatchNormalization

SHORTCUT = "lecun_normal"  # initializer that keeps the variance, where no ReLU follows


class Repeat(layers.Layer):
    """Repeats each pixel: `[N, H, W, C]` to `[N, 2H, 2W, C]`.

    By concatenation: unlike that of a resize, its gradient is deterministic on every device.
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        _, height, width, channels = x.shape
        rows = tf.reshape(tf.concat([x, x], axis=-1), (-1, height, 2 * width * channels))
        return tf.reshape(tf.concat([rows, rows], axis=-1), (-1, 2 * height, 2 * width, channels))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        count, height, width, channels = input_shape
        return (count, 2 * height, 2 * width, channels)


class ResidualGenerator(ZGenerator):
    """Latent to image: a dense layer to 4 px, then a residual block per level.

    A block, from C to F channels: normalization and leaky ReLU, a 3 px convolution to F channels,
    again both, then upsampling with a 3 px convolution; the shortcut is a 1 px convolution whose
    pixels are repeated. Each level's maps give an image of twice their side, which is added to the
    upsampled image of the level before.

    Args:
        resolution: side of the image in px, a power of two from 8.
        z_dim: size of the latent.
        width: channels at half the resolution.
        prior: distribution of z, "normal" N(0, I) or "uniform" U(-1, 1).
        norm: "batch" or "pixel".
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
        dtype: str = "float32",
        name: str = "generator",
    ) -> None:
        def activate(x: keras.KerasTensor) -> keras.KerasTensor:
            if norm == "pixel":
                x = equalized.PixelNorm(dtype=dtype)(x)
            else:
                x = BatchNormalization(momentum=0.9, dtype=dtype)(x)
            return layers.LeakyReLU(SLOPE, dtype=dtype)(x)

        def block(
            x: keras.KerasTensor, activated: keras.KerasTensor, channels: int
        ) -> keras.KerasTensor:
            branch = layers.Conv2D(
                channels,
                3,
                padding="same",
                use_bias=norm != "batch",  # batch norm has its own
                kernel_initializer="he_normal",
                dtype=dtype,
            )(activated)
            branch = convolution.UpsampledConv2D(channels, kernel_initializer="zeros", dtype=dtype)(
                activate(branch)
            )
            shortcut = layers.Conv2D(channels, 1, kernel_initializer=SHORTCUT, dtype=dtype)(x)
            return layers.Add(dtype=dtype)([Repeat(dtype=dtype)(shortcut), branch])

        def to_image(x: keras.KerasTensor) -> keras.KerasTensor:
            small = keras.initializers.RandomNormal(stddev=0.02)
            x = convolution.Conv2DTranspose(3, 4, 2, "same", kernel_initializer=small, dtype=dtype)(
                x
            )
            return layers.Activation("linear", dtype="float32")(x)

        widths = level_widths(resolution, width)
        latent = keras.Input((z_dim,), name="latent")
        x = layers.Dense(
            LOWEST * LOWEST * widths[0], kernel_initializer=SHORTCUT, dtype=dtype, name="first"
        )(latent)
        x = layers.Reshape((LOWEST, LOWEST, widths[0]), dtype=dtype)(x)  # [N, 4, 4, C]
        maps, cuts = {LOWEST: activate(x)}, {}
        image = to_image(maps[LOWEST])  # [N, 8, 8, 3]
        for channels in widths[1:]:
            x = block(x, maps[x.shape[1]], channels)
            cuts[x.shape[1]] = [x, image]
            maps[x.shape[1]] = activate(x)  # up to [N, R/2, R/2, width]
            upsampled = layers.UpSampling2D(interpolation="bilinear", dtype="float32")(image)
            image = layers.Add(dtype="float32")([upsampled, to_image(maps[x.shape[1]])])
        image = layers.Activation("tanh", dtype="float32", name="image")(image)  # [N, R, R, 3]
        super().__init__(latent, image, name=name)

        self.maps = maps
        self.cuts = cuts
        self.resolution = resolution
        self.z_dim = z_dim
        self.width = width
        self.prior = prior
        self.norm = norm


class ResidualDiscriminator(keras.Model):
    """Image to logit: a strided convolution, a residual block per level to 4 px, a dense layer.

    A block, from C to F channels: leaky ReLU, a strided 4 px convolution to C channels, leaky ReLU,
    and a 3 px convolution to F channels; the shortcut averages 2 x 2 pixels before a 1 px
    convolution.

    Args:
        resolution: side of the image in px.
        width: channels at half the resolution.
        minibatch_std: append the minibatch standard deviation before the dense layer.
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
        minibatch_std: bool = True,
        dtype: str = "float32",
        name: str = "discriminator",
    ) -> None:
        def halve(x: keras.KerasTensor, channels: int) -> keras.KerasTensor:
            return convolution.Conv2D(
                channels, 4, 2, "same", kernel_initializer="he_normal", dtype=dtype
            )(x)

        def activate(x: keras.KerasTensor) -> keras.KerasTensor:
            return layers.LeakyReLU(SLOPE, dtype=dtype)(x)

        def block(x: keras.KerasTensor, channels: int) -> keras.KerasTensor:
            branch = activate(halve(activate(x), x.shape[-1]))
            branch = layers.Conv2D(
                channels, 3, padding="same", kernel_initializer="zeros", dtype=dtype
            )(branch)
            shortcut = layers.AveragePooling2D(2, dtype=dtype)(x)
            shortcut = layers.Conv2D(
                channels, 1, use_bias=False, kernel_initializer=SHORTCUT, dtype=dtype
            )(shortcut)
            return layers.Add(dtype=dtype)([shortcut, branch])

        first, *widths = reversed(level_widths(resolution, width))
        image = keras.Input((resolution, resolution, 3), name="image")
        x = halve(image, first)
        for channels in widths:
            x = block(x, channels)
        x = activate(x)
        maps = {LOWEST: x}
        if minibatch_std:
            x = MinibatchStd(dtype=dtype)(x)
        x = layers.Flatten(dtype=dtype)(x)
        x = layers.Dense(1, kernel_initializer="he_normal", dtype=dtype)(x)
        logits = layers.Activation("linear", dtype="float32", name="logits")(x)  # [N, 1]
        super().__init__(image, logits, name=name)

        self.maps = maps
        self.resolution = resolution
        self.width = width
        self.minibatch_std = minibatch_std

    def get_config(self) -> dict:
        return {
            "resolution": self.resolution,
            "width": self.width,
            "minibatch_std": self.minibatch_std,
        }
