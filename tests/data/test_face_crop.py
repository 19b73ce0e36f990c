"""The square around a face: its geometry, cropping it, and pasting an edit back."""

import math

import numpy as np
import pytest

from cgan_tf.data import face_crop
from cgan_tf.data.face_crop import FaceBox


def test_fraction_of_a_square_within_the_photo():
    assert FaceBox(50, 50, 100).inside(100, 100) == 1
    assert FaceBox(0, 50, 100).inside(100, 100) == pytest.approx(0.5)
    assert FaceBox(0, 0, 100).inside(100, 100) == pytest.approx(0.25)
    assert FaceBox(50, 50, 100, 45).inside(100, 100) == pytest.approx(
        2 * (math.sqrt(2) - 1), abs=0.02
    )
    assert FaceBox(500, 50, 100).inside(100, 100) == 0


def gradient(height, width):
    """uint8: red is x, green is y."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 77)], axis=-1).astype(np.uint8)


def test_a_crop_is_the_square_upright():
    pixels = gradient(200, 250)
    plain = face_crop.crop_face(pixels, FaceBox(110, 90, 64), 64)
    np.testing.assert_array_equal(plain, pixels[58:122, 78:142])
    half = face_crop.crop_face(pixels, FaceBox(110, 90, 64), 32)
    np.testing.assert_allclose(half[8, 4], [78 + 8.5, 58 + 16.5, 77], atol=1)
    # Tilted clockwise by a right angle: the top of the head points to the right.
    turned = face_crop.crop_face(pixels, FaceBox(110, 90, 64, 90), 64)
    np.testing.assert_array_equal(turned, np.rot90(pixels[58:122, 78:142]))
    outside = face_crop.crop_face(pixels, FaceBox(0, 90, 64), 64)
    assert (outside[:, :32, 0] == 0).all() and outside[0, 40, 0] == 8


def smooth(height, width):
    """A photo without detail that resampling could lose."""
    y, x = np.mgrid[:height, :width] / 60
    waves = np.stack([np.sin(x + y), np.cos(x - y), np.sin(y)], axis=-1)
    return np.rint(127.5 + 90 * waves).astype(np.uint8)


def to_float(pixels):
    return np.float32(pixels) / 127.5 - 1


@pytest.mark.parametrize(
    "face", [FaceBox(150, 120, 128), FaceBox(150, 120, 90.5, 33), FaceBox(20, 210, 160)]
)
def test_cropping_and_pasting_back_is_the_identity(face):
    pixels = smooth(240, 300)
    crop = to_float(face_crop.crop_face(pixels, face, 128))
    pasted = face_crop.paste_face(pixels, crop, face)
    assert np.abs(np.int32(pasted) - pixels).max() <= 3


def test_a_pasted_face_has_a_soft_border():
    pixels, face = np.full((200, 200, 3), 60, np.uint8), FaceBox(100, 100, 120)
    pasted = face_crop.paste_face(pixels, np.full((32, 32, 3), 0.6, np.float32), face)
    assert (pasted[90:110, 90:110] == 204).all()
    outside = np.ones((200, 200), bool)
    outside[40:160, 40:160] = False
    assert (pasted[outside] == 60).all()
    steps = np.abs(np.diff(np.int32(pasted[100, :, 0])))
    assert 0 < steps.max() <= 12  # of 144, over 24 px


def test_with_a_reconstruction_a_small_difference_is_added():
    rng = np.random.default_rng(1)
    pixels, face = rng.integers(60, 180, (200, 200, 3), np.uint8), FaceBox(100, 100, 120, 20)
    before = rng.uniform(-0.5, 0.5, (32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(face_crop.paste_face(pixels, before, face, before), pixels)
    brighter = np.int32(face_crop.paste_face(pixels, before + 0.025, face, before)) - pixels
    assert (brighter[90:110, 90:110] == 3).all() and brighter.min() >= 0  # 3.2 levels


def test_where_an_edit_acts_strongly_the_photos_own_detail_disappears():
    # A large photo with lines that are finer than the model's pixels; it sees their mean.
    pixels = np.full((256, 256, 3), 100, np.uint8)
    pixels[::2] = 140
    before = np.full((32, 32, 3), 120 / 127.5 - 1, np.float32)
    after = before.copy()
    after[:, :16] += 40 / 127.5
    pasted = face_crop.paste_face(pixels, after, FaceBox(128, 128, 256), before)
    assert (pasted[64:192, 64:96] == 160).all(), "only the edited image"
    np.testing.assert_array_equal(pasted[:, 160:], pixels[:, 160:])
    contrast = np.int32(pasted[128, 64:192, 0]) - pasted[129, 64:192, 0]
    assert contrast.min() >= -4 and contrast.max() <= 44, "cubic enlargement overshoots a little"
    assert np.abs(np.diff(contrast)).max() <= 8, "the detail returns gradually"


def test_a_face_outside_the_photo_changes_nothing():
    pixels = smooth(50, 60)
    image = np.zeros((32, 32, 3), np.float32)
    np.testing.assert_array_equal(face_crop.paste_face(pixels, image, FaceBox(500, 20, 40)), pixels)


@pytest.mark.parametrize("size", [0.05, 1.0])
def test_the_detail_kept_in_crops_is_that_of_pasted_faces(size):
    crop = smooth(64, 64)
    before = to_float(smooth(64, 64)[::-1])
    after = before + np.float32(size) * (to_float(smooth(64, 64)[:, ::-1]) - before)
    pasted = face_crop.paste_face(crop, after, FaceBox(32, 32, 64), before)
    (kept,) = face_crop.keep_detail(to_float(crop)[None], after[None], before[None])
    assert np.abs(np.float32(pasted) - (kept + 1) * 127.5).max() <= 0.51
    assert np.abs(np.float32(pasted) - crop).max() > 50 * size, "there is a difference"
    np.testing.assert_array_equal(pasted[0, 0], crop[0, 0])


def test_the_detail_of_unedited_photos_is_kept_exactly():
    photos, before = np.float32(np.random.default_rng(1).uniform(-1, 1, (2, 3, 16, 16, 3)))
    np.testing.assert_array_equal(face_crop.keep_detail(photos, before, before), photos)


def test_the_share_that_an_edit_replaces():
    before = np.zeros((5, 64, 64, 3), np.float32)
    after = before.copy()
    after[:4] += np.float32([0.05, 0.075, -0.1, 0.15])[:, None, None, None]
    after[4, 20, 30, 1] = 3 * 16 * 0.1  # of a third of the channels, and 1/16 of the weights
    shares = face_crop.replaced_share(after, before)
    for share, expected in zip(shares, (0.0, 0.15625, 0.5, 1.0), strict=False):
        np.testing.assert_allclose(share, expected, atol=1e-5)
    assert shares[4, 20, 30] == pytest.approx(0.5, abs=1e-4)
    np.testing.assert_array_equal(np.argwhere(shares[4] > 0).mean(axis=0), [20, 30])
    assert not shares[4, 24:].any() and not shares[4, :, 34:].any()
