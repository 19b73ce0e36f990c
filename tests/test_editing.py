"""cgan_tf.editing on chains whose every figure is known."""

import numpy as np
import pytest
from scripted import Script, scripted_photos

from cgan_tf import editing, metrics


def test_edits_by_hand():
    chain = Script([0.3, 0.1, -0.05])
    photos = scripted_photos(
        [[0.1, 0.2, 0.5], [0.3, 0.2, 0.5], [0.6, 0.2, 0.5], [0.4, 0.9, 0.9]],
        [[0, 0, 1], [0, 1, 0], [0, 0, 0], [1, 0, 0]],
    )
    learned = editing.measure_edits(chain, photos, draws=2)["learned"]["A"]
    expected = {
        "strength": 1.0,
        "target_change": 0.3,
        "target_change_from_photo": 0.4,
        "success": 0.5,  # of the two at or below 0.5, 0.1 -> 0.4 and 0.3 -> 0.6
        "n_success": 2,
        "leakage": (0.1 + 0.05) / 2,
        "ratio": 0.3 / 0.075,
        "calibrated_change": 0.4,
        "achieved_change": 0.3,
        "achieved_change_judge": 0.3,
        "calibration_error": 0.1,
        "calibration_error_judge": 0.1,
        "n_calibration": 3,
        "n": 3,
        "draws": 1,
    }
    assert {key: learned[key] for key in expected} == pytest.approx(expected, rel=1e-4)
    rows = photos.reconstructed_features[:3].astype(np.float64)
    edited = rows + [0.3, 0.1, -0.05, 0.0]
    assert learned["identity"] == pytest.approx(metrics.cosine(rows, edited).mean(), rel=1e-5)
    flipped = metrics.cosine(rows[:, ::-1], edited).mean()
    assert learned["identity_from_photo"] == pytest.approx(flipped, rel=1e-5)


def test_random_directions_have_the_learned_length_and_no_sign():
    chain, lengths = Script([0.3, 0.0, 0.4]), []
    judged = chain.judge

    def judge_and_note(z):
        lengths.append(np.linalg.norm(z - photos.latents[:2], axis=1))
        return judged(z)

    photos = scripted_photos([[0.1, 0.2, 0.5], [0.3, 0.2, 0.5]], [[0, 0, 1], [0, 1, 0]])
    chain.judge = judge_and_note
    edits = editing.measure_edits(chain, photos, draws=6)
    np.testing.assert_allclose(lengths, 0.5, rtol=1e-4)
    random = edits["random"]["A"]
    assert random["draws"] == 6 and random["target_change"] > 0
    assert random["ratio"] == pytest.approx(random["target_change"] / random["leakage"])
    learned = edits["learned"]["A"]
    assert learned["ratio_over_random"] == pytest.approx(learned["ratio"] / random["ratio"])


def test_an_attribute_that_every_test_photo_has_gives_no_figure():
    photos = scripted_photos([[0.1, 0.2, 0.5]], [[1, 0, 0]])
    edits = editing.measure_edits(Script([0.3, 0.1, 0.0]), photos)
    learned = edits["learned"]["A"]
    assert learned["n"] == learned["n_success"] == learned["n_calibration"] == 0
    for key in ("target_change", "success", "leakage", "ratio", "identity", "calibration_error"):
        assert learned[key] is None
    assert editing.edits_mean(edits)["learned"]["target_change"] is None


def test_means_over_attributes_leave_out_what_has_no_value():
    keys = (*editing.EDIT_FIGURES, "ratio", "calibration_error")
    one, two = dict.fromkeys(keys, 0.2), dict.fromkeys(keys, 0.6)
    two["success"] = None
    means = editing.edits_mean({"learned": {"A": one, "B": two}})["learned"]
    assert means["target_change"] == pytest.approx(0.4)
    assert means["success"] == pytest.approx(0.2)
