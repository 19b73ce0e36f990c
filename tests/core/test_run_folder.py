"""cgan_tf.run: atomic writes, what a stage may go on from, what is refused, what moves aside."""

import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from cgan_tf.core import run_folder
from cgan_tf.core.config import STAGES
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash, set_aside, write_bytes, write_json, write_text
from cgan_tf.core.run_folder import RunFolder

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    """A new run folder with its config.json."""
    folder = RunFolder(tmp_path / "run")
    folder.save_config(config(), {"name": "synthetic", "size": 100, "digest": "d"})
    return folder


def config(**options):
    return tiny.make_config(Path("cache"), **options)


def finish(folder, *stages, **options):
    """Leaves these stages as if they had finished, each with a model of one file."""
    for name in stages:
        stage = folder.stage(name)
        assert stage.begin(config(**options), "d", say=silent)
        write_text(stage.model / "weights.h5", f"{name}'s weights")
        stage.finish(kimg=1.5)


def silent(line):
    raise AssertionError(f"nothing was to be said, not {line}")


def message(call, *arguments, **options):
    """The one line of the UserError that the call raises."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Writing.


def test_writes_replace_whole_files_and_leave_nothing_else(tmp_path):
    path = tmp_path / "new" / "file"
    for content in (b"first", b"second, longer", b""):
        write_bytes(path, content)
        assert path.read_bytes() == content
    write_text(path, "é")
    assert path.read_bytes() == "é".encode()
    write_json(path, {"a": [1, 2.5], "b": None})
    assert path.read_text() == '{\n  "a": [\n    1,\n    2.5\n  ],\n  "b": null\n}\n'
    assert tiny.listing(tmp_path) == ["new/file"]


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"fd": float("nan")})
    assert path.read_text() == "old" and tiny.listing(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    write_text(path, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, call, full)
        write_text(path, "new")
    assert path.read_text() == "old" and tiny.listing(tmp_path) == ["file"]


def test_the_content_is_on_disk_before_the_name_is(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def see_fsync(descriptor):
        calls.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def see_replace(source, target):
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", see_fsync)
    monkeypatch.setattr(os, "replace", see_replace)
    write_text(tmp_path / "file", "content")
    assert calls == [str(tmp_path / ".file.tmp"), "rename", str(tmp_path)]


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    script = (
        "import os, signal, sys, pathlib\n"
        "from cgan_tf import run\n"
        "run.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
        "run.write_text(pathlib.Path(sys.argv[1]), 'new')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT)
    assert done.returncode == -9
    assert path.read_text() == "old" and tiny.listing(tmp_path) == [".file.tmp", "file"]
    write_text(path, "new")  # the leftover is in nobody's way
    assert path.read_text() == "new" and tiny.listing(tmp_path) == ["file"]


def test_file_hash(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert file_hash(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_versions_and_time():
    versions = run_folder.versions()
    assert versions["cgan_tf"] == run_folder.__version__
    assert versions["python"].count(".") == 2 and versions["tensorflow"].count(".") == 2
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", run_folder.now())


def test_set_aside_takes_the_first_free_number(tmp_path):
    names = []
    for content in "abc":
        write_text(tmp_path / "gan" / "file", content)
        names.append(set_aside(tmp_path / "gan").name)
    assert names == ["gan.old-001", "gan.old-002", "gan.old-003"]
    assert tiny.listing(tmp_path) == [f"{name}/file" for name in names]
    assert [(tmp_path / name / "file").read_text() for name in names] == list("abc")


# A stage's statistics.


def test_stats_are_read_back_and_a_torn_last_line_is_left_out(folder):
    stage = folder.stage("gan")
    assert stage.read_stats() == []
    finish(folder, "gan")
    lines = [{"gan_kimg": 0.1, "g_loss": 1.5}, {"gan_kimg": 0.2, "g_loss": 1.25}]
    for line in lines:
        stage.append_stats(line)
    with open(stage.path / "stats.jsonl", "a") as file:
        file.write('{"kimg": 0.3, "g_lo')
    assert stage.read_stats() == lines


def test_rewinding_drops_the_lines_past_the_checkpoint(folder):
    finish(folder, "gan")
    stage = folder.stage("gan")
    for step in range(1, 5):
        stage.append_stats({"gan_kimg": step * 0.1})
    with open(stage.path / "stats.jsonl", "a") as file:
        file.write('{"torn')
    stage.rewind_stats(0.3)  # 3 * 0.1 is a little more
    assert [line["kimg"] for line in stage.read_stats()] == [0.1, 0.2, 3 * 0.1]
    assert (stage.path / "stats.jsonl").read_text().count("\n") == 3
    stage.append_stats({"gan_kimg": 0.4})
    assert len(stage.read_stats()) == 4
    stage.rewind_stats(0.0)
    assert stage.read_stats() == []


# Beginning, going on, finishing.


def test_a_stage_begins_goes_on_and_finishes(folder):
    stage = folder.stage("gan")
    assert not stage.finished() and stage.read_metadata() == {}
    assert stage.begin(config(), "d", say=silent)
    first = stage.read_metadata()
    assert first["stage"] == "gan" and first["data"] == "d" and first["parents"] == {}
    assert first["ended"] is None and first["resumed"] == [] and first["command"] == sys.argv
    assert first["options"]["kimg"] == config().kimg and "inversion_lr" not in first["options"]
    assert first["versions"] == run_folder.versions()
    assert stage.begin(config(), "d", say=silent)
    second = stage.read_metadata()
    assert second["started"] == first["started"] and len(second["resumed"]) == 1
    write_text(stage.model / "weights.h5", "w")
    stage.finish(kimg=2.0, accuracy=0.5)
    third = stage.read_metadata()
    assert stage.finished() and third["kimg"] == 2.0 and third["accuracy"] == 0.5
    assert third["started"] == first["started"] and third["ended"] >= first["started"]


def test_a_finished_stage_says_so_and_changes_nothing(folder):
    finish(folder, "gan")
    before = tiny.snapshot(folder.path)
    said = []
    assert folder.stage("gan").begin(config(), "d", say=said.append) is False
    ended = folder.stage("gan").read_metadata()["ended"]
    assert said == [f"gan: finished at {ended}; nothing to do (--restart begins anew)"]
    assert tiny.snapshot(folder.path) == before


def test_a_stage_before_the_one_that_it_needs_names_the_command(folder):
    finish(folder, "gan")
    line = message(folder.stage("inversion").begin, config(), "d")
    assert line == (
        "--stage=inversion: needs the regressor stage first; run "
        f"python train_main.py --stage=regressor --run_dir={folder.path}"
    )
    assert not folder.stage("inversion").path.exists()
    assert folder.stage("regressor").begin(config(), "d")  # has begun, has not finished
    assert "needs the regressor stage first" in message(
        folder.stage("inversion").begin, config(), "d"
    )


def test_the_hash_of_an_artifact_is_over_names_and_contents(folder):
    finish(folder, "gan")
    stage = folder.stage("gan")
    first = stage.artifact_hash()
    write_text(stage.path / "stats.jsonl", "")
    assert stage.artifact_hash() == first
    write_text(stage.model / "weights.h5", "others")
    second = stage.artifact_hash()
    os.rename(stage.model / "weights.h5", stage.model / "weights")
    assert len({first, second, stage.artifact_hash()}) == 3


def work(stage):
    """What a killed training leaves."""
    write_text(stage.checkpoints / "step-000000001.npz", "weights")


def test_changed_options_are_refused_and_named(folder):
    stage = folder.stage("gan")
    assert stage.begin(config(), "d")
    work(stage)
    before = tiny.snapshot(folder.path)
    changed = config(gan_kimg=9.0, gan_g_lr=0.5, inversion_lr=0.5, attributes=("Male",))
    line = message(stage.begin, changed, "d")
    assert line == (
        f"the gan stage in {folder.path} began with other options: --gan_kimg=9.0 (was 0.064), "
        f"--gan_g_lr=0.5 (was {config().g_lr}); take the old ones or another --run_dir, or give "
        "--stage=gan --restart, which moves the old stage aside"
    )
    assert tiny.snapshot(folder.path) == before
    assert stage.begin(config(checkpoint_minutes=9.0, cache_gib=1.0, data_dir="x"), "d")


def test_an_option_that_an_older_version_did_not_know_had_its_default(folder):
    stage = folder.stage("gan")
    stage.begin(config(), "d")
    work(stage)
    note = stage.read_metadata()
    del note["options"]["d_steps"]
    write_json(stage.path / "metadata.json", note)
    assert stage.begin(config(), "d")
    stage.refuse(stage.changed_options(config()))
    write_json(stage.path / "metadata.json", note)
    assert "--gan_d_steps=2 (was 1)" in message(stage.begin, config(gan_d_steps=2), "d")


def test_a_stage_that_has_made_nothing_yet_takes_other_options(folder):
    stage = folder.stage("gan")
    assert stage.begin(config(), "d")
    folder.check_options(config(gan_kimg=9.0))
    assert stage.begin(config(gan_kimg=9.0), "e")
    metadata = stage.read_metadata()
    assert metadata["options"]["kimg"] == 9.0 and metadata["data"] == "e"


def test_changed_data_is_refused(folder):
    stage = folder.stage("gan")
    assert stage.begin(config(), "d")
    work(stage)
    assert "--data_dir (its photos or labels are not the same)" in message(
        stage.begin, config(), "e"
    )


def test_an_earlier_stage_that_was_trained_anew_is_refused(folder):
    finish(folder, "gan", "regressor")
    assert folder.stage("inversion").begin(config(), "d")
    work(folder.stage("inversion"))
    write_text(folder.stage("gan").model / "weights.h5", "other weights")
    line = message(folder.stage("inversion").begin, config(), "d")
    assert "other options: the gan stage (trained anew since);" in line


def test_an_option_of_an_earlier_stage_is_refused_and_of_a_later_one_is_not(folder):
    finish(folder, "gan", "regressor")
    folder.check_options(config())
    folder.check_options(config(inversion_lr=0.5, attributes=("Male",), evaluate_samples=100))
    line = message(folder.check_options, config(regressor_lr=0.5, attributes=("Male",)))
    assert line.startswith(f"the regressor stage in {folder.path} began with other options: ")
    assert f"--regressor_lr=0.5 (was {config().regressor_lr});" in line and "Male" not in line
    # A stage that begins anew may change its own, but not those that it shares with others.
    folder.check_options(config(regressor_lr=0.5), ("regressor",))
    assert "the gan stage" in message(folder.check_options, config(seed=9), ("regressor",))
    folder.check_options(config(seed=9), ("gan", "regressor"))


def test_lists_are_named_as_flags_are_written(folder):
    finish(folder, "gan", "regressor", "inversion")
    assert folder.stage("directions").begin(config(), "d")
    work(folder.stage("directions"))
    line = message(folder.check_options, config(attributes=("Male", "Smiling")))
    assert "--attributes=Male,Smiling (was Smiling,Eyeglasses)" in line


@pytest.mark.parametrize("content", ["{", "", "[1]", '"text"', "\udcff", '{"stage": "gan"}'])
def test_damaged_metadata_names_the_remedy(folder, content):
    finish(folder, "gan")
    path = folder.stage("gan").path / "metadata.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    assert message(folder.stage("gan").finished) == (
        f"{path} is damaged; --stage=gan --restart moves the old stage aside and begins anew"
    )


def test_a_model_that_is_gone_names_the_remedy(folder):
    finish(folder, "gan", "regressor")
    shutil.rmtree(folder.stage("gan").model)
    assert message(folder.stage("inversion").begin, config(), "d") == (
        f"{folder.stage('gan').model} is missing, though the gan stage had finished; "
        "--stage=gan --restart makes it anew"
    )


def test_the_order_of_stages(folder):
    folder.check_order(("gan",))
    folder.check_order(("gan", "regressor", "inversion"))
    assert message(folder.check_order, ("regressor", "inversion")) == (
        "--stage=inversion: needs the gan stage first; run python train_main.py --stage=gan "
        f"--run_dir={folder.path}"
    )
    finish(folder, "gan")
    folder.check_order(("regressor", "inversion"))


# The run folder.


@pytest.mark.parametrize(
    "change", [{"options": None}, {"options": {"gan_width": "four"}}, {"substitutions": 3}]
)
def test_a_config_that_is_not_ours_is_damaged(folder, change):
    path = folder.path / "config.json"
    write_json(path, folder.read() | change)
    line = f"{path} is damaged; restore it, or take another --run_dir"
    assert message(folder.load_config) == line


def test_a_folder_that_cannot_be_is_one_line(tmp_path):
    long = tmp_path / ("x" * 300)
    for call in (RunFolder(long).read, RunFolder(long).lock, RunFolder("/proc/none/x").lock):
        assert message(call).startswith("--run_dir=")
        assert message(call).endswith("; take another folder")


def test_the_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(RunFolder("~/runs/x").path) == "/somewhere/runs/x"


def test_config_survives_and_keeps_the_substitutions(folder):
    assert folder.load_config() == config()
    said = []
    folder.substitute("vgg_weights", "from scratch", said.append)
    folder.substitute("calibration of A", "half", said.append)
    folder.substitute("calibration of B", "half", said.append)
    assert said == ["note: from scratch", "note: half", "note: half"]
    folder.save_config(config(gan_kimg=3.0), {"digest": "d"})
    content = folder.read()
    assert list(content) == ["format", "version", "options", "data", "substitutions"]
    assert content["substitutions"] == {
        "regressor_vgg_weights": "from scratch",
        "calibration of A": "half",
        "calibration of B": "half",
    }
    assert folder.load_config() == config(gan_kimg=3.0)
    folder.retract("calibration of ")
    assert folder.read() == content | {"substitutions": {"regressor_vgg_weights": "from scratch"}}
    before = tiny.snapshot(folder.path)
    folder.retract("nothing")
    assert tiny.snapshot(folder.path) == before


def test_no_run_folder(tmp_path):
    folder = RunFolder(tmp_path / "none")
    assert folder.read() == {} and not (tmp_path / "none").exists()
    assert message(folder.load_config) == (
        f"{tmp_path / 'none'}: no run folder (config.json is missing); give one that "
        "train_main.py has made"
    )
    (tmp_path / "file").write_text("")
    assert RunFolder(tmp_path / "file").read() == {}


@pytest.mark.parametrize("content", ["{", "", "[]", "3", "\udcff"])
def test_a_damaged_config_names_the_remedy(folder, content):
    path = folder.path / "config.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    assert message(folder.read) == f"{path} is damaged; restore it, or take another --run_dir"


def test_a_run_folder_of_another_version_is_refused(folder):
    path = folder.path / "config.json"
    content = folder.read()
    path.write_text(json.dumps(content | {"format": 2, "version": "7.0"}))
    assert message(folder.read) == (
        f"--run_dir={folder.path}: a run folder of format 2, this version reads format 1; take "
        "another --run_dir or the version that made it (7.0)"
    )
    path.write_text(json.dumps({}))
    assert "format None" in message(folder.read) and "(unknown)" in message(folder.read)
    options = content["options"] | {"w_dim": 512}
    path.write_text(json.dumps(content | {"options": options}))
    assert message(folder.load_config) == (
        f"{path}: unknown option w_dim; take the version that made it"
    )


def test_restart_moves_the_old_stage_aside_and_never_deletes(folder):
    finish(folder, "gan", "regressor")
    folder.stage("gan").append_stats({"gan_kimg": 1.0})
    before = tiny.snapshot(folder.path)
    said = []
    folder.restart("gan", said.append)
    assert said == [f"gan: the old stage is now {folder.path / 'gan.old-001'}"]
    after = tiny.snapshot(folder.path)
    assert {name.replace("gan.old-001/", "gan/"): value for name, value in after.items()} == before
    assert tiny.listing(folder.path) == [
        "config.json",
        "gan.old-001/metadata.json",
        "gan.old-001/model/weights.h5",
        "gan.old-001/stats.jsonl",
        "regressor/metadata.json",
        "regressor/model/weights.h5",
    ]
    folder.restart("gan", said.append)  # there is none any more
    assert len(said) == 1
    finish(folder, "gan", kimg=5.0)
    folder.restart("gan", said.append)
    assert tiny.listing(folder.path)[1:6] == [
        "gan.old-001/metadata.json",
        "gan.old-001/model/weights.h5",
        "gan.old-001/stats.jsonl",
        "gan.old-002/metadata.json",
        "gan.old-002/model/weights.h5",
    ]


def test_restart_is_the_way_out_of_damaged_metadata(folder):
    finish(folder, "gan")
    (folder.stage("gan").path / "metadata.json").write_text("{")
    folder.check_options(config(), ("gan",))
    folder.restart("gan", lambda line: None)
    assert folder.stage("gan").begin(config(), "d")


def test_a_second_process_is_kept_out_until_the_first_has_ended(tmp_path):
    path = tmp_path / "run"
    script = (
        "import sys\n"
        "from cgan_tf.run import RunFolder\n"
        "folder = RunFolder(sys.argv[1])\n"
        "folder.lock()\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout.readline() == "locked\n"
    assert message(RunFolder(path).lock) == (
        f"--run_dir={path}: another process is working in it; wait for it, or take another folder"
    )
    other.kill()
    other.wait()
    mine = RunFolder(path)
    mine.lock()
    assert "another process" in message(RunFolder(path).lock)
    assert tiny.listing(path) == [".lock"]
    other.stdin.close()
    other.stdout.close()


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        line = message(RunFolder(path).lock)
        assert line.startswith(f"--run_dir={path}: ") and line.endswith("; take another folder")
    assert (tmp_path / "file").read_text() == "mine"


def test_every_stage_records_all_that_decides_its_result(folder):
    finish(folder, "gan", "regressor", "inversion", "directions", "evaluate", "export")
    for name in STAGES:
        options = folder.stage(name).read_metadata()["options"]
        changed = dataclasses.replace(config(), seed=99, resolution=64)
        assert len(folder.stage(name).changed_options(changed)) == 2
        assert options["seed"] == config().seed
