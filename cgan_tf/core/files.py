"""Paths of flags, and atomic file operations: a file is written completely or not at all."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cgan_tf.core.errors import UserError

_LONGEST_SHOWN = 100  # letters of a path in an error
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NO_HOME = "the home folder that ~ stands for is unknown; give the complete path"


def name_key(name: str) -> str:
    """Equal for names that a file system may take for the same, by their accents or case."""
    return unicodedata.normalize("NFC", name).casefold()


def expand(path: str | os.PathLike[str], option: str) -> Path:
    """The path with the home folder for a leading ~.

    Args:
        path: value of a flag.
        option: the flag, for the error.

    Raises:
        UserError: no file can have this path, or no such home is known, as in a container without
            HOME and an account.
    """
    try:
        place = Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{option}={os.fspath(path)}: {NO_HOME}") from None
    if reason := impossible(place):
        given = os.fspath(path)
        given = given if len(given) < _LONGEST_SHOWN else f"{given[:_LONGEST_SHOWN]}..."
        raise UserError(f"{option}={given}: {reason}; give another path")
    return place


def impossible(path: Path) -> str:
    """Why no file can have this path, such as a name that is too long; "" if one can."""
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return os.strerror(error.errno)
    except ValueError:
        return "a path cannot contain a zero byte"
    return ""


def disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk is full, or a quota is used up.

    TensorFlow and HDF5 raise other exceptions, with the system's message.
    """
    return getattr(error, "errno", None) in _DISK_FULL or os.strerror(errno.ENOSPC) in str(error)


@contextlib.contextmanager
def names_full_disk(path: Path) -> Iterator[None]:
    """If the disk is full in the block, the error is an OSError that names `path`.

    The system gives no path for a write, and a temporary one would tell the user nothing. An error
    that names a path elsewhere keeps it.
    """
    try:
        yield
    except Exception as error:
        where = getattr(error, "filename", None)
        if not disk_full(error) or (where and path.parent not in Path(where).parents):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path)) from error


def remove_leftovers(folder: Path) -> None:
    """Deletes what `replacing` and `artifact.save_model` left in a folder tree when killed.

    Args:
        folder: nobody else may write to it now.
    """
    for leftover in [*folder.rglob(".*.tmp"), *folder.rglob(".*.stale")]:
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file that replaces `path` when the block ends without an error.

    After an error `path` is unchanged.

    Raises:
        UserError: `path` is a device or a pipe, such as /dev/null, which would be lost.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path} is no ordinary file; choose another name")
    temporary = path.with_name(f".{path.name}.tmp")
    with names_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):  # the block's own error is the one to report
                temporary.unlink()
        sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces the content of `path`, or leaves the file unchanged on an error."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """`write_bytes` of indented JSON; NaN raises a ValueError, since JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def sync_folder(path: Path) -> None:
    """Makes the renames in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if sys.version_info >= (3, 11)
            else hashlib.sha256(file.read()).hexdigest()
        )


def backup_path(path: Path) -> Path:
    """The first free name of `NAME.old-001`, `NAME.old-002`, ... in the folder of `path`."""
    number = 1
    while (target := path.with_name(f"{path.name}.old-{number:03d}")).exists():
        number += 1
    return target


def move_aside(path: Path) -> Path:
    """Renames `path` to its `backup_path`, which is returned."""
    target = backup_path(path)
    os.replace(path, target)
    return target
