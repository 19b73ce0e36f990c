"""cgan_tf.networks.normalization: Keras's layer, right in the second derivative too."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cgan_tf.networks import normalization


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_it_is_keras_layer_but_for_rounding():
    images, wanted = tf.constant(normal(6, 3, 3, 4) * 2 + 1), []
    for layer in (keras.layers.BatchNormalization(), normalization.BatchNormalization()):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=True)
            loss = tf.reduce_sum(outputs * normal(6, 3, 3, 4, seed=1))
        gradient = tape.gradient(loss, images)
        wanted.append([outputs, gradient, *layer.weights, layer(images, training=False)])
    for one, two in zip(*wanted, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


def test_the_second_derivative():
    # The penalty P(x) = |d/dx sum(tanh(bn(x)) w)|^2: its gradient against central differences.
    layer = normalization.BatchNormalization(dtype="float64")
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


def test_keras_is_taken_for_first_derivatives_alone():
    assert type(normalization.batch_normalization()) is keras.layers.BatchNormalization
    assert type(normalization.batch_normalization(True)) is normalization.BatchNormalization
