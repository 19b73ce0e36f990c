"""Makes a folder of photos of any kind ready for training: one aligned square for each face.

    cgan align --image=FOLDER --output=DIR [--face=all|N] [--size=256] [--overwrite]
    cgan train --stage=all --run_dir=RUN_DIR --data=folder --data_dir=DIR

Finds the faces as `cgan translate` does, turns each upright and crops it to the square that is
CelebA's crop of an aligned photo. The squares are PNG files in a tree of the photos' names. Next to
them, align.csv lists what was found in each photo, and framing.json says how the faces are framed:
a model trained on DIR finds faces in photos and edits them in place. The photos' labels.csv is
carried over, without the rows of photos that have no face.
"""

import csv
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from cgan_tf.commands.output_files import (
    PLACE_COLUMNS,
    count_of,
    finally_written,
    further_target,
    path_key,
    place_columns,
    plan_outputs,
    write_table,
)
from cgan_tf.core import cli
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand
from cgan_tf.data import images
from cgan_tf.data.face_crop import FaceBox, crop_face
from cgan_tf.data.framing import FRAMING, write_framing
from cgan_tf.data.label_table import LABELS, LabelTable, find_table, match_names, read_table
from cgan_tf.data.portraits import ALIGN_TABLE as TABLE
from cgan_tf.data.portraits import (
    ALL,
    CENTER,
    describe_cut,
    describe_folders,
    find_photos,
    parse_face,
    photo_name,
    requested_faces,
)
from cgan_tf.data.source import list_images, load_all, match_rows

COLUMNS = (
    "file",
    "status",
    "face",
    "faces",
    *PLACE_COLUMNS,
    "output",
    "note",
)
LARGEST = 512  # px, default limit of a square's side: the largest model
MIN_SIZE, MAX_SIZE = 32, 2048  # px, of --size


# ---- faces -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class AlignedFace:
    """A face of a photo.

    Attributes:
        pixels: the square, upright, in CelebA's framing, uint8 `[S, S, 3]`.
        enlarged: whether the face has fewer px in the photo.
        columns: of its row in the table, but for those of the files.
    """

    pixels: np.ndarray
    enlarged: bool
    columns: dict[str, object]


def align_photo(pixels: np.ndarray, which: str | int, size: int | None) -> list[AlignedFace]:
    """The requested faces of a photo, largest first.

    Args:
        pixels: the decoded photo, uint8 `[H, W, 3]`.
        which: `portraits.ALL` or a number, 1 is the largest face.
        size: S, px; None for that of the face in the photo, at most `LARGEST`.

    Raises:
        UserError: no face was found, or fewer than the requested number; OpenCV is missing.
    """
    found, numbers = requested_faces(pixels, which)
    return [_align(pixels, found, number, size) for number in numbers]


def _align(
    pixels: np.ndarray, found: Sequence[FaceBox], number: int, size: int | None
) -> AlignedFace:
    face = found[number - 1]
    own = math.ceil(face.side)
    side = min(own, LARGEST) if size is None else size
    notes = [f"enlarged from {face.side:.0f} px"] if side > own else []
    place = place_columns(face, *pixels.shape[:2])
    notes.append(describe_cut(face, *pixels.shape[:2]))
    columns = {"face": number, "faces": len(found), **place, "note": "; ".join(filter(None, notes))}
    return AlignedFace(crop_face(pixels, face, side), side > own, columns)


# ---- files -------------------------------------------------------------------------------------


@dataclasses.dataclass
class Results:
    """What was made of the photos of a folder.

    Attributes:
        output: the folder of the results.
        rows: of the table: one per face, or one for a photo that was skipped.
        outputs: the first result of each photo that has one, relative to `output`, by the photo's
            name.
        enlarged: number of faces that are larger than in their photos.
    """

    output: Path
    rows: list[dict[str, object]] = dataclasses.field(default_factory=list)
    outputs: dict[str, str] = dataclasses.field(default_factory=dict)
    enlarged: int = 0

    @property
    def files(self) -> list[str]:
        """The results, relative to `output`."""
        return [str(row["output"]) for row in self.rows if row["status"] == "aligned"]

    def save(self, name: str, face: AlignedFace, target: Path) -> None:
        """Writes a face, and adds its row; `name` is that of its photo."""
        images.save_png(target, face.pixels)
        written = photo_name(target, self.output)
        self.outputs.setdefault(name, written)
        self.enlarged += face.enlarged
        self.rows.append({"file": name, "status": "aligned", "output": written, **face.columns})

    def skip(self, name: str, reason: str) -> None:
        """Adds the row of a photo without a result, and reports it."""
        tqdm.write(f"skipped: {reason}", file=sys.stderr)  # above the progress bar
        self.rows.append({"file": name, "status": "skipped", "note": reason})

    def write(self) -> None:
        """Writes the table, if there are results."""
        if self.outputs:
            write_table(self.output / TABLE, COLUMNS, self.rows)

    def write_labels(self, table: LabelTable) -> str:
        """Writes the labels of the photos that have a result; returns the counts, in words."""
        rows = [
            {"file": self.outputs[file]}
            | {name: 1 if value else -1 for name, value in zip(table.names, values, strict=True)}
            for file, values in table.rows.items()
            if file in self.outputs
        ]
        write_table(self.output / LABELS, ("file", *table.names), rows)
        without = len(table.rows) - len(rows)
        return (
            f"{LABELS}: {count_of(len(rows), 'row')} carried over, "
            f"{count_of(without, 'row')} without a face left out"
        )

    def summary(self) -> str:
        """The counts, in one line."""
        skipped = sum(row["status"] == "skipped" for row in self.rows)
        return (
            f"{self.output / TABLE}: {count_of(len(self.files), 'face')} aligned in "
            f"{count_of(len(self.outputs), 'photo')}, {count_of(skipped, 'photo')} skipped"
        )


def parse_faces(face: str) -> str | int:
    """--face as `portraits.ALL` or a number that is at least 1.

    Raises:
        UserError: any other value.
    """
    try:
        which = parse_face(face)
    except UserError:
        which = CENTER
    if which == CENTER:
        raise UserError(f"--face={face}: give all, or a number (1 is the largest face)")
    return which


def read_labels(folder: Path, files: Sequence[str], which: str | int) -> LabelTable | None:
    """The labels.csv of the photos, with their names as listed; None if there is none.

    Args:
        folder: of the photos.
        files: the photos, relative to the folder.
        which: of a photo's faces.

    Raises:
        UserError: the table is malformed, does not match the photos, or has one row for the
            several faces of a photo.
    """
    path = find_table(folder)
    if path is None:
        return None
    if which == ALL:
        raise UserError(
            f"--face=all: {path} has one row per photo, not one per face; leave out --face, or "
            "move the table elsewhere"
        )
    table = match_names(read_table(path), files, folder)
    match_rows(table.rows, files, str(path), f"--image={folder}")
    return table


def check_output(folder: Path, output: str, targets: Sequence[Path], overwrite: bool) -> None:
    """Raises a UserError if the output contains photos, which are no aligned faces.

    All images of that folder are trained on, and framing.json is about all of them.

    Args:
        folder: of the photos.
        output: value of --output.
        targets: the planned results.
        overwrite: whether the results of an earlier run may be replaced.
    """
    path = expand(output, "--output")
    if path.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise UserError(
            f"--output={output}: contains the photos of --image; give a folder of its own"
        )
    others = set(list_images(path)) if path.is_dir() else set()
    if others and overwrite:
        others -= {photo_name(target, path) for target in targets} | _earlier_results(path)
    if others:
        remedy = "delete them, or give another folder"
        if not overwrite:
            remedy = "--overwrite replaces the results of an earlier run; or give another folder"
        raise UserError(
            f"--output={output}: contains {count_of(len(others), 'image')} (such as "
            f"{min(others)}) that would be trained on; {remedy}"
        )


def _earlier_results(output: Path) -> set[str]:
    """The files that the table in a folder lists as results; none without a readable table."""
    try:
        text = (output / TABLE).read_text("utf-8", "surrogateescape")
        return {row.get("output") or "" for row in csv.DictReader(text.splitlines())}
    except (OSError, csv.Error):
        return set()


# ---- the command -------------------------------------------------------------------------------


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("image", None, "folder, or tree of folders, of photos of any size")
    flags.DEFINE_string("output", None, "folder for the aligned faces and the tables")
    flags.DEFINE_string(
        "face", "1", "faces of a photo: all, or a number (1 is the largest); further ones get .2"
    )
    flags.DEFINE_integer(
        "size",
        None,
        "side of the squares in px; by default that of the face in its photo, at most "
        f"{LARGEST}. Smaller faces are enlarged, which align.csv notes",
        lower_bound=MIN_SIZE,
        upper_bound=MAX_SIZE,
    )
    flags.DEFINE_bool("overwrite", False, "replace the results of an earlier run")


def main() -> int:
    """Runs the command with the parsed flags; returns the exit code."""
    options = flags.FLAGS
    cli.require("image", "output")
    which = parse_faces(options.face)
    folder, output = expand(options.image, "--image"), expand(options.output, "--output")
    if folder.is_file():
        raise UserError(f"--image={options.image}: is a file; give the folder of the photos")
    photos = find_photos(options.image, leave_out=output)
    names = [photo_name(photo, folder) for photo in photos]
    labels = read_labels(folder, names, which)
    beside = (TABLE, FRAMING, *((LABELS,) if labels else ()))
    targets = plan_outputs(photos, folder, options.output, options.overwrite, (".png",), beside)
    check_output(folder, options.output, targets, options.overwrite)
    if line := describe_folders(photos):
        print(f"--image={options.image}: {line}")
    if labels and labels.notes:
        print(f"labels: {labels.describe()}")

    def load(photo: Path) -> list[AlignedFace]:
        pixels = images.decode_file(photo)
        try:
            return align_photo(pixels, which, options.size)
        except UserError as error:
            raise UserError(f"{photo}: {error}") from None

    results = Results(output)
    taken = set(map(path_key, targets))
    bar = tqdm(
        load_all(load, photos),
        total=len(photos),
        unit=" photos",
        desc="align",
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )
    with finally_written(results.write), bar:
        for name, target, faces in zip(names, targets, bar, strict=True):
            if isinstance(faces, UserError):
                results.skip(name, str(faces))
                continue
            for number, face in enumerate(faces, 1):
                place = target if number == 1 else further_target(target, number, taken)
                results.save(name, face, place)
    if not results.outputs:
        raise UserError(
            f"--image={options.image}: none of its {len(photos)} photos could be aligned"
        )
    lines = [results.summary()]
    if labels:
        lines.append(results.write_labels(labels))
    write_framing(output)
    if results.enlarged:
        lines.append(f"{count_of(results.enlarged, 'face')} enlarged to --size={options.size}")
    print("; ".join(lines))
    if left := sorted(set(list_images(output)) - set(results.files)):
        print(
            f"note: {count_of(len(left), 'image')} of an earlier run left in {output} (such as "
            f"{left[0]}); delete them before a training",
            file=sys.stderr,
        )
    return 0
