"""Peak memory and images a second as the data set grows, and on one and two replicas.

    python -m benchmarks.scaling --sizes=1000,10000,100000 --output=scaling.json

A folder of so many photos of 64 px (a thousand random ones under many names) is opened, cached and
trained on, each size in a process of its own that tells its largest resident memory. Exit code 1
if that of the largest size is more than 1.1 times that of the smallest. The files and the caches,
12 kB a photo, are deleted afterwards.

Then the GAN's step on one device and on two that share its batch: the first two GPUs, or two parts
of the processor, which cannot be faster and tell what sharing costs.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from benchmarks.memory import peak_mib
from cgan_tf.core import cli, quiet
from cgan_tf.core.config import Config
from cgan_tf.core.files import write_json

BAR = 1.1
DIFFERENT = 1000  # photos; the others are links to them
RESOLUTION = 64  # px

FLAGS = flags.FLAGS
flags.DEFINE_list("sizes", ["1000", "10000", "100000"], "Photos in each data set, rising.")
flags.DEFINE_integer("batches", 200, "Batches that are read.", lower_bound=1)
flags.DEFINE_integer("steps", 20, "Steps of the GAN that are trained.", lower_bound=1)
flags.DEFINE_string("work_dir", None, "Where photos and caches lie meanwhile.")
flags.DEFINE_string("output", "runs/scaling.json", "JSON file of the figures.")


def make_photos(folder: Path, count: int) -> None:
    """`count` names of at most `DIFFERENT` random BMP files."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    draw = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"{index:06d}.bmp"
        if index < DIFFERENT:
            pixels = draw.integers(0, 256, (RESOLUTION, RESOLUTION, 3), np.uint8)
            Image.fromarray(pixels).save(path)
        else:
            os.link(folder / f"{index % DIFFERENT:06d}.bmp", path)


def train(pipe, folder: Path, cache: Path, batches: int, steps: int) -> None:
    """One size's process: opens, reads, trains; sends its figures."""
    quiet.import_tensorflow()
    import tensorflow as tf

    from cgan_tf import data
    from cgan_tf.data import pipeline
    from cgan_tf.stages import gan
    from cgan_tf.training import precision

    before = peak_mib()
    start = time.perf_counter()
    config = Config(seed=1, data="folder", data_dir=str(folder), cache_dir=str(cache))
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
    trainer = gan.GAN(config, precision.compute_policy(config))
    train_step = tf.function(trainer.train_step, autograph=False)
    for number in range(steps + 2):
        if number == 2:
            start = time.perf_counter()
        for value in train_step(next(endless)).values():
            float(value)
    trained = time.perf_counter() - start
    pipe.send(
        {
            "peak_before_mib": before,
            "peak_data_mib": with_data,
            "peak_mib": peak_mib(),
            "seconds_to_open": opened,
            "images_per_second_read": batches * config.gan.batch_size / read,
            "images_per_second_trained": steps * config.gan.batch_size / trained,
        }
    )


def train_on(pipe, replicas: int, steps: int) -> None:
    """One number of replicas' process: trains on a batch in memory; sends images a second."""

    def start() -> None:
        import tensorflow as tf

        from cgan_tf.core import replicas
        from cgan_tf.training import cluster

        kind = "GPU" if len(tf.config.list_physical_devices("GPU")) >= replicas else "CPU"
        devices = tuple(f"{kind}:{index}" for index in range(replicas))
        cluster.start(Config(devices=devices))

    quiet.import_tensorflow(start)
    import tensorflow as tf

    from cgan_tf.core import replicas
    from cgan_tf.stages import gan
    from cgan_tf.training import precision

    config = Config(seed=1)
    precision.seed_everything(config)
    with replicas.scope():
        trainer = gan.GAN(config, precision.compute_policy(config))
    strategy = replicas.strategy()
    shape = (config.gan.batch_size // replicas, RESOLUTION, RESOLUTION, 3)
    reals = strategy.experimental_distribute_values_from_function(
        lambda context: tf.random.stateless_uniform(
            shape, (context.replica_id_in_sync_group, 0), -1.0, 1.0
        )
    )
    step = tf.function(trainer.distributed_step, autograph=False)
    for number in range(steps + 2):
        if number == 2:
            begun = time.perf_counter()
        for value in step(reals).values():
            float(value)
    pipe.send(steps * config.gan.batch_size / (time.perf_counter() - begun))


def measure(count: int, parent: Path) -> dict:
    """The figures of a data set of `count` photos."""
    photos = parent / f"photos{count}"
    make_photos(photos, count)
    return in_a_process(train, photos, parent / f"cache{count}", FLAGS.batches, FLAGS.steps)


def in_a_process(work, *arguments):
    """What `work` sends into the pipe that is its first argument."""
    context = multiprocessing.get_context("spawn")  # a fork would begin with this one's memory
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(sender, *arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def main() -> None:
    sizes = [int(size) for size in FLAGS.sizes]
    rows = {}
    print(f"{'':>9}{'peak memory, MiB':>27}{'':>10}{'images/s':>18}\n"
          f"{'photos':>9}{'start':>9}{'data':>9}{'training':>9}{'s to open':>10}"
          f"{'read':>9}{'trained':>9}")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="scaling-", dir=FLAGS.work_dir) as parent:
        for size in sizes:
            row = rows[size] = measure(size, Path(parent))
            print(
                f"{size:9,}{row['peak_before_mib']:9.0f}{row['peak_data_mib']:9.0f}"
                f"{row['peak_mib']:9.0f}{row['seconds_to_open']:10.1f}"
                f"{row['images_per_second_read']:9.0f}{row['images_per_second_trained']:9.0f}",
                flush=True,
            )
    ratio = rows[sizes[-1]]["peak_mib"] / rows[sizes[0]]["peak_mib"]
    print(f"peak memory of the largest / of the smallest: {ratio:.3f}")
    rates = {count: in_a_process(train_on, count, FLAGS.steps) for count in (1, 2)}
    print(f"GAN step, images/s: one replica {rates[1]:.0f}, two {rates[2]:.0f} "
          f"({rates[2] / rates[1]:.2f} of it)")  # fmt: skip
    write_json(Path(FLAGS.output), {"rows": rows, "ratio": ratio, "replicas": rates})
    print(f"written: {FLAGS.output}")
    if ratio > BAR:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
