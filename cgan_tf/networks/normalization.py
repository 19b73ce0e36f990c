"""Batch normalization: in one kernel, and over the global batch whatever the number of replicas.

On a CPU, Keras's own runs over the feature map a dozen times, in float32 whatever the training
computes in: at 64 px an eighth of the GAN's step. Weights and results are Keras's (a test holds the
two together).
"""

import keras
import tensorflow as tf

from cgan_tf.core import replicas


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer (Ioffe & Szegedy 2015) for maps `[N, H, W, C]`; statistics in float32.

    In training, one kernel on one replica; on several, moments of the global batch.

    Args:
        penalized: a penalty will be put on the network's gradient. Keras takes the variance around
            a mean that it holds constant, which is right in the first derivative, where the mean's
            part is zero, but not in the second. Such a layer takes its moments as on replicas.
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
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=tf.zeros((0,)),  # none: it takes the batch's
            variance=tf.zeros((0,)),
            epsilon=self.epsilon,
        )
        # The kernel tells the unbiased variance; Keras averages that of the batch itself.
        shape = tf.shape(inputs)
        count = tf.cast(shape[0] * shape[1] * shape[2], tf.float32)
        variance *= (count - 1.0) / count
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return outputs

    def _moments(self, inputs: tf.Tensor, mask: None) -> tuple[tf.Tensor, tf.Tensor]:
        axes = self._reduction_axes
        mean = replicas.batch_mean(tf.reduce_mean(inputs, axes))
        squares = tf.math.squared_difference(inputs, mean)
        return mean, replicas.batch_mean(tf.reduce_mean(squares, axes))
