"""The three forms of a model: finding, loading, and what is refused."""

import json
import shutil
from pathlib import Path

import fake_run
import pytest

from cgan_tf.core.errors import UserError
from cgan_tf.editing import backends, tflite_file

NAMES = fake_run.ATTRIBUTES


@pytest.fixture(scope="module")
def forms():
    """The same model as run folder, SavedModel and TFLite file."""
    return fake_run.slim_forms()


def test_no_model(tmp_path):
    with pytest.raises(UserError, match="^.*/gone: no such file or folder"):
        backends.open_backend(str(tmp_path / "gone"))
    with pytest.raises(UserError, match="contains neither config.json .* nor saved_model.pb"):
        backends.open_backend(str(tmp_path))
    with pytest.raises(UserError, match=f"^{'x' * 100}: File name too long; give another path"):
        backends.open_backend("x" * 300)
    (tmp_path / "model.h5").touch()
    with pytest.raises(UserError, match="a file must be a .tflite"):
        backends.open_backend(str(tmp_path / "model.h5"))


def test_the_export_folder_is_almost_a_model(forms):
    folder = forms["saved_model"].parent
    with pytest.raises(UserError, match=f"did you mean {folder / 'saved_model'}"):
        backends.open_backend(str(folder))


def test_the_highest_version_is_opened(tmp_path):
    base = tmp_path / "export" / "saved_model"
    for name in ("2", "10", "9", "new"):
        (base / name).mkdir(parents=True)
        (base / name / "saved_model.pb").touch()
    (base / "11").mkdir()  # as if it was being written
    assert backends.find_model(str(base)) == ("saved_model", base / "10")
    assert backends.find_model(str(base / "9")) == ("saved_model", base / "9")
    with pytest.raises(UserError, match=f"did you mean {base}\\?$"):
        backends.find_model(str(base.parent))
    old = tmp_path / "old" / "saved_model"  # without versions
    old.mkdir(parents=True)
    (old / "saved_model.pb").touch()
    assert backends.find_model(str(old)) == ("saved_model", old)
    with pytest.raises(UserError, match=f"did you mean {old}\\?$"):
        backends.find_model(str(old.parent))


@pytest.mark.parametrize("content", [b"", b"no model at all", None])
def test_a_damaged_tflite_file(forms, tmp_path, content):
    path = tmp_path / "broken.tflite"
    path.write_bytes(forms["float32"].read_bytes()[:9000] if content is None else content)
    with pytest.raises(UserError, match="broken.tflite: damaged, or not a TFLite model") as caught:
        backends.open_backend(str(path))
    assert "\n" not in str(caught.value)


def test_a_tflite_file_with_another_byte_is_refused(forms, tmp_path):
    """LiteRT would run it, with another weight."""
    content = bytearray(forms["float32"].read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "changed.tflite"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"changed.tflite: damaged \(its checksum does not fit\)"):
        backends.open_backend(str(path))


@pytest.mark.slow
def test_a_tflite_file_of_an_earlier_version_is_tried_first(forms, tmp_path, monkeypatch):
    content = forms["float32"].read_bytes()
    plain = content[: -len(tflite_file.sealed(b""))]
    assert tflite_file.sealed(plain) == content, "the checksum is at the end of an export"
    path = tmp_path / "old.tflite"
    path.write_bytes(plain)
    (tmp_path / "hashlib.py").write_text("raise SystemExit(1)")  # not to be imported
    monkeypatch.chdir(tmp_path)
    assert backends.open_backend(path).attributes == NAMES


@pytest.mark.slow
@pytest.mark.parametrize(
    "end, message",
    [
        ("print('no such operator')\n    raise SystemExit(1)", r"\(no such operator\)"),
        ("import os; os.kill(os.getpid(), 11)", r"\(the runtime crashed: SIGSEGV\)"),
        ("import time; time.sleep(60)", r"\(it did not answer within 1 s\)"),
    ],
)
def test_a_trial_that_fails(tmp_path, monkeypatch, end, message):
    """The process that tries a file finds, in the place of LiteRT, a module that fails."""
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").touch()
    (tmp_path / "ai_edge_litert" / "interpreter.py").write_text(
        "class SignatureRunner:\n    pass\n\n\n"
        f"def Interpreter(model_content):\n    assert len(model_content) == 8\n    {end}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(tflite_file, "_TRIAL_S", 1 if "sleep" in end else 60)
    with pytest.raises(UserError, match=f"x.tflite: damaged, or not a TFLite model {message}; "):
        tflite_file.check(Path("x.tflite"), b"1234TFL3")


def without_metadata(path):
    from ai_edge_litert import schema_py_generated as schema

    from cgan_tf.export import tflite

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    model.metadata = None
    return tflite_file.sealed(tflite.pack(model))


def test_a_tflite_file_without_metadata_needs_its_json_file(forms, tmp_path):
    path = tmp_path / "plain.tflite"
    path.write_bytes(without_metadata(forms["float32"]))
    with pytest.raises(UserError, match=r"no attribute names \(.*plain.json is missing\)"):
        backends.open_backend(str(path))
    shutil.copy(forms["float32"].with_suffix(".json"), tmp_path / "plain.json")
    assert backends.open_backend(str(path)).attributes == NAMES


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "plain.json: damaged description"),
        ("[]", "plain.json: damaged description"),
        (
            '{"format": 1}',
            "description of format 1, this version reads 2; export it with cgan export",
        ),
        ('{"format": 2, "attributes": ["A"], "resolution": 32}', "lacks 'crop'"),
        (
            '{"format": 2, "attributes": [], "resolution": 32, "crop": "celeba"}',
            "damaged description",
        ),
        (
            '{"format": 2, "attributes": ["A"], "resolution": 32, "crop": "celeba"}',
            "its attribute names belong to another model",
        ),
    ],
)
def test_a_bad_description(forms, tmp_path, content, message):
    path = tmp_path / "plain.tflite"
    path.write_bytes(without_metadata(forms["float32"]))
    (tmp_path / "plain.json").write_text(content)
    with pytest.raises(UserError, match=message):
        backends.open_backend(str(path))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"resolution": 64}, "its description belongs to another model"),
        ({"z_dim": 23}, "its description belongs to another model"),
        ({"attributes": ["A"]}, "its attribute names belong to another model"),
        ({"resolution": True}, "damaged description"),
        ({"scores": "Smiling"}, "damaged description"),
        ({"psnr_p5": [1]}, "damaged description"),
        ({"psnr_p5": float("nan")}, "damaged description"),
        ({"crop": []}, "damaged description"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(forms, tmp_path, change, message):
    """Of a SavedModel; the first ones also of a TFLite file without one in its metadata."""
    good = json.loads(forms["float32"].with_suffix(".json").read_bytes())
    if message.startswith("damaged") or "z_dim" in change:
        folder = tmp_path / "model"
        shutil.copytree(forms["saved_model"] / "1", folder)
        (folder / "assets.extra" / "model.json").write_text(json.dumps(good | change))
        with pytest.raises(UserError, match=message):
            backends.SavedModelBackend(folder)
        return
    path = tmp_path / "plain.tflite"
    path.write_bytes(without_metadata(forms["float32"]))
    path.with_suffix(".json").write_text(json.dumps(good | change))
    with pytest.raises(UserError, match=message):
        backends.TFLiteBackend(path)


def test_a_damaged_saved_model(forms, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(forms["saved_model"] / "1", copy)
    graph = (copy / "saved_model.pb").read_bytes()
    (copy / "saved_model.pb").write_bytes(graph[: len(graph) // 2])
    with pytest.raises(UserError, match="damaged SavedModel") as caught:
        backends.open_backend(str(copy))
    assert "\n" not in str(caught.value)
    (copy / "assets.extra" / "model.json").unlink()
    with pytest.raises(UserError, match=r"no attribute names \(.*model.json is missing\)"):
        backends.open_backend(str(copy))
