"""Where the images go that `cgan translate` and `cgan align` write, and what is in their way."""

import os
from collections.abc import Sequence
from pathlib import Path

from cgan_tf.core import cli
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand, name_key
from cgan_tf.data.portraits import TRANSLATE_TABLE as TABLE
from cgan_tf.data.result_files import tree_names, unique_names
from cgan_tf.data.source import IMAGE_SUFFIXES


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
        targets = [path / name for name in tree_names(photos, folder, endings)]
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
