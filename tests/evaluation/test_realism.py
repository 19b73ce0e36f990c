"""Distances of edited photos to photos that have the attribute."""

import types

import numpy as np
import pytest
from scripted import ScriptedModels, scripted_photos

from cgan_tf.data import images
from cgan_tf.evaluation import metrics, realism


def scripted(count, direction=(0.5, 0.0, 0.0)):
    """Models, `count` photos without A, and a data set with A in as many photos."""
    draw = np.random.default_rng(0)
    models = ScriptedModels(direction)
    models.judge = lambda z: (z, z)
    photos = scripted_photos(draw.uniform(0, 0.4, (count, 3)), np.zeros((count, 3)))
    photos.features = photos.latents + np.float32(0.01)
    values = draw.integers(0, 256, (2 * count, 3)).astype(np.uint8)
    labels = np.zeros((2 * count, 3), np.int8)
    labels[::2, 0] = 1
    splits = {"validation": np.arange(count), "test": np.arange(count, 2 * count)}
    dataset = types.SimpleNamespace(
        splits=splits, labels=labels, read=lambda indices: values[indices]
    )
    return models, photos, dataset, images.to_float(values[::2])


def test_edited_and_unedited_photos_are_compared_with_those_that_have_it():
    models, photos, dataset, real = scripted(60)
    found = realism.measure_realism(models, photos, dataset)["A"]
    edited = photos.latents + np.float32([0.5, 0, 0])
    assert found["realism"] == pytest.approx(metrics.frechet_distance(edited, real))
    unedited = metrics.frechet_distance(photos.features, real)
    assert found["realism_unedited"] == pytest.approx(unedited)


def test_few_photos_have_no_realism():
    models, photos, dataset, _ = scripted(realism.LEAST - 1)
    found = realism.measure_realism(models, photos, dataset)
    assert found == {"A": {"realism": None, "realism_unedited": None}}
