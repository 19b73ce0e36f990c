"""Keras's strided convolutions with faster kernels at the coarsest level, while training on a CPU.

Weights and results of `Conv2D` and `Conv2DTranspose` are Keras's, so an exported network contains
Keras's operations only.
"""

import tensorflow as tf
from keras import layers

from cgan_tf.training import cpu_kernels


class Conv2D(layers.Conv2D):
    """`keras.layers.Conv2D`; kernel 4 px, stride 2, padding "same" and no activation only."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training or not cpu_kernels.prefer_matrix_product(inputs.shape[1] // 2):
            return super().call(inputs)
        x = cpu_kernels.convolve(inputs, tf.convert_to_tensor(self.kernel))
        return x + self.bias if self.use_bias else x


class Conv2DTranspose(layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose`; kernel 4 px, stride 2, padding "same", no activation only."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training or not cpu_kernels.prefer_matrix_product(inputs.shape[1]):
            return super().call(inputs)
        x = cpu_kernels.convolve_transposed(inputs, tf.convert_to_tensor(self.kernel))
        return x + self.bias if self.use_bias else x


class UpsampledConv2D(layers.Conv2DTranspose):
    """Nearest-neighbour upsampling by two, then a 3 px convolution without bias.

    Computed as one transposed convolution, see `upsampling_kernel`.

    Args:
        filters: channels of the output.
        options: of Keras's layer.
    """

    def __init__(self, filters: int, **options) -> None:
        super().__init__(filters, 3, 2, "same", use_bias=False, **options)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        kernel = upsampling_kernel(tf.convert_to_tensor(self.kernel))
        if training and cpu_kernels.prefer_matrix_product(inputs.shape[1]):
            return cpu_kernels.convolve_transposed(inputs, kernel)
        _, height, width, _ = inputs.shape
        shape = (tf.shape(inputs)[0], 2 * height, 2 * width, self.filters)
        return tf.nn.conv2d_transpose(inputs, kernel, shape, 2, "SAME")


def upsampling_kernel(kernel: tf.Tensor) -> tf.Tensor:
    """The 4 px kernel of stride 2 that upsamples before a convolution with a 3 px kernel.

    The sum of four shifted copies. A transposed convolution with it costs 4 / 9 of the convolution
    of the upsampled maps, whose pixels are equal in fours.

    Args:
        kernel: `[3, 3, F, C]`, in the orientation of a transposed convolution.

    Returns:
        `[4, 4, F, C]`.
    """
    rows = tf.pad(kernel, [[0, 1], [0, 0], [0, 0], [0, 0]])
    rows += tf.pad(kernel, [[1, 0], [0, 0], [0, 0], [0, 0]])
    columns = tf.pad(rows, [[0, 0], [0, 1], [0, 0], [0, 0]])
    return columns + tf.pad(rows, [[0, 0], [1, 0], [0, 0], [0, 0]])
