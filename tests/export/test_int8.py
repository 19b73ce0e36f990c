"""The int8 variants, exported once for all tests, and the page with the fastest of them."""

import json
import os

import fake_run
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from cgan_tf.core import config as config_module
from cgan_tf.core.errors import UserError
from cgan_tf.editing import description
from cgan_tf.export import (
    browser,
    device_files,
    gates,
    parity,
    quantization,
    stage,
    summary,
    tflite,
    variants,
)

KINDS = ("dynamic", "weight_int8", "int8")
FLOAT32, INT8 = schema.TensorType.FLOAT32, schema.TensorType.INT8


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An export of the int8 kinds with a page: the folder, its output, and the page's arguments."""
    pages, lines = [], []

    def files(model, description, variant):
        pages.append((model, description, variant))
        return {"index.html": b"page"}

    output = tmp_path_factory.mktemp("int8") / "export"
    config = config_module.replace(
        fake_run.shared_run().load_config(), export_formats=("page",), export_quantize=KINDS
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(browser, "files", files)
        # The images of an untrained network are noise, which any rounding changes.
        for kind in KINDS:
            patch.setitem(variants.BOUNDS, kind, parity.Bounds(psnr=1.0))
        patch.setattr(quantization, "CALIBRATION", 16)
        patch.setattr(gates, "AGREEMENT", 0.0)
        patch.setattr(gates, "CHANGE_SLACK", 1.0)
        stage.export_to(config, fake_run.shared_run(), output, say=lines.append)
    return output, lines, pages


def test_published_files(exported):
    output, lines, pages = exported
    names = [f"translator_{kind}" for kind in KINDS]
    files = [f"{name}.{suffix}" for name in names for suffix in ("json", "tflite")]
    assert sorted(os.listdir(output)) == sorted([*files, "model.json", "page", "report.json"])
    report = json.loads((output / "report.json").read_text())
    assert report["passed"] is True and list(report["variants"]) == names
    assert report["page"] == {"passed": True, "reason": None, "path": "page", "variant": "dynamic"}
    ((model, description, variant),) = pages
    assert model == (output / "translator_dynamic.tflite").read_bytes() and variant == "dynamic"
    assert description == json.loads((output / "model.json").read_text())
    for name in names:
        figures = report["variants"][name]
        assert figures["bound"] is None and figures["psnr_bound"] == 1.0
        assert figures["signatures"]["translate"]["psnr"] > 10
        assert list(figures["edits"]["attributes"]) == list(fake_run.ATTRIBUTES)
    psnr = {
        kind: report["variants"][f"translator_{kind}"]["signatures"]["generate"]["psnr"]
        for kind in KINDS
    }
    assert psnr["weight_int8"] > psnr["dynamic"] and psnr["weight_int8"] > psnr["int8"]
    assert [line.split(":")[1].strip() for line in lines[-4:-1]] == names
    assert lines[-1] == summary.table(report)


@pytest.mark.parametrize("kind", KINDS)
def test_signatures_and_sizes(exported, kind):
    output, *_ = exported
    content = (output / f"translator_{kind}.tflite").read_bytes()
    interpreter = Interpreter(model_content=content)
    assert interpreter.get_signature_list() == {
        "encode": {"inputs": ["image"], "outputs": ["features", "latent"]},
        "generate": {"inputs": ["features", "latent", "strengths"], "outputs": ["image"]},
        "translate": {"inputs": ["image", "strengths"], "outputs": ["image"]},
    }
    for name in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(name)
        for details in (runner.get_input_details(), runner.get_output_details()):
            assert all(value["dtype"] == np.float32 for value in details.values())
    float32 = fake_run.shared_export() / "translator_float32.tflite"
    assert 0.2 < len(content) / float32.stat().st_size < 0.55  # much of it is not weights
    stored = sum(map(len, tflite.constants(content)))
    assert 0.25 < stored / sum(map(len, tflite.constants(float32.read_bytes()))) < 0.3
    text = json.loads((output / "model.json").read_text())
    assert description.tflite_description(output / "x.tflite", content) == text
    assert json.loads((output / f"translator_{kind}.json").read_text()) == text


def test_strengths_are_not_rounded(exported):
    """The directions stay float32 except where everything must be int8."""
    output, *_ = exported
    for kind in KINDS:
        model = tflite.read((output / f"translator_{kind}.tflite").read_bytes())
        types_of = {
            tuple(tensor.shape): tensor.type
            for graph in model.subgraphs
            for tensor in graph.tensors
            if np.size(model.buffers[tensor.buffer].data) > 1
        }
        assert types_of[24, 3] == (INT8 if kind == "int8" else FLOAT32), kind
        assert types_of[1024, 24] == INT8  # the generator's dense layer


def test_int8_computes_in_int8(exported):
    """Only inputs and outputs are float32, so int8-only accelerators can run everything else."""
    output, *_ = exported
    model = tflite.read((output / "translator_int8.tflite").read_bytes())
    for graph in model.subgraphs:
        edges = {*graph.inputs, *graph.outputs}
        inner = [t for place, t in enumerate(graph.tensors) if place not in edges]
        assert FLOAT32 not in {tensor.type for tensor in inner}


def test_weights_after_the_flatbuffer_are_moved_into_it(exported):
    """The quantizer stores them there, where not every reader would find them."""
    output, *_ = exported
    for kind in KINDS:
        content = (output / f"translator_{kind}.tflite").read_bytes()
        raw = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        assert not any(buffer.offset > 1 for buffer in raw.buffers)


def test_calibration_strengths():
    strengths = quantization.sample_strengths(400, 3, seed=1)
    np.testing.assert_array_equal(strengths, quantization.sample_strengths(400, 3, seed=1))
    assert not np.array_equal(strengths, quantization.sample_strengths(400, 3, seed=2))
    assert strengths.shape == (400, 3) and strengths.dtype == np.float32
    every, one = strengths[::2], strengths[1::2]
    assert 0.95 < every.max() <= 1 and -1 <= every.min() < -0.95 and (every != 0).all()
    assert ((one != 0).sum(axis=1) == 1).all() and set(np.nonzero(one)[1]) == {0, 1, 2}
    assert 1.9 < one.max() <= 2 and -2 <= one.min() < -1.9


# ---- the page ----------------------------------------------------------------------------------


def variant(passed):
    return {"passed": passed, "reason": None if passed else "it is wrong"}


@pytest.mark.parametrize(
    "passed, chosen",
    [
        (("dynamic", "weight_int8", "float16", "none"), "dynamic"),
        (("weight_int8", "float16", "none", "int8"), "weight_int8"),
        (("float16", "none"), "float16"),
        (("none",), "none"),
    ],
)
def test_the_page_has_the_fastest_variant_that_passed(tmp_path, monkeypatch, passed, chosen):
    written = []
    monkeypatch.setattr(browser, "files", lambda *given: given)
    monkeypatch.setattr(browser, "write", lambda content, folder: written.append((content, folder)))
    built = {name: variant(quantize in passed) for quantize, name in device_files.NAMES.items()}
    for name in built:
        (tmp_path / f"{name}.tflite").write_text(name)
    entry = variants.build_page({"attributes": ["A"]}, built, tmp_path)
    assert entry == {"passed": True, "reason": None, "path": "page", "variant": chosen}
    name = device_files.NAMES[chosen].encode()
    assert written == [((name, {"attributes": ["A"]}, chosen), tmp_path / "page")]


def test_without_a_suitable_variant_there_is_no_page(tmp_path):
    built = {"translator_int8": variant(True)}
    entry = variants.build_page({}, built, tmp_path)
    reason = "no suitable variant has passed; the page takes dynamic, weight_int8, float16, none"
    assert entry == {"passed": False, "reason": reason, "path": None, "variant": None}
    assert os.listdir(tmp_path) == []
    with pytest.raises(UserError, match=f"not published: page: {reason}"):
        stage._refuse_failures({"variants": built, "page": entry}, tmp_path)


# ---- the table ---------------------------------------------------------------------------------


def test_the_table():
    signatures = {
        "translate": {"max_difference": 0.25, "psnr": 41.26},
        "encode": {"max_difference": 0.125, "psnr": None},
        "generate": {"max_difference": 0.0625, "psnr": 40.04},
    }
    attributes = {
        "A": {"kept": 0.9876, "leakage_added": 0.001},
        "B": {"kept": None, "leakage_added": -0.002},
    }
    report = {
        "photos": {"n": 200, "split": "validation"},
        "variants": {
            "saved_model": {
                "passed": True,
                "bytes": 3_000_000,
                "signatures": {"encode": {"max_difference": 1e-6, "psnr": None}},
            },
            "translator_dynamic": {
                "passed": True,
                "bytes": 1_234_567,
                "signatures": signatures,
                "milliseconds": {"translate": 3.0, "encode": 1.04, "generate": 2.0},
                "edits": {"scorer": "judge", "agreement": 0.99456, "attributes": attributes},
            },
            "translator_int8": {"passed": False, "reason": "cannot be converted", "path": None},
        },
    }
    assert summary.table(report).splitlines() == [
        "variant               MB  difference    dB  change kept  leakage added  agree  encode ms"
        "  generate ms  translate ms",
        "saved_model         3.00     1.0e-06     -            -              -      -          -"
        "            -             -  passed",
        "translator_dynamic  1.23     2.5e-01  40.0        98.8%        +0.0010  99.5%        1.0"
        "          2.0           3.0  passed",
        "translator_int8        -           -     -            -              -      -          -"
        "            -             -  FAILED",
        "compared with Keras on 200 validation photos; edits of +1 scored by the judge; "
        "ms on one thread",
    ]
    assert summary.line("translator_int8", report["variants"]["translator_int8"]) == (
        "export: translator_int8: FAILED: cannot be converted"
    )
