"""`cgan serve` as a process: it serves, and SIGTERM lets the requests in flight finish."""

import contextlib
import signal
import socket
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from service_client import PREDICT, ServerProcess, message, metric, ours
from tensorflow_serving.apis import (
    prediction_service_pb2_grpc,
)


@ours
@pytest.mark.slow
def test_sigterm_finishes_requests_in_flight(model_folder, inputs, expected):
    server = ServerProcess(model_folder, "--grace_s=60")
    try:
        value = expected["translate"][1]["image"]
        given = {name: np.repeat(inputs[name], 5, 0) for name in ("image", "strengths")}
        with grpc.insecure_channel(server.addresses.grpc) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            calls = [stub.Predict.future(message("translate", given)) for _ in range(20)]
            name = 'serving_in_flight_requests{protocol="grpc"}'
            while metric(server.addresses, name) < 20 and not all(call.done() for call in calls):
                time.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            for call in calls:
                np.testing.assert_allclose(
                    tf.make_ndarray(call.result().outputs["image"]),
                    np.repeat(value, 5, 0),
                    atol=1e-4,
                    rtol=0,
                )
        server.check_end()
    finally:
        server.kill()


@ours
@pytest.mark.slow
def test_slow_clients_do_not_keep_the_server_from_stopping(model_folder):
    """A silent connection, headers and a body that never end; SIGTERM ends it with code 0."""
    server = ServerProcess(model_folder, "--grace_s=2", "--timeout_s=600")
    host, port = server.addresses.rest.rsplit(":", 1)

    def connect():
        return socket.create_connection((host, int(port)), timeout=60)

    def send_slowly(connection):
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b" ")
                time.sleep(0.05)

    try:
        with connect(), connect() as headers, connect() as body:
            headers.sendall(b"GET /healthz HTTP/1.1\r\nX-A: ")
            body.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n".encode())
            body.sendall(b"Content-Length: 1000000\r\n\r\n")
            threads = [
                threading.Thread(target=send_slowly, args=[one], daemon=True)
                for one in (headers, body)
            ]
            for thread in threads:
                thread.start()
            # The body, and the request for the metric itself.
            while metric(server.addresses, 'serving_in_flight_requests{protocol="rest"}') < 2:
                time.sleep(0.05)
            server.process.send_signal(signal.SIGTERM)
            refused = (ConnectionRefusedError, ConnectionResetError)
            with pytest.raises(refused):  # new requests, while the body goes on
                while True:
                    connect().close()
            server.check_end()
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive()
    finally:
        server.kill()
