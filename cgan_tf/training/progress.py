"""What happens between the steps of a training: ticks, snapshots, checkpoints, the display."""

import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from cgan_tf.core import replicas
from cgan_tf.core.run_folder import StageFolder
from cgan_tf.training import checkpoint

TICKS = 200  # lines of statistics in one training, approximately
QUIET_SECONDS = 20.0  # between lines of progress where there is no terminal


class Snapshot(NamedTuple):
    """An image of the training's state.

    Attributes:
        name: what it shows, the same in all snapshots of a training.
        image: uint8 `[H, W, 3]`.
        failure: why the training must stop; None if it need not.
    """

    name: str
    image: np.ndarray
    failure: str | None = None


class Writer(Protocol):
    """Takes scalars and images by the number of images seen, e.g. as TensorBoard events."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one value of each curve."""

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes one image, uint8 `[H, W, 3]`."""

    def close(self) -> None:
        """Called once at the end, also after an error."""


class Display:
    """Shows the progress: a bar on a terminal, elsewhere a line from time to time.

    Args:
        name: name of the stage.
        kimg: length of the training.
        images: the same in images, rounded up to complete steps.
        seen: images seen before.
        say: receives the lines.
    """

    def __init__(
        self, name: str, kimg: float, images: int, seen: int, say: Callable[[str], None]
    ) -> None:
        self._name, self._kimg, self._images, self._say = name, kimg, images, say
        self._quiet = not replicas.is_chief()
        self._terminal = not self._quiet and sys.stderr.isatty()
        self._bar = tqdm(
            total=images,
            initial=seen,
            unit=" images",
            desc=name,
            disable=not self._terminal,
            dynamic_ncols=True,
            smoothing=0.05,
        )
        self._said_at = time.perf_counter()

    def step(self, batch_size: int) -> None:
        """Another step is done."""
        self._bar.update(batch_size)

    def tick(self, seen: int, rate: float, losses: Mapping[str, float]) -> None:
        """Shows the mean losses of a tick.

        Args:
            seen: images seen by now.
            rate: images per second.
            losses: means over the tick.
        """
        means = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
        if self._terminal:
            self._bar.set_postfix_str(means)
            return
        waited = time.perf_counter() - self._said_at > QUIET_SECONDS
        if not self._quiet and (waited or seen == self._images):
            left = (self._images - seen) / rate
            self._say(
                f"{self._name}: {seen / 1000:.1f}/{self._kimg:g} kimg  {rate:.0f} images/s  "
                f"{left / 60:.1f} min left  {means}"
            )
            self._said_at = time.perf_counter()

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()


@tf.function(autograph=False)
def _add(one: Mapping[str, tf.Tensor], two: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The sums by name, in one call of TensorFlow."""
    return {name: value + two[name] for name, value in one.items()}


class Ticks:
    """The statistics: one line with the mean losses per tick, which is a fixed number of steps.

    Args:
        stage: where the lines go.
        display: shows each line.
        writer: gets each line, too, if there is one.
        steps: length of the training.
        batch_size: images in one step.
        period: a tick is a multiple of this number of steps.
        seconds: duration of the training before this process.
    """

    def __init__(
        self,
        stage: StageFolder,
        display: Display,
        writer: Writer | None,
        steps: int,
        batch_size: int,
        period: int,
        seconds: float,
    ) -> None:
        self._stage, self._display, self._writer = stage, display, writer
        self._steps, self._batch_size = steps, batch_size
        self._length = max(1, steps // TICKS // period) * period
        self._seconds_before = seconds
        self._start = time.perf_counter()
        self._totals: Mapping[str, tf.Tensor] = {}  # on the device: reading one waits
        self._count = 0

    @property
    def seconds(self) -> float:
        """Duration of the training until now."""
        return self._seconds_before + time.perf_counter() - self._start

    def next_end(self, step: int) -> int:
        """The step, after `step` steps, at which the tick ends."""
        return min((step // self._length + 1) * self._length, self._steps)

    def add(self, step: int, count: int, losses: Mapping[str, tf.Tensor]) -> str | None:
        """Counts steps of one tick, and ends the tick where it is due.

        Args:
            step: number of steps so far, with these.
            count: number of these steps.
            losses: the sum of each loss over them; the same names every time.

        Returns:
            Why the training must stop; None if all losses are finite, or if the tick goes on.
        """
        self._totals = _add(self._totals, losses) if self._count else losses
        self._count += count
        self._display.step(count * self._batch_size)
        if step < self.next_end(step - 1):
            return None
        failure = self.failure()
        if failure is None:
            self._end(step * self._batch_size)
        return failure

    def failure(self) -> str | None:
        """Why the training must stop: a loss of the tick so far is not finite; else None."""
        for name, total in self._totals.items():
            if not math.isfinite(float(total)):
                return f"{name} is {float(total)}"
        return None

    def _end(self, seen: int) -> None:
        means = {name: float(total) / self._count for name, total in self._totals.items()}
        elapsed = time.perf_counter() - self._start
        self._seconds_before, self._start = self._seconds_before + elapsed, time.perf_counter()
        rate = self._count * self._batch_size / elapsed
        facts = {"kimg": seen / 1000, "seconds": self._seconds_before, "images_per_second": rate}
        if replicas.is_chief():
            self._stage.append_stats(facts | means)
        if self._writer:
            self._writer.scalars(seen, {"images_per_second": rate} | means)
        self._display.tick(seen, rate, means)
        self._totals, self._count = {}, 0


class Snapshots:
    """Takes snapshots by the number of images seen, on the chief.

    Args:
        take: makes and saves one after so many images; None to take none.
        interval: images between two snapshots, a multiple of the batch size.
        writer: gets the images, if there is one.
    """

    def __init__(
        self, take: Callable[[int], Snapshot | None] | None, interval: int, writer: Writer | None
    ) -> None:
        self._take = take if replicas.is_chief() else None
        self._interval, self._writer = interval, writer

    def next_due(self, seen: int) -> int:
        """The number of images, after `seen` images, at which a snapshot is due."""
        return (seen // self._interval + 1) * self._interval

    def take_if_due(self, seen: int, last: bool = False) -> str | None:
        """Takes a snapshot where one is due.

        Args:
            seen: number of images so far.
            last: whether the training ends here.

        Returns:
            Why the training must stop; None if it need not.
        """
        if self._take is None or not (last or seen % self._interval == 0):
            return None
        snapshot = self._take(seen)
        if snapshot is None:
            return None
        if self._writer:
            self._writer.image(seen, snapshot.name, snapshot.image)
        return snapshot.failure


class Checkpoints:
    """Writes checkpoints by the clock, on the chief.

    Args:
        stage: where the checkpoints go.
        parts: see `Trainer.checkpoint_parts`.
        minutes: time between two checkpoints.
    """

    def __init__(self, stage: StageFolder, parts: dict[str, Any], minutes: float) -> None:
        self._folder, self._parts, self._minutes = stage.checkpoints, parts, minutes
        self._saved_at = time.perf_counter()
        self._saved_step = -1

    def due(self) -> bool:
        """Whether the time has come."""
        return time.perf_counter() - self._saved_at > self._minutes * 60

    def save(self, step: int, seconds: float) -> str | None:
        """Writes the checkpoint of a step, unless it is there.

        Args:
            step: number of steps so far.
            seconds: duration of the training until now.

        Returns:
            Why the training must stop instead; None if all variables are finite.
        """
        if not replicas.is_chief() or step == self._saved_step:
            return None
        # A finite loss can have an infinite gradient, which only the next step would show.
        variables = checkpoint.named_variables(self._parts).values()
        if not all(np.isfinite(variable.numpy()).all() for variable in variables):
            return "a weight is not finite"
        facts = {"step": step, "seconds": seconds}
        checkpoint.save_checkpoint(self._folder, self._parts, facts)
        self._saved_at, self._saved_step = time.perf_counter(), step
        return None
