"""Both ports of the service, from start to graceful stop.

Puts the model, its queue and both protocols together on one event loop.
"""

import asyncio
import dataclasses
import gc
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import grpc
from aiohttp import web
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from cgan_tf.core.errors import UserError
from cgan_tf.export.serving.batching import Batcher
from cgan_tf.export.serving.engine import Engine
from cgan_tf.export.serving.grpc_service import (
    DamagedMessages,
    ModelService,
    PredictionService,
)
from cgan_tf.export.serving.metrics import Metrics
from cgan_tf.export.serving.model import ServedModel
from cgan_tf.export.serving.reloading import Reloader
from cgan_tf.export.serving.rest import RestService

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_HANDSHAKE_S = 20.0  # how long a connection to the gRPC port may say nothing


@dataclasses.dataclass(frozen=True)
class Options:
    """Limits of the service; the flags of `cgan serve` explain them."""

    host: str
    grpc_port: int
    max_batch_size: int
    batch_timeout_ms: float
    max_queue: int
    max_request_mb: int
    timeout_s: float
    grace_s: float
    cors_origin: str = ""
    versions: Path | None = None  # folder that is polled for new versions
    poll_s: float = 1.0  # seconds between two polls


def listen(option: str, host: str, port: int) -> socket.socket:
    """A listening TCP socket.

    Args:
        option: name of the port's flag, for the error message.
        host: name or address; IPv6 without brackets.
        port: 0 for any free port.

    Raises:
        UserError: the port is taken or forbidden, or the host is not this machine.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        # gaierror has its own numbers.
        known = (error.errno or 0) > 0 and not isinstance(error, socket.gaierror)
        reason = os.strerror(error.errno) if known else str(error.strerror or error)
        raise UserError(
            f"{option}={port}: cannot listen on {host}: {reason}; choose another port (0: any free "
            "one) or --host"
        ) from None


def run(
    model: ServedModel, options: Options, rest_socket: socket.socket, say: Callable[[str], None]
) -> None:
    """Serves until SIGTERM or SIGINT, then finishes the requests in flight.

    A second signal ends the process at once.

    Args:
        model: the served model.
        options: limits.
        rest_socket: already listening.
        say: prints a line for the user.

    Raises:
        UserError: the gRPC port is not available.
    """
    # TensorFlow's objects live until the end. If every pass of the garbage collector visited them,
    # decoding the thousands of lists of one photo in JSON would take six times as long.
    gc.collect()
    gc.freeze()

    async def until_signal() -> None:
        await serve(model, options, rest_socket, say, stop_event())

    asyncio.run(until_signal())


def stop_event() -> asyncio.Event:
    """Set by the first signal; the second one ends the process at once."""
    stop = asyncio.Event()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    return stop


async def serve(
    model: ServedModel,
    options: Options,
    rest_socket: socket.socket,
    say: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    """Serves on the running event loop until `stop` is set; the other arguments are as in `run`."""
    metrics = Metrics()
    batcher = Batcher(
        options.max_batch_size, options.batch_timeout_ms / 1000, options.max_queue, metrics
    )
    engine = Engine(model, batcher, metrics, options.timeout_s, options.max_request_mb * 2**20)
    metrics.version(model.version)
    rest = RestService(engine, options.cors_origin)
    runner = rest.runner(options.grace_s)
    rpc, rpc_port = _rpc_server(options, PredictionService(engine), ModelService(engine))
    await rpc.start()
    await runner.setup()
    await web.SockSite(runner, rest_socket).start()
    host = f"[{options.host}]" if ":" in options.host else options.host
    say(
        f"serving {model.name} version {model.version} at "
        f"http://{host}:{rest_socket.getsockname()[1]} and grpc {host}:{rpc_port} "
        "(for development; TensorFlow Serving is for production, see --help)"
    )
    await _until(stop, engine, options, say)
    rest.ready = False
    batcher.drain()
    # aiohttp would wait as long again for requests that wait for the model.
    end = asyncio.get_running_loop().call_later(options.grace_s, batcher.refuse)
    await asyncio.gather(rpc.stop(options.grace_s), runner.cleanup())
    end.cancel()
    await batcher.close()
    say("stopped")


async def _until(
    stop: asyncio.Event, engine: Engine, options: Options, say: Callable[[str], None]
) -> None:
    """Waits for `stop`, and serves the new versions that appear meanwhile."""
    if options.versions is None:
        await stop.wait()
        return
    reloader = Reloader(engine, options.versions, options.max_batch_size, say)
    polls = asyncio.create_task(reloader.run(options.poll_s))
    await stop.wait()
    polls.cancel()
    reloader.close()


def _rpc_server(
    options: Options, prediction: PredictionService, status: ModelService
) -> tuple[grpc.aio.Server, int]:
    """The gRPC server, not started, and its port."""
    server = grpc.aio.server(
        interceptors=[DamagedMessages()],
        options=[
            ("grpc.so_reuseport", 0),  # a second server would take half of the calls
            ("grpc.max_receive_message_length", options.max_request_mb * 2**20),
            ("grpc.max_send_message_length", -1),
            ("grpc.server_handshake_timeout_ms", int(1000 * _HANDSHAKE_S)),
        ],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(status, server)
    host = f"[{options.host}]" if ":" in options.host else options.host
    listen("--grpc_port", options.host, options.grpc_port).close()  # gRPC would not give the reason
    try:
        return server, server.add_insecure_port(f"{host}:{options.grpc_port}")
    except RuntimeError:
        raise UserError(
            f"--grpc_port={options.grpc_port}: taken by another process; choose another"
        ) from None
