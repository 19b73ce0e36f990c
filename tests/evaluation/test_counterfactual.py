"""Comparison with the ground truth, on faces that the synthetic renderer edits itself."""

import numpy as np
import pytest
from evaluated_run import evaluated_run

from cgan_tf.data import synthetic
from cgan_tf.data.images import to_float
from cgan_tf.evaluation import counterfactual, edits

NAME = "Eyeglasses"
SUFFIXES = ("", "_judge", "_psnr")


@pytest.fixture
def case(monkeypatch):
    """Measures given images as edits; and the unedited, true and reconstructed images."""
    run = evaluated_run()
    models, photos = run.models, run.photos
    rows = edits.rows_without(models, photos, NAME)
    faces = [synthetic.dataset_face(photos.indices[row]) for row in rows]
    changed = [synthetic.counterfactual(face, NAME, True) for face in faces]
    truth = to_float(np.stack([synthetic.render(face, 32) for face in changed]))
    unedited = to_float(np.stack([synthetic.render(face, 32) for face in faces]))
    np.testing.assert_array_equal(unedited, photos.images[rows])
    monkeypatch.setattr(models, "attributes", (NAME,))
    generate, direction = models.generate, models.directions[NAME]

    def measure(images):
        def generate_or_replace(latents, features, offsets):
            edited = len(latents) == len(rows) and np.array_equal(offsets[0], direction)
            return images if edited else generate(latents, features, offsets)

        monkeypatch.setattr(models, "generate", generate_or_replace)
        return counterfactual.measure_counterfactual(models, photos)[NAME]

    return measure, unedited, truth, photos.reconstructions[rows]


def test_a_true_edit_and_no_edit(case):
    measure, unedited, truth, _ = case
    for images, share in ((truth, 1.0), (unedited, 0.0)):
        block = measure(images)
        for key in ("closer_to_truth", "closer_than_photo"):
            assert [block[key + suffix] for suffix in SUFFIXES] == [share] * 3
        assert block["n"] == block["n_perceptual"] == len(truth)
    assert block["true_leakage"] >= 0


def test_the_shares_answer_different_questions(case):
    measure, unedited, truth, reconstructions = case
    # Less than half of the edit is closer to the photo than to the truth, and yet closer to the
    # truth than the photo is.
    part = np.float32(0.6) * unedited + np.float32(0.4) * truth
    # A reconstruction is not closer than itself. A step so small that the photo keeps its detail:
    step = reconstructions + np.float32(0.05) * (truth - unedited)
    for images, expected in (
        (part, {"closer_to_truth_psnr": 0.0, "closer_than_photo_psnr": 1.0}),
        (
            reconstructions,
            {
                "closer_than_reconstruction": 0.0,
                "closer_than_reconstruction_psnr": 0.0,
                "keep_detail_closer_than_photo": 0.0,
                "keep_detail_closer_than_photo_psnr": 0.0,
            },
        ),
        (step, {"keep_detail_closer_than_photo_psnr": 1.0}),
        (truth, {"closer_than_reconstruction": 1.0, "closer_than_reconstruction_psnr": 1.0}),
    ):
        block = measure(images)
        assert {key: block[key] for key in expected} == expected
