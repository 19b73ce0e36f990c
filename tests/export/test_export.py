"""The exported files, their checks, and what is published when a check fails."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fake_run
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from cgan_tf import data, export
from cgan_tf.core import config as config_module
from cgan_tf.core import run_folder
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash, write_json
from cgan_tf.editing import backends, description, detail
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.export import parity, saved_model, stage, tflite, variants

ROOT = Path(__file__).parents[2]
NAMES = ["Smiling", "Blond_Hair", "Eyeglasses"]


def silent(line):
    pass


@pytest.fixture(scope="module")
def exported():
    return fake_run.shared_export()


@pytest.fixture(scope="module")
def translator():
    return EditingNetwork.from_run(fake_run.shared_run().path, scores=True)


@pytest.fixture
def copied_run(tmp_path):
    """A copy of the shared run that a test may change."""
    shutil.copytree(fake_run.shared_run().path, tmp_path / "run")
    return run_folder.RunFolder(tmp_path / "run")


# ---- content of the files ----------------------------------------------------------------------


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
        "keep_detail",
        "image",
        "resolution",
        "crop",
        "psnr_p5",
        "space",
        "latent_shape",
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
    assert about["keep_detail"] == {
        name: {"factor": 1.5, "footprint": detail.encode(fake_run.footprint(name))}
        for name in NAMES
    }
    assert about["psnr_p5"] == fake_run.USUAL_PSNR
    assert (about["resolution"], about["z_dim"]) == (32, 24)
    assert (about["space"], about["prior"]) == ("z", "normal")
    assert about["crop"] == "center_square"
    generator = fake_run.shared_run().stage("gan").model / "weights.h5"
    assert about["hashes"]["gan/model/weights.h5"] == file_hash(generator)
    assert len(about["hashes"]) == 6
    for copy in (
        "saved_model/1/assets.extra/model.json",
        "translator_float32.json",
        "translator_float16.json",
    ):
        assert (exported / copy).read_text() == text
    for name in ("translator_float32.tflite", "translator_float16.tflite"):
        content = (exported / name).read_bytes()
        assert description.tflite_description(exported / name, content) == about


def test_saved_model_signatures(exported):
    loaded = tf.saved_model.load(str(exported / "saved_model" / "1"))
    image, latent = (None, 32, 32, 3), (None, 24)
    scores = len(json.loads((exported / "model.json").read_text())["scores"])
    expected = {
        "serving_default": ({"image": image, "strengths": (None, 3)}, {"image": image}),
        "translate": ({"image": image, "strengths": (None, 3)}, {"image": image}),
        "encode": ({"image": image}, {"latent": latent}),
        "generate": ({"latent": latent, "strengths": (None, 3)}, {"image": image}),
        "sample": ({"z": latent}, {"image": image}),
        "attributes": ({"image": image}, {"scores": (None, scores)}),
        "translate_bytes": (
            {"image_bytes": (None,), "strengths": (None, 3)},
            {"image_bytes": (None,)},
        ),
    }
    assert set(loaded.signatures) == set(expected)
    for name, (inputs, outputs) in expected.items():
        signature = loaded.signatures[name]
        specs = signature.structured_input_signature[1]
        assert {key: tuple(spec.shape) for key, spec in specs.items()} == inputs, name
        given = {key: tuple(s.shape) for key, s in signature.structured_outputs.items()}
        assert given == outputs, name
        for key, spec in [*specs.items(), *signature.structured_outputs.items()]:
            assert spec.dtype == (tf.string if key == "image_bytes" else tf.float32)


def test_saved_model_takes_any_batch(exported):
    loaded = tf.saved_model.load(str(exported / "saved_model" / "1"))
    image = tf.random.stateless_uniform((5, 32, 32, 3), (1, 2), -1.0, 1.0)
    strengths = tf.random.stateless_uniform((5, 3), (3, 4), -1.0, 1.0)
    together = loaded.signatures["serving_default"](image=image, strengths=strengths)["image"]
    assert together.shape == (5, 32, 32, 3)
    for row in range(5):
        one = slice(row, row + 1)
        alone = loaded.signatures["translate"](image=image[one], strengths=strengths[one])
        np.testing.assert_allclose(alone["image"][0], together[row], atol=1e-4)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 3e38])
def test_saved_model_refuses_values_that_are_not_finite(exported, wrong):
    """Also values that overflow on the way; the next request works again."""
    loaded = tf.saved_model.load(str(exported / "saved_model" / "1"))
    good = {
        "image": tf.zeros((2, 32, 32, 3)),
        "latent": tf.zeros((2, 24)),
        "strengths": tf.zeros((2, 3)),
        "z": tf.zeros((2, 24)),
        "image_bytes": tf.io.encode_png(tf.zeros((2, 9, 9, 3), tf.uint8)),
    }
    for signature in loaded.signatures.values():
        given = {key: good[key] for key in signature.structured_input_signature[1]}
        before = [output.numpy() for output in signature(**given).values()]
        for key in given:
            if key == "image_bytes" or (key == "image" and wrong == 3e38):
                continue
            value = good[key].numpy()
            value[1] = wrong
            with pytest.raises(tf.errors.InvalidArgumentError, match="Tensor had"):
                signature(**given | {key: tf.constant(value)})
        after = [output.numpy() for output in signature(**given).values()]
        np.testing.assert_array_equal(before, after)


def saved_model_cli(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_saved_model_cli_gives_no_warning(exported):
    done = saved_model_cli("scan", "--dir", exported / "saved_model" / "1")
    assert done.returncode == 0, done.stderr
    assert "does not contain the default denylisted ops" in done.stdout


@pytest.mark.slow
def test_saved_model_cli_shows_and_runs_it(exported, tmp_path):
    folder = exported / "saved_model" / "1"
    shown = saved_model_cli("show", "--dir", folder, "--all")
    assert shown.returncode == 0, shown.stderr
    for name in (*saved_model.SERVER_SIGNATURES, "serving_default"):
        assert f"signature_def['{name}']" in shown.stdout
    latent = np.linspace(-1, 1, 48, dtype=np.float32).reshape(2, 24)
    file = tmp_path / "inputs.npz"
    np.savez(file, latent=latent, strengths=np.zeros((2, 3), np.float32))
    given = f"latent={file}[latent];strengths={file}[strengths]"
    done = saved_model_cli(
        "run",
        "--dir",
        folder,
        "--tag_set",
        "serve",
        "--signature_def",
        "generate",
        "--inputs",
        given,
        "--outdir",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    loaded = tf.saved_model.load(str(folder))
    expected = loaded.signatures["generate"](latent=latent, strengths=tf.zeros((2, 3)))["image"]
    np.testing.assert_allclose(np.load(tmp_path / "image.npy"), expected, atol=1e-5)


def test_saved_model_contains_each_weight_once(exported, translator):
    expected = sum(4 * int(np.prod(weight.shape)) for weight in translator.weights)
    assert saved_model.stored_bytes(exported / "saved_model" / "1") == expected
    data_file = exported / "saved_model" / "1" / "variables" / "variables.data-00000-of-00001"
    assert expected < data_file.stat().st_size < 1.01 * expected
    assert (exported / "saved_model" / "1" / "saved_model.pb").stat().st_size < 1_000_000


def test_weights_written_twice_are_noticed(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    assert saved_model.weight_bytes([model]) == 60
    archive = keras.export.ExportArchive()
    spec = tf.TensorSpec((None, 4), tf.float32, name="x")
    archive.add_endpoint("serve", lambda x: {"y": model(x)}, [spec])
    archive.write_out(str(tmp_path / "once"), verbose=False)
    assert saved_model.check_weights(tmp_path / "once", 60) is None
    assert saved_model.check_weights(tmp_path / "once", 64) == (
        "contains 60 bytes of weights instead of 64: not each weight once"
    )


@pytest.mark.parametrize("name, itemsize", [("translator_float32", 4), ("translator_float16", 2)])
def test_tflite_signatures_operators_and_weights(exported, translator, name, itemsize):
    content = (exported / f"{name}.tflite").read_bytes()
    interpreter = Interpreter(model_content=content)
    assert interpreter.get_signature_list() == {
        "encode": {"inputs": ["image"], "outputs": ["latent"]},
        "generate": {"inputs": ["latent", "strengths"], "outputs": ["image"]},
        "translate": {"inputs": ["image", "strengths"], "outputs": ["image"]},
    }
    runner = interpreter.get_signature_runner("translate")
    given = {key: value["shape"].tolist() for key, value in runner.get_input_details().items()}
    assert given == {"image": [1, 32, 32, 3], "strengths": [1, 3]}
    assert all(value["dtype"] == np.float32 for value in runner.get_input_details().values())
    known = {
        "ADD",
        "CONCATENATION",
        "CONV_2D",
        "DEPTH_TO_SPACE",
        "DEQUANTIZE",
        "FULLY_CONNECTED",
        "LEAKY_RELU",
        "PAD",
        "RESHAPE",
        "SPLIT",
        "STRIDED_SLICE",
        "TANH",
    }
    found = set(tflite.operators(content))
    assert found <= known and {"CONV_2D", "DEPTH_TO_SPACE", "TANH"} <= found
    weights = sum(
        int(np.prod(weight.shape))
        for model in (translator.generator, translator.encoder)
        for weight in model.weights
    )
    stored = sum(map(len, tflite.constants(content)))
    assert 0.97 * itemsize * weights < stored < 1.03 * itemsize * weights


def convert_function(folder, function):
    """A .tflite file of a function of float32 `x` `[1, 4]`, signature `serve`."""
    archive = keras.export.ExportArchive()
    archive.add_endpoint("serve", function, [tf.TensorSpec((1, 4), tf.float32, name="x")])
    archive.write_out(str(folder / "model"), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder / "model"), signature_keys=["serve"]
    )
    converter.allow_custom_ops = True
    return converter.convert()


def add_one(x):
    return {"y": x + 1.0}


def test_a_file_without_its_weights_is_noticed(tmp_path):
    content = convert_function(tmp_path, add_one)
    assert tflite.check_file(content, [], 4) is None
    reason = tflite.check_file(content, [(100, 100), (100,)], 4)
    assert reason.startswith("contains ") and reason.endswith("expected 40,000 to 105,936")


def test_an_operator_outside_the_builtins_is_noticed(tmp_path):
    content = convert_function(tmp_path, lambda x: {"y": tf.linalg.svd(x, compute_uv=False)})
    assert tflite.operators(content) == ["CUSTOM:Svd"]
    reason = "needs operators outside the TFLite builtins: CUSTOM:Svd"
    assert tflite.check_file(content, [], 4) == reason


@pytest.mark.parametrize("name", ["VAR_HANDLE", "CALL_ONCE", "STABLEHLO_ADD"])
def test_an_operator_that_devices_lack_is_noticed(tmp_path, name):
    content = convert_function(tmp_path, add_one)
    assert tflite.check_file(content, [], 4) is None
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    model.operatorCodes[0].builtinCode = getattr(schema.BuiltinOperator, name)
    reason = f"needs operators outside the TFLite builtins: {name}"
    assert tflite.check_file(tflite.pack(model), [], 4) == reason


def test_a_weight_stored_twice_in_a_tflite_file_is_noticed(tmp_path):
    kernel = np.random.default_rng(0).standard_normal((4, 2048)).astype(np.float32)
    content = convert_function(tmp_path, lambda x: {"y": tf.matmul(x, tf.constant(kernel))})
    assert tflite.check_file(content, [kernel.shape], 4) is None
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    heavy = next(buffer for buffer in model.buffers if np.size(buffer.data) == kernel.nbytes)
    model.buffers.append(heavy)
    tensor = next(t for t in model.subgraphs[0].tensors if model.buffers[t.buffer] is heavy)
    twin = schema.TensorT()
    twin.__dict__.update(vars(tensor), buffer=len(model.buffers) - 1)
    model.subgraphs[0].tensors.append(twin)
    assert tflite.check_file(tflite.pack(model), [kernel.shape] * 2, 4) == (
        "contains a weight more than once"
    )


def test_metadata_survives_and_the_model_still_runs(tmp_path):
    content = tflite.add_metadata(convert_function(tmp_path, add_one), "note", b"12345")
    model = schema.Model.GetRootAs(content, 0)
    entries = {
        model.Metadata(i).Name(): model.Buffers(model.Metadata(i).Buffer()).DataAsNumpy().tobytes()
        for i in range(model.MetadataLength())
    }
    assert entries[b"note"] == b"12345"
    interpreter = Interpreter(model_content=content)
    runner = interpreter.get_signature_runner("serve")
    np.testing.assert_array_equal(runner(x=np.ones((1, 4), np.float32))["y"], [[2, 2, 2, 2]])


# ---- the parity check --------------------------------------------------------------------------


class Line(backends.Backend):
    """encode: the image's mean; translate: mean plus strength, and `error` on the last row."""

    def __init__(self, error=0.0, scale=1.0):
        super().__init__(("A",), 2, description.SQUARE_CROP)
        self.error = error
        self.scale = scale
        self.batches = []

    def run(self, signature, image, strengths=None):
        self.batches.append(len(image))
        output = self.scale * image.mean(axis=(1, 2, 3))[:, None]
        if signature == "translate":
            output = output + strengths
            # Recognized by its value, since its position in the batch varies.
            output[image[:, 0, 0, 0] == 1.0] += self.error
        return output


@pytest.fixture
def inputs():
    image = np.zeros((19, 2, 2, 3), np.float32)
    image[-1] = 1.0
    return parity.make_inputs(Line(), image, 5, "normal", seed=1)


def compare(candidate, inputs, signatures=("translate", "encode"), reference=None):
    reference = reference or Line()
    outputs = {n: parity.run_batched(reference, n, inputs.of(n)) for n in signatures}
    return parity.compare(outputs, candidate, inputs, signatures)


def test_inputs_depend_only_on_the_seed(inputs):
    again = parity.make_inputs(Line(), inputs.image, 5, "normal", seed=1)
    other = parity.make_inputs(Line(), inputs.image, 5, "uniform", seed=2)
    np.testing.assert_array_equal(inputs.strengths, again.strengths)
    np.testing.assert_array_equal(inputs.z, again.z)
    assert inputs.strengths.shape == (19, 1) and inputs.z.shape == (19, 5)
    assert -1 <= inputs.strengths.min() < -0.5 and 0.5 < inputs.strengths.max() <= 1
    assert np.abs(inputs.z).max() > 1 >= np.abs(other.z).max()
    assert not np.array_equal(inputs.strengths, other.strengths)
    np.testing.assert_array_equal(inputs.latent[:, 0], [0.0] * 18 + [1.0])


def test_all_rows_are_compared_in_batches(inputs):
    candidate = Line(error=0.38)
    figures = compare(candidate, inputs)
    assert candidate.batches == [16, 3, 16, 3]
    assert figures["translate"]["n"] == 19
    scale = figures["translate"]["scale"]
    assert 1.0 <= scale <= 2.0
    np.testing.assert_allclose(figures["translate"]["max_difference"] * scale, 0.38, rtol=1e-6)
    np.testing.assert_allclose(figures["translate"]["mean_difference"] * scale, 0.02, rtol=1e-6)
    assert figures["encode"] == {
        "n": 19,
        "finite": True,
        "scale": 1.0,
        "max_difference": 0.0,
        "mean_difference": 0.0,
        "psnr": None,
    }


def test_differences_are_relative_to_a_large_latent(inputs):
    figures = compare(Line(scale=101.0), inputs, ["encode"], Line(scale=100.0))
    assert figures["encode"]["scale"] == 100.0
    np.testing.assert_allclose(figures["encode"]["max_difference"], 0.01, rtol=1e-6)


class Gray(Line):
    """translate returns a gray image of the strength plus `error`."""

    def run(self, signature, image, strengths=None):
        return np.broadcast_to((strengths + self.error)[:, :, None, None], image.shape)


def test_images_have_a_psnr(inputs):
    figures = compare(Gray(error=0.02), inputs, ["translate"], Gray())
    np.testing.assert_allclose(figures["translate"]["psnr"], 40.0, atol=1e-4)  # 20 log10(2 / 0.02)
    assert compare(Gray(), inputs, ["translate"], Gray())["translate"]["psnr"] > 200


def test_verdict(inputs):
    good = {
        "n": 1,
        "finite": True,
        "scale": 1.0,
        "max_difference": 1e-4,
        "mean_difference": 0.0,
        "psnr": 30.0,
    }
    bad = good | {"max_difference": 0.2, "psnr": None}
    bounds = parity.Bounds(max_difference=1e-4)
    assert parity.verdict({"translate": good}, bounds) is None
    assert parity.verdict({"translate": good, "encode": bad}, bounds) == (
        "encode differs from Keras by 0.2 (at most 0.0001)"
    )
    noise = parity.Bounds(psnr=30.0)
    assert parity.verdict({"translate": good, "encode": bad}, noise) is None
    assert parity.verdict({"generate": good | {"psnr": 29.94}}, noise) == (
        "generate has a PSNR of 29.9 dB to Keras's images (at least 30)"
    )
    broken = compare(Line(error=np.nan), inputs)
    assert broken["translate"]["max_difference"] is None
    assert parity.verdict(broken, parity.Bounds(1.0)) == "translate returns NaN or infinite values"


def test_every_signature_is_timed(inputs):
    candidate = Line()
    times = parity.latency(candidate, inputs, ("translate", "encode"))
    assert list(times) == ["translate", "encode"] and all(value > 0 for value in times.values())
    assert candidate.batches == [1] * 2 * (parity.WARM_UP + parity.TIMED)


# ---- publishing --------------------------------------------------------------------------------


@pytest.fixture
def fake_build(monkeypatch):
    """Replaces the slow build by one that writes a single file; returns its settings."""
    settings = {"passed": True, "error": None, "count": 0}

    def build(config, folder, dataset, output, say=print):
        settings["count"] += 1
        (output / "saved_model").mkdir()
        (output / "saved_model" / "saved_model.pb").write_text(str(settings["count"]))
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
    (folder.path / ".building-x").mkdir()
    fake_build.update(error=None, passed=False)
    with pytest.raises(UserError, match="export: not published"):
        export.run(config, copied_run, dataset, silent)
    assert not folder.finished()
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


def test_the_command(copied_run, tmp_path):
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
        ([where, "--formats=onnx"], "--formats=onnx: unknown; one of saved_model, tflite, page"),
        ([where, "--quantize=float61"], "--quantize=float61: unknown (did you mean float16?)"),
        ([where, "--outptu=x"], "--outptu: unknown flag; did you mean --output? (see --help)"),
    ):
        done = shell(*arguments)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith(f"error: {message}"), done.stderr
        assert done.stderr.count("\n") == 1
