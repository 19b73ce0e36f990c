"""Photos with synthetic faces at known places, for the tests of face detection."""

import functools

import numpy as np
from PIL import Image

from cgan_tf.data import synthetic

# The cascades were trained on photos and find only some of the synthetic faces, these among them.
DETECTABLE = (1, 4, 5)


@functools.cache
def face_tile(index):
    """A synthetic face of 300 px."""
    small = Image.fromarray(synthetic.render(synthetic.sample_face(3, index), 128))
    return small.resize((300, 300), Image.Resampling.LANCZOS)


def photo_with_faces(*places, size=(700, 900)):
    """Gray uint8 `[H, W, 3]` with synthetic faces: (index, center x, y, side, clockwise tilt)."""
    canvas = Image.new("RGBA", size[::-1], (128, 128, 128, 255))
    for index, x, y, side, tilt in places:
        tile = face_tile(index).resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")
        tile = tile.rotate(-tilt, Image.Resampling.BICUBIC, expand=True)
        canvas.alpha_composite(tile, (round(x - tile.width / 2), round(y - tile.height / 2)))
    return np.asarray(canvas.convert("RGB"))
