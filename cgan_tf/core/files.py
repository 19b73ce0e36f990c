"""Paths of flags, and atomic file operations: a file is written completely or not at all."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cgan_tf.core.errors import UserError

_LONGEST_SHOWN = 100  # letters of a path in an error
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a file system
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


def open_locked(path: Path, wait: bool = False) -> BinaryIO:
    """Opens a file for writing, with a lock that lasts until it is closed or the process ends.

    Its content is kept, and it is created if it does not exist. On a file system without locks it
    is not locked.

    Args:
        path: the file.
        wait: whether to wait while another process has the lock.

    Raises:
        BlockingIOError: another process has the lock.
        OSError: the file cannot be opened.
    """
    operation = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)
    while True:
        file = open(path, "wb", opener=_open_kept)  # noqa: SIM115 - the caller closes it
        try:
            _lock(file, operation)
            # Whoever had the lock before may have moved or deleted the file.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()


def _open_kept(path: str, flags: int) -> int:
    """Opens a file without erasing what another process may be writing to it."""
    return os.open(path, flags & ~os.O_TRUNC, 0o666)


def _lock(file: BinaryIO, operation: int) -> None:
    try:
        fcntl.flock(file, operation)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


@contextlib.contextmanager
def replacing(path: Path, wait: bool = False) -> Iterator[BinaryIO]:
    """Opens a temporary file that replaces `path` when the block ends without an error.

    After an error `path` is unchanged.

    Args:
        path: the file.
        wait: whether to wait while another process is writing to `path`.

    Raises:
        UserError: another process is writing to `path`, or it is a device or a pipe, such as
            /dev/null, which would be lost.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path} is no ordinary file; choose another name")
    temporary = path.with_name(f".{path.name}.tmp")
    with names_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            locked = open_locked(temporary, wait)
        except BlockingIOError:
            reason = "another process is writing to it; wait for it, or choose another name"
            raise UserError(f"{path}: {reason}") from None
        with locked as file:
            try:
                file.truncate()  # of a process that was killed
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):  # the block's own error is the one to report
                    temporary.unlink()
                raise
        sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces the content of `path`, or leaves the file unchanged on an error.

    Waits for another process that is writing to it.
    """
    with replacing(path, wait=True) as file:
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
