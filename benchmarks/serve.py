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

import random
import sys
import tempfile
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
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json

MIN_SPEEDUP = 3.0  # throughput of all clients / of one request at a time
MAX_GROWTH = 1.02  # memory in the last quarter / in the second
POOL = 32  # different photos

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


# ---- the experiment ----------------------------------------------------------------------------


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
        warm = send(
            processes,
            shuffled(cases, 20 * FLAGS.clients, FLAGS.broken, draw),
            FLAGS.clients,
            server,
        )
        one = send(processes, shuffled(cases, FLAGS.single, FLAGS.broken, draw), 1, server)
        many = send(
            processes, shuffled(cases, FLAGS.requests, FLAGS.broken, draw), FLAGS.clients, server
        )
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
