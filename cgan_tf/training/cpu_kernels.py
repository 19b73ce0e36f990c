"""Faster kernels for the CPU: convolutions as matrix products, fused batch norm and fused Adam.

Plain functions of tensors, each with the result of the Keras operation that it replaces, up to
rounding (tests compare the two). The Keras classes that call them are in `networks.convolution`,
`networks.normalization` and `training.optimizers`.
"""

import contextlib
from collections.abc import Callable, Iterator

import tensorflow as tf
from tensorflow.python.framework import ops

from cgan_tf.core import replicas

MATRIX_PRODUCT_SIDE = 4  # px, side of the smaller feature map of a layer that gains from it


# Strided convolutions with a 4 px kernel, stride 2 and "same" padding.
#
# Between 8 px and 4 px there are many channels and few positions: there oneDNN takes six times as
# long as a matrix product for the gradient of the kernel (51 against 9 ms for 256 to 512 channels,
# batch size 64, bfloat16), and twice as long for the convolution. At finer levels, and on a GPU,
# the built-in kernels are at least as fast.


def prefer_matrix_product(side: int) -> bool:
    """Whether a matrix product is the faster convolution.

    Args:
        side: side of the smaller of the layer's two feature maps, in px.
    """
    return side == MATRIX_PRODUCT_SIDE and not replicas.on_gpu()


def convolve(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """`tf.nn.conv2d` with stride 2 and "SAME" padding.

    Args:
        x: `[N, 2H, 2H, C]`.
        kernel: `[4, 4, C, F]`.

    Returns:
        `[N, H, H, F]`.
    """
    half = x.shape[1] // 2
    product = tf.matmul(_windows(x), _kernel_matrix(kernel))
    return tf.reshape(product, (-1, half, half, kernel.shape[-1]))


def convolve_transposed(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """`tf.nn.conv2d_transpose` with stride 2 and "SAME" padding.

    Args:
        x: `[N, H, H, C]`.
        kernel: `[4, 4, F, C]`.

    Returns:
        `[N, 2H, 2H, F]`.
    """
    pixels = tf.reshape(x, (-1, x.shape[3]))
    return _sum_windows(tf.matmul(pixels, _kernel_matrix(kernel), transpose_b=True), x.shape[1])


# `_windows` and `_sum_windows` are linear, and each is the transpose of the other: each is the
# other's gradient, to any order. TensorFlow's own gradients of the slices would take a fifth of the
# GAN's training step.


@tf.custom_gradient
def _windows(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """The windows of a 4 px kernel with stride 2: `[N, 2H, 2H, C]` to `[N * H * H, 16 * C]`."""
    half, channels = x.shape[1] // 2, x.shape[3]
    blocks = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
    blocks = tf.reshape(blocks, (-1, half + 1, 2, half + 1, 2, channels))
    blocks = tf.transpose(blocks, (0, 1, 3, 2, 4, 5))
    blocks = tf.reshape(blocks, (-1, half + 1, half + 1, 4 * channels))
    shifted = [blocks[:, y : y + half, x : x + half] for y in (0, 1) for x in (0, 1)]
    windows = tf.reshape(tf.concat(shifted, axis=-1), (-1, 16 * channels))
    return windows, lambda gradient: _sum_windows(gradient, half)


def _sum_windows(windows: tf.Tensor, half: int) -> tf.Tensor:
    """The transpose of `_windows`: each pixel gets the sum over the windows that contain it."""

    @tf.custom_gradient
    def transpose(windows: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        channels = windows.shape[1] // 16
        shifted = tf.reshape(windows, (-1, half, half, 4, 4 * channels))
        blocks = tf.add_n(
            [
                tf.pad(shifted[:, :, :, 2 * y + x], [[0, 0], [y, 1 - y], [x, 1 - x], [0, 0]])
                for y in (0, 1)
                for x in (0, 1)
            ]
        )
        blocks = tf.reshape(blocks, (-1, half + 1, half + 1, 2, 2, channels))
        blocks = tf.transpose(blocks, (0, 1, 3, 2, 4, 5))
        x = tf.reshape(blocks, (-1, 2 * half + 2, 2 * half + 2, channels))[:, 1:-1, 1:-1]
        return x, _windows

    return transpose(windows)


@contextlib.contextmanager
def gradients_forgotten() -> Iterator[None]:
    """While a graph is traced that contains its gradients: nothing else keeps it alive afterwards.

    TensorFlow registers each custom gradient in a graph under a new name, in case the graph is
    differentiated again, and never removes it. The gradient refers to the graph, and so to the
    trained variables: each training of a process would leave tens of MB.
    """
    registered = ops.gradient_registry
    before = set(registered.list())
    yield
    for name in set(registered.list()) - before:
        del registered._registry[name]


def _kernel_matrix(kernel: tf.Tensor) -> tf.Tensor:
    """`[4, 4, A, B]` to `[16 * A, B]`, rows in the order of `_windows`."""
    *_, a, b = kernel.shape
    blocks = tf.transpose(tf.reshape(kernel, (2, 2, 2, 2, a, b)), (0, 2, 1, 3, 4, 5))
    return tf.reshape(blocks, (16 * a, b))


# Batch norm. Keras's own layer passes over the feature map a dozen times, in float32 whatever the
# compute type: at 64 px an eighth of the GAN's training step.


def batch_norm(
    x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalizes by the batch's moments, in one kernel.

    Args:
        x: `[N, H, W, C]`.
        scale: float32 `[C]`, gamma.
        offset: float32 `[C]`, beta.
        epsilon: added to the variance.

    Returns:
        The normalized maps, and the batch's mean and (biased) variance, float32 `[C]`.
    """
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=scale,
        offset=offset,
        mean=tf.zeros((0,)),  # empty: use the batch's moments
        variance=tf.zeros((0,)),
        epsilon=epsilon,
    )
    # The kernel returns the unbiased variance.
    shape = tf.shape(x)
    count = tf.cast(shape[0] * shape[1] * shape[2], tf.float32)
    return outputs, mean, variance * ((count - 1.0) / count)


# Adam. Keras's own update passes over each variable a dozen times: a third of VGG16's training step
# on a batch of 16 small photos.


def adam_update(
    variable: tf.Variable,
    momentum: tf.Variable,
    velocity: tf.Variable,
    gradient: tf.Tensor,
    step: tf.Tensor,
    learning_rate: tf.Tensor,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """One Adam update of a float32 variable in one kernel (Kingma & Ba 2015, algorithm 1).

    Args:
        variable: the weights.
        momentum: first moment, of the variable's shape.
        velocity: second moment, of the variable's shape.
        gradient: of the variable's shape; any float dtype.
        step: number of this update, float32; the first is 1.
        learning_rate: float32.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: added to the root of the second moment.
    """
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=momentum.handle,
        v=velocity.handle,
        beta1_power=tf.pow(beta_1, step),
        beta2_power=tf.pow(beta_2, step),
        lr=learning_rate,
        beta1=beta_1,
        beta2=beta_2,
        epsilon=epsilon,
        grad=tf.cast(gradient, tf.float32),
    )
