"""Hot reload: which version answers, exactly, while versions come and go."""

import asyncio
import gc
import threading
import time
import weakref

import grpc
import numpy as np
import pytest
import tensorflow as tf
import tiny_versions
from service_client import MODEL, PREDICT, ServerThread, ask, message, metric
from service_graph import Graph, make_signature
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from cgan_tf.core.errors import UserError
from cgan_tf.export.serving import reloading
from cgan_tf.export.serving.engine import Engine
from cgan_tf.export.serving.metrics import Metrics
from cgan_tf.export.serving.model import ServedModel

X = np.float32([[1.5, -2.0]])


# ---- which version is served -------------------------------------------------------------------


class Loaded:
    """In the place of ServedModel; a version whose file says so is damaged."""

    def __init__(self, folder, name, version, max_rows):
        content = (folder / "saved_model.pb").read_text()
        if content == "damaged":
            raise UserError(f"{folder}: damaged")
        if content == "strange":
            raise KeyError("strange")
        self.name, self.version, self.max_rows = name, version, max_rows
        self.graph = Graph()
        self.signatures = {"double": make_signature(self.graph)}


class Folder:
    """A folder of versions, and a reloader of it that has served version 2."""

    def __init__(self, path):
        self.path, self.lines = path, []
        self.write(2)
        self.engine = Engine(Loaded(path / "2", "m", 2, 4), None, Metrics(), 30, 1000)
        self.reloader = reloading.Reloader(self.engine, path, 4, self.lines.append)

    def write(self, version, content=""):
        (self.path / str(version)).mkdir(exist_ok=True)
        (self.path / str(version) / "saved_model.pb").write_text(content)

    def remove(self, version):
        (self.path / str(version) / "saved_model.pb").unlink()
        (self.path / str(version)).rmdir()

    def poll(self, times=2):
        """The served version after some polls."""

        async def polls():
            for _ in range(times):
                await self.reloader.poll()

        asyncio.run(polls())
        return self.engine.model.version


@pytest.fixture
def versions(tmp_path, monkeypatch):
    monkeypatch.setattr(reloading, "ServedModel", Loaded)
    monkeypatch.setattr(gc, "collect", lambda: 0)  # takes half a second
    made = Folder(tmp_path)
    yield made
    made.reloader.close()


def test_a_version_is_loaded_when_it_no_longer_changes(versions):
    versions.write(10, "x")
    assert versions.poll(1) == 2
    versions.write(10, "longer")  # is still being copied
    assert versions.poll(1) == 2
    assert (versions.poll(1), versions.lines) == (10, ["serving m version 10, instead of 2"])
    assert versions.engine.model.graph.runs == [[0.0]]  # warmed up
    assert versions.engine.model.max_rows == 4
    versions.write(9)
    assert (versions.poll(), len(versions.lines)) == (10, 1)
    versions.remove(10)
    assert versions.poll() == 9
    versions.remove(9)
    versions.remove(2)
    assert versions.poll() == 9  # there is no other


def test_an_error_of_any_type_is_said_once_and_forgotten_with_the_folder(versions):
    versions.write(3, "strange")
    assert (versions.poll(4), len(versions.lines)) == (2, 1)
    assert list(versions.engine.others) == [3]
    versions.remove(3)
    assert (versions.poll(1), versions.engine.others) == (2, {})


def test_a_link_to_nowhere_does_not_hide_the_served_version(versions):
    versions.write(1)
    (versions.path / "2" / ".lock").symlink_to("gone")
    assert (versions.poll(4), versions.lines) == (2, [])


def test_what_cannot_be_loaded_is_said_once(versions):
    (versions.path / "3").mkdir()
    versions.write(4, "damaged")
    tail = "; version 2 stays; replace or remove the folder"
    said = [
        f"version 4 is not served: {versions.path / '4'}: damaged{tail}",
        f"version 3 is not served: {versions.path / '3'}: incomplete, without saved_model.pb{tail}",
    ]
    assert (versions.poll(5), versions.lines) == (2, said)
    assert {one: other.state for one, other in versions.engine.others.items()} == {3: 50, 4: 50}
    versions.write(3)
    assert (versions.poll(), sorted(versions.engine.others)) == (3, [4])
    versions.remove(4)
    versions.poll()
    assert (versions.engine.others, versions.lines[2:]) == (
        {},
        ["serving m version 3, instead of 2"],
    )


def test_the_old_version_is_freed_after_its_last_request(versions, monkeypatch):
    collected = []
    monkeypatch.setattr(gc, "collect", lambda: collected.append(1))
    in_flight = versions.engine.model
    versions.write(3)
    assert (versions.poll(4), collected) == (3, [])
    del in_flight
    versions.poll(2)
    assert collected == [1]


# ---- a server ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """The model's folder, with version 1."""
    tiny_versions.write(tmp_path / "model", 1)
    return tmp_path / "model"


@pytest.fixture
def server(folder):
    """A server that looks for new versions; ends without a complaint."""
    started = ServerThread(folder, versions=folder, poll_s=0.02)
    try:
        yield started
    finally:
        started.kill()


def until(condition):
    """Waits; fails after a minute."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("this did not happen within a minute")


def answer(server):
    return ask(server.addresses, "POST", PREDICT, {"instances": [{"x": X[0].tolist()}]})


def states(server):
    """Version, state and error of each version, as HTTP gives them."""
    status, content = ask(server.addresses, "GET", f"/v1/models/{MODEL}")
    assert status == 200
    return [
        (one["version"], one["state"], one["status"]["error_message"])
        for one in content["model_version_status"]
    ]


@pytest.mark.slow
def test_concurrent_requests_are_answered_by_the_old_or_the_new_version(
    server, folder, monkeypatch
):
    """Each gRPC answer names its version, and has exactly that version's values."""
    versions, faults, stop = [], [], threading.Event()
    loaded = []  # what TensorFlow has loaded of each new version

    def load(*arguments):
        model = ServedModel(*arguments)
        loaded.append(weakref.ref(model.signatures["serving_default"].owner))
        return model

    monkeypatch.setattr(reloading, "ServedModel", load)

    def client():
        with grpc.insecure_channel(server.addresses.grpc) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not stop.is_set():
                try:
                    response = stub.Predict(message("", {"x": X}), timeout=60)
                except grpc.RpcError as error:
                    faults.append(error.details())
                    return
                version = response.model_spec.version.value
                versions.append(version)
                if not np.array_equal(tf.make_ndarray(response.outputs["y"]), version * X):
                    faults.append((version, response))

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: 1 in versions)
    for version in (2, 3):
        tiny_versions.write(folder, version)
        until(lambda version=version: version in versions)
    stop.set()
    for thread in threads:
        thread.join()
    assert (faults, set(versions)) == ([], {1, 2, 3})
    assert answer(server) == (200, {"predictions": [(3 * X[0]).tolist()]})
    assert states(server) == [("3", "AVAILABLE", "")]
    assert metric(server.addresses, "serving_model_version") == 3
    until(lambda: loaded[0]() is None)  # version 2 is freed
    assert loaded[1]() is not None
    server.stop(
        "serving translator version 2, instead of 1", "serving translator version 3, instead of 2"
    )


@pytest.mark.slow
def test_an_incomplete_or_damaged_version_is_said_once(server, folder):
    (folder / "4").mkdir()
    until(lambda: len(server.lines) == 2)
    tiny_versions.write(folder.parent / "elsewhere", 3)
    tiny_versions.damage(folder.parent / "elsewhere", 3)
    (folder.parent / "elsewhere" / "3").rename(folder / "3")
    until(lambda: len(server.lines) == 3)
    time.sleep(0.2)  # ten more polls
    incomplete, damaged = server.lines[1:]
    assert incomplete == (
        f"version 4 is not served: {folder / '4'}: incomplete, without saved_model.pb; version 1 "
        "stays; replace or remove the folder"
    )
    assert damaged.startswith(f"version 3 is not served: {folder / '3'}: damaged SavedModel (")
    assert answer(server) == (200, {"predictions": [X[0].tolist()]})
    four, three, one = states(server)
    assert four == ("4", "END", f"{folder / '4'}: incomplete, without saved_model.pb")
    assert three[:2] == ("3", "END") and three[2] in damaged
    assert one == ("1", "AVAILABLE", "")
    with grpc.insecure_channel(server.addresses.grpc) as channel:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name, request.model_spec.version.value = MODEL, 4
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        (found,) = stub.GetModelStatus(request, timeout=60).model_version_status
    assert (found.version, found.status.error_code, found.status.error_message) == (4, 2, four[2])

    tiny_versions.remove(folder, 3)
    (folder / "4").rmdir()
    tiny_versions.write(folder, 4)  # complete now
    until(lambda: len(server.lines) == 4)
    assert answer(server) == (200, {"predictions": [(4 * X[0]).tolist()]})
    until(lambda: states(server) == [("4", "AVAILABLE", "")])
    server.stop(incomplete, damaged, "serving translator version 4, instead of 1")


@pytest.mark.slow
def test_a_removed_version_is_served_until_there_is_another(server, folder):
    tiny_versions.remove(folder, 1)
    time.sleep(0.1)  # five polls
    assert answer(server) == (200, {"predictions": [X[0].tolist()]})
    tiny_versions.write(folder, 3)
    until(lambda: len(server.lines) == 2)
    tiny_versions.write(folder, 2)  # lower: not served as long as there is version 3
    time.sleep(0.1)
    assert answer(server) == (200, {"predictions": [(3 * X[0]).tolist()]})
    tiny_versions.remove(folder, 3)
    until(lambda: len(server.lines) == 3)
    assert answer(server) == (200, {"predictions": [(2 * X[0]).tolist()]})
    server.stop(
        "serving translator version 3, instead of 1", "serving translator version 2, instead of 3"
    )
