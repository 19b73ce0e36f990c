"""Batch normalization over the global batch, whatever the number of replicas; fused on one."""

import keras
import tensorflow as tf

from cgan_tf.core import replicas
from cgan_tf.training import cpu_kernels


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer (Ioffe & Szegedy 2015) for maps `[N, H, W, C]`; statistics in float32.

    In training, one replica uses one kernel; several use the moments of the global batch.

    Args:
        penalized: a gradient penalty is applied to the network. Keras computes the variance around
            a mean that it holds constant. This is right for the first derivative, where the mean's
            contribution is zero, but not for the second. Such a layer computes its moments as
            replicas do.
        options: of Keras's layer.
    """

    def __init__(self, penalized: bool = False, **options) -> None:
        super().__init__(**options)
        self.penalized = penalized

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        fused = training and self.trainable and not self.penalized and replicas.count() == 1
        if not fused:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = cpu_kernels.batch_norm(
            inputs, self.gamma, self.beta, self.epsilon
        )
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return outputs

    def _moments(self, inputs: tf.Tensor, mask: None) -> tuple[tf.Tensor, tf.Tensor]:
        axes = self._reduction_axes
        mean = replicas.batch_mean(tf.reduce_mean(inputs, axes))
        squares = tf.math.squared_difference(inputs, mean)
        return mean, replicas.batch_mean(tf.reduce_mean(squares, axes))
