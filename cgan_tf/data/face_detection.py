"""Finds the faces in a photo with OpenCV's cascades (Viola & Jones 2001, Lienhart & Maydt 2002).

The cascades come with OpenCV up to version 4. They find upright faces; the eyes give the tilt of
the head.
"""

import dataclasses
import math
import pathlib
import threading

import numpy as np

from cgan_tf.core.errors import UserError
from cgan_tf.data.face_crop import FaceBox, opencv, upright

# CelebA's crop relative to the cascade's square, measured on 150 training photos of CelebA
# (python -m benchmarks.faces): the ratio of their sides, and how far the center of the crop is
# below that of the square, in sides of the square.
CROP_SIDE = 1.385
CROP_BELOW = -0.149
# The cascade is unreliable for smaller faces, and a model gains nothing from them.
MIN_SQUARE = 24  # px, side of the cascade's square
# Photos outside of this range are scaled before the search.
MAX_SEARCH_SIDE = 1000  # px, longer side
MIN_SEARCH_SIDE = 240  # px, shorter side
# Border around the photo, as a fraction of its shorter side: aligned photos leave the cascade none.
MARGIN = 0.15
# Tried in turn if no upright face is found: tilted heads, then photos on their side or upside down.
TILTS = (-25.0, 25.0, -45.0, 45.0, 90.0, -90.0, 180.0)
FRONTAL, EYE = "haarcascade_frontalface_alt2", "haarcascade_eye_tree_eyeglasses"
MIN_NEIGHBORS = 2  # raw detections that must agree on a candidate; likewise on an eye
SCALE, EYE_SCALE = 1.1, 1.05  # ratios of the successive sizes in which faces and eyes are searched
# Minimum number of raw detections of a face, over all turns. CelebA's faces had 36 to 290, false
# candidates at most 19 (python -m benchmarks.faces).
MIN_DETECTIONS = 30
MAX_OVERLAP = 0.3  # intersection over union above which two squares are the same face
# Each candidate is refined twice, on upright patches of PATCH px turned by these angles.
TURNS = ((-30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0), (-10.0, 0.0, 10.0))
PATCH = 140  # px
PATCH_SIDE = 2.0  # of a patch, in sides of the cascade's square
MIN_PATCH_SQUARE = 0.35  # side of a square in a patch, in sides of the patch
MAX_PATCH_SHIFT = 0.2  # distance of a square's center from the patch's, likewise
EYE_DISTANCE = 40 / 148  # in sides of CelebA's crop
EYE_RATIO = 1.25  # maximum ratio of the eyes' distance and the candidate's, or its inverse
MAX_EYE_TILT = 20.0  # degrees between the candidate and its eyes; beyond, one of them is not an eye
# Where the eyes are searched, in sides of the patch: rows, and the left ends of the columns.
EYE_TOP, EYE_BOTTOM, EYE_LEFTS, EYE_WIDTH = 0.36, 0.68, (0.2, 0.5), 0.3
MIN_EYE = 0.1  # side of an eye's square, likewise


def find_faces(pixels: np.ndarray) -> list[FaceBox]:
    """The faces in a photo uint8 `[H, W, 3]`, largest first; an empty list if there are none.

    Searches for upright and slightly tilted heads first. If there are none, turns the photo by each
    of `TILTS` until a face is found.

    Raises:
        UserError: OpenCV is missing, or has no cascades.
    """
    cv2 = opencv()
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    scale = min(
        MAX_SEARCH_SIDE / max(height, width), max(1.0, MIN_SEARCH_SIDE / min(height, width))
    )
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    for tilt in (0.0, *TILTS):
        faces = _search(gray, tilt)
        if faces:
            break
    faces = [FaceBox(f.x / scale, f.y / scale, f.side / scale, f.angle) for f in faces]
    return sorted(faces, key=lambda face: -face.side)


def _search(gray: np.ndarray, tilt: float) -> list[FaceBox]:
    """The faces in a gray photo after turning it so that heads tilted by `tilt` are upright."""
    height, width = gray.shape
    margin = MARGIN * min(height, width)
    # A square around the complete turned photo.
    radians = math.radians(tilt)
    across = abs(math.cos(radians)), abs(math.sin(radians))
    turned = (
        width * across[0] + height * across[1],
        width * across[1] + height * across[0],
    )
    side = max(turned) + 2 * margin
    around = FaceBox(width / 2, height / 2, side, tilt)
    found: list[FaceBox] = []
    image = upright(gray, around, round(side))
    for x, y, square, _ in _detections(FRONTAL, image, MIN_SQUARE, MIN_NEIGHBORS, SCALE):
        face = _refined(gray, _in_photo(around, x, y, square, around.side))
        if face and not any(_overlap(face, other) > MAX_OVERLAP for other in found):
            found.append(face)
    return found


def _in_photo(around: FaceBox, x: float, y: float, square: float, side: float) -> FaceBox:
    """Where CelebA's crop of a detection lies in the photo.

    Args:
        around: the square of the photo in which the cascade searched, resampled to `side` px.
        x: center of the cascade's square, px of the resampled image.
        y: likewise.
        square: its side, px of the resampled image.
        side: of the resampled image, px.
    """
    matrix = around.matrix(side)
    px, py = matrix[:, :2] @ (x, y + CROP_BELOW * square) + matrix[:, 2]
    return FaceBox(float(px), float(py), CROP_SIDE * square * around.side / side, around.angle)


def _refined(gray: np.ndarray, face: FaceBox) -> FaceBox | None:
    """Refines a candidate with the detections in turned patches; None if they are too few.

    The size of a cascade's square is quantized, and the square has no tilt. The mean over turned
    patches, weighted by the number of raw detections, is far more accurate.
    """
    for turns in TURNS:
        found, weights = [], []
        for turn in turns:
            around = FaceBox(face.x, face.y, PATCH_SIDE * face.side / CROP_SIDE, face.angle + turn)
            patch = upright(gray, around, PATCH)
            for x, y, square, count in _detections(
                FRONTAL, patch, MIN_PATCH_SQUARE * PATCH, 1, SCALE
            ):
                if math.hypot(x - PATCH / 2, y - PATCH / 2) < MAX_PATCH_SHIFT * PATCH:
                    one = _in_photo(around, x, y, square, PATCH)
                    found.append((one.x, one.y, math.log(one.side), one.angle))
                    weights.append(count)
        if sum(weights) < MIN_DETECTIONS:
            return None
        x, y, log_side, angle = np.average(found, axis=0, weights=weights)
        face = FaceBox(float(x), float(y), float(np.exp(log_side)), float(angle))
    eyes = _eyes(gray, face)
    return face if eyes is None else eyes


def _eyes(gray: np.ndarray, face: FaceBox) -> FaceBox | None:
    """Corrects tilt and size with the eyes; None unless both are detected at plausible places."""
    crop = upright(gray, face, PATCH)
    top, bottom = int(EYE_TOP * PATCH), int(EYE_BOTTOM * PATCH)
    places = []
    for left in (int(share * PATCH) for share in EYE_LEFTS):
        part = crop[top:bottom, left : left + int(EYE_WIDTH * PATCH)]
        eyes = _detections(EYE, part, MIN_EYE * PATCH, MIN_NEIGHBORS, EYE_SCALE)
        if not eyes:
            return None
        x, y, _, _ = max(eyes, key=lambda eye: eye[3])
        places.append((x + left, y + top))
    first, second = np.array(places)
    across = second - first
    tilt = math.degrees(math.atan2(across[1], across[0]))
    ratio = float(np.hypot(*across)) / PATCH / EYE_DISTANCE
    if not (1 / EYE_RATIO < ratio < EYE_RATIO and abs(tilt) < MAX_EYE_TILT):
        return None
    return dataclasses.replace(face, angle=face.angle + tilt, side=face.side * math.sqrt(ratio))


_local = threading.local()  # a cascade keeps the image it works on, so each thread has its own


def cascade_file(name: str) -> pathlib.Path:
    """The file of one of OpenCV's cascades.

    Raises:
        UserError: OpenCV is missing, or has no cascades.
    """
    cv2 = opencv()
    if hasattr(cv2, "CascadeClassifier"):  # removed from the main modules in OpenCV 5
        file = pathlib.Path(cv2.data.haarcascades, f"{name}.xml")
        if file.is_file():
            return file
    raise UserError(
        f"OpenCV {cv2.__version__} has no face cascades, which find faces in photos; "
        'pip install "opencv-python-headless<5"'
    )


def _cascade(name: str):
    """The cv2.CascadeClassifier of this thread."""
    cascades = vars(_local).setdefault("cascades", {})
    if name not in cascades:
        file = cascade_file(name)
        cascades[name] = opencv().CascadeClassifier(str(file))
    return cascades[name]


def _detections(
    name: str, gray: np.ndarray, least: float, neighbors: int, scale: float
) -> list[tuple[float, float, float, int]]:
    """The detections of a cascade: (center x, center y, side, raw detections), in px, sorted.

    Args:
        name: of the cascade.
        gray: uint8 `[H, W]`.
        least: minimum side of a square, px.
        neighbors: raw detections that must agree.
        scale: ratio of successive sizes.
    """
    least = max(8, round(least))
    if min(gray.shape) < least:
        return []
    found, counts = _cascade(name).detectMultiScale2(gray, scale, neighbors, minSize=(least, least))
    return sorted(
        (x + w / 2, y + h / 2, float(w), int(count))
        for (x, y, w, h), count in zip(np.reshape(found, (-1, 4)), np.ravel(counts), strict=True)
    )


def _overlap(one: FaceBox, other: FaceBox) -> float:
    """Intersection over union of two squares, ignoring their tilt."""
    width = min(one.x + one.side / 2, other.x + other.side / 2) - max(
        one.x - one.side / 2, other.x - other.side / 2
    )
    height = min(one.y + one.side / 2, other.y + other.side / 2) - max(
        one.y - one.side / 2, other.y - other.side / 2
    )
    common = max(0.0, width) * max(0.0, height)
    return common / (one.side**2 + other.side**2 - common)
