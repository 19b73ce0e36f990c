"""The GAN's training as a user runs it, compared with its bare step.

    python -m benchmarks.loop --preset=celeba64 --kimg=20
    python -m benchmarks.loop --preset=celeba64 --data_dir=CELEBA --batch_size=256 --kimg=2000

The real loop is the stage `gan` with the preset's whole schedule: photos from the device's memory
or from the host, statistics, sample grids, checkpoints. It is interrupted, as by Ctrl-C, when
enough images have been timed. The bare step is the same step, with the same number of steps per
call, on one batch in memory. Both run in this process in turn: after each tick of the real loop the
bare steps of a second trainer take as many steps. Other work on the machine slows both alike.

The real loop's time is that of the statistics (`stats.jsonl`) less the time of the bare steps
between two ticks. The first ticks, which compile, do not count. The interval of the checkpoints is
doubled, since half of the time is the bare step's. `ratio` is the ratio of the rates; the median of
the ratios of single ticks leaves out the sample grids and checkpoints, which fall into few ticks.

Without --data_dir the photos are synthetic faces, which are rendered first, into the cache.
"""

import contextlib
import dataclasses
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

from absl import flags

from benchmarks.own_step import BareSteps
from cgan_tf.core import cli, options, quiet
from cgan_tf.core.config import Config
from cgan_tf.core.errors import Interrupted, UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder

if TYPE_CHECKING:
    import numpy as np

WARM_TICKS = 2  # not timed: they compile, and fill the queue of batches

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("preset", "celeba64", "Preset.")
    flags.DEFINE_float("kimg", 20.0, "Thousands of images to time.", lower_bound=0.001)
    flags.DEFINE_integer("batch_size", None, "Images in one batch; by default the preset's.")
    flags.DEFINE_string("data_dir", None, "Photos of the preset; default: synthetic faces.")
    flags.DEFINE_integer("photos", 2000, "Number of synthetic faces.", lower_bound=100)
    flags.DEFINE_string("device_cache_gib", "auto", "See cgan train.")
    flags.DEFINE_multi_string("option", [], "Option of cgan train, e.g. --option=jit=false.")
    flags.DEFINE_string("output", "runs/loop.json", "JSON file of the results.")


def make_config() -> Config:
    """The resolved options, but for the precision and the compiler.

    Raises:
        UserError: a flag's value makes no sense.
    """
    given = {"seed": "1", "device_cache_gib": FLAGS.device_cache_gib}
    if FLAGS.batch_size is not None:
        given["gan_batch_size"] = str(FLAGS.batch_size)
    if FLAGS.data_dir:
        given["data_dir"] = FLAGS.data_dir
    else:
        given |= {"data": "synthetic", "synthetic_size": str(FLAGS.photos)}
    for text in FLAGS.option:
        name, equals, value = text.partition("=")
        if not equals or name not in options.OPTIONS:
            raise UserError(f"--option={text}: give NAME=VALUE, an option of cgan train")
        given[name] = value
    values = {name: options.parse(name, text) for name, text in given.items()}
    return options.resolve(options.make(FLAGS.preset, values))


class Turn(NamedTuple):
    """What happened at the end of a tick."""

    seen: int  # images of the real loop so far
    paused: float  # s, in all; the real loop waited for so long
    bare: float  # s of the bare steps, as many as the tick had


class Alternation:
    """A writer (`training.progress`) that runs the bare steps after each tick of the real loop.

    Args:
        bare: the steps.
        reals: images per step.
        images: interrupts the training when so many images have been timed.
    """

    def __init__(self, bare: BareSteps, reals: int, images: float) -> None:
        self.bare, self._reals, self._images = bare, reals, images
        self.turns: list[Turn] = []
        self.snapshots = 0  # among the timed ticks

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """The end of a tick, after `step` images."""
        begun = time.perf_counter()
        before = self.turns[-1].seen if self.turns else 0
        calls = (step - before) / self._reals / self.bare.steps  # those of the tick
        timed = max(1, round(calls))
        self.bare(), self.bare.finish()  # meanwhile the queue of batches fills again
        start = time.perf_counter()
        for _ in range(timed):
            self.bare()
        self.bare.finish()
        end = time.perf_counter()
        self.turns.append(Turn(step, end - begun, (end - start) * calls / timed))
        if len(self.turns) > WARM_TICKS:
            if step - self.turns[WARM_TICKS - 1].seen >= self._images:
                signal.raise_signal(signal.SIGTERM)

    def image(self, step: int, name: str, image: "np.ndarray") -> None:
        """A sample grid has been made."""
        self.snapshots += len(self.turns) >= WARM_TICKS

    def close(self) -> None:
        """Nothing is open."""


def summarize(stats: list[dict[str, Any]], turns: list[Turn]) -> dict[str, Any]:
    """Images per second of both, and their ratios.

    Args:
        stats: the lines of stats.jsonl, one per tick.
        turns: of the same ticks.

    Raises:
        UserError: too few ticks.
    """
    if len(turns) <= WARM_TICKS:
        raise UserError(f"--kimg: only {len(turns)} ticks; give more")
    ticks = []
    for number in range(WARM_TICKS, len(turns)):
        images = turns[number].seen - turns[number - 1].seen
        elapsed = stats[number]["seconds"] - stats[number - 1]["seconds"]
        # The bare steps before and after the tick, so that a drift of the machine cancels.
        bare = (turns[number - 1].bare + turns[number].bare) / 2
        ticks.append((images, elapsed - turns[number - 1].paused, bare))
    images, real, bare = (sum(column) for column in zip(*ticks, strict=True))
    return {
        "images": images,
        "real_images_per_second": images / real,
        "bare_images_per_second": images / bare,
        "ratio": bare / real,
        "median_ratio_of_ticks": statistics.median(bare / real for _, real, bare in ticks),
        "ticks": len(ticks),
    }


def bare_steps(config: Config) -> BareSteps:
    """The bare step of a second trainer, on a batch of noise, all variants compiled.

    Args:
        config: the resolved options, precision and compiler included.
    """
    import tensorflow as tf

    from cgan_tf.stages import progressive
    from cgan_tf.training import loop, precision

    trainer = progressive.make_trainer(config, precision.compute_policy(config))
    reals = config.gan.batch_size * config.gan.d_steps
    trainer.begin_phase(len(trainer.phases(config.gan.kimg, reals)) - 1, fresh=True)
    shape = (reals, config.resolution, config.resolution, 3)
    batch = tf.random.stateless_uniform(shape, (0, 0), -1.0, 1.0)
    bare = BareSteps(trainer, batch, loop.steps_per_call(config), config.jit == "true")
    for _ in range(trainer.period):
        bare()
    bare.finish()
    return bare


def measure(config: Config, images: float) -> dict[str, Any]:
    """Runs both; returns the figures.

    Args:
        config: see `make_config`.
        images: number of images to time.
    """
    quiet.import_tensorflow()
    from cgan_tf import data
    from cgan_tf.core import replicas
    from cgan_tf.stages import gan, tensorboard
    from cgan_tf.training import precision

    config = precision.resolve(config)
    dataset = data.open_data(config)
    made: list[Alternation] = []

    def writer(seen: int) -> Alternation:
        reals = config.gan.batch_size * config.gan.d_steps
        made.append(Alternation(bare_steps(config), reals, images))
        return made[0]

    with (
        tempfile.TemporaryDirectory(prefix="loop-") as parent,
        mock.patch.object(tensorboard, "events", lambda config, stage: writer),
    ):
        folder = RunFolder(Path(parent, "run"))
        patient = dataclasses.replace(config, checkpoint_minutes=2 * config.checkpoint_minutes)
        folder.save_config(patient, {"digest": dataset.digest}, {})
        with contextlib.suppress(Interrupted):
            gan.run(patient, folder, dataset)
        figures = summarize(folder.stage("gan").read_stats(), made[0].turns)
    return figures | {
        "snapshots": made[0].snapshots,
        "device": "GPU" if replicas.on_gpu() else "CPU",
        "steps_per_call": made[0].bare.steps,
        "precision": config.precision,
        "jit": config.jit,
        "batch_size": config.gan.batch_size,
        "resolution": config.resolution,
    }


def main() -> None:
    """Runs the benchmark."""
    found = measure(make_config(), 1000 * FLAGS.kimg)
    print(
        f"{FLAGS.preset}: {found['resolution']} px, batch {found['batch_size']}, "
        f"{found['device']}, {found['precision']}, {found['steps_per_call']} steps per call, "
        f"XLA {found['jit']}; {found['ticks']} ticks, {found['snapshots']} sample grids"
    )
    print(f"real loop  {found['real_images_per_second']:10,.1f} images/s")
    print(f"bare step  {found['bare_images_per_second']:10,.1f} images/s")
    print(
        f"ratio      {found['ratio']:10.3f}    median of single ticks "
        f"{found['median_ratio_of_ticks']:.3f}"
    )
    write_json(Path(FLAGS.output), found)
    print(f"written: {FLAGS.output}")


if __name__ == "__main__":
    cli.run(main, define_flags)
