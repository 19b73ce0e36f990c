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
    photos: list[Path],
    folder: Path | None,
    output: str,
    overwrite: bool,
    endings: Sequence[str],
) -> list[Path]:
    """One path per photo; writes nothing yet.

    The result of one photo goes to a file, or into a folder that exists or whose name ends with a
    slash. The results of a folder of photos always go into a folder, in sub-folders of the same
    names.

    Args:
        photos: to be edited.
        folder: that was searched for them; None for a single photo.
        output: value of --output.
        overwrite: whether results may replace files.
        endings: of the files that can be written, in lower case.

    Raises:
        UserError: a file is in the way, or the output cannot be written.
    """
    path = expand(output, "--output")
    is_folder = folder is not None
    if is_folder and path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
        raise UserError(
            f"--output={output}: --image is a folder, so give a folder here, not the name of an "
            "image"
        )
    if folder is not None:
        targets = [path / name for name in _tree_names(photos, folder, endings)]
    elif path.is_dir() or output.endswith(os.sep):
        targets = [path / name for name in unique_names([photo.name for photo in photos], endings)]
    else:
        if path.suffix.lower() not in endings:
            raise UserError(
                f"--output={output}: give a folder, or a name that ends in {' '.join(endings)}"
            )
        targets = [path]
    places = {target.parent for target in targets}
    for place in sorted(places):
        cli.require_writable(f"--output={output}", place)
    parents = {_key(str(parent)) for place in places for parent in (place, *place.parents)}
    for photo, target in zip(photos, targets, strict=True):
        if _key(str(target)) in parents:
            raise UserError(
                f"--image={folder}: the result of {photo} would be {target}, which is the name of "
                "a folder; rename one of them"
            )
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


def _tree_names(photos: list[Path], folder: Path, endings: Sequence[str]) -> list[Path]:
    """The outputs of photos in a tree of folders, relative to it; see `unique_names`."""
    groups: dict[str, list[int]] = {}
    parents = [photo.parent.relative_to(folder) for photo in photos]
    for index, parent in enumerate(parents):
        groups.setdefault(_key(str(parent)), []).append(index)
    names = [Path()] * len(photos)
    for group in groups.values():
        outputs = unique_names([photos[index].name for index in group], endings)
        for index, name in zip(group, outputs, strict=True):
            names[index] = parents[index] / name
    return names


def unique_names(photos: Sequence[str], endings: Sequence[str]) -> list[str]:
    """The name of the output of each photo; no two are equal, even without regard to case.

    `a.jpg` keeps its name if its ending can be written, and `a.gif` becomes `a.png`. If another
    photo is called `a.png`, or would become it, `a.gif` becomes `a.gif.png`. What is still taken
    gets a number: `A.jpg`, `a.2.jpg`.

    Args:
        photos: file names of one folder, or of folders that a file system may take for one.
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
