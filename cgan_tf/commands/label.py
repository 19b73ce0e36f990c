"""Scores the attributes of photos, or of the generator's samples, with a finished model.

    cgan label --model=RUN_DIR|SAVED_MODEL_DIR --image=PHOTO_OR_FOLDER
        --output=scores.csv [--face=center|N] [--binary] [--overwrite]
    cgan label --model=RUN_DIR|SAVED_MODEL_DIR --samples=N [--seed=1]
        --output=scores.csv [--samples_dir=DIR] [--binary] [--overwrite]

The regressor's scores, from 0 (absent) to 1 (present), as a table `file,Attr1,Attr2,...`. Of a
photo that is not aligned the largest face is scored, as `cgan translate` finds and cuts it. A
run folder must hold the finished regressor stage, and the gan stage for samples. With --binary the
table is labels: named labels.csv and inside the pictures' folder, it is what --data=folder reads.
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

from cgan_tf.core import cli, quiet
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import replacing
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import images
from cgan_tf.data.portraits import ALL, choose_face, find_photos, parse_face, portraits
from cgan_tf.data.source import load_all

# Pictures that the model sees at a time. A batch is always full: the sums of a smaller one are
# rounded otherwise, and a photo's scores must not depend on what else lies in its folder.
BATCH = 32
THRESHOLD = 0.5  # of --binary, as in the regressor's accuracy

# A picture's file name, and its pixels uint8 [R, R, 3] or why there are none.
Picture = tuple[str, np.ndarray | UserError]


# ---- what was asked for ------------------------------------------------------------------------


def plan_output(output: str, overwrite: bool, samples_dir: Path | None = None) -> Path:
    """The path of the CSV; writes nothing yet.

    Args:
        output: the flag's value.
        overwrite: a file may be there.
        samples_dir: a folder that the command makes, if it does.

    Raises:
        UserError: no CSV's name, its folder is missing, or a file is in the way.
    """
    path = Path(output).expanduser()
    if path.suffix.lower() != ".csv":
        raise UserError(f"--output={output}: give a name that ends in .csv")
    if path.is_dir():
        raise UserError(f"--output={output}: is a folder; choose another name")
    if path.exists() and not overwrite:
        raise UserError(f"--output={output}: exists; --overwrite replaces it")
    made = samples_dir is not None and samples_dir.resolve() == path.parent.resolve()
    if not made and not path.parent.exists():
        raise UserError(
            f"--output={output}: the folder {path.parent} does not exist; make it, or choose "
            "another"
        )
    cli.require_writable(f"--output={output}", path.parent)
    return path


def plan_samples(samples_dir: str, count: int, overwrite: bool) -> Path:
    """The folder of the samples' pictures; writes nothing yet.

    Raises:
        UserError: it is no folder and cannot be made one, or holds a picture of that name.
    """
    folder = Path(samples_dir).expanduser()
    cli.require_writable(f"--samples_dir={samples_dir}", folder)
    for index in range(0 if overwrite else count):
        target = folder / f"{sample_name(index)}.png"
        if target.exists():
            raise UserError(
                f"--samples_dir={samples_dir}: {target} exists; --overwrite replaces it"
            )
    return folder


def sample_name(index: int) -> str:
    """What sample 0, 1, ... is called in the table."""
    return f"sample{index:06d}"


# ---- the model ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Labeler:
    """What of a model labels: the regressor and, for samples, the generator."""

    attributes: tuple[str, ...]  # K, all that the regressor knows, in the order of its scores
    resolution: int  # px
    aligned: bool  # as `editors.Editor`'s
    prior: str  # of z, "normal" or "uniform"
    z_dim: int
    run: Callable[..., np.ndarray]  # as `editors.Editor.run`, with "attributes" and "sample"

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """Scores float32 `[N, K]` in [0, 1] of pictures uint8 `[N, R, R, 3]`, N up to BATCH.

        Raises:
            UserError: the model's answer is not one finite score per attribute.
        """
        batch = np.resize(pixels, (BATCH, *pixels.shape[1:]))  # repeats them
        scores = self.run("attributes", image=images.to_float(batch))[: len(pixels)]
        if scores.shape != (len(pixels), len(self.attributes)):
            raise UserError(
                f"--model: {len(self.attributes)} attributes have names, but it gives "
                f"{scores.shape[1]} scores; export it anew with cgan export"
            )
        if not np.isfinite(scores).all():
            raise UserError("--model: a score is not finite; train the regressor stage anew")
        return scores


def open_labeler(path: str, samples: bool) -> Labeler:
    """Loads what labels of the model behind --model.

    Args:
        path: a run folder or a SavedModel folder.
        samples: the generator is wanted too.

    Raises:
        UserError: it is neither, unfinished or damaged.
    """
    from cgan_tf.editing import backends

    form, place = backends.find_model(path)
    if form == "tflite":
        raise UserError(
            f"--model={path}: a .tflite file holds no attribute scores; give the run folder or "
            "the SavedModel"
        )
    return _of_run(RunFolder(place), samples) if form == "run" else _of_saved_model(place)


def _of_run(run: RunFolder, samples: bool) -> Labeler:
    """Neither encoder nor directions are needed: only what labels is loaded, in float32."""
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
        description.training_crop(config) == description.CELEBA_CROP,
        config.gan.prior,
        config.gan.z_dim,
        lambda signature, **inputs: backends.run_on_cpu(functions[signature], **inputs),
    )


def _of_saved_model(folder: Path) -> Labeler:
    from cgan_tf.editing import backends

    editor = backends.SavedModelEditor(folder)
    facts = editor.description
    lacking = [name for name in ("scores", "prior", "z_dim") if name not in facts]
    lacking += [name for name in ("attributes", "sample") if name not in editor.signatures]
    if lacking:
        raise UserError(f"{folder}: it lacks {lacking[0]!r}; export it with cgan export")
    return Labeler(
        tuple(facts["scores"]),
        editor.resolution,
        editor.aligned,
        facts["prior"],
        facts["z_dim"],
        editor.run,
    )


# ---- pictures in, rows out ---------------------------------------------------------------------


def read_photos(labeler: Labeler, photos: list[Path], which: str | int) -> Iterator[Picture]:
    """The photos as the model sees them, in order; a few batches of them are in memory.

    Args:
        labeler: the loaded model.
        photos: their files.
        which: of a photo's faces, see `photos.parse_face`; of all the largest.
    """

    def load(photo: Path) -> np.ndarray:
        pixels = images.decode_file(photo)
        try:
            return portraits(pixels, labeler.resolution, labeler.aligned, which)[0].crop
        except UserError as error:
            raise UserError(f"{photo}: {error}") from None

    return zip((photo.name for photo in photos), load_all(load, photos), strict=True)


def draw_samples(
    labeler: Labeler, count: int, seed: int, folder: Path | None = None
) -> Iterator[Picture]:
    """Samples of the generator, rounded to 8 bits; saved as PNG where a folder is given.

    A sample depends on the seed and its number alone, not on `count`.

    Raises:
        UserError: the generator's answer is not finite.
    """
    from cgan_tf.editing import backends

    draw = np.random.Generator(np.random.PCG64(seed))
    for start in range(0, count, BATCH):
        z = backends.draw_prior(draw, labeler.prior, BATCH, labeler.z_dim)
        batch = labeler.run("sample", z=z)
        if not np.isfinite(batch).all():
            raise UserError("--model: a sample is not finite; train the gan stage anew")
        for index, pixels in enumerate(images.to_uint8(batch)[: count - start], start):
            name = sample_name(index)
            if folder is not None:
                name += ".png"
                images.save_png(folder / name, pixels)
            yield name, pixels


def label(
    labeler: Labeler, pictures: Iterable[Picture], file: BinaryIO, binary: bool = False
) -> tuple[int, int]:
    """Writes the table, row by row in the pictures' order; a picture that has no pixels gets none.

    Args:
        labeler: the loaded model.
        pictures: names and pixels.
        file: where the CSV goes, in UTF-8.
        binary: 1 and -1 in the place of the scores.

    Returns:
        How many pictures were scored, and how many skipped (each named on stderr).
    """
    # A file's name need not be UTF-8: its bytes are written as they are.
    table = csv.writer(codecs.getwriter("utf-8")(file, "surrogateescape"), lineterminator="\n")
    table.writerow(["file", *labeler.attributes])
    scored = skipped = 0
    pictures = iter(pictures)
    while batch := list(itertools.islice(pictures, BATCH)):
        readable = [(name, pixels) for name, pixels in batch if isinstance(pixels, np.ndarray)]
        for _, error in batch:
            if isinstance(error, UserError):
                tqdm.write(f"skipped: {error}", file=sys.stderr)  # above the bar
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
    """The command's flags; only the command itself may define them, not who imports this module."""
    flags.DEFINE_string("model", None, "run folder or SavedModel folder")
    flags.DEFINE_string(
        "image", None, "photo, or folder of photos (not of its sub-folders), of any size and format"
    )
    flags.DEFINE_string(
        "face",
        None,
        "which face of a photo: a number (1 is the largest), or center for the center square; the "
        "default is 1 where the model has learned from CelebA's aligned photos, else center",
    )
    flags.DEFINE_integer(
        "samples", None, "samples of the generator to score instead of photos", lower_bound=1
    )
    flags.DEFINE_integer("seed", 1, "seed that the samples are drawn from", lower_bound=0)
    flags.DEFINE_string("output", None, "CSV file to write; its folder must exist")
    flags.DEFINE_string(
        "samples_dir", None, "folder to save the samples in, as PNG; by default they are not saved"
    )
    flags.DEFINE_bool(
        "binary", False, "write 1 for a score above 0.5 and -1 for another, as --data=folder reads"
    )
    flags.DEFINE_bool("overwrite", False, "replace output files that exist")


def main() -> int:
    """The command behind the flags; returns the exit code."""
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
    if photos and not Path(options.image).expanduser().is_dir():
        _check_photo(photos[0])
    folder = None
    if options.samples_dir:
        folder = plan_samples(options.samples_dir, count, options.overwrite)
    output = plan_output(options.output, options.overwrite, folder)

    quiet.import_tensorflow()
    labeler = open_labeler(options.model, samples=count is not None)
    if photos:
        pictures = read_photos(labeler, photos, choose_face(options.face, labeler.aligned))
    else:
        pictures = draw_samples(labeler, count, options.seed, folder)
    bar = tqdm(
        pictures, total=len(photos) or count, unit=" images", desc="label",
        disable=not sys.stderr.isatty(), dynamic_ncols=True,
    )  # fmt: skip
    with replacing(output) as file, bar:
        scored, skipped = label(labeler, bar, file, options.binary)
        if not scored:
            raise UserError(
                f"--image={options.image}: none of its {skipped} photos could be scored"
            )
    print(f"{output}: {scored} scored, {skipped} skipped")
    return 0


def _check_photo(photo: Path) -> None:
    """A folder's unreadable photo is skipped; that of a single one says so before any work."""
    try:
        images.decode_file(photo)
    except UserError as error:
        raise UserError(f"--image: {error}; give another photo") from None
