"""DCGAN and residual generators in operators that are fast on devices, with the same results.

Used before the TFLite conversion. TFLite's transposed convolutions took three quarters of the time
of `translate` with the DCGAN generator (64 px, width 48, one thread). They are replaced by a matrix
product whose results are added where they overlap, or, for the three channels of the image, by a
convolution that computes four pixels at each position. A DCGAN's batch norm is folded into both
here, since the converter only folds it where it directly follows the operator.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from cgan_tf.editing.network import EditingNetwork
from cgan_tf.networks import convolution, equalized
from cgan_tf.networks.codec import Codec
from cgan_tf.networks.dcgan import LOWEST, SLOPE, Generator
from cgan_tf.networks.generators import Halves, halves_of
from cgan_tf.networks.normalization import BatchNormalization
from cgan_tf.networks.residual import ResidualGenerator

FEW_CHANNELS = 8  # with fewer, the rows of the product (16 x the channels) are too short


def for_device(network: EditingNetwork) -> EditingNetwork:
    """The network without its regressor, and with the generator in the form for devices.

    A `StyleGenerator` is not changed: its kernels depend on the latent.
    """
    generator = network.generator
    if isinstance(generator, Generator):
        generator = DeviceGenerator(generator)
    elif isinstance(generator, ResidualGenerator):
        generator = ResidualDeviceGenerator(generator)
    vectors = dict(zip(network.attributes, network.directions.numpy(), strict=True))
    return EditingNetwork(Codec(network.encoder, generator, network.features), vectors)


class DeviceGenerator(keras.Model):
    """A DCGAN generator for inference.

    Args:
        generator: its current weights are copied.

    Call arguments:
        latent: float32 `[N, z_dim]`.

    Returns:
        float32 `[N, resolution, resolution, 3]` in [-1, 1].
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__(name="device_generator")
        self.resolution = generator.resolution
        self.latent_shape = generator.latent_shape
        self.z_dim = generator.z_dim
        self.chain = []
        self._ends = {}  # by side of the maps, the number of layers that make them
        side = LOWEST
        weighted = [layer for layer in generator.layers if hasattr(layer, "kernel")]
        for layer, norm in zip(weighted, _norms(generator.layers), strict=True):
            kind = FirstMaps if layer is weighted[0] else _up(layer.filters)
            self.chain.append(kind(*_folded(layer, norm, axis=1 if kind is FirstMaps else 2)))
            if isinstance(norm, equalized.PixelNorm):
                self.chain.append(norm)
            if layer is not weighted[-1]:
                self.chain.append(layers.LeakyReLU(SLOPE))
            self._ends[side] = len(self.chain)
            side *= 2
        self.built = True

    def call(self, latent: tf.Tensor, training: bool = False) -> tf.Tensor:
        return tf.tanh(_through(self.chain, latent))

    def halves(self, side: int) -> Halves:
        """See `AnyGenerator.halves`."""
        end = self._ends[side]
        return (
            lambda latent: [_through(self.chain[:end], latent)],
            lambda state: tf.tanh(_through(self.chain[end:], state[0])),
        )


class ResidualDeviceGenerator(keras.Model):
    """A residual generator for inference.

    Args:
        generator: the layers that do not change are shared with it.

    Call arguments:
        latent: float32 `[N, z_dim]`.

    Returns:
        float32 `[N, resolution, resolution, 3]` in [-1, 1].
    """

    def __init__(self, generator: ResidualGenerator) -> None:
        super().__init__(name="device_generator")
        self.resolution = generator.resolution
        self.latent_shape = generator.latent_shape
        self.z_dim = generator.z_dim
        # The cuts are outputs as well, so that the halves share the clone's layers.
        self._sides = list(generator.cuts)
        cuts = [generator.cuts[side] for side in self._sides]
        self.network = keras.models.clone_model(
            keras.Model(generator.input, [generator.output, *cuts]), clone_function=_replaced
        )
        self.built = True

    def call(self, latent: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.network(latent, training=False)[0]

    def halves(self, side: int) -> Halves:
        """See `AnyGenerator.halves`."""
        output, *cuts = self.network.output
        return halves_of(self.network.input, cuts[self._sides.index(side)], output)


def _through(chain: Sequence[layers.Layer], x: tf.Tensor) -> tf.Tensor:
    for layer in chain:
        x = layer(x)
    return x


def _replaced(layer: layers.Layer) -> layers.Layer:
    """The layer itself, or what replaces a transposed convolution."""
    if not isinstance(layer, layers.Conv2DTranspose):
        return layer
    if isinstance(layer, convolution.UpsampledConv2D):
        kernel = convolution.upsampling_kernel(tf.convert_to_tensor(layer.kernel)).numpy()
        return _up(layer.filters)(kernel, np.zeros(layer.filters, np.float32))
    return _up(layer.filters)(layer.kernel.numpy(), layer.bias.numpy())


class _Linear(layers.Layer):
    """A kernel, in the layout that `call` needs, and a bias."""

    def __init__(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        super().__init__()
        for name, value in (("kernel", kernel), ("bias", bias)):
            weight = self.add_weight(shape=value.shape, trainable=False, name=name)
            weight.assign(value)
            setattr(self, name, weight)
        self.built = True


class FirstMaps(_Linear):
    """Maps `[N, C]` to `[N, 4, 4, filters]`."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.matmul(x, self.kernel) + self.bias
        return tf.reshape(x, (-1, LOWEST, LOWEST, self.kernel.shape[1] // LOWEST**2))


def _up(channels: int) -> type[_Linear]:
    """The layer that replaces a transposed convolution, 4 px, stride 2, "same" padding.

    Both kinds take its kernel `[4, 4, channels, C]` and map `[N, H, W, C]` to
    `[N, 2H, 2W, channels]`.
    """
    return UpConvolution if channels < FEW_CHANNELS else UpProduct


class UpProduct(_Linear):
    """The 4 x 4 results of each position as one row of a matrix product, added where they overlap.

    The 4 x 4 pixels are 2 x 2 blocks of 2 x 2 pixels; neighbors overlap by one block.
    """

    def __init__(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        *_, filters, channels = kernel.shape
        blocks = kernel.reshape(2, 2, 2, 2, filters, channels)  # block, pixel; block, pixel; ...
        super().__init__(blocks.transpose(5, 0, 2, 1, 3, 4).reshape(channels, -1), bias)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        _, height, width, channels = x.shape
        rows = tf.matmul(tf.reshape(x, (-1, channels)), self.kernel)
        rows = tf.reshape(rows, (-1, height, width, self.kernel.shape[1]))
        blocks = tf.split(rows, 4, axis=-1)  # each [N, H, W, 2 * 2 * filters]
        over = [
            tf.pad(blocks[2 * y + x], [[0, 0], [y, 1 - y], [x, 1 - x], [0, 0]])
            for y in (0, 1)
            for x in (0, 1)
        ]
        pixels = tf.nn.depth_to_space(over[0] + over[1] + over[2] + over[3], 2)
        return pixels[:, 1:-1, 1:-1] + self.bias  # [N, 2H, 2W, filters]


class UpConvolution(_Linear):
    """A 2 px convolution that computes four pixels at once, each in its own corner's window."""

    def __init__(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        *_, filters, channels = kernel.shape
        windows = np.empty((2, 2, channels, 2, 2, filters), np.float32)
        for y, x in np.ndindex(2, 2):  # the pixel
            for row, column in np.ndindex(2, 2):  # position in the window
                windows[row, column, :, y, x] = kernel[3 - 2 * row - y, 3 - 2 * column - x].T
        super().__init__(windows.reshape(2, 2, channels, -1), np.tile(bias, 4))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        _, height, width, _ = x.shape
        x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        x = tf.nn.conv2d(x, self.kernel, 1, "VALID") + self.bias  # [N, H + 1, W + 1, 4 * filters]
        corners = tf.split(x, 4, axis=-1)
        pixels = [
            corners[2 * y + x][:, y : y + height, x : x + width] for y in (0, 1) for x in (0, 1)
        ]
        return tf.nn.depth_to_space(tf.concat(pixels, axis=-1), 2)


def _norms(chain: Sequence[layers.Layer]) -> list[layers.Layer | None]:
    """The normalization after each layer with weights, None where there is none."""
    norms = []
    for layer in chain:
        if hasattr(layer, "kernel"):
            norms.append(None)
        elif isinstance(layer, BatchNormalization | equalized.PixelNorm):
            norms[-1] = layer
    return norms


def _folded(
    layer: layers.Layer, norm: layers.Layer | None, axis: int
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias `[C]` with batch norm folded in; `axis` is the kernel's output axis."""
    lr = getattr(layer, "lr", 1.0)
    kernel = layer.scaled_kernel() if hasattr(layer, "scaled_kernel") else layer.kernel
    kernel = kernel.numpy()
    bias = layer.bias.numpy() * lr if layer.use_bias else np.float32(0)
    if not isinstance(norm, BatchNormalization):
        return kernel, np.broadcast_to(bias, kernel.shape[axis])
    gamma, beta, mean, variance = (
        weight.numpy() for weight in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    scale = gamma / np.sqrt(variance + norm.epsilon)  # [C]
    copies = kernel.shape[axis] // len(scale)  # the dense layer has LOWEST^2 pixels per channel
    along = [-1 if index == axis else 1 for index in range(kernel.ndim)]
    kernel = kernel * np.tile(scale, copies).reshape(along)
    return kernel, np.tile((bias - mean) * scale + beta, copies)
