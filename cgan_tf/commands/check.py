"""Say what this machine has, whether a GPU is used and why not, and how long a training takes.

    cgan check [--preset=celeba64 | --run_dir=runs/faces]

Takes less than 20 seconds. The training steps of the preset, or of the run, are measured on random
photos; nothing is written.
"""

import dataclasses
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from cgan_tf.core import options, presets, quiet, rules
from cgan_tf.core.config import AUTO, Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder, versions

if TYPE_CHECKING:  # at run time it would import TensorFlow, with its start-up lines
    from cgan_tf.stages.speed import Cost

DEFAULT_PRESET = "demo"
MEASURED_SECONDS = 1.5  # of the GAN's step
BUDGET_SECONDS = 13.0  # after the start of the command no further stage is measured
LABEL = 12  # characters
# What is useful besides Python packages: (names of the program, what it is for).
PROGRAMS = (
    (("npm",), "the page's accessibility tests"),
    (("chromium", "chromium-browser", "google-chrome"), "tests of the page"),
    (("gcc",), "tests of the exports in C"),
)


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string(
        "preset",
        None,
        f"preset whose steps are measured: {', '.join(presets.PRESETS)} (default: "
        f"{DEFAULT_PRESET})",
    )
    flags.DEFINE_string("run_dir", None, "run folder: its options are measured, its disk is shown")


def main() -> int:
    """Runs the command; returns the exit code."""
    start = time.perf_counter()
    run = RunFolder(flags.FLAGS.run_dir) if flags.FLAGS.run_dir else None
    resolved = resolve(flags.FLAGS.preset, run)

    def start_devices() -> tuple[str, ...]:
        from cgan_tf.training import cluster

        return cluster.start(resolved.devices, None, resolved.gpu_memory_gib)

    names = quiet.import_tensorflow(start_devices)
    import tensorflow as tf

    from cgan_tf.core import replicas
    from cgan_tf.stages import speed
    from cgan_tf.training import devices, memory, precision

    resolved = precision.resolve(dataclasses.replace(resolved, devices=names))
    found = devices.find()
    show("versions", version_lines(versions()))
    show("GPU", devices.describe(found))
    device = devices.summary(found, names, resolved.precision)[0]
    show("training on", [device.removeprefix("device: ")])
    show("disk", disk_lines(run, Path(resolved.cache_dir)))
    show("programs", program_lines())
    rules.check_replicas(resolved, replicas.strategy().num_replicas_in_sync)
    left = BUDGET_SECONDS - (time.perf_counter() - start)
    try:
        with memory.exhaustion_reported("gan", resolved):
            costs = speed.costs(resolved, MEASURED_SECONDS, left)
    except tf.errors.OpError as error:
        if not found.usable:
            raise
        raise UserError(
            f"{devices.names_of(found.usable)}: a training step fails "
            f"({' '.join(str(error).split())[:120]}); see above, or give --devices=CPU:0"
        ) from None
    show("measured", [f"{subject(resolved, run)}: training steps without reading photos"])
    show("", speed_lines(costs))
    return 0


def resolve(preset: str | None, run: RunFolder | None) -> Config:
    """The options of a run folder, of a preset, or of the demo.

    Args:
        preset: name of a preset.
        run: a run folder that exists.

    Raises:
        UserError: an unknown preset, no such run, or one of another preset.
    """
    if run is None:
        # Only the networks matter, so no data set has to be there.
        return options.resolve(options.make(preset or DEFAULT_PRESET, {"data": "synthetic"}))
    stored, requested = run.load_config(), run.read()["requested"]
    asked = tuple(requested.get("devices", (AUTO,)))
    stored = dataclasses.replace(stored, devices=asked)
    return options.resolve(options.make(preset, {}, stored))


def show(label: str, lines: Sequence[str]) -> None:
    """Prints lines next to a label."""
    for index, line in enumerate(lines):
        print(f"{label if index == 0 else '':{LABEL}}{line}", flush=True)


def subject(resolved: Config, run: RunFolder | None) -> str:
    """What is measured: the run or the preset, its resolution and the batch of its GAN."""
    name = f"preset {resolved.preset}" if run is None else str(run.path)
    return f"{name}, {resolved.resolution} px, --gan_batch_size={resolved.gan.batch_size}"


def version_lines(found: dict[str, str]) -> list[str]:
    """The versions that matter for a GPU."""
    return [
        ", ".join(f"{name} {found[name]}" for name in ("cgan_tf", "python", "tensorflow", "keras"))
    ]


def disk_lines(run: RunFolder | None, cache: Path) -> list[str]:
    """Free space for the run and for the cache, and the cache's size."""
    lines = []
    if run is not None:
        lines.append(f"{free_gib(run.path):.1f} GiB free for {run.path}")
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    lines.append(f"{free_gib(cache):.1f} GiB free for the cache {cache}, which has {gib(size)}")
    return lines


def gib(size: int) -> str:
    """A size in bytes as `1.25 GiB`."""
    return f"{size / 2**30:.2f} GiB"


def free_gib(folder: Path) -> float:
    """Free space where a folder is, or would be made, in GiB."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30


def program_lines() -> list[str]:
    """Which optional programs are installed, and what each is for."""
    lines = []
    for names, purpose in PROGRAMS:
        path = next(filter(None, map(shutil.which, names)), None)
        lines.append(f"{names[0]}: {path or 'not installed'} ({purpose})")
    return lines


def speed_lines(costs: "dict[str, Cost]") -> list[str]:
    """A line per stage: hours, images, images per second."""
    lines = []
    for stage, cost in costs.items():
        how = "" if cost.measured else " (estimated)"
        name = f"{stage} (its judge)" if stage == "evaluate" else stage
        lines.append(
            f"{name:22}{cost.hours:8.2f} hours: {cost.images / 1000:g} kimg at "
            f"{1 / cost.seconds:,.0f} images/s{how}"
        )
    return lines
