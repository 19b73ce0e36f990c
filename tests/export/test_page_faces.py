"""The page's scripts find, crop and paste faces as Python does. They run in Node.js."""

import base64
import json

import cv2
import numpy as np
import page_scripts
import pytest
from face_pictures import photo_with_faces
from photos import random_photo
from PIL import Image

from cgan_tf.core.errors import UserError
from cgan_tf.data import face_crop, face_detection, images
from cgan_tf.data.face_crop import FaceBox
from cgan_tf.export import face_rules

SIDE = 32  # px of the model


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    return page_scripts.make_scripts(tmp_path_factory.mktemp("scripts"))


@pytest.fixture(scope="module")
def cascades():
    return json.loads(face_rules.cascades())


# ---- finding -----------------------------------------------------------------------------------


FIND = """
const { FaceDetector } = await import("./face_detection.js");
const detector = new FaceDetector(given.cascades);
return given.photos.map((photo) => detector.find(photo));
"""


def check_found(scripts, cascades, photos, counts):
    """The page finds these numbers of faces, each exactly where Python finds it."""
    found = page_scripts.run(scripts, FIND, cascades=cascades, photos=photos)
    for photo, boxes, count in zip(photos, found, counts, strict=True):
        expected = face_detection.find_faces(photo)
        assert len(boxes) == len(expected) == count
        for box, face in zip(boxes, expected, strict=True):
            values = [face.x, face.y, face.side, face.angle]
            assert [box[key] for key in ("x", "y", "side", "angle")] == pytest.approx(values)


def enlarged(pixels, width, height):
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.slow
def test_the_page_finds_the_faces_that_python_finds(scripts, cascades):
    photo = photo_with_faces((1, 100, 110, 130, 0), (4, 280, 130, 150, 10), size=(220, 370))
    check_found(scripts, cascades, [photo], [2])  # enlarged for the search


@pytest.mark.slow
def test_the_page_finds_faces_in_all_kinds_of_photos(scripts, cascades):
    places = [(1, 200, 250, 220, 0), (5, 620, 380, 320, 0), (4, 300, 550, 200, 10)]
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    photos = [
        photo_with_faces(*places),
        photo_with_faces((1, 450, 350, 300, -45)),
        photo_with_faces((1, 450, 350, 300, 180)),
        enlarged(photo_with_faces((5, 450, 350, 300, 0)), 1500, 1167),
        enlarged(photo_with_faces((5, 450, 350, 300, 0)), 1800, 1400),  # halved for the search
        enlarged(noise, 800, 600),
        np.full((1, 1, 3), 90, np.uint8),
        np.full((3, 2000, 3), 90, np.uint8),
    ]
    check_found(scripts, cascades, photos, [3, 1, 1, 1, 1, 0, 0, 0])


def test_the_cascades_detect_the_same_windows_as_opencv(scripts, cascades):
    gray = cv2.cvtColor(
        photo_with_faces((1, 100, 100, 150, 4), size=(200, 200)), cv2.COLOR_RGB2GRAY
    )
    crop = face_crop.upright(gray, FaceBox(100, 100, 148), 140)
    pictures = [crop, *(np.ascontiguousarray(crop[50:95, left : left + 42]) for left in (28, 70))]
    body = """
    const { Cascade } = await import("./cascade.js");
    const [frontal, eye] = [new Cascade(given.frontal), new Cascade(given.eye)];
    return given.pictures.map((one) => [
      frontal.detect(one, 24, 2, 1.1), eye.detect(one, 14, 1, 1.05),
    ]);
    """
    found = page_scripts.run(scripts, body, pictures=pictures, **cascades)
    frontal, eye = face_detection.FRONTAL, face_detection.EYE
    for picture, (faces, eyes) in zip(pictures, found, strict=True):
        expected = face_detection._detections(frontal, picture, 24, 2, 1.1)
        assert faces == [list(one) for one in expected]
        expected = face_detection._detections(eye, picture, 14, 1, 1.05)
        assert eyes == [list(one) for one in expected] != []


def test_the_cascades_keep_their_license(cascades):
    assert "Created by Rainer Lienhart" in cascades["frontal"]["license"]
    assert "Created by Shameem Hameed" in cascades["eye"]["license"]
    for cascade in cascades.values():
        assert "Intel License Agreement" in cascade["license"]
        assert "Redistribution's in binary form must reproduce" in cascade["license"]


def test_a_damaged_cascade_is_refused(monkeypatch, tmp_path):
    broken = tmp_path / f"{face_detection.FRONTAL}.xml"
    broken.write_text("<!-- a notice --><opencv_storage>")
    monkeypatch.setattr(cv2.data, "haarcascades", f"{tmp_path}/")
    with pytest.raises(UserError, match=r"frontalface_alt2.xml: not a cascade of OpenCV \(.*\);"):
        face_rules.cascades()


# ---- cropping and pasting ----------------------------------------------------------------------


BOXES = [FaceBox(75.3, 61.8, 90.5, 12.0), FaceBox(120, 30, 70, -35), FaceBox(60, 60, 25.4, 180)]


def as_rgb(text, pixels):
    data = np.frombuffer(base64.b64decode(text), np.uint8)
    return data.reshape(*pixels.shape[:2], 4)[..., :3]


def plain(box):
    return {"x": box.x, "y": box.y, "side": box.side, "angle": box.angle}


def test_the_page_crops_faces_as_python_does(scripts):
    photo = np.asarray(random_photo(150, 110))
    body = """
    const { cropFace } = await import("./face_crop.js");
    return given.boxes.map((box) => text(cropFace(given.photo, box, given.side)));
    """
    boxes = [plain(box) for box in BOXES]
    crops = page_scripts.run(scripts, body, photo=photo, boxes=boxes, side=SIDE)
    for box, crop in zip(BOXES, crops, strict=True):
        found = np.frombuffer(base64.b64decode(crop), np.float32).reshape(SIDE, SIDE, 3)
        expected = face_crop.crop_face(photo, box, SIDE)
        assert np.abs(np.int16(images.to_uint8(found)) - expected).max() <= 1


@pytest.mark.parametrize("kept", [False, True])
def test_the_page_pastes_faces_as_python_does(scripts, kept):
    photo = np.asarray(random_photo(150, 110))
    before, edited = (images.to_float(np.asarray(random_photo(SIDE, SIDE, s))) for s in (1, 2))
    edited = before + (edited - before) * np.linspace(0, 1, SIDE, dtype=np.float32)[:, None]
    share = face_crop.replaced_share(edited[None], before[None])
    assert share.min() < 0.1 and share.max() > 0.9, "both kinds of places"
    body = """
    const { pasteFace } = await import("./face_crop.js");
    const before = given.kept ? given.before : undefined;
    return given.boxes.map((box) => {
      const photo = { ...given.photo, data: given.photo.data.slice() };
      return { region: pasteFace(photo, box, given.edited, before), data: text(photo.data) };
    });
    """
    given = {"photo": photo, "before": before, "edited": edited, "kept": kept}
    pasted = page_scripts.run(scripts, body, boxes=[plain(box) for box in BOXES], **given)
    for box, one in zip(BOXES, pasted, strict=True):
        expected = face_crop.paste_face(photo, edited, box, before if kept else None)
        changed = (expected != photo).any(axis=-1)
        found = as_rgb(one["data"], photo)
        assert np.abs(np.int16(found) - photo)[changed].mean() > 4
        assert np.abs(np.int16(found) - expected).max() <= 2
        assert np.abs(np.int16(found) - expected)[changed].mean() < 0.2
        left, top, width, height = (one["region"][k] for k in ("left", "top", "width", "height"))
        outside = np.ones(photo.shape[:2], bool)
        outside[top : top + height, left : left + width] = False
        np.testing.assert_array_equal(found[outside], photo[outside])
        assert not changed[outside].any()


def test_a_face_beside_the_photo_changes_nothing(scripts):
    body = """
    const { pasteFace } = await import("./face_crop.js");
    const region = pasteFace(given.photo, { x: 200, y: 50, side: 40, angle: 0 }, given.edited);
    return [region ?? null, given.photo.data.every((value) => value === 9 || value === 255)];
    """
    photo, edited = np.full((90, 120, 3), 9, np.uint8), np.ones((SIDE, SIDE, 3), np.float32)
    assert page_scripts.run(scripts, body, photo=photo, edited=edited) == [None, True]


def test_a_photo_without_color_gets_none(scripts):
    photo = np.full((60, 60, 3), 90, np.uint8)
    edited = np.full((SIDE, SIDE, 3), -1.0, np.float32)
    edited[..., 0] = 1.0
    body = """
    const { pasteFace } = await import("./face_crop.js");
    pasteFace(given.photo, { x: 30, y: 30, side: 60, angle: 0 }, given.edited);
    return text(given.photo.data);
    """
    found = as_rgb(page_scripts.run(scripts, body, photo=photo, edited=edited), photo)
    pasted = face_crop.paste_face(photo, edited, FaceBox(30, 30, 60))
    expected = np.asarray(Image.fromarray(pasted).convert("L").convert("RGB"))
    assert np.abs(np.int16(found) - expected).max() <= 1 and np.ptp(found) > 10
