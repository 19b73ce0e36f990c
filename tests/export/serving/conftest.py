"""Fixtures of the service's tests: a model, servers of it, clients, inputs and Keras's outputs."""

import grpc
import numpy as np
import pytest
import served_model
import shared
import tensorflow as tf
from service_client import ADDRESSES, Addresses, ServerProcess, ServerThread
from tensorflow_serving.apis import prediction_service_pb2_grpc

from cgan_tf.editing import description


@pytest.fixture(scope="session")
def network():
    """The Keras model behind the served one."""
    return served_model.network()


@pytest.fixture(scope="session")
def model_folder(request):
    """The folder of the model's versions."""
    return shared.folder(
        "served", lambda path: served_model.write(path, request.getfixturevalue("network"))
    )


@pytest.fixture(scope="module", params=["thread", pytest.param("process", marks=pytest.mark.slow)])
def server(request):
    """A running server's addresses; however the tests treat it, it must end without complaint."""
    if all(ADDRESSES):
        yield Addresses(*ADDRESSES)
        return
    kind = {"thread": ServerThread, "process": ServerProcess}[request.param]
    started = kind(request.getfixturevalue("model_folder"))
    try:
        yield started.addresses
        started.stop()
    finally:
        started.kill()


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.grpc) as opened:
        yield opened


@pytest.fixture(scope="module")
def predict(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    return lambda request: stub.Predict(request, timeout=60)


@pytest.fixture(scope="session")
def inputs():
    """Inputs by name, three rows each."""
    draw = np.random.Generator(np.random.PCG64(5))
    return {
        "image": np.float32(draw.uniform(-1, 1, (3, 32, 32, 3))),
        "strengths": np.float32(draw.uniform(-1, 1, (3, 3))),
        "latent": np.float32(draw.standard_normal((3, 24))),
        "features": np.float32(draw.standard_normal((3, 8, 8, 32))),
        "z": np.float32(draw.standard_normal((3, 24))),
    }


@pytest.fixture(scope="session")
def expected(network, inputs):
    """Keras's outputs by signature: the names of the inputs, and the outputs by name."""
    expected = {}
    names = description.signatures(features=True)
    for signature, function in network.signatures.items():
        taken = names[signature]["inputs"]
        outputs = function(**{name: tf.constant(inputs[name]) for name in taken})
        expected[signature] = taken, {name: value.numpy() for name, value in outputs.items()}
    assert sorted(expected["encode"][1]) == ["features", "latent"]
    return expected | dict.fromkeys(["", "serving_default"], expected["translate"])
