"""The square around a face in a photo: cropping it, and pasting the edited face back.

The models know faces upright in the middle of CelebA's crop. A photo shows a face anywhere, at any
size and tilt, so `crop_face` resamples its square into that framing and `paste_face` back.
"""

import dataclasses
import math

import numpy as np
from PIL import Image

from cgan_tf.core.errors import UserError

# The mask of a pasted face is 1 up to this fraction of the way from its center to its edge. For a
# difference the fraction can be larger: a difference is small at the edge, where a face would leave
# a visible seam.
SOLID, SOLID_DIFFERENCE = 0.6, 0.85


@dataclasses.dataclass(frozen=True)
class FaceBox:
    """A square in a photo that frames a face as CelebA's crop does.

    Attributes:
        x: center of the square, px from the left edge of the photo.
        y: center of the square, px from the top edge of the photo.
        side: of the square, px.
        angle: clockwise tilt of the head in the photo, degrees.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0

    def inside(self, height: int, width: int) -> float:
        """Fraction of the square that lies within a photo of this size, in [0, 1]."""
        steps = (np.arange(32) + 0.5) / 32 - 0.5
        grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) * self.side
        points = grid @ _rotation(self.angle).T + (self.x, self.y)
        return float(np.mean(np.all((points >= 0) & (points <= (width, height)), axis=1)))

    def matrix(self, side: float) -> np.ndarray:
        """Affine map `[2, 3]` from the square, upright with `side` px, to the photo.

        Both are in px from the corner: the center of a pixel is its index plus one half.
        """
        turn = _rotation(self.angle) * (self.side / side)
        return np.column_stack([turn, (self.x, self.y) - turn @ np.full(2, side / 2)])

    def pixel_matrix(self, side: float, left: float = 0.0, top: float = 0.0) -> np.ndarray:
        """As `matrix`, between pixel indices; those of the photo count from (left, top)."""
        matrix = self.matrix(side)
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - (0.5 + left, 0.5 + top)
        return matrix


def opencv():
    """The module cv2. Imported on first use, since only faces in photos need it.

    Raises:
        UserError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"OpenCV, which finds and crops faces in photos, cannot be imported ({reason}); "
            'pip install "opencv-python-headless<5"'
        ) from None
    return cv2


def upright(pixels: np.ndarray, box: FaceBox, side: int) -> np.ndarray:
    """The square, upright, with `side` px; beyond the photo its edge is repeated.

    Args:
        pixels: uint8 `[H, W]` or `[H, W, 3]`.
        box: the square.
        side: of the result.
    """
    cv2 = opencv()
    return cv2.warpAffine(
        pixels,
        box.pixel_matrix(side),
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def crop_face(pixels: np.ndarray, box: FaceBox, resolution: int) -> np.ndarray:
    """The face upright, framed as in CelebA's crop: uint8 `[R, R, 3]` of a photo `[H, W, 3]`."""
    side = max(resolution, math.ceil(box.side))
    image = Image.fromarray(upright(pixels, box, side))
    return np.asarray(image.resize((resolution, resolution), Image.Resampling.LANCZOS))


def paste_face(
    pixels: np.ndarray, image: np.ndarray, box: FaceBox, before: np.ndarray | None = None
) -> np.ndarray:
    """The photo with an edited face, blended in at a soft border: uint8 `[H, W, 3]`.

    Args:
        pixels: the photo, uint8 `[H, W, 3]`.
        image: the edited face, float32 `[R, R, 3]` in [-1, 1].
        box: where it was cropped.
        before: the model's reconstruction of the face without the edit, float32 `[R, R, 3]`. If
            given, only the difference between the two is added to the photo, so that everything
            that the edit does not change keeps the photo's detail.
    """
    cv2 = opencv()
    side = max(image.shape[0], math.ceil(box.side))
    layer = image if before is None else image - before
    layer = cv2.resize(np.float32(layer) * 127.5, (side, side), interpolation=cv2.INTER_CUBIC)
    mask = soft_mask(side, SOLID if before is None else SOLID_DIFFERENCE)
    # Only the part of the photo that the square covers.
    corners = box.matrix(side)
    ends = np.array([[0, 0], [side, 0], [0, side], [side, side]]) @ corners[:, :2].T + corners[:, 2]
    height, width = pixels.shape[:2]
    left, top = np.clip(np.floor(ends.min(axis=0)).astype(int), 0, (width, height))
    right, bottom = np.clip(np.ceil(ends.max(axis=0)).astype(int), 0, (width, height))
    if left >= right or top >= bottom:
        return pixels.copy()
    matrix, size = box.pixel_matrix(side, left, top), (int(right - left), int(bottom - top))
    layer = cv2.warpAffine(layer, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(mask, matrix, size)[..., None]
    result = pixels.copy()
    part = np.float32(result[top:bottom, left:right])
    new = part + mask * layer if before is not None else part + mask * (layer + 127.5 - part)
    result[top:bottom, left:right] = np.rint(np.clip(new, 0, 255)).astype(np.uint8)
    return result


def add_difference(crops: np.ndarray, images: np.ndarray, before: np.ndarray) -> np.ndarray:
    """`paste_face` with `before`, for photos that are the crops themselves; without OpenCV.

    All arrays are float32 `[N, R, R, 3]` in [-1, 1].

    Args:
        crops: the photos.
        images: the edited faces.
        before: the same faces without the edit.
    """
    mask = soft_mask(crops.shape[1], SOLID_DIFFERENCE)[..., None]
    return np.clip(crops + mask * (images - before), -1.0, 1.0)


def soft_mask(side: int, solid: float) -> np.ndarray:
    """Float32 `[side, side]`: 1 up to `solid` of the way to the edge, then smoothly down to 0."""
    steps = np.abs((np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1)
    # A superellipse between circle and square: it includes the hair above and the chin below.
    far = (steps[:, None] ** 4 + steps[None, :] ** 4) ** 0.25
    share = np.clip((1.0 - far) / (1.0 - solid), 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def _rotation(angle: float) -> np.ndarray:
    """Clockwise rotation on the screen, whose y points down."""
    radians = math.radians(angle)
    cos, sin = math.cos(radians), math.sin(radians)
    return np.array([[cos, -sin], [sin, cos]])
