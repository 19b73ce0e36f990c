"""The optimizers of all stages: Keras's in one kernel, by the mean gradient over the replicas.

Keras clips each replica's own gradients and takes their sum afterwards. A loss that is a mean over
the global batch needs their mean, and the norm to clip by is that mean's.

Keras's own update runs over each variable a dozen times; on a CPU that is a third of VGG16's step
of 16 small photos. Here one kernel per variable does it in one pass. Checkpoints and results are
Keras's (a test holds the two together).
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from cgan_tf.core import replicas


class _Ours:
    """In front of a Keras optimizer, see above."""

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Sequence | None = None):
        return super().apply(replicas.batch_mean(list(grads)), trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars: Sequence) -> Sequence:
        return grads_and_vars  # in the place of Keras's sum; they are equal on all replicas by now

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


class Adam(_Ours, keras.optimizers.Adam):
    """`keras.optimizers.Adam` (Kingma & Ba 2015)."""


class AdamW(_Ours, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` (Loshchilov & Hutter 2019)."""


def warmup_cosine(
    peak: float, steps: int, warmup: float
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate by step: a linear rise to `peak`, then a cosine down to a hundredth of it.

    Args:
        peak: the highest rate.
        steps: length of the training.
        warmup: share of the steps that the rise takes, at least one step.
    """
    rise = max(1, int(warmup * steps))
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - rise), warmup_target=peak, warmup_steps=rise, alpha=0.01
    )
