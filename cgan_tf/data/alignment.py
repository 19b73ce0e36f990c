"""Makes one aligned square of each face in a folder of photos, of any size and framing.

Finds the faces as `cgan translate` does, turns each upright and crops it to the square that is
CelebA's crop of an aligned photo. `cgan align` writes the squares into a folder of the user's, and
the data source `photos` into the cache.
"""

import csv
import dataclasses
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cgan_tf.core.errors import UserError, count_of
from cgan_tf.data import images
from cgan_tf.data.face_crop import FaceBox, crop_face
from cgan_tf.data.label_table import LABELS
from cgan_tf.data.portraits import ALIGN_TABLE as TABLE
from cgan_tf.data.portraits import describe_cut, photo_name, requested_faces
from cgan_tf.data.result_files import (
    PLACE_COLUMNS,
    finally_written,
    further_target,
    path_key,
    place_columns,
    write_table,
)
from cgan_tf.data.source import load_all

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
_ENLARGED = "enlarged from"  # begins the note of a face that has fewer px in its photo


# ---- faces -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class AlignedFace:
    """A face of a photo.

    Attributes:
        pixels: the square, upright, in CelebA's framing, uint8 `[S, S, 3]`.
        columns: of its row in the table, but for those of the files.
    """

    pixels: np.ndarray
    columns: dict[str, object]


def align_faces(pixels: np.ndarray, which: str | int, size: int | None) -> list[AlignedFace]:
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
    notes = [f"{_ENLARGED} {face.side:.0f} px"] if side > own else []
    place = place_columns(face, *pixels.shape[:2])
    notes.append(describe_cut(face, *pixels.shape[:2]))
    columns = {"face": number, "faces": len(found), **place, "note": "; ".join(filter(None, notes))}
    return AlignedFace(crop_face(pixels, face, side), columns)


# ---- folders -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Results:
    """What was made of the photos of a folder.

    Attributes:
        output: the folder of the results.
        rows: of the table: one per face, or one for a photo that was skipped.
    """

    output: Path
    rows: list[dict[str, object]] = dataclasses.field(default_factory=list)

    @property
    def files(self) -> list[str]:
        """The results, relative to `output`."""
        return [str(row["output"]) for row in self.rows if row["status"] == "aligned"]

    @property
    def outputs(self) -> dict[str, str]:
        """The first result of each photo that has one, relative to `output`, by photo."""
        first: dict[str, str] = {}
        for row in self.rows:
            if row["status"] == "aligned":
                first.setdefault(str(row["file"]), str(row["output"]))
        return first

    @property
    def enlarged(self) -> int:
        """Number of faces that are larger than in their photos."""
        return sum(str(row["note"]).startswith(_ENLARGED) for row in self.rows)

    @property
    def several(self) -> int:
        """Number of photos with more than one face."""
        return len({row["file"] for row in self.rows if int(str(row.get("faces") or 0)) > 1})

    def save(self, name: str, face: AlignedFace, target: Path) -> None:
        """Writes a face, and adds its row; `name` is that of its photo."""
        images.save_png(target, face.pixels)
        written = photo_name(target, self.output)
        self.rows.append({"file": name, "status": "aligned", "output": written, **face.columns})

    def skip(self, name: str, reason: str) -> None:
        """Adds the row of a photo without a result, and reports it."""
        tqdm.write(f"skipped: {reason}", file=sys.stderr)  # above the progress bar
        self.rows.append({"file": name, "status": "skipped", "note": reason})

    def write(self) -> None:
        """Writes the table, if there are results."""
        if self.files:
            write_table(self.output / TABLE, COLUMNS, self.rows)

    def summary(self) -> str:
        """The counts, in one line."""
        skipped = sum(row["status"] == "skipped" for row in self.rows)
        several = f" ({self.several:,} with several faces)" if self.several else ""
        return (
            f"{self.output / TABLE}: {count_of(len(self.files), 'face')} aligned in "
            f"{count_of(len(self.outputs), 'photo')}{several}, {count_of(skipped, 'photo')} skipped"
        )


def read_results(output: Path) -> Results:
    """What `Results.write` has written.

    Raises:
        OSError: there is no table in the folder, or it cannot be read.
        ValueError: it is not a table of results.
    """
    text = (output / TABLE).read_bytes().decode("utf-8", "surrogateescape")
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), restval=""))
    except csv.Error as error:
        raise ValueError(str(error)) from None
    if not all({"file", "status", "faces", "output", "note"} <= row.keys() for row in rows):
        raise ValueError("columns are missing")
    return Results(output, rows)


def align_photos(
    photos: Sequence[Path],
    folder: Path,
    output: Path,
    targets: Sequence[Path],
    which: str | int,
    size: int | None,
) -> Results:
    """Writes the squares of the faces in photos, and then the table, also after Ctrl-C.

    Args:
        photos: the files.
        folder: that their names in the table are relative to.
        output: the folder of the results.
        targets: the PNG file of each photo's first face, in that folder.
        which: see `align_faces`.
        size: see `align_faces`.
    """
    results = Results(output)

    def load(photo: Path) -> list[AlignedFace]:
        pixels = images.decode_file(photo)
        try:
            return align_faces(pixels, which, size)
        except UserError as error:
            raise UserError(f"{photo}: {error}") from None

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
        for photo, target, faces in zip(photos, targets, bar, strict=True):
            name = photo_name(photo, folder)
            if isinstance(faces, UserError):
                results.skip(name, str(faces))
                continue
            for number, face in enumerate(faces, 1):
                place = target if number == 1 else further_target(target, number, taken)
                results.save(name, face, place)
    return results


def describe_rows(kept: int, rows: int) -> str:
    """What became of the rows of a table of labels, in words."""
    return (
        f"{LABELS}: {count_of(kept, 'row')} carried over, "
        f"{count_of(rows - kept, 'row')} without a face left out"
    )
