"""The convolutions as matrix products against Keras's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cgan_tf.networks import convolution

SIDES = {"Conv2D": 8, "Conv2DTranspose": 4}


def passed(module, name, policy, training, use_bias=True):
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
def test_the_products_are_kerass_convolutions(name, policy, tolerance, use_bias):
    assert convolution._as_product(convolution.COARSEST, training=True)
    ours = passed(convolution, name, policy, True, use_bias)
    wanted = passed(keras.layers, name, policy, None, use_bias)
    for one, two in zip(ours, wanted, strict=True):
        assert one.shape == two.shape and np.abs(two).max() > 0.05
        np.testing.assert_allclose(one, two, atol=tolerance * np.abs(two).max())


@pytest.mark.parametrize("name", SIDES)
def test_outside_of_training_they_are_kerass_bit_for_bit(name):
    ours = passed(convolution, name, "float32", False)
    wanted = passed(keras.layers, name, "float32", None)
    for one, two in zip(ours, wanted, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", SIDES)
def test_finer_levels_are_kerass(name, monkeypatch):
    def products(*_):
        raise AssertionError("a product was taken")

    monkeypatch.setattr(convolution, "_as_matrix", products)
    layer = getattr(convolution, name)(5, 4, 2, "same")
    layer(tf.zeros((1, 2 * SIDES[name], 2 * SIDES[name], 3)), training=True)
    with pytest.raises(AssertionError, match="a product"):
        layer(tf.zeros((1, SIDES[name], SIDES[name], 3)), training=True)
