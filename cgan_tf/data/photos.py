"""The data source `photos`: photos of any size with faces anywhere, aligned as `cgan align` does.

The largest face of each photo becomes a square of the training's resolution. The squares are made
once and kept in the cache folder, next to align.csv, which says what was found in each photo. From
then on they are read as those of `folder`. The labels are those of the photos: a row of labels.csv,
or a sub-folder, is about the largest face. Photos without a face are left out, with their labels.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from cgan_tf.core.errors import UserError, count_of
from cgan_tf.core.files import expand, sync_folder
from cgan_tf.data import alignment, cache, color_profile, face_crop, face_detection, images
from cgan_tf.data.folder import read_labels, stream_squares
from cgan_tf.data.framing import CELEBA, FRAMING, read_framing, write_framing
from cgan_tf.data.label_table import find_table
from cgan_tf.data.portraits import without_results
from cgan_tf.data.result_files import tree_names
from cgan_tf.data.source import Source, check_folder, describe_splits, list_images, stamp
from cgan_tf.data.splits import labelled_split

NAME = "photos"
CROP = "largest-face"
_LARGEST_FACE = 1
# The code that decides on the pixels of a square, besides what `cache.FORMAT` covers.
_CODE = (alignment, color_profile, face_crop, face_detection, images)


def open_photos(
    data_dir: str | None, cache_dir: str | None, resolution: int, say: Callable[[str], None]
) -> Source:
    """The largest faces of a folder's photos, with the photos' labels and a fixed random split.

    Its files and paths are the photos, so that the labels of custom attributes can name them, and a
    change of a photo is noticed; its pixels are those of the squares.

    Raises:
        UserError: as `folder.open_folder`; a folder of aligned faces, no face in any photo, a
            cache folder that cannot be written or is damaged, OpenCV is missing.
    """
    folder = check_folder(data_dir, NAME)
    if cache_dir is None:
        raise UserError(f"--cache_dir: --data={NAME} keeps the aligned faces there; give a folder")
    if read_framing(folder):
        raise UserError(
            f"--data={NAME}: {folder / FRAMING} says that its faces are aligned; use --data=folder"
        )
    kept = expand(cache_dir, "--cache_dir")
    found = list_images(folder, leave_out=kept)
    files = tuple(without_results(folder, list(found)))
    if not files:
        raise UserError(
            f"--data_dir={data_dir} contains no photos (.jpg, .png, ...); give the folder with the "
            "photos"
        )
    names, labels, note = read_labels(folder, files, str(data_dir))
    if note:
        say(f"data: {note}")
    version = _version(folder, {file: found[file] for file in files}, resolution)
    squares = kept / f"{NAME}-{resolution}-{version[:16]}"
    with cache.writing(kept, 2 * 3 * resolution**2 * len(files)):
        if not squares.exists():
            say(f"data: aligning the faces in {count_of(len(files), 'photo')} ({squares})")
            _align(folder, files, resolution, squares)
    results = _read(squares, files)
    for line in _describe(results, resolution):
        say(f"data: {line}")
    outputs = sorted(results.outputs.items(), key=lambda item: item[1])  # as `folder` lists them
    rows = {file: row for row, file in enumerate(files)}
    labels = labels[[rows[file] for file, _ in outputs]]
    if find_table(folder):
        say(f"data: {alignment.describe_rows(len(labels), len(files))}")
    splits = labelled_split(labels)
    say(f"data: a fixed random split is used: {describe_splits(splits)}")
    aligned = tuple(file for file, _ in outputs)
    return Source(
        name=NAME,
        attribute_names=names,
        labels=labels,
        splits=splits,
        files=aligned,
        sizes=np.array([found[file][0] for file in aligned], np.int64),
        crop=CROP,
        version=version,
        paths=tuple(str(folder / file) for file in aligned),
        stream=stream_squares([str(squares / square) for _, square in outputs], resolution),
        notes=(note,) if note else (),
        framing=CELEBA,
    )


def _version(folder: pathlib.Path, found: dict[str, tuple[int, int, int]], resolution: int) -> str:
    """sha256 in hex over everything that decides on the squares and their pixels."""
    facts = [cache.FORMAT, resolution, face_crop.opencv().__version__, stamp(folder, found)]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for module in _CODE:
        digest.update(pathlib.Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


def _align(
    folder: pathlib.Path, files: Sequence[str], resolution: int, squares: pathlib.Path
) -> None:
    """Makes the folder of the squares, complete or not at all."""
    photos = [folder / file for file in files]
    with cache.building(squares.parent) as place:
        made = place / "squares"
        targets = [made / name for name in tree_names(photos, folder, (".png",))]
        results = alignment.align_photos(photos, folder, made, targets, _LARGEST_FACE, resolution)
        if not results.files:
            raise UserError(
                f"--data_dir={folder}: none of its {count_of(len(files), 'photo')} could be "
                f"aligned; --data={NAME} needs photos of faces"
            )
        write_framing(made)
        try:
            os.rename(made, squares)
        except OSError:
            if not squares.exists():  # no other process was faster
                raise
        sync_folder(squares.parent)


def _read(squares: pathlib.Path, files: Sequence[str]) -> alignment.Results:
    """What was found in the photos; UserError if a square is missing."""
    try:
        results = alignment.read_results(squares)
    except (OSError, ValueError):
        raise cache.damaged(squares) from None
    known = set(list_images(squares)).issuperset(results.files)
    if not (results.files and known and set(files).issuperset(results.outputs)):
        raise cache.damaged(squares)
    return results


def _describe(results: alignment.Results, resolution: int) -> list[str]:
    lines = [results.summary()]
    if results.several:
        lines.append(
            "of several faces in a photo the largest is taken, and the photo's labels are about it"
        )
    if results.enlarged:
        lines.append(
            f"{count_of(results.enlarged, 'face')} enlarged to {resolution} px; enlarged faces "
            "have no more detail, a lower --resolution trains faster"
        )
    return lines
