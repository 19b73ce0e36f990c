"""Photos, reconstructions and edits as PNGs, for whoever judges them with other networks.

    python -m benchmarks.outside --run_dir=runs/celeba --split=validation --photos=200 \\
        --output=faces

Each folder contains images of the same names as the photos they are made of:

    original/NAME.png        the photo's face crop, as the model sees it
    reconstruction/NAME.png  encoded and generated again
    ATTRIBUTE+1/NAME.png     edited by +1, of the photos without the attribute
    ATTRIBUTE-1/NAME.png     edited by -1, of the photos with it

So an edit is compared with the original or the reconstruction of its name.
"""

from pathlib import Path

import numpy as np
from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder

FLAGS = flags.FLAGS
flags.DEFINE_string("run_dir", None, "Run folder whose directions stage has finished.")
flags.DEFINE_enum("split", "validation", ["validation", "test"], "Split of the photos.")
flags.DEFINE_integer("photos", 200, "Maximum number of photos, a seeded choice.", lower_bound=1)
flags.DEFINE_integer("seed", 1, "Seed of the choice.", lower_bound=0)
flags.DEFINE_string("output", None, "New folder of the images.")


def write_images(run: RunFolder, split: str, count: int, seed: int, output: Path) -> dict[str, int]:
    """Writes the folders in `output`; returns the number of images by folder.

    Args:
        run: its directions stage has finished.
        split: of the photos.
        count: maximum number of photos.
        seed: of their choice.
        output: see `check_output`.

    Raises:
        UserError: the output is in use, or a stage of the run is missing.
    """
    from cgan_tf import data
    from cgan_tf.data import images
    from cgan_tf.editing import backends
    from cgan_tf.evaluation.batching import BATCH, batched, choose

    check_output(output)
    backend = backends.open_backend(str(run.path))
    dataset = data.open_data(run.load_config())
    rows = choose(dataset.splits[split], count, seed)
    names = [f"{row:06d}.png" for row in rows]
    photos, labels = dataset.read(rows), dataset.labels[rows]
    parts = [
        backend.encode(images.to_float(photos[start : start + BATCH]))
        for start in range(0, len(rows), BATCH)
    ]
    code = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    written: dict[str, int] = {}

    def save(folder: str, chosen: np.ndarray, pixels: np.ndarray) -> None:
        (output / folder).mkdir(parents=True)
        for index, image in zip(chosen, pixels, strict=True):
            images.save_png(output / folder / names[index], image)
        written[folder] = len(chosen)

    def generate(chosen: np.ndarray, strengths: np.ndarray) -> np.ndarray:
        def edit(part: np.ndarray) -> np.ndarray:
            moved = np.tile(np.float32(strengths), (len(part), 1))
            return backend.generate({key: value[part] for key, value in code.items()}, moved)

        return images.to_uint8(batched(edit, chosen))

    everyone, steps = np.arange(len(rows)), np.eye(len(backend.attributes))
    save("original", everyone, photos)
    save("reconstruction", everyone, generate(everyone, 0 * steps[0]))
    for name, step in zip(backend.attributes, steps, strict=True):
        if name not in dataset.attribute_names:  # a custom attribute has no labels
            continue
        has = labels[:, dataset.attribute_names.index(name)] > 0.5
        for sign, chosen in ((1, np.flatnonzero(~has)), (-1, np.flatnonzero(has))):
            if len(chosen):
                save(f"{name}{sign:+d}", chosen, generate(chosen, sign * step))
    return written


def check_output(output: Path) -> None:
    """Raises a UserError unless the folder is empty or does not exist."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output={output}: exists and is not empty; give a new folder")


def main() -> None:
    cli.require("run_dir", "output")
    output = Path(FLAGS.output).expanduser()
    check_output(output)  # before TensorFlow starts
    quiet.import_tensorflow()
    run = RunFolder(FLAGS.run_dir)
    for folder, count in write_images(run, FLAGS.split, FLAGS.photos, FLAGS.seed, output).items():
        print(f"{output / folder}: {count} images")


if __name__ == "__main__":
    cli.run(main)
