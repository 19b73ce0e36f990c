"""Memory: batches that no device holds are refused, and running out of it is one line."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow as tf

from cgan_tf.core.config import OPTIONS, Config, get
from cgan_tf.core.errors import UserError
from cgan_tf.training.devices import Findings

CGROUP_LIMITS = (  # of a container: version 2, version 1
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
VGG_MAPS = 2 * 64  # channels of VGG16's maps at full resolution


def exhausted(error: BaseException) -> bool:
    """Whether an exception of TensorFlow or Python says that memory is exhausted.

    XLA and cuDNN report it with other types, by message only.
    """
    if isinstance(error, tf.errors.ResourceExhaustedError | MemoryError):
        return True
    return isinstance(error, tf.errors.OpError) and "out of memory" in str(error).lower()


@contextlib.contextmanager
def exhaustion_reported(stage: str, config: Config) -> Iterator[None]:
    """Turns the error of a stage that runs out of memory into one line.

    Raises:
        UserError: the memory is exhausted.
    """
    try:
        yield
    except Exception as error:
        if not exhausted(error):
            raise
        raise UserError(message(stage, config)) from None


def message(stage: str, config: Config) -> str:
    """The line for a stage that has run out of memory."""
    flag = f"{stage}_batch_size"
    if flag not in OPTIONS:
        return (
            f"{stage}: out of memory; end other programs that use it (cgan check shows what is "
            "free), or give --devices=CPU:0"
        )
    width = f" or a smaller --gan_width than {config.gan.width}" if stage == "gan" else ""
    return (
        f"{stage}: out of memory with --{flag}={get(config, flag)}; give a smaller one{width}; "
        "cgan check shows the memory that is free"
    )


def available(found: Findings, names: Sequence[str], cap_gib: float | None) -> int | None:
    """The memory in bytes of the smallest of the training's devices; None if it is unknown.

    Args:
        found: see `devices.find`.
        names: the devices of the training, e.g. ("GPU:0",).
        cap_gib: --gpu_memory_gib.
    """
    indices = [int(name.partition(":")[2]) for name in names if name.startswith("GPU:")]
    if not indices:
        return physical()
    known = [found.usable[index].memory_gib for index in indices] + [cap_gib]
    sizes = [size for size in known if size is not None]
    return round(min(sizes) * 2**30) if sizes else None


def physical(limits: Sequence[Path] = CGROUP_LIMITS) -> int:
    """The main memory that this process may use, in bytes."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in limits:
        try:
            sizes.append(int(path.read_text()))
        except (OSError, ValueError):  # no such limit, or "max"
            pass
    return min(sizes)


def least(config: Config, flag: str) -> int:
    """A lower bound of what one image of a batch takes in training, in bytes.

    The photo, and the maps that the gradient needs in any case: D's first and G's last of the GAN,
    VGG16's first two of the others. The true need is several times that.

    Args:
        config: the resolved options.
        flag: the batch size.
    """
    number = 2 if config.precision == "mixed_bfloat16" else 4
    photo = config.resolution**2 * 3 * 4
    if flag == "gan_batch_size":
        # Photos and fakes pass through D; the maps at half the resolution are the finest of DCGAN.
        return 2 * photo + 3 * (config.resolution // 2) ** 2 * config.gan.width * number
    sides = {
        "regressor_batch_size": config.regressor.resolution,
        "inversion_batch_size": config.inversion.perceptual_crop,
    }
    return photo + sides.get(flag, config.resolution) ** 2 * VGG_MAPS * number


def check(config: Config, stages: Sequence[str], replicas: int, size: int | None) -> None:
    """Refuses batches that cannot fit, which the system might answer by killing the process.

    Args:
        config: the resolved options.
        stages: the stages that will train.
        replicas: the number of devices that share a batch.
        size: memory of one of them in bytes; None if it is unknown.

    Raises:
        UserError: a batch does not fit.
    """
    for flag in (f"{stage}_batch_size" for stage in stages):
        if flag not in OPTIONS or size is None:
            continue
        need = get(config, flag) // replicas * least(config, flag)
        if need > size:
            raise UserError(
                f"--{flag}={get(config, flag)}: needs more than {need / 2**30:.0f} GiB, and the "
                f"device has {size / 2**30:.0f} GiB; give a smaller one"
            )
