"""commands.train: what it says about the devices, memory, and --gan_batch_size=auto."""

import os

import pytest
import tensorflow as tf
import tiny
from train_command import tiny_flags

from cgan_tf.core import quiet
from cgan_tf.core.files import write_text
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.stages import gan, regressor, speed
from cgan_tf.training import devices
from cgan_tf.training.devices import Driver, Findings, Gpu

CPU = f"device: CPU ({devices.cores()} cores), float32"
LIBRARIES = Findings(
    Driver("550.54", (12, 4), (Gpu("NVIDIA H200"),)),
    None,
    (),
    {"is_cuda_build": True},
    ("libcudnn.so.9",),
)


@pytest.fixture
def idle_gan(monkeypatch):
    """A GAN stage that only lists the options that it is called with."""
    calls = []
    monkeypatch.setattr(gan, "run", lambda options, run, data: calls.append(options))
    return calls


def test_the_device_is_printed_first(command, tmp_path, cache, faces, idle_gan):
    code, out, _ = command("--stage=gan", f"--run_dir={tmp_path / 'run'}", *tiny_flags(cache))
    assert code == 0 and out.splitlines()[0] == CPU


def test_a_gpu_that_cannot_be_used_is_noted(command, tmp_path, cache, faces, idle_gan, monkeypatch):
    monkeypatch.setattr(devices, "find", lambda: LIBRARIES)
    call = ("--stage=gan", f"--run_dir={tmp_path / 'run'}", *tiny_flags(cache))
    assert command(*call)[1].splitlines()[:2] == [
        CPU,
        "note: a GPU (NVIDIA H200) is present, but TensorFlow cannot load libcudnn.so.9; training "
        "on the CPU; see cgan check",
    ]
    assert "note: a GPU" not in command(*call, "--devices=CPU:0")[1]
    code, out, error = command(*call, "--devices=GPU:0")
    assert (code, out) == (2, "") and error.startswith(
        "error: --devices=GPU:0: TensorFlow can use no GPU of this machine (NVIDIA H200): it "
        "cannot load libcudnn.so.9; run pip install "
    )


def test_hidden_gpus_are_named_by_their_variable(command, tmp_path, cache, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    call = ("--stage=gan", f"--run_dir={tmp_path / 'run'}", *tiny_flags(cache), "--devices=GPU:0")
    assert command(*call) == (
        2,
        "",
        "error: --devices=GPU:0: TensorFlow can use no GPU: it sees none, because "
        "CUDA_VISIBLE_DEVICES= hides them; unset CUDA_VISIBLE_DEVICES, or set it to 0 for the "
        "first GPU",
    )
    assert not (tmp_path / "run").exists()


def test_a_finished_stage_prints_no_device(command, finished):
    code, out, _ = command("--stage=gan", f"--run_dir={finished.path}")
    assert code == 0 and "nothing to do" in out and "device" not in out


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"),
        tf.errors.InternalError(None, None, "XLA: Out of memory\nallocating 9 GB"),
        MemoryError(),
    ],
    ids=["TensorFlow", "XLA", "Python"],
)
def test_a_stage_without_memory_ends_in_one_line(
    command, tmp_path, cache, faces, monkeypatch, error
):
    def run_out(options, run, data):
        raise error

    monkeypatch.setattr(regressor, "run", run_out)
    call = ("--stage=regressor", f"--run_dir={tmp_path / 'run'}", *tiny_flags(cache))
    code, _, line = command(*call)
    assert code == 2 and line == (
        "error: regressor: out of memory with --regressor_batch_size=4; give a smaller one; cgan "
        "check shows the memory that is free"
    )


def test_a_batch_that_no_memory_holds_is_refused_before_any_work(command, tmp_path, cache):
    arguments = tiny_flags(cache, gan_batch_size=10**8)
    code, _, error = command("--stage=gan", f"--run_dir={tmp_path / 'run'}", *arguments)
    assert code == 2 and error.startswith("error: --gan_batch_size=100000000: needs more than ")
    assert error.endswith("; give a smaller one")
    assert tiny.listing(tmp_path) == ["run/.lock"]


@pytest.mark.parametrize("given, expected", [(None, "true"), ("false", "false")])
def test_the_memory_of_a_gpu_grows_unless_the_user_says_otherwise(monkeypatch, given, expected):
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH", raising=False)
    if given:
        monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", given)
    quiet.import_tensorflow()
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == expected


# --gan_batch_size=auto.


@pytest.fixture
def measured(monkeypatch):
    """`auto` finds 16; lists (batch size to begin with, limit)."""
    calls = []

    def largest_batch(options, limit, say):
        calls.append((options.gan.batch_size, limit))
        return 16

    monkeypatch.setattr(speed, "largest_batch", largest_batch)
    return calls


def test_auto_is_measured_and_recorded(command, tmp_path, cache, faces, idle_gan, measured):
    run = RunFolder(tmp_path / "run")
    call = ("--stage=gan", f"--run_dir={run.path}", *tiny_flags(cache), "--preset=demo")
    call = tuple(flag for flag in call if not flag.startswith("--gan_batch_size="))
    assert command(*call, "--gan_batch_size=auto")[0] == 0
    assert measured == [(16, 80)]  # demo's; the number of training photos
    content = run.read()
    assert content["options"]["gan"]["batch_size"] == idle_gan[-1].gan.batch_size == 16
    assert content["requested"]["gan_batch_size"] is None  # as every auto
    # Later commands keep it, with and without the flag, unless the stage starts over.
    (run.stage("gan").checkpoints).mkdir(parents=True)
    write_text(run.stage("gan").checkpoints / "step-000000008.npz", "weights")
    assert command("--stage=gan", f"--run_dir={run.path}")[0] == 0
    assert command("--stage=gan", f"--run_dir={run.path}", "--gan_batch_size=auto")[0] == 0
    assert [options.gan.batch_size for options in idle_gan] == [16, 16, 16]
    assert len(measured) == 1
    assert command(*call, "--gan_batch_size=auto", "--restart")[0] == 0
    assert measured[1:] == [(16, 80)]


def test_auto_is_not_measured_by_other_stages(command, finished, measured, monkeypatch):
    monkeypatch.setattr(regressor, "run", lambda options, run, data: None)
    call = ("--stage=regressor", f"--run_dir={finished.path}", "--gan_batch_size=auto")
    assert command(*call)[0] == 0 and measured == []
    assert finished.load_config().gan.batch_size == 8


def test_auto_that_runs_out_of_memory_at_once(command, tmp_path, cache, faces, monkeypatch):
    def images_per_second(options, batch, seconds):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr(speed, "images_per_second", images_per_second)
    arguments = [flag for flag in tiny_flags(cache) if "gan_batch_size" not in flag]
    call = ("--stage=gan", f"--run_dir={tmp_path / 'run'}", *arguments, "--gan_batch_size=auto")
    code, _, error = command(*call)
    assert code == 2 and error.startswith("error: gan: out of memory with --gan_batch_size=64; ")
