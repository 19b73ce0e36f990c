"""The names of the images that `cgan translate` and `cgan align` write, and their tables."""

import collections
import contextlib
import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cgan_tf.core import cli
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand, name_key, write_bytes
from cgan_tf.data.face_crop import FaceBox
from cgan_tf.data.portraits import TRANSLATE_TABLE as TABLE
from cgan_tf.data.source import IMAGE_SUFFIXES

PLACE_COLUMNS = ("x", "y", "side", "angle", "in_photo")  # of a face, see `place_columns`


def plan_outputs(
    photos: list[Path],
    folder: Path | None,
    output: str,
    overwrite: bool,
    endings: Sequence[str],
    beside: Sequence[str] = (TABLE,),
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
        beside: names of the files that are written next to the results of a folder.

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
    parents = {name_key(str(parent)) for place in places for parent in (place, *place.parents)}
    for photo, target in zip(photos, targets, strict=True):
        if name_key(str(target)) in parents:
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
    for other in (path / name for name in beside if is_folder):
        if other.is_dir():
            raise UserError(f"--output={output}: {other} is a folder; choose another folder")
        if other.exists() and not overwrite:
            raise UserError(f"--output={output}: {other} exists; --overwrite replaces it")
    return targets


def further_target(target: Path, number: int, taken: set[str]) -> Path:
    """The path of a photo's second or later result: `a.2.png` for the second of `a.png`.

    Args:
        target: of the first result.
        number: of this one; a larger one is used if a path is taken.
        taken: `path_key` of all other results; the new path is added.
    """
    while True:
        path = target.with_name(f"{target.stem}.{number}{target.suffix}")
        if path_key(path) not in taken:
            taken.add(path_key(path))
            return path
        number += 1


def path_key(path: Path) -> str:
    """Equal for paths that a file system may take for the same."""
    return name_key(str(path))


def _tree_names(photos: list[Path], folder: Path, endings: Sequence[str]) -> list[Path]:
    """The outputs of photos in a tree of folders, relative to it; see `unique_names`."""
    groups: dict[str, list[int]] = {}
    parents = [photo.parent.relative_to(folder) for photo in photos]
    for index, parent in enumerate(parents):
        groups.setdefault(name_key(str(parent)), []).append(index)
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
    claims = collections.Counter(map(name_key, wanted))
    taken = set(claims)
    claimed: set[str] = set()  # by a photo that keeps its name
    numbers: dict[str, int] = {}  # the last number given to names of this key
    outputs = []
    for photo, name in zip(photos, wanted, strict=True):
        key = name_key(name)
        if photo == name and key not in claimed:
            claimed.add(key)
        elif claims[key] > 1:
            base = Path(photo if photo == name else f"{photo}.png")
            name = base.name
            while name_key(name) in taken:
                number = numbers[name_key(base.name)] = numbers.get(name_key(base.name), 1) + 1
                name = f"{base.stem}.{number}{base.suffix}"
        taken.add(name_key(name))
        outputs.append(name)
    return outputs


# ---- tables ------------------------------------------------------------------------------------


def place_columns(face: FaceBox, height: int, width: int) -> dict[str, str]:
    """The columns that say where a face is in a photo of this size, in px and degrees."""
    values = [f"{value:.1f}" for value in (face.x, face.y, face.side, face.angle)]
    values.append(f"{face.inside(height, width):.3f}")
    return dict(zip(PLACE_COLUMNS, values, strict=True))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Writes a CSV file, atomically; cells that a row lacks are empty."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    # File names need not be UTF-8; their bytes are written as they are.
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


@contextlib.contextmanager
def finally_written(write: Callable[[], object]) -> Iterator[None]:
    """Calls `write` when the block ends, also after Ctrl-C or an error, which it does not hide."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            write()
        raise
    write()


def count_of(number: int, word: str) -> str:
    """`1 face`, `2 faces`."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
