"""cgan_tf.training.losses against closed forms."""

import math

import numpy as np
import pytest
import tensorflow as tf

from cgan_tf.core import config
from cgan_tf.training import losses

REAL = tf.constant([[-5.0], [1.4], [12.5], [2.7]])
FAKE = tf.constant([[10.0], [4.4], [-5.5], [3.6]])


def test_non_saturating_losses_on_known_logits():
    generator = losses.non_saturating_generator_loss(FAKE)
    discriminator = losses.non_saturating_discriminator_loss(REAL, FAKE)
    assert generator.shape == discriminator.shape == ()
    assert float(generator) == pytest.approx(1.385821, abs=1e-6)
    assert float(discriminator) == pytest.approx(5.833866, abs=1e-6)


# Computed in float64 from the formulas of the papers, for REAL and FAKE.
r, f = (x.numpy().astype(np.float64) for x in (REAL, FAKE))


def softplus(x):
    return np.log1p(np.exp(x))


KNOWN = {
    "minimax": (5.833866, -np.mean(softplus(f))),
    "non_saturating": (5.833866, 1.385821),
    "lsgan": (
        (36 + 0.16 + 132.25 + 2.89 + 100 + 19.36 + 30.25 + 12.96) / 8,
        (81 + 11.56 + 42.25 + 6.76) / 8,
    ),
    "wgan": (0.225, -3.125),
    "wgan_gp": (0.225, -3.125),
    "hinge": (6.75, -3.125),
    "ragan": (
        np.mean(softplus(3.125 - r)) + np.mean(softplus(f - 2.9)),
        np.mean(softplus(2.9 - f)) + np.mean(softplus(r - 3.125)),
    ),
    "rpgan": (np.mean(softplus(f - r)), np.mean(softplus(r - f))),
}


@pytest.mark.parametrize("name", losses.OBJECTIVES)
def test_each_objective_on_known_logits(name):
    objective, (discriminator, generator) = losses.OBJECTIVES[name], KNOWN[name]
    d_loss, g_loss = objective.discriminator(REAL, FAKE), objective.generator(FAKE, REAL)
    assert d_loss.shape == g_loss.shape == () and d_loss.dtype == g_loss.dtype == tf.float32
    assert float(d_loss) == pytest.approx(discriminator, abs=2e-6)
    assert float(g_loss) == pytest.approx(generator, abs=2e-6)


def test_the_options_and_the_losses_have_the_same_objectives():
    assert tuple(losses.OBJECTIVES) == config.OBJECTIVES


@pytest.mark.parametrize("name", losses.OBJECTIVES)
def test_each_generator_loss_falls_with_the_logits_of_fakes(name):
    fake = tf.constant([[-0.3], [0.4], [0.2], [-0.2]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(fake)
        g_loss = losses.OBJECTIVES[name].generator(fake, REAL / 10)
        d_loss = losses.OBJECTIVES[name].discriminator(REAL / 10, fake)
    assert np.all(tape.gradient(g_loss, fake) < 0)
    assert np.sum(tape.gradient(d_loss, fake)) > 0


def test_only_the_minimax_generator_loss_saturates():
    confident = tf.constant([[-12.0]])
    gradients = {}
    for name in ("minimax", "non_saturating"):
        with tf.GradientTape() as tape:
            tape.watch(confident)
            loss = losses.OBJECTIVES[name].generator(confident)
        gradients[name] = float(tape.gradient(loss, confident)[0, 0])
    assert gradients["minimax"] == pytest.approx(-1 / (1 + math.exp(12)), rel=1e-4)
    assert gradients["non_saturating"] == pytest.approx(-1 / (1 + math.exp(-12)), rel=1e-4)


def test_losses_at_zero_logits():
    zeros = tf.zeros((3, 1))
    assert float(losses.non_saturating_generator_loss(zeros)) == pytest.approx(math.log(2))
    assert float(losses.non_saturating_discriminator_loss(zeros, zeros)) == pytest.approx(
        2 * math.log(2)
    )
    # Smoothing has no effect where D's probability is one half.
    assert float(losses.non_saturating_discriminator_loss(zeros, zeros, 0.9)) == pytest.approx(
        2 * math.log(2)
    )


def test_label_smoothing_is_one_sided_cross_entropy():
    probability = 1 / (1 + np.exp(-REAL.numpy().astype(np.float64)))
    reals = -(0.9 * np.log(probability) + 0.1 * np.log1p(-probability)).mean()
    fakes = np.log1p(np.exp(FAKE.numpy().astype(np.float64))).mean()
    smoothed = float(losses.non_saturating_discriminator_loss(REAL, FAKE, 0.9))
    assert smoothed == pytest.approx(reals + fakes, rel=1e-6)
    # The term of the reals changes by (1 - t) E[logit], that of the fakes does not change.
    plain = float(losses.non_saturating_discriminator_loss(REAL, FAKE))
    assert smoothed - plain == pytest.approx(0.1 * np.mean(REAL), rel=1e-5)
    # The optimum for the label t is the logit of t.
    with tf.GradientTape() as tape:
        logits = tf.fill((2, 1), math.log(0.9 / 0.1))
        tape.watch(logits)
        loss = losses.non_saturating_discriminator_loss(logits, FAKE, 0.9)
    np.testing.assert_allclose(tape.gradient(loss, logits), 0.0, atol=1e-7)


def test_losses_stay_finite_at_extreme_logits():
    far = tf.constant([[-1e4], [1e4]])
    assert float(losses.non_saturating_generator_loss(far)) == pytest.approx(5e3)
    assert float(losses.non_saturating_discriminator_loss(far, far)) == pytest.approx(1e4)


@pytest.fixture
def linear():
    """D(x) = w.x + 7, and |w|^2."""
    weights = tf.constant(np.random.default_rng(0).normal(size=(4, 4, 3)), tf.float32)

    def discriminate(x):
        return tf.reduce_sum(x * weights, axis=(1, 2, 3))[:, None] + 7.0

    return discriminate, float(tf.reduce_sum(tf.square(weights)))


IMAGES = tf.constant(np.random.default_rng(1).uniform(-1, 1, (5, 4, 4, 3)), tf.float32)


def test_r1_of_a_linear_discriminator_is_the_squared_norm_of_its_weights(linear):
    discriminate, square = linear
    penalty = losses.gradient_square_penalty
    assert float(penalty(discriminate, IMAGES)) == pytest.approx(square, rel=1e-6)
    tripled = penalty(lambda x: 3.0 * discriminate(x), IMAGES)
    assert float(tripled) == pytest.approx(9 * square, rel=1e-6)


def test_gp_of_a_linear_discriminator_is_its_norms_squared_distance_from_1(linear):
    discriminate, square = linear
    penalty = losses.gradient_norm_penalty
    expected = (math.sqrt(square) - 1) ** 2
    assert float(penalty(discriminate, IMAGES)) == pytest.approx(expected, rel=1e-5)
    unit = penalty(lambda x: discriminate(x) / math.sqrt(square), IMAGES)
    assert float(unit) == pytest.approx(0.0, abs=1e-9)


def test_gp_of_a_constant_discriminator_has_a_finite_gradient():
    weight = tf.Variable(0.0)
    with tf.GradientTape() as tape:
        penalty = losses.gradient_norm_penalty(
            lambda x: tf.reduce_sum(weight * x, axis=(1, 2, 3))[:, None], IMAGES
        )
    assert float(penalty) == pytest.approx(1.0, abs=1e-5)
    assert np.isfinite(tape.gradient(penalty, weight))


def test_penalties_are_the_mean_over_images():
    images = tf.constant([[[[1.0]]], [[[3.0]]]])  # D(x) = x^2, |grad| = 2 |x|

    def square(x):
        return tf.square(x)[:, 0, 0]

    assert float(losses.gradient_square_penalty(square, images)) == pytest.approx((4 + 36) / 2)
    assert float(losses.gradient_norm_penalty(square, images)) == pytest.approx((1 + 25) / 2)


def test_interpolates_lie_between_fakes_and_reals():
    reals, fakes = IMAGES, -IMAGES[::-1]
    alpha = tf.constant([0.0, 1.0, 0.25, 0.5, 0.75])[:, None, None, None]
    points = losses.interpolate(reals, fakes, alpha).numpy()
    np.testing.assert_array_equal(points[0], fakes[0])
    np.testing.assert_allclose(points[1], reals[1], atol=1e-6)
    np.testing.assert_allclose(points[2], 0.25 * reals[2] + 0.75 * fakes[2], atol=1e-6)


def test_gradients_pass_through_r1():
    weight = tf.Variable(2.0)
    with tf.GradientTape() as tape:
        penalty = losses.gradient_square_penalty(
            lambda x: tf.reduce_sum(weight * x, axis=(1, 2, 3))[:, None], tf.ones((2, 2, 2, 3))
        )  # 12 weight^2
    assert float(penalty) == pytest.approx(48.0)
    assert float(tape.gradient(penalty, weight)) == pytest.approx(48.0)
