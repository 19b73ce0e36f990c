"""Losses of the adversarial game: pure functions on logits, `<kind>_<player>_loss`.

Each takes raw logits of any one shape and returns a float32 scalar, the mean over the batch.
"""

from collections.abc import Callable

import tensorflow as tf


def non_saturating_discriminator_loss(
    real_logits: tf.Tensor, fake_logits: tf.Tensor, real_label: float = 1.0
) -> tf.Tensor:
    """-t log D(x) - (1 - t) log(1 - D(x)) - log(1 - D(G(z))), t the label of reals.

    Goodfellow et al. 2014, equation 1; t < 1 is one-sided label smoothing (Salimans et al. 2016).
    """
    reals = tf.reduce_mean(
        real_label * tf.nn.softplus(-real_logits) + (1.0 - real_label) * tf.nn.softplus(real_logits)
    )
    return reals + tf.reduce_mean(tf.nn.softplus(fake_logits))


def non_saturating_generator_loss(fake_logits: tf.Tensor) -> tf.Tensor:
    """-log D(G(z)), Goodfellow et al. 2014, section 3."""
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


def r1_penalty(discriminator: Callable[[tf.Tensor], tf.Tensor], reals: tf.Tensor) -> tf.Tensor:
    """E |grad_x D(x)|^2 on reals, without the factor gamma / 2 (Mescheder et al. 2018, equation 9).

    Args:
        discriminator: images `[N, H, W, 3]` to logits `[N, 1]`.
        reals: images `[N, H, W, 3]`.
    """
    with tf.GradientTape() as tape:
        tape.watch(reals)
        logits = tf.reduce_sum(discriminator(reals))
    gradient = tf.cast(tape.gradient(logits, reals), tf.float32)
    return tf.reduce_mean(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3)))
