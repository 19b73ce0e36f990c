"""Pivotal tuning: nearer to the one photo, the rest as before, and no trace afterwards."""

import types

import fake_run
import numpy as np
import pytest

from cgan_tf.core import config as config_module
from cgan_tf.editing import projection, tuning
from cgan_tf.editing.network import Translator
from cgan_tf.networks.stylegan import StyleGenerator


@pytest.fixture(scope="module", autouse=True)
def fast():
    """The tests' random generator learns faster than a trained one may."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "LEARNING_RATE", 1e-3)
        yield


@pytest.fixture(scope="module")
def tuner(fast):
    run = fake_run.shared_run().path
    return tuning.Tuner.of(projection.of_run(run, Translator.from_run(run)))


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).uniform(-0.8, 0.8, (4, 4, 3)).repeat(8, 0).repeat(8, 1)


@pytest.fixture(scope="module")
def pivot(tuner):
    return tuner.generator.sample_latent(1, seed=3).numpy()[0]


def draw(tuner, latent):
    return tuner.generator(latent[None], training=False).numpy()[0]


def error(tuner, photo, latent):
    return float(np.mean(np.square(draw(tuner, latent) - photo)))


def test_inside_the_photo_is_drawn_better_and_outside_nothing_has_changed(tuner, photo, pivot):
    before = [weight.numpy() for weight in tuner.generator.weights]
    start = error(tuner, photo, pivot)
    with tuner.tuned(photo, pivot, 20):
        tuned = error(tuner, photo, pivot)
        first = draw(tuner, pivot)
    assert tuned < 0.9 * start
    for weight, value in zip(tuner.generator.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    with tuner.tuned(photo, pivot, 20):
        np.testing.assert_array_equal(draw(tuner, pivot), first, "a photo begins anew")


def test_weights_return_after_an_error(tuner, photo, pivot):
    before = draw(tuner, pivot)
    with pytest.raises(RuntimeError, match="in the middle"), tuner.tuned(photo, pivot, 2):
        raise RuntimeError("in the middle")
    np.testing.assert_array_equal(draw(tuner, pivot), before)


def test_neighbors_stay_nearer_with_the_locality(tuner, photo, pivot, monkeypatch):
    near = pivot + tuning.NEAR * (tuner._neighbors.numpy()[0] - pivot)
    before = draw(tuner, near)

    def moved():
        fresh = tuning.Tuner(tuner.generator, tuner.perceptual, tuner.settings)
        with fresh.tuned(photo, pivot, 20):
            return float(np.mean(np.square(draw(tuner, near) - before)))

    with_it = moved()
    monkeypatch.setattr(tuning, "LOCALITY_WEIGHT", 0.0)
    assert with_it < 0.8 * moved()


def test_one_step_is_adams(tuner, photo, pivot):
    # Adam's first step moves each weight by its rate against the gradient's sign.
    only_pixels = config_module.replace(tuner.settings, feature_weight=0.0, inversion_pixel_weight=1.0)
    fresh = tuning.Tuner(tuner.generator, tuner.perceptual, only_pixels)
    before = [weight.numpy() for weight in fresh.variables]
    with fresh.tuned(photo, pivot, 1):
        steps = [
            np.abs(weight.numpy() - value)
            for weight, value in zip(fresh.variables, before, strict=True)
        ]
    largest = max(step.max() for step in steps)
    assert abs(largest / tuning.LEARNING_RATE - 1) < 0.01


def test_of_a_stylegan_in_w_only_what_draws_is_tuned():
    generator = StyleGenerator(16, 8, 4)
    no_features = types.SimpleNamespace(features=lambda images: [])
    settings = projection.Settings(1, 0.1, 1, 0, 1.0, 0.0, 0.0, 0)

    def tuned(space):
        generator.space = space
        return {id(one) for one in tuning.Tuner(generator, no_features, settings).variables}

    every = {id(one) for one in generator.trainable_variables}
    mapping = {id(one) for one in generator.mapping.trainable_variables}
    assert mapping and tuned("w") == every - mapping
    assert tuned("z") == every
