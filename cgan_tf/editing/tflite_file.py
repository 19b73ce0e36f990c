"""Runs the signatures of a .tflite file of batch size 1."""

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from cgan_tf.core.errors import UserError
from cgan_tf.core.quiet import native_stderr_held


class TFLiteFile:
    """A loaded .tflite file, run by one thread.

    Args:
        path: of the file.
        content: its bytes; None reads them.

    Attributes:
        signatures: names of its signatures.

    Raises:
        UserError: it cannot be read, is damaged, or is not a TFLite model.
    """

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        if content is None:
            content = read_bytes(path)
        try:
            with native_stderr_held():  # the runtime logs the delegate that it creates
                self._interpreter = Interpreter(model_content=content)
                self._interpreter.allocate_tensors()
                self.signatures = tuple(self._interpreter.get_signature_list())
                self._runners = {
                    name: self._interpreter.get_signature_runner(name) for name in self.signatures
                }
        except Exception as error:  # RuntimeError or ValueError, depending on the damage
            raise UserError(
                f"{path}: damaged, or not a TFLite model ({first_line(error)})"
            ) from None

    def input_width(self, signature: str, name: str) -> int | None:
        """Size of an input's last dimension; None if the signature has no such input."""
        details = self._runners[signature].get_input_details().get(name)
        return None if details is None else int(details["shape"][-1])

    def run(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs of a signature for inputs with any number of rows, run one by one."""
        rows = []
        for index in range(len(next(iter(inputs.values())))):
            row = {name: np.float32(value[index : index + 1]) for name, value in inputs.items()}
            rows.append(self._runners[signature](**row))
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def read_bytes(path: Path) -> bytes:
    """The content of a file; a UserError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def first_line(error: Exception) -> str:
    """The first line of a library's message, cut to a length that fits one line."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:120]
