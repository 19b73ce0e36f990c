"""The service under load and faults: right answers, no lost request, flat memory, a clean end.

    python -m benchmarks.service_faults --run_dir=runs/faces --minutes=20

Serves the run's editor with `cgan serve`. All clients send requests of every kind over gRPC and
HTTP, 5 % of them broken, without a pause. Meanwhile

- slow clients open connections and say nothing, or send headers or a body that never end;
- the version in the model's folder is replaced again and again, by a plain copy; odd and even
  versions have different directions, and every second release a damaged one comes before it;
- the server's memory is sampled.

At the end SIGTERM arrives with requests in flight. Each answer is compared with the Keras model of
the version that it names, and the error code of each broken request with the expected one. The exit
code is 1 if anything is wrong or lost, if a version is not taken up or a damaged one is, if the
server does not end with 0, or if memory grows: last quarter's median 5 % above the second's.
"""

import contextlib
import dataclasses
import random
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

from absl import flags

from benchmarks.service_load import (
    Case,
    ClientProcesses,
    Server,
    growth,
    invalid_cases,
    shuffled,
    stop_under_load,
    summary,
    valid_cases,
)
from cgan_tf.core import cli, quiet
from cgan_tf.core.files import write_json

MAX_GROWTH = 1.05  # memory in the last quarter / in the second
POOL = 16  # different photos
ROUND = 20  # requests of a client between two looks at the clock
SLOW = ("nothing", "headers", "body")  # kinds of slow clients

FLAGS = flags.FLAGS
flags.DEFINE_string("run_dir", None, "Run folder whose stages up to directions are finished.")
flags.DEFINE_float("minutes", 20, "Length of the load, minutes.", lower_bound=0.1)
flags.DEFINE_float("release_s", 20, "Seconds between two new versions.", lower_bound=1)
flags.DEFINE_integer("clients", 32, "Number of concurrent clients.", lower_bound=1)
flags.DEFINE_integer("slow", 6, "Number of slow clients.", lower_bound=0)
flags.DEFINE_integer("processes", 2, "Processes that run the clients.", lower_bound=1)
flags.DEFINE_float("broken", 0.05, "Fraction of invalid requests.", lower_bound=0, upper_bound=1)
flags.DEFINE_integer("seed", 1, "Seed of the photos, strengths and order of requests.")
flags.DEFINE_string("output", "runs/service_faults.json", "JSON file of the figures.")


def prepare(parent: Path) -> list[Case]:
    """Writes the SavedModels of odd and even versions to `parent`; returns the cases."""
    quiet.import_tensorflow()
    import tensorflow as tf

    from cgan_tf.editing.network import EditingNetwork
    from cgan_tf.export import saved_model

    network = EditingNetwork.from_run(FLAGS.run_dir, scores=True)
    by_parity = []
    for name in ("odd", "even"):
        saved_model.write(network, parent / name)
        signatures = tf.saved_model.load(str(parent / name)).signatures
        by_parity.append(valid_cases(network, signatures, 1, POOL, FLAGS.seed))
        network.directions.assign(-network.directions)
    return [
        dataclasses.replace(odd, even=even.expected) for odd, even in zip(*by_parity, strict=True)
    ] + invalid_cases(network, signatures)


class SlowClients:
    """Threads that open connections to the HTTP port and never complete a request.

    Attributes:
        ended: connections that the server has ended, by kind.
    """

    def __init__(self, count: int, port: int) -> None:
        self.ended = dict.fromkeys(SLOW, 0)
        self._port = port
        self._stop = threading.Event()
        for number in range(count):
            kind = SLOW[number % len(SLOW)]
            threading.Thread(target=self._work, args=[kind], daemon=True).start()

    def _work(self, kind: str) -> None:
        start = {
            "nothing": b"",
            "headers": b"GET /healthz HTTP/1.1\r\nX-A: ",
            "body": b"POST /v1/models/translator:predict HTTP/1.1\r\nHost: x\r\n"
            b"Content-Length: 1000000\r\n\r\n",
        }[kind]
        while not self._stop.is_set():
            try:
                connection = socket.create_connection(("127.0.0.1", self._port), timeout=0.5)
            except OSError:  # the server is stopping
                time.sleep(1)
                continue
            with contextlib.suppress(OSError), connection:
                connection.sendall(start)
                while not self._stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        if not connection.recv(1000):
                            break
                    if start:
                        connection.sendall(b" ")
            self.ended[kind] += not self._stop.is_set()

    def stop(self) -> None:
        """No new connections; those that are open stay so for a moment."""
        self._stop.set()


class Releases:
    """Replaces the version in the model's folder, from a thread of its own.

    Args:
        parent: contains the SavedModels `odd` and `even`; the versions are in `parent`/model.

    Attributes:
        version: the served one.
        released: number of versions after the first.
        damaged: number of damaged ones among them.
        faults: what went wrong.
    """

    def __init__(self, parent: Path) -> None:
        self.version, self.released, self.damaged = 1, 0, 0
        self.faults: list[str] = []
        self._parent = parent
        self._folder = parent / "model"
        self._folder.mkdir()
        self._copy(1)

    def _copy(self, version: int) -> None:
        """Not at once: the server sees it grow."""
        source = self._parent / ("odd" if version % 2 else "even")
        shutil.copytree(source, self._folder / str(version))

    def run(self, server: Server, every_s: float, stop: threading.Event) -> None:
        """Releases until `stop` is set."""
        while not stop.wait(every_s):
            try:
                self._release(server)
            except OSError as error:  # of the request for the version
                self.faults.append(f"release: {error}")

    def _release(self, server: Server) -> None:
        if self.released % 2:
            damaged = self._folder / str(self.version + 2)
            self._copy(self.version + 2)
            (variables,) = (damaged / "variables").glob("*.data-*")
            with open(variables, "r+b") as file:
                file.truncate(variables.stat().st_size // 2)
            time.sleep(5)  # several polls
            if server.metric("serving_model_version") != self.version:
                self.faults.append(f"the damaged version {self.version + 2} is served")
            shutil.rmtree(damaged)
            self.damaged += 1
        old, self.version = self.version, self.version + 1
        self._copy(self.version)
        end = time.monotonic() + 120
        while server.metric("serving_model_version") != self.version:
            if time.monotonic() > end:
                self.faults.append(f"version {self.version} is not served after two minutes")
                break
            time.sleep(0.5)
        shutil.rmtree(self._folder / str(old))
        self.released += 1


def measure(parent: Path) -> dict:
    """The complete experiment, in a temporary folder."""
    cases, draw = prepare(parent), random.Random(FLAGS.seed)
    releases = Releases(parent)
    server = Server(parent / "model")
    try:
        processes = ClientProcesses(
            min(FLAGS.processes, FLAGS.clients), cases, server.rest_port, server.grpc_port
        )
        slow = SlowClients(FLAGS.slow, server.rest_port)
        stop = threading.Event()
        releasing = threading.Thread(target=releases.run, args=[server, FLAGS.release_s, stop])
        releasing.start()
        memory, results, start = [], [], time.perf_counter()
        try:
            while time.perf_counter() - start < 60 * FLAGS.minutes:
                numbers = shuffled(cases, ROUND * FLAGS.clients, FLAGS.broken, draw)
                processes.start(
                    [numbers[client :: FLAGS.clients] for client in range(FLAGS.clients)]
                )
                while processes.busy():
                    memory.append(server.memory())
                    time.sleep(1)
                results += processes.results()
        finally:
            stop.set()
            releasing.join()
        seconds = time.perf_counter() - start
        valid = [n for n, case in enumerate(cases) if not isinstance(case.expected, str)]
        end = stop_under_load(server, processes, valid[: FLAGS.clients])
        slow.stop()
        processes.close()
    finally:
        server.process.kill()
    return summary(results, seconds) | {
        "clients": FLAGS.clients,
        "broken": FLAGS.broken,
        "slow_clients": FLAGS.slow,
        "slow_ended": slow.ended,
        "versions": releases.released,
        "damaged_versions": releases.damaged,
        "release_faults": releases.faults,
        "memory_mib": memory,
        "memory_growth": growth(memory),
        "stop": end,
    }


def print_table(figures: dict) -> None:
    """The figures, and the first faults."""
    memory, end = figures["memory_mib"], figures["stop"]
    rows = {
        "minutes": f"{figures['seconds'] / 60:.1f}",
        "requests": f"{figures['n']:,}, {figures['per_second']:.0f} per s",
        "wrong or lost": figures["faults"],
        "new versions": f"{figures['versions']}, and {figures['damaged_versions']} damaged ones",
        "slow connections ended": ", ".join(f"{k} {n}" for k, n in figures["slow_ended"].items()),
        "memory, MiB": f"{memory[0]:.0f} at the start, {memory[-1]:.0f} at the end, "
        f"{max(memory):.0f} at most",
        "last quarter / second": f"{figures['memory_growth']:.3f} (at most {MAX_GROWTH:g})",
        "answered after SIGTERM": f"{end['answered']} of {end['sent']}, exit code "
        f"{end['exit_code']}",
    }
    for name, value in rows.items():
        print(f"{name:24}{value}")
    for fault in [*figures["first_faults"], *figures["release_faults"], *end["first_faults"]]:
        print(f"wrong: {fault}")


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    cli.require("run_dir")
    with tempfile.TemporaryDirectory(prefix="service_faults-") as parent:
        figures = measure(Path(parent))
    print_table(figures)
    write_json(Path(FLAGS.output), figures)
    print(f"written: {FLAGS.output}")
    end = figures["stop"]
    good = (
        not figures["faults"]
        and not figures["release_faults"]
        and (end["answered"], end["exit_code"]) == (end["sent"], 0)
        and figures["memory_growth"] <= MAX_GROWTH
    )
    return 0 if good else 1


if __name__ == "__main__":
    cli.run(main)
