"""Measurements of generators, on generators with known answers."""

import fake_run
import numpy as np
import pytest
import tensorflow as tf
from evaluated_run import evaluated_run

from cgan_tf import data
from cgan_tf.data.images import to_float
from cgan_tf.evaluation import generation
from cgan_tf.networks.judge import Judge


class Replay:
    """A generator whose samples are given photos: the latent is the photo's index."""

    z_dim = 1

    def __init__(self, photos, resolution):
        self.photos = tf.constant(photos)
        self.resolution = resolution

    def sample_prior(self, count, seed):
        return tf.reshape(tf.range(count, dtype=tf.float32) % len(self.photos), (-1, 1))

    def from_prior(self, z):
        return tf.gather(self.photos, tf.cast(z[:, 0], tf.int32))


def held_out_photos(dataset):
    rows = np.concatenate([dataset.splits["validation"], dataset.splits["test"]])
    return to_float(dataset.read(rows))


def test_photos_as_fakes_have_distance_zero():
    run = evaluated_run()
    replay = Replay(held_out_photos(run.dataset), 32)
    block = generation.measure_generator(replay, run.models.judge_model, run.dataset, 20, seed=1)
    assert block["fd"] == pytest.approx(0.0, abs=1e-6)
    assert block["fd_at_32"] == pytest.approx(0.0, abs=1e-6)
    assert block["fd_floor"] > 100 * block["fd"]
    assert (block["precision"], block["recall"]) == (1.0, 1.0)


def test_a_generator_of_lower_resolution_is_compared_at_32_px_without_its_blur(tmp_path):
    """At 64 px: photos averaged down to 32 px have a distance in fd, and none in fd_at_32."""
    config = fake_run.make_config(tmp_path, resolution=64)
    dataset = data.open_data(config, say=lambda line: None)
    small = generation.resize(tf.constant(held_out_photos(dataset)), 32)
    model = Judge(dataset.attribute_names, 64)
    block = generation.measure_generator(Replay(small, 32), model, dataset, 20, seed=1)
    assert block["resolution"] == 32
    assert block["fd_at_32"] == pytest.approx(0.0, abs=1e-5)
    assert block["fd"] > 0.001
    assert block["fd_floor"] > 10 * block["fd_at_32"]


def test_resize():
    image = tf.reshape(tf.range(16, dtype=tf.float32), (1, 4, 4, 1))
    np.testing.assert_allclose(generation.resize(image, 2)[0, ..., 0], [[2.5, 4.5], [10.5, 12.5]])
    assert generation.resize(image, 4) is image
    larger = generation.resize(image, 8)
    assert larger.shape == (1, 8, 8, 1)
    assert float(larger[0, 0, 0, 0]) == 0.0 and float(larger[0, 7, 7, 0]) == 15.0
    assert float(larger[0, 0, 1, 0]) == pytest.approx(0.25)


class LatentAsImage:
    """A generator of 1 px whose image is z, and whose w makes a product of z linear."""

    def sample_prior(self, count, seed):
        return tf.random.stateless_normal((count, 4), (seed, 0))

    def mapping(self, z):
        return tf.stack([z[:, 0], z[:, 0] * z[:, 1]], axis=1)

    def from_prior(self, z):
        return z[:, None, None, :]


class SignJudge:
    """A judge that predicts z0 > 0, z0 * z1 > 0, and what hardly any sample has."""

    attribute_names = ("Linear", "Product", "Rare")
    resolution = 1

    def features_and_probabilities(self, images):
        z = images[:, 0, 0, :]
        logits = tf.stack([z[:, 0], z[:, 0] * z[:, 1], z[:, 2] - 4], axis=1)
        return z, tf.cast(logits > 0, tf.float32)


def test_separability_is_the_accuracy_of_a_hyperplane():
    block = generation.measure_separability(LatentAsImage(), SignJudge(), seed=3, samples=2000)
    assert set(block["attributes"]) == {"Linear", "Product"}
    assert (block["n_train"], block["n"], block["seed"]) == (1600, 400, 3)
    linear, product = block["attributes"]["Linear"], block["attributes"]["Product"]
    assert linear["z"] > 0.97 and linear["w"] > 0.97 and product["w"] > 0.97
    assert product["z"] == pytest.approx(0.5, abs=0.08)
    assert linear["positive"] == pytest.approx(0.5, abs=0.05)
    assert block["z"] == pytest.approx((linear["z"] + product["z"]) / 2)
    assert block["w"] == pytest.approx((linear["w"] + product["w"]) / 2)
