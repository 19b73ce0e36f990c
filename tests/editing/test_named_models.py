"""Named models: where they are searched, which comes first, and what is damaged."""

import hashlib
import json
from pathlib import Path

import named_folder
import pytest
from refusal import message

from cgan_tf.editing import backends, named_models
from cgan_tf.export.serving.model import find_version

REMEDY = "install it again with cgan export --install=NAME --overwrite"
NOTHING = (
    "no such file or folder; give a run folder, a SavedModel folder, a .tflite file or the name of "
    "a model"
)
# SHA-256 of the model.json of each model that ships; model.json has those of the other files.
SHIPPED = {"synthetic64": "9b7010c80023b35b59bd3a30ccfccf2873192291d182eaa6d0c178a1a89dc562"}
SHIPPED_FOLDER = Path(backends.__file__).parents[1] / "shipped"
LARGEST = 8e6  # bytes of a model that ships


@pytest.fixture
def places(monkeypatch, tmp_path):
    """The user's folder and the shipped one; the current folder is another."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return named_folder.places(monkeypatch, tmp_path)


# ---- what ships --------------------------------------------------------------------------------


def test_what_ships_is_as_it_was_made():
    assert SHIPPED_FOLDER == named_models.SHIPPED
    paths = SHIPPED_FOLDER.iterdir() if SHIPPED_FOLDER.is_dir() else ()
    assert {path.name for path in paths} == set(SHIPPED) != set()
    for name, digest in SHIPPED.items():
        folder = SHIPPED_FOLDER / name
        text = (folder / "model.json").read_bytes()
        assert hashlib.sha256(text).hexdigest() == digest
        about = json.loads(text)
        assert about["name"] == name
        assert about["command"].startswith("cgan train ")
        assert f"--seed={about['seed']}" in about["command"].split()
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        assert set(files) == {"model.json", *about["files"]}
        assert sum(map(len, files.values())) <= LARGEST
        for file, entry in about["files"].items():
            assert hashlib.sha256(files[file]).hexdigest() == entry["sha256"], file


# ---- where they are searched -------------------------------------------------------------------


def test_the_users_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for given, folder in (
        ("/data", "/data/cgan_tf/models"),
        ("", "/home/me/.local/share/cgan_tf/models"),
        ("relative", "/home/me/.local/share/cgan_tf/models"),
    ):
        monkeypatch.setenv("XDG_DATA_HOME", given)
        assert named_models.user_folder() == Path(folder)
    named_folder.forget_home(monkeypatch)
    assert named_models.user_folder() is None
    assert named_models.folders() == [SHIPPED_FOLDER]


def test_a_model_is_found_by_its_name(places):
    for folder, name in zip(places, ("mine", "theirs"), strict=True):
        path = named_folder.make(folder / name)
        assert backends.find_model(name) == ("named", path)
        assert backends.find_model(path) == ("named", path)
        assert named_models.note(name) == ""


def test_the_users_own_comes_first(places):
    own, _ = (named_folder.make(folder / "face") for folder in places)
    assert backends.find_model("face") == ("named", own)
    assert named_models.note("face") == (
        f"face: your own model of this name, {own}, is used instead of the shipped one"
    )
    assert named_models.note(own) == ""


def test_a_path_that_exists_comes_first(places):
    named_folder.make(places[0] / "face")
    named_folder.make(places[1] / "face")
    Path("face").mkdir()
    assert message(backends.find_model, "face") == (
        "face: not a model; it contains neither config.json (a run folder) nor saved_model.pb (a "
        f"SavedModel); the named model is {places[0] / 'face'}"
    )
    assert named_models.note("face") == ""
    Path("face", "config.json").touch()
    assert backends.find_model("face") == ("run", Path("face"))


def test_a_name_that_no_model_has(places):
    assert message(backends.find_model, "face") == (f"face: {NOTHING}; there are no named models")
    named_folder.make(places[0] / "face64")
    named_folder.make(places[1] / "face64")
    named_folder.make(places[1] / "cat")
    (places[1] / "cat.old-001").mkdir()
    (places[1] / ".cat.tmp").mkdir()
    assert message(backends.find_model, "face46") == (
        f"face46: {NOTHING} (did you mean face64?); the named models are cat, face64"
    )
    for path in ("sub/face64", "./gone.tflite", "cat.old-001", ".cat.tmp"):
        assert message(backends.find_model, path) == f"{path}: {NOTHING}"


def test_without_a_home_only_the_shipped_are_known(places, monkeypatch):
    path = named_folder.make(places[1] / "face")
    named_folder.forget_home(monkeypatch)
    assert backends.find_model("face") == ("named", path)
    assert message(backends.find_model, "mine") == (
        f"mine: {NOTHING}; the named models are face; yours are unknown, since the home folder is "
        "unknown; set XDG_DATA_HOME"
    )


def test_the_service_lists_the_names(places):
    named_folder.make(places[0] / "face")
    assert message(find_version, "fase") == (
        "--model=fase: no such folder; give the saved_model folder that cgan export wrote, or the "
        "name of a model (did you mean face?); the named models are face"
    )


# ---- content -----------------------------------------------------------------------------------


def test_a_complete_model(tmp_path):
    model = named_models.read(named_folder.make(tmp_path / "face"))
    assert model.description == named_folder.description("face")
    assert model.bytes == len(b"translator" + b"regressor" + b"face")
    assert model.changed_files() == []
    model.check_hashes()


@pytest.mark.parametrize(
    "changes",
    [
        {"files": None},
        {"files": {}},
        {"files": dict.fromkeys(named_models.FILES, 1)},
        {"files": dict.fromkeys(named_models.FILES, {"bytes": "many", "sha256": "0"})},
        {"files": dict.fromkeys(named_models.FILES, {"bytes": 1, "sha256": None})},
    ],
)
def test_a_damaged_description(tmp_path, changes):
    folder = named_folder.make(tmp_path / "face", **changes)
    assert message(named_models.read, folder) == f"{folder / 'model.json'}: damaged; {REMEDY}"


@pytest.mark.parametrize("scores", [None, [1]])
def test_damaged_names_of_scores(tmp_path, scores):
    folder = named_folder.make(tmp_path / "face", scores=scores)
    line = f"{folder}: damaged description of the model; export it with cgan export"
    assert message(named_models.read, folder) == line


def test_a_description_of_another_kind(tmp_path):
    folder = named_folder.make(tmp_path / "face", format=1)
    assert "description of format 1" in message(named_models.read, folder)
    (folder / "model.json").write_text("{")
    assert "model.json: damaged description" in message(named_models.read, folder)
    (folder / "model.json").unlink()
    assert "no attribute names" in message(named_models.read, folder)


@pytest.mark.parametrize("file", named_models.FILES)
def test_a_damaged_file(tmp_path, file):
    path = named_folder.make(tmp_path / "face") / file
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"?")
    model = named_models.read(path.parent)
    assert model.changed_files() == [file]
    assert message(model.check_hashes) == (
        f"{path}: not the file that model.json describes (its SHA-256 differs); {REMEDY}"
    )
    path.write_bytes(content + b"?")
    assert message(named_models.read, path.parent) == (
        f"{path}: has {len(content) + 1} bytes instead of {len(content)}; {REMEDY}"
    )
    path.unlink()
    assert message(named_models.read, path.parent) == (
        f"{path}: No such file or directory; {REMEDY}"
    )


def test_a_model_whose_files_changed_is_not_loaded(tmp_path):
    folder = named_folder.make(tmp_path / "face")
    (folder / "model.tflite").write_bytes(b"translatoR")
    assert "its SHA-256 differs" in message(backends.open_backend, folder)


# ---- where to install --------------------------------------------------------------------------


def test_the_folder_to_install_in(places, tmp_path):
    assert named_models.plan_target("face", None, False) == places[0] / "face"
    assert named_models.plan_target("face", tmp_path / "x", False) == tmp_path / "x" / "face"
    assert not places[0].exists() and not (tmp_path / "x").exists()
    (places[0] / "face").mkdir(parents=True)
    assert message(named_models.plan_target, "face", None, False) == (
        f"--install=face: {places[0] / 'face'} exists; choose another name, or add --overwrite, "
        "which moves the old one aside"
    )
    assert named_models.plan_target("face", None, True) == places[0] / "face"


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a.b", ".a", "-a", "~", "ä"])
def test_names_that_are_refused(places, name):
    assert message(named_models.plan_target, name, None, False) == (
        f"--install={name}: give a name of letters, digits, _ and -"
    )


def test_without_a_home_there_is_no_folder_to_install_in(monkeypatch, tmp_path):
    named_folder.forget_home(monkeypatch)
    assert message(named_models.plan_target, "face", None, False) == (
        "--install=face: the home folder is unknown; set XDG_DATA_HOME, or give --install_dir=DIR"
    )
    assert named_models.plan_target("face", tmp_path, False) == tmp_path / "face"
