"""GAN objectives and gradient penalties as pure functions, `<objective>_<player>_loss`.

Objectives take the raw logits of reals and of fakes, each `[N, 1]`, and return a float32 scalar,
the mean over the batch. Only relativistic generator losses use the logits of reals. Penalties take
D as a function of images and return the mean over the batch, without their weight.
`OBJECTIVES` contains the objectives by the name of --gan_objective.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from cgan_tf.core import replicas


def minimax_discriminator_loss(
    real_logits: tf.Tensor, fake_logits: tf.Tensor, real_label: float = 1.0
) -> tf.Tensor:
    """-t log D(x) - (1 - t) log(1 - D(x)) - log(1 - D(G(z))), where t is the label of reals.

    Goodfellow et al. 2014, equation 1; t < 1 is one-sided label smoothing (Salimans et al. 2016).
    """
    reals = tf.reduce_mean(
        real_label * tf.nn.softplus(-real_logits) + (1.0 - real_label) * tf.nn.softplus(real_logits)
    )
    return reals + tf.reduce_mean(tf.nn.softplus(fake_logits))


def minimax_generator_loss(
    fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None
) -> tf.Tensor:
    """log(1 - D(G(z))), Goodfellow et al. 2014, equation 1; saturates where D is confident."""
    return -tf.reduce_mean(tf.nn.softplus(fake_logits))


def non_saturating_discriminator_loss(
    real_logits: tf.Tensor, fake_logits: tf.Tensor, real_label: float = 1.0
) -> tf.Tensor:
    """The same as in the minimax objective: only the generator's loss differs."""
    return minimax_discriminator_loss(real_logits, fake_logits, real_label)


def non_saturating_generator_loss(
    fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None
) -> tf.Tensor:
    """-log D(G(z)), Goodfellow et al. 2014, section 3."""
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


def lsgan_discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """(D(x) - 1)^2 / 2 + D(G(z))^2 / 2, Mao et al. 2017, equation 9."""
    return 0.5 * (
        tf.reduce_mean(tf.square(real_logits - 1.0)) + tf.reduce_mean(tf.square(fake_logits))
    )


def lsgan_generator_loss(fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
    """(D(G(z)) - 1)^2 / 2, Mao et al. 2017, equation 9."""
    return 0.5 * tf.reduce_mean(tf.square(fake_logits - 1.0))


def wasserstein_discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """D(G(z)) - D(x), Arjovsky et al. 2017; D must be Lipschitz continuous."""
    return tf.reduce_mean(fake_logits) - tf.reduce_mean(real_logits)


def wasserstein_generator_loss(
    fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None
) -> tf.Tensor:
    """-D(G(z)), Arjovsky et al. 2017."""
    return -tf.reduce_mean(fake_logits)


def hinge_discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))), Lim & Ye 2017."""
    return tf.reduce_mean(tf.nn.relu(1.0 - real_logits)) + tf.reduce_mean(
        tf.nn.relu(1.0 + fake_logits)
    )


def hinge_generator_loss(fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
    """-D(G(z)), Lim & Ye 2017."""
    return -tf.reduce_mean(fake_logits)


def ragan_discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """-log s(D(x) - E D(G(z))) - log(1 - s(D(G(z)) - E D(x))), where s is the sigmoid.

    Relativistic average GAN, Jolicoeur-Martineau 2018. E is the mean over the global batch.
    """
    real_mean = replicas.batch_mean(tf.reduce_mean(real_logits))
    fake_mean = replicas.batch_mean(tf.reduce_mean(fake_logits))
    return tf.reduce_mean(tf.nn.softplus(fake_mean - real_logits)) + (
        tf.reduce_mean(tf.nn.softplus(fake_logits - real_mean))
    )


def ragan_generator_loss(fake_logits: tf.Tensor, real_logits: tf.Tensor) -> tf.Tensor:
    """The discriminator's loss with reals and fakes exchanged, Jolicoeur-Martineau 2018."""
    return ragan_discriminator_loss(fake_logits, real_logits)


def rpgan_discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """-log s(D(x) - D(G(z))) for pairs of a real and a fake, where s is the sigmoid.

    Relativistic pairing GAN, Jolicoeur-Martineau 2018; Huang et al. 2024.
    """
    return tf.reduce_mean(tf.nn.softplus(fake_logits - real_logits))


def rpgan_generator_loss(fake_logits: tf.Tensor, real_logits: tf.Tensor) -> tf.Tensor:
    """-log s(D(G(z)) - D(x)) for the same pairs, Jolicoeur-Martineau 2018."""
    return tf.reduce_mean(tf.nn.softplus(real_logits - fake_logits))


Loss = Callable[..., tf.Tensor]
Discriminate = Callable[[tf.Tensor], tf.Tensor]


class Objective(NamedTuple):
    """D's loss of (real_logits, fake_logits), and G's of (fake_logits, real_logits)."""

    discriminator: Loss
    generator: Loss


OBJECTIVES = {
    "minimax": Objective(minimax_discriminator_loss, minimax_generator_loss),
    "non_saturating": Objective(non_saturating_discriminator_loss, non_saturating_generator_loss),
    "lsgan": Objective(lsgan_discriminator_loss, lsgan_generator_loss),
    "wgan": Objective(wasserstein_discriminator_loss, wasserstein_generator_loss),
    "wgan_gp": Objective(wasserstein_discriminator_loss, wasserstein_generator_loss),
    "hinge": Objective(hinge_discriminator_loss, hinge_generator_loss),
    "ragan": Objective(ragan_discriminator_loss, ragan_generator_loss),
    "rpgan": Objective(rpgan_discriminator_loss, rpgan_generator_loss),
}


PROBABILITIES = ("minimax", "non_saturating")  # the sigmoid of a logit is a probability
RELATIVISTIC = ("ragan", "rpgan")  # G's loss uses the logits of reals, too


def input_gradient(discriminator: Discriminate, images: tf.Tensor) -> tf.Tensor:
    """grad_x D(x) of each image, float32, in the images' shape `[N, H, W, 3]`."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = tf.reduce_sum(discriminator(images))
    return tf.cast(tape.gradient(logits, images), tf.float32)


def gradient_square_penalty(discriminator: Discriminate, images: tf.Tensor) -> tf.Tensor:
    """E |grad_x D(x)|^2, without the factor gamma / 2.

    R1 on reals, R2 on fakes (Mescheder et al. 2018, equations 9 and 10).

    Args:
        discriminator: images `[N, H, W, 3]` to logits `[N, 1]`.
        images: reals or fakes.
    """
    gradient = input_gradient(discriminator, images)
    return tf.reduce_mean(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3)))


def interpolate(reals: tf.Tensor, fakes: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Points `[N, H, W, 3]` on the lines from fakes to reals: fakes + alpha (reals - fakes).

    Args:
        reals: images.
        fakes: as many images.
        alpha: position on each line, `[N, 1, 1, 1]`; from U(0, 1) in Gulrajani et al. 2017.
    """
    return fakes + alpha * (reals - fakes)


def gradient_norm_penalty(discriminator: Discriminate, images: tf.Tensor) -> tf.Tensor:
    """E (|grad_x D(x)| - 1)^2, without the factor lambda (Gulrajani et al. 2017, equation 3).

    Args:
        discriminator: images `[N, H, W, 3]` to logits `[N, 1]`.
        images: interpolates of reals and fakes.
    """
    gradient = input_gradient(discriminator, images)
    # The square root has no gradient at 0.
    norm = tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3)) + 1e-12)
    return tf.reduce_mean(tf.square(norm - 1.0))
