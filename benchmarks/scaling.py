"""Peak memory and throughput by number of photos, number of replicas, and size of the networks.

    python -m benchmarks.scaling --sizes=1000,10000,100000 --output=scaling.json
    python -m benchmarks.scaling --parts=networks --networks=dcgan:64:48,residual:256:16

photos: opens, caches and trains on a folder of 64 px images (a thousand random ones under many
names), which the host reads; each size in a process of its own. Then the largest size again, with
--device_cache_gib at half of the training photos: they must not be copied to the device. Exit code
1 if one of these, or the largest size, needs more than 1.1 times the peak memory of the smallest.
The files and caches, 12 kB per image, are deleted afterwards.

replicas: the GAN's step on one device and on two: the first two GPUs or, without them, two halves
of the processor, which shows the cost of data parallelism.

networks: the GAN's step, its penalties as often as in training, on a batch in memory, for each of
--networks and --batch_sizes in a process of its own: time per step and per pixel of a photo, and
the peak memory, of the GPU if there is one, else of the process.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from benchmarks import own_step, subprocesses
from benchmarks.memory import peak_mib
from cgan_tf.core import cli, options, quiet
from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json

MAX_RATIO = 1.1  # of the peak memory of the largest and of the smallest size
DISTINCT = 1000  # images; the others are links to them
RESOLUTION = 64  # px
TRAIN_SHARE = 0.8  # of a folder's photos
WARM_UP = 2  # steps before the timed ones
PARTS = ("photos", "replicas", "networks")
# Architecture, resolution and width: those of the presets, and what lies between.
NETWORKS = (
    "dcgan:64:48",
    "dcgan:64:32",
    "dcgan:64:96",
    "dcgan:128:24",
    "dcgan:256:16",
    "residual:64:48",
    "residual:128:24",
    "residual:256:16",
)

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_list("parts", list(PARTS), f"What to measure, of {', '.join(PARTS)}.")
    flags.DEFINE_list("sizes", ["1000", "10000", "100000"], "Numbers of images, increasing.")
    flags.DEFINE_integer("batches", 200, "Number of batches to read.", lower_bound=1)
    flags.DEFINE_integer("steps", 20, "Number of GAN steps to train.", lower_bound=1)
    flags.DEFINE_list("networks", list(NETWORKS), "ARCHITECTURE:RESOLUTION:WIDTH of each.")
    flags.DEFINE_list("batch_sizes", ["8", "32"], "Images in one batch of the part networks.")
    flags.DEFINE_enum("jit", "auto", ["auto", "true", "false"], "Compile these steps with XLA.")
    flags.DEFINE_float("seconds", 5.0, "Time for the steps of each network [s].", lower_bound=0.01)
    flags.DEFINE_string("work_dir", None, "Folder for the images and caches; by default temporary.")
    flags.DEFINE_string("output", "runs/scaling.json", "JSON file of the results.")


# ---- photos --------------------------------------------------------------------------------------


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


def measure_size(
    folder: Path, cache: Path, batches: int, steps: int, budget: float
) -> dict[str, float]:
    """Memory and throughput of one data set; runs in a process of its own.

    Args:
        folder: the images.
        cache: folder of the decoded images.
        batches: number of batches to read.
        steps: number of GAN steps to train.
        budget: --device_cache_gib.
    """
    quiet.import_tensorflow()

    from cgan_tf import data
    from cgan_tf.data import pipeline
    from cgan_tf.stages.gan_trainer import GAN
    from cgan_tf.training import loop, precision

    before = peak_mib()
    start = time.perf_counter()
    config = make_config(
        data="folder", data_dir=str(folder), cache_dir=str(cache), device_cache_gib=budget
    )
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
    feed = pipeline.training_feed(dataset, config, config.gan.batch_size)(0)
    train_step = loop.CompiledSteps(trainer, feed)
    for number in range(steps + WARM_UP):
        if number == WARM_UP:
            start = time.perf_counter()
        for value in train_step(number)[1].values():
            float(value)
    trained = time.perf_counter() - start
    return {
        "resident": isinstance(feed, pipeline.ResidentFeed),
        "peak_before_mib": before,
        "peak_data_mib": with_data,
        "peak_mib": peak_mib(),
        "seconds_to_open": opened,
        "images_per_second_read": batches * config.gan.batch_size / read,
        "images_per_second_trained": steps * config.gan.batch_size / trained,
    }


def measure_photos() -> dict[str, Any]:
    """The table of the numbers of photos; prints its rows as they are measured."""
    sizes = [int(size) for size in FLAGS.sizes]
    rows = {}
    print(f"{'':>18}{'peak memory, MiB':>27}{'':>10}{'images/s':>18}")
    print(
        f"{'images':>18}{'start':>9}{'data':>9}{'training':>9}{'s to open':>10}{'read':>9}"
        f"{'trained':>9}"
    )
    with tempfile.TemporaryDirectory(prefix="scaling-", dir=FLAGS.work_dir) as parent:
        half = sizes[-1] * TRAIN_SHARE * 3 * RESOLUTION**2 / 2**31  # of the training photos, GiB
        for size, budget in [*((size, 0.0) for size in sizes), (sizes[-1], half)]:
            folder, cache = Path(parent, f"images{size}"), Path(parent, f"cache{size}")
            if not folder.exists():
                make_images(folder, size)
            row = subprocesses.run(measure_size, folder, cache, FLAGS.batches, FLAGS.steps, budget)
            name = f"{size:,}{' refused' if budget else ''}"
            rows[name] = row
            print(
                f"{name:>18}{row['peak_before_mib']:9.0f}{row['peak_data_mib']:9.0f}"
                f"{row['peak_mib']:9.0f}{row['seconds_to_open']:10.1f}"
                f"{row['images_per_second_read']:9.0f}{row['images_per_second_trained']:9.0f}",
                flush=True,
            )
    peaks = [row["peak_mib"] for row in rows.values()]
    ratio = max(peaks[len(sizes) - 1 :]) / peaks[0]
    print(f"peak memory of the largest / of the smallest: {ratio:.3f}")
    return {"rows": rows, "ratio": ratio, "resident": any(r["resident"] for r in rows.values())}


# ---- replicas ------------------------------------------------------------------------------------


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


# ---- networks ------------------------------------------------------------------------------------


class Network(NamedTuple):
    """The GAN's networks, and the batch."""

    arch: str
    resolution: int  # px
    width: int  # channels at the finest level
    batch: int  # images


def parse_networks(networks: list[str], batch_sizes: list[str], jit: str) -> list[Network]:
    """Each of --networks with each of --batch_sizes.

    Args:
        networks: the flag's values.
        batch_sizes: the flag's values.
        jit: see `network_config`.

    Raises:
        UserError: a value makes no sense.
    """
    found = []
    for text in networks:
        try:
            arch, resolution, width = text.split(":")
            network = Network(arch, int(resolution), int(width), 0)
        except ValueError:
            raise UserError(
                f"--networks={text}: give ARCHITECTURE:RESOLUTION:WIDTH, e.g. {NETWORKS[0]}"
            ) from None
        for batch in batch_sizes:
            if not batch.isdigit():
                raise UserError(f"--batch_sizes={batch}: give whole numbers")
            found.append(network._replace(batch=int(batch)))
            network_config(found[-1], jit)
    return found


def network_config(network: Network, jit: str) -> Config:
    """The resolved options, but for the precision.

    Raises:
        UserError: a value makes no sense.
    """
    return make_config(
        resolution=network.resolution,
        gan_arch=network.arch,
        gan_width=network.width,
        gan_batch_size=network.batch,
        jit=jit,
    )


def measure_network(network: Network, jit: str, seconds: float) -> dict[str, Any]:
    """Time, memory and weights of one network; runs in a process of its own."""
    quiet.import_tensorflow()
    import tensorflow as tf

    from cgan_tf.core import replicas
    from cgan_tf.stages import progressive
    from cgan_tf.training import loop, memory, precision

    config = precision.resolve(network_config(network, jit))
    precision.seed_everything(config)
    trainer = progressive.make_trainer(config, precision.compute_policy(config))
    shape = (network.batch, network.resolution, network.resolution, 3)
    reals = tf.random.stateless_uniform(shape, (0, 0), -1.0, 1.0)
    steps = max(trainer.period, loop.steps_per_call(config))  # powers of two: whole periods
    try:
        elapsed = seconds_per_step(
            own_step.BareSteps(trainer, reals, steps, config.jit == "true"), seconds
        )
    except Exception as error:
        if not memory.exhausted(error):
            raise
        return {"failure": "out of memory"}
    peak = peak_mib()
    if replicas.on_gpu():
        peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    return {
        "device": "GPU" if replicas.on_gpu() else "CPU",
        "precision": config.precision,
        "jit": config.jit,
        "ms_per_step": 1e3 * elapsed,
        "images_per_second": network.batch / elapsed,
        "ns_per_pixel": 1e9 * elapsed / network.batch / network.resolution**2,
        "peak_mib": peak,
        "weights": own_step.weights(trainer),
    }


def seconds_per_step(run: own_step.BareSteps, seconds: float) -> float:
    """The mean time of a step, after one call, which compiles, in calls that take so long."""
    run(), run.finish()
    start, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - start < seconds:
        run(), run.finish()
        calls += 1
    return (time.perf_counter() - start) / calls / run.steps


def measure_networks(networks: list[Network]) -> dict[str, Any]:
    """The table of the networks; prints its rows as they are measured."""
    print(
        f"{'':9}{'px':>5}{'width':>6}{'batch':>6}{'ms/step':>10}{'images/s':>10}{'ns/pixel':>10}"
        f"{'peak MiB':>10}{'G weights':>12}{'D weights':>12}"
    )
    rows: dict[Network, dict[str, Any]] = {}
    for network in networks:
        row = rows[network] = subprocesses.run(measure_network, network, FLAGS.jit, FLAGS.seconds)
        name = f"{network.arch:9}{network.resolution:5}{network.width:6}{network.batch:6}"
        if "failure" in row:
            print(f"{name}  {row['failure']}", flush=True)
            continue
        g, d = row["weights"]
        print(
            f"{name}{row['ms_per_step']:10.1f}{row['images_per_second']:10.1f}"
            f"{row['ns_per_pixel']:10.1f}{row['peak_mib']:10.0f}{g:12,}{d:12,}",
            flush=True,
        )
    growth = cost_growth(rows)
    for name, ratio in growth.items():
        print(f"cost per pixel, {name}: {ratio:.2f}")
    listed = [network._asdict() | row for network, row in rows.items()]
    return {"rows": listed, "cost_growth": growth}


def cost_growth(rows: dict[Network, dict[str, Any]]) -> dict[str, float]:
    """Cost per pixel relative to that at the smallest side, by architecture, batch and side.

    Args:
        rows: see `measure_network`. Of several widths at one side, the first counts.
    """
    costs: dict[tuple[str, int], dict[int, float]] = {}
    for network, row in rows.items():
        if "failure" not in row:
            sides = costs.setdefault((network.arch, network.batch), {})
            sides.setdefault(network.resolution, row["ns_per_pixel"])
    return {
        f"{arch}, batch {batch}, {side} px / {min(sides)} px": sides[side] / sides[min(sides)]
        for (arch, batch), sides in costs.items()
        for side in sorted(sides)[1:]
    }


def make_config(**values: Any) -> Config:
    """The resolved options; `values` are what differs from the defaults."""
    return options.resolve(options.make(None, {"seed": 1} | values))


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    for part in FLAGS.parts:
        if part not in PARTS:
            raise UserError(f"--parts={part}: of {', '.join(PARTS)}")
    networks = parse_networks(FLAGS.networks, FLAGS.batch_sizes, FLAGS.jit)
    found: dict[str, Any] = {}
    if "photos" in FLAGS.parts:
        found["photos"] = measure_photos()
    if "replicas" in FLAGS.parts:
        rates = {n: subprocesses.run(measure_replicas, n, FLAGS.steps) for n in (1, 2)}
        found["replicas"] = rates
        print(
            f"GAN step, images/s: one replica {rates[1]:.0f}, two replicas {rates[2]:.0f} "
            f"(ratio {rates[2] / rates[1]:.2f})",
            flush=True,
        )
    if "networks" in FLAGS.parts:
        found["networks"] = measure_networks(networks)
    write_json(Path(FLAGS.output), found)
    print(f"written: {FLAGS.output}")
    photos = found.get("photos", {"ratio": 0.0, "resident": False})
    return 1 if photos["ratio"] > MAX_RATIO or photos["resident"] else 0


if __name__ == "__main__":
    cli.run(main, define_flags)
