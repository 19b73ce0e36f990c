"""Accuracy of face detection: CelebA's aligned photos, rotated and scaled, in larger images.

    python -m benchmarks.faces --data_dir=celeba --split=train --photos=200 --tilt=20

The position of CelebA's crop in each image is known. The table gives the errors of the detections,
in sides of the crop and in degrees. The background is smooth colored noise.
"""

import math
import time
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image

from cgan_tf.core import cli
from cgan_tf.data import celeba, images
from cgan_tf.data.face_crop import FaceBox
from cgan_tf.data.face_detection import find_faces

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", None, "Folder with the official CelebA files.")
flags.DEFINE_enum("split", "train", ["train", "validation", "test"], "Split of the photos.")
flags.DEFINE_integer("photos", 200, "Number of photos.", lower_bound=1)
flags.DEFINE_float("tilt", 20.0, "Largest tilt of a head [degrees].", lower_bound=0)
flags.DEFINE_integer("seed", 1, "Seed of the places, sizes and tilts.")

WIDTH, HEIGHT = 1200, 900  # px
MAX_DISTANCE = 0.3  # in sides of the crop; a detection that is further away is another face


def main() -> None:
    cli.require("data_dir")
    source = celeba.open_folder(FLAGS.data_dir, 64, say=print)
    rows = source.splits[FLAGS.split][: FLAGS.photos]
    folder = Path(FLAGS.data_dir) / celeba.PHOTOS
    rng = np.random.default_rng(FLAGS.seed)
    errors, others, seconds = [], 0, 0.0
    for row in rows:
        photo = images.decode_file(folder / source.files[row])
        crop = images.CELEBA_SQUARE * min(
            photo.shape[1] / images.CELEBA_WIDTH, photo.shape[0] / images.CELEBA_HEIGHT
        )
        scale = rng.uniform(150, 350) / crop
        x, y, tilt = rng.uniform(300, 900), rng.uniform(300, 600), rng.uniform(-1, 1) * FLAGS.tilt
        true = FaceBox(x, y, crop * scale, tilt)
        image = place(photo, true, scale, rng)
        start = time.perf_counter()
        found = find_faces(image)
        seconds += time.perf_counter() - start
        near = [
            f for f in found if math.hypot(f.x - true.x, f.y - true.y) < MAX_DISTANCE * true.side
        ]
        others += len(found) - len(near)
        if near:
            face = near[0]
            x, y = (face.x - true.x) / true.side, (face.y - true.y) / true.side
            errors.append([x, y, face.side / true.side - 1, face.angle - true.angle])
    print(
        f"{len(rows)} photos, tilted by up to {FLAGS.tilt:g} degrees: {len(errors)} faces found, "
        f"{others} false detections, {seconds / len(rows):.2f} s per image"
    )
    print(f"{'error':24s}{'median':>9s}{'median abs.':>13s}{'90 % abs.':>11s}")
    names = ("x [sides]", "y [sides]", "relative size", "clockwise tilt [degrees]")
    for name, column in zip(names, np.transpose(errors), strict=True):
        print(
            f"{name:24s}{np.median(column):9.3f}{np.median(np.abs(column)):13.3f}"
            f"{np.percentile(np.abs(column), 90):11.3f}"
        )


def place(photo: np.ndarray, face: FaceBox, scale: float, rng: np.random.Generator) -> np.ndarray:
    """An image uint8 `[HEIGHT, WIDTH, 3]` with the photo, scaled, so that its crop is at `face`."""
    noise = rng.integers(60, 200, (9, 12, 3), np.uint8)
    canvas = Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    size = round(photo.shape[1] * scale), round(photo.shape[0] * scale)
    tile = Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    tile = tile.rotate(-face.angle, Image.Resampling.BICUBIC, expand=True)
    corner = round(face.x - tile.width / 2), round(face.y - tile.height / 2)
    canvas.paste(tile, corner, tile)
    return np.asarray(canvas)


if __name__ == "__main__":
    cli.run(main)
