"""The photos that a command is given: which files of --image, and the square that a model sees.

Shared by the commands that take photos of any size and format, `cgan_tf.translate` and
`cgan_tf.label`.
"""

from pathlib import Path

import numpy as np

from cgan_tf.data import images
from cgan_tf.data.source import IMAGE_SUFFIXES
from cgan_tf.errors import UserError


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
    if aligned and width * images.CELEBA_HEIGHT == height * images.CELEBA_WIDTH:
        return images.celeba_crop_resize(pixels, resolution), f"{width}x{height}, CelebA's crop"
    side = min(height, width)
    crop = images.center_square_resize(pixels, resolution)
    return crop, f"{width}x{height}, center square of {side} px"
