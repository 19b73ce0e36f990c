"""Faces in any photo: where they are, and how they get into the training photos' framing and back.

For `cgan translate`: a photo from a phone shows a face somewhere, at any size and tilt, and the
models know faces upright in the middle of CelebA's crop. OpenCV's cascades (Viola & Jones 2001,
Lienhart & Maydt 2002), which its package brings along, find the face; its eyes tell the tilt.
"""

import dataclasses
import math
import threading

import cv2
import numpy as np
from PIL import Image

# Where the cascade sees the face of an aligned photo, measured on 150 training photos of CelebA
# (python -m benchmarks.faces): the side of CelebA's crop in sides of the cascade's square, and how
# far the crop's center lies below the square's.
CROP_SIDE = 1.385
CROP_BELOW = -0.149
# The cascade tells nothing of a face smaller than this, and a model nothing worth having.
SMALLEST = 24  # px, side of the cascade's square
LONGEST = 1000  # px, of the photo that is searched; a larger one is searched at a smaller scale
SHORTEST = 240  # px; a smaller one is enlarged
MARGIN = 0.15  # of the shorter side, put around the photo: aligned photos leave the cascade none
# Where no upright face is found: tilted heads, then photos that lie on their side or on their head.
TILTS = (-25.0, 25.0, -45.0, 45.0, 90.0, -90.0, 180.0)
FRONTAL, EYE = "haarcascade_frontalface_alt2", "haarcascade_eye_tree_eyeglasses"
NEIGHBORS = 2  # raw detections that must agree for a face to be looked at again
# Raw detections, over all turns, that make it a face: those of CelebA's had 36 to 290, and what was
# none at most 19 (python -m benchmarks.faces).
SEEN = 30
OVERLAP = 0.3  # of two faces' squares (intersection over union) from which on they are one face
# A found face is looked at again, drawn upright with PATCH px, turned by these angles in turn.
TURNS = ((-30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0), (-10.0, 0.0, 10.0))
PATCH = 140  # px
EYE_DISTANCE = 40 / 148  # in sides of CelebA's crop
MAX_TILT = 20.0  # degrees that the eyes may add; more, and one of them is none
# The mask of a pasted face is 1 up to this share of the way from its center to its edge. Of a mere
# difference more can be let in: it is small at the edge, where a face would show a seam.
SOLID, SOLID_DIFFERENCE = 0.6, 0.85


@dataclasses.dataclass(frozen=True)
class Face:
    """A square in a photo that shows a face as CelebA's crop does.

    Attributes:
        x: center of the square, px from the photo's left edge.
        y: center of the square, px from the photo's top edge.
        side: of the square, px.
        angle: degrees that the head is tilted clockwise, in the photo.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0

    def inside(self, height: int, width: int) -> float:
        """Share of the square that lies in a photo of that size, in [0, 1]."""
        steps = (np.arange(32) + 0.5) / 32 - 0.5
        grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) * self.side
        points = grid @ _rotation(self.angle).T + (self.x, self.y)
        return float(np.mean(np.all((points >= 0) & (points <= (width, height)), axis=1)))

    def matrix(self, side: float) -> np.ndarray:
        """Affine map `[2, 3]` from the square, drawn upright with `side` px, to the photo.

        Both in px from the corner, so that a pixel's center lies at its index plus a half.
        """
        turn = _rotation(self.angle) * (self.side / side)
        return np.column_stack([turn, (self.x, self.y) - turn @ np.full(2, side / 2)])

    def pixel_matrix(self, side: float, left: float = 0.0, top: float = 0.0) -> np.ndarray:
        """As `matrix`, from pixel index to pixel index, of the photo's part from (left, top) on."""
        matrix = self.matrix(side)
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - (0.5 + left, 0.5 + top)
        return matrix


def _rotation(angle: float) -> np.ndarray:
    """Turns by the angle, clockwise on the screen, whose y points down."""
    radians = math.radians(angle)
    cos, sin = math.cos(radians), math.sin(radians)
    return np.array([[cos, -sin], [sin, cos]])


def find_faces(pixels: np.ndarray) -> list[Face]:
    """The faces in a photo uint8 `[H, W, 3]`, the largest first; none where it has none.

    Upright and slightly tilted heads are looked for first. Only where there are none the photo is
    turned by each of `TILTS`, until one shows a face.
    """
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    scale = min(LONGEST / max(height, width), max(1.0, SHORTEST / min(height, width)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    for tilt in (0.0, *TILTS):
        faces = _search(gray, tilt)
        if faces:
            break
    faces = [Face(f.x / scale, f.y / scale, f.side / scale, f.angle) for f in faces]
    return sorted(faces, key=lambda face: -face.side)


def _search(gray: np.ndarray, tilt: float) -> list[Face]:
    """The faces that a photo shows when it is turned so that heads tilted by `tilt` are upright."""
    height, width = gray.shape
    margin = MARGIN * min(height, width)
    # The turned photo as a square of its own, around all of it.
    radians = math.radians(tilt)
    across = abs(math.cos(radians)), abs(math.sin(radians))
    side = max(
        width * across[0] + height * across[1], width * across[1] + height * across[0]
    ) + 2 * margin  # fmt: skip
    whole = Face(width / 2, height / 2, side, tilt)
    found: list[Face] = []
    upright = _upright(gray, whole, round(side))
    for x, y, box, _ in _detections(FRONTAL, upright, SMALLEST, NEIGHBORS, 1.1):
        face = _refined(gray, _in_photo(whole, x, y, box, whole.side))
        if face and not any(_overlap(face, other) > OVERLAP for other in found):
            found.append(face)
    return found


def _in_photo(around: Face, x: float, y: float, box: float, side: float) -> Face:
    """The crop of what a cascade sees in `around`, drawn upright with `side` px.

    Args:
        around: a square of the photo.
        x: center of the cascade's square, px of the drawing; y: likewise.
        box: its side, px of the drawing.
        side: of the drawing, px.
    """
    matrix = around.matrix(side)
    px, py = matrix[:, :2] @ (x, y + CROP_BELOW * box) + matrix[:, 2]
    return Face(float(px), float(py), CROP_SIDE * box * around.side / side, around.angle)


def _refined(gray: np.ndarray, face: Face) -> Face | None:
    """The face again, from how often the cascade sees it when its patch is turned.

    A cascade's square jumps by a step of its scales, and tells no tilt. The mean over turned
    patches, each weighed by the number of raw detections, is far more certain.
    """
    for turns in TURNS:
        seen, weights = [], []
        for turn in turns:
            around = Face(face.x, face.y, 2.0 * face.side / CROP_SIDE, face.angle + turn)
            patch = _upright(gray, around, PATCH)
            for x, y, size, count in _detections(FRONTAL, patch, 0.35 * PATCH, 1, 1.1):
                if math.hypot(x - PATCH / 2, y - PATCH / 2) < PATCH / 5:
                    one = _in_photo(around, x, y, size, PATCH)
                    seen.append((one.x, one.y, math.log(one.side), one.angle))
                    weights.append(count)
        if sum(weights) < SEEN:
            return None
        x, y, log_side, angle = np.average(seen, axis=0, weights=weights)
        face = Face(float(x), float(y), float(np.exp(log_side)), float(angle))
    eyes = _eyes(gray, face)
    return face if eyes is None else eyes


def _eyes(gray: np.ndarray, face: Face) -> Face | None:
    """The face as its eyes have it; None where they are not both seen where eyes are."""
    crop = _upright(gray, face, PATCH)
    top, bottom = int(0.36 * PATCH), int(0.68 * PATCH)
    places = []
    for left in (int(0.2 * PATCH), int(0.5 * PATCH)):
        part = crop[top:bottom, left : left + int(0.3 * PATCH)]
        eyes = _detections(EYE, part, 0.1 * PATCH, 2, 1.05)
        if not eyes:
            return None
        x, y, _, _ = max(eyes, key=lambda eye: eye[3])
        places.append((x + left, y + top))
    first, second = np.array(places)
    across = second - first
    tilt = math.degrees(math.atan2(across[1], across[0]))
    ratio = float(np.hypot(*across)) / PATCH / EYE_DISTANCE
    if not (1 / 1.25 < ratio < 1.25 and abs(tilt) < MAX_TILT):
        return None
    return dataclasses.replace(face, angle=face.angle + tilt, side=face.side * math.sqrt(ratio))


_own = threading.local()  # a cascade holds the image that it works on: each thread needs its own


def _cascade(name: str) -> cv2.CascadeClassifier:
    cascades = vars(_own).setdefault("cascades", {})
    if name not in cascades:
        cascades[name] = cv2.CascadeClassifier(f"{cv2.data.haarcascades}{name}.xml")
    return cascades[name]


def _detections(
    name: str, gray: np.ndarray, least: float, neighbors: int, scale: float
) -> list[tuple[float, float, float, int]]:
    """What a cascade sees: center x, center y, side [px] and number of raw detections; sorted.

    Args:
        name: of the cascade.
        gray: uint8 `[H, W]`.
        least: side of the smallest square, px.
        neighbors: raw detections that must agree.
        scale: from one size to the next.
    """
    least = max(8, round(least))
    if min(gray.shape) < least:
        return []
    found, counts = _cascade(name).detectMultiScale2(gray, scale, neighbors, minSize=(least, least))
    return sorted(
        (x + w / 2, y + h / 2, float(w), int(count))
        for (x, y, w, h), count in zip(np.reshape(found, (-1, 4)), np.ravel(counts), strict=True)
    )


def _overlap(one: Face, other: Face) -> float:
    """Intersection over union of the two squares, as if neither were tilted."""
    width = min(one.x + one.side / 2, other.x + other.side / 2) - max(
        one.x - one.side / 2, other.x - other.side / 2
    )
    height = min(one.y + one.side / 2, other.y + other.side / 2) - max(
        one.y - one.side / 2, other.y - other.side / 2
    )
    common = max(0.0, width) * max(0.0, height)
    return common / (one.side**2 + other.side**2 - common)


# ---- into the model's framing and back ---------------------------------------------------------


def _upright(pixels: np.ndarray, face: Face, side: int) -> np.ndarray:
    """The square of the face, upright, with `side` px; what lies outside repeats the edge."""
    return cv2.warpAffine(
        pixels, face.pixel_matrix(side), (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def cut_face(pixels: np.ndarray, face: Face, resolution: int) -> np.ndarray:
    """The face upright, as CelebA's crop frames it: uint8 `[R, R, 3]` of a photo `[H, W, 3]`."""
    side = max(resolution, math.ceil(face.side))
    upright = Image.fromarray(_upright(pixels, face, side))
    return np.asarray(upright.resize((resolution, resolution), Image.Resampling.LANCZOS))


def soft_mask(side: int, solid: float) -> np.ndarray:
    """Float32 `[side, side]`: 1 up to `solid` of the way to the edge, then smoothly down to 0."""
    steps = np.abs((np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1)
    # Between a circle and a square: it holds the hair above and the chin below.
    far = (steps[:, None] ** 4 + steps[None, :] ** 4) ** 0.25
    share = np.clip((1.0 - far) / (1.0 - solid), 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def paste_face(
    pixels: np.ndarray, image: np.ndarray, face: Face, before: np.ndarray | None = None
) -> np.ndarray:
    """The photo with an edited face in its place, uint8 `[H, W, 3]`; the border is soft.

    Args:
        pixels: the photo, uint8 `[H, W, 3]`.
        image: the edited face, float32 `[R, R, 3]` in [-1, 1].
        face: where it was cut from.
        before: the same face before the edit, as the model draws it, float32 `[R, R, 3]`. The photo
            then gets only the difference of the two, so that what the edit leaves alone keeps
            the photo's detail.
    """
    side = max(image.shape[0], math.ceil(face.side))
    layer = image if before is None else image - before
    layer = cv2.resize(np.float32(layer) * 127.5, (side, side), interpolation=cv2.INTER_CUBIC)
    mask = soft_mask(side, SOLID if before is None else SOLID_DIFFERENCE)
    # Only the part of the photo that the square covers.
    corners = face.matrix(side)
    ends = np.array([[0, 0], [side, 0], [0, side], [side, side]]) @ corners[:, :2].T + corners[:, 2]
    height, width = pixels.shape[:2]
    left, top = np.clip(np.floor(ends.min(axis=0)).astype(int), 0, (width, height))
    right, bottom = np.clip(np.ceil(ends.max(axis=0)).astype(int), 0, (width, height))
    if left >= right or top >= bottom:
        return pixels.copy()
    matrix, size = face.pixel_matrix(side, left, top), (int(right - left), int(bottom - top))
    layer = cv2.warpAffine(layer, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(mask, matrix, size)[..., None]
    result = pixels.copy()
    part = np.float32(result[top:bottom, left:right])
    new = part + mask * layer if before is not None else part + mask * (layer + 127.5 - part)
    result[top:bottom, left:right] = np.rint(np.clip(new, 0, 255)).astype(np.uint8)
    return result


def add_difference(crops: np.ndarray, images: np.ndarray, before: np.ndarray) -> np.ndarray:
    """What `paste_face` with `before` makes of whole crops, all float32 `[N, R, R, 3]`, in [-1, 1].

    Args:
        crops: the photos.
        images: the edited faces.
        before: the same before the edit.
    """
    mask = soft_mask(crops.shape[1], SOLID_DIFFERENCE)[..., None]
    return np.clip(crops + mask * (images - before), -1.0, 1.0)
