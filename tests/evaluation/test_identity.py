"""The same person, by a recognizer whose vectors are mean colors or the images themselves."""

import numpy as np
import pytest
from evaluated_run import evaluated_run
from scripted import ScriptedModels, scripted_photos
from tiny_onnx import FORMAT, write_recognizer

from cgan_tf.data.images import to_float
from cgan_tf.editing import recognizer
from cgan_tf.evaluation import edits, identity, inversion
from cgan_tf.evaluation.identity import FALSE_ACCEPTS, Identity

STRICT, LOOSE = FALSE_ACCEPTS
# 15 gray levels, 105 pairs; the closest differ by 3, the next by 7, all others by 10 or more.
LEVELS = np.array([0, 3, *range(10, 140, 10)])


class Plain(recognizer.Recognizer):
    """The vector of an image is the image."""

    def __init__(self):
        self.form, self.name, self.digest = recognizer.Format.from_json(FORMAT), "plain", ""

    def embed(self, faces):
        return np.float64(faces)


def gray(levels):
    """Faces of one gray level each."""
    return to_float(np.tile(np.uint8(levels)[:, None, None, None], (1, 32, 32, 3)))


@pytest.fixture
def tiny(tmp_path):
    return recognizer.load(str(write_recognizer(tmp_path / "tiny.onnx")), "flag")


def test_the_threshold_accepts_the_allowed_number_of_pairs():
    distances = np.float64([5, 1, 3, 2, 4, 9, 7, 6, 8, 10])
    assert identity.threshold(distances, 5) == 3.0  # of ten pairs two: 1 and 2
    assert identity.threshold(distances, 10) == 2.0
    assert identity.threshold(distances, 11) is None
    assert identity.threshold(np.ones(10), 5) == 1.0  # a tie is not accepted
    assert identity.threshold(np.empty(0), 5) is None


def test_rates_by_hand(tiny):
    photos = gray(LEVELS)
    one = Identity(tiny, photos, seed=0)
    assert one.pairs == 105
    # One in a hundred: the closest pair. The threshold is the distance of the next one.
    assert one.thresholds == {STRICT: None, LOOSE: pytest.approx(7 * 3**0.5)}
    assert one.floor == {STRICT: None, LOOSE: pytest.approx(1 / 105)}
    owners = np.array([4, 4, 4, 0, 9])  # at the threshold it is somebody else
    moved = one.same_person(gray(LEVELS[owners] + [6, 7, 8, 0, -6]), owners)
    np.testing.assert_array_equal(moved[LOOSE], [1, 0, 0, 1, 1])
    assert np.isnan(moved[STRICT]).all()
    swapped = one.same_person(photos[:2], np.array([1, 0]))[LOOSE]
    np.testing.assert_array_equal(swapped, [1, 1])  # the pair that is accepted
    assert one.same_person(photos[:0], owners[:0])[LOOSE].shape == (0,)


def test_both_thresholds_are_those_of_all_pairs(tiny):
    colors = np.random.default_rng(3).uniform(-1, 1, (46, 1, 1, 3)).astype(np.float32)
    photos = np.tile(colors, (1, 32, 32, 1))
    one = Identity(tiny, photos, seed=0)
    means = np.rint((colors[:, 0, 0] + 1) * 127.5)
    distances = sorted(np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[:i])
    assert len(distances) == one.pairs == 1035
    expected = {STRICT: distances[1], LOOSE: distances[10]}
    assert one.thresholds == pytest.approx(expected, rel=1e-5)
    assert one.floor == pytest.approx({STRICT: 1 / 1035, LOOSE: 10 / 1035})


def test_the_pairs_of_many_photos_are_those_of_a_choice(tiny, monkeypatch):
    monkeypatch.setattr(identity, "PAIRED", 15)
    one = Identity(tiny, gray(np.arange(30)), seed=1)
    assert one.pairs == 105
    owners = np.array([29, 0])
    np.testing.assert_array_equal(one.same_person(gray(owners), owners)[LOOSE], [1, 1])


def test_the_block_has_the_ceiling_of_the_mirrored_photos(tmp_path):
    # A network that sees the left half of the crop tells a face from its mirror image.
    path = write_recognizer(tmp_path / "left.onnx", square=[-0.5, 0, 1])
    photos = gray(LEVELS)
    photos[0, :, 16:] = 1.0
    left = recognizer.load(str(path), "flag")
    block = Identity(left, photos, seed=0).block(photos, seed=4)
    assert block["ceiling"] == {STRICT: None, LOOSE: pytest.approx(14 / 15)}
    assert block["model"] == left.description
    assert (block["pairs"], block["n"], block["seed"]) == (105, 15, 4)
    assert set(block["thresholds"]) == set(block["floor"]) == {STRICT, LOOSE}


def scripted(identified=True):
    """15 photos, of which the last five are reconstructed at a distance of 0.06."""
    latents = np.full((15, 3), 0.5, np.float32)
    latents[:, 0] = LEVELS / 100
    labels = np.zeros((15, 3))
    labels[14, 0] = 1
    photos = scripted_photos(latents, labels)
    images = latents.copy()
    images[10:, 2] += 0.06
    photos.images = images
    photos.identity = Identity(Plain(), images, seed=0) if identified else None
    return photos


def test_edits_by_hand():
    models, photos = ScriptedModels([0.05, 0, 0]), scripted()
    assert photos.identity.thresholds[LOOSE] == pytest.approx(0.07)
    block = edits.measure_edits(models, photos, draws=2)
    learned, removed = block["learned"]["A"], block["removed"]["A"]
    # 0.05 away, but for the last five: there it is the root of 0.05² + 0.06² = 0.078.
    assert learned[LOOSE] == pytest.approx(10 / 14)
    low, high = learned["interval"][LOOSE]
    assert 0.3 < low < 10 / 14 < high <= 1
    assert removed[LOOSE] == 0.0 and removed["n"] == 1
    assert learned[STRICT] is None and learned["interval"][STRICT] is None
    assert LOOSE not in block["random"]["A"]
    means = edits.edits_mean(block)
    assert means["learned"][LOOSE] == learned[LOOSE] and means["learned"][STRICT] is None
    assert LOOSE not in means["random"]


def test_an_attribute_that_no_photo_lacks_has_no_rate():
    photos = scripted()
    photos.labels[:] = 1
    block = edits.measure_edits(ScriptedModels([0.05, 0, 0]), photos, draws=2)
    assert block["learned"]["A"][LOOSE] is None
    assert block["removed"]["A"][LOOSE] == pytest.approx(10 / 15)


def test_without_a_recognizer_there_are_no_rates():
    block = edits.measure_edits(ScriptedModels([0.05, 0, 0]), scripted(False), draws=2)
    for method in block.values():
        assert not any("same_person" in key for key in (*method["A"], *method["A"]["interval"]))
    assert not any("same_person" in key for key in edits.edits_mean(block)["learned"])


@pytest.fixture
def lenient(monkeypatch):
    """The evaluated run's photos, at thresholds that accept 9 and 20 of their 45 pairs."""
    run = evaluated_run()  # which other tests share, so it is measured with the usual thresholds
    for key, one_in in ((STRICT, 5), (LOOSE, 2)):
        monkeypatch.setitem(FALSE_ACCEPTS, key, one_in)
    photos = run.photos.subset(10)
    photos.identity = Identity(run.photos.identity.recognizer, photos.images, seed=0)
    return run._replace(photos=photos)


def shares(run, rows, images):
    """The rates of images by distances of mean colors."""
    levels = [np.rint((part + 1) * 127.5).mean(axis=(1, 2)) for part in (images, run.photos.images)]
    distances = np.linalg.norm(levels[0] - levels[1][rows], axis=1)
    limits = run.photos.identity.thresholds
    return {key: (distances < limit).mean() for key, limit in limits.items()}


def test_the_encoder_and_projections_are_measured(lenient):
    photos, everyone = lenient.photos, np.arange(10)
    block = inversion.measure_encoder(lenient.models, photos, samples=20)
    expected = shares(lenient, everyone, photos.reconstructions)
    assert 0 < expected[STRICT] < expected[LOOSE]
    assert {key: block[key] for key in expected} == pytest.approx(expected)
    few = photos.subset(4)
    rows = np.arange(4)
    found = few.same_person(rows, few.images[::-1])
    own = photos.same_person(few.owners, few.images[::-1])
    assert found[LOOSE].tolist() == own[LOOSE].tolist()


def test_keep_detail_is_measured_from_the_photo(lenient):
    models, photos = lenient.models, lenient.photos
    block = edits.measure_keep_detail(models, photos)
    entry = block["attributes"]["Smiling"]
    rows = edits.rows_without(models, photos, "Smiling")
    plain = edits.edit(models, photos, rows, models.directions["Smiling"])
    for method, images in (
        ("keep_detail", edits.keep_detail(photos, rows, plain)),
        ("plain", plain),
    ):
        expected = shares(lenient, rows, images)
        assert {key: entry[method][key] for key in expected} == pytest.approx(expected)
        assert set(expected) < set(entry[method]["interval"])
        others = [one[method][LOOSE] for one in block["attributes"].values()]
        assert block["mean"][method][LOOSE] == pytest.approx(np.mean(others))
