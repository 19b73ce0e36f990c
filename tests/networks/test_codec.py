"""Halves of the generators, the detail features, and the codec that they make."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from cgan_tf.core import artifact
from cgan_tf.export.device_generator import DeviceGenerator, ResidualDeviceGenerator
from cgan_tf.networks.attribute_discriminator import AttributeDiscriminator
from cgan_tf.networks.codec import EDIT, Code, Codec
from cgan_tf.networks.dcgan import Discriminator, Generator
from cgan_tf.networks.detail_features import DetailFeatures
from cgan_tf.networks.encoder import Encoder
from cgan_tf.networks.residual import ResidualDiscriminator, ResidualGenerator
from cgan_tf.networks.stylegan import StyleGenerator

SIDE, Z_DIM, WIDTH = 32, 8, 4


def shaken(model, seed=1, scale=0.3):
    """The model with random weights: nothing is zero, gray or the identity."""
    draw = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(np.abs(weight.numpy()) + scale * draw.standard_normal(weight.shape))
    return model


def style_generator(space):
    model = shaken(StyleGenerator(SIDE, Z_DIM, WIDTH))
    for layer in model.to_image:  # the image is not saturated
        layer.kernel.assign(1e-3 * layer.kernel)
    model.space = space
    return model


GENERATORS = {
    "dcgan": lambda: shaken(Generator(SIDE, Z_DIM, WIDTH)),
    "residual": lambda: shaken(ResidualGenerator(SIDE, Z_DIM, WIDTH)),
    "stylegan w": lambda: style_generator("w"),
    "stylegan ws": lambda: style_generator("ws"),
    "device": lambda: DeviceGenerator(shaken(Generator(SIDE, Z_DIM, WIDTH))),
    "residual device": lambda: ResidualDeviceGenerator(
        shaken(ResidualGenerator(SIDE, Z_DIM, WIDTH))
    ),
}


def latents(model, count=3):
    draw = np.random.default_rng(2)
    return tf.constant(draw.standard_normal((count, *model.latent_shape)), tf.float32)


@pytest.mark.parametrize("name", GENERATORS)
def test_the_halves_of_a_generator_make_its_image(name):
    model = GENERATORS[name]()
    latent = latents(model)
    image = model(latent, training=False).numpy()
    assert image.std() > 0.05
    for side in (8, 16):
        coarse, fine = model.halves(side)
        state = coarse(latent)
        assert state[0].shape[:3] == (3, side, side)
        np.testing.assert_allclose(fine(state).numpy(), image, atol=2e-5)
        # The maps matter for the image, wherever it is cut.
        changed = fine([1.5 * state[0], *state[1:]]).numpy()
        assert np.abs(changed - image).mean() > 1e-3


@pytest.mark.parametrize("name", ["dcgan", "residual", "stylegan w"])
def test_the_channels_at_a_cut_are_those_of_the_maps(name):
    model = GENERATORS[name]()
    for side in (8, 16):
        maps = model.halves(side)[0](latents(model))[0]
        assert model.channels_at(side) == maps.shape[-1]


def make_codec(features=True):
    generator = GENERATORS["dcgan"]()
    encoder = shaken(Encoder(SIDE, (Z_DIM,), WIDTH), seed=3)
    network = shaken(DetailFeatures(SIDE, 8, generator.channels_at(8), 8), seed=4)
    return Codec(encoder, generator, network if features else None)


@pytest.fixture(scope="module")
def codec():
    return make_codec()


@pytest.fixture(scope="module")
def photos():
    draw = np.random.default_rng(5)
    return tf.constant(draw.uniform(-1, 1, (2, SIDE, SIDE, 3)), tf.float32)


def test_a_fresh_network_predicts_no_features_and_leaves_given_ones_as_they_are(photos):
    network = DetailFeatures(SIDE, 8, 4, 8)
    draw = np.random.default_rng(6)
    maps, features, change = (
        tf.constant(draw.standard_normal((2, 8, 8, 4)), tf.float32) for _ in range(3)
    )
    assert not network.predict_features(photos, -photos, maps).numpy().any()
    np.testing.assert_array_equal(network.edit(features, maps, change), features)


def test_features_are_edited_by_the_gate_and_the_addition_in_proportion_to_the_change():
    network = DetailFeatures(SIDE, 8, 4, 8)
    *_, gate, addition = network.editor.layers[-2:]
    gate.bias.assign(np.full(4, np.log(3.0)))  # 2 * sigmoid = 1.5
    addition.bias.assign(np.full(4, 0.25))
    maps = tf.ones((1, 8, 8, 4))
    features = tf.fill((1, 8, 8, 4), 2.0)
    # A change of 0.1 of the maps' size gives half of 0.5 * 2 + 0.25.
    edited = network.edit(features, maps, 0.1 * maps)
    np.testing.assert_allclose(edited, np.full((1, 8, 8, 4), 2.625), rtol=1e-5)
    np.testing.assert_allclose(network.edit(features, maps, 0 * maps), features, atol=2e-5)


def test_a_code_has_the_encoders_latent_and_the_predicted_features(codec, photos):
    code = codec.encode(photos)
    np.testing.assert_array_equal(code.latent, codec.encoder(photos, training=False))
    coarse, fine = codec.generator.halves(8)
    maps = coarse(code.latent)[0]
    expected = codec.features.predictor([photos, fine([maps]), maps])
    np.testing.assert_allclose(code.features, expected, rtol=1e-5, atol=1e-5)
    assert code.features.shape == (2, *codec.features_shape) == (2, 8, 8, 8)
    np.testing.assert_allclose(
        codec.generate(code), fine([maps + code.features]), rtol=1e-5, atol=1e-5
    )


def test_an_offset_moves_the_latent_and_edits_the_features(codec, photos):
    code = codec.encode(photos)
    offset = latents(codec, count=2)
    coarse, fine = codec.generator.halves(8)
    before, after = coarse(code.latent)[0], coarse(code.latent + offset)[0]
    features = codec.features.edit(code.features, before, after - before)
    expected = fine([after + features]).numpy()
    edited = codec.generate(code, offset).numpy()
    np.testing.assert_allclose(edited, expected, rtol=1e-5, atol=1e-5)
    unedited = fine([after + code.features]).numpy()
    assert np.abs(edited - unedited).mean() > 1e-3  # the features have changed as well
    zero = codec.generate(code, 0 * offset)
    np.testing.assert_allclose(zero, codec.generate(code), atol=2e-4)


def test_without_features_a_code_is_the_latent_alone(photos):
    codec = make_codec(features=False)
    code = codec.encode(photos)
    assert code.features.shape == (2, 0) and codec.features_shape == (0,)
    offset = latents(codec, count=2)
    np.testing.assert_array_equal(
        codec.generate(code, offset), codec.generator(code.latent + offset, training=False)
    )
    np.testing.assert_array_equal(
        codec.generate(Code(code.latent, None)), codec.generator(code.latent, training=False)
    )


def test_the_operator_that_moves_a_latent_is_in_the_scope_that_stays_float(codec):
    graph = tf.function(codec.generate).get_concrete_function(
        Code(tf.TensorSpec((1, Z_DIM)), tf.TensorSpec((1, 8, 8, 8))), tf.TensorSpec((1, Z_DIM))
    )
    moved = [op for op in graph.graph.get_operations() if op.name.startswith(f"{EDIT}/")]
    assert [op.type for op in moved] == ["AddV2"]


def test_detail_features_are_saved_and_loaded(tmp_path):
    network = shaken(DetailFeatures(SIDE, 16, 6, 8), seed=7)
    artifact.save_model(network, tmp_path / "model")
    loaded = artifact.load_model(DetailFeatures, tmp_path / "model")
    assert loaded.get_config() == network.get_config()
    assert tiny.same(tiny.values(loaded), tiny.values(network))


@pytest.mark.parametrize("discriminator", [Discriminator, ResidualDiscriminator])
def test_the_heads_of_an_attribute_discriminator_read_the_discriminators_maps(
    discriminator, photos
):
    alone = shaken(discriminator(SIDE, WIDTH), seed=8)
    network = AttributeDiscriminator(alone, 5)
    *_, conditions = network(photos)
    assert not conditions.numpy().any()  # they start at 0
    shaken(network.get_layer("conditions"), seed=9)
    maps = keras.Model(alone.input, alone.maps[4])(photos).numpy().reshape(2, -1)
    heads = {"logits": 1, "attributes": 5, "conditions": 5}
    for found, (name, count) in zip(network(photos), heads.items(), strict=True):
        kernel, *bias = network.get_layer(name).get_weights()
        assert found.shape == (2, count)
        np.testing.assert_allclose(found, maps @ kernel + sum(bias), rtol=1e-4, atol=1e-4)
