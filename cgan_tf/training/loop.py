"""The training loop: every training stage runs its trainer's `train_step` through `train`.

The loop counts images seen, and writes a line of statistics per tick and checkpoints by the clock.
A resumed training ends with the same weights as an uninterrupted one: batches, random numbers and
learning rates depend on the step alone, and the step is part of the checkpoint.
"""

import contextlib
import math
import signal
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from cgan_tf.core import replicas
from cgan_tf.core.config import Config
from cgan_tf.core.errors import Interrupted, UserError
from cgan_tf.core.run_folder import StageFolder
from cgan_tf.training import checkpoint, cluster, cpu_kernels
from cgan_tf.training.feed import Feed
from cgan_tf.training.progress import Checkpoints, Display, Snapshot, Snapshots, Ticks, Writer

# Steps in one call on a GPU, where a small step takes no longer than Python needs to call it.
GPU_STEPS = 16


class Trainer(keras.Model):
    """What the loop trains: a Keras model with a `train_step` and all variables that it changes.

    Subclasses list in `checkpoint_parts` each model, optimizer and seed generator whose variables a
    training step changes.
    """

    remedy = "lower the learning rate"  # what to change when a loss is no longer finite
    period = 1  # steps after which `variant` repeats; a tick is a multiple of it

    def checkpoint_parts(self) -> dict[str, Any]:
        """Models, optimizers, seed generators and lists of variables, by permanent names."""
        raise NotImplementedError

    def phases(self, kimg: float, batch_size: int) -> list[int]:
        """Number of steps in each phase of a training of `kimg` thousand images: by default one."""
        return [math.ceil(kimg * 1000 / batch_size)]

    def begin_phase(self, index: int, fresh: bool) -> None:
        """Called before the first step of phase `index`, and with `fresh` False when resuming."""

    def variant(self, step: int) -> tuple:
        """Further arguments of `train_step` in the step that follows `step` steps.

        Hashable Python values: a function is traced for each distinct tuple, so they must be few.
        """
        return ()

    def train_step(self, data: Any, *variant: Any) -> dict[str, tf.Tensor]:
        """One step on a batch, or on one replica's rows of it; returns the losses as scalars."""
        raise NotImplementedError


class CompiledSteps:
    """Runs a trainer's steps on the batches of a feed, several in one call of a graph.

    A graph is traced for each variant of the step. It repeats the step in a loop, so its size does
    not depend on the number of steps.

    Args:
        trainer: its `train_step` runs on all replicas.
        feed: gives the batches.
        jit: compile the step with XLA; one replica only.
    """

    def __init__(self, trainer: Trainer, feed: Feed, jit: bool = False) -> None:
        self._trainer, self._feed, self._jit = trainer, feed, jit
        self._functions: dict[tuple, Callable] = {}

    def __call__(self, step: int, limit: int = 1) -> tuple[int, dict[str, tf.Tensor]]:
        """Runs the steps that follow `step` steps, while they are of one variant.

        Args:
            step: number of steps so far.
            limit: at most so many steps.

        Returns:
            The number of steps, and the sum of each loss over them, float64.
        """
        variant, count = self._trainer.variant(step), 1
        while count < limit and self._trainer.variant(step + count) == variant:
            count += 1
        if variant not in self._functions:
            self._functions[variant] = tf.function(
                self._repeat(variant), autograph=False, reduce_retracing=True
            )
        return count, self._functions[variant](self._feed.take(count), tf.constant(count))

    def _repeat(self, variant: tuple) -> Callable[[Any, tf.Tensor], dict[str, tf.Tensor]]:
        """The function of `Feed.take`'s value and of the number of steps, to be traced."""
        step = self._step(variant)

        def repeat(taken: Any, count: tf.Tensor) -> dict[str, tf.Tensor]:
            names: list[str] = []  # of the losses; known when the body has been traced

            def body(index: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                losses = step(self._feed.element(taken, index))
                names[:] = losses
                values = tf.stack([tf.cast(value, tf.float64) for value in losses.values()])
                return index + 1, sums + values

            with cpu_kernels.gradients_forgotten():
                _, sums = tf.while_loop(
                    lambda index, _: index < count,
                    body,
                    (tf.constant(0), tf.zeros((), tf.float64)),
                    shape_invariants=(tf.TensorShape(()), tf.TensorShape(None)),
                    parallel_iterations=1,
                )
            sums = tf.ensure_shape(sums, (len(names),))
            return dict(zip(names, tf.unstack(sums), strict=True))

        return repeat

    def _step(self, variant: tuple) -> Callable[[Any], dict[str, tf.Tensor]]:
        """One step on all replicas: each loss, averaged over the global batch."""
        trainer, feed = self._trainer, self._feed
        train_step = trainer.train_step
        if self._jit:
            train_step = tf.function(train_step, jit_compile=True, autograph=False)

        @tf.autograph.experimental.do_not_convert
        def replica_step(element: Any) -> dict[str, tf.Tensor]:
            return replicas.batch_mean(train_step(feed.decode(element), *variant))

        def step(element: Any) -> dict[str, tf.Tensor]:
            strategy = trainer.distribute_strategy
            losses = strategy.run(replica_step, (element,))
            return {name: strategy.experimental_local_results(losses[name])[0] for name in losses}

        return step


def steps_per_call(config: Config) -> int:
    """The number of steps in a call of the graph, at most: config.steps_per_call, or of `auto`."""
    return config.steps_per_call or (GPU_STEPS if replicas.on_gpu() else 1)


def phase_of(phases: Sequence[int], step: int) -> tuple[int, int, int]:
    """The phase that the step after `step` steps is in: its index, its first step and its end.

    Args:
        phases: length of each phase, in steps.
        step: number of steps so far.
    """
    start = 0
    for index, steps in enumerate(phases):
        if step < start + steps:
            return index, start, start + steps
        start += steps
    raise ValueError(f"there is no step {step}")


class _Signals:
    """Records SIGINT and SIGTERM, for the loop to handle between two steps."""

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


def train(
    trainer: Trainer,
    make_feed: Callable[[int], Feed],
    kimg: float,
    batch_size: int,
    stage: StageFolder,
    config: Config,
    *,
    snapshot: Callable[[int], Snapshot | None] | None = None,
    snapshot_kimg: float = math.inf,
    writer: Callable[[int], Writer] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Trains until `kimg` thousand images have been seen; resumes from the newest checkpoint.

    Args:
        trainer: its models and optimizers are built.
        make_feed: (images seen so far) to the batches that follow.
        kimg: length of the training, rounded up to complete batches.
        batch_size: images in one batch.
        stage: where checkpoints and statistics go.
        config: for `checkpoint_minutes`, `steps_per_call` and `jit`.
        snapshot: makes a snapshot after so many images: at the start, every `snapshot_kimg`, and at
            the end. It can stop the training.
        snapshot_kimg: images between two snapshots, in thousands.
        writer: (images seen so far) to a writer of the scalars and the snapshots.
        say: receives the lines for the user.

    Raises:
        Interrupted: SIGINT or SIGTERM was received, and a checkpoint has been written.
        UserError: a loss or a weight is not finite, or `snapshot` stops the training; the last
            checkpoint is kept. All workers raise it.
        cluster.Done: the training has ended, on all workers but the chief.
    """
    phases = trainer.phases(kimg, batch_size)
    steps = sum(phases)
    step, seconds = _restore(trainer, batch_size, stage, say)
    seen = step * batch_size
    if step and replicas.is_chief():
        say(f"{stage.name}: resuming at {seen / 1000:.1f} of {kimg:g} kimg")
    if step >= steps:
        cluster.leave_to_chief()
        return

    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(_Signals())
        display = stack.enter_context(Display(stage.name, kimg, steps * batch_size, seen, say))
        events = writer(seen) if writer and replicas.is_chief() else None
        if events:
            stack.callback(events.close)
        interval = max(1, round(min(snapshot_kimg * 1000 / batch_size, steps))) * batch_size
        snapshots = Snapshots(snapshot, interval, events)
        if step == 0:
            snapshots.take_if_due(0)
        ticks = Ticks(stage, display, events, steps, batch_size, trainer.period, seconds)
        checkpoints = Checkpoints(stage, trainer.checkpoint_parts(), config.checkpoint_minutes)

        feed = make_feed(seen)
        phase_end = 0
        while step < steps:
            # Each phase has its own graphs.
            if step >= phase_end:
                index, phase_start, phase_end = phase_of(phases, step)
                trainer.begin_phase(index, fresh=step == phase_start)
                train_steps = CompiledSteps(trainer, feed, jit=config.jit == "true")

            # A call ends where a phase, a tick or a snapshot does.
            ends = (phase_end, ticks.next_end(step), snapshots.next_due(seen) // batch_size)
            count, losses = train_steps(step, min(steps_per_call(config), min(ends) - step))
            step, seen = step + count, seen + count * batch_size

            last = step == steps
            failure = ticks.add(step, count, losses)
            failure = failure or snapshots.take_if_due(seen, last)
            if last or checkpoints.due():
                failure = failure or ticks.failure() or checkpoints.save(step, ticks.seconds)

            # Only the chief takes snapshots and saves, but all workers must stop at the same step.
            interrupted, failed = cluster.any_worker(signals.received is not None, bool(failure))
            if interrupted and not failed:
                failure = ticks.failure() or checkpoints.save(step, ticks.seconds)
                (failed,) = cluster.any_worker(bool(failure))
            if failed:
                raise UserError(cluster.from_chief(_describe(failure, stage, trainer, seen)))
            if interrupted:
                saved = f"saved {checkpoint.checkpoint_name(step)} at {seen / 1000:.1f} kimg"
                number = signals.received or signal.SIGTERM  # or another worker received it
                raise Interrupted(number, f"{saved}; the same command resumes")
    cluster.leave_to_chief()


def _restore(
    trainer: Trainer, batch_size: int, stage: StageFolder, say: Callable[[str], None]
) -> tuple[int, float]:
    """Loads the chief's newest checkpoint on all workers; returns its step and its seconds."""
    parts = trainer.checkpoint_parts()

    def restore() -> dict[str, Any]:
        facts = checkpoint.restore_checkpoint(stage.checkpoints, parts, say)
        stage.rewind_stats(facts.get("step", 0) * batch_size / 1000)
        return facts

    facts = cluster.on_chief(restore)
    cluster.sync_variables(list(checkpoint.named_variables(parts).values()))
    return facts.get("step", 0), facts.get("seconds", 0.0)


def _describe(failure: str | None, stage: StageFolder, trainer: Trainer, seen: int) -> str:
    """The error message of a training that must stop."""
    kept = any(stage.checkpoints.glob("step-*.npz"))
    return (
        f"{stage.name}: {failure} at {seen / 1000:.2f} kimg; "
        f"{'the last checkpoint is kept' if kept else 'there is no checkpoint yet'}; "
        f"{trainer.remedy}, with --restart"
    )
