"""commands.train: a run that is interrupted, killed, or out of disk space resumes to equal weights.

One of each runs in the fast suite; `make test-slow` runs the others.
"""

import contextlib
import errno
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest
import tiny
import train_command
from train_command import tiny_flags

from cgan_tf.core.run_folder import RunFolder, StageFolder
from cgan_tf.report import page

ROOT = Path(__file__).parents[2]
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}


def gan_flags(cache, **options):
    """Eight steps of one graph: without a gradient penalty there is no other."""
    return tiny_flags(cache, gan_penalty="none", **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """A GAN stage of eight steps that was never interrupted; not to be changed."""
    run = RunFolder(tmp_path_factory.mktemp("trained") / "run")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(page, "write", lambda run: run.path / "report.html")
        arguments = ["--stage=gan", f"--run_dir={run.path}", *gan_flags(cache)]
        assert train_command.run(*arguments) == 0
    assert out.getvalue().splitlines()[-1] == f"report: {run.path / 'report.html'}"
    assert run.stage("gan").finished() and steps(run.stage("gan"))[-1] == 8
    return run.stage("gan")


def assert_equal(stage, trained):
    """Bit for bit: weights, optimizers, averages and random states, and the artifact."""
    assert stage.finished()
    tiny.assert_equal_state(tiny.final_state(stage), tiny.final_state(trained))
    assert stage.artifact_hash() == trained.artifact_hash()


def steps(stage):
    """The steps of the checkpoints."""
    return sorted(int(path.stem.split("-")[1]) for path in stage.checkpoints.glob("step-*.npz"))


@pytest.fixture
def guard():
    """A signal that the command does not handle fails the test instead of ending the tests."""

    def unhandled(number, frame):
        pytest.fail(f"the command does not handle signal {number}")

    old = {number: signal.signal(number, unhandled) for number in SIGNALS}
    yield
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_the_same_command_resumes(
    command, tmp_path, cache, monkeypatch, trained, guard, number
):
    stage = RunFolder(tmp_path / "run").stage("gan")
    append = StageFolder.append_stats

    def interrupted(folder, line):
        append(folder, line)
        if line["kimg"] == 0.024:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(StageFolder, "append_stats", interrupted)
        code, _, error = command("--stage=gan", f"--run_dir={stage.run.path}", *gan_flags(cache))
    name = signal.Signals(number).name
    assert (code, steps(stage)) == (SIGNALS[number], [3]) and not stage.finished()
    assert error == (
        f"error: {name}: saved step-000000003.npz at 0.0 kimg; the same command resumes"
    )
    code, out, _ = command("--stage=gan", f"--run_dir={stage.run.path}")
    assert code == 0 and "gan: resuming at 0.0 of 0.064 kimg" in out.splitlines()
    assert_equal(stage, trained)


KILLED = """
import os, signal, sys
from cgan_tf.commands import train
from cgan_tf.core import cli

replace = os.replace

def kill(source, target):
    if str(target).endswith(sys.argv[1]):
        if os.path.isfile(source):
            os.truncate(source, 100)
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = kill
cli.run(train.main, train.define_flags, arguments=["train", *sys.argv[2:]])
"""


@pytest.mark.parametrize(
    "written, saved",
    [
        ("step-000000005.npz", [3, 4]),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("step-000000001.npz", []),
                ("gan/metadata.json", []),
                ("run/config.json", []),
                ("step-000000008.npz", [6, 7]),
                ("gan/model", [7, 8]),
                ("discriminator", [7, 8]),
            )
        ),
    ],
)
def test_kill_9_while_a_file_is_written(command, tmp_path, cache, trained, written, saved):
    stage = RunFolder(tmp_path / "run").stage("gan")
    arguments = [
        "--stage=gan",
        f"--run_dir={stage.run.path}",
        *gan_flags(cache, checkpoint_minutes=1e-9),
    ]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, written, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert steps(stage) == saved
    code, out, _ = command(*arguments)
    assert code == 0 and ("gan: resuming at " in out) == bool(saved)
    assert_equal(stage, trained)
    assert steps(stage) == [7, 8] and not list(stage.run.path.rglob("*.tmp"))


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_old_files_stay(command, tmp_path, trained, monkeypatch):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(trained.run.path, run.path)
    stage = run.stage("gan")
    shutil.rmtree(stage.checkpoints)
    metadata = stage.path / "metadata.json"
    metadata.write_text(re.sub('"ended": ".*"', '"ended": null', metadata.read_text()))
    before = tiny.snapshot(run.path)
    fsync = os.fsync

    def full(descriptor):
        if "checkpoints" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        code, _, error = command("--stage=gan", f"--run_dir={run.path}")
    assert (code, error) == (
        2,
        f"error: the disk is full ({stage.checkpoints}/step-000000008.npz): free some space and "
        "run the same command again",
    )
    after = tiny.snapshot(run.path)
    # Nothing is lost and nothing is left half-written; only the checkpoint is missing.
    assert set(after) == set(before) and not stage.finished()
    for name in ("gan/model/weights.h5", "gan/discriminator/weights.h5"):
        assert after[name] == before[name]
    assert command("--stage=gan", f"--run_dir={run.path}")[0] == 0
    assert_equal(stage, trained)


@pytest.mark.slow
def test_signals_to_a_process_of_its_own(tmp_path, cache, command):
    stage = RunFolder(tmp_path / "run").stage("gan")
    saved, arguments = [0], gan_flags(cache, gan_kimg=1e5)
    for number, code in SIGNALS.items():
        process = subprocess.Popen(
            [
                sys.executable,
                "train_main.py",
                "--stage=gan",
                f"--run_dir={stage.run.path}",
                "--checkpoint_minutes=0.002",
                *arguments,
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            while max(steps(stage), default=0) <= saved[-1] + 1:
                assert process.poll() is None, process.communicate()
                time.sleep(0.05)
            if number == signal.SIGINT:  # nobody else may work in the folder now
                line = command("--stage=gan", f"--run_dir={stage.run.path}")[2]
                assert "another process is working in it" in line
            process.send_signal(number)
            out, error = process.communicate(timeout=120)
        finally:
            process.kill()
        step = steps(stage)[-1]
        assert process.returncode == code
        assert error == (
            f"error: {number.name}: saved step-{step:09d}.npz at {step * 8 / 1000:.1f} kimg; the "
            "same command resumes\n"
        )
        resuming = f"gan: resuming at {saved[-1] * 8 / 1000:.1f} of 100000 kimg"
        assert (resuming in out.splitlines()) == (number == signal.SIGTERM)
        assert step > saved[-1] and not stage.finished()
        assert not list(stage.path.rglob("*.tmp"))
        saved.append(step)
        arguments = []  # the run folder remembers them


def test_the_tests_share_no_files_with_a_user(trained, cache):
    assert trained.run.read()["options"]["cache_dir"] == str(cache)
    assert keras.applications.VGG16 is tiny.VGG16
