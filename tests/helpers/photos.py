"""Small photos for the tests that edit and label."""

from pathlib import Path

import numpy as np
from PIL import Image


def random_photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth random colors: something that a reconstruction can resemble."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def save_photo(path: Path, width: int = 60, height: int = 40, seed: int = 0) -> None:
    """Writes a `random_photo`."""
    random_photo(width, height, seed).save(path)


def gray(value: int, *shape: int) -> np.ndarray:
    """A uniform image uint8 `[*shape, 3]`."""
    return np.full((*shape, 3), value, np.uint8)
