"""The names of the images that `cgan translate` writes."""

import collections
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from cgan_tf.core import cli
from cgan_tf.core.errors import UserError
from cgan_tf.data.source import IMAGE_SUFFIXES

TABLE = "translate.csv"  # next to the results of a folder


def plan_outputs(photos: list[Path], is_folder: bool, output: str, overwrite: bool) -> list[Path]:
    """One PNG path per photo; writes nothing yet.

    The result of one photo goes to a file, or into a folder that exists or whose name ends with a
    slash. The results of a folder of photos always go into a folder.

    Raises:
        UserError: a file is in the way, or the output cannot be written.
    """
    path = Path(output).expanduser()
    if is_folder and path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
        raise UserError(
            f"--output={output}: --image is a folder, so give a folder here, not the name of an "
            "image"
        )
    if is_folder or path.is_dir() or output.endswith(os.sep):
        targets = [path / name for name in unique_names([photo.name for photo in photos])]
    else:
        if path.suffix.lower() != ".png":
            raise UserError(f"--output={output}: give a name that ends in .png, or a folder")
        targets = [path]
    cli.require_writable(f"--output={output}", targets[0].parent)
    taken = [target for target in targets if target.exists()]
    originals = {photo.resolve(): photo for photo in photos} if taken else {}
    for target in taken:
        if target.is_dir():
            raise UserError(f"--output={output}: {target} is a folder; choose another name")
        if target.resolve() in originals:
            what = "one of the photos" if is_folder else "the photo itself"
            raise UserError(f"--output={output}: {target} is {what}; choose another name")
        if not overwrite:
            raise UserError(f"--output={output}: {target} exists; --overwrite replaces it")
    if is_folder and (path / TABLE).exists() and not overwrite:
        raise UserError(f"--output={output}: {path / TABLE} exists; --overwrite replaces it")
    return targets


def unique_names(photos: Sequence[str]) -> list[str]:
    """The name of the output of each photo; no two are equal, even without regard to case.

    `a.jpg` becomes `a.png`. If another photo is called `a` with any suffix, or exactly `a`, it
    becomes `a.jpg.png`. Photos whose complete names differ only in case are numbered from the
    second on: `A.jpg.png`, `a.jpg.2.png`.

    Args:
        photos: file names of one folder.
    """
    stems = collections.Counter(_key(Path(photo).stem) for photo in photos)
    names = collections.Counter(_key(photo) for photo in photos)
    taken = {*stems, *names}
    numbers: dict[str, int] = {}  # the last number given to photos of this name
    outputs = []
    for photo in photos:
        stem, name = _key(Path(photo).stem), _key(photo)
        if stems[stem] == 1 and stem not in names:
            outputs.append(f"{Path(photo).stem}.png")
            continue
        number = numbers.get(name, 0) + 1
        if number > 1:
            while f"{name}.{number}" in taken:
                number += 1
            taken.add(f"{name}.{number}")
        numbers[name] = number
        outputs.append(f"{photo}.png" if number == 1 else f"{photo}.{number}.png")
    return outputs


def _key(name: str) -> str:
    """Equal for names that a file system may take for the same."""
    return unicodedata.normalize("NFC", name).casefold()
