"""Hides the start-up messages of native libraries.

TensorFlow, its TFLite converter and LiteRT write to file descriptor 2 from C++, some of it before
they read any log level, so neither Python's logging nor TF_CPP_MIN_LOG_LEVEL stops them. The
commands import TensorFlow, and the exporter converts, inside `native_stderr_held`.
"""

import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from cgan_tf.core.errors import UserError


@contextlib.contextmanager
def native_stderr_held() -> Iterator[None]:
    """Holds back the output to file descriptor 2 during the block; shows it if the block fails.

    `sys.stderr` still reaches the user, so Python's own messages are not lost.
    """
    try:
        kept = os.dup(2)
    except OSError:  # a process without stderr
        yield
        return
    python_stderr = sys.stderr
    with tempfile.TemporaryFile() as held, open(kept, "w", buffering=1) as kept_file:
        try:
            with contextlib.suppress(AttributeError, OSError, ValueError, io.UnsupportedOperation):
                python_stderr.flush()
                if python_stderr.fileno() == 2:
                    sys.stderr = kept_file
            os.dup2(held.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(kept, 2)
                if sys.stderr is kept_file:
                    sys.stderr = python_stderr
        except (UserError, KeyboardInterrupt):  # the log would explain nothing
            raise
        except BaseException:
            held.seek(0)
            shutil.copyfileobj(held, kept_file.buffer)
            raise


def import_tensorflow(configure: Callable[[], Any] | None = None) -> Any:
    """Imports TensorFlow and initializes its devices, without their start-up messages.

    TensorFlow then takes a GPU's memory as it needs it, not all of it at once, unless the user has
    set TF_FORCE_GPU_ALLOW_GROWTH.

    Args:
        configure: called before TensorFlow's runtime starts.

    Returns:
        The result of `configure`.
    """
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    with native_stderr_held():
        import tensorflow as tf

        result = configure() if configure else None
        tf.constant(0.0)  # the devices are initialized with the first tensor
    return result
