"""Calibration on toy networks, whose changes are known in closed form."""

import types

import numpy as np
import pytest
import tensorflow as tf

from cgan_tf.core.errors import UserError
from cgan_tf.networks.codec import Codec
from cgan_tf.stages import calibration, directions


class Toys(types.SimpleNamespace):
    """Networks and a data set for `Calibration`: 30 photos, every third has the attribute.

    A latent is (label of the photo, distance moved); photos with the attribute are white.

    Args:
        score: the regressor's score as a function of both.
        vector: the direction.
    """

    def __init__(self, score, vector=(0.0, 1.0)):
        def generator(latent, training):
            return latent

        def regressor(latent, training):
            latent = tf.convert_to_tensor(latent)
            return tf.stack(
                [tf.zeros_like(latent[:, 0]), score(latent[:, 0], latent[:, 1])], axis=1
            )

        def encoder(batch, training):
            has = tf.cast(tf.reduce_mean(batch, axis=(1, 2, 3)) > 0, tf.float32)
            return tf.stack([has, tf.zeros_like(has)], axis=1)

        labels = np.zeros((30, 2), np.float32)
        labels[::3, 1] = 1
        generator.space = "z"
        trainer = types.SimpleNamespace(
            codec=Codec(encoder, generator),
            perceptual=types.SimpleNamespace(regressor=regressor),
            columns=tf.constant([1]),
            directions=tf.Variable([vector]),
        )

        def read(rows):
            return np.broadcast_to(
                np.where(labels[rows, 1], 255, 0).astype(np.uint8)[:, None, None, None],
                (len(rows), 2, 2, 3),
            )

        dataset = types.SimpleNamespace(
            splits={"train": np.arange(30), "validation": np.arange(30)},
            labels=labels,
            attribute_names=("Other", "Smiling"),
            read=read,
        )
        super().__init__(trainer=trainer, dataset=dataset)

    def calibration(self, count=200):
        return directions.make_calibration(self.trainer, self.dataset, "validation", count)

    def calibrate(self, target, count=200):
        """The calibrated vector and its table."""
        measured = self.calibration(count)
        photos = [measured.photos(1, value) for value in (0, 1)]
        vector = measured.scale(photos[0], self.trainer.directions.numpy()[0], 1, target)
        return vector, measured.table(photos, vector, 1)


@pytest.mark.parametrize("slope, target", [(0.1, 0.35), (0.1, 0.4499), (0.3, 0.5), (0.8, 0.2)])
def test_calibration_of_a_linear_regressor_is_exact(slope, target):
    # Photos without the attribute start at 0.1, those with it at 0.9.
    vector, table = Toys(lambda has, z: 0.1 + 0.8 * has + slope * z, (0.0, 2.0)).calibrate(target)
    # Strength +1 changes the score by slope * 2 * factor.
    np.testing.assert_allclose(vector, [0.0, target / slope], rtol=1e-5)
    assert vector.dtype == np.float32
    assert [line["strength"] for line in table] == [-1.5, -1.0, -0.5, 0.5, 1.0, 1.5]
    for line in table:
        assert line["change"] == pytest.approx(target * line["strength"], rel=1e-4)
        assert line["n"] == (20 if line["strength"] > 0 else 10)


def test_calibration_of_a_curved_regressor_is_within_a_thousandth():
    # 0.1 + 0.2 z^2 rises by 0.5 at z = 1.5811, between the steps 1.5 and 2 of the walk.
    vector, _ = Toys(lambda has, z: 0.1 + 0.2 * z * z).calibrate(0.5)
    np.testing.assert_allclose(vector[1], 2.5**0.5, atol=1e-3)


def test_positive_steps_are_measured_on_photos_without_the_attribute_and_negative_ones_with_it():
    # Only the scores of photos without it rise, and only those of photos with it fall.
    def score(has, z):
        return tf.where(has > 0, 0.8 + 0.3 * tf.minimum(z, 0.0), 0.2 + 0.6 * tf.maximum(z, 0.0))

    vector, table = Toys(score).calibrate(0.3)
    np.testing.assert_allclose(vector, [0.0, 0.5], rtol=1e-5)
    np.testing.assert_allclose(
        [line["change"] for line in table],
        [0.15 * s if s < 0 else 0.3 * s for s in (-1.5, -1.0, -0.5, 0.5, 1.0, 1.5)],
        rtol=1e-4,
    )


def test_a_target_out_of_reach_takes_the_first_step_with_three_quarters_of_the_maximum():
    # It saturates at +0.3 after 3 steps; 2 steps reach two thirds of that.
    vector, table = Toys(lambda has, z: tf.minimum(0.2 + 0.1 * z, 0.5)).calibrate(0.8)
    np.testing.assert_array_equal(vector, [0.0, 3.0])
    assert table[4]["change"] == pytest.approx(0.3, rel=1e-5)


def test_a_non_monotone_change_is_taken_on_its_way_up():
    # +0.16 after 1 step, +0.21 after 1.5, +0.24 after 2 and 3, then down again.
    vector, table = Toys(lambda has, z: 0.2 + 0.2 * z - 0.04 * z * z).calibrate(0.8)
    np.testing.assert_array_equal(vector, [0.0, 1.5])
    assert table[4]["change"] == pytest.approx(0.21, rel=1e-5)


def test_a_direction_that_never_raises_the_score_is_not_scaled():
    vector, table = Toys(lambda has, z: 0.5 - 0.1 * z, (0.0, 0.7)).calibrate(0.5)
    np.testing.assert_array_equal(vector, np.array([0.0, 0.7], np.float32))
    assert table[4]["change"] == pytest.approx(-0.07, abs=1e-6)


def test_the_number_of_photos_is_limited():
    _, table = Toys(lambda has, z: 0.1 * z).calibrate(0.2, count=12)
    assert [line["n"] for line in table] == [10, 10, 10, 12, 12, 12]


def test_directions_start_as_class_differences_with_a_given_effect_on_the_score(monkeypatch):
    # Latents differ by (1, 0), R's score by 0.1 per unit of the first: a change of 0.25 takes 2.5.
    toys = Toys(lambda has, z: 0.2 + 0.1 * has)
    monkeypatch.setattr(directions, "STARTING_CHANGE", 0.25)
    directions.start_directions(toys.trainer, toys.dataset)
    np.testing.assert_allclose(toys.trainer.directions.numpy(), [[2.5, 0.0]], rtol=1e-5)


def test_an_attribute_of_all_or_no_validation_photos_is_refused():
    toys = Toys(lambda has, z: 0.1 * z)
    for value, missing in ((0.0, "with"), (1.0, "without")):
        toys.dataset.labels[:, 1] = value
        with pytest.raises(UserError) as caught:
            toys.calibrate(0.5)
        assert str(caught.value) == (
            f"--attributes=Smiling: no validation photo is {missing} it, and the calibration needs "
            "both; add such photos, or leave the attribute out"
        )


def test_the_calibration_spends_few_evaluations():
    measured = Toys(lambda has, z: tf.sigmoid(1.5 * z - 3.0)).calibration()
    evaluated, change = [], measured.change
    measured.change = lambda *arguments: evaluated.append(arguments) or change(*arguments)
    vector = measured.scale(measured.photos(1, 0), np.float32([0.0, 1.0]), 1, 0.6)
    reached = 0.6 + 1 / (1 + np.exp(3.0))
    expected = (np.log(reached / (1 - reached)) + 3.0) / 1.5
    assert vector[1] == pytest.approx(expected, rel=1e-3)
    assert len(evaluated) <= 5 + calibration.SCALE_NARROWINGS  # the walk to 3 takes 5
