"""Folders that all processes of one test run share; each is made once, by the first that asks."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

VARIABLE = "CGAN_TF_TESTS"  # the environment variable with the path of all such folders


def start() -> tempfile.TemporaryDirectory:
    """The place of the folders of this process and of those that it starts from now on."""
    place = tempfile.TemporaryDirectory(prefix="cgan_tf_tests_")
    os.environ[VARIABLE] = place.name
    return place


def folder(name: str, make: Callable[[Path], object]) -> Path:
    """The folder of this name, which `make` fills; tests must not write to it.

    Meanwhile other processes that ask for it wait.
    """
    if VARIABLE not in os.environ:  # without pytest
        _kept.append(start())
    path = Path(os.environ[VARIABLE]) / name
    done = path.with_suffix(".done")
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(path, ignore_errors=True)  # of a process in which `make` failed
            path.mkdir()
            make(path)
            done.touch()
    return path


_kept: list[tempfile.TemporaryDirectory] = []
