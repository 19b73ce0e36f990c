"""commands.train: changes of an existing run that are refused, and --restart."""

import errno
import importlib.util
import json
import os
import shutil

import pytest
import tiny
from tiny_onnx import write_recognizer
from train_command import finish, tiny_flags

from cgan_tf.core.files import write_text
from cgan_tf.stages import gan


def without_lock(folder):
    """All files of a run folder but the lock."""
    return {name: value for name, value in tiny.snapshot(folder).items() if name != ".lock"}


def unfinish(stage):
    """Makes a finished stage look killed after its last checkpoint."""
    metadata = stage.path / "metadata.json"
    write_text(metadata, json.dumps(json.loads(metadata.read_text()) | {"ended": None}))
    write_text(stage.checkpoints / "step-000000008.npz", "weights")


def test_changed_options_are_refused_and_named(command, finished):
    unfinish(finished.stage("gan"))
    before = without_lock(finished.path)
    code, _, error = command(
        "--stage=gan", f"--run_dir={finished.path}", "--gan_g_lr=0.5", "--gan_width=8"
    )
    assert code == 2 and error == (
        f"error: the gan stage in {finished.path} began with other options: --gan_width=8 (was 4), "
        "--gan_g_lr=0.5 (was 0.0003); use the old ones or another --run_dir, or give --stage=gan "
        "--restart, which moves the old stage aside"
    )
    assert without_lock(finished.path) == before


def test_an_option_of_an_earlier_finished_stage_is_refused(command, finished):
    shutil.rmtree(finished.stage("directions").path)
    before = without_lock(finished.path)
    code, _, error = command(
        "--stage=directions", f"--run_dir={finished.path}", "--inversion_width=8"
    )
    assert code == 2 and error.startswith(
        f"error: the inversion stage in {finished.path} began with other options: "
        "--inversion_width=8 (was 4);"
    )
    assert "--stage=inversion --restart" in error
    assert without_lock(finished.path) == before


def test_an_option_of_another_stage_is_not_refused(command, finished):
    shutil.rmtree(finished.stage("directions").path)
    call = ("--stage=regressor", f"--run_dir={finished.path}")
    code, out, _ = command(*call, "--directions_kimg=0.5", "--checkpoint_minutes=9")
    assert code == 0 and "nothing to do" in out
    assert finished.load_config().directions.kimg == 0.5
    code, _, error = command(*call, "--gan_kimg=9")
    assert code == 2 and "--gan_kimg=9 (was 0.064)" in error


def test_other_data_is_refused(command, finished):
    shutil.rmtree(finished.stage("directions").path)
    code, _, error = command(
        "--stage=directions", f"--run_dir={finished.path}", "--synthetic_size=110"
    )
    assert code == 2 and "the gan stage" in error and "--synthetic_size=110 (was 100)" in error


def test_another_preset_is_refused(command, finished):
    assert command("--stage=gan", f"--run_dir={finished.path}", "--preset=demo") == (
        2,
        "",
        "error: --preset=demo: this run folder was made with no preset; use another --run_dir",
    )


@pytest.mark.parametrize("number", [1, 99])
def test_a_run_folder_of_another_format(command, finished, number):
    path = finished.path / "config.json"
    write_text(path, json.dumps({"format": number, "version": "9.9", "options": {"kimg": 1.0}}))
    before = tiny.snapshot(finished.path)
    assert command("--stage=gan", f"--run_dir={finished.path}") == (
        2,
        "",
        f"error: --run_dir={finished.path}: a run folder of format {number}, but this version "
        "reads format 2; use another --run_dir, or the version that made it (9.9)",
    )
    assert tiny.snapshot(finished.path) == before


def test_a_damaged_config(command, finished):
    path = finished.path / "config.json"
    path.write_text(path.read_text()[:-40])
    assert command("--stage=gan", f"--run_dir={finished.path}") == (
        2,
        "",
        f"error: {path} is damaged; restore it, or use another --run_dir",
    )


def test_a_file_instead_of_the_run_folder(command, tmp_path, cache):
    (tmp_path / "file").write_text("mine")
    code, _, error = command("--stage=gan", f"--run_dir={tmp_path / 'file'}", *tiny_flags(cache))
    assert code == 2 and error.startswith(f"error: --run_dir={tmp_path / 'file'}: ")
    assert (tmp_path / "file").read_text() == "mine"


def test_tensorboard_without_its_package(command, finished, monkeypatch):
    before = without_lock(finished.path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, error = command("--stage=gan", f"--run_dir={finished.path}", "--tensorboard=true")
    assert code == 2 and error == (
        "error: --tensorboard=true: the package tensorboard is not installed; run pip install "
        "tensorboard, or take --tensorboard=false"
    )
    assert without_lock(finished.path) == before


def test_a_recognizer_is_checked_before_anything_is_measured(command, finished, tmp_path):
    call = ("--stage=evaluate", f"--run_dir={finished.path}")
    model = write_recognizer(tmp_path / "face.onnx", shape=(1, 3, 64, 64))
    before = without_lock(finished.path)
    code, out, error = command(*call, f"--evaluate_identity_model={model}", "--restart")
    assert code == 2 and "evaluate:" not in out
    assert error.startswith(f"error: --evaluate_identity_model={model}: its input has the shape ")
    assert without_lock(finished.path) == before


def test_networks_to_start_from_are_checked_before_the_data_is_read(command, tmp_path, cache):
    other, run = tmp_path / "other", tmp_path / "run"
    other.mkdir()
    (other / "saved_model.pb").write_bytes(b"graph")
    call = (f"--run_dir={run}", f"--init_from={other}", *tiny_flags(cache), "--data=folder")
    code, out, error = command("--stage=all", *call, "--data_dir=absent")
    assert (code, out) == (2, "") and error == (
        f"error: --init_from={other}: not a run folder; give the --run_dir of a training (a "
        "SavedModel or a TFLite file has no discriminator)"
    )
    assert tiny.listing(run) == [".lock"]


def test_a_second_command_is_kept_out(command, finished):
    lock = type(finished)(finished.path)
    lock.lock()
    assert command("--stage=gan", f"--run_dir={finished.path}") == (
        2,
        "",
        f"error: --run_dir={finished.path}: another process is working in it; wait for it, or use "
        "another folder",
    )


def test_a_full_disk_at_the_very_first_write(command, tmp_path, cache, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    code, _, error = command("--stage=gan", f"--run_dir={tmp_path / 'run'}", *tiny_flags(cache))
    assert code == 2 and error.startswith("error: the disk is full")
    assert tiny.listing(tmp_path / "run") == [".lock"]


# --restart.


@pytest.fixture
def quick_gan(monkeypatch):
    """A GAN stage that finishes without training."""
    monkeypatch.setattr(gan, "run", lambda options, run, data: finish(run, "gan", options, data))


def test_restart_moves_the_stage_and_its_dependents_aside(command, finished, quick_gan):
    stages = ("gan", "inversion", "features", "directions")
    old = {name: tiny.snapshot(finished.stage(name).path) for name in stages}
    regressor = tiny.snapshot(finished.stage("regressor").path)
    write_text(finished.custom_path("Wearing_Hat"), "of that gan")
    finished.record_custom_attributes({"Wearing_Hat": {"labels": 300}})
    call = ("--stage=gan", f"--run_dir={finished.path}", "--restart")
    code, out, _ = command(*call, "--gan_kimg=0.032", "--gan_g_lr=0.001")
    assert code == 0
    for name in (*stages, "custom_attributes"):
        aside = finished.path / f"{name}.old-001"
        assert f"{name}: the old folder is now {aside}" in out.splitlines()
        assert name == "custom_attributes" or tiny.snapshot(aside) == old[name]
    assert sorted(entry.name for entry in finished.path.iterdir()) == [
        ".lock",
        "config.json",
        "custom_attributes.old-001",
        "directions.old-001",
        "features.old-001",
        "gan",
        "gan.old-001",
        "inversion.old-001",
        "regressor",
    ]
    assert finished.custom_attributes() == {}
    assert tiny.snapshot(finished.stage("regressor").path) == regressor
    assert finished.load_config().gan.kimg == 0.032
    assert finished.stage("gan").read_metadata()["options"]["gan_g_lr"] == 0.001
    # Once more: a new number; folders that no longer exist are skipped.
    assert command(*call)[0] == 0
    assert sorted(entry.name for entry in finished.path.glob("gan*")) == [
        "gan",
        "gan.old-001",
        "gan.old-002",
    ]


def test_restart_refuses_what_other_stages_began_with(command, finished, quick_gan):
    before = without_lock(finished.path)
    code, _, error = command("--stage=gan", f"--run_dir={finished.path}", "--restart", "--seed=9")
    assert code == 2 and f"the regressor stage in {finished.path}" in error
    assert without_lock(finished.path) == before


def test_restart_moves_nothing_if_the_new_stage_cannot_begin(command, finished):
    before = without_lock(finished.path)
    code, _, error = command(
        "--stage=regressor",
        f"--run_dir={finished.path}",
        "--restart",
        "--regressor_vgg_weights=/none.h5",
    )
    assert code == 2
    assert error.startswith("error: --regressor_vgg_weights=/none.h5: ")
    assert without_lock(finished.path) == before
