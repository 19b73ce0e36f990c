"""`cgan serve` as a process: it serves, and SIGTERM lets the requests in flight finish."""

import signal
import time

import grpc
import numpy as np
import tensorflow as tf
from service_client import ServerProcess, message, metric, ours
from tensorflow_serving.apis import (
    prediction_service_pb2_grpc,
)


@ours
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
