"""The one training loop: every training stage runs its trainer's `train_step` through it.

It counts in images seen, writes a line of statistics per tick, checkpoints by the clock, and
resumes to the same weights as a run that was never stopped: batches, random numbers and
learning rates depend on the step alone, and the step is part of the checkpoint.
"""

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from cgan_tf.core import replicas, run_folder
from cgan_tf.core.config import Config
from cgan_tf.core.errors import Interrupted, UserError
from cgan_tf.training import checkpoint, cluster

TICKS = 200  # lines of statistics in one training, about
QUIET_SECONDS = 20.0  # between lines of progress where there is no terminal


class Stretch(NamedTuple):
    """A part of a training with batches of one size."""

    steps: int
    batch_size: int


class Trainer(keras.Model):
    """What the loop trains: a Keras model with a `train_step` and everything that it changes.

    Sub-classes name in `checkpoint_parts` each model, optimizer and seed generator whose
    variables a training step changes.
    """

    remedy = "lower the learning rate"  # what to change when a loss is no longer finite
    period = 1  # steps after which the kinds of losses repeat; a tick is a whole number of these

    def checkpoint_parts(self) -> dict[str, Any]:
        """Models, optimizers, seed generators, lists of variables; each by a lasting name."""
        raise NotImplementedError

    def stretches(self, kimg: float, batch_size: int) -> list[Stretch]:
        """The parts of a training of `kimg` thousand images: one, of whole batches."""
        return [Stretch(math.ceil(kimg * 1000 / batch_size), batch_size)]

    def enter(self, index: int, anew: bool) -> None:
        """Called before the steps of stretch `index`; `anew` at its first, not when resuming."""

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One step on one batch, or one replica's rows of it; returns the losses as scalars."""
        raise NotImplementedError

    def distributed_step(self, data: Any, *rest: Any) -> dict[str, tf.Tensor]:
        """`train_step` on every replica; returns the losses' means over all.

        Args:
            data: each replica's rows.
            rest: further arguments of `train_step`.
        """

        @tf.autograph.experimental.do_not_convert
        def replica_step(*arguments: Any) -> dict[str, tf.Tensor]:
            return replicas.batch_mean(self.train_step(*arguments))

        strategy = self.distribute_strategy
        logs = strategy.run(replica_step, (data, *rest))
        return {name: strategy.experimental_local_results(logs[name])[0] for name in logs}


class _Signals:
    """Turns SIGINT and SIGTERM into a flag that the loop reads between two steps."""

    def __enter__(self) -> "_Signals":
        self.received: int | None = None
        self._old = {
            number: signal.signal(number, self._receive)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def _receive(self, number: int, frame: Any) -> None:
        self.received = number

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


def images_seen(stretches: Sequence[Stretch], step: int) -> int:
    """How many images the first `step` steps see."""
    seen = 0
    for stretch in stretches:
        steps = min(step, stretch.steps)
        seen, step = seen + steps * stretch.batch_size, step - steps
    return seen


def _stretch_at(stretches: Sequence[Stretch], step: int) -> tuple[int, int, int]:
    """The stretch of step number `step`, its first step, and the one after its last."""
    begins = 0
    for index, stretch in enumerate(stretches):
        if step < begins + stretch.steps:
            return index, begins, begins + stretch.steps
        begins += stretch.steps
    raise ValueError(f"there is no step {step}")


def train(
    trainer: Trainer,
    make_batches: Callable[[int, int], tf.data.Dataset],
    kimg: float,
    batch_size: int,
    stage: run_folder.StageFolder,
    config: Config,
    *,
    picture: Callable[[int], str | None] | None = None,
    picture_kimg: float = math.inf,
    say: Callable[[str], None] = print,
) -> None:
    """Trains until `kimg` thousand images have been seen; goes on from the newest checkpoint.

    Args:
        trainer: its models are built and its optimizers too (`optimizer.build`).
        make_batches: the endless batches of a size (the second argument) after so many images.
        kimg: length of the training, rounded up to whole batches.
        batch_size: images in one batch.
        stage: where checkpoints and statistics go.
        config: for `checkpoint_minutes`.
        picture: draws the state after so many images; called at the start and every
            `picture_kimg`, and at the end. What it returns is a reason to stop.
        picture_kimg: see `picture`.
        say: where lines for the user go.

    Raises:
        Interrupted: SIGINT or SIGTERM; a checkpoint has been written.
        UserError: a loss or a weight is not finite, or `picture` gave a reason; the last
            checkpoint is kept.
        distribution.Done: the training has ended, on all workers but the chief.
    """
    stretches = trainer.stretches(kimg, batch_size)
    total = sum(stretch.steps for stretch in stretches)
    total_images = sum(stretch.steps * stretch.batch_size for stretch in stretches)
    tick = max(1, total // TICKS // trainer.period) * trainer.period
    picture_images = max(1, round(min(picture_kimg * 1000 / batch_size, total))) * batch_size
    parts = trainer.checkpoint_parts()
    chief = replicas.is_chief()
    facts: dict[str, Any] = {}
    if chief:
        facts = checkpoint.restore_checkpoint(stage.checkpoints, parts, say)
        stage.rewind_stats(images_seen(stretches, facts.get("step", 0)) / 1000)
    else:
        picture, say = None, lambda line: None
    facts = json.loads(cluster.from_chief(json.dumps(facts)))
    cluster.sync_variables(list(checkpoint._variables(parts).values()))
    step, seconds = facts.get("step", 0), facts.get("seconds", 0.0)
    seen = images_seen(stretches, step)
    if step:
        say(f"{stage.name}: going on at {seen / 1000:.1f} of {kimg:g} kimg")
    elif picture:
        picture(0)
    if step >= total:
        cluster.leave_to_chief()
        return

    terminal = sys.stderr.isatty() and chief
    bar = tqdm(
        total=total_images, initial=seen, unit=" images", desc=stage.name,
        disable=not terminal, dynamic_ncols=True, smoothing=0.05,
    )  # fmt: skip
    totals: dict[str, float] = {}
    counted = counted_images = 0
    tick_start = time.perf_counter()
    saved_at = said_at = time.perf_counter()

    def stop(what: str) -> UserError:
        kept = any(stage.checkpoints.glob("step-*.npz"))
        return UserError(
            f"{stage.name}: {what} at {seen / 1000:.2f} kimg; "
            f"{'the last checkpoint is kept' if kept else 'there is no checkpoint yet'}; "
            f"{trainer.remedy}, with --restart"
        )

    def save() -> None:
        if not chief:
            return
        # A finite loss may still have had an infinite gradient: the next step would tell too late.
        if not all(np.isfinite(variable.numpy()).all() for variable in checkpoint._variables(parts).values()):
            raise stop("a weight is not finite")
        elapsed = seconds + time.perf_counter() - tick_start
        checkpoint.save_checkpoint(stage.checkpoints, parts, {"step": step, "seconds": elapsed})

    entered = end = -1  # the stretch, and the step at which it ends
    with _Signals() as signals, bar:
        while step < total:
            # Another graph and other batches where a stretch begins.
            if step >= end:
                entered, begins, end = _stretch_at(stretches, step)
                batch_size = stretches[entered].batch_size
                trainer.enter(entered, step == begins)
                train_step = tf.function(trainer.distributed_step, autograph=False)
                with trainer.distribute_strategy.scope():
                    batches = iter(
                        trainer.distribute_strategy.distribute_datasets_from_function(
                            lambda _, seen=seen, size=batch_size: make_batches(seen, size)
                        )
                    )

            # One step, and its losses into the tick's sums.
            logs = {name: float(value) for name, value in train_step(next(batches)).items()}
            step, seen = step + 1, seen + batch_size
            bar.update(batch_size)
            bad = [name for name, value in logs.items() if not math.isfinite(value)]
            if bad:
                raise stop(f"{bad[0]} is {logs[bad[0]]}")
            for name, value in logs.items():
                totals[name] = totals.get(name, 0.0) + value
            counted, counted_images = counted + 1, counted_images + batch_size

            # One line per tick.
            if step % tick == 0 or step == total:
                elapsed = time.perf_counter() - tick_start
                seconds, tick_start = seconds + elapsed, time.perf_counter()
                rate = counted_images / elapsed
                line = {
                    "kimg": seen / 1000,
                    "seconds": seconds,
                    "images_per_second": rate,
                }
                line |= {name: value / counted for name, value in totals.items()}
                if chief:
                    stage.append_stats(line)
                means = "  ".join(f"{name} {value / counted:.4g}" for name, value in totals.items())
                if terminal:
                    bar.set_postfix_str(means)
                elif time.perf_counter() - said_at > QUIET_SECONDS or step == total:
                    left = (total_images - seen) / rate
                    say(
                        f"{stage.name}: {line['kimg']:.1f}/{kimg:g} kimg  {rate:.0f} images/s  "
                        f"{left / 60:.1f} min left  {means}"
                    )
                    said_at = time.perf_counter()
                totals, counted, counted_images = {}, 0, 0

            # Pictures by images seen, checkpoints by the clock.
            if picture and (seen % picture_images < batch_size or step == total):
                wrong = picture(seen)
                if wrong:
                    raise stop(wrong)
            if cluster.any_worker(signals.received is not None):
                save()
                raise Interrupted(
                    signals.received or signal.SIGTERM,  # it may have been another worker's
                    f"saved {checkpoint.checkpoint_name(step)} at {seen / 1000:.1f} kimg; "
                    "the same command goes on",
                )
            if step == total or time.perf_counter() - saved_at > config.checkpoint_minutes * 60:
                save()
                saved_at = time.perf_counter()
    cluster.leave_to_chief()
