"""How well faces are found: CelebA's aligned photos, turned and scaled, in larger pictures.

    python -m benchmarks.faces --data_dir=celeba --split=train --photos=200 --tilt=20

Where CelebA's crop lies in each picture is known, so the distance of what was found from it is too,
in sides of the crop and in degrees. The background is smooth colored noise.
"""

import math
import time
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image

from cgan_tf.core import cli

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", None, "Folder with the official CelebA files.")
flags.DEFINE_enum("split", "train", ["train", "validation", "test"], "Whose photos.")
flags.DEFINE_integer("photos", 200, "Number of photos.", lower_bound=1)
flags.DEFINE_float("tilt", 20.0, "Largest tilt of a head [degrees].", lower_bound=0)
flags.DEFINE_integer("seed", 1, "Of places, sizes and tilts.")

WIDTH, HEIGHT = 1200, 900  # px
NEAR = 0.3  # sides of the crop: what is further away is another face


def main() -> None:
    cli.require("data_dir")
    from cgan_tf.data import celeba, face_detection, images

    source = celeba.open_folder(FLAGS.data_dir, 64, say=print)
    rows = source.splits[FLAGS.split][: FLAGS.photos]
    folder = Path(FLAGS.data_dir) / celeba.PHOTOS
    rng = np.random.default_rng(FLAGS.seed)
    errors, others, seconds = [], 0, 0.0
    for row in rows:
        photo = images.decode_file(folder / source.files[row])
        crop = images.CELEBA_SQUARE * min(photo.shape[1] / images.CELEBA_WIDTH,
                                          photo.shape[0] / images.CELEBA_HEIGHT)  # fmt: skip
        scale = rng.uniform(150, 350) / crop
        true = face_detection.Face(rng.uniform(300, 900), rng.uniform(300, 600), crop * scale,
                          rng.uniform(-FLAGS.tilt, FLAGS.tilt))  # fmt: skip
        picture = place(photo, true, scale, rng)
        start = time.perf_counter()
        found = face_detection.find_faces(picture)
        seconds += time.perf_counter() - start
        near = [f for f in found if math.hypot(f.x - true.x, f.y - true.y) < NEAR * true.side]
        others += len(found) - len(near)
        if near:
            face = near[0]
            errors.append([(face.x - true.x) / true.side, (face.y - true.y) / true.side,
                           face.side / true.side - 1, face.angle - true.angle])  # fmt: skip
    print(f"{len(rows)} photos, tilted by up to {FLAGS.tilt:g} degrees: {len(errors)} faces found, "
          f"{others} squares that are none, {seconds / len(rows):.2f} s a picture")  # fmt: skip
    print(f"{'':24s}{'median':>9s}{'median size':>13s}{'90 %':>9s}")
    names = ("to the right [sides]", "below [sides]", "larger by", "clockwise [degrees]")
    for name, column in zip(names, np.transpose(errors), strict=True):
        print(f"{name:24s}{np.median(column):9.3f}{np.median(np.abs(column)):13.3f}"
              f"{np.percentile(np.abs(column), 90):9.3f}")  # fmt: skip


def place(photo: np.ndarray, face, scale: float, rng: np.random.Generator) -> np.ndarray:
    """The photo, whose center is its crop's, scaled and turned to where `face` says."""
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
