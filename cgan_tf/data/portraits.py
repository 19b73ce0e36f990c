"""From --image and --face to portraits: the photos, and in each the squares that a model sees.

Used by the commands that take photos of any size and format: translate, label, attribute, align.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand
from cgan_tf.data import images
from cgan_tf.data.face_crop import FaceBox, crop_face
from cgan_tf.data.face_detection import find_faces
from cgan_tf.data.image_formats import IMAGE_SUFFIXES
from cgan_tf.data.source import list_images

ALL, CENTER = "all", "center"  # values of --face, besides a number
# The tables next to the results of a folder. Their first line tells them from a user's files.
TRANSLATE_TABLE, ALIGN_TABLE = "translate.csv", "align.csv"
_RESULT_HEADER = b"file,status,"
CUT = 0.98  # a face is called cut if a smaller fraction of its square lies in the photo


class NoFaceError(UserError):
    """A photo in which no face was found."""


def find_photos(image: str, leave_out: Path | None = None) -> list[Path]:
    """The photo, or the photos in the folder and its sub-folders, sorted by name.

    Hidden files and folders are skipped. Photos in a format that is not read are named on stderr.
    So are sub-folders with results of an earlier command, which are left out, unless there are no
    other photos.

    Args:
        image: value of --image.
        leave_out: a folder within it that is not searched, such as that of the results; ignored
            if it is the folder itself.

    Raises:
        UserError: no such file or folder, or no photo in the folder.
    """
    path = expand(image, "--image")
    if not path.exists():
        raise UserError(f"--image={image}: no such file or folder; give a photo or a folder")
    if not path.is_dir():
        return [path]
    names = without_results(path, list(list_images(path, leave_out)))
    if not names:
        suffixes = " ".join(IMAGE_SUFFIXES)
        raise UserError(f"--image={image}: no photos in this folder; their names end in {suffixes}")
    if leave_out is not None and leave_out.is_dir():
        inside = path.resolve() in leave_out.resolve().parents
        if inside and (count := len(list_images(leave_out))):
            _say_left_out(leave_out, count, "it is the folder of the results")
    return [path / name for name in names]


def without_results(folder: Path, names: list[str]) -> list[str]:
    """The photos that are not in a sub-folder of results; all of them if there are no others.

    Sub-folders that are left out are named on stderr.

    Args:
        folder: that was searched.
        names: of the photos, relative to it.
    """
    tables: dict[str, str] = {}  # name of its table, by folder; "" for a folder without one
    photos, results = [], {}
    for name in names:
        parts = name.split("/")[:-1]
        for place in ("/".join(parts[: depth + 1]) for depth in range(len(parts))):
            if place not in tables:
                tables[place] = _result_table(folder / place)
            if tables[place]:
                results[place] = results.get(place, 0) + 1
                break
        else:
            photos.append(name)
    if not photos:
        return names
    for place, count in results.items():
        why = f"results of an earlier command ({tables[place]})"
        _say_left_out(folder / place, count, f"{why}; name this folder to read them")
    return photos


def _result_table(folder: Path) -> str:
    """The name of the table of results in a folder; "" if there is none."""
    for name in (TRANSLATE_TABLE, ALIGN_TABLE):
        try:
            with open(folder / name, "rb") as file:
                if file.read(len(_RESULT_HEADER)) == _RESULT_HEADER:
                    return name
        except OSError:  # no such file, or none that can be read
            continue
    return ""


def _say_left_out(folder: Path, count: int, why: str) -> None:
    photos = "1 photo" if count == 1 else f"{count:,} photos"
    print(f"note: {photos} in {folder} left out: {why}", file=sys.stderr)


def photo_name(photo: Path, folder: Path | None) -> str:
    """A photo's name in a table: relative to the folder, with /; without a folder its own name."""
    return photo.name if folder is None else photo.relative_to(folder).as_posix()


def describe_folders(photos: list[Path]) -> str:
    """`12 photos in 3 folders`; "" if all are in one folder."""
    folders = {photo.parent for photo in photos}
    return f"{len(photos):,} photos in {len(folders):,} folders" if len(folders) > 1 else ""


def crop_photo(pixels: np.ndarray, resolution: int, aligned: bool) -> tuple[np.ndarray, str]:
    """The central square that the model sees, uint8 `[R, R, 3]`, and its description.

    Args:
        pixels: the decoded photo, uint8 `[H, W, 3]`.
        resolution: R, of the model.
        aligned: whether the model was trained on CelebA's aligned photos. If so, a photo of exactly
            their proportions gets CelebA's crop. Any other photo gets its largest centered square.
    """
    height, width = pixels.shape[:2]
    if aligned and has_celeba_shape(pixels):
        return images.celeba_crop_resize(pixels, resolution), f"{width}x{height}, CelebA's crop"
    side = min(height, width)
    crop = images.center_square_resize(pixels, resolution)
    return crop, f"{width}x{height}, center square of {side} px"


def has_celeba_shape(pixels: np.ndarray) -> bool:
    """Whether a photo `[H, W, 3]` has exactly the proportions of CelebA's aligned photos."""
    height, width = pixels.shape[:2]
    return width * images.CELEBA_HEIGHT == height * images.CELEBA_WIDTH


@dataclasses.dataclass(frozen=True)
class Portrait:
    """One square of a photo, as the model sees it.

    Attributes:
        face: where it is in the photo.
        crop: its pixels, upright, uint8 `[R, R, 3]`.
        words: its description for the user.
    """

    face: FaceBox
    crop: np.ndarray
    words: str


def parse_face(text: str) -> str | int:
    """--face as `ALL`, `CENTER` or a number that is at least 1.

    Raises:
        UserError: any other value.
    """
    if text in (ALL, CENTER):
        return text
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise UserError(f"--face={text}: give all, center, or a number (1 is the largest face)")


def choose_face(face: str | None, aligned: bool) -> str | int:
    """The value of --face, or its default for this model, parsed.

    A model that was trained on CelebA's framing gets all faces, any other model the center.

    Args:
        face: value of the flag; None for the default.
        aligned: see `portraits`.

    Raises:
        UserError: invalid value, or a face for a model that was not trained on CelebA's framing.
    """
    if face is None:
        return ALL if aligned else CENTER
    which = parse_face(face)
    if which != CENTER and not aligned:
        raise UserError(
            f"--face={face}: this model was trained on the center squares of photos, not on faces "
            "in CelebA's framing; give photos like those that it was trained on, without --face"
        )
    return which


def portraits(
    pixels: np.ndarray, resolution: int, aligned: bool, which: str | int
) -> list[Portrait]:
    """The requested squares of a photo, largest first.

    Args:
        pixels: the decoded photo, uint8 `[H, W, 3]`.
        resolution: R, of the model.
        aligned: whether the model was trained on CelebA's aligned photos. If so, photos of exactly
            their proportions are assumed to be aligned and are not searched for faces.
        which: see `parse_face`.

    Raises:
        NoFaceError: no face was found.
        UserError: fewer faces than the requested number; OpenCV is missing.
    """
    height, width = pixels.shape[:2]
    if which == CENTER or (which == ALL and aligned and has_celeba_shape(pixels)):
        crop, words = crop_photo(pixels, resolution, aligned)
        face = FaceBox(width / 2, height / 2, crop_side(pixels, aligned))
        return [Portrait(face, crop, words)]
    try:
        found, numbers = requested_faces(pixels, which)
    except NoFaceError as error:
        raise NoFaceError(f"{error}; --face=center takes the center") from None
    return [
        Portrait(
            found[number - 1],
            crop_face(pixels, found[number - 1], resolution),
            f"{width}x{height}, {_describe(found, number, (height, width), resolution)}",
        )
        for number in numbers
    ]


def requested_faces(pixels: np.ndarray, which: str | int) -> tuple[list[FaceBox], Sequence[int]]:
    """All faces of a photo, largest first, and the numbers of the requested ones, from 1.

    Args:
        pixels: the decoded photo, uint8 `[H, W, 3]`.
        which: `ALL` or a number.

    Raises:
        NoFaceError: no face was found.
        UserError: fewer faces than the requested number; OpenCV is missing.
    """
    found = find_faces(pixels)
    if not found:
        raise NoFaceError("no face found")
    if which == ALL:
        return found, range(1, len(found) + 1)
    if which > len(found):
        raise UserError(f"--face={which}: only {_count(len(found))} found")
    return found, [which]


def crop_side(pixels: np.ndarray, aligned: bool) -> float:
    """Side of the square that `crop_photo` returns, px of the photo."""
    height, width = pixels.shape[:2]
    if aligned and has_celeba_shape(pixels):
        return images.CELEBA_SQUARE * width / images.CELEBA_WIDTH
    return float(min(height, width))


def _describe(found: list[FaceBox], number: int, size: tuple[int, int], resolution: int) -> str:
    face = found[number - 1]
    words = [f"face of {face.side:.0f} px"]
    if len(found) > 1:
        words[0] = f"face {number} of {len(found)}, {face.side:.0f} px"
    if abs(face.angle) >= 1:
        words.append(f"tilted {face.angle:+.0f} degrees")
    if face.side < resolution:
        words.append(f"tiny: smaller than the model's {resolution} px")
    return ", ".join(filter(None, [*words, describe_cut(face, *size)]))


def describe_cut(face: FaceBox, height: int, width: int) -> str:
    """What to say of a face whose square is not within a photo of this size; "" if it is."""
    inside = face.inside(height, width)
    if inside >= CUT:
        return ""
    return f"cut: only {inside:.0%} within the photo, whose edge is repeated"


def _count(number: int) -> str:
    return "1 face was" if number == 1 else f"{number} faces were"
