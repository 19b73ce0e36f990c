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
# Where an edit changes the image by less than the first of these, the photo's detail stays; by more
# than the second, none of it does. Mean over the channels, of images in [-1, 1]. Reconstructions of
# validation photos are off by 0.05 themselves; lower thresholds cost more of the person's identity
# than they gain of the edit.
SMALL_CHANGE, LARGE_CHANGE = 0.05, 0.15
REACH = 1 / 16  # radius of the neighborhood that the change is averaged over, fraction of the side


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
            given, the photo keeps its own detail, see `keep_detail`.
    """
    cv2 = opencv()
    side = max(image.shape[0], math.ceil(box.side))
    # The photo's levels times 1 - share, plus the layer.
    if before is None:
        share, layer = np.ones((*image.shape[:2], 1)), image + 1.0
    else:
        share = replaced_share(image[None], before[None])[0, ..., None]
        layer = image - before + share * (before + 1.0)
    layer = np.float32(np.concatenate([layer * 127.5, share], axis=-1))
    layer = cv2.resize(layer, (side, side), interpolation=cv2.INTER_CUBIC)
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
    new = part + mask * (layer[..., :3] - layer[..., 3:] * part)
    result[top:bottom, left:right] = np.rint(np.clip(new, 0, 255)).astype(np.uint8)
    return result


def keep_detail(photos: np.ndarray, images: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Edited faces with the photos' own detail wherever the edit leaves it in place.

    The difference that the edit makes to the generated image is added to the photo. Where the edit
    acts strongly that is not enough: the photo still shows the teeth of a smile that has ended. So
    there the edited image replaces the photo. As `paste_face` with `before`, for photos that are
    the crops themselves; without OpenCV.

    All arrays are float32 `[N, R, R, 3]` in [-1, 1].

    Args:
        photos: the crops.
        images: the edited faces.
        before: the same faces without the edit. If they equal `images`, the photos stay exactly.
    """
    mask = soft_mask(photos.shape[1], SOLID_DIFFERENCE)[..., None]
    share = replaced_share(images, before)[..., None]
    change = (images - before) - share * (photos - before)
    return np.clip(photos + mask * change, -1.0, 1.0)


def replaced_share(images: np.ndarray, before: np.ndarray) -> np.ndarray:
    """How much of the photo's own detail an edit replaces, float32 `[N, R, R]` in [0, 1].

    0 where the edit changes the image little, 1 where it acts strongly.

    Args:
        images: generated images after the edit, float32 `[N, R, R, 3]` in [-1, 1].
        before: the same without the edit.
    """
    change = np.abs(images - before).mean(axis=-1)
    index = np.arange(change.shape[1])
    near = np.maximum(1.0 - np.abs(index[:, None] - index) / max(REACH * len(index), 1.0), 0.0)
    near = np.float32(near / near.sum(axis=1, keepdims=True))  # a weighted mean along each axis
    change = near @ change @ near.T
    return _smoothstep((change - SMALL_CHANGE) / (LARGE_CHANGE - SMALL_CHANGE))


def soft_mask(side: int, solid: float) -> np.ndarray:
    """Float32 `[side, side]`: 1 up to `solid` of the way to the edge, then smoothly down to 0."""
    steps = np.abs((np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1)
    # A superellipse between circle and square: it includes the hair above and the chin below.
    far = (steps[:, None] ** 4 + steps[None, :] ** 4) ** 0.25
    return _smoothstep((1.0 - far) / (1.0 - solid))


def _smoothstep(values: np.ndarray) -> np.ndarray:
    """From 0 up to the value 0, smoothly, to 1 from the value 1 on."""
    values = np.clip(values, 0.0, 1.0)
    return values * values * (3.0 - 2.0 * values)


def _rotation(angle: float) -> np.ndarray:
    """Clockwise rotation on the screen, whose y points down."""
    radians = math.radians(angle)
    cos, sin = math.cos(radians), math.sin(radians)
    return np.array([[cos, -sin], [sin, cos]])
