"""cgan_tf.data.faces: drawn faces in larger pictures, and the way into the framing and back."""

import math

import numpy as np
import pytest
from face_pictures import SEEN, picture
from PIL import Image

from cgan_tf.data import face_detection
from cgan_tf.data.face_detection import Face


def near(face, x, y, side, tilt):
    turned = (face.angle - tilt + 180) % 360 - 180
    distance = math.hypot(face.x - x, face.y - y)
    return distance < 0.06 * side and abs(face.side / side - 1) < 0.15 and abs(turned) < 8


@pytest.mark.parametrize("index", SEEN)
@pytest.mark.parametrize("place", [(450, 350, 300, 0), (300, 400, 200, 0), (500, 330, 350, 15)])
def test_a_face_is_found_where_it_is(index, place):
    found = face_detection.find_faces(picture((index, *place)))
    assert len(found) == 1 and near(found[0], *place)


@pytest.mark.parametrize("tilt", [-45, 90, 180])
def test_a_photo_on_its_side_or_head(tilt):
    found = face_detection.find_faces(picture((1, 450, 350, 300, tilt)))
    assert len(found) == 1 and near(found[0], 450, 350, 300, tilt)


def test_several_faces_the_largest_first():
    places = [(1, 200, 250, 220, 0), (5, 620, 380, 320, 0)]
    found = face_detection.find_faces(picture(*places))
    assert len(found) == 2
    assert near(found[0], *places[1][1:]) and near(found[1], *places[0][1:])


def test_large_and_small_photos():
    pixels = picture((5, 450, 350, 300, 0))
    for scale in (4, 0.25):
        size = round(900 * scale), round(700 * scale)
        found = face_detection.find_faces(np.asarray(Image.fromarray(pixels).resize(size)))
        assert len(found) == 1
        assert near(found[0], 450 * scale, 350 * scale, 300 * scale, 0)


def test_no_face_where_there_is_none():
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    patches = np.asarray(Image.fromarray(noise).resize((800, 600), Image.Resampling.BICUBIC))
    assert face_detection.find_faces(patches) == []
    for shape in ((600, 800, 3), (1, 1, 3), (3, 2000, 3)):
        assert face_detection.find_faces(np.full(shape, 90, np.uint8)) == []


def test_the_same_faces_each_time():
    pixels = picture((1, 250, 300, 300, 10), (4, 650, 350, 250, 0))
    assert face_detection.find_faces(pixels) == face_detection.find_faces(pixels) != []


def test_how_much_of_a_face_is_in_the_photo():
    assert Face(50, 50, 100).inside(100, 100) == 1
    assert Face(0, 50, 100).inside(100, 100) == pytest.approx(0.5)
    assert Face(0, 0, 100).inside(100, 100) == pytest.approx(0.25)
    assert Face(50, 50, 100, 45).inside(100, 100) == pytest.approx(2 * (math.sqrt(2) - 1), abs=0.02)
    assert Face(500, 50, 100).inside(100, 100) == 0


def gradient(height, width):
    """uint8 whose red tells x, and whose green tells y."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 77)], axis=-1).astype(np.uint8)


def test_the_cut_is_the_square_upright():
    pixels = gradient(200, 250)
    plain = face_detection.cut_face(pixels, Face(110, 90, 64), 64)
    np.testing.assert_array_equal(plain, pixels[58:122, 78:142])
    half = face_detection.cut_face(pixels, Face(110, 90, 64), 32)
    np.testing.assert_allclose(half[8, 4], [78 + 8.5, 58 + 16.5, 77], atol=1)
    # Tilted clockwise by a right angle: the top of the head points to the right.
    turned = face_detection.cut_face(pixels, Face(110, 90, 64, 90), 64)
    np.testing.assert_array_equal(turned, np.rot90(pixels[58:122, 78:142]))
    outside = face_detection.cut_face(pixels, Face(0, 90, 64), 64)
    assert (outside[:, :32, 0] == 0).all() and outside[0, 40, 0] == 8


def smooth(height, width):
    """A photo without any detail that resampling could lose."""
    y, x = np.mgrid[:height, :width] / 60
    waves = np.stack([np.sin(x + y), np.cos(x - y), np.sin(y)], axis=-1)
    return np.rint(127.5 + 90 * waves).astype(np.uint8)


def to_float(pixels):
    return np.float32(pixels) / 127.5 - 1


@pytest.mark.parametrize(
    "face", [Face(150, 120, 128), Face(150, 120, 90.5, 33), Face(20, 210, 160)]
)
def test_what_was_cut_and_is_pasted_leaves_the_photo_as_it_was(face):
    pixels = smooth(240, 300)
    cut = to_float(face_detection.cut_face(pixels, face, 128))
    pasted = face_detection.paste_face(pixels, cut, face)
    # Where the square leaves the photo its edge was repeated: no part of the way back.
    assert np.abs(np.int32(pasted) - pixels).max() <= 3


def test_a_pasted_face_is_there_and_its_border_soft():
    pixels, face = np.full((200, 200, 3), 60, np.uint8), Face(100, 100, 120)
    pasted = face_detection.paste_face(pixels, np.full((32, 32, 3), 0.6, np.float32), face)
    assert (pasted[90:110, 90:110] == 204).all()
    outside = np.ones((200, 200), bool)
    outside[40:160, 40:160] = False
    assert (pasted[outside] == 60).all()
    steps = np.abs(np.diff(np.int32(pasted[100, :, 0])))
    assert 0 < steps.max() <= 12  # of 144, over 24 px


def test_of_an_edit_only_the_difference_is_pasted():
    rng = np.random.default_rng(1)
    pixels, face = rng.integers(60, 180, (200, 200, 3), np.uint8), Face(100, 100, 120, 20)
    before = rng.uniform(-0.5, 0.5, (32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(face_detection.paste_face(pixels, before, face, before), pixels)
    brighter = np.int32(face_detection.paste_face(pixels, before + 0.2, face, before)) - pixels
    assert (np.abs(brighter[90:110, 90:110] - 25.5) <= 0.5).all() and brighter.min() >= 0


def test_a_face_outside_of_the_photo_changes_nothing():
    pixels = smooth(50, 60)
    image = np.zeros((32, 32, 3), np.float32)
    np.testing.assert_array_equal(face_detection.paste_face(pixels, image, Face(500, 20, 40)), pixels)


def test_a_difference_is_added_alike_to_photos_and_to_crops():
    crop = smooth(64, 64)
    before, after = to_float(smooth(64, 64)[::-1]), to_float(smooth(64, 64)[:, ::-1])
    whole = face_detection.paste_face(crop, after, Face(32, 32, 64), before)
    (added,) = face_detection.add_difference(to_float(crop)[None], after[None], before[None])
    assert np.abs(np.float32(whole) - (added + 1) * 127.5).max() <= 0.51
    assert np.abs(np.float32(whole) - crop).max() > 50, "there is a difference"
    np.testing.assert_array_equal(whole[0, 0], crop[0, 0])
