"""Files that are made of a tree of photos: their names, in a tree of the same names, and tables."""

import collections
import contextlib
import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cgan_tf.core.files import name_key, write_bytes
from cgan_tf.data.face_crop import FaceBox

PLACE_COLUMNS = ("x", "y", "side", "angle", "in_photo")  # of a face, see `place_columns`


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


def tree_names(photos: list[Path], folder: Path, endings: Sequence[str]) -> list[Path]:
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
        endings: of the files that can be written, in lower case.
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
