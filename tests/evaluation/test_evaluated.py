"""The evaluated models and test photos, and the regressor's block."""

import numpy as np
import pytest
from evaluated_run import evaluated_run

from cgan_tf.evaluation import regressor
from cgan_tf.evaluation.batching import batched, choose
from cgan_tf.evaluation.evaluated import TestPhotos


@pytest.fixture(scope="module")
def run():
    return evaluated_run()


def test_flat_features_have_the_perceptual_distance(run):
    models, images, others = run.models, run.photos.images[:4], run.photos.reconstructions[:4]
    flat = models.flat_features(images), models.flat_features(others)
    expected = models.distance(images, others)
    np.testing.assert_allclose(np.sum((flat[0] - flat[1]) ** 2, axis=1), expected, rtol=1e-4)
    assert np.all(expected > 0)


def test_a_subset_of_the_photos_is_a_seeded_choice(run):
    photos, subset = run.photos, run.photos.subset(4)
    rows = choose(np.arange(10), 4, photos.seed)
    assert len(rows) == 4 and len(photos.labels) == 10
    for name, value in vars(photos).items():
        expected = value if name in ("seed", "base_rates", "gallery", "identity") else value[rows]
        if name != "identity":
            np.testing.assert_array_equal(getattr(subset, name), expected)
    assert subset.identity is photos.identity is not None


def test_a_subset_is_found_among_all_photos(run):
    subset = run.photos.subset(4)
    rows = np.arange(4)
    np.testing.assert_array_equal(subset.found(rows, subset.features), 1.0)
    np.testing.assert_array_equal(subset.found(rows, subset.features[::-1]), 0.0)
    assert subset.gallery.chance == pytest.approx(0.1)


def test_codes_are_those_of_the_networks_codec(run):
    models, photos, codec = run.models, run.photos, run.models.network.codec
    code = codec.encode(photos.images)
    assert photos.detail_features.shape == (10, *codec.features_shape)
    np.testing.assert_allclose(photos.latents, code.latent, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(photos.detail_features, code.features, rtol=1e-3, atol=1e-3)
    step = models.directions["Smiling"]
    offsets = np.repeat(step[None], 10, axis=0)
    rows = np.arange(10)
    edited = models.generate(*photos.code(rows), offsets)
    expected = codec.generate(code, offsets)
    np.testing.assert_allclose(edited, expected, atol=2e-3)
    assert np.abs(edited - models.from_latents(photos.latents + offsets)).max() > 0.05
    np.testing.assert_allclose(models.invert(photos.images), photos.reconstructions, atol=2e-3)


def test_photos_come_from_the_given_split(run):
    others = TestPhotos(run.models, run.dataset, 10, run.config.seed, "validation")
    np.testing.assert_array_equal(others.indices, np.sort(run.dataset.splits["validation"]))
    np.testing.assert_array_equal(run.photos.indices, np.sort(run.dataset.splits["test"]))


def test_choose_is_seeded_and_within_the_indices():
    indices = np.arange(100, 200)
    assert np.array_equal(choose(indices[::-1], 100, 0), indices)
    chosen = choose(indices, 10, 1)
    assert len(set(chosen)) == 10 and set(chosen) <= set(indices)
    assert np.array_equal(chosen, np.sort(chosen))
    assert np.array_equal(chosen, choose(indices, 10, 1))
    assert not np.array_equal(chosen, choose(indices, 10, 2))


def test_batches_are_joined_in_order():
    values, sizes = np.arange(7), []
    one = batched(lambda rows: sizes.append(len(rows)) or rows * 2, values, batch=3)
    np.testing.assert_array_equal(one, values * 2)
    assert sizes == [3, 3, 1]
    both = batched(lambda a, b: (a + b, a - b), values, values[::-1], batch=2)
    np.testing.assert_array_equal(both[0], [6] * 7)
    np.testing.assert_array_equal(both[1], values - values[::-1])


def test_regressor_block_by_hand(run):
    dataset, photos = run.dataset, run.photos
    block = regressor.measure_regressor(run.models, photos)
    labels = dataset.labels[dataset.splits["test"]]
    scores = run.models.score(photos.images)
    assert block["n"] == 10
    assert block["regressor"]["accuracy"] == pytest.approx(np.mean((scores > 0.5) == labels))
    majority = dataset.labels[dataset.splits["train"]].mean(axis=0) > 0.5
    assert block["majority"]["accuracy"] == pytest.approx(np.mean(majority == labels))
    smiling = block["attributes"]["Smiling"]
    assert smiling["positive"] == pytest.approx(labels[:, 0].mean())
    assert smiling["judge_accuracy"] == pytest.approx(
        np.mean((photos.probabilities[:, 0] > 0.5) == labels[:, 0])
    )
