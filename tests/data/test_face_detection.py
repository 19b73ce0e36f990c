"""Face detection: synthetic faces at known places in larger photos."""

import math
import sys

import cv2
import numpy as np
import pytest
from face_pictures import DETECTABLE, photo_with_faces
from PIL import Image

from cgan_tf.core.errors import UserError
from cgan_tf.data import face_detection


def is_near(face, x, y, side, tilt):
    turned = (face.angle - tilt + 180) % 360 - 180
    distance = math.hypot(face.x - x, face.y - y)
    return distance < 0.06 * side and abs(face.side / side - 1) < 0.15 and abs(turned) < 8


@pytest.mark.parametrize("index", DETECTABLE)
@pytest.mark.parametrize("place", [(450, 350, 300, 0), (300, 400, 200, 0), (500, 330, 350, 15)])
def test_a_face_is_found_at_its_place(index, place):
    found = face_detection.find_faces(photo_with_faces((index, *place)))
    assert len(found) == 1 and is_near(found[0], *place)


@pytest.mark.parametrize("tilt", [-45, 90, 180])
def test_a_tilted_head_and_a_photo_on_its_side_or_upside_down(tilt):
    found = face_detection.find_faces(photo_with_faces((1, 450, 350, 300, tilt)))
    assert len(found) == 1 and is_near(found[0], 450, 350, 300, tilt)


def test_several_faces_are_sorted_by_size():
    places = [(1, 200, 250, 220, 0), (5, 620, 380, 320, 0)]
    found = face_detection.find_faces(photo_with_faces(*places))
    assert len(found) == 2
    assert is_near(found[0], *places[1][1:]) and is_near(found[1], *places[0][1:])


def test_large_and_small_photos():
    pixels = photo_with_faces((5, 450, 350, 300, 0))
    for scale in (4, 0.25):
        size = round(900 * scale), round(700 * scale)
        found = face_detection.find_faces(np.asarray(Image.fromarray(pixels).resize(size)))
        assert len(found) == 1
        assert is_near(found[0], 450 * scale, 350 * scale, 300 * scale, 0)


def test_photos_without_a_face():
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    patches = np.asarray(Image.fromarray(noise).resize((800, 600), Image.Resampling.BICUBIC))
    assert face_detection.find_faces(patches) == []
    for shape in ((600, 800, 3), (1, 1, 3), (3, 2000, 3)):
        assert face_detection.find_faces(np.full(shape, 90, np.uint8)) == []


def test_detection_is_deterministic():
    pixels = photo_with_faces((1, 250, 300, 300, 10), (4, 650, 350, 250, 0))
    assert face_detection.find_faces(pixels) == face_detection.find_faces(pixels) != []


@pytest.fixture
def no_cascades(monkeypatch):
    """This thread's cascades, forgotten; restored afterwards."""
    monkeypatch.setitem(vars(face_detection._local), "cascades", {})


def test_without_opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(
        UserError, match=r"^OpenCV, which .* cannot be imported .*; pip install "
    ) as e:
        face_detection.find_faces(np.zeros((300, 300, 3), np.uint8))
    assert '"opencv-python-headless<5"' in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("missing", ["class", "files"])
def test_opencv_without_cascades(monkeypatch, no_cascades, missing):
    if missing == "class":
        monkeypatch.delattr(cv2, "CascadeClassifier")
    else:
        monkeypatch.setattr(cv2.data, "haarcascades", "/nowhere/")
    with pytest.raises(
        UserError, match=r"^OpenCV \d.* has no face cascades, .*; pip install "
    ) as e:
        face_detection.find_faces(np.zeros((300, 300, 3), np.uint8))
    assert '"opencv-python-headless<5"' in str(e.value) and "\n" not in str(e.value)
