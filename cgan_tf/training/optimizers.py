"""Keras's Adam and AdamW with one kernel per variable, on the mean gradient over the replicas.

Keras clips the gradients of each replica by themselves and sums them afterwards. The losses here
are means over the global batch, which calls for the mean gradient, clipped by its own norm.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from cgan_tf.core import replicas
from cgan_tf.training import cpu_kernels


class _MeanGradient:
    """Mixin of a Keras optimizer: averages over the replicas, and updates in one kernel."""

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Sequence | None = None):
        return super().apply(replicas.batch_mean(list(grads)), trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars: Sequence) -> Sequence:
        return grads_and_vars  # instead of Keras's sum: they are equal on all replicas already

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """One variable's update; AdamW's weight decay has been applied before."""
        index = self._get_variable_index(variable)
        cpu_kernels.adam_update(
            variable,
            self._momentums[index].value,
            self._velocities[index].value,
            gradient,
            tf.cast(self.iterations.value + 1, tf.float32),
            tf.cast(learning_rate, tf.float32),
            self.beta_1,
            self.beta_2,
            self.epsilon,
        )


class Adam(_MeanGradient, keras.optimizers.Adam):
    """`keras.optimizers.Adam` (Kingma & Ba 2015)."""


class AdamW(_MeanGradient, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` (Loshchilov & Hutter 2019)."""


def warmup_cosine(
    peak: float, steps: int, warmup: float
) -> keras.optimizers.schedules.LearningRateSchedule:
    """A learning rate schedule: linear warm-up to `peak`, then cosine decay to a hundredth of it.

    Args:
        peak: the highest rate.
        steps: length of the training.
        warmup: share of the steps that the warm-up takes; at least one step.
    """
    warmup_steps = max(1, int(warmup * steps))
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup_steps), warmup_target=peak, warmup_steps=warmup_steps, alpha=0.01
    )
