"""Errors of the editor, as the commands report them: with the flag at fault."""

import contextlib
from collections.abc import Iterator

from cgan_tf.core.errors import UserError
from cgan_tf.editing.errors import EditorError

# The flag of each argument of `Editor`.
FLAGS = {
    "model": "model",
    "photo": "image",
    "face": "face",
    "strengths": "edit",
    "target": "set",
}


@contextlib.contextmanager
def flag_errors() -> Iterator[None]:
    """Turns an `EditorError` into a `UserError` that names the flag and its value."""
    try:
        yield
    except EditorError as error:
        flag = f"--{FLAGS[error.argument]}"
        value = f"={error.value}" if error.value else ""
        raise UserError(f"{flag}{value}: {error.reason}") from None
