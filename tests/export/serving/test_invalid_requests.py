"""Invalid requests: each gets TensorFlow Serving's error code and one clear line."""

import base64
import gzip
import http.client
import json
import socket

import grpc
import numpy as np
import pytest
import tensorflow as tf
from service_client import ADDRESSES, LIMIT, MIB, MODEL, PREDICT, ask, message, ours, png
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
    regression_pb2,
)


def bomb():
    """A PNG of a hundred bytes whose header claims 60,000 x 60,000 pixels."""
    content = bytearray(png(np.zeros((4, 4, 3), np.uint8)))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    return bytes(content)


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
    code = {name: inputs[name] for name in ("latent", "features", "strengths")}
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
        "features": (
            message("generate", code | {"features": code["features"][:, :4]}),
            invalid,
            "generate: features must have shape [N, 8, 8, 32], not (3, 4, 8, 32)",
        ),
        "no features": (
            message("generate", {name: code[name] for name in ("latent", "strengths")}),
            invalid,
            "generate: inputs do not match the signature (features, latent, strengths): missing "
            "features",
        ),
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
        "features": np.zeros((1, 8, 8, 32), np.float32),
        "strengths": np.full((1, 3), 3e38, np.float32),
    }
    with_levels = message("translate", {**good, "image": np.full_like(good["image"], 255)})
    return {
        "NaN": (message("translate", {**good, "strengths": nan}), invalid, "NaN or infinite"),
        "infinite": (message("translate", {**good, "strengths": infinite}), invalid, "NaN or inf"),
        "levels": (with_levels, invalid, "pixels must be floats in [-1, 1]"),
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
        "features",
        "no features",
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
@pytest.mark.parametrize("what", ["NaN", "infinite", "levels", "not finite", "no rows", "rows"])
def test_refused_grpc_requests(predict, inputs, what):
    check_refused(predict, *limited_messages(inputs)[what])


@ours
def test_bytes_that_are_no_message(channel):
    """gRPC's answer would be UNKNOWN, with a traceback in the log for each of them."""
    for path in ("PredictionService/Predict", "ModelService/GetModelStatus"):
        call = channel.unary_unary(f"/tensorflow.serving.{path}")
        with pytest.raises(grpc.RpcError) as error:
            call(b"\xff" * 9, timeout=60)
        assert error.value.code() == grpc.StatusCode.INTERNAL
        assert error.value.details() == "the request is damaged: not a message of this call"


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
        (
            "generate",
            {"latent": [[0.0] * 24], "features": [[[[0.0] * 32]]], "strengths": [[0, 0, 0]]},
            "generate: features must have shape [N, 8, 8, 32], not (1, 1, 1, 32)",
        ),
        ("sample", [Z, Z[:3]], "z is ragged"),
        ("sample", [Z, 3], "z is ragged"),
        ("sample", [["0.5"] * 24], "z must be float32, not str"),
        ("sample", [[None, *Z[1:]]], "z must be float32, not NoneType"),
        ("sample", [[True, *Z[1:]]], "z must be float32, not bool"),
        ("flip", [3], 'image_bytes must be a string or {"b64": ...}'),
        ("flip", [{"b64": "%%%"}], "invalid base64"),
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
