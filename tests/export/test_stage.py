"""The export stage and its command: what is published, and what happens when a check fails."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import command_flags
import fake_run
import pytest
import refusal

from cgan_tf import data, export
from cgan_tf.commands import export as command
from cgan_tf.core import config as config_module
from cgan_tf.core import run_folder
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash, write_json
from cgan_tf.editing import description
from cgan_tf.export import parity, stage, tflite, variants

ROOT = Path(__file__).parents[2]
NAMES = ["Smiling", "Blond_Hair", "Eyeglasses"]


def silent(line):
    pass


@pytest.fixture(scope="module")
def exported():
    return fake_run.shared_export()


@pytest.fixture
def copied_run(tmp_path):
    """A copy of the shared run that a test may change."""
    shutil.copytree(fake_run.shared_run().path, tmp_path / "run")
    return run_folder.RunFolder(tmp_path / "run")


# ---- content of an export ----------------------------------------------------------------------


def test_published_files(exported):
    assert sorted(os.listdir(exported)) == [
        "model.json",
        "report.json",
        "saved_model",
        "translator_float16.json",
        "translator_float16.tflite",
        "translator_float32.json",
        "translator_float32.tflite",
    ]
    assert sorted(os.listdir(exported / "saved_model")) == ["1"]
    version = exported / "saved_model" / "1"
    assert {"assets.extra", "saved_model.pb", "variables"} <= set(os.listdir(version))
    assert sorted(os.listdir(version / "assets.extra")) == ["model.json"]


def test_the_report_of_an_export_that_passes(exported):
    report = json.loads((exported / "report.json").read_text())
    assert report["passed"] is True
    assert report["photos"] == {"data": "synthetic", "split": "validation", "n": 10}
    assert report["strengths"] == {"distribution": "U(-1, 1)", "seed": 7}
    assert list(report["variants"]) == ["saved_model", "translator_float32", "translator_float16"]
    for name, variant in report["variants"].items():
        bound = 2e-2 if name == "translator_float16" else 1e-4
        assert variant["passed"] is True and variant["reason"] is None
        assert variant["bound"] == bound
        assert all(one["n"] == 10 and one["finite"] for one in variant["signatures"].values())
        assert all(one["max_difference"] <= bound for one in variant["signatures"].values())
    # float16 rounds, so a difference of 0 would mean that nothing was compared.
    half = report["variants"]["translator_float16"]["signatures"]
    assert 1e-5 < half["translate"]["max_difference"]
    assert list(half) == ["translate", "encode", "generate"]
    full = report["variants"]["saved_model"]["signatures"]
    assert list(full) == ["translate", "encode", "generate", "sample", "attributes"]
    assert full["translate"]["psnr"] > 100 > half["translate"]["psnr"] > 40
    assert full["attributes"]["psnr"] is None and half["encode"]["psnr"] is None
    for name in ("translator_float32", "translator_float16"):
        variant = report["variants"][name]
        assert list(variant["milliseconds"]) == ["translate", "encode", "generate"]
        assert all(0 < value < 1e4 for value in variant["milliseconds"].values())
        assert variant["edits"]["scorer"] == "regressor"  # nothing has trained a judge
        assert list(variant["edits"]["attributes"]) == NAMES
        assert 0.98 <= variant["edits"]["agreement"] <= 1
    assert "edits" not in report["variants"]["saved_model"]


def test_model_json(exported):
    text = (exported / "model.json").read_text()
    about = json.loads(text)
    assert list(about) == [
        "format",
        "attributes",
        "scores",
        "calibration",
        "image",
        "resolution",
        "crop",
        "psnr_p5",
        "space",
        "latent_shape",
        "features_shape",
        "truncation",
        "z_dim",
        "prior",
        "signatures",
        "hashes",
        "license",
        "data",
        "versions",
    ]
    assert about["attributes"] == NAMES
    assert set(NAMES) < set(about["scores"])
    assert about["calibration"]["Smiling"] == [{"strength": 1.0, "change": 0.5, "n": 10}]
    assert about["psnr_p5"] == fake_run.PSNR_P5
    assert (about["resolution"], about["z_dim"]) == (32, 24)
    assert (about["space"], about["prior"]) == ("z", "normal")
    assert (about["latent_shape"], about["features_shape"]) == ([24], [8, 8, 32])
    assert about["crop"] == "center_square"
    generator = fake_run.shared_run().stage("gan").model / "weights.h5"
    assert about["hashes"]["gan/model/weights.h5"] == file_hash(generator)
    assert len(about["hashes"]) == 7
    for copy in (
        "saved_model/1/assets.extra/model.json",
        "translator_float32.json",
        "translator_float16.json",
    ):
        assert (exported / copy).read_text() == text
    for name in ("translator_float32.tflite", "translator_float16.tflite"):
        content = (exported / name).read_bytes()
        assert description.tflite_description(exported / name, content) == about


# ---- publishing --------------------------------------------------------------------------------


@pytest.fixture
def fake_build(monkeypatch):
    """Replaces the slow build by one that writes a single file; returns its settings."""
    settings = {"passed": True, "error": None, "count": 0, "meanwhile": lambda: None}

    def build(config, folder, dataset, output, say=print):
        settings["count"] += 1
        (output / "saved_model").mkdir()
        (output / "saved_model" / "saved_model.pb").write_text(str(settings["count"]))
        settings["meanwhile"]()
        if settings["error"]:
            raise settings["error"]
        reason = None if settings["passed"] else "it is wrong"
        report = {
            "request": stage._request(config, folder),
            "variants": {"saved_model": {"passed": settings["passed"], "reason": reason}},
            "passed": settings["passed"],
        }
        write_json(output / "report.json", report)
        return report

    monkeypatch.setattr(stage, "build", build)
    return settings


def export_to(output, restart=False, **options):
    lines = []
    config = config_module.replace(fake_run.shared_run().load_config(), **options)
    stage.export_to(config, fake_run.shared_run(), output, restart, lines.append)
    return lines


def listing(folder):
    return sorted(os.listdir(folder))


def test_a_finished_export_is_kept(tmp_path, fake_build):
    output = tmp_path / "deep" / "out"
    export_to(output)
    assert listing(output) == ["report.json", "saved_model"]
    assert listing(output.parent) == ["out"]
    assert output.stat().st_mode & 0o777 == 0o755
    assert export_to(output)[-1].endswith("is finished; nothing to do (--restart starts over)")
    assert fake_build["count"] == 1
    with pytest.raises(UserError, match="contains an export of other models or formats"):
        export_to(output, export_formats=("tflite",))
    lines = export_to(output, restart=True)
    assert f"export: the old export is now {output}.old-001" in lines
    assert listing(output.parent) == ["out", "out.old-001"]
    assert (output / "saved_model" / "saved_model.pb").read_text() == "2"
    assert (output.parent / "out.old-001" / "saved_model" / "saved_model.pb").read_text() == "1"


def test_a_failed_export_is_repeated(tmp_path, fake_build):
    output = tmp_path / "out"
    fake_build["passed"] = False
    with pytest.raises(UserError, match=r"export: not published: saved_model: it is wrong \(see "):
        export_to(output)
    fake_build["passed"] = True
    export_to(output)
    assert listing(tmp_path) == ["out", "out.old-001"]
    assert json.loads((output / "report.json").read_text())["passed"] is True


def test_folders_without_an_export_are_not_touched(tmp_path, fake_build):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file; give a folder"):
        export_to(tmp_path / "file")
    for restart in (False, True):
        with pytest.raises(UserError, match="is not empty and contains no export"):
            export_to(tmp_path, restart)
    assert listing(tmp_path) == ["file"] and fake_build["count"] == 0
    (tmp_path / "empty").mkdir()
    export_to(tmp_path / "empty")
    assert listing(tmp_path / "empty") == ["report.json", "saved_model"]


def test_an_interrupted_export_leaves_nothing(tmp_path, fake_build):
    fake_build["error"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        export_to(tmp_path / "out")
    assert listing(tmp_path) == []


def test_what_a_killed_export_has_left_is_deleted(tmp_path, fake_build):
    for name in (".out.tmp", ".other.tmp"):
        (tmp_path / name / "new" / "saved_model").mkdir(parents=True)
    export_to(tmp_path / "out")
    assert listing(tmp_path) == [".other.tmp", "out"]


def test_a_second_export_to_the_same_folder_is_refused(tmp_path, fake_build):
    output, refusals = tmp_path / "out", []
    fake_build["meanwhile"] = lambda: refusals.append(refusal.message(export_to, output))
    export_to(output)
    assert refusals == [
        f"--output={output}: another process is writing to it; wait for it, or choose another "
        "folder"
    ]
    assert listing(tmp_path) == ["out"] and listing(output) == ["report.json", "saved_model"]
    assert fake_build["count"] == 1


def test_what_appears_or_goes_during_an_export(tmp_path, fake_build):
    output = tmp_path / "out"
    fake_build["meanwhile"] = lambda: write_json(output / "mine", {})
    assert refusal.message(export_to, output) == (
        f"--output={output}: something else has been written there meanwhile; choose another folder"
    )
    assert listing(tmp_path) == ["out"] and listing(output) == ["mine"]
    shutil.rmtree(output)
    fake_build["meanwhile"] = lambda: None
    export_to(output)
    fake_build["meanwhile"] = lambda: shutil.rmtree(output)
    assert export_to(output, restart=True) == []
    assert listing(tmp_path) == ["out"] and listing(output) == ["report.json", "saved_model"]


def test_an_export_that_fails_leaves_the_old_one(tmp_path, fake_build):
    output = tmp_path / "out"
    export_to(output)
    fake_build["error"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        export_to(output, restart=True)
    assert listing(tmp_path) == ["out"]
    assert (output / "saved_model" / "saved_model.pb").read_text() == "1"


def test_a_link_and_the_working_folder_are_filled(tmp_path, fake_build, monkeypatch):
    for name, given in (("here", Path(".")), ("behind", tmp_path / "link")):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(tmp_path / name)
        export_to(given)
        assert listing(tmp_path / name) == ["report.json", "saved_model"]
    assert listing(tmp_path) == ["behind", "here", "link"]


def test_a_full_disk_names_the_folder(tmp_path, fake_build):
    """TensorFlow's own exceptions give the system's message only."""
    fake_build["error"] = RuntimeError("No space left on device; [Op:SaveV2]")
    with pytest.raises(OSError) as error:
        export_to(tmp_path / "out")
    assert error.value.filename == str(tmp_path / "out") and listing(tmp_path) == []


def test_the_missing_stage_is_named(tmp_path, copied_run):
    shutil.rmtree(copied_run.stage("directions").path)
    with pytest.raises(UserError, match="run python train_main.py --stage=directions"):
        stage.export_to(copied_run.load_config(), copied_run, tmp_path / "out")


def test_the_export_stage(copied_run, fake_build):
    config = copied_run.load_config()
    dataset = data.open_data(config, silent)
    folder = copied_run.stage("export")
    fake_build["error"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        export.run(config, copied_run, dataset, silent)
    assert listing(folder.path) == ["metadata.json"] and not folder.finished()
    # As left by a process that was killed while building or publishing.
    (copied_run.path / ".export.tmp" / "new").mkdir(parents=True)
    fake_build.update(error=None, passed=False)
    with pytest.raises(UserError, match="export: not published"):
        export.run(config, copied_run, dataset, silent)
    assert not folder.finished() and ".export.tmp" not in listing(copied_run.path)
    assert listing(folder.path) == ["metadata.json", "report.json", "saved_model"]
    fake_build["passed"] = True
    export.run(config, copied_run, dataset, silent)
    assert folder.finished()
    assert listing(folder.path) == ["metadata.json", "report.json", "saved_model"]
    assert listing(copied_run.path / "export.old-001") == listing(folder.path)
    lines = []
    export.run(config, copied_run, dataset, lines.append)
    assert len(lines) == 1 and "nothing to do" in lines[0]
    assert fake_build["count"] == 3


def test_a_variant_that_fails_is_set_aside(tmp_path, monkeypatch):
    monkeypatch.setitem(variants.BOUNDS, "float16", parity.Bounds(max_difference=1e-9))
    with pytest.raises(UserError) as caught:
        export_to(tmp_path / "out", export_formats=("tflite",))
    message = str(caught.value)
    assert message.startswith("export: not published: translator_float16: translate differs from ")
    assert message.count("\n") == 0
    assert listing(tmp_path / "out") == [
        "failed",
        "model.json",
        "report.json",
        "translator_float32.json",
        "translator_float32.tflite",
    ]
    assert listing(tmp_path / "out" / "failed") == [
        "translator_float16.json",
        "translator_float16.tflite",
    ]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["passed"] is False
    built = report["variants"]
    assert built["translator_float32"]["passed"] is True
    assert built["translator_float16"]["path"] == "failed/translator_float16.tflite"
    assert built["translator_float16"]["reason"] in message


def test_a_graph_that_cannot_be_converted_is_a_failed_variant(tmp_path, monkeypatch):
    def convert(*_):
        raise UserError("cannot be converted: some op is not supported")

    monkeypatch.setattr(tflite, "convert", convert)
    with pytest.raises(UserError, match="cannot be converted: some op is not supported"):
        export_to(tmp_path / "out", export_formats=("tflite",), export_quantize=("none",))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["variants"]["translator_float32"]["path"] is None


# ---- the command -------------------------------------------------------------------------------


def shell(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "cgan_tf", "export", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_the_command_runs_the_stage(copied_run, fake_build):
    command_flags.run(
        command.define_flags,
        command.main,
        [f"--run_dir={copied_run.path}", "--formats=tflite", "--quantize=float16"],
    )
    assert fake_build["count"] == 1 and copied_run.stage("export").finished()
    options = copied_run.load_config().export
    assert (options.formats, options.quantize) == (("tflite",), ("float16",))


def test_photos_that_have_moved(copied_run, fake_build, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command_flags.run(
        command.define_flags,
        command.main,
        [f"--run_dir={copied_run.path}", "--formats=tflite", "--data_dir=moved"],
    )
    assert copied_run.load_config().data_dir == str(tmp_path / "moved")


def test_the_command_exports_to_a_folder(tmp_path, fake_build):
    run = fake_run.shared_run()
    output = tmp_path / "out"
    command_flags.run(
        command.define_flags, command.main, [f"--run_dir={run.path}", f"--output={output}"]
    )
    assert listing(output) == ["report.json", "saved_model"]
    assert not run.stage("export").path.exists()


@pytest.mark.slow
def test_the_command_as_a_process(copied_run):
    where = f"--run_dir={copied_run.path}"
    done = shell(where, "--formats=tflite", "--quantize=float16")
    assert (done.returncode, done.stderr) == (0, "")
    first, head, row, last = done.stdout.splitlines()
    assert first.startswith("export: translator_float16: 0.") and first.endswith(" MB, passed")
    assert head.split()[:3] == ["variant", "MB", "difference"]
    assert row.split()[0] == "translator_float16" and row.split()[-1] == "passed"
    assert last == (
        "compared with Keras on 10 validation photos; edits of +1 scored by the regressor; "
        "ms on one thread"
    )
    assert listing(copied_run.path / "export") == [
        "metadata.json",
        "model.json",
        "report.json",
        "translator_float16.json",
        "translator_float16.tflite",
    ]
    assert copied_run.stage("export").finished()
    assert copied_run.load_config().export.formats == ("tflite",)


def test_user_errors_are_one_line(copied_run, tmp_path):
    where = f"--run_dir={copied_run.path}"
    for arguments, message in (
        ([], "--run_dir: not given; see --help"),
        (
            [f"--run_dir={tmp_path}"],
            f"{tmp_path}: no run folder (config.json is missing); give one that train_main.py "
            "has made",
        ),
        ([where, "--formats="], "--formats: nothing given; see --help"),
        (
            [where, "--formats=onnx"],
            "--formats=onnx: unknown value; one of saved_model, tflite, page",
        ),
        (
            [where, "--quantize=float61"],
            "--quantize=float61: unknown value (did you mean float16?)",
        ),
        ([where, "--outptu=x"], "--outptu: unknown flag; did you mean --output? (see --help)"),
    ):
        done = shell(*arguments)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith(f"error: {message}"), done.stderr
        assert done.stderr.count("\n") == 1
