"""The service from a client's point of view: TensorFlow Serving's interface over gRPC and HTTP.

The same tests run against TensorFlow Serving itself if it serves the model that
`python tests/helpers/served_model.py DIR` writes, under the name `translator`, and CGAN_SERVE_REST
and CGAN_SERVE_GRPC are its addresses, host:port.
"""

import base64
import concurrent.futures
import gzip
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import ovmsclient
import pytest
import served_model
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from cgan_tf.data import images

ROOT = Path(__file__).parents[3]
ADDRESSES = [os.environ.get(f"CGAN_SERVE_{name}") for name in ("REST", "GRPC")]
MODEL = "translator"
PREDICT = f"/v1/models/{MODEL}:predict"
MIB = 2**20
LIMIT = 4 * MIB  # --max_request_mb of the server under test
ours = pytest.mark.skipif(any(ADDRESSES), reason="a limit or an addition of our own server")


class Server(NamedTuple):
    """A server's addresses; its process and the file with its stderr, if it is our own."""

    rest: str
    grpc: str
    process: subprocess.Popen | None = None
    errors: Path | None = None


def start(model, *flags):
    """`cgan serve` on free ports."""
    errors = model / "stderr.txt"
    with errors.open("w") as file:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "cgan_tf",
                "serve",
                f"--model={model}",
                "--rest_port=0",
                "--grpc_port=0",
                f"--max_request_mb={LIMIT // MIB}",
                *flags,
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    line = process.stdout.readline()
    found = re.fullmatch(
        r"serving translator version 1 at http://(127\.0\.0\.1:\d+) and grpc (127\.0\.0\.1:\d+) "
        r"\(for development; TensorFlow Serving is for production, see --help\)\n",
        line,
    )
    if not found:
        process.kill()
        raise AssertionError(line + errors.read_text())
    return Server(*found.groups(), process, errors)


def stopped(server):
    """Exit code, stdout and stderr of a server that is stopping."""
    out, _ = server.process.communicate(timeout=120)
    return server.process.returncode, out, server.errors.read_text()


@pytest.fixture(scope="module")
def translator():
    return served_model.translator()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, translator):
    folder = tmp_path_factory.mktemp("served")
    served_model.write(folder, translator)
    return folder


@pytest.fixture(scope="module")
def server(request):
    if all(ADDRESSES):
        yield Server(*ADDRESSES)
        return
    started = start(request.getfixturevalue("model_folder"))
    try:
        yield started
        started.process.terminate()
        # After all tests: one line at the end, and nothing on stderr.
        assert stopped(started) == (0, "stopped\n", "")
    finally:
        started.process.kill()


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.grpc) as opened:
        yield opened


@pytest.fixture(scope="module")
def predict(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    return lambda request: stub.Predict(request, timeout=60)


@pytest.fixture(scope="module")
def inputs(translator):
    """Inputs by name, three rows each."""
    draw = np.random.Generator(np.random.PCG64(5))
    return {
        "image": np.float32(draw.uniform(-1, 1, (3, 32, 32, 3))),
        "strengths": np.float32(draw.uniform(-1, 1, (3, 3))),
        "latent": np.float32(draw.standard_normal((3, 24))),
        "z": np.float32(draw.standard_normal((3, 24))),
    }


@pytest.fixture(scope="module")
def expected(translator, inputs):
    """Keras's outputs by signature: names of the inputs, name of the output, its value."""
    given = {name: tf.constant(value) for name, value in inputs.items()}
    image, strengths, latent = given["image"], given["strengths"], given["latent"]
    both = translator.translate(image, strengths)
    return {
        "": (["image", "strengths"], "image", both.numpy()),
        "serving_default": (["image", "strengths"], "image", both.numpy()),
        "translate": (["image", "strengths"], "image", both.numpy()),
        "encode": (["image"], "latent", translator.encode(image).numpy()),
        "generate": (
            ["latent", "strengths"],
            "image",
            translator.generate(latent, strengths).numpy(),
        ),
        "sample": (["z"], "image", translator.sample(given["z"]).numpy()),
        "attributes": (["image"], "scores", translator.score(image).numpy()),
    }


def message(signature, given, name=MODEL, version=None, label=None):
    """A PredictRequest."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for key, value in given.items():
        proto = value if not isinstance(value, np.ndarray) else tf.make_tensor_proto(value)
        request.inputs[key].CopyFrom(proto)
    return request


def ask(server, method, path, body=None, headers=None):
    """Status and JSON (or text) of one HTTP request."""
    connection = http.client.HTTPConnection(server.rest, timeout=60)
    try:
        if isinstance(body, dict | list):
            body = json.dumps(body)
        connection.request(method, path, body, headers or {})  # an iterator is sent in chunks
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.headers.get_content_type() == "application/json":
        return response.status, json.loads(content)
    return response.status, content.decode()


def png(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def bomb():
    """A PNG of a hundred bytes whose header claims 60,000 x 60,000 pixels."""
    content = bytearray(png(np.zeros((4, 4, 3), np.uint8)))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    return bytes(content)


def two_images():
    """Two PNG files of different sizes."""
    draw = np.random.Generator(np.random.PCG64(6))
    return [draw.integers(0, 256, (side, 9, 3), np.uint8) for side in (5, 8)]


# ---- correct answers ---------------------------------------------------------------------------

SIGNATURES = ["", "serving_default", *served_model.SIGNATURES]


@pytest.mark.parametrize("signature", SIGNATURES)
def test_grpc_equals_keras(predict, inputs, expected, signature):
    names, output, value = expected[signature]
    answer = predict(message(signature, {name: inputs[name] for name in names}))
    assert list(answer.outputs) == [output]
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs[output]), value, atol=1e-4, rtol=0)
    spec = answer.model_spec
    assert (spec.name, spec.version.value) == (MODEL, 1)
    assert spec.signature_name == (signature or "serving_default")


@pytest.mark.parametrize("signature", SIGNATURES)
@pytest.mark.parametrize("by_rows", [True, False])
def test_rest_equals_keras(server, inputs, expected, signature, by_rows):
    names, _, value = expected[signature]
    columns = {name: inputs[name].tolist() for name in names}
    if by_rows:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        body = {"instances": rows}
    else:
        body = {"inputs": columns}
    status, answer = ask(server, "POST", PREDICT, {"signature_name": signature, **body})
    assert (status, list(answer)) == (200, ["predictions" if by_rows else "outputs"])
    (given,) = answer.values()
    np.testing.assert_allclose(given, value, atol=1e-4, rtol=0)


def test_the_name_of_a_single_input_may_be_omitted(server, inputs, expected):
    z, value = inputs["z"].tolist(), expected["sample"][2]
    for key, path in (("instances", PREDICT), ("inputs", f"/v1/models/{MODEL}/versions/1:predict")):
        status, answer = ask(server, "POST", path, {"signature_name": "sample", key: z})
        assert status == 200
        np.testing.assert_allclose(next(iter(answer.values())), value, atol=1e-4, rtol=0)


def test_values_in_typed_fields_of_the_protocol_buffer(predict, inputs, expected):
    """As sent by clients without TensorFlow; a single value fills its tensor."""
    image = tf.make_tensor_proto(inputs["image"])
    image.ClearField("tensor_content")
    image.float_val.extend(inputs["image"].ravel())
    strengths = tf.make_tensor_proto(inputs["strengths"])
    strengths.ClearField("tensor_content")
    strengths.float_val.extend([0.5])
    answer = predict(message("translate", {"image": image, "strengths": strengths}))
    same = predict(
        message(
            "translate", {"image": inputs["image"], "strengths": np.full((3, 3), 0.5, np.float32)}
        )
    )
    np.testing.assert_allclose(
        tf.make_ndarray(answer.outputs["image"]), tf.make_ndarray(same.outputs["image"]), atol=1e-5
    )


def test_strings_over_grpc(predict):
    files = two_images()
    given = tf.make_tensor_proto([png(one) for one in files])
    answer = predict(message("flip", {"image_bytes": given}))
    assert tf.make_ndarray(answer.outputs["height"]).tolist() == [5, 8]
    for before, after in zip(
        files, tf.make_ndarray(answer.outputs["image_bytes"]).tolist(), strict=True
    ):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(after))), before[::-1])


@pytest.mark.parametrize("by_rows", [True, False])
def test_strings_over_rest(server, by_rows):
    files = two_images()
    coded = [{"b64": base64.b64encode(png(one)).decode()} for one in files]
    body = {"instances": coded} if by_rows else {"inputs": {"image_bytes": coded}}
    status, answer = ask(server, "POST", PREDICT, {"signature_name": "flip", **body})
    assert status == 200
    if by_rows:
        assert [sorted(row) for row in answer["predictions"]] == [["height", "image_bytes"]] * 2
        rows = answer["predictions"]
        answer = {"outputs": {key: [row[key] for row in rows] for key in rows[0]}}
    outputs = answer["outputs"]
    assert outputs["height"] == [5, 8]
    for before, after in zip(files, outputs["image_bytes"], strict=True):
        assert list(after) == ["b64"]
        flipped = Image.open(io.BytesIO(base64.b64decode(after["b64"])))
        assert np.array_equal(np.asarray(flipped), before[::-1])


def test_images_as_files(server, predict, translator, inputs):
    """The editor's signature for clients that send files instead of numbers."""
    levels = np.stack([images.to_uint8(one) for one in inputs["image"]])
    strengths = inputs["strengths"]
    seen = tf.constant(np.stack([images.to_float(one) for one in levels]))
    edited = translator.translate(seen, tf.constant(strengths)).numpy()
    expected = np.stack([images.to_uint8(one) for one in edited]).astype(int)
    files = [png(one) for one in levels]
    given = {"image_bytes": tf.make_tensor_proto(files), "strengths": strengths}
    by_grpc = predict(message("translate_bytes", given)).outputs["image_bytes"]
    body = {
        "signature_name": "translate_bytes",
        "instances": [
            {"image_bytes": {"b64": base64.b64encode(one).decode()}, "strengths": row.tolist()}
            for one, row in zip(files, strengths, strict=True)
        ],
    }
    status, answer = ask(server, "POST", PREDICT, body)
    assert status == 200
    by_rest = [base64.b64decode(one["b64"]) for one in answer["predictions"]]
    for contents in (tf.make_ndarray(by_grpc).tolist(), by_rest):
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(one))) for one in contents])
        assert np.abs(pixels - expected).max() <= 1  # rounding can differ


def test_output_filter(predict):
    request = message("flip", {"image_bytes": tf.make_tensor_proto([png(two_images()[0])])})
    request.output_filter.append("height")
    assert list(predict(request).outputs) == ["height"]
    request.output_filter.append("width")
    with pytest.raises(grpc.RpcError) as error:
        predict(request)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_model_status(server, channel):
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = MODEL
    (version,) = stub.GetModelStatus(request).model_version_status
    assert (version.version, version.status.error_code) == (1, 0)
    assert version.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    for path in ("", "/versions/1"):
        assert ask(server, "GET", f"/v1/models/{MODEL}{path}") == (
            200,
            {
                "model_version_status": [
                    {
                        "version": "1",
                        "state": "AVAILABLE",
                        "status": {"error_code": "OK", "error_message": ""},
                    }
                ]
            },
        )


def test_model_metadata(server, channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = MODEL
    answer = stub.GetModelMetadata(request)
    assert (answer.model_spec.name, answer.model_spec.version.value) == (MODEL, 1)
    described = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(described)
    names = {"serving_default", "flip", *served_model.SIGNATURES}
    assert names <= set(described.signature_def)
    image = described.signature_def["translate"].inputs["image"]
    assert [dim.size for dim in image.tensor_shape.dim] == [-1, 32, 32, 3]
    assert image.dtype == tf.float32.as_datatype_enum

    status, content = ask(server, "GET", f"/v1/models/{MODEL}/versions/1/metadata")
    assert status == 200
    assert content["model_spec"] == {"name": MODEL, "signature_name": "", "version": "1"}
    by_rest = content["metadata"]["signature_def"]["signature_def"]
    assert set(by_rest) == set(described.signature_def)
    strengths = by_rest["translate"]["inputs"]["strengths"]
    assert strengths["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in strengths["tensor_shape"]["dim"]] == ["-1", "3"]


def test_concurrent_requests(server, predict, inputs, expected):
    """Each request gets its own answer, whatever else is in its batch."""
    names, output, value = expected["translate"]
    bad = message("translate", {"image": inputs["image"]})

    def by_grpc(row):
        given = {name: inputs[name][row : row + 1] for name in names}
        answer = predict(message("translate", given))
        return tf.make_ndarray(answer.outputs[output])[0]

    def by_rest(row):
        instance = {name: inputs[name][row].tolist() for name in names}
        return ask(server, "POST", PREDICT, {"instances": [instance]})[1]["predictions"][0]

    def broken(_):
        with pytest.raises(grpc.RpcError) as error:
            predict(bad)
        return error.value.code()

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        calls = [
            (row, [pool.submit(call, row) for call in (by_grpc, by_rest, broken)])
            for row in [0, 1, 2] * 8
        ]
    for row, (first, second, third) in calls:
        np.testing.assert_allclose(first.result(), value[row], atol=1e-4, rtol=0)
        np.testing.assert_allclose(second.result(), value[row], atol=1e-4, rtol=0)
        assert third.result() == grpc.StatusCode.INVALID_ARGUMENT


# ---- another client ----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["grpc", "http"])
def other_client(request, server):
    if request.param == "grpc":
        return ovmsclient.make_grpc_client(server.grpc)
    return ovmsclient.make_http_client(server.rest)


def test_ovmsclient_predicts(other_client, inputs, expected):
    given = {name: inputs[name] for name in expected["serving_default"][0]}
    answer = other_client.predict(given, MODEL, 1, timeout=60)
    np.testing.assert_allclose(answer, expected["serving_default"][2], atol=1e-4, rtol=0)


def test_ovmsclient_reads_the_status(other_client):
    assert other_client.get_model_status(MODEL, 1) == {
        1: {"state": "AVAILABLE", "error_code": 0, "error_message": ""}
    }


def test_ovmsclient_reads_the_signature(other_client):
    answer = other_client.get_model_metadata(MODEL, 1)
    if "metadata" in answer:  # over HTTP it returns the answer of other servers as it is
        definition = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
        shape = definition["inputs"]["image"]["tensor_shape"]["dim"]
        assert [int(dim["size"]) for dim in shape] == [-1, 32, 32, 3]
    else:
        assert answer["model_version"] == 1
        assert answer["inputs"] == {
            "image": {"shape": [-1, 32, 32, 3], "dtype": "DT_FLOAT"},
            "strengths": {"shape": [-1, 3], "dtype": "DT_FLOAT"},
        }


def test_ovmsclient_understands_the_errors(other_client, inputs):
    given = {name: inputs[name] for name in ("image", "strengths")}
    errors = ovmsclient.tfs_compat.base.errors
    with pytest.raises(errors.ModelNotFoundError, match="nobody"):
        other_client.predict(given, "nobody", 1)
    with pytest.raises(errors.ModelNotFoundError, match="9"):
        other_client.predict(given, MODEL, 9)
    with pytest.raises(errors.InvalidInputError):
        other_client.predict({"image": inputs["image"]}, MODEL, 1)


# ---- bad requests ------------------------------------------------------------------------------


def huge(proto):
    """A tensor that claims to be far larger than its data."""
    proto.tensor_shape.dim[0].size = 10**12
    return proto


def cut(proto):
    proto.tensor_content = proto.tensor_content[:-4]
    return proto


def bad_messages(inputs):
    """Invalid PredictRequests by name, each with its code and words from our server's message."""
    good = {name: inputs[name] for name in ("image", "strengths")}
    image, strengths = good.values()
    invalid, missing = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND

    def proto(value):
        return tf.make_tensor_proto(value)

    def with_(**changed):
        return message("translate", {**good, **changed})

    negative = proto(image)
    negative.tensor_shape.dim[0].size = -1
    return {
        "shape": (with_(image=image[:, 1:]), invalid, "image must have shape [N, 32, 32, 3], not "),
        "rank": (with_(strengths=strengths[0]), invalid, "strengths must have shape [N, 3]"),
        "count": (with_(strengths=strengths[:2]), invalid, "image 3, strengths 2"),
        "type": (with_(image=np.float64(image)), invalid, "image must be float32, not float64"),
        "strings": (with_(image=proto(["a"])), invalid, "image must be float32, not string"),
        "missing": (message("translate", {"image": image}), invalid, "missing strengths"),
        "extra": (with_(photo=image), invalid, "unknown photo"),
        "name": (message("translate", {"a" * 9000: image}), invalid, "missing image, strengths"),
        "claim": (with_(image=huge(proto(image))), invalid, "1000000000000 rows"),
        "negative": (with_(image=negative), invalid, "image must have shape"),
        "cut": (with_(image=cut(proto(image))), invalid, "do not make a tensor"),
        "no model name": (message("", good, name=""), invalid, "no model name"),
        "model": (message("", good, name="nobody"), missing, "'nobody' is not served"),
        "version": (message("", good, version=7), missing, "version 7 is not served"),
        "label": (message("", good, label="stable"), invalid, "label 'stable'"),
        "signature": (
            message("no_such", good),
            grpc.StatusCode.FAILED_PRECONDITION,
            "the model has attr",
        ),
        "no image": (
            message("flip", {"image_bytes": proto([b"no image at all, " * 3])}),
            invalid,
            "flip: ",
        ),
    }


def limited_messages(inputs):
    """Requests that TensorFlow Serving would compute, at length or with NaN as the result."""
    good = {name: inputs[name] for name in ("image", "strengths")}
    nan, infinite = (np.full((3, 3), value, np.float32) for value in (np.nan, np.inf))
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    none = {name: value[:0] for name, value in good.items()}
    many = {name: np.repeat(value, 11, 0) for name, value in good.items()}
    # Overflows float32 in the first product, so the result cannot be finite.
    vast = {
        "latent": np.full((1, 24), 3e38, np.float32),
        "strengths": np.full((1, 3), 3e38, np.float32),
    }
    return {
        "NaN": (message("translate", {**good, "strengths": nan}), invalid, "NaN or infinite"),
        "infinite": (message("translate", {**good, "strengths": infinite}), invalid, "NaN or inf"),
        "not finite": (message("generate", vast), invalid, "generate: "),
        "no rows": (message("translate", none), invalid, "has 0 rows"),
        "rows": (message("translate", many), invalid, "33 rows; a request must have 1 to 32"),
    }


def check_refused(predict, request, code, words):
    with pytest.raises(grpc.RpcError) as error:
        predict(request)
    assert error.value.code() == code, error.value.details()
    details = error.value.details()
    assert "\n" not in details and len(details) <= 1000
    if not any(ADDRESSES):
        assert words in details


@pytest.mark.parametrize(
    "what",
    [
        "shape",
        "rank",
        "count",
        "type",
        "strings",
        "missing",
        "extra",
        "name",
        "claim",
        "negative",
        "cut",
        "no model name",
        "model",
        "version",
        "label",
        "signature",
        "no image",
    ],
)
def test_invalid_grpc_requests(predict, inputs, what):
    check_refused(predict, *bad_messages(inputs)[what])


@ours
@pytest.mark.parametrize("what", ["NaN", "infinite", "not finite", "no rows", "rows"])
def test_refused_grpc_requests(predict, inputs, what):
    check_refused(predict, *limited_messages(inputs)[what])


@ours
def test_calls_that_are_not_served(channel):
    prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    service = model_service_pb2_grpc.ModelServiceStub(channel)
    for call, request in (
        (prediction.Classify, classification_pb2.ClassificationRequest()),
        (prediction.Regress, regression_pb2.RegressionRequest()),
        (prediction.MultiInference, inference_pb2.MultiInferenceRequest()),
        (service.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest()),
    ):
        with pytest.raises(grpc.RpcError) as error:
            call(request, timeout=60)
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert " is not served here; " in error.value.details()


def metadata_request(fields):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = MODEL
    return request


@pytest.mark.parametrize("fields", [[], ["weights"]])
def test_unknown_metadata_fields(channel, fields):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    with pytest.raises(grpc.RpcError) as error:
        stub.GetModelMetadata(metadata_request(fields))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


Z = [0.5] * 24


@pytest.mark.parametrize(
    "method, path, body, status, words",
    [
        ("POST", PREDICT, "", 400, "not JSON"),
        ("POST", PREDICT, '{"instances": [1, 2', 400, "not JSON"),
        ("POST", PREDICT, "[" * 100_000, 400, "not JSON"),
        ("POST", PREDICT, b"\xff\xd8\xff", 400, "not JSON"),
        ("POST", PREDICT, [1], 400, 'either "instances" or "inputs"'),
        ("POST", PREDICT, {}, 400, 'either "instances" or "inputs"'),
        ("POST", PREDICT, {"inputs": Z, "instances": Z}, 400, 'either "instances" or "inputs"'),
        ("POST", PREDICT, {"signature_name": 3, "instances": [Z]}, 400, "must be a string"),
        ("POST", PREDICT, {"signature_name": "no", "instances": [Z]}, 400, "no signature 'no'"),
        ("POST", PREDICT, {"instances": []}, 400, "at least one row"),
        ("POST", PREDICT, {"instances": [Z]}, 400, "name the inputs: image, strengths"),
        ("POST", PREDICT, {"instances": [{"image": 1}]}, 400, "missing strengths"),
        ("POST", PREDICT, {"instances": [{"image": 1}, {"z": 1}]}, 400, "different inputs"),
        ("GET", PREDICT, None, 400, "malformed request"),
        ("POST", f"/v1/models/{MODEL}", {}, 400, "malformed request"),
        ("GET", "/v1/models", None, 400, "malformed request"),
        ("GET", f"/v1/models/{MODEL}/versions/one", None, 400, "malformed request"),
        ("GET", f"/v1/models/{MODEL}/versions/9", None, 404, "version 9 is not served"),
        ("GET", f"/v1/models/{MODEL}/labels/canary", None, 400, "label 'canary'"),
        ("GET", "/v1/models/nobody", None, 404, "'nobody' is not served"),
        ("GET", "/v1/models/nobody/metadata", None, 404, "'nobody' is not served"),
        ("POST", "/v1/models/nobody:predict", {"instances": [Z]}, 404, "'nobody' is not"),
    ],
)
def test_invalid_rest_requests(server, method, path, body, status, words):
    code, content = ask(server, method, path, body)
    assert code == status, content
    if not any(ADDRESSES):
        assert list(content) == ["error"] and words in content["error"]
        assert "\n" not in content["error"] and len(content["error"]) <= 300


@pytest.mark.parametrize(
    "signature, inputs, words",
    [
        ("sample", [[0.5] * 23], "z must have shape [N, 24], not (1, 23)"),
        ("sample", 0.5, "z must have shape [N, 24], not ()"),
        ("sample", [Z, Z[:3]], "z is ragged"),
        ("sample", [Z, 3], "z is ragged"),
        ("sample", [["0.5"] * 24], "z must be float32, not str"),
        ("sample", [[None, *Z[1:]]], "z must be float32, not NoneType"),
        ("sample", [[True, *Z[1:]]], "z must be float32, not bool"),
        ("flip", [3], 'image_bytes must be a string or {"b64": ...}'),
        ("flip", [{"b64": "%%%"}], "bad base64"),
        ("flip", [{"b64": "bm8gaW1hZ2UgYXQgYWxsLCBubyBpbWFnZSBhdCBhbGw="}], "flip: "),
    ],
)
def test_invalid_rest_values(server, signature, inputs, words):
    body = {"signature_name": signature, "inputs": inputs}
    code, content = ask(server, "POST", PREDICT, body)
    assert code == 400, content
    if not any(ADDRESSES):
        assert words in content["error"]


@ours
@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1e39"])
def test_numbers_that_are_not_finite(server, number):
    """TensorFlow Serving accepts them, and answers with NaN in the image."""
    body = f'{{"signature_name": "sample", "inputs": [[{number}{", 0.5" * 23}]]}}'
    code, content = ask(server, "POST", PREDICT, body)
    assert code == 400 and ("NaN" in content["error"] or "JSON" in content["error"])


@pytest.mark.parametrize(
    "content, words",
    [
        (b"no image at all", "no JPEG, PNG, GIF or BMP"),
        (png(np.zeros((40, 40, 3), np.uint8))[:60], ""),
        (bomb(), "million pixels"),
    ],
    ids=["no image", "truncated", "decompression bomb"],
)
def test_invalid_images(server, predict, content, words):
    """Refused by the graph itself, before a decompression bomb takes any memory."""
    strengths = np.zeros((1, 3), np.float32)
    given = {"image_bytes": tf.make_tensor_proto([content]), "strengths": strengths}
    with pytest.raises(grpc.RpcError) as error:
        predict(message("translate_bytes", given))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in error.value.details() and "\n" not in error.value.details()
    instance = {"image_bytes": {"b64": base64.b64encode(content).decode()}, "strengths": [0, 0, 0]}
    body = {"signature_name": "translate_bytes", "instances": [instance]}
    code, answer = ask(server, "POST", PREDICT, body)
    assert code == 400 and words in answer["error"]


@ours
def test_a_body_of_100_mb_is_refused_unread(server):
    connection = http.client.HTTPConnection(server.rest, timeout=60)
    connection.putrequest("POST", PREDICT)
    connection.putheader("Content-Length", str(100 * MIB))
    connection.endheaders()
    response = connection.getresponse()  # before a single byte of the body is sent
    assert (response.status, json.loads(response.read())) == (
        413,
        {"error": "the body is larger than 4 MiB (--max_request_mb)"},
    )
    connection.close()


@ours
def test_a_large_body_without_a_content_length(server):
    chunks = (b" " * MIB for _ in range(LIMIT // MIB + 1))
    code, content = ask(server, "POST", PREDICT, chunks)
    assert code == 413 and "larger than 4 MiB" in content["error"]
    bomb = gzip.compress(b" " * (LIMIT + MIB))
    assert len(bomb) < MIB // 10
    code, content = ask(server, "POST", PREDICT, bomb, {"Content-Encoding": "gzip"})
    assert code == 413 and "larger than 4 MiB" in content["error"]


def test_chunked_and_compressed_bodies(server, inputs, expected):
    body = json.dumps({"signature_name": "sample", "inputs": inputs["z"].tolist()}).encode()
    chunks = (body[start : start + 100] for start in range(0, len(body), 100))
    for content, header in (
        (chunks, {}),
        (gzip.compress(body), {"Content-Encoding": "gzip"}),
    ):
        code, answer = ask(server, "POST", PREDICT, content, header)
        assert code == 200
        np.testing.assert_allclose(answer["outputs"], expected["sample"][2], atol=1e-4, rtol=0)


@ours
def test_a_message_of_100_mb(predict, inputs):
    request = message("translate", {"image": np.zeros((1, 32, 32, 3), np.float32)})
    request.inputs["image"].tensor_content = bytes(100 * MIB)
    with pytest.raises(grpc.RpcError) as error:
        predict(request)
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in error.value.details()


def test_truncated_uploads_and_other_protocols(server):
    """Interrupted connections and other protocols do no harm."""
    host, port = server.rest.rsplit(":", 1)
    for sent in (
        f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{".encode(),
        f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n".encode(),
        b"\x16\x03\x01\x02\x00\x01\x00",  # TLS
        b"POST",
    ):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(sent)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode() + b"zz\r\n")
        assert connection.recv(1000).split()[1] == b"400"
    assert ask(server, "GET", f"/v1/models/{MODEL}")[0] == 200


def test_keep_alive(server):
    connection = http.client.HTTPConnection(server.rest, timeout=60)
    for path, status in (("", 200), ("/versions/9", 404), ("", 200)):
        connection.request("GET", f"/v1/models/{MODEL}{path}")
        response = connection.getresponse()
        response.read()
        assert response.status == status and not response.will_close
    connection.close()


# ---- health, metrics, stop ---------------------------------------------------------------------


@ours
def test_health(server):
    assert ask(server, "GET", "/healthz") == (200, "ok\n")
    assert ask(server, "GET", "/readyz") == (200, "ready\n")
    assert ask(server, "GET", "/nothing") == (404, {"error": "GET /nothing: Not Found"})


def metric(server, name):
    text = ask(server, "GET", "/monitoring/prometheus/metrics")[1]
    found = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[0]) if found else 0.0


@ours
def test_metrics(server, predict, inputs):
    names = {
        'serving_requests_total{code="INVALID_ARGUMENT",method="Predict",protocol="grpc"}': 1,
        'serving_requests_total{code="OK",method="Predict",protocol="grpc"}': 2,
        'serving_request_seconds_count{method="Predict",protocol="grpc"}': 3,
        "serving_batch_rows_count": 2,
        "serving_batch_rows_sum": 6,
        "serving_queue_requests": 0,
    }
    before = {name: metric(server, name) for name in names}
    for _ in range(2):
        predict(message("sample", {"z": inputs["z"]}))
    with pytest.raises(grpc.RpcError):
        predict(message("sample", {}))
    assert {name: metric(server, name) - before[name] for name in names} == names
    assert metric(server, 'serving_in_flight_requests{protocol="rest"}') == 1  # this request


@ours
def test_sigterm_finishes_requests_in_flight(model_folder, inputs, expected):
    server = start(model_folder, "--grace_s=60")
    try:
        value = expected["translate"][2]
        given = {name: np.repeat(inputs[name], 5, 0) for name in ("image", "strengths")}
        with grpc.insecure_channel(server.grpc) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            calls = [stub.Predict.future(message("translate", given)) for _ in range(20)]
            name = 'serving_in_flight_requests{protocol="grpc"}'
            while metric(server, name) < 20 and not all(call.done() for call in calls):
                time.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            for call in calls:
                np.testing.assert_allclose(
                    tf.make_ndarray(call.result().outputs["image"]),
                    np.repeat(value, 5, 0),
                    atol=1e-4,
                    rtol=0,
                )
        assert stopped(server) == (0, "stopped\n", "")
    finally:
        server.process.kill()
