"""Adam and AdamW with one fused kernel per variable: an update in one pass over the weights.

Keras's own update runs over each variable a dozen times; on a CPU that is a third of VGG16's step
of 16 small photos. Checkpoints and results are Keras's (a test holds the two together).
"""

import keras
import tensorflow as tf


class _Fused:
    """The moments and the step of Adam (Kingma & Ba 2015) in one pass."""

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """One variable's update; of AdamW, Keras has decayed it before."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, tf.float32),
        )


class Adam(_Fused, keras.optimizers.Adam):
    """`keras.optimizers.Adam`."""


class AdamW(_Fused, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` (Loshchilov & Hutter 2019)."""
