"""One worker of a cluster: runs trainings that end early, and prints how each of them ended.

    TF_CONFIG=... python tests/helpers/worker.py FOLDER

All workers share FOLDER. It prints one line of JSON: the exception of each training by its name.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import tiny
import toy

from cgan_tf.core import replicas
from cgan_tf.core.errors import Interrupted, UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.training import cluster, loop


def train(folder: Path, make_trainer: Callable[[], loop.Trainer], **options) -> None:
    stage = RunFolder(folder).stage("gan")
    stage.path.mkdir(parents=True, exist_ok=True)
    with replicas.scope():
        trainer = make_trainer()
    config = tiny.make_config(Path("cache"), checkpoint_minutes=1e-9)
    loop.train(trainer, toy.feed, 0.1, toy.BATCH, stage, config, say=lambda line: None, **options)


def collapse(folder: Path) -> None:
    """The chief's snapshot stops the training."""

    def snapshot(seen: int) -> loop.Snapshot:
        return loop.Snapshot("grid", np.zeros((1, 1, 3), np.uint8), "collapsed" if seen else None)

    train(folder, toy.Toy, snapshot=snapshot, snapshot_kimg=0.03)


def infinite_weight(folder: Path) -> None:
    """The chief finds a weight that is not finite when it saves."""
    train(folder, lambda: toy.Toy(nan_weight_at=4))


def interrupted(folder: Path) -> None:
    """Another worker than the chief receives a signal."""

    class Signaled(toy.Toy):
        def variant(self, step: int) -> tuple:
            if step == 4 and not replicas.is_chief():
                os.kill(os.getpid(), signal.SIGTERM)
            return ()

    train(folder, Signaled)


def damaged(folder: Path) -> None:
    """The chief finds no intact checkpoint."""
    checkpoints = folder / "gan" / "checkpoints"
    if replicas.is_chief():
        checkpoints.mkdir(parents=True)
        (checkpoints / "step-000000001.npz").write_bytes(b"damaged")
    train(folder, toy.Toy)


def end(folder: Path) -> None:
    """The chief cannot complete a stage."""
    cluster.end_together(UserError("no labels") if replicas.is_chief() else None)


CASES = (collapse, infinite_weight, interrupted, damaged, end)


def main(folder: str) -> None:
    cluster.start(("auto",), cluster.parse_cluster(os.environ["TF_CONFIG"]))
    outcomes = {}
    for case in CASES:
        try:
            case(Path(folder) / case.__name__)
        except (UserError, Interrupted) as error:
            outcomes[case.__name__] = str(error)
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
