"""Peak memory and throughput as the data set grows, and on one and two replicas.

    python -m benchmarks.scaling --sizes=1000,10000,100000 --output=scaling.json

Opens, caches and trains on a folder of 64 px images (a thousand random ones under many names), each
size in a process of its own. Exit code 1 if the largest size needs more than 1.1 times the peak
memory of the smallest. The files and caches, 12 kB per image, are deleted afterwards.

The last line compares the GAN's step on one device with the same step on two: the first two GPUs
or, without them, two halves of the processor, which shows the cost of data parallelism.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import subprocesses
from benchmarks.memory import peak_mib
from cgan_tf.core import cli, options, quiet
from cgan_tf.core.config import Config
from cgan_tf.core.files import write_json

MAX_RATIO = 1.1  # of the peak memory of the largest and of the smallest size
DISTINCT = 1000  # images; the others are links to them
RESOLUTION = 64  # px
WARM_UP = 2  # steps before the timed ones

FLAGS = flags.FLAGS
flags.DEFINE_list("sizes", ["1000", "10000", "100000"], "Numbers of images, in increasing order.")
flags.DEFINE_integer("batches", 200, "Number of batches to read.", lower_bound=1)
flags.DEFINE_integer("steps", 20, "Number of GAN steps to train.", lower_bound=1)
flags.DEFINE_string("work_dir", None, "Folder for the images and caches; by default temporary.")
flags.DEFINE_string("output", "runs/scaling.json", "JSON file of the results.")


def make_images(folder: Path, count: int) -> None:
    """Writes `count` BMP files, at most `DISTINCT` of them with different contents."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"{index:06d}.bmp"
        if index < DISTINCT:
            pixels = rng.integers(0, 256, (RESOLUTION, RESOLUTION, 3), np.uint8)
            Image.fromarray(pixels).save(path)
        else:
            os.link(folder / f"{index % DISTINCT:06d}.bmp", path)


def measure_size(folder: Path, cache: Path, batches: int, steps: int) -> dict[str, float]:
    """Memory and throughput of one data set; runs in a process of its own."""
    quiet.import_tensorflow()

    from cgan_tf import data
    from cgan_tf.data import pipeline
    from cgan_tf.stages.gan_trainer import GAN
    from cgan_tf.training import loop, precision

    before = peak_mib()
    start = time.perf_counter()
    config = make_config(data="folder", data_dir=str(folder), cache_dir=str(cache))
    dataset = data.open_data(config, say=lambda _: None)
    opened = time.perf_counter() - start
    endless = iter(pipeline.training_batches(dataset, "train", config.gan.batch_size, config.seed))
    next(endless)
    start = time.perf_counter()
    for _ in range(batches):
        next(endless)
    read = time.perf_counter() - start
    with_data = peak_mib()
    precision.seed_everything(config)
    trainer = GAN(config, precision.compute_policy(config))
    batches = pipeline.training_feed(dataset, config, config.gan.batch_size)(0)
    train_step = loop.CompiledSteps(trainer, batches)
    for number in range(steps + WARM_UP):
        if number == WARM_UP:
            start = time.perf_counter()
        for value in train_step(number)[1].values():
            float(value)
    trained = time.perf_counter() - start
    return {
        "peak_before_mib": before,
        "peak_data_mib": with_data,
        "peak_mib": peak_mib(),
        "seconds_to_open": opened,
        "images_per_second_read": batches * config.gan.batch_size / read,
        "images_per_second_trained": steps * config.gan.batch_size / trained,
    }


def measure_replicas(count: int, steps: int) -> float:
    """Images per second of the GAN's step on `count` replicas; runs in a process of its own."""

    def start() -> None:
        import tensorflow as tf

        from cgan_tf.training import cluster

        kind = "GPU" if len(tf.config.list_physical_devices("GPU")) >= count else "CPU"
        cluster.start(tuple(f"{kind}:{index}" for index in range(count)))

    quiet.import_tensorflow(start)
    import tensorflow as tf

    from cgan_tf.core import replicas
    from cgan_tf.stages.gan_trainer import GAN
    from cgan_tf.training import feed, loop, precision

    config = make_config()
    precision.seed_everything(config)
    with replicas.scope():
        trainer = GAN(config, precision.compute_policy(config))
    strategy = replicas.strategy()
    shape = (config.gan.batch_size // count, RESOLUTION, RESOLUTION, 3)
    reals = strategy.experimental_distribute_values_from_function(
        lambda context: tf.random.stateless_uniform(
            shape, (context.replica_id_in_sync_group, 0), -1.0, 1.0
        )
    )
    train_step = loop.CompiledSteps(trainer, feed.SameBatch(reals))
    for number in range(steps + WARM_UP):
        if number == WARM_UP:
            begun = time.perf_counter()
        for value in train_step(number)[1].values():
            float(value)
    return steps * config.gan.batch_size / (time.perf_counter() - begun)


def make_config(**values: Any) -> Config:
    """The resolved options; `values` are what differs from the defaults."""
    return options.resolve(options.make(None, {"seed": 1} | values))


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    sizes = [int(size) for size in FLAGS.sizes]
    rows = {}
    print(f"{'':>9}{'peak memory, MiB':>27}{'':>10}{'images/s':>18}")
    print(
        f"{'images':>9}{'start':>9}{'data':>9}{'training':>9}{'s to open':>10}{'read':>9}"
        f"{'trained':>9}"
    )
    with tempfile.TemporaryDirectory(prefix="scaling-", dir=FLAGS.work_dir) as parent:
        for size in sizes:
            folder, cache = Path(parent, f"images{size}"), Path(parent, f"cache{size}")
            make_images(folder, size)
            row = rows[size] = subprocesses.run(
                measure_size, folder, cache, FLAGS.batches, FLAGS.steps
            )
            print(
                f"{size:9,}{row['peak_before_mib']:9.0f}{row['peak_data_mib']:9.0f}"
                f"{row['peak_mib']:9.0f}{row['seconds_to_open']:10.1f}"
                f"{row['images_per_second_read']:9.0f}{row['images_per_second_trained']:9.0f}",
                flush=True,
            )
    ratio = rows[sizes[-1]]["peak_mib"] / rows[sizes[0]]["peak_mib"]
    print(f"peak memory of the largest / of the smallest: {ratio:.3f}")
    rates = {count: subprocesses.run(measure_replicas, count, FLAGS.steps) for count in (1, 2)}
    print(
        f"GAN step, images/s: one replica {rates[1]:.0f}, two replicas {rates[2]:.0f} "
        f"(ratio {rates[2] / rates[1]:.2f})"
    )
    write_json(Path(FLAGS.output), {"rows": rows, "ratio": ratio, "replicas": rates})
    print(f"written: {FLAGS.output}")
    return 1 if ratio > MAX_RATIO else 0


if __name__ == "__main__":
    cli.run(main)
