"""The data source `folder`: images of any size, at any depth, with an optional table of labels.

Each image is cropped to its largest centered square. The labels are in `labels.csv` inside the
folder: a header `file,Attr1,Attr2,...`, then one row per image with its name relative to the folder
and its values, either -1/1 or 0/1 throughout the file. Without a table, sub-folders are classes.
A framing.json says that `cgan align` has written the images.
"""

import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cgan_tf.core.errors import UserError
from cgan_tf.data import images
from cgan_tf.data.attribute_names import check_names
from cgan_tf.data.class_folders import read_classes
from cgan_tf.data.framing import FRAMING, read_framing
from cgan_tf.data.label_table import LABELS, find_table, match_names, read_table
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

CROP = "center-square"


def open_folder(data_dir: str | None, resolution: int, say: Callable[[str], None]) -> Source:
    """The images of a folder, their labels from labels.csv or sub-folders, a fixed random split.

    Raises:
        UserError: missing or empty folder, malformed table, rows and images that do not match,
            sub-folders that may or may not be classes, a damaged framing.json.
    """
    folder = check_folder(data_dir, "folder")
    found = list_images(folder)
    if not found:
        raise UserError(
            f"--data_dir={data_dir} contains no images (.jpg, .png, ...); give the folder "
            "with the images"
        )
    files = tuple(found)
    framing = read_framing(folder)
    if framing:
        say(f"data: {FRAMING}: its faces have CelebA's framing, so the model finds faces in photos")
    names, labels, note = read_labels(folder, files, str(data_dir))
    if note:
        say(f"data: {note}")
    splits = labelled_split(labels)
    say(f"data: a fixed random split is used: {describe_splits(splits)}")
    paths = tuple(str(folder / file) for file in files)
    images.note_enlarged(paths, min, resolution, say)
    return Source(
        name="folder",
        attribute_names=names,
        labels=labels,
        splits=splits,
        files=files,
        sizes=np.array([size for size, *_ in found.values()], np.int64),
        crop=CROP,
        version=stamp(folder, found),
        paths=paths,
        stream=stream_squares(paths, resolution),
        notes=(note,) if note else (),
        framing=framing,
    )


def stream_squares(
    paths: Sequence[str], resolution: int
) -> Callable[[np.ndarray], Iterator[np.ndarray | UserError]]:
    """The `Source.stream` of the centered squares of image files."""

    def load(index: int) -> np.ndarray:
        return images.center_square_resize(images.decode_file(paths[index]), resolution)

    return lambda indices: load_all(load, indices)


def read_labels(
    folder: pathlib.Path, files: tuple[str, ...], data_dir: str
) -> tuple[tuple[str, ...], np.ndarray, str]:
    """K attributes, labels float32 [N, K], and how they were read ("": as documented).

    Args:
        folder: of the images, and of their table if there is one.
        files: the N images, relative to the folder.
        data_dir: value of the flag, for errors.

    Raises:
        UserError: a malformed table, rows and images that do not match, sub-folders that may or may
            not be classes.
    """
    path = find_table(folder)
    if path:
        table = read_table(path)
        check_names(table.names, str(path))
        table = match_names(table, files, folder)
        match_rows(table.rows, files, path.name, data_dir)
        labels = np.array([table.rows[file] for file in files], np.float32)
        return table.names, labels, table.describe()
    names, labels, note = read_classes(files, data_dir)
    note = f"no {LABELS} in {data_dir}{note and '; '}{note}"
    return names, labels, note if names else f"{note}: the images have no labels"
