"""A folder is put in the place of another completely or not at all, by one process at a time.

The new content of NAME is built beside it:

    .NAME.tmp/lock    locked while a process builds, so that the leftovers of one that was killed
                      can be told from the work of a living one
    .NAME.tmp/new     becomes NAME
    .NAME.tmp/old     what NAME was, until the new one is in its place
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import disk_full, names_full_disk, open_locked, sync_folder

_LOCK, _NEW, _OLD = "lock", "new", "old"
_PREFIX, _SUFFIX = ".", ".tmp"  # also of the temporary files of `files.replacing`
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


@contextlib.contextmanager
def building(folder: Path, what: str) -> Iterator[Path]:
    """An empty temporary folder beside `folder`, which is deleted after the block.

    Args:
        folder: only one process at a time can build its content.
        what: the start of a message about `folder`: the flag and its value.

    Raises:
        UserError: another process is building the same folder, or it cannot be written to.
    """
    temporary = folder.with_name(f"{_PREFIX}{folder.name}{_SUFFIX}")
    with names_full_disk(folder):
        try:
            lock = _lock(temporary)
        except BlockingIOError:
            reason = "another process is writing to it; wait for it, or choose another folder"
            raise UserError(f"{what}: {reason}") from None
        except OSError as error:
            if disk_full(error):
                raise
            raise UserError(f"{what}: {error.strerror}; choose another folder") from None
        with lock:
            try:
                _clear(temporary)  # of a process that was killed
                (temporary / _NEW).mkdir()
                yield temporary / _NEW
            finally:
                _remove(temporary)


@contextlib.contextmanager
def replacing_folder(folder: Path, what: str, overwrite: bool = False) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` when the block ends without an error.

    After an error, or when the process is killed, `folder` is what it was. If the process is killed
    between the two renames of `overwrite`, that is so after the next `replacing_folder` or
    `remove_leftovers`.

    Args:
        folder: its parents are created.
        what: the start of a message about `folder`: the flag and its value.
        overwrite: whether `folder` may have content when the block ends, which is then deleted.

    Raises:
        UserError: as `building`, or `folder` has content and `overwrite` is False.
    """
    if folder.is_mount():
        raise UserError(f"{what}: is a mount point; choose a folder in it")
    with building(folder, what) as new:
        yield new
        sync_folder(new)
        if overwrite and folder.exists():
            os.replace(folder, new.with_name(_OLD))
        try:
            os.replace(new, folder)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            reason = "something else has been written there meanwhile; choose another folder"
            raise UserError(f"{what}: {reason}") from None
        sync_folder(folder.parent)


def remove_leftovers(folder: Path) -> None:
    """Deletes what processes that were killed have left in a folder tree.

    That is what `building`, `replacing_folder` and `files.replacing` were writing. A folder that
    was about to be replaced is put back in its place. What a living process writes stays.
    """
    for parent, folders, files in os.walk(folder):
        leftovers = [name for name in folders + files if _is_temporary(Path(parent, name))]
        folders[:] = [name for name in folders if name not in leftovers]
        for leftover in (Path(parent, name) for name in leftovers):
            with contextlib.suppress(OSError):  # of a living process, or without permission
                if leftover.is_dir():
                    with _lock(leftover):
                        _remove(leftover)
                else:
                    with open_locked(leftover):
                        leftover.unlink()


def _is_temporary(path: Path) -> bool:
    named = path.name.startswith(_PREFIX) and path.name.endswith(_SUFFIX)
    return named and not path.is_symlink()  # nothing here makes links


def _lock(temporary: Path) -> BinaryIO:
    """Creates a temporary folder if it does not exist, and locks it.

    Raises:
        BlockingIOError: another process has the lock.
        OSError: the folder cannot be made or written to.
    """
    if temporary.is_symlink():  # not ours, and where it leads nothing may be deleted
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(temporary))
    while True:
        temporary.mkdir(parents=True, exist_ok=True)
        # Another process that has finished may delete the folder now.
        with contextlib.suppress(FileNotFoundError):
            return open_locked(temporary / _LOCK)


def _clear(temporary: Path) -> None:
    """Deletes all but the lock; the old folder is put back if nothing has taken its place."""
    old = temporary / _OLD
    folder = temporary.with_name(temporary.name.removeprefix(_PREFIX).removesuffix(_SUFFIX))
    if old.exists() and not os.path.lexists(folder):
        os.replace(old, folder)
    for entry in temporary.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != _LOCK:
            entry.unlink()


def _remove(temporary: Path) -> None:
    """Deletes a temporary folder, whose lock this process has."""
    with contextlib.suppress(OSError):  # the block's own error is the one to report
        _clear(temporary)
        # The lock comes last: from now on another process can build here. Then it stays.
        (temporary / _LOCK).unlink()
        temporary.rmdir()
