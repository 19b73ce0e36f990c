"""export.device_generator: the form for devices generates the same images as the original."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from cgan_tf.editing.network import EditingNetwork
from cgan_tf.export import device_generator, saved_model, tflite
from cgan_tf.networks.codec import Codec
from cgan_tf.networks.dcgan import Generator
from cgan_tf.networks.encoder import Encoder
from cgan_tf.networks.residual import ResidualGenerator
from cgan_tf.networks.stylegan import StyleGenerator


def with_trained_statistics(generator: keras.Model) -> keras.Model:
    """Sets batch-norm statistics and offsets that training could produce."""
    draw = np.random.default_rng(0)
    for weight in generator.weights:
        value = draw.normal(size=weight.shape) * 0.3
        if "gamma" in weight.name or "variance" in weight.name:
            value = 0.5 + np.abs(value)
        weight.assign(value)
    return generator


@pytest.mark.parametrize("filters", [3, 12])
@pytest.mark.parametrize("form", [device_generator.UpConvolution, device_generator.UpProduct])
def test_both_replacements_equal_a_transposed_convolution(form, filters):
    draw = np.random.default_rng(1)
    kernel = draw.normal(size=(4, 4, filters, 5)).astype(np.float32)
    bias = draw.normal(size=filters).astype(np.float32)
    x = draw.normal(size=(3, 4, 6, 5)).astype(np.float32)
    expected = tf.nn.conv2d_transpose(x, kernel, (3, 8, 12, filters), 2, "SAME") + bias
    np.testing.assert_allclose(form(kernel, bias)(x), expected, atol=2e-5)


@pytest.mark.parametrize("norm", ["batch", "pixel"])
@pytest.mark.parametrize("equalized_lr", [False, True])
def test_the_device_form_generates_the_same_images(norm, equalized_lr):
    generator = with_trained_statistics(Generator(32, 6, 4, norm=norm, equalized_lr=equalized_lr))
    latent = np.random.default_rng(2).normal(size=(5, 6)).astype(np.float32)
    expected = generator(latent, training=False).numpy()
    assert expected.std() > 0.1
    got = device_generator.DeviceGenerator(generator)(latent)
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_the_operators_of_the_device_form():
    """No transposed convolutions, and batch norm is folded into the products and convolutions."""
    generator = with_trained_statistics(Generator(32, 6, 8))
    assert any(isinstance(layer, layers.Conv2DTranspose) for layer in generator.layers)
    generate = tf.function(device_generator.DeviceGenerator(generator), autograph=False)
    graph = generate.get_concrete_function(tf.TensorSpec((1, 6))).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert "Conv2DBackpropInput" not in kinds
    assert kinds.count("MatMul") == 3 and kinds.count("Conv2D") == 1  # dense, 8, 16; 32 px
    assert not {"Mul", "Rsqrt"} & set(kinds)


def test_a_network_in_the_device_form(tmp_path):
    generator, encoder = (
        with_trained_statistics(Generator(32, 6, 8)),
        with_trained_statistics(Encoder(32, (6,), 4)),
    )
    network = EditingNetwork(Codec(encoder, generator), {"A": np.ones(6), "B": -np.ones(6)})
    image = np.random.default_rng(3).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    strengths = np.float32([[0.5, -0.2]])
    slim = device_generator.for_device(network)
    assert slim.attributes == ("A", "B") and slim.resolution == 32
    np.testing.assert_allclose(
        slim.translate(image, strengths), network.translate(image, strengths), atol=2e-5
    )
    saved_model.write(slim, tmp_path / "model", saved_model.DEVICE_SIGNATURES, batch=1)
    operators = tflite.operators(tflite.convert(tmp_path / "model", "none", "{}"))
    assert "TRANSPOSE_CONV" not in operators and "DEPTH_TO_SPACE" in operators


@pytest.mark.parametrize("norm", ["batch", "pixel"])
def test_the_device_form_of_a_residual_generator(norm):
    """It generates the same images without transposed convolutions."""
    generator = with_trained_statistics(ResidualGenerator(32, 6, 8, norm=norm))
    network = EditingNetwork(Codec(Encoder(32, (6,), 4), generator), {"A": np.ones(6)})
    slim = device_generator.for_device(network).generator
    latent = np.random.default_rng(2).normal(size=(5, 6)).astype(np.float32)
    expected = generator(latent, training=False).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(slim(latent), expected, atol=2e-5)
    generate = tf.function(slim, autograph=False)
    graph = generate.get_concrete_function(tf.TensorSpec((1, 6))).graph
    assert "Conv2DBackpropInput" not in {operation.type for operation in graph.get_operations()}
    np.testing.assert_array_equal(generator(latent, training=False), expected)  # as before


def test_a_style_generator_is_not_changed():
    generator = StyleGenerator(32, 6, 4)
    generator.space = "w"
    network = EditingNetwork(Codec(Encoder(32, (6,), 4), generator), {"A": np.ones(6)})
    assert device_generator.for_device(network).generator is generator
