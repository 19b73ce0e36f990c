"""cgan_tf.training.memory: batches that cannot fit, and what running out of memory says."""

import pytest
import tensorflow as tf
from refusal import message

from cgan_tf.core.options import make, resolve
from cgan_tf.training import memory
from cgan_tf.training.devices import Findings, Gpu

GIB = 2**30


def config(**values):
    return resolve(make(None, {"precision": "float32"} | values))


@pytest.mark.parametrize(
    "error, expected",
    [
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"), True),
        (tf.errors.InternalError(None, None, "Failed to allocate: Out of memory"), True),
        (MemoryError(), True),
        (tf.errors.InternalError(None, None, "Blas GEMM launch failed"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_say_that_memory_is_exhausted(error, expected):
    assert memory.exhausted(error) is expected


@pytest.mark.parametrize(
    "stage, parts",
    [
        ("gan", ("--gan_batch_size=48;", "smaller --gan_width than 7")),
        ("regressor", ("--regressor_batch_size=32;",)),
        ("inversion", ("--inversion_batch_size=32;",)),
        ("directions", ("--directions_batch_size=32;",)),
        ("evaluate", ("end other programs", "--devices=CPU:0")),
        ("export", ("end other programs", "--devices=CPU:0")),
    ],
)
def test_a_stage_without_memory_names_its_batch_size(stage, parts):
    def work():
        with memory.exhaustion_reported(stage, config(gan_batch_size=48, gan_width=7)):
            raise tf.errors.ResourceExhaustedError(None, None, "OOM\nwhen allocating")

    line = message(work)
    assert line.startswith(f"{stage}: out of memory") and "cgan check" in line
    assert all(part in line for part in parts)


def test_other_errors_are_not_touched():
    with pytest.raises(KeyError), memory.exhaustion_reported("gan", config()):
        raise KeyError("x")


def test_the_memory_of_the_devices():
    gpus = (Gpu("a", 80.0), Gpu("b", 24.0), Gpu("c"))
    found = Findings(None, None, gpus, {})
    assert memory.available(found, ("GPU:0",), None) == 80 * GIB
    assert memory.available(found, ("GPU:0", "GPU:1"), None) == 24 * GIB
    assert memory.available(found, ("GPU:0",), 10.0) == 10 * GIB
    assert memory.available(found, ("GPU:2",), None) is None
    assert memory.available(found, ("CPU:0",), 10.0) == memory.physical()


def test_the_main_memory_is_that_of_the_container(tmp_path):
    total = memory.physical([])
    assert 2**28 < total < 2**46
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "limit").write_text(f"{total // 2}\n")
    assert memory.physical([tmp_path / "max", tmp_path / "absent"]) == total
    assert memory.physical([tmp_path / "max", tmp_path / "limit"]) == total // 2


def test_a_batch_that_cannot_fit_is_refused():
    # Photo and fake of 64 px: 2 x 49,152 bytes; three maps of 32 px and 32 channels: 393,216.
    options = config(gan_batch_size=4096)
    assert memory.least(options, "gan_batch_size") == 491_520
    half = config(gan_batch_size=4096, precision="mixed_bfloat16")
    assert memory.least(half, "gan_batch_size") == 294_912
    need = 4096 * 491_520
    memory.check(options, ("gan", "export"), 1, need)
    memory.check(options, ("gan",), 1, None)
    memory.check(options, ("gan",), 2, need // 2)
    memory.check(options, ("regressor",), 1, need - 1)
    assert message(memory.check, options, ("regressor", "gan"), 1, need - 1) == (
        "--gan_batch_size=4096: needs more than 2 GiB, and the device has 2 GiB; give a smaller one"
    )


@pytest.mark.parametrize(
    "flag, side",
    [("regressor_batch_size", 32), ("inversion_batch_size", 16), ("directions_batch_size", 64)],
)
def test_vgg16s_first_maps_count_at_their_resolution(flag, side):
    options = config(regressor_resolution=32, inversion_perceptual_crop=16)
    assert memory.least(options, flag) == 49_152 + side**2 * 128 * 4
