"""Measurements of edits on models whose every figure is known."""

import json

import numpy as np
import pytest
from scripted import ScriptedModels, scripted_photos

from cgan_tf.evaluation import comparison, counterfactual, edits, metrics, sweeps


def test_edits_by_hand():
    models = ScriptedModels([0.3, 0.1, -0.05])
    photos = scripted_photos(
        [[0.1, 0.2, 0.5], [0.3, 0.2, 0.5], [0.6, 0.2, 0.5], [0.4, 0.9, 0.9]],
        [[0, 0, 1], [0, 1, 0], [0, 0, 0], [1, 0, 0]],
    )
    learned = edits.measure_edits(models, photos, draws=2)["learned"]["A"]
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
    intervals = learned["interval"]
    assert set(intervals) == {*edits.INTERVALS, "calibration_error"}
    for key in ("target_change", "leakage", "calibration_error"):  # the same for every photo
        assert intervals[key] == pytest.approx([expected[key]] * 2, rel=1e-4)
    assert intervals["success"] == [0.0, 1.0]
    rows = photos.features.astype(np.float64) - photos.features.mean(axis=0)
    edited = rows[:3] + [0.3, 0.1, -0.05, 0.0]
    cosines = [[metrics.cosine(one[None], row[None])[0] for row in rows] for one in edited]
    found = np.argmax(cosines, axis=1) == [0, 1, 2]
    assert 0 < found.mean() < 1
    assert learned["retrieval"] == pytest.approx(found.mean())


def test_taking_away_is_measured_on_photos_with_the_attribute():
    models = ScriptedModels([0.3, 0.1, -0.05])
    photos = scripted_photos(
        [[0.7, 0.2, 0.5], [0.95, 0.2, 0.5], [0.4, 0.2, 0.5], [0.1, 0.9, 0.9]],
        [[1, 0, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]],
    )
    block = edits.measure_edits(models, photos, draws=2)
    removed = block["removed"]["A"]
    expected = {
        "strength": -1.0,
        "target_change": -0.3,
        "target_change_from_photo": -0.2,
        "success": 0.5,  # of the two above 0.5, 0.7 -> 0.4 and 0.95 -> 0.65
        "n_success": 2,
        "leakage": (0.1 + 0.05) / 2,
        "ratio": -0.3 / 0.075,
        "n": 3,
        "draws": 1,
    }
    assert {key: removed[key] for key in expected} == pytest.approx(expected, rel=1e-4)
    assert set(removed["interval"]) == set(edits.INTERVALS)
    assert block["learned"]["A"]["n"] == 1
    means = edits.edits_mean(block)
    assert means["removed"]["target_change"] == removed["target_change"]


def test_random_directions_have_the_learned_length_and_no_sign():
    models, lengths = ScriptedModels([0.3, 0.0, 0.4]), []
    judge = models.judge

    def judge_and_record(z):
        if len(z):
            lengths.append(np.linalg.norm(z - photos.latents[:2], axis=1))
        return judge(z)

    photos = scripted_photos([[0.1, 0.2, 0.5], [0.3, 0.2, 0.5]], [[0, 0, 1], [0, 1, 0]])
    models.judge = judge_and_record
    block = edits.measure_edits(models, photos, draws=6)
    np.testing.assert_allclose(lengths, 0.5, rtol=1e-4)
    random = block["random"]["A"]
    assert random["draws"] == 6 and random["target_change"] > 0
    assert random["ratio"] == pytest.approx(random["target_change"] / random["leakage"])
    low, high = random["interval"]["target_change"]  # each direction's size, never below 0
    assert low == pytest.approx(random["target_change"], rel=1e-3) == high
    learned = block["learned"]["A"]
    assert learned["ratio_over_random"] == pytest.approx(learned["ratio"] / random["ratio"])


def test_an_attribute_that_every_test_photo_has_is_not_measured():
    photos = scripted_photos([[0.1, 0.2, 0.5]], [[1, 0, 0]])
    block = edits.measure_edits(ScriptedModels([0.3, 0.1, 0.0]), photos)
    learned = block["learned"]["A"]
    assert learned["n"] == learned["n_success"] == learned["n_calibration"] == 0
    for key in ("target_change", "success", "leakage", "ratio", "retrieval", "calibration_error"):
        assert learned[key] is None
    assert set(learned["interval"].values()) == {None}
    assert edits.edits_mean(block)["learned"]["target_change"] is None


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_single_attribute_has_no_leakage():
    models = ScriptedModels([0.3, 0.0, 0.0])
    models.all_attributes = ("A",)
    models.judge = lambda z: (ScriptedModels.judge(models, z)[0], z[:, :1])
    models.score = lambda z: z[:, :1]
    photos = scripted_photos([[0.1, 0.2, 0.5], [0.8, 0.2, 0.5]], [[0, 0, 0], [1, 0, 0]])
    photos.reconstructed_probabilities = photos.reconstructed_probabilities[:, :1]
    photos.probabilities = photos.probabilities[:, :1]
    block = edits.measure_edits(models, photos, draws=2)
    learned = sweeps.sweep_learned(models, photos)
    strengths = sweeps.measure_strengths(models, photos, learned)["attributes"]["A"]
    random = sweeps.sweep_random(models, photos, 2)
    bins = sweeps.measure_preservation(models, photos, learned, random)["learned"]["all"]
    matrix = comparison.measure_rescoring(models, photos, models.directions)
    assert block["learned"]["A"]["target_change"] == pytest.approx(0.3)
    assert sum(entry["n"] for entry in bins) == 12 and matrix["A"]["A"] == pytest.approx(0.3)
    assert edits.edits_mean(block)["learned"]["leakage"] is None
    assert block["learned"]["A"]["leakage"] is block["learned"]["A"]["ratio"] is None
    assert {entry["leakage"] for entry in strengths} == {None}
    assert {(entry["preserved"], entry["leakage"]) for entry in bins} == {(None, None)}
    json.dumps([block, strengths, bins, matrix], allow_nan=False)


def test_rescoring_without_photos_is_not_measured():
    photos = scripted_photos([[0.1, 0.2, 0.5]], [[1, 0, 0]])
    models = ScriptedModels([0.3, 0.0, 0.0])
    matrix = comparison.measure_rescoring(models, photos, models.directions)
    assert matrix == {"A": {"A": None, "B": None, "C": None}}


def test_means_over_attributes_ignore_undefined_figures():
    keys = (*edits.EDIT_FIGURES, "ratio", "calibration_error")
    one, two = dict.fromkeys(keys, 0.2), dict.fromkeys(keys, 0.6)
    two["success"] = None
    means = edits.edits_mean({"learned": {"A": one, "B": two}})["learned"]
    assert means["target_change"] == pytest.approx(0.4)
    assert means["success"] == pytest.approx(0.2)


# ---- strengths and preservation ----------------------------------------------------------------


@pytest.fixture
def swept(monkeypatch):
    """Models, three photos, the last of which has A, and their sweeps at strengths 1 and 2."""
    monkeypatch.setattr(sweeps, "SWEPT", (1.0, 2.0))
    models = ScriptedModels([0.25, 0.1, 0.0])
    photos = scripted_photos(
        [[0.1, 0.45, 0.4], [0.45, 0.2, 0.4], [0.9, 0.9, 0.9]], [[0, 0, 0], [0, 0, 0], [1, 1, 1]]
    )
    return models, photos, sweeps.sweep_learned(models, photos)


def test_each_sign_edits_the_photos_that_it_changes(swept):
    models, photos, learned = swept
    block = sweeps.measure_strengths(models, photos, learned)
    assert (block["n_photos"], block["seed"]) == (3, 0)
    points = block["attributes"]["A"]
    assert [point["strength"] for point in points] == [-2.0, -1.0, 1.0, 2.0]
    assert [point["target_change"] for point in points] == pytest.approx([-0.5, -0.25, 0.25, 0.5])
    # Down: 0.9 -> 0.65, 0.4. Up: 0.1 and 0.45 -> 0.35 and 0.7, then 0.6 and 0.95.
    assert [point["success"] for point in points] == [1.0, 0.0, 0.5, 1.0]
    assert [point["n_success"] for point in points] == [1, 1, 2, 2]
    assert [point["n"] for point in points] == [1, 1, 2, 2]
    assert [point["leakage"] for point in points] == pytest.approx([0.1, 0.05, 0.05, 0.1])
    assert points[2]["interval"]["target_change"] == pytest.approx([0.25, 0.25])
    assert points[2]["interval"]["success"] == [0.0, 1.0]
    images = ScriptedModels.judge(models, photos.latents[:2] + models.directions["A"] * 2)[0]
    assert points[3]["retrieval"] == photos.gallery.finds(images, [0, 1]).mean()


def test_preservation_by_the_size_of_the_change(swept):
    models, photos, learned = swept
    random = [sweeps.sweep(models, photos, np.arange(3), np.float32([0.7, 0.0, 0.2]), (1.0,))]
    block = sweeps.measure_preservation(models, photos, learned, random)
    assert block["learned"]["all"] == block["learned"]["attributes"]["A"]
    small, medium, large = block["learned"]["all"]
    # Of six edits, 0.45 -> 0.55 and 0.65 move B of one photo over the line, one of the two others.
    for entry, leakage in ((small, 0.05), (medium, 0.1)):
        assert (entry["n"], entry["n_photos"]) == (3, 3)
        assert entry["preserved"] == pytest.approx(2.5 / 3)
        assert entry["leakage"] == pytest.approx(leakage, rel=1e-5)
        assert entry["interval"]["leakage"] == pytest.approx([leakage] * 2, rel=1e-5)
        low, high = entry["interval"]["preserved"]
        assert low == 0.5 and high == 1.0
    assert (large["n"], large["preserved"], large["interval"]["preserved"]) == (0, None, None)
    assert [(e["above"], e["up_to"]) for e in (small, large)] == [(0.0, 0.3), (0.6, 0.9)]
    first, second, third = block["random"]["all"]
    assert (first["n"], second["n"], third["n"]) == (0, 0, 3)
    assert third["leakage"] == pytest.approx(0.1, rel=1e-5)
    assert third["preserved"] == pytest.approx(4 / 6)  # C of two photos, 0.4 -> 0.6


def test_bins_include_their_upper_end_and_resample_photos():
    sizes = [0.0, 0.3, 0.31, 0.9, 0.91]
    edits = np.array([[0] * 5, sizes, [1.0] * 5, [0.1] * 5, [np.nan] * 5])
    found = sweeps._bins(edits, 1, seed=0)
    assert [entry["n"] for entry in found] == [1, 1, 1]
    assert found[0]["retrieval"] is None and found[0]["interval"]["retrieval"] is None
    # One edit of the first photo, three of the second: two photos are resampled, not four edits.
    edits = np.array([[0, 1, 1, 1], [0.1] * 4, [0.0, 1.0, 1.0, 1.0], [0.1] * 4, [0.5] * 4])
    entry = sweeps._bins(edits, 2, seed=0)[0]
    assert entry["preserved"] == 0.75 and entry["n_photos"] == 2
    assert entry["interval"]["preserved"] == [0.0, 1.0]


def test_random_sweeps_have_the_mean_length_of_the_directions():
    models = ScriptedModels([0.3, 0.0, 0.4])
    models.directions["B"] = np.float32([0.0, 0.1, 0.0])
    photos = scripted_photos([[0.1, 0.2, 0.5], [0.3, 0.2, 0.5]], [[0, 0, 1], [1, 1, 0]])
    swept = sweeps.sweep_random(models, photos, draws=3)
    assert len(swept) == 3
    for each in swept:
        lengths = np.linalg.norm(each.after - each.before, axis=-1)
        expected = 0.3 * np.array(sweeps.SWEPT_RANDOM)[:, None] * [1, 1]
        np.testing.assert_allclose(lengths, expected, rtol=1e-4)


# ---- consistency -------------------------------------------------------------------------------


class Lossy(ScriptedModels):
    """Images of 1 px are the latents; the encoder returns nine tenths of them, with an offset."""

    def image(self, z):
        return z[:, None, None, :]

    def judge(self, images):
        return ScriptedModels.judge(self, images[:, 0, 0, :])

    def encode(self, images):
        latents = np.float32(0.9) * images[:, 0, 0, :] + np.float32([0.0, 0.02, 0.0])
        return latents, latents[:, :0]

    def distance(self, one, other):
        return np.square(one - other).sum(axis=(1, 2, 3))


def test_consistency_of_linear_models(monkeypatch):
    monkeypatch.setattr(edits, "VGG_FEW", 1)
    models = Lossy([0.3, 0.1, -0.05])
    photos = scripted_photos(
        [[0.1, 0.2, 0.5], [0.3, 0.2, 0.1], [0.4, 0.9, 0.9]], [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    )
    photos.reconstructions = models.image(photos.latents)
    entry = edits.measure_consistency(models, photos)["A"]
    # E(G(w + d)) - d - w = 0.9 (w + d) + c - d - w = c - 0.1 (w + d)
    latents, offset = photos.latents[:2].astype(np.float64), np.array([0.0, 0.02, 0.0])
    for found, ends in (
        (entry, offset - 0.1 * (latents + models.directions["A"])),
        (entry["unedited"], offset - 0.1 * latents),
    ):
        assert found["latent"] == pytest.approx(np.linalg.norm(ends, axis=1).mean(), rel=1e-4)
        psnr = 10 * np.log10(4 / np.square(ends).mean(axis=1))
        assert found["psnr"] == pytest.approx(psnr.mean(), rel=1e-4)
        features = photos.reconstructed_features[:2].astype(np.float64)
        undone = features + np.pad(ends, ((0, 0), (0, 1)))
        assert found["retrieval"] == photos.gallery.finds(undone, [0, 1]).mean()
    first = offset - 0.1 * (latents[0] + models.directions["A"])
    assert entry["perceptual"] == pytest.approx(np.square(first).sum(), rel=1e-3)
    assert (entry["n"], entry["n_perceptual"]) == (2, 1)
    assert entry["step"] == pytest.approx(np.linalg.norm([0.3, 0.1, 0.05]), rel=1e-5)
    low, high = entry["interval"]["latent"]
    assert low < entry["latent"] < high


# ---- ground truth ------------------------------------------------------------------------------


class Pixel(Lossy):
    """Lossless inversion; the perceptual features are the pixel."""

    def invert(self, images):
        return images

    def flat_features(self, images):
        return images.reshape(len(images), -1)


def test_what_an_edit_is_closer_to():
    models = Pixel([0.06, 0.0, 0.0])
    photo = np.float32([[0.1, 0.2, 0.3]] * 4)
    error = np.float32([[0, 0, 1], [0, 0, 5], [0, 0, 1], [0, 0, 1]]) / 50
    true_step = np.float32([[4, 0, 0], [4, 0, 0], [1, 0, 0], [7, 0, 0]]) / 50
    photos = scripted_photos(photo + error, [[0, 0, 0]] * 4)
    photos.images, photos.reconstructions = models.image(photo), models.image(photo + error)
    photos.features, photos.probabilities = models.judge(photos.images)
    truth = models.image(photo + true_step)
    block = counterfactual.compare_with_truth(models, photos, "A", np.arange(4), truth)
    # The edit's step is 3 / 50, so small that the photo keeps all its detail. Squared distances of
    # the four, in 1 / 2500: from edit to truth 2, 26, 5, 17; from edit to photo 10, 34, 10, 10;
    # from photo to truth 16, 16, 1, 49; from reconstruction to truth 17, 41, 2, 50; from the photo
    # and the difference to truth 1, 1, 4, 16.
    for by in ("", "_judge", "_psnr"):
        assert block[f"closer_to_truth{by}"] == 3 / 4
        assert block[f"closer_than_photo{by}"] == 2 / 4
        assert block[f"closer_than_reconstruction{by}"] == 3 / 4
        assert block[f"keep_detail_closer_than_photo{by}"] == 3 / 4
    assert block["true_change"] == pytest.approx(0.08)
    assert block["psnr_ceiling"] is None  # infinite: the inversion is lossless
    assert (block["n"], block["n_perceptual"]) == (4, 4)


def test_keep_detail_by_hand():
    models = Pixel([0.06, 0.02, 0.0])  # so small that the photo keeps all its detail
    photo = np.float32([[0.1, 0.2, 0.3], [0.3, 0.1, 0.2]])
    photos = scripted_photos(photo + np.float32([0, 0, 0.1]), [[0, 0, 0]] * 2)
    photos.images = models.image(photo)
    photos.reconstructions = models.image(photos.latents)
    photos.features, photos.probabilities = models.judge(photos.images)
    block = edits.measure_keep_detail(models, photos)
    entry = block["attributes"]["A"]
    # keep_detail: the direction; plain: the direction and the inversion error in C.
    kept, plain = entry["keep_detail"], entry["plain"]
    assert kept["target_change"] == pytest.approx(0.06, rel=1e-5)
    assert kept["leakage"] == pytest.approx(0.02 / 2, rel=1e-5)
    assert plain["target_change"] == pytest.approx(0.06, rel=1e-5)
    assert plain["leakage"] == pytest.approx((0.02 + 0.1) / 2, rel=1e-5)
    before = np.pad(photo, ((0, 0), (0, 1)), constant_values=1)
    moved = {"keep_detail": [0.06, 0.02, 0, 0], "plain": [0.06, 0.02, 0.1, 0]}
    for method, step in moved.items():
        share = photos.gallery.finds(before + np.float32(step), [0, 1]).mean()
        assert entry[method]["retrieval"] == share
        assert block["mean"][method]["retrieval"] == share
        low, high = entry[method]["interval"]["retrieval"]
        assert low <= share <= high
    assert entry["n"] == 2


class Squaring(ScriptedModels):
    """The judge's predictions are the squares of the regressor's."""

    def judge(self, z):
        return z, z**2


def test_set_by_hand():
    models = Squaring([0.2, 0.1, 0.0])
    # One photo of each label; strength 3 leads to 0.7 and 1.2, -3 to -0.5 and 0.
    photos = scripted_photos([[0.1, 0.2, 0.5], [0.6, 0.2, 0.5]], [[0, 0, 1], [1, 1, 0]])
    block = edits.measure_set(models, photos)
    found = block["attributes"]["A"]
    assert [entry["requested"] for entry in found] == [0.2, 0.4, 0.6, 0.8]
    for entry, reached in zip(found, ([0.2] * 2, [0.4] * 2, [0.6] * 2, [0.7, 0.8]), strict=True):
        requested, reached = entry["requested"], np.array(reached)
        steps = (reached - photos.latents[:, 0]) / 0.2
        near = pytest.approx  # within the search's tolerance
        assert entry["reached"] == near(reached.mean(), abs=0.005)
        assert entry["reached_judge"] == near((reached**2).mean(), abs=0.01)
        assert entry["error"] == near(np.abs(reached - requested).mean(), abs=0.005)
        assert entry["error_judge"] == near(np.abs(reached**2 - requested).mean(), abs=0.01)
        assert entry["strength"] == near(np.abs(steps).mean(), abs=0.025)
        assert entry["hit_rate"] == np.mean(reached == requested)
        assert (entry["n"], entry["seed"]) == (2, 0)
    assert (block["n"], block["seed"], block["hit_rate"]) == (2, 0, 7 / 8)
    for key in ("error", "error_judge", "strength"):
        assert block[key] == pytest.approx(np.mean([entry[key] for entry in found]))
    few = edits.measure_set(models, photos, count=1)
    assert few["n"] == few["attributes"]["A"][0]["n"] == 1


def test_set_evaluates_a_photo_once_at_each_strength():
    models, seen = Squaring([0.2, 0.1, 0.0]), []
    score = models.score
    models.score = lambda z: seen.extend(z[:, 0].tolist()) or score(z)
    edits.measure_set(models, scripted_photos([[0.1, 0.2, 0.5]], [[0, 0, 1]]))
    assert seen[0] == np.float32(0.1)
    assert len(seen) == len(set(seen))
