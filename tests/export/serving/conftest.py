"""Fixtures of the service's tests: a model, servers of it, clients, inputs and Keras's outputs."""

import grpc
import numpy as np
import pytest
import served_model
import shared
import tensorflow as tf
from service_client import ADDRESSES, Addresses, ServerProcess, ServerThread
from tensorflow_serving.apis import prediction_service_pb2_grpc


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
        "z": np.float32(draw.standard_normal((3, 24))),
    }


@pytest.fixture(scope="session")
def expected(network, inputs):
    """Keras's outputs by signature: names of the inputs, name of the output, its value."""
    given = {name: tf.constant(value) for name, value in inputs.items()}
    image, strengths, latent = given["image"], given["strengths"], given["latent"]
    both = network.translate(image, strengths)
    return {
        "": (["image", "strengths"], "image", both.numpy()),
        "serving_default": (["image", "strengths"], "image", both.numpy()),
        "translate": (["image", "strengths"], "image", both.numpy()),
        "encode": (["image"], "latent", network.encode(image).numpy()),
        "generate": (
            ["latent", "strengths"],
            "image",
            network.generate(latent, strengths).numpy(),
        ),
        "sample": (["z"], "image", network.sample(given["z"]).numpy()),
        "attributes": (["image"], "scores", network.score(image).numpy()),
    }
