"""The names of the images that `cgan translate` writes."""

import collections
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from cgan_tf.core import cli
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand
from cgan_tf.data.source import IMAGE_SUFFIXES

TABLE = "translate.csv"  # next to the results of a folder


def plan_outputs(
    photos: list[Path], is_folder: bool, output: str, overwrite: bool, endings: Sequence[str]
) -> list[Path]:
    """One path per photo; writes nothing yet.

    The result of one photo goes to a file, or into a folder that exists or whose name ends with a
    slash. The results of a folder of photos always go into a folder.

    Args:
        photos: to be edited.
        is_folder: whether --image is a folder.
        output: value of --output.
        overwrite: whether files may be replaced.
        endings: of the files that can be written, in lower case.

    Raises:
        UserError: a file is in the way, or the output cannot be written.
    """
    path = expand(output, "--output")
    if is_folder and path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
        raise UserError(
            f"--output={output}: --image is a folder, so give a folder here, not the name of an "
            "image"
        )
    if is_folder or path.is_dir() or output.endswith(os.sep):
        targets = [path / name for name in unique_names([photo.name for photo in photos], endings)]
    else:
        if path.suffix.lower() not in endings:
            raise UserError(
                f"--output={output}: give a folder, or a name that ends in {' '.join(endings)}"
            )
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


def unique_names(photos: Sequence[str], endings: Sequence[str]) -> list[str]:
    """The name of the output of each photo; no two are equal, even without regard to case.

    `a.jpg` keeps its name if its ending can be written, and `a.gif` becomes `a.png`. If another
    photo is called `a.png`, or would become it, `a.gif` becomes `a.gif.png`. What is still taken
    gets a number: `A.jpg`, `a.2.jpg`.

    Args:
        photos: file names of one folder.
        endings: see `plan_outputs`.
    """
    wanted = [
        photo if Path(photo).suffix.lower() in endings else f"{Path(photo).stem}.png"
        for photo in photos
    ]
    claims = collections.Counter(map(_key, wanted))
    taken = set(claims)
    claimed: set[str] = set()  # by a photo that keeps its name
    numbers: dict[str, int] = {}  # the last number given to names of this key
    outputs = []
    for photo, name in zip(photos, wanted, strict=True):
        key = _key(name)
        if photo == name and key not in claimed:
            claimed.add(key)
        elif claims[key] > 1:
            base = Path(photo if photo == name else f"{photo}.png")
            name = base.name
            while _key(name) in taken:
                number = numbers[_key(base.name)] = numbers.get(_key(base.name), 1) + 1
                name = f"{base.stem}.{number}{base.suffix}"
        taken.add(_key(name))
        outputs.append(name)
    return outputs


def _key(name: str) -> str:
    """Equal for names that a file system may take for the same."""
    return unicodedata.normalize("NFC", name).casefold()
