"""cgan_tf.networks.growing: each level against the previous one, and the last level."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cgan_tf.networks import growing
from cgan_tf.networks.dcgan import Discriminator, Generator
from cgan_tf.networks.stylegan import StyleGenerator

LEVELS = [(8, False), (16, True), (16, False), (32, True), (32, False)]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def make(arch, norm="none"):
    """Both networks at 32 px, wrapped for progressive growing."""
    keras.utils.set_random_seed(2)
    if arch == "stylegan":
        generator = StyleGenerator(32, 6, 8)
        for layer in generator.to_image:  # not gray
            layer.kernel.assign(0.1 * normal(*layer.kernel.shape))
    else:
        generator = Generator(32, 6, 8, norm="pixel")
        for weight in generator.trainable_weights:
            weight.assign(weight.numpy() * 8)
    return growing.grow(generator), growing.GrowingDiscriminator(Discriminator(32, 8, norm))


def alpha_of(fading, value):
    return tf.constant(value) if fading else None


def test_the_levels():
    assert growing.sides(32) == [8, 16, 32] and growing.sides(8) == [8]


def test_reals_are_blended_as_fakes_are():
    photos = normal(2, 8, 8, 3)
    small = photos.reshape(2, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(growing.fade_reals(photos, 4, None), small, atol=1e-6)
    smaller = small.reshape(2, 2, 2, 2, 2, 3).mean(axis=(2, 4))
    enlarged = tf.image.resize(smaller, (4, 4), "bilinear")
    blended = growing.fade_reals(photos, 4, tf.constant(0.25))
    np.testing.assert_allclose(blended, 0.75 * enlarged + 0.25 * small, atol=1e-6)
    np.testing.assert_allclose(growing.fade_reals(photos, 8, None), photos)


@pytest.mark.parametrize("arch", ["dcgan", "stylegan"])
def test_alpha_blends_a_level_of_g_with_the_previous_one(arch):
    generator, _ = make(arch)
    z = normal(3, 6)
    for side in (16, 32):
        before, full = (generator.from_prior(z, s, None).numpy() for s in (side // 2, side))
        assert before.std() > 0.05 and full.std() > 0.05
        at_0, half, at_1 = (generator.from_prior(z, side, tf.constant(a)) for a in (0.0, 0.5, 1.0))
        if arch == "dcgan":
            enlarged = tf.image.resize(before, (side, side), "bilinear").numpy()
            middle = (enlarged + full) / 2
        else:  # it blends before the tanh
            sums = tf.image.resize(np.arctanh(before), (side, side), "bilinear").numpy()
            enlarged = np.tanh(sums)
            middle = np.tanh((sums + np.arctanh(full)) / 2)
        np.testing.assert_allclose(at_0, enlarged, atol=1e-4)
        np.testing.assert_allclose(half, middle, atol=1e-4)
        np.testing.assert_allclose(at_1, full, atol=1e-5)


def test_alpha_blends_a_level_of_d_with_the_previous_one():
    _, discriminator = make("dcgan")
    for side in (16, 32):
        images = normal(4, side, side, 3)
        small = growing.downsample(images, side // 2)
        before = discriminator(small, side // 2, None, training=True).numpy()
        full = discriminator(images, side, None, training=True).numpy()
        at_0, half, at_1 = (
            discriminator(images, side, tf.constant(a), training=True).numpy()
            for a in (0.0, 0.5, 1.0)
        )
        assert np.abs(before - full).max() > 0.05
        np.testing.assert_allclose(at_0, before, atol=1e-5)
        np.testing.assert_allclose(at_1, full, atol=1e-5)
        assert np.abs(half - before).max() > 1e-3 and np.abs(half - full).max() > 1e-3


@pytest.mark.parametrize("arch", ["dcgan", "stylegan"])
def test_the_last_level_is_the_finished_network(arch):
    generator, discriminator = make(arch)
    z = normal(3, 6)
    images = generator.from_prior(z, 32, None)
    np.testing.assert_allclose(images, generator.generator.from_prior(z), atol=1e-6)
    np.testing.assert_allclose(
        discriminator(normal(4, 32, 32, 3), 32, None, training=True),
        discriminator.discriminator(normal(4, 32, 32, 3), training=True),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "arch, norm", [("dcgan", "none"), ("stylegan", "batch"), ("dcgan", "spectral")]
)
def test_the_trainable_variables_of_a_level_are_those_with_a_gradient(arch, norm):
    generator, discriminator = make(arch, norm)
    inputs = generator.generator.sample_inputs(4, keras.random.SeedGenerator(1))
    counts = []
    for side, fading in LEVELS:
        alpha = alpha_of(fading, 0.5)
        with tf.GradientTape() as tape:
            images = generator.training_images(inputs, side, alpha)
            logits = discriminator(images, side, alpha, training=True)
            loss = tf.reduce_sum(logits * normal(4, 1))
        assert images.shape == (4, side, side, 3) and logits.shape == (4, 1)
        of_g, of_d = generator.trainable_variables, discriminator.trainable_variables
        g_gradients, d_gradients = tape.gradient(loss, [of_g, of_d])
        for variables, gradients, at in (
            (of_g, g_gradients, generator.trainable_at(side, fading)),
            (of_d, d_gradients, discriminator.trainable_at(side, fading)),
        ):
            used = {id(v) for v, g in zip(variables, gradients, strict=True) if g is not None}
            assert {id(variable) for variable in at} == used and len(at) == len(used)
        counts.append(len(generator.trainable_at(side, fading)))
    assert counts[-1] == len(generator.generator.trainable_variables)


@pytest.mark.parametrize("arch", ["dcgan", "stylegan"])
def test_the_additional_layers_are_not_part_of_the_finished_networks(arch):
    generator, discriminator = make(arch)
    ordinary = StyleGenerator(32, 6, 8) if arch == "stylegan" else Generator(32, 6, 8, norm="pixel")
    assert generator.generator.count_params() == ordinary.count_params()
    assert discriminator.discriminator.count_params() == Discriminator(32, 8).count_params()
    for grown, network in (
        (generator, generator.generator),
        (discriminator, discriminator.discriminator),
    ):
        everything = grown.variables
        assert len({id(variable) for variable in everything}) == len(everything)
        assert [id(v) for v in everything[: len(network.variables)]] == [
            id(v) for v in network.variables
        ]
    added = len(generator.variables) - len(generator.generator.variables)
    assert added == (4 if arch == "dcgan" else 0)  # kernel and bias of two toRGB layers
    assert len(discriminator.variables) - len(discriminator.discriminator.variables) == 4
