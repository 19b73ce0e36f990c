"""The coarsest 4 px convolutions as matrix products, for the training on a CPU.

From 8 px to 4 px there are many channels and few places: oneDNN takes six times a matrix product's
time there for the gradient of the kernel (51 against 9 ms for 256 to 512 channels, batch 64,
bfloat16), and twice for the convolution. At finer levels, and on a GPU, its own kernels are at
least as fast. Weights and results are Keras's (a test holds the two together).
"""

from collections.abc import Callable

import tensorflow as tf
from keras import layers

COARSEST = 4  # px, of the smaller of the two feature maps


def _as_product(side: int, training: bool | None) -> bool:
    """Whether to multiply matrices; what is exported is Keras's in any case."""
    return bool(training) and side == COARSEST and not tf.config.list_physical_devices("GPU")


# Both are linear, and each is the other's transpose, so each is the other's gradient, to any order.
# Left to TensorFlow, the gradients of the slices would take a fifth of the GAN's step.


@tf.custom_gradient
def _windows(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """What a 4 px kernel of stride 2 sees: `[N, 2H, 2H, C]` to `[N * H * H, 16 * C]`."""
    half, channels = x.shape[1] // 2, x.shape[3]
    blocks = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
    blocks = tf.reshape(blocks, (-1, half + 1, 2, half + 1, 2, channels))
    blocks = tf.transpose(blocks, (0, 1, 3, 2, 4, 5))
    blocks = tf.reshape(blocks, (-1, half + 1, half + 1, 4 * channels))
    seen = [blocks[:, y : y + half, x : x + half] for y in (0, 1) for x in (0, 1)]
    windows = tf.reshape(tf.concat(seen, axis=-1), (-1, 16 * channels))
    return windows, lambda gradient: _sum_windows(gradient, half)


def _sum_windows(windows: tf.Tensor, half: int) -> tf.Tensor:
    """The transpose of `_windows`: each place gets the sum of all that saw it."""

    @tf.custom_gradient
    def transpose(windows: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        channels = windows.shape[1] // 16
        seen = tf.reshape(windows, (-1, half, half, 4, 4 * channels))
        blocks = tf.add_n(
            [
                tf.pad(seen[:, :, :, 2 * y + x], [[0, 0], [y, 1 - y], [x, 1 - x], [0, 0]])
                for y in (0, 1)
                for x in (0, 1)
            ]
        )
        blocks = tf.reshape(blocks, (-1, half + 1, half + 1, 2, 2, channels))
        blocks = tf.transpose(blocks, (0, 1, 3, 2, 4, 5))
        x = tf.reshape(blocks, (-1, 2 * half + 2, 2 * half + 2, channels))[:, 1:-1, 1:-1]
        return x, _windows

    return transpose(windows)


def _as_matrix(kernel: tf.Tensor) -> tf.Tensor:
    """`[4, 4, A, B]` to `[16 * A, B]`, the rows in the order of `_windows`."""
    *_, a, b = kernel.shape
    blocks = tf.transpose(tf.reshape(kernel, (2, 2, 2, 2, a, b)), (0, 2, 1, 3, 4, 5))
    return tf.reshape(blocks, (16 * a, b))


class Conv2D(layers.Conv2D):
    """`keras.layers.Conv2D` with a 4 px kernel, stride 2 and "same" padding, without activation."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        half = inputs.shape[1] // 2
        if not _as_product(half, training):
            return super().call(inputs)
        x = tf.matmul(_windows(inputs), _as_matrix(tf.convert_to_tensor(self.kernel)))
        x = tf.reshape(x, (-1, half, half, self.filters))
        return x + self.bias if self.use_bias else x


class Conv2DTranspose(layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose`, within the limits of `Conv2D`."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        side = inputs.shape[1]
        if not _as_product(side, training):
            return super().call(inputs)
        x = tf.reshape(inputs, (-1, inputs.shape[3]))
        x = tf.matmul(x, _as_matrix(tf.convert_to_tensor(self.kernel)), transpose_b=True)
        x = _sum_windows(x, side)
        return x + self.bias if self.use_bias else x
