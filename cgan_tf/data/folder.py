"""The data source `folder`: images of any size, at any depth, with an optional table of labels.

Each image is cropped to its largest centered square. The labels are in `labels.csv` inside the
folder: a header `file,Attr1,Attr2,...`, then one row per image with its name relative to the folder
and its values, either -1/1 or 0/1 throughout the file.
"""

import csv
import pathlib
import posixpath
from collections.abc import Callable

import numpy as np

from cgan_tf.core.errors import UserError
from cgan_tf.data import images
from cgan_tf.data.attribute_names import check_names
from cgan_tf.data.source import (
    Source,
    check_folder,
    describe_splits,
    list_images,
    load_all,
    match_rows,
    stamp,
)
from cgan_tf.data.splits import labelled_split

LABELS = "labels.csv"
CROP = "center-square"


def open_folder(data_dir: str | None, resolution: int, say: Callable[[str], None]) -> Source:
    """The images of a folder, their labels if there is a labels.csv, and a fixed random split.

    Raises:
        UserError: missing or empty folder, malformed table, rows and images that do not match.
    """
    folder = check_folder(data_dir, "folder")
    found = list_images(folder)
    if not found:
        raise UserError(
            f"--data_dir={data_dir} contains no images (.jpg, .png, ...); give the folder "
            "with the images"
        )
    files = tuple(found)
    names: tuple[str, ...] = ()
    labels = np.zeros((len(files), 0), np.float32)
    if (folder / LABELS).is_file():
        names, rows = read_labels(folder / LABELS)
        check_names(names, str(folder / LABELS))
        match_rows(rows, files, LABELS, str(data_dir))
        labels = np.array([rows[file] for file in files], np.float32)
    else:
        say(f"data: no {LABELS} in {data_dir}: the images have no labels")
    splits = labelled_split(labels)
    say(f"data: a fixed random split is used: {describe_splits(splits)}")
    paths = [str(folder / file) for file in files]
    images.note_enlarged(paths, min, resolution, say)

    def load(index: int) -> np.ndarray:
        return images.center_square_resize(images.decode_file(paths[index]), resolution)

    return Source(
        name="folder",
        attribute_names=names,
        labels=labels,
        splits=splits,
        files=files,
        sizes=np.array([size for size, *_ in found.values()], np.int64),
        crop=CROP,
        version=stamp(folder, found),
        paths=tuple(paths),
        stream=lambda indices: load_all(load, indices),
    )


def read_labels(path: pathlib.Path) -> tuple[tuple[str, ...], dict[str, list[float]]]:
    """Reads a labels.csv with either line ending.

    Returns:
        K attribute names, and K values in {0, 1} by file.

    Raises:
        UserError: malformed table.
    """
    try:
        # File names need not be UTF-8; `cgan label` writes their bytes as they are.
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV file ({error}); save it as UTF-8 CSV") from None
    if lines and not all(map(_is_text, lines[0][1])):
        raise UserError(f"{path} is not a CSV file (its header is not UTF-8); save it as UTF-8 CSV")
    if not lines or lines[0][1][0] != "file" or len(lines[0][1]) < 2:
        raise UserError(f"{path} does not begin with file,Attr1,Attr2,...; add that header")
    names = tuple(lines[0][1][1:])
    if "" in names or len(set(names)) < len(names):
        raise UserError(
            f"{path}: a column has no name, or two have the same; give each column its own name"
        )
    rows: dict[str, list[float]] = {}
    zero_line = minus_line = None
    for number, (file, *cells) in lines[1:]:
        file = _relative(file)
        cells = [_NUMBERS.get(cell, cell) for cell in cells]
        if len(cells) != len(names):
            raise UserError(
                f"{path}, line {number}: expected {len(names)} value(s), got "
                f"{len(cells)}; every row needs every column"
            )
        if not {"-1", "0", "1"}.issuperset(cells):
            raise UserError(f"{path}, line {number}: values are -1 and 1, or 0 and 1")
        if file in rows:
            raise UserError(f"{path}, line {number}: {file} is listed twice; delete one row")
        zero_line = number if "0" in cells and zero_line is None else zero_line
        minus_line = number if "-1" in cells and minus_line is None else minus_line
        rows[file] = [float(cell == "1") for cell in cells]
    if zero_line is not None and minus_line is not None:
        raise UserError(
            f"{path} mixes 0 (line {zero_line}) and -1 (line {minus_line}); use one of "
            "them for absent"
        )
    return names, rows


# As spreadsheets and pandas write whole numbers.
_NUMBERS = {"1.0": "1", "0.0": "0", "-1.0": "-1", "+1": "1", "-0.0": "0"}


def _relative(file: str) -> str:
    """A file's name as the folder's listing has it: without ./, with / for a back slash."""
    return posixpath.normpath(file.replace("\\", "/")) if file else file


def _is_text(cell: str) -> bool:
    """Whether all bytes of the cell were UTF-8, and none was 0, as in UTF-16."""
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in cell)
