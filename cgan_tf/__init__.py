"""cgan_tf: from a folder of labelled photos to an attribute editor that runs on a phone.

The chain: gan -> regressor -> inversion -> directions -> evaluate -> export -> translate. The
command `cgan` runs it; in Python a finished editor is two lines:

    editor = cgan_tf.load_editor("runs/faces")
    editor.edit("me.jpg", Smiling=+1)

Wrong input raises `EditorError`. Importing this package imports nothing outside the
standard library; `load_editor` imports TensorFlow.
"""

import os
from typing import TYPE_CHECKING

from cgan_tf.core.version import __version__

if TYPE_CHECKING:
    from cgan_tf.editing.editor import Editor, load_editor
    from cgan_tf.editing.errors import EditorError

__all__ = ["Editor", "EditorError", "__version__", "load_editor"]

# TensorFlow reads these when it is first imported. Its start-up log is of no use to users.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def __getattr__(name: str) -> object:
    """The public names, imported on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cgan_tf.editing import editor, errors

    return getattr(errors if name == "EditorError" else editor, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
