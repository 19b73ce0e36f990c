"""Labels from sub-folders, one per class, for a folder of images without a table."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import name_key
from cgan_tf.data.attribute_names import check_names

LARGEST = 40  # classes; more sub-folders are persons, dates or parts of a large data set
_SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
_ANSWERS = {"yes", "no", "true", "false", "positive", "negative"}
_ABSENT = re.compile(r"(?:not|non|no)[ _-]+(.+)", re.IGNORECASE)


class Classes(NamedTuple):
    """What the sub-folders say; without names they are no classes."""

    names: tuple[str, ...]  # K
    labels: np.ndarray  # float32 [N, K] in {0, 1}
    note: str  # how they were read; "" if there is nothing to say


def read_classes(files: Sequence[str], data_dir: str) -> Classes:
    """An attribute for each of several sub-folders: 1 for its images, 0 for those of the others.

    Two sub-folders NAME and not_NAME (or no_NAME) are one attribute, NAME. A single sub-folder is
    no class, nor are those of a split, those whose names are numbers, or more than `LARGEST`.

    Args:
        files: the N images, relative to the folder, with / as the separator.
        data_dir: value of the flag, for errors.

    Raises:
        UserError: images beside the sub-folders; a pair of NAME and not_NAME among others; names
            such as yes and no, or that no attribute can have.
    """
    tops = [file.partition("/")[0] if "/" in file else "" for file in files]
    folders = sorted(set(tops) - {""})
    reason = _why_no_classes(folders)
    if reason is not None:
        return Classes((), np.zeros((len(files), 0), np.float32), reason)
    without = "for images without labels move all of them into a single sub-folder"
    if "" in tops:
        raise UserError(
            f"--data_dir={data_dir}: {files[tops.index('')]} is beside the sub-folders "
            f"{_listed(folders)}, so its class is not known; move it into one of them, or {without}"
        )
    if _ANSWERS.issuperset(name.lower() for name in folders):
        raise UserError(
            f"--data_dir={data_dir}: the sub-folders {_listed(folders)} do not name an attribute; "
            f"call them NAME and not_NAME, or {without}"
        )
    pairs = _pairs(folders)
    if pairs and len(folders) > 2:
        present, absent = pairs[0]
        raise UserError(
            f"--data_dir={data_dir}: the sub-folders {present} and {absent} do not say whether "
            f"the images of the others are {present}; add labels.csv, or {without}"
        )
    check_names(folders, f"--data_dir={data_dir}: its sub-folders name the attributes; {without}")
    chosen = [pairs[0][0]] if pairs else folders
    names = tuple(unicodedata.normalize("NFC", name) for name in chosen)
    labels = np.array([[top == name for name in chosen] for top in tops], np.float32)
    if pairs:
        note = f"the attribute is {names[0]}: 1 in sub-folder {chosen[0]}, 0 in {pairs[0][1]}"
    else:
        note = (
            f"each of {len(names)} sub-folders is an attribute ({_listed(names)}): 1 for its "
            "images, 0 for those of the others"
        )
    return Classes(names, labels, note)


def _why_no_classes(folders: list[str]) -> str | None:
    """Why sub-folders are no classes; None if they are, and "" if there are not several."""
    if len(folders) < 2:
        return ""
    if split := [name for name in folders if name.lower() in _SPLITS]:
        return f"sub-folder {split[0]} is part of a split, no class"
    if all(not any(letter.isalpha() for letter in name) for name in folders):
        return f"sub-folders such as {folders[0]} are numbered, no classes"
    if len(folders) > LARGEST:
        return f"{len(folders):,} sub-folders are more than {LARGEST}, no classes"
    return None


def _pairs(folders: list[str]) -> list[tuple[str, str]]:
    """The pairs of NAME and not_NAME."""
    known = {name_key(name): name for name in folders}
    found = [(name, _ABSENT.fullmatch(name)) for name in folders]
    return [
        (known[name_key(match[1])], name)
        for name, match in found
        if match and name_key(match[1]) in known
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
