"""Runs the signatures of a .tflite file, after a check that it may be loaded.

LiteRT trusts a file's offsets. Of 500 damaged files one killed the process, 24 failed when they
ran, and 225 ran: with other weights, where those were damaged. So `cgan export` ends its files with
a checksum (readers of the format ignore what follows it). A file without one, of an earlier version
or cut, is first tried in a process that may crash.
"""

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, SignatureRunner

from cgan_tf.core.errors import UserError, first_line
from cgan_tf.core.quiet import native_stderr_held

REMEDY = "export it with cgan export"  # end of the messages about damaged or outdated exports
IDENTIFIER = b"TFL3"  # in bytes 4 to 8
_MARK = b"cgan_tf sha-256\0"
_LENGTH = len(_MARK) + hashlib.sha256().digest_size
_TRIAL_S = 60  # after which a trial ends


class TFLiteFile:
    """A loaded .tflite file, run by one thread.

    Args:
        path: of the file.
        content: its bytes; None reads them.

    Attributes:
        signatures: names of its signatures.
        inputs: shapes of their inputs, by signature and name; batches of 1.
        outputs: shapes of their outputs.

    Raises:
        UserError: it cannot be read, is damaged, or is not a TFLite model.
    """

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        if content is None:
            content = read_bytes(path)
        check(path, content)
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

        self.inputs, self.outputs = (
            {
                (name, key): tuple(map(int, details["shape"]))
                for name, runner in self._runners.items()
                for key, details in get(runner).items()
            }
            for get in (SignatureRunner.get_input_details, SignatureRunner.get_output_details)
        )

    def run(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs of a signature for inputs with any number of rows, run one by one."""
        rows = []
        for index in range(len(next(iter(inputs.values())))):
            row = {name: np.float32(value[index : index + 1]) for name, value in inputs.items()}
            rows.append(self._runners[signature](**row))
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def sealed(content: bytes) -> bytes:
    """The file with its checksum at the end."""
    return content + _MARK + hashlib.sha256(content).digest()


def check(path: Path, content: bytes) -> None:
    """Checks a file before the runtime of this process loads it.

    Args:
        path: for the error.
        content: of the file.

    Raises:
        UserError: the file is not what was exported, or its trial fails.
    """
    if not has_checksum(path, content):
        _try(path, content)


def has_checksum(path: Path, content: bytes) -> bool:
    """Whether a file ends with a checksum, which then fits.

    Args:
        path: for the error.
        content: of the file.

    Raises:
        UserError: the file is no TFLite model, or not what was exported.
    """
    if content[4:8] != IDENTIFIER:
        raise UserError(f"{path}: damaged, or not a TFLite model (no {IDENTIFIER.decode()})")
    if not content[-_LENGTH:].startswith(_MARK):
        return False
    if sealed(content[:-_LENGTH]) != content:
        raise UserError(f"{path}: damaged (its checksum does not fit); {REMEDY}")
    return True


def _try(path: Path, content: bytes) -> None:
    """Runs every signature of a file in another process; UserError if that process fails."""
    root = str(Path(__file__).resolve().parents[2])  # the folder that contains cgan_tf
    # With -c Python would also import modules from the current folder, which may be anybody's.
    paths = f"import sys; sys.path[:] = [*filter(None, sys.path), {root!r}]"
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"{paths}; from {__name__} import run_trial; run_trial()"],
            input=content,
            capture_output=True,
            timeout=_TRIAL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        reason = f"it did not answer within {_TRIAL_S} s"
    else:
        if not done.returncode:
            return
        lines = done.stdout.decode(errors="replace").split("\n")
        reason = lines[0][:120] or "the runtime failed"
        if done.returncode < 0:
            reason = f"the runtime crashed: {signal.Signals(-done.returncode).name}"
    raise UserError(f"{path}: damaged, or not a TFLite model ({reason}); {REMEDY}")


def run_trial() -> None:
    """Runs every signature of the file in stdin on zeros; the other process of `check`.

    Raises:
        SystemExit: code 1 after a failure, whose reason is then the first line of stdout.
    """
    try:
        model = Interpreter(model_content=sys.stdin.buffer.read())
        model.allocate_tensors()
        for name in model.get_signature_list():
            runner = model.get_signature_runner(name)
            details = runner.get_input_details()
            runner(**{key: np.zeros(one["shape"], one["dtype"]) for key, one in details.items()})
    except Exception as error:  # RuntimeError, ValueError or MemoryError, depending on the damage
        print(" ".join(str(error).split()) or type(error).__name__)
        raise SystemExit(1) from None


def read_bytes(path: Path) -> bytes:
    """The content of a file; a UserError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
