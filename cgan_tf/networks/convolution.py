"""Keras's strided convolutions with faster kernels at the coarsest level, while training on a CPU.

Weights and results are Keras's, so an exported network contains Keras's operations only.
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
