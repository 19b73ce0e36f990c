"""Named models: finished editors that --model and `load_editor` find by a name.

A named model is a folder NAME/ that `cgan export --install=NAME` makes of a run:

    model.tflite    the translator
    scores.tflite   the attribute regressor: the signature `attributes`
    face.png        an example photo
    model.json      the description of the editor, how it was made, its quality, and its files

Those that ship are in `SHIPPED`, the user's in `user_folder`. Nothing here imports TensorFlow, so
that `cgan models` answers at once.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cgan_tf.core import cli
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash
from cgan_tf.editing.description import DESCRIPTION_NAME, facts, read_description

SHIPPED = Path(__file__).parents[1] / "shipped"
MODEL, SCORES, FACE = "model.tflite", "scores.tflite", "face.png"
FILES = (MODEL, SCORES, FACE)  # which model.json describes
REMEDY = "install it again with cgan export --install=NAME --overwrite"
NO_DATA_HOME = "the home folder is unknown; set XDG_DATA_HOME"


@dataclasses.dataclass(frozen=True)
class NamedModel:
    """A named model whose files are complete.

    Attributes:
        path: its folder.
        description: content of model.json.
        files: by name, {"bytes": size, "sha256": hash}, as model.json states them.
    """

    path: Path
    description: dict[str, Any]
    files: Mapping[str, Mapping[str, Any]]

    @property
    def bytes(self) -> int:
        """Size of all files but model.json."""
        return sum(entry["bytes"] for entry in self.files.values())

    def changed_files(self) -> list[str]:
        """Names of the files whose SHA-256 is not that of model.json."""
        return [
            name for name, entry in self.files.items() if _hash(self.path / name) != entry["sha256"]
        ]

    def check_hashes(self) -> None:
        """Raises a UserError if a file is not the one that model.json describes."""
        for name in self.changed_files():
            raise UserError(
                f"{self.path / name}: not the file that model.json describes (its SHA-256 "
                f"differs); {REMEDY}"
            )


# ---- folders and names -------------------------------------------------------------------------


def user_folder() -> Path | None:
    """The folder of the user's named models, which need not exist; None if no home is known.

    It is $XDG_DATA_HOME/cgan_tf/models. As XDG demands, a relative $XDG_DATA_HOME is ignored.
    """
    given = os.environ.get("XDG_DATA_HOME", "")
    try:
        data = Path(given) if os.path.isabs(given) else Path("~/.local/share").expanduser()
    except RuntimeError:
        return None
    return data / "cgan_tf" / "models"


def folders() -> list[Path]:
    """The folders of named models, in the order in which they are searched."""
    own = user_folder()
    return [SHIPPED] if own is None else [own, SHIPPED]


def is_name(text: str) -> bool:
    """Whether it may be the name of a model: letters, digits, _ and -."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", text) is not None


def all_models() -> dict[Path, list[Path]]:
    """The folders of all named models, damaged ones too, by the folder that they are in."""
    found = {}
    for folder in folders():
        entries = folder.iterdir() if folder.is_dir() else ()
        found[folder] = sorted(path for path in entries if is_name(path.name) and path.is_dir())
    return found


def locate(name: str) -> list[Path]:
    """The folders of the models of this name; the first is the one to use."""
    places = [folder / name for folder in folders()] if is_name(name) else []
    return [path for path in places if path.is_dir()]


def folder_of(model: Path) -> Path | None:
    """The folder of the named model that a value of --model stands for; None if it is none.

    A path that exists is taken as a path, and a bare name is looked up.
    """
    if model.exists():
        return model if (model / MODEL).is_file() and (model / SCORES).is_file() else None
    return next(iter(locate(str(model))), None)


def note(model: str | os.PathLike[str]) -> str:
    """A line for the user if two models have this name; else an empty string."""
    places = [] if Path(model).exists() else locate(str(model))
    if len(places) < 2:
        return ""
    return f"{model}: your own model of this name, {places[0]}, is used instead of the shipped one"


def others(name: str) -> str:
    """The end of a message about a name that no model has: the closest one, and all."""
    names = sorted({path.name for paths in all_models().values() for path in paths})
    listed = f"the named models are {', '.join(names)}" if names else "there are no named models"
    unknown = "" if user_folder() else f"; yours are unknown, since {NO_DATA_HOME}"
    return f"{cli.closest(name, names)}; {listed}{unknown}"


def plan_target(name: str, folder: Path | None, overwrite: bool) -> Path:
    """The folder of a model to install; writes nothing yet.

    Args:
        name: value of --install.
        folder: value of --install_dir; None for the user's folder.
        overwrite: whether an existing model may be moved aside.

    Raises:
        UserError: not a name, no folder is known or writable, or the name is taken.
    """
    if not is_name(name):
        raise UserError(f"--install={name}: give a name of letters, digits, _ and -")
    folder = folder or user_folder()
    if folder is None:
        raise UserError(f"--install={name}: {NO_DATA_HOME}, or give --install_dir=DIR")
    cli.require_writable(f"--install={name}", folder)
    target = folder / name
    if os.path.lexists(target) and not overwrite:
        raise UserError(
            f"--install={name}: {target} exists; choose another name, or add --overwrite, which "
            "moves the old one aside"
        )
    return target


# ---- content -----------------------------------------------------------------------------------


def read(folder: Path) -> NamedModel:
    """The named model in a folder. Compares the sizes of its files, not yet their hashes.

    Raises:
        UserError: model.json is missing or damaged, or another file is missing or has another size.
    """
    path = folder / DESCRIPTION_NAME
    description = read_description(path, folder)
    facts(description, folder)
    try:
        files = {name: description["files"][name] for name in FILES}
        sizes = {name: entry["bytes"] for name, entry in files.items()}
        texts = [*description["scores"], *(entry["sha256"] for entry in files.values())]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("names and hashes are texts")
        if not all(isinstance(size, int) for size in sizes.values()):
            raise ValueError("sizes are whole numbers")
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: damaged; {REMEDY}") from None
    for name, size in sizes.items():
        _check_size(folder / name, size)
    return NamedModel(folder, description, files)


def _check_size(path: Path, expected: int) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {REMEDY}") from None
    if size != expected:
        raise UserError(f"{path}: has {size:,} bytes instead of {expected:,}; {REMEDY}")


def _hash(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {REMEDY}") from None
