"""core.run_folder: what a stage resumes from, what is refused, what moves aside."""

import dataclasses
import importlib.metadata
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import tiny
from refusal import message

from cgan_tf.core import run_folder
from cgan_tf.core.config import STAGES
from cgan_tf.core.files import write_json, write_text
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
    """Makes these stages look finished, each with a model of one file."""
    for name in stages:
        stage = folder.stage(name)
        assert stage.begin(config(**options), "d", say=silent)
        write_text(stage.model / "weights.h5", f"{name}'s weights")
        stage.finish(kimg=1.5)


def silent(line):
    raise AssertionError(f"printed: {line}")


def test_versions_and_time():
    versions = run_folder.versions()
    assert versions["cgan_tf"] == run_folder.__version__
    assert versions["python"].count(".") == 2 and versions["tensorflow"].count(".") == 2
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", run_folder.now())


def test_a_package_without_metadata_has_an_unknown_version(monkeypatch, folder):
    version = importlib.metadata.version

    def without(name):
        if name == "tensorflow-datasets":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    assert run_folder.versions()["tensorflow-datasets"] == "unknown"
    assert folder.stage("gan").begin(config(), "d", say=silent)
    recorded = folder.stage("gan").read_metadata()["versions"]
    assert recorded["tensorflow-datasets"] == "unknown" != recorded["tensorflow"]


# A stage's statistics.


def test_stats_are_read_back_and_a_torn_last_line_is_left_out(folder):
    stage = folder.stage("gan")
    assert stage.read_stats() == []
    finish(folder, "gan")
    lines = [{"kimg": 0.1, "g_loss": 1.5}, {"kimg": 0.2, "g_loss": 1.25}]
    for line in lines:
        stage.append_stats(line)
    for torn in (b'{"kimg": 0.3, "g_lo', b'\xb6\n{"kimg": 0.4}\n'):
        text = (stage.path / "stats.jsonl").read_bytes()
        (stage.path / "stats.jsonl").write_bytes(text + torn)
        assert stage.read_stats() == lines
        (stage.path / "stats.jsonl").write_bytes(text)


def test_rewinding_drops_the_lines_past_the_checkpoint(folder):
    finish(folder, "gan")
    stage = folder.stage("gan")
    for step in range(1, 5):
        stage.append_stats({"kimg": step * 0.1})
    with open(stage.path / "stats.jsonl", "a") as file:
        file.write('{"torn')
    stage.rewind_stats(0.3)  # 3 * 0.1 is a little more
    assert [line["kimg"] for line in stage.read_stats()] == [0.1, 0.2, 3 * 0.1]
    assert (stage.path / "stats.jsonl").read_text().count("\n") == 3
    stage.append_stats({"kimg": 0.4})
    assert len(stage.read_stats()) == 4
    stage.rewind_stats(0.0)
    assert stage.read_stats() == []


# Beginning, resuming, finishing.


def test_a_stage_begins_resumes_and_finishes(folder):
    stage = folder.stage("gan")
    assert not stage.finished() and stage.read_metadata() == {}
    assert stage.begin(config(), "d", say=silent)
    first = stage.read_metadata()
    assert first["stage"] == "gan" and first["data"] == "d" and first["parents"] == {}
    assert first["ended"] is None and first["resumed"] == [] and first["command"] == sys.argv
    assert first["options"]["gan_kimg"] == config().gan.kimg
    assert "inversion_kimg" not in first["options"] and "data_dir" not in first["options"]
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
    assert said == [f"gan: finished at {ended}; nothing to do (--restart starts over)"]
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


def leave_checkpoint(stage):
    """What a killed training leaves."""
    write_text(stage.checkpoints / "step-000000001.npz", "weights")


def test_changed_options_are_refused_and_named(folder):
    stage = folder.stage("gan")
    assert stage.begin(config(), "d")
    leave_checkpoint(stage)
    before = tiny.snapshot(folder.path)
    changed = config(gan_kimg=9.0, gan_g_lr=0.5, inversion_kimg=9.0, attributes=("Male",))
    line = message(stage.begin, changed, "d")
    assert line == (
        f"the gan stage in {folder.path} began with other options: --gan_kimg=9 (was 0.064), "
        "--gan_g_lr=0.5 (was 0.0003); use the old ones or another --run_dir, or give "
        "--stage=gan --restart, which moves the old stage aside"
    )
    assert tiny.snapshot(folder.path) == before
    assert stage.begin(config(checkpoint_minutes=9.0, cache_gib=1.0, data_dir="x"), "d")


def test_an_option_that_an_earlier_version_did_not_have_was_its_default(folder):
    stage = folder.stage("gan")
    stage.begin(config(), "d")
    leave_checkpoint(stage)
    note = stage.read_metadata()
    del note["options"]["gan_d_steps"]
    write_json(stage.path / "metadata.json", note)
    assert stage.begin(config(), "d")
    stage.check_options(config())
    write_json(stage.path / "metadata.json", note)
    assert "--gan_d_steps=2 (was 1)" in message(stage.begin, config(gan_d_steps=2), "d")


def test_a_stage_that_has_made_nothing_yet_takes_other_options(folder):
    stage = folder.stage("gan")
    assert stage.begin(config(), "d")
    folder.check_options(config(gan_kimg=9.0))
    assert stage.begin(config(gan_kimg=9.0), "e")
    metadata = stage.read_metadata()
    assert metadata["options"]["gan_kimg"] == 9.0 and metadata["data"] == "e"


def test_changed_data_is_refused(folder):
    stage = folder.stage("gan")
    assert stage.begin(config(), "d")
    leave_checkpoint(stage)
    assert "--data_dir (its photos or labels have changed)" in message(stage.begin, config(), "e")


def test_an_earlier_stage_that_was_trained_again_is_refused(folder):
    finish(folder, "gan", "regressor")
    assert folder.stage("inversion").begin(config(), "d")
    leave_checkpoint(folder.stage("inversion"))
    write_text(folder.stage("gan").model / "weights.h5", "other weights")
    line = message(folder.stage("inversion").begin, config(), "d")
    assert "other options: the gan stage (trained again since);" in line


def test_an_option_of_an_earlier_stage_is_refused_and_of_a_later_one_is_not(folder):
    finish(folder, "gan", "regressor")
    folder.check_options(config())
    folder.check_options(config(inversion_kimg=9.0, attributes=("Male",), evaluate_samples=100))
    line = message(folder.check_options, config(regressor_lr=0.5, attributes=("Male",)))
    assert line.startswith(f"the regressor stage in {folder.path} began with other options: ")
    assert "--regressor_lr=0.5 (was 0.0003);" in line and "Male" not in line
    # A stage that starts over may change its own, but not those that it shares with others.
    folder.check_options(config(regressor_lr=0.5), ("regressor",))
    assert "the gan stage" in message(folder.check_options, config(seed=9), ("regressor",))
    folder.check_options(config(seed=9), ("gan", "regressor"))


def test_lists_are_named_as_flags_are_written(folder):
    finish(folder, "gan", "regressor", "inversion", "features")
    assert folder.stage("directions").begin(config(), "d")
    leave_checkpoint(folder.stage("directions"))
    line = message(folder.check_options, config(attributes=("Male", "Smiling")))
    assert "--attributes=Male,Smiling (was Smiling,Eyeglasses)" in line


_TYPES = '{"stage": "gan", "options": [], "data": "d", "parents": {}}'


@pytest.mark.parametrize(
    "content", ["{", "", "[1]", '"text"', "\udcff", '{"stage": "gan"}', _TYPES]
)
def test_damaged_metadata_names_the_remedy(folder, content):
    finish(folder, "gan")
    path = folder.stage("gan").path / "metadata.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    assert message(folder.stage("gan").finished) == (
        f"{path} is damaged; --stage=gan --restart moves the old stage aside and starts over"
    )


def test_a_model_that_is_gone_names_the_remedy(folder):
    finish(folder, "gan", "regressor")
    shutil.rmtree(folder.stage("gan").model)
    assert message(folder.stage("inversion").begin, config(), "d") == (
        f"{folder.stage('gan').model} is missing, though the gan stage has finished; "
        "--stage=gan --restart trains it again"
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
    "change",
    [
        {"options": None},
        {"options": {"gan": {"width": "four"}}},
        {"options": {"gan": 3}},
        {"requested": None},
        {"substitutions": 3},
        {"custom_attributes": []},
    ],
)
def test_a_config_of_another_structure_is_damaged(folder, change):
    path = folder.path / "config.json"
    write_json(path, folder.read() | change)
    line = f"{path} is damaged; restore it, or use another --run_dir"
    assert message(folder.load_config) == line


@pytest.mark.parametrize(
    "options, name", [({"w_dim": 512}, "w_dim"), ({"gan": {"w_dim": 512}}, "gan_w_dim")]
)
def test_a_run_of_a_version_with_other_options_is_refused(folder, options, name):
    path = folder.path / "config.json"
    write_json(path, folder.read() | {"options": options, "version": "0.0.9"})
    assert message(folder.load_config) == (
        f"{path}: this version has no option {name}; use another --run_dir, or the version that "
        "made the run (0.0.9)"
    )


def test_the_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(RunFolder("~/runs/x").path) == "/somewhere/runs/x"


def test_config_survives_and_keeps_the_substitutions(folder):
    assert folder.load_config() == config()
    said = []
    folder.record_substitution("regressor_vgg_weights", "from scratch", said.append)
    folder.record_substitution("calibration of A", "half", said.append)
    folder.record_substitution("calibration of B", "half", said.append)
    assert said == ["note: from scratch", "note: half", "note: half"]
    folder.save_config(config(gan_kimg=3.0), {"digest": "d"})
    content = folder.read()
    assert list(content) == [
        "format",
        "version",
        "options",
        "requested",
        "data",
        "substitutions",
    ]
    assert content["substitutions"] == {
        "regressor_vgg_weights": "from scratch",
        "calibration of A": "half",
        "calibration of B": "half",
    }
    assert folder.load_config() == config(gan_kimg=3.0)
    folder.clear_substitutions("calibration of ")
    assert folder.read() == content | {"substitutions": {"regressor_vgg_weights": "from scratch"}}
    before = tiny.snapshot(folder.path)
    folder.clear_substitutions("nothing")
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
    assert message(folder.read) == f"{path} is damaged; restore it, or use another --run_dir"


@pytest.mark.parametrize("number", [1, 3])
def test_a_run_folder_of_another_format_is_refused(folder, number):
    path = folder.path / "config.json"
    path.write_text(json.dumps({"format": number, "version": "7.0", "options": {"w_dim": 512}}))
    for call in (folder.read, folder.load_config, folder.custom_attributes):
        assert message(call) == (
            f"--run_dir={folder.path}: a run folder of format {number}, but this version reads "
            "format 2; use another --run_dir, or the version that made it (7.0)"
        )
    path.write_text(json.dumps({}))
    assert "format None" in message(folder.read) and "(unknown)" in message(folder.read)


def test_requested_options_are_kept_until_others_are_given(folder):
    assert folder.read()["requested"] == {}
    folder.save_config(config(), {"digest": "d"}, {"gan_kimg": 3.0})
    folder.save_config(config(), {"digest": "d"})
    assert folder.read()["requested"] == {"gan_kimg": 3.0}
    folder.save_config(config(), {"digest": "d"}, {"seed": 1})
    assert folder.read()["requested"] == {"seed": 1}


def test_restart_moves_the_old_stage_aside_and_never_deletes(folder):
    finish(folder, "gan", "regressor")
    folder.stage("gan").append_stats({"kimg": 1.0})
    before = tiny.snapshot(folder.path)
    said = []
    folder.restart("gan", said.append)
    assert said == [f"gan: the old folder is now {folder.path / 'gan.old-001'}"]
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
    finish(folder, "gan", gan_kimg=5.0)
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


def test_every_stage_records_all_that_determines_its_result(folder):
    finish(folder, "gan", "regressor", "inversion", "features", "directions", "evaluate", "export")
    for name in STAGES:
        options = folder.stage(name).read_metadata()["options"]
        changed = dataclasses.replace(config(), seed=99, resolution=64)
        assert len(folder.stage(name).changed_options(changed)) == 2
        assert options["seed"] == config().seed


# Custom attributes.


def test_custom_attributes_are_part_of_what_the_export_reads(folder):
    finish(folder, "gan", "regressor", "inversion", "features", "directions")
    assert folder.custom_attributes() == {} and folder.custom_attributes_hash() is None
    write_text(folder.custom_path("Hat"), "its head")
    folder.record_custom_attributes({"Hat": {"labels": 300}})
    finish(folder, "export")
    assert folder.custom_attributes() == {"Hat": {"labels": 300}}
    assert (
        folder.custom_attributes_hash()
        == (folder.stage("export").read_metadata()["custom_attributes"])
    )
    write_text(folder.custom_path("Hat"), "another head")
    assert "other options: the custom attributes (changed since);" in message(
        folder.stage("export").begin, config(), "d"
    )
    folder.custom_path("Hat").unlink()
    assert message(folder.custom_attributes_hash) == (
        f"{folder.custom_path('Hat')} is missing; `cgan attribute --restart` adds it again"
    )


def test_custom_attributes_move_aside(folder):
    write_text(folder.custom_path("Hat"), "its head")
    folder.record_custom_attributes({"Hat": {}})
    folder.record_custom_attributes({"Tie": {}})
    folder.record_substitution("calibration of Hat", "half", lambda line: None)
    folder.save_config(config(), {"digest": "d"})
    assert set(folder.custom_attributes()) == {"Hat", "Tie"}
    said = []
    for _ in range(2):
        folder.restart_custom_attributes(said.append)
    aside = folder.path / "custom_attributes.old-001"
    assert said == [f"custom_attributes: the old folder is now {aside}"]
    assert (aside / "Hat.json").read_text() == "its head"
    assert folder.custom_attributes() == {} and folder.read()["substitutions"] == {}


def test_a_worker_that_is_not_the_chief_writes_nothing(folder):
    before = tiny.snapshot(folder.path)
    folder.writes = False
    assert folder.stage("gan").begin(config(), "d", say=silent)
    folder.record_substitution("seed", "another", silent)
    folder.clear_substitutions("")
    assert tiny.snapshot(folder.path) == before
