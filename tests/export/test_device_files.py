"""Where `cgan page` finds the .tflite file of a model, and what it refuses."""

import json

import flatbuffers
import named_folder
import pytest
from ai_edge_litert import schema_py_generated as schema

from cgan_tf.core.errors import UserError
from cgan_tf.editing import tflite_file
from cgan_tf.editing.errors import EditorError
from cgan_tf.export import device_files, litert

DESCRIPTION = {"format": 2, "attributes": ["A"], "resolution": 32, "crop": "center_square"}


def empty_model():
    builder = flatbuffers.Builder()
    builder.Finish(schema.ModelT().Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def write_report(export, **passed):
    export.mkdir(parents=True)
    variants = {f"translator_{name}": {"passed": value} for name, value in passed.items()}
    (export / "report.json").write_text(json.dumps({"variants": variants}))


def reason(model):
    with pytest.raises(EditorError) as caught:
        device_files.find(str(model))
    assert caught.value.argument == "model" and caught.value.value == str(model)
    return caught.value.reason


def test_the_fastest_file_of_a_run_that_passed(tmp_path):
    run = tmp_path / "run"
    write_report(run / "export", int8=True, float32=True, dynamic=False, float16=True)
    (run / "config.json").touch()
    found = device_files.find(str(run))
    assert found == (run / "export" / "translator_float16.tflite", run / "face.png")
    assert device_files.find(str(run / "export")).path == found.path


def test_a_file_and_a_folder_with_a_model(tmp_path):
    path = tmp_path / "model.tflite"
    path.touch()
    assert device_files.find(str(path)) == (path, None)
    assert "no .tflite file that passed" in reason(tmp_path)  # e.g. a page's folder


def test_a_named_model_is_checked(tmp_path):
    folder = named_folder.make(tmp_path / "face")
    assert device_files.find(str(folder)) == (folder / "model.tflite", folder / "face.png")
    (folder / "model.tflite").write_bytes(b"translat0r")
    with pytest.raises(UserError, match="not the file that model.json describes"):
        device_files.find(str(folder))


def test_a_run_without_an_export_names_the_command(tmp_path):
    run = tmp_path / "my run"
    run.mkdir()
    (run / "config.json").touch()
    command = f"cgan export --run_dir='{run}' --formats=tflite --quantize=float16"
    line = f"has no exported .tflite file that passed; write one: {command}"
    assert reason(run) == line
    write_report(run / "export", float16=False, int8=True)
    assert reason(run) == f"{line} --restart"
    for damaged in ("[", "[]", '{"variants": 1}', '{"variants": {"translator_float16": 1}}'):
        (run / "export" / "report.json").write_text(damaged)
        assert reason(run) == f"{line} --restart"


def test_what_is_no_model(tmp_path):
    forms = "give a run folder, the folder of an export, a .tflite file or a name"
    assert reason(tmp_path / "none") == f"No such file or directory; {forms}"
    assert reason(tmp_path) == f"contains no .tflite file that passed; {forms}"


def test_a_file_that_is_no_usable_model(tmp_path):
    path = tmp_path / "a.tflite"
    model = device_files.DeviceModel(path)
    with pytest.raises(UserError, match="a.tflite: No such file"):
        device_files.page_files(model)
    path.write_bytes(b"text")
    with pytest.raises(EditorError, match="not a TFLite model"):
        device_files.page_files(model)
    path.write_bytes(empty_model()[:9])
    with pytest.raises(UserError, match="a.tflite: damaged TFLite model; export it with"):
        device_files.page_files(model)
    sealed = bytearray(tflite_file.sealed(empty_model()))
    sealed[12] ^= 1
    path.write_bytes(sealed)
    with pytest.raises(UserError, match="its checksum does not fit"):
        device_files.page_files(model)
    path.write_bytes(empty_model())
    with pytest.raises(UserError, match="no attribute names .*a.json is missing"):
        device_files.page_files(model)
    path.with_suffix(".json").write_text(json.dumps(DESCRIPTION | {"crop": "none"}))
    with pytest.raises(UserError, match="a.tflite: damaged description"):
        device_files.page_files(model)
    path.with_suffix(".json").write_text(json.dumps(DESCRIPTION | {"psnr_p5": float("nan")}))
    with pytest.raises(UserError, match="a.json: damaged description"):
        device_files.page_files(model)


@pytest.mark.parametrize(
    "name, variant", [("translator_weight_int8", "weight_int8"), ("model", "TFLite")]
)
def test_the_page_has_the_model_its_variant_and_the_example(tmp_path, monkeypatch, name, variant):
    monkeypatch.setattr(litert, "files", dict)  # they take a second to unpack
    path, example = tmp_path / f"{name}.tflite", tmp_path / "face.png"
    path.write_bytes(empty_model())
    path.with_suffix(".json").write_text(json.dumps(DESCRIPTION))
    files = device_files.page_files(device_files.DeviceModel(path, example))
    assert files["model.tflite"] == empty_model()
    assert json.loads(files["model.json"]) == DESCRIPTION | {"variant": variant}
    assert "face.png" not in files
    example.write_bytes(b"a face")
    files = device_files.page_files(device_files.DeviceModel(path, example))
    assert files["face.png"] == b"a face"
