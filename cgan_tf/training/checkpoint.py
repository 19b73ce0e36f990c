"""Checkpoints: one file holds every variable that a training step changes."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_bytes

KEPT = 2  # checkpoints: the newest, and the previous one in case the newest is damaged
# Reading a damaged checkpoint raises one of these. To zipfile, a changed header can look like an
# unknown or an encrypted kind of archive.
DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile)


def named_variables(parts: dict[str, Any]) -> dict[str, Any]:
    """Every variable of the parts, by a name that is the same in every process."""
    named = {}
    for part, owner in parts.items():
        if isinstance(owner, keras.random.SeedGenerator):
            variables = [owner.state]
        else:
            variables = owner if isinstance(owner, list) else owner.variables
        for index, variable in enumerate(variables):
            named[f"{part}/{index:04d}"] = variable
    return named


def checkpoint_name(step: int) -> str:
    """Name of the checkpoint file after so many steps."""
    return f"step-{step:09d}.npz"


def save_checkpoint(folder: Path, parts: dict[str, Any], facts: dict[str, Any]) -> Path:
    """Writes a checkpoint and deletes all but the newest `KEPT`.

    Args:
        folder: the stage's checkpoints folder.
        parts: see `Trainer.checkpoint_parts`.
        facts: JSON values; `step` names the file.
    """
    arrays = {name: variable.numpy() for name, variable in named_variables(parts).items()}
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # a zip file, whose checksums reveal damage
    path = folder / checkpoint_name(facts["step"])
    write_bytes(path, buffer.getvalue())
    for old in sorted(folder.glob("step-*.npz"))[:-KEPT]:
        old.unlink()
    return path


def restore_checkpoint(
    folder: Path, parts: dict[str, Any], say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Loads the newest intact checkpoint into the parts; returns its facts, or {} without any.

    A damaged one is reported and renamed to NAME.damaged, and the previous one is used.

    Args:
        folder: the stage's checkpoints folder.
        parts: see `Trainer.checkpoint_parts`.
        say: receives the notes.

    Raises:
        UserError: there are checkpoints, but all are damaged.
    """
    for leftover in folder.glob(".step-*.tmp"):  # of a process that was killed while writing
        leftover.unlink()
    for path in sorted(folder.glob("step-*.npz"), reverse=True):
        variables = named_variables(parts)
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                values = {name: arrays[name] for name in variables}
                facts = json.loads(arrays["facts"].tobytes())
            for name, variable in variables.items():
                if values[name].shape != tuple(variable.shape):
                    raise ValueError(f"{name} has shape {values[name].shape}")
        except DAMAGE as error:
            path.rename(path.with_name(f"{path.name}.damaged"))
            # To NumPy, a file that is not a zip is a pickle, and its message suggests to load that.
            reason = "not a checkpoint" if "pickle" in str(error) else str(error)
            previous = "; using the previous one" if any(folder.glob("step-*.npz")) else ""
            say(f"note: checkpoint {path.name} is damaged ({reason}){previous}")
            continue
        for name, variable in variables.items():
            variable.assign(values[name])
        return facts
    if any(folder.glob("step-*.npz.damaged")):  # found now or by an earlier command
        raise UserError(
            f"{folder}: all checkpoints are damaged; --stage={folder.parent.name} --restart moves "
            "the stage aside and starts over"
        )
    return {}
