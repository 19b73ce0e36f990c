"""Checkpoints: one file holds everything that a training step changes."""

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

KEPT = 2  # checkpoints: the newest, and the one before in case that it is damaged
# What reading a damaged checkpoint raises: zipfile also takes a changed header for a zip of a kind
# that it does not know, or for an encrypted one.
DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile)


def _variables(parts: dict[str, Any]) -> dict[str, Any]:
    """Every variable of the parts under a name that stays the same from run to run."""
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
    """The file of the checkpoint after so many steps."""
    return f"step-{step:09d}.npz"


def save_checkpoint(folder: Path, parts: dict[str, Any], facts: dict[str, Any]) -> Path:
    """Writes one checkpoint and drops all but the newest `KEPT`.

    Args:
        folder: the stage's checkpoints folder.
        parts: see `Trainer.checkpoint_parts`.
        facts: JSON values; `step` names the file.
    """
    arrays = {name: variable.numpy() for name, variable in _variables(parts).items()}
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # a zip file: its checksums tell a damaged one
    path = folder / checkpoint_name(facts["step"])
    write_bytes(path, buffer.getvalue())
    for old in sorted(folder.glob("step-*.npz"))[:-KEPT]:
        old.unlink()
    return path


def restore_checkpoint(
    folder: Path, parts: dict[str, Any], say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Loads the newest checkpoint that is whole into the parts; returns its facts, or {}.

    A damaged one is said, set aside as NAME.damaged, and the one before it is taken.

    Raises:
        UserError: there are checkpoints, and all are damaged.
    """
    for leftover in folder.glob(".step-*.tmp"):  # of a process that was killed while it wrote
        leftover.unlink()
    for path in sorted(folder.glob("step-*.npz"), reverse=True):
        variables = _variables(parts)
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                values = {name: arrays[name] for name in variables}
                facts = json.loads(arrays["facts"].tobytes())
            for name, variable in variables.items():
                if values[name].shape != tuple(variable.shape):
                    raise ValueError(f"{name} has shape {values[name].shape}")
        except DAMAGE as error:
            path.rename(path.with_name(f"{path.name}.damaged"))
            # NumPy takes what is no zip for a pickle, and advises to load that.
            reason = "no checkpoint" if "pickle" in str(error) else str(error)
            before = "; taking the one before it" if any(folder.glob("step-*.npz")) else ""
            say(f"note: checkpoint {path.name} is damaged ({reason}){before}")
            continue
        for name, variable in variables.items():
            variable.assign(values[name])
        return facts
    if any(folder.glob("step-*.npz.damaged")):  # now, or by the command before this one
        raise UserError(
            f"{folder}: no checkpoint is whole; --stage={folder.parent.name} --restart moves the "
            "stage aside and begins anew"
        )
    return {}
