"""The photos that a command is given: which files of --image, and the squares that a model sees.

Shared by the commands that take photos of any size and format: `cgan translate`,
`cgan label` and `cgan attribute`.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cgan_tf.core.errors import UserError
from cgan_tf.data import images
from cgan_tf.data.source import IMAGE_SUFFIXES

if TYPE_CHECKING:  # at run time it would import OpenCV, which a center square does not need
    from cgan_tf.data.face_detection import Face


class NoFaceError(UserError):
    """A photo in which no face was found."""


ALL, CENTER = "all", "center"  # of --face, beside a number
CUT = 0.98  # share of a face's square that lies in the photo; less is said


def find_photos(image: str) -> list[Path]:
    """The photo, or the photos of the folder (not of its sub-folders), by name.

    Raises:
        UserError: nothing there, or no photo in the folder.
    """
    path = Path(image).expanduser()
    if not path.exists():
        raise UserError(f"--image={image}: no such file or folder; give a photo or a folder")
    if not path.is_dir():
        return [path]
    photos = sorted(
        entry
        for entry in path.iterdir()
        if entry.suffix.lower() in IMAGE_SUFFIXES
        and not entry.name.startswith(".")
        and entry.is_file()
    )
    if not photos:
        suffixes = " ".join(IMAGE_SUFFIXES)
        raise UserError(f"--image={image}: no photos in this folder; their names end in {suffixes}")
    return photos


def crop_photo(pixels: np.ndarray, resolution: int, aligned: bool) -> tuple[np.ndarray, str]:
    """The square that the model sees, uint8 `[R, R, 3]`, and in words which it is.

    Args:
        pixels: the decoded photo, uint8 `[H, W, 3]`.
        resolution: the model's.
        aligned: the model has learned from CelebA's aligned photos. A photo of exactly their
            proportions gets their crop; any other the largest centered square.
    """
    height, width = pixels.shape[:2]
    if aligned and has_celeba_shape(pixels):
        return images.celeba_crop_resize(pixels, resolution), f"{width}x{height}, CelebA's crop"
    side = min(height, width)
    crop = images.center_square_resize(pixels, resolution)
    return crop, f"{width}x{height}, center square of {side} px"


def has_celeba_shape(pixels: np.ndarray) -> bool:
    """Whether a photo `[H, W, 3]` has exactly the proportions of CelebA's aligned ones."""
    height, width = pixels.shape[:2]
    return width * images.CELEBA_HEIGHT == height * images.CELEBA_WIDTH


# ---- faces -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Portrait:
    """One square of a photo, as the model sees it.

    Attributes:
        face: where it lies.
        crop: what is there, upright, uint8 `[R, R, 3]`.
        words: which it is, for the user.
    """

    face: "Face"
    crop: np.ndarray
    words: str


def parse_face(text: str) -> str | int:
    """--face as `ALL`, `CENTER` or a number from 1 on.

    Raises:
        UserError: none of these.
    """
    if text in (ALL, CENTER):
        return text
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise UserError(f"--face={text}: give all, center, or a number (1 is the largest face)")


def choose_face(face: str | None, aligned: bool) -> str | int:
    """What --face means for a model: all faces where it knows how a face was cut, else the center.

    Args:
        face: the flag's value.
        aligned: see `portraits`.

    Raises:
        UserError: faces are asked for of a model that has not learned from CelebA's framing.
    """
    if face is None:
        return ALL if aligned else CENTER
    which = parse_face(face)
    if which != CENTER and not aligned:
        raise UserError(
            f"--face={face}: this model has learned from the center squares of photos, however "
            "those showed faces; give photos like them, and no --face"
        )
    return which


def portraits(
    pixels: np.ndarray, resolution: int, aligned: bool, which: str | int
) -> list[Portrait]:
    """The squares of a photo that are asked for, the largest first.

    Args:
        pixels: the decoded photo, uint8 `[H, W, 3]`.
        resolution: the model's.
        aligned: the model has learned from CelebA's aligned photos. Photos of exactly their
            proportions are taken for such, and not searched.
        which: see `parse_face`.

    Raises:
        NoFaceError: no face there.
        UserError: fewer than the number asked for.
    """
    from cgan_tf.data import face_detection

    height, width = pixels.shape[:2]
    if which == CENTER or (which == ALL and aligned and has_celeba_shape(pixels)):
        crop, words = crop_photo(pixels, resolution, aligned)
        face = face_detection.Face(width / 2, height / 2, crop_side(pixels, aligned))
        return [Portrait(face, crop, words)]
    found = face_detection.find_faces(pixels)
    if not found:
        raise NoFaceError("no face found; --face=center takes the center")
    numbers = range(1, len(found) + 1)
    if which != ALL:
        if which > len(found):
            raise UserError(f"--face={which}: only {_count(len(found))} found")
        numbers = [which]
    return [
        Portrait(
            found[number - 1],
            face_detection.cut_face(pixels, found[number - 1], resolution),
            f"{width}x{height}, {_describe(found, number, (height, width), resolution)}",
        )
        for number in numbers
    ]


def crop_side(pixels: np.ndarray, aligned: bool) -> float:
    """Side in px of the square that `crop_photo` sees."""
    height, width = pixels.shape[:2]
    if aligned and has_celeba_shape(pixels):
        return images.CELEBA_SQUARE * width / images.CELEBA_WIDTH
    return float(min(height, width))


def _describe(found: list["Face"], number: int, size: tuple[int, int], resolution: int) -> str:
    face = found[number - 1]
    words = [f"face of {face.side:.0f} px"]
    if len(found) > 1:
        words[0] = f"face {number} of {len(found)}, {face.side:.0f} px"
    if abs(face.angle) >= 1:
        words.append(f"tilted {face.angle:+.0f} degrees")
    if face.side < resolution:
        words.append(f"tiny: the model's {resolution} px are reduced")
    inside = face.inside(*size)
    if inside < CUT:
        words.append(f"cut: {inside:.0%} of it in the photo, its edge repeated")
    return ", ".join(words)


def _count(number: int) -> str:
    return "1 face was" if number == 1 else f"{number} faces were"
