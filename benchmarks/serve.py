"""The service under load: correctness, throughput, memory, and a graceful stop.

    python -m benchmarks.serve --run_dir=runs/faces --requests=10000 --clients=32

Writes the run's editor as a SavedModel, serves it with `cgan serve` on 127.0.0.1, and sends
requests of every kind over gRPC and HTTP, some of them invalid. Each answer is compared with the
Keras model's, and the error code of each invalid request with the expected one. First a single
client sends one request at a time, then all clients send at once, while the server's memory is
monitored. At the end, SIGTERM arrives while requests are in flight. Exit code 1 if an answer is
wrong or missing, if memory grows (the last quarter's median is more than 2 % above the second's),
or if all clients together achieve less than three times the throughput of one. The clients run in
their own processes; on few cores their cost, the same in both cases, hides some of the gain from
batching.
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
import tempfile
import threading
import time
from pathlib import Path

from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json

MIN_SPEEDUP = 3.0  # throughput of all clients / of one request at a time
MAX_GROWTH = 1.02  # memory in the last quarter / in the second
POOL = 32  # different photos
FLOATS = 1e-4  # maximum difference from Keras, images in [-1, 1]
LEVELS = 1  # maximum difference in a PNG, of 255, due to rounding
ROOT = Path(__file__).parents[1]
PREDICT = "/tensorflow.serving.PredictionService/Predict"

FLAGS = flags.FLAGS
flags.DEFINE_string("run_dir", None, "Run folder whose stages up to directions are finished.")
flags.DEFINE_integer("requests", 10000, "Total number of requests of all clients.", lower_bound=1)
flags.DEFINE_integer("single", 500, "Number of requests of the single client.", lower_bound=1)
flags.DEFINE_integer("clients", 32, "Number of concurrent clients.", lower_bound=1)
flags.DEFINE_integer("processes", 4, "Processes that run the clients.", lower_bound=1)
flags.DEFINE_float("broken", 0.05, "Fraction of invalid requests.", lower_bound=0, upper_bound=1)
flags.DEFINE_list("kinds", None, "Kinds of requests, such as grpc_translate; default: all.")
flags.DEFINE_integer("seed", 1, "Seed of the photos, strengths and order of requests.")
flags.DEFINE_string("output", "runs/serve.json", "JSON file of the figures.")


@dataclasses.dataclass(frozen=True)
class Case:
    """An encoded request, and the expected answer."""

    kind: str  # such as grpc_translate
    payload: bytes
    expected: object  # an array, or an error code


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
    """None if the answer equals Keras's, else the difference in words."""
    import numpy as np
    import orjson
    import tensorflow as tf
    from PIL import Image
    from tensorflow_serving.apis import predict_pb2

    if case.kind.startswith("grpc"):
        (proto,) = predict_pb2.PredictResponse.FromString(answer).outputs.values()
        values = tf.make_ndarray(proto)
    else:
        values = orjson.loads(answer)["predictions"]
    if case.kind.endswith("bytes"):
        files = [v if isinstance(v, bytes) else base64.b64decode(v["b64"]) for v in values]
        values = [np.asarray(Image.open(io.BytesIO(content))) for content in files]
    bound = LEVELS if case.kind.endswith("bytes") else FLOATS
    values = np.asarray(values, np.float64)
    if values.shape != case.expected.shape:
        return f"shape {values.shape}"
    worst = np.abs(values - case.expected).max()
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


# ---- the server --------------------------------------------------------------------------------


class Server:
    """`cgan serve` on free ports.

    Args:
        model: folder of the SavedModel's versions.

    Raises:
        UserError: the server does not start.
    """

    def __init__(self, model: Path) -> None:
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


# ---- the experiment ----------------------------------------------------------------------------


def shuffled(cases: list[Case], count: int, draw: random.Random) -> list[int]:
    """`count` shuffled case numbers, with the requested fraction of invalid ones."""
    bad = [n for n, case in enumerate(cases) if isinstance(case.expected, str)]
    good = [n for n, case in enumerate(cases) if not isinstance(case.expected, str)]
    broken = round(count * FLAGS.broken)
    numbers = [good[n % len(good)] for n in range(count - broken)]
    numbers += [bad[n % len(bad)] for n in range(broken)]
    draw.shuffle(numbers)
    return numbers


def send(processes: ClientProcesses, numbers: list[int], clients: int, server: Server) -> dict:
    """The figures for this number of clients sending these cases."""
    memory, start = [], time.perf_counter()
    processes.start([numbers[client::clients] for client in range(clients)])
    while processes.busy():
        memory.append(server.memory())
        time.sleep(0.5)
    results = processes.results()
    # Includes the wait for the last answer.
    seconds = time.perf_counter() - start
    return summary(results, seconds) | {"clients": clients, "memory_mib": memory}


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


def prepare(parent: Path) -> tuple[list[Case], list[Case]]:
    """Writes the SavedModel to `parent`/1; returns the cases, and large ones for the end."""
    quiet.import_tensorflow()
    import tensorflow as tf

    from cgan_tf.editing.network import EditingNetwork
    from cgan_tf.export import saved_model

    network = EditingNetwork.from_run(FLAGS.run_dir, scores=True)
    saved_model.write(network, parent / "1")
    signatures = tf.saved_model.load(str(parent / "1")).signatures
    cases = valid_cases(network, signatures, 1, POOL, FLAGS.seed)
    cases += invalid_cases(network, signatures)
    large = valid_cases(network, signatures, 16, 4, FLAGS.seed + 1)
    if FLAGS.kinds:
        known = {case.kind for case in cases}
        if not set(FLAGS.kinds) <= known:
            given, choice = ",".join(FLAGS.kinds), ", ".join(sorted(known))
            raise UserError(f"--kinds={given}: choose from {choice}")
        cases = [case for case in cases if case.kind in FLAGS.kinds]
        large = [case for case in large if case.kind in FLAGS.kinds]
    return cases, large


def measure(parent: Path) -> dict:
    """The complete experiment, in a temporary folder."""
    cases, large = prepare(parent)
    draw = random.Random(FLAGS.seed)
    server = Server(parent)
    try:
        processes = ClientProcesses(
            min(FLAGS.processes, FLAGS.clients), cases + large, server.rest_port, server.grpc_port
        )
        warm = send(processes, shuffled(cases, 20 * FLAGS.clients, draw), FLAGS.clients, server)
        one = send(processes, shuffled(cases, FLAGS.single, draw), 1, server)
        many = send(processes, shuffled(cases, FLAGS.requests, draw), FLAGS.clients, server)
        numbers = [len(cases) + n % len(large) for n in range(FLAGS.clients)]
        end = stop_under_load(server, processes, numbers)
        processes.close()
    finally:
        server.process.kill()
    return {
        "warm_up_faults": warm["first_faults"],
        "one": one,
        "many": many,
        "ratio": many["per_second"] / one["per_second"],
        "memory_growth": growth(many["memory_mib"]),
        "stop": end,
    }


def print_table(figures: dict) -> None:
    print(f"{'clients':>7}{'requests':>10}{'wrong':>7}{'per s':>8}   latency, ms: median, p95")
    for row in (figures["one"], figures["many"]):
        kinds = "  ".join(
            f"{kind} {one['median_ms']:.1f}, {one['p95_ms']:.1f}"
            for kind, one in row["kinds"].items()
        )
        print(
            f"{row['clients']:7}{row['n']:10,}{row['faults']:7}{row['per_second']:8.1f}   {kinds}"
        )
    memory, end = figures["many"]["memory_mib"], figures["stop"]
    print(
        f"throughput of all clients / of one at a time: {figures['ratio']:.2f} "
        f"(at least {MIN_SPEEDUP:g})"
    )
    print(
        f"memory: {memory[0]:.0f} to {memory[-1]:.0f} MiB, last quarter / second "
        f"{figures['memory_growth']:.3f} (at most {MAX_GROWTH:g})"
    )
    print(
        f"SIGTERM with requests in flight: {end['answered']} of {end['sent']} answered, "
        f"exit code {end['exit_code']}"
    )
    for fault in [
        *figures["one"]["first_faults"],
        *figures["many"]["first_faults"],
        *end["first_faults"],
    ]:
        print(f"wrong: {fault}")


def main() -> None:
    cli.require("run_dir")
    with tempfile.TemporaryDirectory(prefix="serve-") as parent:
        figures = measure(Path(parent))
    print_table(figures)
    write_json(Path(FLAGS.output), figures)
    print(f"written: {FLAGS.output}")
    end = figures["stop"]
    good = (
        not figures["warm_up_faults"]
        and not figures["one"]["faults"]
        and not figures["many"]["faults"]
        and end["all_in_flight"]
        and (end["answered"], end["exit_code"]) == (end["sent"], 0)
    )
    within = figures["ratio"] >= MIN_SPEEDUP and figures["memory_growth"] <= MAX_GROWTH
    if not (good and within):
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
