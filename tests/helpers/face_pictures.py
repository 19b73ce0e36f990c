"""Drawn faces in larger pictures, for the tests of what finds them."""

import functools

import numpy as np
from PIL import Image

from cgan_tf.data.synthetic import drawing

# The cascades have learned from photos and see only some of the drawn faces; these they do.
SEEN = (1, 4, 5)


@functools.cache
def drawn(index):
    """A drawn face of 300 px."""
    small = Image.fromarray(drawing.render(drawing.sample_face(3, index), 128))
    return small.resize((300, 300), Image.Resampling.LANCZOS)


def picture(*places, size=(700, 900)):
    """Grey uint8 `[H, W, 3]` with drawn faces: (index, center x, y, side, clockwise tilt)."""
    canvas = Image.new("RGBA", size[::-1], (128, 128, 128, 255))
    for index, x, y, side, tilt in places:
        tile = drawn(index).resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")
        tile = tile.rotate(-tilt, Image.Resampling.BICUBIC, expand=True)
        canvas.alpha_composite(tile, (round(x - tile.width / 2), round(y - tile.height / 2)))
    return np.asarray(canvas.convert("RGB"))
