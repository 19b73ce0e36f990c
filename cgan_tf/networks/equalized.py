"""Layers with an equalized learning rate (Karras et al. 2018, section 4.1).

The weights are initialized from N(0, 1) and multiplied by gain / sqrt(fan_in) at run time. Adam's
step size does not depend on the scale of the gradient, so all weights learn at the same relative
speed.
"""

import math

import keras
import tensorflow as tf
from keras import layers

from cgan_tf.networks import convolution

HE = math.sqrt(2.0)  # gain of a layer that a ReLU follows (He et al. 2015)


class _Equalized(layers.Layer):
    """Base class: the kernel, its run-time scale and the bias.

    Args:
        filters: channels of the output.
        use_bias: add a bias per channel, initially 0.
        gain: standard deviation of the initial output for an input of unit variance.
        lr: learning rate, relative to the optimizer's.
    """

    def __init__(
        self,
        filters: int,
        use_bias: bool = True,
        gain: float = HE,
        lr: float = 1.0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.use_bias = use_bias
        self.gain = gain
        self.lr = lr

    def _add_weights(self, shape: tuple[int, ...], fan_in: float) -> None:
        normal = keras.initializers.RandomNormal(stddev=1.0 / self.lr)
        self.kernel = self.add_weight(shape=shape, initializer=normal, name="kernel")
        self.scale = self.lr * self.gain / math.sqrt(fan_in)
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def scaled_kernel(self) -> tf.Tensor:
        """The effective kernel."""
        return self.kernel * self.scale

    def _add_bias(self, x: tf.Tensor) -> tf.Tensor:
        return x + self.bias * self.lr if self.use_bias else x


class Dense(_Equalized):
    """`[N, C]` to `[N, filters]`."""

    def build(self, input_shape: tuple) -> None:
        self._add_weights((input_shape[-1], self.filters), input_shape[-1])

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self._add_bias(tf.matmul(x, self.scaled_kernel()))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self.filters)


class Conv2D(_Equalized):
    """`[N, H, W, C]` to `[N, H / stride, W / stride, filters]`, "same" padding."""

    def __init__(self, filters: int, side: int, stride: int = 1, **kwargs) -> None:
        super().__init__(filters, **kwargs)
        self.side = side
        self.stride = stride

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[-1]
        self._add_weights((self.side, self.side, channels, self.filters), self.side**2 * channels)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self._add_bias(tf.nn.conv2d(x, self.scaled_kernel(), self.stride, "SAME"))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        count, height, width, _ = input_shape
        return (count, -(-height // self.stride), -(-width // self.stride), self.filters)


class Conv2DTranspose(Conv2D):
    """`[N, H, W, C]` to `[N, H * stride, W * stride, filters]`, "same" padding."""

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[-1]
        # Each output pixel sums over side^2 / stride^2 of the kernel's positions.
        fan_in = self.side**2 * channels / self.stride**2
        self._add_weights((self.side, self.side, self.filters, channels), fan_in)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        shape = (tf.shape(x)[0], *self.compute_output_shape(x.shape)[1:])
        y = tf.nn.conv2d_transpose(x, self.scaled_kernel(), shape, self.stride, "SAME")
        return self._add_bias(y)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        count, height, width, _ = input_shape
        return (count, height * self.stride, width * self.stride, self.filters)


class UpsampledConv2D(Conv2DTranspose):
    """Nearest-neighbour upsampling by two, then a 3 px convolution: `[N, 2H, 2W, filters]`.

    Computed as one transposed convolution, see `convolution.upsampling_kernel`. A free 4 px kernel
    leaves a checkerboard pattern of its random initial weights in the maps, which an equalized
    learning rate is slow to remove (Odena et al. 2016, Deconvolution and Checkerboard Artifacts).
    """

    def __init__(self, filters: int, **kwargs) -> None:
        super().__init__(filters, 3, 2, **kwargs)

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[-1]
        self._add_weights((3, 3, self.filters, channels), 9 * channels)

    def scaled_kernel(self) -> tf.Tensor:
        return convolution.upsampling_kernel(super().scaled_kernel())


class PixelNorm(layers.Layer):
    """Scales the channels of each pixel to a mean square of 1 (Karras et al. 2018, section 4.2)."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        wide = tf.cast(x, tf.float32)
        factor = tf.math.rsqrt(tf.reduce_mean(tf.square(wide), axis=-1, keepdims=True) + 1e-8)
        return tf.cast(wide * factor, x.dtype)
