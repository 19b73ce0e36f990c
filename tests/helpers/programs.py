"""Finds the programs that some tests need, or skips the test."""

import os
import shutil

import pytest


def find(*names: str) -> str:
    """The path of the first of these programs that is installed.

    If none is, the test is skipped with the reason. In continuous integration, where the
    environment variable CI is "true", it fails instead, so that nothing is skipped unnoticed.
    """
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    reason = f"needs {' or '.join(names)}, which is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
