"""Pivotal tuning: one photo is reconstructed better, and afterwards the generator is reset."""

import dataclasses
import types

import fake_run
import numpy as np
import pytest
import tensorflow as tf

from cgan_tf.editing import projection, tuning
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.networks.codec import Code, Codec
from cgan_tf.networks.stylegan import StyleGenerator


@pytest.fixture(scope="module", autouse=True)
def fast():
    """A random generator can learn faster than a trained one, and a slim VGG16 costs little."""
    with pytest.MonkeyPatch.context() as patch, fake_run.slim():
        patch.setattr(tuning, "LEARNING_RATE", 1e-3)
        yield


@pytest.fixture(scope="module")
def tuner(fast):
    run = fake_run.slim_run().path
    codec = EditingNetwork.from_run(run).codec
    return tuning.Tuner.of(projection.load_projector(run, codec))


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).uniform(-0.8, 0.8, (4, 4, 3)).repeat(8, 0).repeat(8, 1)


@pytest.fixture(scope="module")
def pivot(tuner):
    draw = np.random.default_rng(1)
    return {
        "latent": tuner.generator.sample_latent(1, seed=3).numpy()[0],
        "features": np.float32(0.1 * draw.standard_normal(tuner.codec.features_shape)),
    }


def generate(tuner, code):
    code = Code(code["latent"][None], code["features"][None])
    return tuner.codec.generate(code).numpy()[0]


def error(tuner, photo, code):
    return float(np.mean(np.square(generate(tuner, code) - photo)))


def test_within_the_context_the_photo_is_reconstructed_better_and_afterwards_all_is_reset(
    tuner, photo, pivot
):
    before = [weight.numpy() for weight in tuner.generator.weights]
    start = error(tuner, photo, pivot)
    with tuner.tuned(photo, pivot, 12):
        tuned = error(tuner, photo, pivot)
        first = generate(tuner, pivot)
    assert tuned < 0.98 * start
    for weight, value in zip(tuner.generator.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    with tuner.tuned(photo, pivot, 12):
        np.testing.assert_array_equal(
            generate(tuner, pivot), first, "each photo starts from the original weights"
        )


def test_weights_are_reset_after_an_error(tuner, photo, pivot):
    before = generate(tuner, pivot)
    with pytest.raises(RuntimeError, match="in the middle"), tuner.tuned(photo, pivot, 2):
        raise RuntimeError("in the middle")
    np.testing.assert_array_equal(generate(tuner, pivot), before)


def test_the_gradient_is_that_of_the_photo_and_of_a_neighbor(tuner, photo, pivot):
    # Equations 2 and 5 of the paper. The gradient is compared and not the images after many steps:
    # in a random generator a difference of rounding grows as large as the effect of the term.
    settings = dataclasses.replace(tuner.settings, pixel_weight=2.0, feature_weight=0.5)
    fresh = tuning.Tuner(tuner.codec, tuner.perceptual, settings)
    latent, features = pivot["latent"], pivot["features"][None]
    near = latent + tuning.NEAR * (fresh._neighbors.numpy() - latent)
    originals = fresh.codec.generate(Code(near, np.repeat(features, len(near), axis=0)))

    def distance(latent, target):
        image = fresh.codec.generate(Code(latent[None], features))
        squared = tf.reduce_mean(tf.square(image - target))
        return 2.0 * squared + 0.5 * fresh.perceptual(image, target[None])[0]

    def flat(gradient):
        return np.concatenate([slope.numpy().ravel() for slope in gradient])

    def expected(neighbor):
        with tf.GradientTape() as tape:
            loss = distance(latent, np.float32(photo))
            loss += tuning.LOCALITY_WEIGHT * distance(near[neighbor], originals[neighbor])
        return flat(tape.gradient(loss, fresh.variables))

    pairs, apply = [], fresh.optimizer.apply

    def record(gradient, variables):
        pairs.append((flat(gradient), expected(neighbor=len(pairs))))
        apply(gradient, variables)

    fresh._advance, fresh.optimizer.apply = fresh._step, record  # without a graph
    with fresh.tuned(photo, pivot, 3):  # before the first step the neighbors have not changed
        pass
    assert len(pairs) == 3
    for gradient, closed_form in pairs:
        assert np.linalg.norm(gradient - closed_form) < 1e-3 * np.linalg.norm(closed_form)


def test_the_first_step_is_that_of_adam(tuner, photo, pivot):
    # Adam's first step moves each weight by the learning rate, against the gradient's sign.
    only_pixels = dataclasses.replace(tuner.settings, feature_weight=0.0, pixel_weight=1.0)
    fresh = tuning.Tuner(tuner.codec, tuner.perceptual, only_pixels)
    before = [weight.numpy() for weight in fresh.variables]
    with fresh.tuned(photo, pivot, 1):
        steps = [
            np.abs(weight.numpy() - value)
            for weight, value in zip(fresh.variables, before, strict=True)
        ]
    largest = max(step.max() for step in steps)
    assert abs(largest / tuning.LEARNING_RATE - 1) < 0.01


def test_in_w_the_mapping_network_of_a_stylegan_is_not_tuned():
    generator = StyleGenerator(16, 8, 4)
    no_features = types.SimpleNamespace(features=lambda images: [])
    settings = projection.Settings(steps=1, seed=0, starts=1, patience=0, feature_weight=0.0)

    def tuned(space):
        generator.space = space
        return {
            id(one) for one in tuning.Tuner(Codec(None, generator), no_features, settings).variables
        }

    all_variables = {id(one) for one in generator.trainable_variables}
    mapping = {id(one) for one in generator.mapping.trainable_variables}
    assert mapping and tuned("w") == all_variables - mapping
    assert tuned("z") == all_variables
