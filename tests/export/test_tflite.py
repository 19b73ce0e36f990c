"""The exported TFLite files, and the inspection that finds unusable ones."""

import fake_run
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from cgan_tf.editing.network import EditingNetwork
from cgan_tf.export import tflite


@pytest.fixture(scope="module")
def exported():
    return fake_run.shared_export()


@pytest.fixture(scope="module")
def network():
    return EditingNetwork.from_run(fake_run.shared_run().path, scores=True)


def test_the_interface_without_signatures_is_encode(exported):
    """As GUIDE.md says."""
    interpreter = Interpreter(str(exported / "translator_float32.tflite"))
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    image = np.random.default_rng(0).uniform(-1, 1, given["shape"]).astype(np.float32)
    interpreter.set_tensor(given["index"], image)
    interpreter.invoke()
    results = [
        interpreter.get_tensor(one["index"]).copy() for one in interpreter.get_output_details()
    ]
    code = interpreter.get_signature_runner("encode")(image=image)
    for result, name in zip(sorted(results, key=np.size), ("latent", "features"), strict=True):
        np.testing.assert_allclose(result, code[name], atol=1e-5)


def test_equal_scales_are_written_once():
    """Per channel a float32 scale and an int64 zero point; here three tensors of 1,000 channels."""

    def quantized(scale):
        tensor = schema.TensorT()
        tensor.name, tensor.quantization = "kernel", schema.QuantizationParametersT()
        tensor.quantization.scale = np.full(1000, scale, np.float32)
        tensor.quantization.zeroPoint = np.zeros(1000, np.int64)
        return tensor

    def packed(*scales):
        model, graph = schema.ModelT(), schema.SubGraphT()
        graph.tensors = [*map(quantized, scales), schema.TensorT()]
        model.subgraphs, model.buffers = [graph], []
        return tflite.pack(model)

    small, large = packed(0.5, 0.25, 0.5), packed(0.5, 0.25, 0.125)
    assert len(large) - len(small) == pytest.approx(12_000, abs=100)
    tensors = tflite.read(small).subgraphs[0].tensors
    for tensor, scale in zip(tensors, (0.5, 0.25, 0.5), strict=False):
        np.testing.assert_array_equal(tensor.quantization.scale, np.full(1000, scale, np.float32))
        np.testing.assert_array_equal(tensor.quantization.zeroPoint, np.zeros(1000, np.int64))
    assert tensors[3].quantization is None


@pytest.mark.parametrize("name, itemsize", [("translator_float32", 4), ("translator_float16", 2)])
def test_signatures_operators_and_weights(exported, network, name, itemsize):
    content = (exported / f"{name}.tflite").read_bytes()
    interpreter = Interpreter(model_content=content)
    assert interpreter.get_signature_list() == {
        "encode": {"inputs": ["image"], "outputs": ["features", "latent"]},
        "generate": {"inputs": ["features", "latent", "strengths"], "outputs": ["image"]},
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
        "DIV",
        "FULLY_CONNECTED",
        "LEAKY_RELU",
        "LOGISTIC",
        "MEAN",
        "MUL",
        "PAD",
        "RESHAPE",
        "SPLIT",
        "SQRT",
        "STRIDED_SLICE",
        "SUB",
        "TANH",
    }
    found = set(tflite.operators(content))
    assert found <= known and {"CONV_2D", "DEPTH_TO_SPACE", "TANH"} <= found
    weights = sum(
        int(np.prod(weight.shape))
        for model in (network.generator, network.encoder, network.features)
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
