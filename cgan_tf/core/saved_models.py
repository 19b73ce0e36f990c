"""Folders of SavedModels in TensorFlow Serving's layout: one numbered folder per version."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

GRAPH_NAME = "saved_model.pb"  # the file that makes a folder a SavedModel
_MAX_DIGITS = 18  # a version is an int64


@contextlib.contextmanager
def without_wildcards(folder: Path) -> Iterator[str]:
    """A path of an existing folder that TensorFlow can read and write SavedModels at.

    It takes the path for a pattern, so it finds no variables in `faces [take 2]/`; such a folder
    gets a temporary link.
    """
    if not set(str(folder)) & set("*?[]\\"):
        yield str(folder)
        return
    with tempfile.TemporaryDirectory(prefix="cgan_tf-") as temporary:
        link = Path(temporary) / "model"
        link.symlink_to(folder.resolve(), target_is_directory=True)
        yield str(link)


def numbered_versions(folder: Path) -> dict[int, Path]:
    """The version folders (1/, 2/, ...) in a folder by number, complete or not."""
    if not folder.is_dir():
        return {}
    return {int(entry.name): entry for entry in sorted(folder.iterdir()) if is_version(entry.name)}


def is_version(name: str) -> bool:
    """Whether a folder's name is a version number."""
    return name.isascii() and name.isdigit() and len(name) <= _MAX_DIGITS
