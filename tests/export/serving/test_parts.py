"""The service's parts without a server process: model folder, ports, signatures, time limits."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading

import command_flags
import grpc
import numpy as np
import pytest
import tensorflow as tf
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer
from service_graph import Graph, make_signature

from cgan_tf.commands import serve
from cgan_tf.core.errors import UserError
from cgan_tf.export import serving
from cgan_tf.export.serving import batching, errors, grpc_service, model, rest, server
from cgan_tf.export.serving.engine import Engine
from cgan_tf.export.serving.metrics import Metrics

# ---- the model folder --------------------------------------------------------------------------


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_highest_version_is_served(tmp_path):
    touch(*(tmp_path / name / "saved_model.pb" for name in ("2", "10", "notes", "assets.3")))
    assert model.find_version(str(tmp_path)) == (tmp_path / "10", 10)
    assert model.find_version(str(tmp_path / "2")) == (tmp_path / "2", 2)
    assert model.find_version(str(tmp_path / "notes")) == (tmp_path / "notes", 1)


@pytest.mark.parametrize(
    "files, words",
    [
        (["1/variables/x", "0/saved_model.pb"], "its highest version 1 contains no saved_model.pb"),
        (["config.json"], "neither saved_model.pb nor version folders such as 1/saved_model.pb"),
        (["saved_model/1/saved_model.pb"], "did you mean "),
        ([], "give the saved_model folder that cgan export wrote"),
    ],
)
def test_a_folder_without_a_model(tmp_path, files, words):
    touch(*(tmp_path / name for name in files))
    with pytest.raises(UserError) as error:
        run_command(f"--model={tmp_path}")
    assert str(error.value).startswith(f"--model={tmp_path}: ") and words in str(error.value)


def test_a_damaged_model(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="damaged SavedModel, or not one for serving"):
        run_command(f"--model={tmp_path}")


# ---- the command -------------------------------------------------------------------------------


def run_command(*flags):
    return command_flags.run(
        serve.define_flags, serve.main, ["--rest_port=0", "--grpc_port=0", *flags]
    )


def test_no_such_folder(tmp_path):
    with pytest.raises(UserError, match=r"^--model=/no/such: no such folder; give "):
        run_command("--model=/no/such")
    with pytest.raises(UserError, match="^--model: not given"):
        run_command()
    touch(tmp_path / "1" / "saved_model.pb")
    with pytest.raises(UserError, match="^--model_name=a/b: "):
        run_command(f"--model={tmp_path}", "--model_name=a/b")


def test_without_the_extra_for_serving(tmp_path, monkeypatch):
    monkeypatch.delattr(serving, "server")
    monkeypatch.delitem(sys.modules, "cgan_tf.export.serving.server")
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(UserError, match=r"aiohttp is missing; .* \"cgan_tf\[serve\]\"$"):
        run_command(f"--model={tmp_path}")


@pytest.mark.parametrize("flag", ["rest_port", "grpc_port"])
def test_two_servers_on_one_port(tmp_path, flag):
    touch(tmp_path / "1" / "saved_model.pb")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError) as error:
            run_command(f"--model={tmp_path}", f"--{flag}={port}")
    assert str(error.value) == (
        f"--{flag}={port}: cannot listen on 127.0.0.1: Address already in use; choose another port "
        "(0: any free one) or --host"
    )


def test_an_address_of_another_machine(tmp_path):
    touch(tmp_path / "1" / "saved_model.pb")
    with pytest.raises(UserError, match="^--rest_port=0: cannot listen on 192.0.2.1: "):
        run_command(f"--model={tmp_path}", "--host=192.0.2.1")


def test_the_second_signal_ends_at_once(monkeypatch):
    class Ended(Exception):
        pass

    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)

    async def signals():
        stop = server.stop_event()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stop.wait(), 10)
        assert codes == []
        os.kill(os.getpid(), signal.SIGTERM)
        while not codes:
            await asyncio.sleep(0.001)

    asyncio.run(signals())
    assert codes == [128 + signal.SIGTERM]


# ---- signatures and errors -----------------------------------------------------------------------


def test_requests_without_rows_are_not_joined():
    fixed = make_signature(Graph(), size=2)
    assert not fixed.batched and make_signature(Graph()).batched
    assert fixed.check({"x": np.zeros(2, np.float32)}) == 1
    with pytest.raises(errors.RequestError, match=r"x must have shape \[2\], not \(3,\)"):
        fixed.check({"x": np.zeros(3, np.float32)})


def test_a_tensor_that_claims_to_be_large():
    """One value may fill a tensor, but not one of a gigabyte."""
    spec = {name: tf.TensorSpec((None, None), tf.float32, name) for name in "xy"}
    signature = model.Signature("wide", {"x": spec["x"]}, {"y": spec["y"]}, 4, Graph())
    proto = tf.make_tensor_proto([[1.5]])
    proto.tensor_shape.dim[1].size = 250
    given = grpc_service.to_array(signature, "x", proto, max_bytes=1000)
    assert given.tolist() == [[1.5] * 250]
    proto.tensor_shape.dim[1].size = 251
    with pytest.raises(errors.RequestError, match=r"x of shape \(1, 251\) is too large"):
        grpc_service.to_array(signature, "x", proto, max_bytes=1000)


def test_a_long_message_becomes_one_short_line():
    error = errors.invalid("a\n b  c" + "d" * 1000)
    assert str(error).startswith("a b cddd") and str(error).endswith("d...")
    assert len(str(error)) == 300
    assert (error.code, error.http_status) == (grpc.StatusCode.INVALID_ARGUMENT, 400)
    assert errors.from_tensorflow(8, "x").code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert errors.from_tensorflow(8, "x").http_status == 429
    assert errors.from_tensorflow(13, "x").http_status == 500


# ---- time limits over HTTP ---------------------------------------------------------------------


class Model:
    """The part of ServedModel that `rest` needs."""

    name, version = "double", 1

    def __init__(self, graph):
        self._signature = make_signature(graph)

    def check_spec(self, name, version, label):
        assert (name, version, label) == ("double", None, None)

    def signature(self, name, missing):
        return self._signature


def by_http(work, timeout_s):
    """Runs `work(client, graph, service)` with an HTTP client of a service of `Graph`."""

    async def everything():
        graph, metrics = Graph(), Metrics()
        batcher = batching.Batcher(4, 0, 10, metrics)
        service = rest.RestService(Engine(Model(graph), batcher, metrics, timeout_s, 1000))
        async with TestClient(TestServer(service.runner(1).app)) as client:
            await work(client, graph, service)
            graph.free.set()
        await batcher.close()

    asyncio.run(everything())


PREDICT = "/v1/models/double:predict"


def test_a_slow_upload_is_cut_off():
    async def work(client, graph, service):
        async def slow():
            yield b'{"instances": '
            await asyncio.sleep(30)

        response = await client.post(PREDICT, data=slow())
        assert response.status == 408
        assert await response.json() == {"error": "the body did not arrive within 0.05 s"}

    by_http(work, 0.05)


def test_a_slow_model_is_a_504():
    async def work(client, graph, service):
        graph.free.clear()
        response = await client.post(PREDICT, json={"instances": [1]})
        assert response.status == 504
        assert (await response.json())["error"].startswith("no result within 0.05 s; ")

    by_http(work, 0.05)


def test_an_internal_error_is_a_500(caplog):
    async def work(client, graph, service):
        graph.free = None  # breaks the run
        response = await client.post(PREDICT, json={"instances": [1]})
        assert response.status == 500
        assert await response.json() == {"error": "internal error; see the server's log"}
        graph.free = threading.Event()
        graph.free.set()
        assert (await client.post(PREDICT, json={"instances": [1]})).status == 200

    by_http(work, 30)
    assert "AttributeError" in caplog.text


def test_not_ready_while_stopping():
    async def work(client, graph, service):
        service.ready = False
        response = await client.get("/readyz")
        assert (response.status, await response.text()) == (503, "stopping\n")

    by_http(work, 30)


def test_a_request_in_flight_is_answered_by_the_version_that_it_began_with():
    async def work(client, graph, service):
        graph.free.clear()
        first = asyncio.create_task(client.post(PREDICT, json={"instances": [5]}))
        await asyncio.to_thread(graph.begun.wait, 30)
        new = Graph()
        service._engine.model = Model(new)
        second = asyncio.create_task(client.post(PREDICT, json={"instances": [7]}))
        graph.free.set()
        assert await (await first).json() == {"predictions": [10]}
        assert await (await second).json() == {"predictions": [14]}
        assert (graph.runs, new.runs) == ([[5]], [[7]])

    by_http(work, 30)


# ---- slow clients over HTTP --------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: "], ids=["nothing", "endless headers"]
)
def test_a_connection_without_a_complete_request_is_closed(monkeypatch, sent):
    monkeypatch.setattr(rest, "_IDLE_S", 0.05)

    async def everything():
        service = rest.RestService(Engine(Model(Graph()), None, Metrics(), 30, 1000))
        runner = service.runner(1)
        await runner.setup()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            await web.SockSite(runner, listening).start()
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(sent)
            assert await asyncio.wait_for(reader.read(), 30) == b""
            writer.close()
            await runner.cleanup()

    asyncio.run(everything())


def test_a_client_that_does_not_read_its_answer_loses_its_connection():
    """It would otherwise keep the answer in memory, and the server from stopping."""
    large = 30 * 2**20  # bytes of the answer; the system's buffers take less

    async def everything():
        service = rest.RestService(Engine(Model(Graph()), None, Metrics(), 0.05, 1000))
        service._engine.metrics.text = lambda: bytes(large)
        async with TestServer(service.runner(1).app) as server:
            with socket.create_connection((server.host, server.port), timeout=30) as client:
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(client, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                await asyncio.sleep(0.2)
                received = 0
                with contextlib.suppress(ConnectionResetError):
                    while part := await loop.sock_recv(client, 2**20):
                        received += len(part)
                assert received < large

    asyncio.run(everything())


# ---- the end -----------------------------------------------------------------------------------


def test_requests_that_wait_for_the_model_are_refused_when_the_grace_period_ends():
    async def everything():
        graph, stop, said = Graph(), asyncio.Event(), []
        graph.free.clear()
        options = server.Options(
            host="127.0.0.1",
            grpc_port=0,
            max_batch_size=1,
            batch_timeout_ms=0,
            max_queue=10,
            max_request_mb=1,
            timeout_s=30,
            grace_s=0.2,
        )
        with server.listen("--rest_port", "127.0.0.1", 0) as listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}{PREDICT}"
            serving = asyncio.create_task(
                server.serve(Model(graph), options, listening, said.append, stop)
            )
            async with ClientSession() as client:
                first = asyncio.create_task(client.post(url, json={"instances": [1]}))
                await asyncio.to_thread(graph.begun.wait, 30)
                second = asyncio.create_task(client.post(url, json={"instances": [2]}))
                while (
                    "serving_queue_requests 1.0"
                    not in await (await client.get(url.replace(PREDICT, "/metrics"))).text()
                ):
                    pass
                stop.set()
                response = await second  # while the model still runs
                assert response.status == 503
                assert await response.json() == {"error": "the server is stopping; try again later"}
                graph.free.set()
                await asyncio.wait([first])
                await serving
        assert (graph.runs, said[1:]) == ([[1.0]], ["stopped"])

    asyncio.run(everything())
