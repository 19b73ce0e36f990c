"""The service from a client's point of view: TensorFlow Serving's answers over gRPC and HTTP."""

import base64
import concurrent.futures
import gzip
import http.client
import io
import json

import grpc
import numpy as np
import ovmsclient
import pytest
import served_model
import tensorflow as tf
from PIL import Image
from service_client import MODEL, PREDICT, ask, message, metric, ours, png
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from cgan_tf.data import images


def two_images():
    """Two PNG files of different sizes."""
    draw = np.random.Generator(np.random.PCG64(6))
    return [draw.integers(0, 256, (side, 9, 3), np.uint8) for side in (5, 8)]


# ---- correct answers ---------------------------------------------------------------------------

SIGNATURES = ["", "serving_default", *served_model.SIGNATURES]


@pytest.mark.parametrize("signature", SIGNATURES)
def test_grpc_equals_keras(predict, inputs, expected, signature):
    names, outputs = expected[signature]
    answer = predict(message(signature, {name: inputs[name] for name in names}))
    assert sorted(answer.outputs) == sorted(outputs)
    for name, value in outputs.items():
        np.testing.assert_allclose(tf.make_ndarray(answer.outputs[name]), value, atol=1e-4, rtol=0)
    spec = answer.model_spec
    assert (spec.name, spec.version.value) == (MODEL, 1)
    assert spec.signature_name == (signature or "serving_default")


@pytest.mark.parametrize("signature", SIGNATURES)
@pytest.mark.parametrize("by_rows", [True, False])
def test_rest_equals_keras(server, inputs, expected, signature, by_rows):
    names, outputs = expected[signature]
    columns = {name: inputs[name].tolist() for name in names}
    if by_rows:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        body = {"instances": rows}
    else:
        body = {"inputs": columns}
    status, answer = ask(server, "POST", PREDICT, {"signature_name": signature, **body})
    assert (status, list(answer)) == (200, ["predictions" if by_rows else "outputs"])
    (given,) = answer.values()
    if len(outputs) == 1:  # its name is omitted
        (name,) = outputs
        given = [{name: row} for row in given] if by_rows else {name: given}
    if by_rows:
        given = {name: [row[name] for row in given] for name in given[0]}
    assert sorted(given) == sorted(outputs)
    for name, value in outputs.items():
        np.testing.assert_allclose(given[name], value, atol=1e-4, rtol=0)


def test_a_code_of_encode_is_what_generate_takes(server, inputs, expected):
    """Encoded once and then generated, a photo is the same as translated."""
    image, steps = inputs["image"].tolist(), inputs["strengths"].tolist()
    status, answer = ask(
        server, "POST", PREDICT, {"signature_name": "encode", "inputs": {"image": image}}
    )
    assert status == 200
    code = answer["outputs"] | {"strengths": steps}
    status, answer = ask(server, "POST", PREDICT, {"signature_name": "generate", "inputs": code})
    assert status == 200
    image = expected["translate"][1]["image"]
    np.testing.assert_allclose(answer["outputs"], image, atol=1e-4, rtol=0)


def test_the_name_of_a_single_input_may_be_omitted(server, inputs, expected):
    z, value = inputs["z"].tolist(), expected["sample"][1]["image"]
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


def test_images_as_files(server, predict, network, inputs):
    """The editor's signature for clients that send files instead of numbers."""
    levels = np.stack([images.to_uint8(one) for one in inputs["image"]])
    strengths = inputs["strengths"]
    decoded = tf.constant(np.stack([images.to_float(one) for one in levels]))
    edited = network.translate(decoded, tf.constant(strengths)).numpy()
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
    names, outputs = expected["translate"]
    ((output, value),) = outputs.items()
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
    np.testing.assert_allclose(answer, expected["serving_default"][1]["image"], atol=1e-4, rtol=0)


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


def test_chunked_and_compressed_bodies(server, inputs, expected):
    body = json.dumps({"signature_name": "sample", "inputs": inputs["z"].tolist()}).encode()
    chunks = (body[start : start + 100] for start in range(0, len(body), 100))
    for content, header in (
        (chunks, {}),
        (gzip.compress(body), {"Content-Encoding": "gzip"}),
    ):
        code, answer = ask(server, "POST", PREDICT, content, header)
        assert code == 200
        np.testing.assert_allclose(
            answer["outputs"], expected["sample"][1]["image"], atol=1e-4, rtol=0
        )


def test_keep_alive(server):
    connection = http.client.HTTPConnection(server.rest, timeout=60)
    for path, status in (("", 200), ("/versions/9", 404), ("", 200)):
        connection.request("GET", f"/v1/models/{MODEL}{path}")
        response = connection.getresponse()
        response.read()
        assert response.status == status and not response.will_close
    connection.close()


# ---- health and metrics ------------------------------------------------------------------------


@ours
def test_health(server):
    assert ask(server, "GET", "/healthz") == (200, "ok\n")
    assert ask(server, "GET", "/readyz") == (200, "ready\n")
    assert ask(server, "GET", "/nothing") == (404, {"error": "GET /nothing: Not Found"})


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
