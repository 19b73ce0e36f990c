"""Makes a folder of photos of any kind ready for training: one aligned square for each face.

    cgan align --image=FOLDER --output=DIR [--face=all|N] [--size=256] [--overwrite]
    cgan train --stage=all --run_dir=RUN_DIR --data=folder --data_dir=DIR

Finds the faces as `cgan translate` does, turns each upright and crops it to the square that is
CelebA's crop of an aligned photo. The squares are PNG files in a tree of the photos' names. Next to
them, align.csv lists what was found in each photo, and framing.json says how the faces are framed:
a model trained on DIR finds faces in photos and edits them in place. The photos' labels.csv is
carried over, without the rows of photos that have no face.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from cgan_tf.commands.output_files import plan_outputs
from cgan_tf.core import cli
from cgan_tf.core.errors import UserError, count_of
from cgan_tf.core.files import expand
from cgan_tf.data.alignment import (
    LARGEST,
    TABLE,
    Results,
    align_photos,
    describe_rows,
    read_results,
)
from cgan_tf.data.framing import FRAMING, write_framing
from cgan_tf.data.label_table import LABELS, LabelTable, find_table, match_names, read_table
from cgan_tf.data.portraits import (
    ALL,
    CENTER,
    describe_folders,
    find_photos,
    parse_face,
    photo_name,
)
from cgan_tf.data.result_files import write_table
from cgan_tf.data.source import list_images, match_rows

MIN_SIZE, MAX_SIZE = 32, 2048  # px, of --size


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
        return set(read_results(output).files)
    except (OSError, ValueError):
        return set()


def write_labels(results: Results, table: LabelTable) -> str:
    """Writes the labels of the photos that have a result; returns the counts, in words."""
    outputs = results.outputs
    rows = [
        {"file": outputs[file]}
        | {name: 1 if value else -1 for name, value in zip(table.names, values, strict=True)}
        for file, values in table.rows.items()
        if file in outputs
    ]
    write_table(results.output / LABELS, ("file", *table.names), rows)
    return describe_rows(len(rows), len(table.rows))


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
    results = align_photos(photos, folder, output, targets, which, options.size)
    if not results.files:
        raise UserError(
            f"--image={options.image}: none of its {len(photos)} photos could be aligned"
        )
    lines = [results.summary()]
    if labels:
        lines.append(write_labels(results, labels))
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
