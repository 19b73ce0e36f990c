"""Strange requests to the service: each is answered, or refused with a status of the client's."""

import base64
import contextlib
import http.client
import json
import random

import fuzzing
import grpc
import mutation
import numpy as np
import orjson
import pytest
import tensorflow as tf
from hypothesis import strategies
from service_client import PREDICT, ServerThread, message
from tensorflow_serving.apis import predict_pb2

from cgan_tf.export.serving import grpc_service, model, rest_format
from cgan_tf.export.serving.errors import RequestError

SIDE, LIMIT = 4, 2**20


def signatures():
    """Signatures without a graph: of floats, and of bytes."""

    def spec(name, shape, dtype=tf.float32):
        return {name: tf.TensorSpec(shape, dtype, name)}

    image, strengths = spec("image", (None, SIDE, SIDE, 3)), spec("strengths", (None, 2))
    encoded = spec("image_bytes", (None,), tf.string)
    return {
        "": model.Signature("translate", image | strengths, image, 4, None),
        "sample": model.Signature("sample", spec("z", (None, 3)), image, 4, None),
        "bytes": model.Signature("bytes", encoded | strengths, encoded, 4, None),
    }


def find(name):
    found = signatures().get(name)
    if found is None:
        raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "no such signature")
    return found


# Bodies that are almost right: JSON values below the keys of the API.
VALUES = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers(-(2**70), 2**70)
    | strategies.floats()
    | strategies.text(max_size=5)
    | strategies.just({"b64": "aGFsbG8="}),
    lambda inner: (
        strategies.lists(inner, max_size=4)
        | strategies.dictionaries(
            strategies.sampled_from(("image", "strengths", "z", "b64", "image_bytes", "")),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)
BODIES = strategies.dictionaries(
    strategies.sampled_from(("instances", "inputs", "signature_name", "x")), VALUES, max_size=3
)


@fuzzing.budget(0, 200)
def test_a_body_is_decoded_or_refused(count):
    def check(body):
        with contextlib.suppress(RequestError):
            signature, inputs, _ = rest_format.decode(json.dumps(body).encode(), find)
            assert 1 <= signature.check(inputs) <= 4

    fuzzing.run(check, count, body=BODIES)


def good_bodies():
    """Valid bodies of the signatures above."""
    image, strengths = np.zeros((1, SIDE, SIDE, 3)).tolist(), [[0.5, -1]]
    photo = {"b64": base64.b64encode(b"no photo").decode()}
    return (
        {"inputs": {"image": image, "strengths": strengths}},
        {"instances": [{"image": image[0], "strengths": [1, 2]}] * 2, "signature_name": ""},
        {"signature_name": "sample", "instances": [[0.1, 2, 3e-3], [1, 2, 3]]},
        {"signature_name": "bytes", "instances": [{"image_bytes": photo, "strengths": [0, 0]}]},
    )


@fuzzing.budget(12, 150)
def test_a_changed_body_is_decoded_or_refused(count):
    def check(seed):
        draw = random.Random(seed)
        body = mutation.json_text(draw, draw.choice(good_bodies()))
        with contextlib.suppress(RequestError):
            signature, inputs, _ = rest_format.decode(body, find)
            assert 1 <= signature.check(inputs) <= 4

    fuzzing.run(check, count)


@fuzzing.budget(8, 150)
def test_a_changed_message_is_read_or_refused(count):
    image = tf.make_tensor_proto(np.zeros((1, SIDE, SIDE, 3), np.float32))
    strings = tf.make_tensor_proto([b"no photo", b""])

    def check(seed):
        draw = random.Random(seed)
        proto = type(image)()
        name, proto_of = draw.choice((("image", image), ("image_bytes", strings)))
        signature = find("" if name == "image" else "bytes")
        content = mutation.damaged(draw, proto_of.SerializeToString())
        try:
            proto.ParseFromString(content)
        except Exception:  # gRPC answers it
            return
        with contextlib.suppress(RequestError):
            array = grpc_service.to_array(signature, name, proto, LIMIT)
            assert array.nbytes <= LIMIT and array.shape[1:] == tuple(
                signature.inputs[name].shape[1:]
            )

    fuzzing.run(check, count)


# ---- a server ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(slim_forms):
    """A running server's addresses; whatever it is sent, it must end without complaint."""
    started = ServerThread(slim_forms["saved_model"])
    try:
        yield started.addresses
        started.stop()
    finally:
        started.kill()


def served_bodies():
    """Valid bodies for the server."""
    image, strengths = np.zeros((1, 32, 32, 3)).tolist(), [[0.5, -1, 0]]
    return (
        {"inputs": {"image": image, "strengths": strengths}},
        {"signature_name": "sample", "instances": [[0.1] * 24]},
    )


@fuzzing.budget(0, 80)
def test_the_server_answers_any_request_over_http(count, server):
    bodies = served_bodies()

    def check(seed):
        draw = random.Random(seed)
        body = mutation.json_text(draw, draw.choice(bodies))
        path = PREDICT
        if draw.random() < 0.2:
            path = "/" + "".join(draw.choice("/v1models:%.predict?#") for _ in range(12))
        headers = {"Content-Encoding": draw.choice(("gzip", "deflate", "br", "x"))}
        method = draw.choice(("POST", "POST", "POST", "GET", "OPTIONS", "PUT"))
        connection = http.client.HTTPConnection(server.rest, timeout=60)
        try:
            connection.request(method, path, body, headers if draw.random() < 0.1 else {})
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == 200 or 400 <= answer.status < 500, (answer.status, content)
            if answer.status != 200 and answer.headers.get_content_type() == "application/json":
                assert list(orjson.loads(content)) == ["error"]
        finally:
            connection.close()

    fuzzing.run(check, count)


@fuzzing.budget(0, 70)
def test_the_server_answers_any_message_over_grpc(count, server):
    allowed = {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,  # only of gRPC itself, for what is no message; nothing is logged
    }
    image, strengths = np.zeros((1, 32, 32, 3), np.float32), np.zeros((1, 3), np.float32)
    good = [
        message("translate", {"image": image, "strengths": strengths}).SerializeToString(),
        message("sample", {"z": np.zeros((1, 24), np.float32)}).SerializeToString(),
    ]
    with grpc.insecure_channel(server.grpc) as channel:
        send = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=lambda content: content,
            response_deserializer=predict_pb2.PredictResponse.FromString,
        )

        def check(seed):
            draw = random.Random(seed)
            try:
                assert send(mutation.damaged(draw, draw.choice(good)), timeout=60).outputs
            except grpc.RpcError as error:
                assert error.code() in allowed, error

        fuzzing.run(check, count)
