"""cgan_tf.losses against closed forms."""

import math

import numpy as np
import pytest
import tensorflow as tf

from cgan_tf import losses

REAL = tf.constant([[-5.0], [1.4], [12.5], [2.7]])
FAKE = tf.constant([[10.0], [4.4], [-5.5], [3.6]])


def test_non_saturating_losses_on_known_logits():
    generator = losses.non_saturating_generator_loss(FAKE)
    discriminator = losses.non_saturating_discriminator_loss(REAL, FAKE)
    assert generator.shape == discriminator.shape == ()
    assert float(generator) == pytest.approx(1.385821, abs=1e-6)
    assert float(discriminator) == pytest.approx(5.833866, abs=1e-6)


def test_losses_at_undecided_logits():
    zeros = tf.zeros((3, 1))
    assert float(losses.non_saturating_generator_loss(zeros)) == pytest.approx(math.log(2))
    assert float(losses.non_saturating_discriminator_loss(zeros, zeros)) == pytest.approx(
        2 * math.log(2)
    )
    # Smoothing changes nothing where D says one half.
    assert float(losses.non_saturating_discriminator_loss(zeros, zeros, 0.9)) == pytest.approx(
        2 * math.log(2)
    )


def test_label_smoothing_is_one_sided_cross_entropy():
    probability = 1 / (1 + np.exp(-REAL.numpy().astype(np.float64)))
    reals = -(0.9 * np.log(probability) + 0.1 * np.log1p(-probability)).mean()
    fakes = np.log1p(np.exp(FAKE.numpy().astype(np.float64))).mean()
    smoothed = float(losses.non_saturating_discriminator_loss(REAL, FAKE, 0.9))
    assert smoothed == pytest.approx(reals + fakes, rel=1e-6)
    # The reals' part changes by (1 - t) E[logit], the fakes' not at all.
    plain = float(losses.non_saturating_discriminator_loss(REAL, FAKE))
    assert smoothed - plain == pytest.approx(0.1 * np.mean(REAL), rel=1e-5)
    # The best answer to the label t is the logit of t.
    with tf.GradientTape() as tape:
        logits = tf.fill((2, 1), math.log(0.9 / 0.1))
        tape.watch(logits)
        loss = losses.non_saturating_discriminator_loss(logits, FAKE, 0.9)
    np.testing.assert_allclose(tape.gradient(loss, logits), 0.0, atol=1e-7)


def test_losses_stay_finite_at_extreme_logits():
    far = tf.constant([[-1e4], [1e4]])
    assert float(losses.non_saturating_generator_loss(far)) == pytest.approx(5e3)
    assert float(losses.non_saturating_discriminator_loss(far, far)) == pytest.approx(1e4)


def test_r1_of_a_linear_discriminator_is_the_squared_norm_of_its_weights():
    weights = tf.constant(np.random.default_rng(0).normal(size=(4, 4, 3)), tf.float32)
    images = tf.constant(np.random.default_rng(1).uniform(-1, 1, (5, 4, 4, 3)), tf.float32)

    def linear(x):
        return tf.reduce_sum(x * weights, axis=(1, 2, 3))[:, None] + 7.0

    assert float(losses.r1_penalty(linear, images)) == pytest.approx(
        float(tf.reduce_sum(tf.square(weights))), rel=1e-6
    )
    assert float(losses.r1_penalty(lambda x: 3.0 * linear(x), images)) == pytest.approx(
        9 * float(tf.reduce_sum(tf.square(weights))), rel=1e-6
    )


def test_r1_is_the_mean_over_images():
    images = tf.constant([[[[1.0]]], [[[3.0]]]])  # D(x) = x^2, |grad|^2 = 4 x^2
    penalty = losses.r1_penalty(lambda x: tf.square(x)[:, 0, 0], images)
    assert float(penalty) == pytest.approx((4 + 36) / 2)


def test_gradients_pass_through_r1():
    weight = tf.Variable(2.0)
    with tf.GradientTape() as tape:
        penalty = losses.r1_penalty(
            lambda x: tf.reduce_sum(weight * x, axis=(1, 2, 3))[:, None], tf.ones((2, 2, 2, 3))
        )  # 12 weight^2
    assert float(penalty) == pytest.approx(48.0)
    assert float(tape.gradient(penalty, weight)) == pytest.approx(48.0)
