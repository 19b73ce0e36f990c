"""cgan_tf.networks.equalized against Keras's layers, and the effect of the equalization."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from cgan_tf.networks import equalized
from cgan_tf.networks.dcgan import Discriminator, Generator


def normal(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


PAIRS = {
    "dense": (lambda: equalized.Dense(7), lambda: layers.Dense(7), (5, 12)),
    "convolution": (
        lambda: equalized.Conv2D(7, 4, 2),
        lambda: layers.Conv2D(7, 4, 2, "same"),
        (2, 8, 8, 5),
    ),
    "convolution of stride 1": (
        lambda: equalized.Conv2D(7, 3),
        lambda: layers.Conv2D(7, 3, 1, "same"),
        (2, 8, 8, 5),
    ),
    "transposed": (
        lambda: equalized.Conv2DTranspose(7, 4, 2),
        lambda: layers.Conv2DTranspose(7, 4, 2, "same"),
        (2, 8, 8, 5),
    ),
}


def upsampling_and_convolution():
    return keras.Sequential([layers.UpSampling2D(), layers.Conv2D(7, 3, 1, "same")])


@pytest.mark.parametrize("name", PAIRS)
def test_the_layers_equal_those_of_keras_with_scaled_weights(name):
    make_ours, make_keras, shape = PAIRS[name]
    ours, reference, x = make_ours(), make_keras(), normal(*shape)
    y = ours(x)
    ours.bias.assign(normal(7, seed=1))
    reference.build(shape)
    reference.set_weights([ours.kernel.numpy() * ours.scale, ours.bias.numpy()])
    np.testing.assert_allclose(ours(x), reference(x), atol=1e-5)
    assert y.shape == ours.compute_output_shape(shape) == reference(x).shape


@pytest.mark.parametrize("name", PAIRS)
def test_weights_have_unit_variance_and_outputs_that_of_he(name):
    layer, _, shape = PAIRS[name]
    layer = layer()
    x = normal(*(200, *shape[1:])) if name == "dense" else normal(8, 32, 32, 5)
    keras.utils.set_random_seed(0)
    y = layer(x).numpy()
    assert np.std(layer.kernel.numpy()) == pytest.approx(1.0, abs=0.2)
    inner = y if name == "dense" else y[:, 2:-2, 2:-2]
    assert np.mean(np.square(inner)) == pytest.approx(2.0, rel=0.45)


def test_upsampled_convolution_equals_upsampling_and_a_convolution():
    ours, reference, x = (
        equalized.UpsampledConv2D(7),
        upsampling_and_convolution(),
        normal(2, 6, 8, 5),
    )
    y = ours(x)
    ours.bias.assign(normal(7, seed=1))
    reference.build(x.shape)
    # The kernel of a transposed convolution is rotated by 180 degrees, with swapped channels.
    kernel = ours.kernel.numpy()[::-1, ::-1].swapaxes(2, 3) * ours.scale
    reference.set_weights([kernel, ours.bias.numpy()])
    np.testing.assert_allclose(ours(x), reference(x), atol=1e-5)
    assert y.shape == ours.compute_output_shape(x.shape) == reference(x).shape
    assert ours.scale == pytest.approx(np.sqrt(2 / 45))


def test_adam_moves_each_weight_relative_to_its_layers_scale():
    layer = equalized.Dense(3)
    x = normal(4, 50)
    layer(x)
    before = layer.kernel.numpy() * layer.scale
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(layer.trainable_variables)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x))
    optimizer.apply(tape.gradient(loss, layer.trainable_variables), layer.trainable_variables)
    moved = np.abs(layer.kernel.numpy() * layer.scale - before)
    np.testing.assert_allclose(moved, 0.01 * np.sqrt(2 / 50), rtol=1e-3)


def test_pixel_norm():
    x = 5.0 * normal(2, 3, 3, 16)
    y = equalized.PixelNorm()(x).numpy()
    np.testing.assert_allclose(np.mean(np.square(y), axis=-1), 1.0, atol=1e-4)
    assert np.all(
        np.sum(y * x, axis=-1) / np.linalg.norm(x, axis=-1) > 0.9999 * 4
    )  # the same direction


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_networks_with_equalized_layers(dtype):
    g = Generator(32, 8, 4, norm="pixel", equalized_lr=True, dtype=dtype)
    d = Discriminator(32, 4, equalized_lr=True, dtype=dtype)
    image = g(normal(4, 8))
    logits = d(image)
    assert image.shape == (4, 32, 32, 3) and image.dtype == tf.float32
    assert logits.shape == (4, 1) and logits.dtype == tf.float32
    assert not any(isinstance(x, layers.BatchNormalization) for x in g.layers)
    again = Generator(**g.get_config())
    assert [w.shape for w in again.weights] == [w.shape for w in g.weights]
    assert Discriminator(**d.get_config()).equalized_lr
    plain = Discriminator(32, 4)
    assert d.count_params() == plain.count_params()
