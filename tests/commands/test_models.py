"""cgan models: the list, one model in full, and how other commands take a name."""

import hashlib

import command_flags
import named_folder
import pytest
from photos import save_photo

from cgan_tf.commands import models
from cgan_tf.core import cli
from cgan_tf.core.config import OPTIONS
from cgan_tf.editing import named_models
from cgan_tf.editing.description import LICENSE_NOTES

INSTALL = "your own: cgan export --install=NAME --run_dir=RUN_DIR\n"


@pytest.fixture
def places(monkeypatch, tmp_path):
    """The user's folder and the shipped one; the current folder is another."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return named_folder.places(monkeypatch, tmp_path)


def printed(capsys, *arguments):
    """The exit code, stdout and stderr of `cgan arguments`."""
    code = command_flags.run_line(*arguments)
    return code, *capsys.readouterr()


def refusal(line):
    return cli.USER_ERROR_CODE, "", f"error: {line}\n"


# ---- the list ----------------------------------------------------------------------------------


def test_an_empty_list(places, capsys):
    assert printed(capsys, "models") == (0, f"there are no named models\n{INSTALL}", "")


def test_the_list(places, capsys):
    own, shipped = places
    named_folder.make(shipped / "face", data="celeba", quality=None, resolution=128)
    named_folder.make(own / "face")
    named_folder.make(own / "cats", data="folder", attributes=["A", "B", "C", "D", "E"])
    damaged = named_folder.make(own / "old")
    (damaged / "scores.tflite").unlink()
    (own / "face.old-001").mkdir()
    code, out, err = printed(capsys, "models")
    assert (code, err) == (0, "")
    mine = f"5.96 / 0.96   {own}"
    assert out.splitlines() == [
        "name  px   attributes         data                              MB   fd / floor    where",
        f"cats  64   A, B, C, 2 more    photos: ask the maker             0.0  {mine}",
        f"face  64   Eyeglasses, Bangs  synthetic: no third-party photos  0.0  {mine}",
        "face  128  Eyeglasses, Bangs  CelebA: research only             0.0  not measured  "
        "shipped (yours is used)",
        f"old: damaged: {damaged}/scores.tflite: No such file or directory; install it again with "
        "cgan export --install=NAME --overwrite",
        INSTALL.strip(),
    ]


def test_every_data_set_says_what_its_license_allows():
    choices = set(OPTIONS["data"].metadata["choices"])
    assert choices == set(models.DATA) == set(LICENSE_NOTES)


@pytest.mark.parametrize(
    "changes",
    [
        {"quality": [1]},
        {"quality": {"fd": "small"}},
        {"data": []},
        {"files": dict.fromkeys(named_models.FILES, {"bytes": "10", "sha256": "0"})},
    ],
)
def test_a_model_with_other_types_does_not_hide_the_list(places, capsys, changes):
    named_folder.make(places[0] / "odd", **changes)
    named_folder.make(places[1] / "sound")
    assert command_flags.run_line("models") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("sound ") and lines[2].startswith("odd: damaged: ")


def test_the_size_is_that_of_all_files(places, capsys):
    large = {"model.tflite": bytes(5_000_000), "scores.tflite": bytes(2_140_000)}
    named_folder.make(places[0] / "face", named_folder.CONTENT | large)
    row = printed(capsys, "models")[1].splitlines()[1]
    assert "  7.1  5.96 / 0.96  " in row


def test_the_list_without_a_home(places, capsys, monkeypatch):
    named_folder.forget_home(monkeypatch)
    assert printed(capsys, "models") == (
        0,
        "there are no named models\n"
        f"your own are unknown: the home folder is unknown; set XDG_DATA_HOME\n{INSTALL}",
        "",
    )


# ---- one model ---------------------------------------------------------------------------------


def test_one_model(places, capsys):
    folder = named_folder.make(places[0] / "face")
    code, out, err = printed(capsys, "models", "face")
    assert (code, err) == (0, "")
    hashes = [
        hashlib.sha256(content).hexdigest() for content in (b"translator", b"regressor", b"face")
    ]
    assert out.splitlines() == [
        f"face: {folder}",
        "made by     cgan train --stage=all --run_dir=runs/face --seed=1",
        "created     2026-01-02T03:04:05+00:00",
        "data        synthetic",
        "license     Trained on synthetic faces.",
        "image       64 px, crop center_square",
        "scores      Smiling, Eyeglasses, Bangs",
        "",
        f"file           bytes  sha256{' ' * 58}".rstrip(),
        f"model.tflite   10     {hashes[0]}  ok",
        f"scores.tflite  9      {hashes[1]}  ok",
        f"face.png       4      {hashes[2]}  ok",
        "",
        "fd          5.96 (floor 0.96)",
        "inversion   PSNR 25.25 dB, retrieval 0.985 (floor 0.005)",
        "",
        "edit by +1  change  leakage  retrieval  same person  n",
        "Eyeglasses  0.84    0.0123   0.5        -            122",
        "Bangs       0.91    -        0.25       -            130",
    ]
    assert printed(capsys, "models", "--name=face") == (code, out, err)


def test_a_model_that_was_not_measured(places, capsys):
    named_folder.make(places[0] / "face", quality=None)
    last = printed(capsys, "models", "face")[1].splitlines()[-1]
    assert last == "quality: not measured; attributes: Eyeglasses, Bangs"


def test_a_model_whose_files_have_changed(places, capsys):
    for folder in places:
        named_folder.make(folder / "face")
    path = places[0] / "face" / "scores.tflite"
    path.write_bytes(b"REGRESSOR")
    code, out, err = printed(capsys, "models", "face")
    assert code == cli.USER_ERROR_CODE
    assert out.startswith("face: your own model of this name, ")
    marks = [line.split()[-1] for line in out.splitlines() if ".tflite" in line]
    assert marks == ["ok", "DIFFERS"]
    assert err == (
        f"error: {path}: not the file that model.json describes (its SHA-256 differs); install it "
        "again with cgan export --install=NAME --overwrite\n"
    )


def test_a_model_that_does_not_exist(places, capsys):
    named_folder.make(places[1] / "face")
    assert printed(capsys, "models", "fase") == refusal(
        "cgan models fase: no such model (did you mean face?); the named models are face"
    )
    assert printed(capsys, "models", "a", "b") == refusal(
        "'a': not a flag; every option is written --name=value (see --help)"
    )


# ---- other commands ----------------------------------------------------------------------------


def test_attribute_needs_a_run_folder(places, capsys):
    named_folder.make(places[0] / "face")
    assert printed(capsys, "attribute", "--run_dir=face", "--labels=hats.csv") == refusal(
        "--run_dir=face: a named model, which cannot learn an attribute; give the run folder that "
        "it was made of"
    )
    code, out, _ = printed(capsys, "attribute", "--help")
    assert code == 0 and "It needs the run folder" in out


def test_label_has_no_samples_of_a_named_model(places, capsys):
    named_folder.make(places[0] / "face")
    line = ["label", "--model=face", "--samples=2", "--output=scores.csv"]
    assert printed(capsys, *line) == refusal(
        "--model=face: a named model scores photos only; for --samples give a run folder or a "
        "SavedModel"
    )


@pytest.mark.parametrize(
    "line",
    [
        "label --model=fase --image=a.jpg --output=scores.csv",
        "translate --model=fase --image=a.jpg --edit=Bangs=1 --output=b.jpg",
    ],
)
def test_the_closest_name(places, capsys, line):
    named_folder.make(places[0] / "face")
    save_photo(places[0] / "a.jpg")
    line = line.replace("a.jpg", str(places[0] / "a.jpg"))
    assert printed(capsys, *line.split()) == refusal(
        "--model=fase: no such file or folder; give a run folder, a SavedModel folder, a .tflite "
        "file or the name of a model (did you mean face?); the named models are face"
    )


@pytest.mark.parametrize(
    "flags, line",
    [
        ("--install=x --formats=page", "--formats: not with --install; leave it out"),
        ("--install=x --output=y", "--output: not with --install; leave it out"),
        ("--install=x --restart", "--restart: not with --install; leave it out"),
        ("--install_dir=x", "--install_dir: only with --install"),
        ("--overwrite", "--overwrite: only with --install"),
    ],
)
def test_flags_of_an_installation(capsys, flags, line):
    assert printed(capsys, "export", "--run_dir=run", *flags.split()) == refusal(line)
