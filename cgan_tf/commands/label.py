"""Scores the attributes of photos, or of the generator's samples, with a finished model.

    cgan label --model=RUN_DIR|SAVED_MODEL_DIR|NAME --image=PHOTO_OR_FOLDER
        --output=scores.csv [--face=center|N] [--binary] [--overwrite]
    cgan label --model=RUN_DIR|SAVED_MODEL_DIR --samples=N [--seed=1]
        --output=scores.csv [--samples_dir=DIR] [--binary] [--overwrite]

A folder is read with its sub-folders; its photos are named relative to it.
Writes the regressor's scores, from 0 (absent) to 1 (present), as a table `file,Attr1,Attr2,...`. If
the model was trained in CelebA's framing, the largest face of a photo is scored, cropped as
`cgan translate` crops it. A run folder needs the finished regressor stage, and for samples also the
gan stage. NAME is one of `cgan models`, which score photos only. With --binary the table contains
labels: as labels.csv in the folder of the images, it is what --data=folder reads.
"""

import codecs
import csv
import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from absl import flags
from tqdm import tqdm

from cgan_tf.commands.flag_errors import flag_errors
from cgan_tf.core import cli, quiet
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand, replacing
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import images
from cgan_tf.data.portraits import (
    ALL,
    choose_face,
    describe_folders,
    find_photos,
    parse_face,
    photo_name,
    portraits,
)
from cgan_tf.data.source import load_all
from cgan_tf.editing import named_models

# Images per batch. Batches are always full: a smaller one rounds differently, and the scores of a
# photo must not depend on the other photos of its folder.
BATCH = 32
THRESHOLD = 0.5  # of --binary, as for the regressor's accuracy

# An image's file name, and its pixels uint8 [R, R, 3] or why there are none.
NamedImage = tuple[str, np.ndarray | UserError]


# ---- output files ------------------------------------------------------------------------------


def plan_output(output: str, overwrite: bool, samples_dir: Path | None = None) -> Path:
    """The path of the CSV; writes nothing yet.

    Args:
        output: value of --output.
        overwrite: whether it may replace a file.
        samples_dir: folder that the command creates, if any.

    Raises:
        UserError: not a CSV's name, its folder is missing, or a file is in the way.
    """
    path = expand(output, "--output")
    if path.suffix.lower() != ".csv":
        raise UserError(f"--output={output}: give a name that ends in .csv")
    if path.is_dir():
        raise UserError(f"--output={output}: is a folder; choose another name")
    if path.exists() and not overwrite:
        raise UserError(f"--output={output}: exists; --overwrite replaces it")
    created = samples_dir is not None and samples_dir.resolve() == path.parent.resolve()
    if not created and not path.parent.exists():
        raise UserError(
            f"--output={output}: the folder {path.parent} does not exist; create it, or "
            "choose another"
        )
    cli.require_writable(f"--output={output}", path.parent)
    return path


def plan_samples(samples_dir: str, count: int, overwrite: bool) -> Path:
    """The folder for the images of the samples; writes nothing yet.

    Raises:
        UserError: it cannot be created or written to, or contains an image of such a name.
    """
    folder = expand(samples_dir, "--samples_dir")
    cli.require_writable(f"--samples_dir={samples_dir}", folder)
    for index in range(0 if overwrite else count):
        target = folder / f"{sample_name(index)}.png"
        if target.exists():
            raise UserError(
                f"--samples_dir={samples_dir}: {target} exists; --overwrite replaces it"
            )
    return folder


def sample_name(index: int) -> str:
    """The name of sample 0, 1, ... in the table."""
    return f"sample{index:06d}"


# ---- the model ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Labeler:
    """The parts of a model that label: the regressor and, for samples, the generator.

    Attributes:
        attributes: the K attributes of the regressor, in the order of its scores.
        resolution: side of the images, px.
        aligned: see `backends.Backend`.
        prior: of z, "normal" or "uniform".
        z_dim: size of z.
        run: the output of a signature, "attributes" or "sample", for its inputs.
        row_by_row: the model runs each image on its own, so that batches need not be full.
    """

    attributes: tuple[str, ...]
    resolution: int
    aligned: bool
    prior: str
    z_dim: int
    run: Callable[..., np.ndarray]
    row_by_row: bool = False

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """Scores float32 `[N, K]` in [0, 1] of images uint8 `[N, R, R, 3]`, N up to `BATCH`.

        Raises:
            UserError: the model's output is not one finite score per attribute.
        """
        rows = len(pixels) if self.row_by_row else BATCH
        batch = np.resize(pixels, (rows, *pixels.shape[1:]))  # repeats the images
        scores = self.run("attributes", image=images.to_float(batch))[: len(pixels)]
        if scores.shape != (len(pixels), len(self.attributes)):
            raise UserError(
                f"--model: it names {len(self.attributes)} attributes, but returns "
                f"{scores.shape[1]} scores; export it again with cgan export"
            )
        if not np.isfinite(scores).all():
            raise UserError("--model: a score is not finite; train the regressor stage again")
        return scores


def open_labeler(path: str, samples: bool) -> Labeler:
    """Loads the parts of a model that label.

    Args:
        path: a run folder, a SavedModel folder or the name of a model.
        samples: whether the generator is needed.

    Raises:
        UserError: the model is missing, unfinished, damaged, or a .tflite file.
    """
    from cgan_tf.editing import backends

    with flag_errors():
        form, place = backends.find_model(path)
    if form == "named":
        if samples:
            raise UserError(
                f"--model={path}: a named model scores photos only; for --samples give a run "
                "folder or a SavedModel"
            )
        return _of_named(place)
    if form == "tflite":
        raise UserError(
            f"--model={path}: a .tflite file has no attribute scores; give the run folder or the "
            "SavedModel"
        )
    return _of_run(RunFolder(place), samples) if form == "run" else _of_saved_model(place)


def _of_run(run: RunFolder, samples: bool) -> Labeler:
    """From a run folder, in float32; encoder and directions are not needed."""
    from cgan_tf.editing import backends, description, models, network

    config = run.load_config()
    names = ("regressor", "gan") if samples else ("regressor",)
    stages = {name: models.finished_stage(run, name) for name in names}
    regressor = models.load_regressor(run, run.custom_attributes())
    functions = {"attributes": lambda image: regressor(image, training=False)}
    if samples:
        generator = models.load_generator(stages["gan"].model)
        functions["sample"] = lambda z: network.sample(generator, z, config.export.truncation)
    return Labeler(
        regressor.attribute_names,
        regressor.resolution,
        description.training_crop(run) == description.CELEBA_CROP,
        config.gan.prior,
        config.gan.z_dim,
        lambda signature, **inputs: backends.run_on_cpu(functions[signature], **inputs),
    )


def _of_saved_model(folder: Path) -> Labeler:
    from cgan_tf.editing import backends

    backend = backends.SavedModelBackend(folder)
    description = backend.description
    lacking = [name for name in ("scores", "prior", "z_dim") if name not in description]
    lacking += [name for name in ("attributes", "sample") if name not in backend.signatures]
    if lacking:
        raise UserError(f"{folder}: it lacks {lacking[0]!r}; export it with cgan export")
    return Labeler(
        tuple(description["scores"]),
        backend.resolution,
        backend.aligned,
        description["prior"],
        description["z_dim"],
        lambda signature, **inputs: next(iter(backend.run(signature, **inputs).values())),
    )


def _of_named(folder: Path) -> Labeler:
    from cgan_tf.editing import backends

    backend = backends.NamedBackend(folder)
    return Labeler(
        backend.score_names,
        backend.resolution,
        backend.aligned,
        backend.description["prior"],
        backend.description["z_dim"],
        lambda signature, **inputs: backend.run(signature, **inputs)["scores"],
        row_by_row=True,
    )


# ---- images and rows ---------------------------------------------------------------------------


def read_photos(
    labeler: Labeler, photos: list[Path], which: str | int, folder: Path | None = None
) -> Iterator[NamedImage]:
    """The photos as the model sees them, in order; only a few batches are in memory.

    Args:
        labeler: the loaded model.
        photos: the files.
        which: of a photo's faces, see `portraits.parse_face`; `ALL` takes the largest.
        folder: that the names are relative to, see `photo_name`.
    """

    def load(photo: Path) -> np.ndarray:
        pixels = images.decode_file(photo)
        try:
            return portraits(pixels, labeler.resolution, labeler.aligned, which)[0].crop
        except UserError as error:
            raise UserError(f"{photo}: {error}") from None

    names = (photo_name(photo, folder) for photo in photos)
    return zip(names, load_all(load, photos), strict=True)


def generate_samples(
    labeler: Labeler, count: int, seed: int, folder: Path | None = None
) -> Iterator[NamedImage]:
    """Samples of the generator, rounded to 8 bits; given a folder, saves them as PNG.

    A sample depends only on the seed and its number, not on `count`.

    Raises:
        UserError: a sample is not finite.
    """
    from cgan_tf.editing import backends

    draw = np.random.Generator(np.random.PCG64(seed))
    for start in range(0, count, BATCH):
        z = backends.sample_prior(draw, labeler.prior, BATCH, labeler.z_dim)
        batch = labeler.run("sample", z=z)
        if not np.isfinite(batch).all():
            raise UserError("--model: a sample is not finite; train the gan stage again")
        for index, pixels in enumerate(images.to_uint8(batch)[: count - start], start):
            name = sample_name(index)
            if folder is not None:
                name += ".png"
                images.save_png(folder / name, pixels)
            yield name, pixels


def label(
    labeler: Labeler, named_images: Iterable[NamedImage], file: BinaryIO, binary: bool = False
) -> tuple[int, int]:
    """Writes the table: a row for each image that has pixels, in the given order.

    Args:
        labeler: the loaded model.
        named_images: names and pixels.
        file: receives the CSV, in UTF-8.
        binary: write 1 and -1 instead of the scores.

    Returns:
        How many images were scored, and how many were skipped. Skipped ones are reported on stderr.
    """
    # File names need not be UTF-8; their bytes are written as they are.
    table = csv.writer(codecs.getwriter("utf-8")(file, "surrogateescape"), lineterminator="\n")
    table.writerow(["file", *labeler.attributes])
    scored = skipped = 0
    remaining = iter(named_images)
    while batch := list(itertools.islice(remaining, BATCH)):
        readable = [(name, pixels) for name, pixels in batch if isinstance(pixels, np.ndarray)]
        for _, error in batch:
            if isinstance(error, UserError):
                tqdm.write(f"skipped: {error}", file=sys.stderr)  # above the progress bar
        if readable:
            names, pixels = zip(*readable, strict=True)
            for name, scores in zip(names, labeler.score(np.stack(pixels)), strict=True):
                table.writerow([name, *_cells(scores, binary)])
        scored += len(readable)
        skipped += len(batch) - len(readable)
    return scored, skipped


def _cells(scores: np.ndarray, binary: bool) -> list[str]:
    if binary:
        return ["1" if score > THRESHOLD else "-1" for score in scores]
    return [f"{score:.4f}" for score in scores]


# ---- the command -------------------------------------------------------------------------------


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("model", None, "run folder, SavedModel folder or name of a model")
    flags.DEFINE_string(
        "image", None, "photo, or folder of photos and its sub-folders, of any size and format"
    )
    flags.DEFINE_string(
        "face",
        None,
        "which face of a photo: a number (1 is the largest), or center for the center square; the "
        "default is 1 if the model was trained in CelebA's framing, else center",
    )
    flags.DEFINE_integer(
        "samples", None, "samples of the generator to score instead of photos", lower_bound=1
    )
    flags.DEFINE_integer("seed", 1, "seed of the samples", lower_bound=0)
    flags.DEFINE_string("output", None, "CSV file to write; its folder must exist")
    flags.DEFINE_string(
        "samples_dir", None, "folder for the samples as PNG; by default they are not saved"
    )
    flags.DEFINE_bool(
        "binary", False, "write 1 for scores above 0.5 and -1 for others, as --data=folder reads"
    )
    flags.DEFINE_bool("overwrite", False, "replace existing output files")


def main() -> int:
    """Runs the command with the parsed flags; returns the exit code."""
    options = flags.FLAGS
    cli.require("model", "output")
    count = options.samples
    if bool(options.image) == (count is not None):
        raise UserError("--image, --samples: give one of the two; see --help")
    if options.face is not None:
        if count is not None:
            raise UserError("--face: only with --image; leave it out")
        if parse_face(options.face) == ALL:
            raise UserError("--face=all: a photo has one row; give center, or a number")
    if options.samples_dir and count is None:
        raise UserError("--samples_dir: only with --samples; leave it out")
    photos = find_photos(options.image) if options.image else []
    tree = expand(options.image, "--image") if options.image else None
    if tree is not None and not tree.is_dir():
        _check_photo(photos[0])
        tree = None
    folder = None
    if options.samples_dir:
        folder = plan_samples(options.samples_dir, count, options.overwrite)
    output = plan_output(options.output, options.overwrite, folder)
    if line := describe_folders(photos):
        print(f"--image={options.image}: {line}")
    if line := named_models.note(options.model):
        print(line)

    quiet.import_tensorflow()
    labeler = open_labeler(options.model, samples=count is not None)
    if photos:
        which = choose_face(options.face, labeler.aligned)
        named_images = read_photos(labeler, photos, which, tree)
    else:
        named_images = generate_samples(labeler, count, options.seed, folder)
    bar = tqdm(
        named_images,
        total=len(photos) or count,
        unit=" images",
        desc="label",
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
    )
    with replacing(output) as file, bar:
        scored, skipped = label(labeler, bar, file, options.binary)
        if not scored:
            raise UserError(
                f"--image={options.image}: none of its {skipped} photos could be scored"
            )
    print(f"{output}: {scored} scored, {skipped} skipped")
    return 0


def _check_photo(photo: Path) -> None:
    """Raises a UserError for an unreadable photo; in a folder such photos are skipped instead."""
    try:
        images.decode_file(photo)
    except UserError as error:
        raise UserError(f"--image: {error}; give another photo") from None
