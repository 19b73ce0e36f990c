"""The labels of custom attributes: the CSV of `cgan attribute`, its checks and its photos."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cgan_tf.commands.attribute_head import FOLDS
from cgan_tf.core.cli import closest
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import images
from cgan_tf.data.attribute_names import check_names
from cgan_tf.data.label_table import LabelTable, match_names, read_table
from cgan_tf.data.portraits import NoFaceError, choose_face, portraits
from cgan_tf.data.source import load_all

MIN_LABELS = 20  # per attribute


class Labels(NamedTuple):
    """A table of labels."""

    path: Path
    names: tuple[str, ...]  # K, the attributes to add
    files: tuple[str, ...]  # N
    values: np.ndarray  # float32 [N, K] in {0, 1}
    notes: tuple[str, ...] = ()  # how the table was read, where that was not as documented


def read_labels(path: str, chosen: Sequence[str], run: RunFolder, restart: bool = False) -> Labels:
    """The labels of the attributes to add.

    Args:
        path: value of --labels.
        chosen: columns of the table; all if empty.
        run: the run to add them to.
        restart: replace custom attributes of the same names.

    Raises:
        UserError: the table is missing, malformed, or unsuitable for training.
    """
    place = expand(path, "--labels")
    if not place.is_file():
        raise UserError(f"--labels={path}: no such file; give a CSV that begins with file,NAME")
    table = read_table(place)
    columns, rows = table.names, table.rows
    for name in chosen:
        if name not in columns:
            raise UserError(
                f"--attributes={name}: {path} has no such column{closest(name, columns)}; "
                f"it has {', '.join(columns)}"
            )
    names = tuple(dict.fromkeys(chosen)) or columns
    values = np.array(list(rows.values()), np.float32).reshape(len(rows), len(columns))
    values = values[:, [columns.index(name) for name in names]]
    labels = Labels(place, names, tuple(rows), values, table.notes)
    check_names(dict.fromkeys((*run.custom_attributes(), *names)), f"--labels={path}")
    known = _trained_attributes(run)
    for name in names:
        _check_name(name, path, known, run, restart)
    _check_counts(labels, path)
    return labels


def _trained_attributes(run: RunFolder) -> list[str]:
    """The attributes that the run's regressor was trained with; none without a regressor."""
    try:
        content = json.loads((run.stage("regressor").model / "config.json").read_text())
        names = content["arguments"]["attribute_names"]
        return names if isinstance(names, list) else []
    except (FileNotFoundError, KeyError, TypeError, ValueError):  # reported when it is loaded
        return []


def _check_name(name: str, path: str, known: Sequence[str], run: RunFolder, restart: bool) -> None:
    if name in known:
        raise UserError(
            f"--labels={path}: the regressor knows {name} already; leave it out (--attributes "
            "names the columns to add), or give it a direction by train_main.py "
            f"--stage=directions --restart --attributes={name},..."
        )
    if name in run.custom_attributes() and not restart:
        raise UserError(
            f"--labels={path}: {run.path} has a custom attribute {name} already; --restart moves "
            "the old one aside"
        )


def _check_counts(labels: Labels, path: str) -> None:
    count = len(labels.files)
    if count < MIN_LABELS:
        raise UserError(f"--labels={path}: {count} label(s); give at least {MIN_LABELS}")
    for name, column in zip(labels.names, labels.values.T, strict=True):
        positive = int(column.sum())
        few = min(positive, count - positive)
        if few < FOLDS:
            which = "with" if positive == few else "without"
            raise UserError(
                f"--labels={path}: {few} of {count} photos are {which} {name}; give at least "
                f"{FOLDS} of either class"
            )


def find_files(labels: Labels, files: Sequence[str], place: str, folder: Path | None) -> Labels:
    """The labels with each photo named as it exists; prints how, where names are not as written.

    Args:
        labels: the table.
        files: names of the existing photos.
        place: where they are, for the error.
        folder: that the names are relative to, see `match_names`.

    Raises:
        UserError: rows without a photo, or a photo with rows that differ.
    """
    rows = dict(zip(labels.files, map(tuple, labels.values.tolist()), strict=True))
    table = match_names(LabelTable(labels.path, labels.names, rows, labels.notes), files, folder)
    missing = sorted(set(table.rows) - set(files))
    if missing:
        raise UserError(
            f"--labels={labels.path}: {len(missing)} of its {len(table.rows)} files are not in "
            f"{place} (first: {missing[0]}); delete their rows, or name their folder with --image"
        )
    if table.notes:
        print(f"labels: {table.describe()}")
    values = np.array(list(table.rows.values()), np.float32)
    labels = labels._replace(files=tuple(table.rows), values=values, notes=table.notes)
    _check_counts(labels, str(labels.path))
    return labels


def find_folder(image: str) -> Path:
    """The folder of --image; UserError if it does not exist."""
    place = expand(image, "--image")
    if not place.is_dir():
        raise UserError(f"--image={image}: no such folder; give the folder of the photos")
    return place


def read_photos(
    labels: Labels, place: Path, resolution: int, aligned: bool
) -> tuple[Labels, np.ndarray]:
    """The labelled photos of a folder, uint8 `[N, R, R, 3]`, and their rows of the table.

    For a model that was trained on CelebA's aligned photos, the largest face of a photo is used,
    and a photo without a face is reported and left out.

    Args:
        labels: the table; its files are relative to the folder, and exist.
        place: the folder.
        resolution: R, of the model.
        aligned: see `portraits.portraits`.

    Raises:
        UserError: photos that cannot be read, or too few labels remain.
    """
    which = choose_face(None, aligned)

    def load(file: str) -> np.ndarray:
        return portraits(images.decode_file(place / file), resolution, aligned, which)[0].crop

    loaded = list(load_all(load, labels.files))
    faceless = np.array([isinstance(item, NoFaceError) for item in loaded])
    bad = [
        item for item in loaded if isinstance(item, UserError) and not isinstance(item, NoFaceError)
    ]
    if bad:
        raise UserError(
            f"--image={place}: {len(bad)} of the {len(loaded)} labelled photos cannot be read "
            f"(first: {bad[0]}); delete their rows"
        )
    if not faceless.any():
        return labels, np.stack(loaded)
    for index in np.flatnonzero(faceless):
        print(f"left out: {place / labels.files[index]}: no face found", file=sys.stderr)
    kept = np.flatnonzero(~faceless)
    labels = labels._replace(
        files=tuple(labels.files[index] for index in kept), values=labels.values[kept]
    )
    _check_counts(labels, f"{labels.path}, photos with a face")
    return labels, np.stack([loaded[index] for index in kept])
