"""`cgan export --install`: what it writes, and that a name gives what the run folder gives."""

import contextlib
import csv
import io
import json
import os
import shutil

import command_flags
import evaluated_run
import fake_run
import named_folder
import numpy as np
import pytest
from refusal import message

import cgan_tf
from cgan_tf.core import config as config_module
from cgan_tf.core.files import file_hash, write_json
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import images
from cgan_tf.data.portraits import portraits
from cgan_tf.editing import backends, named_models
from cgan_tf.editing.description import CELEBA_CROP, SQUARE_CROP
from cgan_tf.evaluation import figures
from cgan_tf.export import install, variants
from cgan_tf.export.serving import model as served_model
from cgan_tf.export.serving import named
from cgan_tf.export.serving.errors import RequestError

# ---- parts -------------------------------------------------------------------------------------


def save_config(path, requested, **options):
    """A run folder with nothing but its options."""
    run = RunFolder(path)
    config = config_module.replace(config_module.Config(), **options)
    run.save_config(config, {}, requested)
    return run


@pytest.fixture
def fake_build(monkeypatch):
    """Replaces the slow parts of an installation by one file; what it calls before that."""
    before = []

    def build(source, output, name, quality, say):
        for call in before:
            call()
        (output / "model.tflite").write_text("new")

    monkeypatch.setattr(install.stage, "require_finished", lambda run: None)
    monkeypatch.setattr(install, "measured", lambda run, say: None)
    monkeypatch.setattr(install.variants, "Source", lambda *arguments: None)
    monkeypatch.setattr(install, "_build", build)
    monkeypatch.setattr(install, "NamedBackend", lambda folder: None)
    return before


def test_a_name_is_installed_by_one_process_at_a_time(tmp_path, fake_build):
    target, refusals, lines = tmp_path / "face", [], []
    installing = [None, None, target, "a data set", lines.append]
    fake_build.append(lambda: refusals.append(message(install.install, *installing)))
    install.install(*installing)
    assert refusals == [
        f"--install=face: {target}: another process is writing to it; wait for it, or choose "
        "another folder"
    ]
    assert os.listdir(tmp_path) == ["face"] and os.listdir(target) == ["model.tflite"]
    (target / "model.tflite").write_text("old")
    install.install(*installing)
    assert lines == [f"install: the old model is now {target}.old-001"]
    assert (tmp_path / "face.old-001" / "model.tflite").read_text() == "old"
    assert (target / "model.tflite").read_text() == "new"
    fake_build[:] = [lambda: shutil.rmtree(target)]
    install.install(*installing)
    assert sorted(os.listdir(tmp_path)) == ["face", "face.old-001"] and len(lines) == 1


def test_a_model_that_appears_meanwhile_is_kept(tmp_path, fake_build):
    target = tmp_path / "face"
    fake_build.append(lambda: write_json(target / "model.json", {}))
    assert message(install.install, None, None, target, "a data set", print) == (
        f"--install=face: {target}: something else has been written there meanwhile; choose "
        "another folder"
    )
    assert os.listdir(tmp_path) == ["face"] and os.listdir(target) == ["model.json"]


def test_the_command_that_made_a_run(tmp_path):
    requested = {
        "data_dir": "/home/me/my photos",
        "cache_dir": "/tmp/cache",
        "attributes": ["A", "B"],
        "gan_kimg": 70.0,
        "flip": False,
        "features_side": None,
    }
    run = save_config(tmp_path / "x", requested, preset="celeba64", seed=12)
    assert install.command(run, "mine") == (
        "cgan train --stage=all --run_dir=runs/mine --preset=celeba64 '--data_dir=my photos' "
        "--attributes=A,B --gan_kimg=70 --flip=false --features_side=auto --seed=12"
    )
    run = save_config(tmp_path / "y", {"seed": 3, "init_from": "../me/a", "gan_width": 8}, seed=3)
    assert install.command(run, "b") == (
        "cgan train --stage=all --run_dir=runs/b --seed=3 --init_from=a --gan_width=8"
    )


def test_the_example_photo_is_cropped_to_the_square():
    """By the commands, by default, of models of either framing."""
    square = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    square = images.center_square_resize(square[:8, :8], 64)  # smooth, as faces are
    for crop, size in ((SQUARE_CROP, (64, 64, 3)), (CELEBA_CROP, (218, 178, 3))):
        photo = install.framed(square, crop)
        assert photo.shape == size
        aligned = crop == CELEBA_CROP
        (portrait,) = portraits(photo, 64, aligned, "all" if aligned else "center")
        assert np.abs(portrait.crop.astype(int) - square).mean() <= (2 if aligned else 0)
        shifted = np.roll(square, 2, axis=1).astype(int)
        assert np.abs(portrait.crop - shifted).mean() > 4, "the square itself must be closer"


def write_report(run, identity):
    """A finished evaluate stage with just what is copied from it."""
    edit = {"target_change": 0.84, "leakage": 0.02, "retrieval": 0.5, "n": 9, "success": 1.0}
    encoder = dict(psnr=25.0, ssim=0.75, retrieval=0.98, retrieval_floor=0.1, retrieval_ceiling=1.0)
    report = {
        "version": 4,
        "seed": 1,
        "generation": {"fd": 6.25, "fd_floor": 0.9, "kid": 1.0},
        "inversion": {"encoder": encoder | {"n": 10, "perceptual": 0.2}},
        "edits": {"learned": {"Bangs": edit}},
    }
    if identity:
        for entry in (report["inversion"]["encoder"], report["edits"]["learned"]["Bangs"]):
            entry["same_person_at_0.1"] = 0.7
        report["identity"] = {"floor": {"same_person_at_0.1": 0.001}}
    stage = run.stage("evaluate")
    stage.path.mkdir(parents=True)
    write_json(stage.path / "report.json", report)
    metadata = dict(stage="evaluate", options={}, data="", parents={}, ended="now")
    write_json(stage.path / "metadata.json", metadata)
    return encoder | {"n": 10}, {"change": 0.84, "leakage": 0.02, "retrieval": 0.5, "n": 9}


@pytest.mark.parametrize("identity", [False, True])
def test_the_figures_of_the_evaluation(tmp_path, identity):
    run, lines = RunFolder(tmp_path), []
    inversion, edit = write_report(run, identity)
    if identity:
        inversion |= {"same_person_at_0.1": 0.7, "same_person_at_0.1_floor": 0.001}
        edit |= {"same_person_at_0.1": 0.7}
    assert install.measured(run, lines.append) == {
        "fd": 6.25,
        "fd_floor": 0.9,
        "inversion": inversion,
        "attributes": {"Bangs": edit},
        "seed": 1,
    }
    assert lines == []


def test_a_run_that_was_not_evaluated(tmp_path):
    lines = []
    assert install.measured(RunFolder(tmp_path), lines.append) is None
    assert lines == [f"note: the quality is not known, since {tmp_path} has not been evaluated"]


# ---- an installation ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An evaluated run that is installed as `tiny`; XDG_DATA_HOME, the run and what was printed."""
    data_home = tmp_path_factory.mktemp("data")
    run = evaluated_run.evaluated_run().folder
    with (
        pytest.MonkeyPatch.context() as patch,
        fake_run.slim(),
        contextlib.redirect_stdout(io.StringIO()) as printed,
    ):
        patch.setenv("XDG_DATA_HOME", str(data_home))
        assert command_flags.run_line("export", f"--run_dir={run.path}", "--install=tiny") == 0
    return data_home, run, printed.getvalue().splitlines()


@pytest.fixture
def elsewhere(installed, monkeypatch, tmp_path):
    """The current folder is another, the user's data those of `installed`; the model's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(installed[0]))
    return installed[0] / "cgan_tf" / "models" / "tiny"


@pytest.mark.slow
def test_what_is_installed(installed, elsewhere):
    assert sorted(os.listdir(elsewhere)) == [
        "face.png",
        "model.json",
        "model.tflite",
        "scores.tflite",
    ]
    assert os.listdir(elsewhere.parent) == ["tiny"]
    about = json.loads((elsewhere / "model.json").read_text())
    for file in named_models.FILES:
        assert about["files"][file]["sha256"] == file_hash(elsewhere / file)
    kinds = [about["files"][file]["quantize"] for file in ("model.tflite", "scores.tflite")]
    assert kinds == ["dynamic", "dynamic"]
    assert images.decode_file(elsewhere / "face.png").shape == (256, 256, 3)
    assert about["name"] == "tiny" and about["data"] == "synthetic"
    assert f"--seed={installed[1].load_config().seed}" in about["command"].split()
    sizes = [about["files"][file]["bytes"] / 1e6 for file in ("model.tflite", "scores.tflite")]
    assert installed[2][-3:] == [
        f"install: model.tflite: {sizes[0]:.2f} MB, dynamic",
        f"install: scores.tflite: {sizes[1]:.2f} MB, dynamic",
        f"{elsewhere}: installed; try cgan translate --model=tiny --image={elsewhere}/face.png "
        "--edit=Smiling=+1 --output=OUT.png",
    ]


@pytest.mark.slow
def test_the_figures_are_those_that_evaluate_prints(installed, elsewhere):
    quality = named_models.read(elsewhere).description["quality"]
    report = json.loads((installed[1].path / "evaluate" / "report.json").read_text())
    printed = {figure.name: figure for figure in figures.from_report(report)}
    assert (quality["fd"], quality["fd_floor"]) == (printed["fd"].value, printed["fd"].floor)
    for key in ("psnr", "ssim", "retrieval"):
        assert quality["inversion"][key] == printed[f"encoder, {key}"].value
    assert set(quality["attributes"]) == set(fake_run.ATTRIBUTES)
    for name, one in quality["attributes"].items():
        assert one["change"] == printed[f"{name}, target change"].value
        for key in ("leakage", "retrieval"):
            assert one[key] == printed[f"{name}, {key}"].value
        person = printed[f"{name}, same person at 0.1 %"]
        assert one["same_person_at_0.1"] == person.value
        assert quality["inversion"]["same_person_at_0.1_floor"] == person.floor


@pytest.mark.slow
def test_the_service_by_name(installed, elsewhere):
    served = named.NamedServedModel(elsewhere, "faces", 8)
    served_model.warm_up(served)
    assert sorted(served.signatures) == [
        "attributes",
        "encode",
        "generate",
        "serving_default",
        "translate",
    ]
    assert all(one.batched for one in served.signatures.values())
    backend = backends.open_backend("tiny", scores=True)
    draw = np.random.default_rng(0)
    inputs = {
        "image": draw.uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32),
        "strengths": np.eye(3, len(backend.attributes), dtype=np.float32),
    }
    for name in ("serving_default", "translate"):
        signature = served.signatures[name]
        assert signature.check(inputs) == 3
        image = served_model.run(signature, inputs)["image"]
        np.testing.assert_array_equal(image, backend.translate(**inputs))
    scores = served_model.run(served.signatures["attributes"], {"image": inputs["image"]})["scores"]
    np.testing.assert_array_equal(
        scores, backend.run("attributes", image=inputs["image"])["scores"]
    )
    with pytest.raises(RequestError, match="strengths must have shape"):
        served.signatures["translate"].check(inputs | {"strengths": np.zeros((3, 9), np.float32)})


@pytest.mark.slow
def test_translate_by_name(installed, elsewhere, tmp_path):
    photo, pixels = elsewhere / "face.png", {}
    for name, model in (("named", "tiny"), ("run", installed[1].path)):
        code = command_flags.run_line(
            "translate",
            f"--model={model}",
            f"--image={photo}",
            "--edit=Smiling=+1",
            "--crop",
            f"--output={name}.png",
        )
        assert code == 0
        pixels[name] = images.decode_file(tmp_path / f"{name}.png").astype(int)
    difference = np.abs(pixels["named"] - pixels["run"]).mean()
    assert 0 < difference <= 4, "of 255: quantized, but the same edit"
    assert np.ptp(pixels["named"]) > 50


@pytest.mark.slow
def test_label_by_name(installed, elsewhere, tmp_path):
    tables = {}
    for name, model in (("named", "tiny"), ("run", installed[1].path)):
        with fake_run.slim():
            code = command_flags.run_line(
                "label",
                f"--model={model}",
                f"--image={elsewhere / 'face.png'}",
                f"--output={name}.csv",
            )
        assert code == 0
        with open(tmp_path / f"{name}.csv", newline="") as file:
            tables[name] = list(csv.reader(file))
    assert tables["named"][0] == tables["run"][0]
    scores = {name: np.float64(rows[1][1:]) for name, rows in tables.items()}
    assert 0 < np.abs(scores["named"] - scores["run"]).mean() <= 0.01
    assert np.ptp(scores["run"]) > 0.02, "equal scores would show nothing"


@pytest.mark.slow
def test_a_target_by_name(installed, elsewhere):
    """--set, whose search needs the scores; in Python."""
    photo = images.decode_file(elsewhere / "face.png")
    with fake_run.slim():
        editors = [cgan_tf.load_editor(model) for model in ("tiny", installed[1].path)]
    named, run = editors
    assert named.attributes == run.attributes and named.score_names == run.score_names
    start = named.scores(photo)["Smiling"]
    assert start == pytest.approx(run.scores(photo)["Smiling"], abs=0.01)
    target = {"Smiling": run.scores(run.edit(photo, Smiling=0.5))["Smiling"]}
    assert abs(target["Smiling"] - start) > 1e-3, "the edit must change something"
    edited = [editor.edit(photo, target=target).astype(int) for editor in editors]
    moved = np.abs(edited[1] - run.edit(photo, Smiling=0.0)).mean()
    assert np.abs(edited[0] - edited[1]).mean() < moved


@pytest.mark.slow
def test_the_users_own_is_loaded_with_a_warning(elsewhere, monkeypatch, tmp_path):
    monkeypatch.setattr(named_models, "SHIPPED", tmp_path / "shipped")
    named_folder.make(tmp_path / "shipped" / "tiny")
    with pytest.warns(UserWarning, match="^tiny: your own model of this name, .*is used instead"):
        editor = cgan_tf.load_editor("tiny")
    assert editor.resolution == 32


@pytest.mark.slow
def test_an_old_model_is_moved_aside_when_the_new_one_is_complete(
    installed, elsewhere, monkeypatch, tmp_path
):
    config, run = installed[1].load_config(), installed[1]
    target, lines = named_folder.make(tmp_path / "tiny"), []
    old = (target / "model.json").read_bytes()
    with pytest.MonkeyPatch.context() as patch, fake_run.slim():
        patch.setattr(install, "SCORES_BOUND", 0.0)
        reason = message(install.install, config, run, target, say=lines.append)
    assert reason.startswith(f"{run.path}: not installed: scores: dynamic: differs from Keras by ")
    assert "; float16: differs from Keras by " in reason
    assert os.listdir(tmp_path) == ["tiny"] and (target / "model.json").read_bytes() == old
    bounds = variants.parity.Bounds(psnr=1000.0)
    with fake_run.slim():
        monkeypatch.setitem(variants.BOUNDS, "dynamic", bounds)
        install.install(config, run, target, say=lines.append)
    assert sorted(os.listdir(tmp_path)) == ["tiny", "tiny.old-001"]
    assert (tmp_path / "tiny.old-001" / "model.json").read_bytes() == old
    assert lines[-1] == f"install: the old model is now {target}.old-001"
    files = named_models.read(target).files
    assert files["model.tflite"]["quantize"] == "float16"
    assert backends.find_model(target) == ("named", target)
    with fake_run.slim():
        monkeypatch.setitem(variants.BOUNDS, "float16", bounds)
        reason = message(install.install, config, run, target, say=lines.append)
    assert reason.startswith(f"{run.path}: not installed: translator_dynamic: ")
    assert "; translator_float16: " in reason
    assert sorted(os.listdir(tmp_path)) == ["tiny", "tiny.old-001"]
