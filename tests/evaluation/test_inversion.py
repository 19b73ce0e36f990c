"""Measurements of the inversion."""

import numpy as np
import pytest
from evaluated_run import evaluated_run

from cgan_tf.editing import projection
from cgan_tf.evaluation import inversion
from cgan_tf.evaluation.batching import choose
from cgan_tf.evaluation.evaluated import TestPhotos
from cgan_tf.networks.codec import Code


@pytest.fixture(scope="module")
def run():
    return evaluated_run()


def test_hybrid_and_optimize_are_measured_on_the_same_photos_as_the_encoder(run):
    models, photos = run.models, run.photos
    hybrid, optimize = (run.report["inversion"][mode] for mode in ("hybrid", "optimize"))
    rows = choose(np.arange(10), 3, run.config.seed)
    own = models.distance(photos.images[rows], photos.reconstructions[rows]).mean()
    for block in (hybrid, optimize):
        assert block["n"] == 3 and block["seed"] == run.config.seed
        assert block["perceptual_encoder"] == pytest.approx(own, rel=1e-5)
        assert block["seconds_per_image"] > 0
    # Hybrid starts at the encoder's latent, and two steps get closer.
    assert 0.5 * own < hybrid["perceptual"] < own


def test_the_mean_curve_keeps_the_last_point_of_a_batch_that_stopped(run):
    models, images = run.models, run.photos.images[:3]
    code = Code(run.photos.latents[:3], run.photos.detail_features[:3])
    other = Code(*(np.roll(part, 1, axis=0) for part in code))

    def part(rows, codes, seconds):
        path = [Code(*(part[rows] for part in one)) for one in codes]
        steps, none = np.arange(len(path)), np.zeros(len(path))
        return projection.Projection(*path[-1], none, steps, np.asarray(seconds), none, path)

    parts = [part(slice(2), [other, code], [1.0, 2.0]), part(slice(2, 3), [other], [4.0])]
    steps, seconds, curve = inversion.mean_curve(models.reconstruct, models.distance, images, parts)
    assert steps.tolist() == [0, 1]
    far = models.distance(images, models.reconstruct(*other))
    near = models.distance(images, run.photos.reconstructions[:3])
    np.testing.assert_allclose(seconds, [5.0, 6.0])
    expected = [far.mean(), (near[0] + near[1] + far[2]) / 3]
    np.testing.assert_allclose(curve, expected, rtol=1e-4)


def test_the_closest_sample_is_the_minimum_over_all_pairs(run, monkeypatch):
    models, photos = run.models, run.photos
    best = inversion.closest_sample_distance(models, photos, 30)
    samples = models.from_latents(models.generator.sample_prior(30, seed=photos.seed).numpy())
    for row in range(3):
        photo = np.repeat(photos.images[row : row + 1], 30, axis=0)
        assert best[row] == pytest.approx(models.distance(photo, samples).min(), rel=1e-3)
    # In blocks, as if the features of all samples did not fit.
    monkeypatch.setattr(inversion, "BATCH", 7)
    monkeypatch.setattr(inversion, "FEATURE_BYTES", 1)
    blocks = inversion.closest_sample_distance(models, photos, 30)
    np.testing.assert_allclose(blocks, best, rtol=1e-4)


def test_a_perfect_inversion_has_the_best_figures(run):
    perfect = TestPhotos.__new__(TestPhotos)
    perfect.__dict__ |= run.photos.__dict__
    perfect.reconstructions = run.photos.images
    perfect.reconstructed_features = run.photos.features
    block = inversion.measure_encoder(run.models, perfect, samples=20)
    assert block["closer_than_random"] == 1.0
    assert block["retrieval"] == 1.0
    assert block["retrieval_floor"] == pytest.approx(0.1)
    mirrored = run.models.judge(run.photos.images[:, :, ::-1])[0]
    found = run.photos.gallery.finds(mirrored, np.arange(10))
    assert block["retrieval_ceiling"] == pytest.approx(found.mean())
    assert block["ssim"] == pytest.approx(1.0)
    assert block["perceptual"] == pytest.approx(0.0, abs=1e-6)
    assert block["psnr"] is None  # infinite
