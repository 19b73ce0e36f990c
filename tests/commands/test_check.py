"""commands.check: what it prints in each case, by simulated probes; wrong input."""

import subprocess
import sys
from pathlib import Path

import command_flags
import pytest
import tensorflow as tf
import tiny

from cgan_tf.commands import check
from cgan_tf.core import presets
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.stages import speed
from cgan_tf.training import devices
from cgan_tf.training.devices import Driver, Findings, Gpu

ROOT = Path(__file__).parents[2]
GPU = Gpu("NVIDIA L4", 22.5, 22.0, (8, 9))
BUILD = {"is_cuda_build": True, "cuda_version": "12.5.1", "cuda_compute_capabilities": ["sm_89"]}
COSTS = {
    "gan": speed.Cost(0.002, 200_000, True),
    "evaluate": speed.Cost(0.0005, 45_000, False),
}


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs `cgan check`, with these findings and costs: (exit code, lines, error line)."""
    measured = []

    def call(*arguments, found=None):
        if found is not None:
            monkeypatch.setattr(devices, "find", lambda: found)
        monkeypatch.setattr(speed, "costs", lambda config, *times: measured.append(config) or COSTS)
        code = command_flags.run_line("check", *map(str, arguments))
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    call.measured = measured
    return call


def findings(**values):
    return Findings(Driver("550.54", (12, 4), (GPU,)), None, (), BUILD)._replace(**values)


@pytest.mark.parametrize(
    "found, expected",
    [
        (Findings(None, None, (), BUILD), ["GPU         none (no NVIDIA driver shows one)"]),
        (
            findings(visible="-1"),
            [
                "GPU         NVIDIA L4 (22.5 GiB, 22.0 free, compute capability 8.9), driver "
                "550.54 (CUDA 12.4)",
                "            not used: TensorFlow sees none, because CUDA_VISIBLE_DEVICES=-1 hides "
                "them",
                "            remedy: unset CUDA_VISIBLE_DEVICES, or set it to 0 for the first GPU",
            ],
        ),
        (
            findings(missing=("libcudnn.so.9",)),
            ["            not used: TensorFlow cannot load libcudnn.so.9"],
        ),
        (findings(usable=(GPU,)), ["            used by TensorFlow"]),
    ],
    ids=["no GPU", "hidden", "libraries", "fine"],
)
def test_the_gpu_lines(run, found, expected):
    code, lines, error = run(found=found)
    assert code == 0 and error == ""
    assert [line for line in lines if line in expected] == expected


def test_everything_else(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "cgan_tf" / "deep").mkdir(parents=True)
    (tmp_path / "cgan_tf" / "deep" / "photos.npy").write_bytes(b"0" * 2**24)
    monkeypatch.setattr(
        check.shutil, "which", lambda name: "/bin/google-chrome" if "google" in name else None
    )
    code, lines, _ = run()
    text = "\n".join(lines)
    assert code == 0
    assert lines[0].startswith("versions    cgan_tf ") and ", tensorflow 2." in lines[0]
    assert ", python 3." in lines[0] and ", keras 3." in lines[0]
    assert f"training on CPU ({devices.cores()} cores), " in text
    assert f"for the cache {tmp_path}/cgan_tf, which has 0.02 GiB" in text
    assert "npm: not installed (the page's accessibility tests)" in text
    assert "chromium: /bin/google-chrome (" in text and "gcc: not installed (" in text
    assert "measured    preset demo, 64 px, --gan_batch_size=16: " in text
    assert lines[-2].split() == "gan 0.11 hours: 200 kimg at 500 images/s".split()
    assert lines[-1].split() == (
        "evaluate (its judge) 0.01 hours: 45 kimg at 2,000 images/s (estimated)".split()
    )


@pytest.fixture
def failing_step(monkeypatch):
    """The training step fails as on a GPU without kernels."""

    def fail(config, *times):
        raise tf.errors.InternalError(None, None, "cuLaunchKernel failed:\nCUDA_ERROR_INVALID_PTX")

    monkeypatch.setattr(speed, "costs", fail)


def test_a_step_that_a_gpu_cannot_run_is_one_line(capsys, monkeypatch, failing_step):
    monkeypatch.setattr(devices, "find", lambda: findings(usable=(GPU,)))
    assert command_flags.run_line("check") == 2
    printed = capsys.readouterr()
    assert "used by TensorFlow" in printed.out
    start = "error: NVIDIA L4: a training step fails (cuLaunchKernel failed: "
    assert printed.err.startswith(start) and len(printed.err.splitlines()) == 1


def test_a_step_that_fails_without_a_gpu_is_a_bug(failing_step):
    with pytest.raises(tf.errors.InternalError):
        command_flags.run_line("check")


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_every_preset_can_be_checked_without_its_photos(run, preset):
    assert run(f"--preset={preset}")[0] == 0
    (config,) = run.measured
    expected = presets.PRESETS[preset].get("gan_batch_size", 64)
    assert config.preset == preset and config.gan.batch_size == expected
    assert config.precision in ("float32", "mixed_bfloat16")


def test_a_run_is_checked_with_its_options(run, tmp_path, cache, faces):
    folder = RunFolder(tmp_path / "run")
    tiny.save_config(folder, tiny.make_config(cache, devices=("GPU:7",)), faces)
    before = tiny.snapshot(folder.path)
    code, lines, _ = run(f"--run_dir={folder.path}")
    assert code == 0 and any(f"GiB free for {folder.path}" in line for line in lines)
    assert f"measured    {folder.path}, 32 px, --gan_batch_size=8: " in "\n".join(lines)
    assert run.measured[0].gan.width == 4
    assert tiny.snapshot(folder.path) == before


@pytest.mark.parametrize(
    "arguments, line",
    [
        (
            ["--preset=nope"],
            f"--preset=nope: unknown preset; one of {', '.join(presets.PRESETS)}",
        ),
        (["--prest=demo"], "--prest: unknown flag; did you mean --preset? (see --help)"),
        (["demo"], "'demo': not a flag; every option is written --name=value (see --help)"),
        (
            ["--run_dir=/none"],
            "/none: no run folder (config.json is missing); give one that train_main.py has made",
        ),
    ],
)
def test_wrong_input_is_one_line(run, arguments, line):
    assert run(*arguments) == (2, [], f"error: {line}\n")


def test_a_preset_that_is_not_the_runs(run, tmp_path, cache, faces):
    folder = RunFolder(tmp_path / "run")
    tiny.save_config(folder, tiny.make_config(cache), faces)
    code, lines, error = run(f"--run_dir={folder.path}", "--preset=demo")
    assert code == 2 and lines == [] and "this run folder was made with no preset" in error


def test_help_does_not_import_tensorflow():
    code = (
        "import sys\nfrom cgan_tf.__main__ import main\n"
        "try:\n    main(['check', '--help'])\n"
        "finally:\n    assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and "--run_dir" in done.stdout
