"""Programs that some tests need: where they are, or why a test is skipped."""

import os
import shutil

import pytest


def find(*names: str) -> str:
    """The path of the first of these programs that is installed.

    Without any the test is skipped with the reason; in continuous integration, where the
    environment variable CI is "true", it fails, so that nothing is skipped there unseen.
    """
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    reason = f"needs {' or '.join(names)}, which is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
