"""Folders of SavedModels in TensorFlow Serving's layout: one numbered folder per version."""

from pathlib import Path

GRAPH_NAME = "saved_model.pb"  # the file that makes a folder a SavedModel
_MAX_DIGITS = 18  # a version is an int64


def numbered_versions(folder: Path) -> dict[int, Path]:
    """The version folders (1/, 2/, ...) in a folder by number, complete or not."""
    if not folder.is_dir():
        return {}
    return {int(entry.name): entry for entry in sorted(folder.iterdir()) if is_version(entry.name)}


def is_version(name: str) -> bool:
    """Whether a folder's name is a version number."""
    return name.isascii() and name.isdigit() and len(name) <= _MAX_DIGITS
