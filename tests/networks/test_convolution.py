"""cgan_tf.networks.convolution: the matrix products against Keras's convolutions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cgan_tf.networks import convolution
from cgan_tf.training import cpu_kernels

SIDES = {"Conv2D": 8, "Conv2DTranspose": 4}


def evaluate(module, name, policy, training, use_bias=True):
    """Output, first and second gradients of one call; `training` is None for Keras's layers."""
    layer = getattr(module, name)(5, 4, 2, "same", use_bias=use_bias, dtype=policy)
    side = SIDES[name]
    x = tf.constant(np.random.default_rng(0).normal(size=(3, side, side, 6)).astype(np.float32))
    layer.build(x.shape)
    for index, variable in enumerate(layer.variables):
        variable.assign(np.random.default_rng(index).normal(0, 0.1, variable.shape))
    sources = [x, *(variable.value for variable in layer.variables)]
    options = {} if training is None else {"training": training}
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = tf.cast(layer(x, **options), tf.float32)
            loss = tf.reduce_sum(tf.sin(y))
        gradients = inner.gradient(loss, sources)
        slope = tf.reduce_sum(tf.square(gradients[0]))
    second = outer.gradient(slope, sources)
    return [value.numpy() for value in (y, *gradients, *second)]


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("policy, tolerance", [("float32", 1e-5), ("mixed_bfloat16", 0.05)])
@pytest.mark.parametrize("name", SIDES)
def test_matrix_products_equal_the_convolutions_of_keras(name, policy, tolerance, use_bias):
    assert cpu_kernels.prefer_matrix_product(4)
    ours = evaluate(convolution, name, policy, True, use_bias)
    expected = evaluate(keras.layers, name, policy, None, use_bias)
    for one, two in zip(ours, expected, strict=True):
        assert one.shape == two.shape and np.abs(two).max() > 0.05
        np.testing.assert_allclose(one, two, atol=tolerance * np.abs(two).max())


@pytest.mark.parametrize("name", SIDES)
def test_outside_of_training_the_layers_are_those_of_keras_bit_for_bit(name):
    ours = evaluate(convolution, name, "float32", False)
    expected = evaluate(keras.layers, name, "float32", None)
    for one, two in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", SIDES)
def test_only_the_coarsest_level_uses_a_matrix_product(name, monkeypatch):
    def refuse(*_):
        raise AssertionError("a matrix product was used")

    monkeypatch.setattr(cpu_kernels, "_kernel_matrix", refuse)
    layer = getattr(convolution, name)(5, 4, 2, "same")
    layer(tf.zeros((1, 2 * SIDES[name], 2 * SIDES[name], 3)), training=True)
    with pytest.raises(AssertionError, match="a matrix product"):
        layer(tf.zeros((1, SIDES[name], SIDES[name], 3)), training=True)
