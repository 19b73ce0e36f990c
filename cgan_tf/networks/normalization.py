"""Batch normalization in one kernel, for every network that has it.

On a CPU, Keras's own runs over the feature map a dozen times, in float32 whatever the training
computes in: at 64 px an eighth of the GAN's step. Weights and results are Keras's (a test holds the
two together).
"""

import tensorflow as tf
from keras import layers


class BatchNormalization(layers.BatchNormalization):
    """`keras.layers.BatchNormalization` of feature maps `[N, H, W, C]`; statistics in float32.

    Only the training is fused, and on one replica: a synchronized layer on several is Keras's.
    """

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if not (training and self.trainable) or (self.synchronized and replicas > 1):
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
