"""Throughput of each data source, compared with the training step that consumes its images.

    python -m benchmarks.input_pipeline --data_dir=CELEBA --output=input_pipeline.json

Shuffled and mirrored batches at 64 px, as in the gan stage: synthetic faces, a folder of JPEG files
and, with --data_dir, the official CelebA files. Each source is read from the cache; the files are
also decoded at every read (--cache_gib=0). The measurements alternate with steps of the GAN on one
batch in memory, in the same process, so that other load on the machine slows both. A ratio is the
median over the rounds. Exit code 1 if a cached source delivers less than 5 times the images that
the step consumes.
"""

import dataclasses
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from cgan_tf.core import cli, options, quiet
from cgan_tf.core.config import Config
from cgan_tf.core.files import write_json
from cgan_tf.core.presets import PRESETS

MIN_RATIO = 5.0
COUNT = 1000  # images of the synthetic source and of the folder
PRESET = "celeba64"

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", None, "Folder of the official CelebA files.")
flags.DEFINE_integer("rounds", 7, "Number of measurements of each source.", lower_bound=1)
flags.DEFINE_integer("batches", 40, "Batches in one measurement of a cached source.", lower_bound=1)
flags.DEFINE_integer("steps", 4, "Training steps in one measurement.", lower_bound=1)
flags.DEFINE_string("output", "runs/input_pipeline.json", "JSON file of the results.")


def make_step(config: Config):
    """A training step of the GAN on one batch in memory; returns its losses as floats."""
    import tensorflow as tf

    from cgan_tf.stages.gan_trainer import GAN
    from cgan_tf.training import feed, loop, precision

    precision.seed_everything(config)
    trainer = GAN(config, precision.compute_policy(config))
    shape = (config.gan.batch_size, config.resolution, config.resolution, 3)
    reals = tf.random.stateless_uniform(shape, (0, 0), -1.0, 1.0)
    train_step = loop.CompiledSteps(trainer, feed.SameBatch(reals))
    numbers = itertools.count()
    return lambda: [float(value) for value in train_step(next(numbers))[1].values()]


def open_sources(base: Config, parent: Path) -> dict:
    """{name: endless batches}, with all caches filled."""
    import numpy as np
    from PIL import Image

    from cgan_tf import data
    from cgan_tf.data import pipeline

    photos = parent / "photos"
    photos.mkdir()
    synthetic = data.open_data(
        dataclasses.replace(base, data="synthetic", synthetic_size=COUNT), say=lambda _: None
    )
    for index in range(COUNT):  # 178 px wide, as CelebA's photos
        photo = Image.fromarray(synthetic.read(np.array([index]))[0])
        photo.resize((178, 178)).save(photos / f"{index:04d}.jpg", quality=90)
    folders = {"folder": str(photos)}
    if FLAGS.data_dir:
        folders["celeba_dir"] = FLAGS.data_dir
    opened = {"synthetic": synthetic}
    for name, folder in folders.items():
        config = dataclasses.replace(base, data=name, data_dir=folder)
        opened[name] = data.open_data(config, say=lambda _: None)
        config = dataclasses.replace(config, cache_gib=0.0, cache_dir=str(parent / "none"))
        opened[f"{name}, not cached"] = data.open_data(config, say=lambda _: None)
    return {
        name: iter(pipeline.training_batches(dataset, "train", base.gan.batch_size, seed=1))
        for name, dataset in opened.items()
    }


def measure(config: Config, parent: Path) -> tuple[dict, list]:
    """Images per second of each source and of the training step, by round."""
    step = make_step(config)
    sources = open_sources(dataclasses.replace(config, cache_dir=str(parent / "cache")), parent)
    step(), step()
    rates: dict[str, list[float]] = {name: [] for name in sources}
    steps = []
    for _ in range(FLAGS.rounds):
        steps.append(_rate(config.gan.batch_size, FLAGS.steps, step))
        for name, batches in sources.items():
            count = FLAGS.batches if "not" not in name else max(1, FLAGS.batches // 8)
            for _ in itertools.islice(batches, 5):  # batches that were prefetched meanwhile
                pass
            rates[name].append(_rate(config.gan.batch_size, count, lambda b=batches: next(b)))
    return rates, steps


def _rate(batch_size: int, count: int, call) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return batch_size * count / (time.perf_counter() - start)


def main() -> None:
    quiet.import_tensorflow()
    given = {"seed": 1, "gan_width": PRESETS[PRESET]["gan_width"]}
    config = options.resolve(options.make(None, given))
    with tempfile.TemporaryDirectory(prefix="input_pipeline-") as parent:
        rates, steps = measure(config, Path(parent))
    ratios = {
        name: statistics.median(r / e for r, e in zip(row, steps, strict=True))
        for name, row in rates.items()
    }
    print(f"{'':26}{'images/s':>10}{'/ step':>9}")
    print(f"{f'step, {PRESET}':26}{statistics.median(steps):10.0f}{1:9.1f}")
    for name, row in rates.items():
        print(f"{name:26}{statistics.median(row):10.0f}{ratios[name]:9.1f}")
    content = {"gan_width": config.gan.width, "step": steps, "sources": rates, "ratios": ratios}
    write_json(Path(FLAGS.output), content)
    print(f"written: {FLAGS.output}")
    slow = [name for name, ratio in ratios.items() if "not" not in name and ratio < MIN_RATIO]
    if slow:
        print(f"less than {MIN_RATIO:g} times the images that the step consumes: {', '.join(slow)}")
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
