"""cgan_tf.networks.normalization: Keras's layer, fused, and with the right second derivative."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cgan_tf.networks.normalization import BatchNormalization


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_the_penalized_layer_equals_that_of_keras():
    images, results = tf.constant(normal(6, 3, 3, 4) * 2 + 1), []
    for layer in (keras.layers.BatchNormalization(), BatchNormalization(penalized=True)):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=True)
            loss = tf.reduce_sum(outputs * normal(6, 3, 3, 4, seed=1))
        gradient = tape.gradient(loss, images)
        results.append([outputs, gradient, *layer.weights, layer(images, training=False)])
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


def test_the_second_derivative_of_the_penalized_layer():
    # The penalty P(x) = |d/dx sum(tanh(bn(x)) w)|^2: its gradient against central differences.
    layer = BatchNormalization(penalized=True, dtype="float64")
    layer.build((None, 1))
    weights = normal(5, 1, seed=1).astype(np.float64)

    def penalty(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(tf.tanh(layer(x, training=True)) * weights)
        return tf.reduce_sum(tf.square(tape.gradient(value, x)))

    x = tf.constant(normal(5, 1).astype(np.float64))
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = penalty(x)
    gradient = tape.gradient(value, x).numpy()
    for index in range(5):
        step = np.zeros((5, 1))
        step[index] = 1e-5
        difference = (penalty(x + step) - penalty(x - step)) / 2e-5
        assert gradient[index, 0] == pytest.approx(float(difference), rel=1e-5, abs=1e-7)


def features(seed, dtype):
    values = np.random.default_rng(seed).normal(0.5, 2.0, (6, 5, 4, 3)).astype(np.float32)
    return tf.cast(values, dtype)


def evaluate(cls, policy, training):
    """Output, first and second gradients, and statistics after one call."""
    layer = cls(momentum=0.9, dtype=policy)
    x = features(0, layer.compute_dtype)
    layer.build(x.shape)
    for index, variable in enumerate(layer.variables):  # gamma, beta, mean, variance
        variable.assign(np.random.default_rng(index).uniform(0.5, 2.0, 3))
    sources = [x, layer.gamma.value, layer.beta.value]
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = layer(x, training=training)
            loss = tf.reduce_sum(tf.cast(y * features(1, y.dtype), tf.float32) ** 2)
        gradients = inner.gradient(loss, sources)
        slope = tf.reduce_sum(tf.cast(gradients[0], tf.float32) ** 2)
    second = outer.gradient(slope, sources[:2])
    found = [y, *gradients, *second, layer.moving_mean.value, layer.moving_variance.value]
    return y.dtype, [tf.cast(value, tf.float32).numpy() for value in found]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("policy, tolerance", [("float32", 1e-5), ("mixed_bfloat16", 0.03)])
def test_the_fused_layer_equals_that_of_keras(policy, tolerance, training):
    dtype, ours = evaluate(BatchNormalization, policy, training)
    expected_dtype, expected = evaluate(keras.layers.BatchNormalization, policy, training)
    assert dtype == expected_dtype
    for one, two in zip(ours, expected, strict=True):
        assert np.abs(two).max() > 0.01
        np.testing.assert_allclose(one, two, atol=tolerance * np.abs(two).max())
    # The statistics are float32 in both.
    for one, two in zip(ours[-2:], expected[-2:], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)


def test_a_frozen_layer_does_not_update_its_statistics():
    layer = BatchNormalization()
    layer.build((6, 5, 4, 3))
    layer.trainable = False
    layer(features(0, tf.float32), training=True)
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(3))
    np.testing.assert_array_equal(layer.moving_variance, np.ones(3))
