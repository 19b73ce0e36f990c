"""The service's process, requests, clients and client processes.

For `benchmarks.serve` and `benchmarks.service_faults`.
"""

import base64
import dataclasses
import gc
import http.client
import io
import multiprocessing
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from cgan_tf.core import quiet
from cgan_tf.core.errors import UserError

FLOATS = 1e-4  # maximum difference from Keras, images in [-1, 1]
LEVELS = 1  # maximum difference in a PNG, of 255, due to rounding
ROOT = Path(__file__).parents[1]
PREDICT = "/tensorflow.serving.PredictionService/Predict"


@dataclasses.dataclass(frozen=True)
class Case:
    """An encoded request, and the expected answer."""

    kind: str  # such as grpc_translate
    payload: bytes
    expected: object  # an array, or an error code
    even: object = None  # the array of versions with an even number, if it is another one


# ---- the server --------------------------------------------------------------------------------


class Server:
    """`cgan serve` on free ports.

    Args:
        model: folder of the SavedModel's versions.
        flags: further flags of the command.

    Raises:
        UserError: the server does not start.
    """

    def __init__(self, model: Path, *flags: str) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "cgan_tf",
                "serve",
                f"--model={model}",
                "--rest_port=0",
                "--grpc_port=0",
                "--max_request_mb=64",
                *flags,
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+) and grpc 127\.0\.0\.1:(\d+)", line)
        if not found:
            self.process.kill()
            raise UserError(f"cgan serve did not start: {line!r}")
        self.rest_port, self.grpc_port = map(int, found.groups())

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=60)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return sum(float(v) for v in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    def memory(self) -> float:
        """Resident memory, MiB."""
        return self.metric("process_resident_memory_bytes") / 2**20


# ---- requests ----------------------------------------------------------------------------------


def grpc_payload(signature: str, inputs: dict, version: int | None = None) -> bytes:
    """A PredictRequest."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "translator", signature
    if version is not None:
        request.model_spec.version.value = version
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request.SerializeToString()


def rest_payload(signature: str, inputs: dict) -> bytes:
    """The body of a predict request in row format; bytes as base64."""
    import orjson

    def jsonable(value):
        return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value

    rows = zip(*inputs.values(), strict=True)
    instances = [{k: jsonable(v) for k, v in zip(inputs, row, strict=True)} for row in rows]
    return orjson.dumps(
        {"signature_name": signature, "instances": instances}, option=orjson.OPT_SERIALIZE_NUMPY
    )


def png(image) -> bytes:
    """A PNG of an image `[R, R, 3]` in [-1, 1]."""
    from PIL import Image

    from cgan_tf.data import images

    content = io.BytesIO()
    Image.fromarray(images.to_uint8(image)).save(content, "png")
    return content.getvalue()


def valid_cases(network, signatures, rows: int, count: int, seed: int) -> list[Case]:
    """`count` cases with `rows` rows of each kind that the signatures allow."""
    import numpy as np

    from cgan_tf.data import images
    from cgan_tf.editing.backends import run_on_cpu

    draw = np.random.default_rng(seed)
    cases = []
    for _ in range(count):
        z = np.float32(draw.standard_normal((rows, network.generator.z_dim)))
        image = np.clip(run_on_cpu(network.sample, z=z), -1, 1)
        strengths = np.float32(draw.uniform(-1, 1, (rows, len(network.attributes))))
        expected = run_on_cpu(network.translate, image=image, strengths=strengths)
        inputs = {"image": image, "strengths": strengths}
        cases.append(Case("grpc_translate", grpc_payload("translate", inputs), expected))
        cases.append(Case("rest_translate", rest_payload("translate", inputs), expected))
        if "translate_bytes" not in signatures:
            continue
        files = [png(one) for one in image]
        decoded = np.stack([images.to_float(images.to_uint8(one)) for one in image])
        expected = images.to_uint8(
            run_on_cpu(network.translate, image=decoded, strengths=strengths)
        )
        inputs = {"image_bytes": files, "strengths": strengths}
        cases.append(
            Case("grpc_translate_bytes", grpc_payload("translate_bytes", inputs), expected)
        )
        cases.append(
            Case("rest_translate_bytes", rest_payload("translate_bytes", inputs), expected)
        )
    return cases


def invalid_cases(network, signatures) -> list[Case]:
    """Requests that must be refused without affecting others."""
    import numpy as np

    side, count = network.resolution, len(network.attributes)
    image = np.zeros((1, side, side, 3), np.float32)
    strengths = np.zeros((1, count), np.float32)
    good = {"image": image, "strengths": strengths}
    wrong = [
        {"image": image[:, 1:], "strengths": strengths},
        {"photo": image, "strengths": strengths},
        {"image": image},
        {"image": np.concatenate([image] * 2), "strengths": strengths},
    ]
    cases = [
        Case("grpc_translate", grpc_payload("translate", one), "INVALID_ARGUMENT")
        for one in (
            *wrong,
            {**good, "strengths": strengths * np.nan},
            {**good, "image": np.float64(image)},
        )
    ]
    cases += [Case("rest_translate", rest_payload("translate", one), "400") for one in wrong[:3]]
    body = rest_payload("translate", good)
    cases += [
        Case("grpc_translate", grpc_payload("translate", good, version=99), "NOT_FOUND"),
        Case("grpc_translate", grpc_payload("no_such", good), "FAILED_PRECONDITION"),
        Case("rest_translate", body[: len(body) // 2], "400"),
        Case("rest_translate", body.replace(b"translate", b"no_such"), "400"),
        Case("rest_translate", body.replace(b"0.0", b"1e999", 1), "400"),
    ]
    if "translate_bytes" in signatures:
        inputs = {"image_bytes": [b"no image at all"], "strengths": strengths}
        cases += [
            Case(
                "grpc_translate_bytes", grpc_payload("translate_bytes", inputs), "INVALID_ARGUMENT"
            ),
            Case("rest_translate_bytes", rest_payload("translate_bytes", inputs), "400"),
        ]
    return cases


def shuffled(cases: list[Case], count: int, broken_share: float, draw: random.Random) -> list[int]:
    """`count` shuffled case numbers, of which `broken_share` are invalid."""
    bad = [n for n, case in enumerate(cases) if isinstance(case.expected, str)]
    good = [n for n, case in enumerate(cases) if not isinstance(case.expected, str)]
    broken = round(count * broken_share)
    numbers = [good[n % len(good)] for n in range(count - broken)]
    numbers += [bad[n % len(bad)] for n in range(broken)]
    draw.shuffle(numbers)
    return numbers


# ---- clients -----------------------------------------------------------------------------------


class Client:
    """One user of both protocols, with its own persistent channel and connection."""

    def __init__(self, rest_port: int, grpc_port: int) -> None:
        import grpc

        # Channels with equal options would share one connection.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}", options=options)
        self._predict = self._channel.unary_unary(PREDICT)
        self._connection = http.client.HTTPConnection("127.0.0.1", rest_port, timeout=120)

    def fault(self, case: Case) -> str | None:
        """Sends a case; None if the answer is correct, else the reason."""
        code, answer = self._rest(case) if case.kind.startswith("rest") else self._grpc(case)
        if isinstance(case.expected, str):
            return None if code == case.expected else f"{code} instead of {case.expected}"
        return difference(case, answer) if code in ("OK", "200") else f"{code}: {answer!r:.200}"

    def _grpc(self, case: Case) -> tuple[str, bytes | str]:
        import grpc

        try:
            return "OK", self._predict(case.payload, timeout=120)
        except grpc.RpcError as error:
            return error.code().name, error.details()

    def _rest(self, case: Case) -> tuple[str, bytes]:
        path = "/v1/models/translator:predict"
        self._connection.request("POST", path, case.payload)
        response = self._connection.getresponse()
        return str(response.status), response.read()

    def close(self) -> None:
        self._channel.close()
        self._connection.close()


def difference(case: Case, answer: bytes) -> str | None:
    """None if the answer equals Keras's, of the version that it names, else what differs."""
    import numpy as np
    import orjson
    import tensorflow as tf
    from PIL import Image
    from tensorflow_serving.apis import predict_pb2

    allowed = [case.expected] if case.even is None else [case.expected, case.even]
    if case.kind.startswith("grpc"):
        response = predict_pb2.PredictResponse.FromString(answer)
        (proto,) = response.outputs.values()
        values = tf.make_ndarray(proto)
        if case.even is not None:
            allowed = [case.expected if response.model_spec.version.value % 2 else case.even]
    else:  # an answer over HTTP does not name its version
        values = orjson.loads(answer)["predictions"]
    if case.kind.endswith("bytes"):
        files = [v if isinstance(v, bytes) else base64.b64decode(v["b64"]) for v in values]
        values = [np.asarray(Image.open(io.BytesIO(content))) for content in files]
    bound = LEVELS if case.kind.endswith("bytes") else FLOATS
    values = np.asarray(values, np.float64)
    if values.shape != allowed[0].shape:
        return f"shape {values.shape}"
    worst = min(np.abs(values - one).max() for one in allowed)
    return None if worst <= bound else f"differs by {worst:.3g}"


def client_process(pipe, cases: list[Case], rest_port: int, grpc_port: int) -> None:
    """Runs clients: receives lists of case numbers, one per client, and returns the results."""
    quiet.import_tensorflow()
    gc.freeze()  # as in the server: keeps imported objects out of garbage collection
    clients: list[Client] = []
    pipe.send("ready")
    while (plan := pipe.recv()) is not None:
        while len(clients) < len(plan):
            clients.append(Client(rest_port, grpc_port))
        results: list[tuple[str, float, str | None]] = []

        def work(client, numbers, results=results):
            for number in numbers:
                start = time.perf_counter()
                try:
                    fault = client.fault(cases[number])
                except Exception as error:  # a lost connection is a failure too
                    fault = f"{type(error).__name__}: {error}"
                results.append((cases[number].kind, time.perf_counter() - start, fault))

        threads = [
            threading.Thread(target=work, args=one) for one in zip(clients, plan, strict=False)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pipe.send(results)
    for client in clients:
        client.close()


class ClientProcesses:
    """The processes that run all clients.

    Args:
        count: number of processes.
        cases: all cases that they can send.
        rest_port, grpc_port: ports of the server.
    """

    def __init__(self, count: int, cases: list[Case], rest_port: int, grpc_port: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes, self._pipes = [], []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=client_process, args=(theirs, cases, rest_port, grpc_port), daemon=True
            )
            process.start()
            self._processes.append(process)
            self._pipes.append(ours)
        for pipe in self._pipes:
            pipe.recv()

    def start(self, plan: list[list[int]]) -> None:
        """Starts sending; `plan` has the case numbers of each client."""
        share = len(self._pipes)
        self._busy = [pipe for index, pipe in enumerate(self._pipes) if plan[index::share]]
        for index, pipe in enumerate(self._busy):
            pipe.send(plan[index::share])

    def busy(self) -> bool:
        """Whether any client is still sending."""
        return not all(pipe.poll() for pipe in self._busy)

    def results(self) -> list[tuple[str, float, str | None]]:
        """Kind, seconds and fault of every request; waits until all are done."""
        return [result for pipe in self._busy for result in pipe.recv()]

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join()


# ---- figures ----------------------------------------------------------------------------------


def summary(results: list[tuple[str, float, str | None]], seconds: float) -> dict:
    """Throughput, latencies by kind, and faults."""
    kinds = {}
    for kind in sorted({kind for kind, *_ in results}):
        times = sorted(1000 * taken for one, taken, _ in results if one == kind)
        kinds[kind] = {
            "n": len(times),
            "median_ms": statistics.median(times),
            "p95_ms": times[int(0.95 * (len(times) - 1))],
        }
    faults = [f"{kind}: {fault}" for kind, _, fault in results if fault]
    return {
        "n": len(results),
        "seconds": seconds,
        "per_second": len(results) / seconds,
        "faults": len(faults),
        "first_faults": faults[:5],
        "kinds": kinds,
    }


def stop_under_load(server: Server, processes: ClientProcesses, numbers: list[int]) -> dict:
    """Sends SIGTERM while all clients wait; the number of answers, and the exit code."""
    processes.start([[number] for number in numbers])
    all_waiting = False
    while processes.busy() and not all_waiting:
        # The request for the metric counts too.
        all_waiting = server.metric("serving_in_flight_requests") > len(numbers)
    server.process.send_signal(signal.SIGTERM)
    results = processes.results()
    code = server.process.wait(timeout=120)
    faults = [fault for *_, fault in results if fault]
    return {
        "all_in_flight": all_waiting,
        "sent": len(results),
        "answered": len(results) - len(faults),
        "first_faults": faults[:5],
        "exit_code": code,
    }


def growth(memory: list[float]) -> float:
    """Ratio of the median memory in the last quarter to that in the second quarter."""
    quarter = max(1, len(memory) // 4)
    return statistics.median(memory[-quarter:]) / statistics.median(memory[quarter : 2 * quarter])
