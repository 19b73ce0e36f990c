"""Several devices or machines as one: the same global batch, the same mathematics.

Each replica holds a copy of every variable and takes its contiguous rows of the global batch and of
what is drawn at random for it. Losses are means over the replica's rows, and `optimizers` takes the
mean of the gradients over the replicas; statistics of the batch go through `batch_mean`. What
replicas assign to a variable must thus be equal on all of them, and it is.

With one replica all helpers here return what they are given. The command calls `start` before
TensorFlow's runtime starts; the training stages build their trainers in `scope`. Between workers
(processes, each with the same command) one is the chief: it alone writes.
"""

import contextlib
import functools
import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cgan_tf.core import replicas
from cgan_tf.core.config import AUTO, Config
from cgan_tf.core.errors import UserError

JOIN_SECONDS = 120  # that the workers wait for each other at the start
LOST_SECONDS = 30  # after which a worker that says nothing more is given up
# What a collective raises when another worker has gone.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
    tf.errors.UnknownError,
)


class Cluster(NamedTuple):
    """What TF_CONFIG says: the machines, and which of them this is."""

    jobs: dict[str, list[str]]
    job: str
    index: int

    @property
    def addresses(self) -> list[str]:
        """host:port of each worker, the chief's first."""
        return self.jobs.get("chief", []) + self.jobs.get("worker", [])

    @property
    def number(self) -> int:
        """Which of `addresses` this process is."""
        return self.index + (len(self.jobs.get("chief", [])) if self.job == "worker" else 0)


def parse_cluster(text: str | None) -> Cluster | None:
    """The cluster that the text of TF_CONFIG describes; None where it describes none.

    Raises:
        UserError: no JSON, a key is missing, or a value makes no sense.
    """
    if not text or not text.strip():
        return None
    example = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'

    def refuse(what: str) -> UserError:
        return UserError(f"TF_CONFIG: {what}; it should look like {example}")

    try:
        content = json.loads(text)
    except ValueError as error:
        raise refuse(f"no JSON ({error})") from None
    if not isinstance(content, dict):
        raise refuse("no JSON object")
    if not content.get("cluster"):
        return None  # what Kubernetes' operators set for a job of one process
    jobs, task = content["cluster"], content.get("task")
    if not isinstance(jobs, dict) or not all(
        isinstance(tasks, list) and all(isinstance(address, str) for address in tasks)
        for tasks in jobs.values()
    ):
        raise refuse("its cluster does not give a list of addresses for each job")
    unknown = sorted(set(jobs) - {"chief", "worker"})
    if unknown:
        raise refuse(f"its cluster has the job {unknown[0]}, only chief and worker are known")
    for address in sum(jobs.values(), []):
        if not re.fullmatch(r"[^\s/]+:\d+", address):
            raise refuse(f"its address {address!r} is not HOST:PORT")
    if not isinstance(task, dict) or "type" not in task or "index" not in task:
        raise refuse("its task has no type or no index")
    job, index = task["type"], task["index"]
    if job not in jobs:
        raise refuse(f"its task's type {job!r} is no job of its cluster")
    try:
        index = int(index)
    except (TypeError, ValueError):
        index = -1
    if not 0 <= index < len(jobs[job]):
        raise refuse(f"its task's index {task['index']!r} is not from 0 to {len(jobs[job]) - 1}")
    if len(jobs.get("chief", [])) > 1:
        raise refuse("its cluster has more than one chief")
    return Cluster(jobs, job, index)


def parse_devices(devices: tuple[str, ...]) -> tuple[str, list[int]]:
    """The kind, CPU or GPU, and the indices of what --devices names.

    Raises:
        UserError: an unknown device, two kinds, or one device twice.
    """
    flag = f"--devices={','.join(devices)}"
    found = [re.fullmatch(r"(CPU|GPU):(\d+)", device.upper()) for device in devices]
    for device, match in zip(devices, found, strict=True):
        if not match:
            raise UserError(f"{flag}: {device} is no device; write GPU:0,GPU:1 or CPU:0")
    kinds = {match[1] for match in found}
    if len(kinds) > 1:
        raise UserError(f"{flag}: name CPUs or GPUs, not both")
    indices = [int(match[2]) for match in found]
    if len(set(indices)) < len(indices):
        raise UserError(f"{flag}: a device is named twice")
    kind = kinds.pop()
    if kind == "CPU" and sorted(indices) != list(range(len(indices))):
        raise UserError(f"{flag}: CPU devices are parts of the processor, count them from CPU:0 on")
    if kind == "GPU":
        there = len(tf.config.list_physical_devices("GPU"))
        if max(indices) >= there:
            has = f"GPU:0 to GPU:{there - 1}" if there else "no GPU that TensorFlow can use"
            raise UserError(f"{flag}: this machine has {has}")
    return kind, indices


def start(devices: tuple[str, ...], cluster: Cluster | None = None) -> tuple[str, ...]:
    """Configures the devices and this process's strategy; called once, before the first tensor.

    Several workers train with MultiWorkerMirroredStrategy, several devices with MirroredStrategy.

    Args:
        devices: the names of --devices, or ("auto",): all GPUs, else the CPU.
        cluster: the workers, if there are several.

    Returns:
        The names of this worker's devices.

    Raises:
        UserError: an unknown device, or a worker that does not connect.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if devices == (AUTO,):
        kind, indices = ("GPU", list(range(len(gpus)))) if gpus else ("CPU", [0])
    else:
        kind, indices = parse_devices(devices)
    workers = len(cluster.addresses) if cluster else 1
    if workers > 1 and kind == "CPU" and len(indices) > 1:
        raise UserError(
            f"--devices={','.join(devices)}: TF_CONFIG names {workers} workers, and a worker "
            "without GPUs is one replica; start more workers instead"
        )
    chosen = [gpus[index] for index in indices] if kind == "GPU" else []
    if chosen != tf.config.get_visible_devices("GPU"):
        tf.config.set_visible_devices(chosen, "GPU")
    if kind == "CPU" and len(indices) > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * len(indices),
        )
    if workers > 1:
        replicas.use(_join(cluster, len(chosen)))
    elif len(indices) > 1:
        # Visible devices count from 0.
        names = [f"{kind}:{index}" for index in range(len(indices))]
        replicas.use(tf.distribute.MirroredStrategy(names))
    else:
        replicas.use(None)
    return tuple(f"{kind}:{index}" for index in indices)


def _join(cluster: Cluster, gpus: int) -> tf.distribute.Strategy:
    """The strategy over all workers, once all are there.

    Raises:
        UserError: one does not come within `JOIN_SECONDS`, or the first one's port is taken.
    """
    rendezvous(cluster, JOIN_SECONDS)
    # The timeouts have no public name.
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
    from tensorflow.python.eager import context

    context.context().configure_coordination_service(
        "standalone",
        f"/job:{'chief' if 'chief' in cluster.jobs else 'worker'}/replica:0/task:0",
        cluster_register_timeout_in_ms=JOIN_SECONDS * 1000,
        heartbeat_timeout_in_ms=LOST_SECONDS * 1000,
        shutdown_barrier_timeout_in_ms=LOST_SECONDS * 1000,
        coordinated_jobs=[
            coordination_config_pb2.CoordinatedJob(name=job, num_tasks=len(tasks))
            for job, tasks in cluster.jobs.items()
        ],
    )
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster.jobs),
        task_type=cluster.job,
        task_id=cluster.index,
        num_accelerators={"GPU": gpus},
        rpc_layer="grpc",
    )
    return tf.distribute.MultiWorkerMirroredStrategy(resolver)


def rendezvous(cluster: Cluster, seconds: float) -> None:
    """Returns when all workers have come to the first one's address.

    By plain sockets, before TensorFlow takes that address over: the first worker's wait in
    TensorFlow has no limit, and lets no other thread of Python run.

    Args:
        cluster: the workers, and which of them this is.
        seconds: how long to wait.

    Raises:
        UserError: one does not come in that time, or the first one's port is taken.
    """
    until = time.monotonic() + seconds
    addresses = cluster.addresses
    host, port = addresses[0].rsplit(":", 1)
    remedy = "start the same command on each, and check TF_CONFIG's addresses"
    if cluster.number > 0:
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                with socket.create_connection((host, int(port)), timeout=5) as connection:
                    connection.sendall(b"%d" % cluster.number)
                    connection.settimeout(max(1.0, until - time.monotonic()))
                    if connection.recv(2) == b"go":
                        return
            time.sleep(0.2)
        raise UserError(
            f"--devices=multi_worker: {addresses[0]} did not answer within {seconds:g} "
            f"seconds, or waits for others; {remedy}"
        )
    come: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(socket.create_server(("", int(port))))
        except OSError as error:
            raise UserError(
                f"TF_CONFIG: cannot listen at {addresses[0]} ({error.strerror}); take another port"
            ) from None
        while missing := [a for n, a in enumerate(addresses) if n > 0 and n not in come]:
            server.settimeout(max(0.01, until - time.monotonic()))
            try:
                connection = stack.enter_context(server.accept()[0])
                connection.settimeout(5)
                come[int(connection.recv(8))] = connection
            except (OSError, ValueError):  # its time is over, or somebody else has called
                if time.monotonic() >= until:
                    raise UserError(
                        f"--devices=multi_worker: {', '.join(missing)} did not come within "
                        f"{seconds:g} seconds; {remedy}"
                    ) from None
        for connection in come.values():
            with contextlib.suppress(OSError):
                connection.sendall(b"go")


def announce(config: Config, before: dict[str, Any]) -> None:
    """Prints what the stages train on, if that is more than one replica or has changed.

    Args:
        config: the resolved options.
        before: the options of the last command in this run folder; empty if there was none.
    """
    total = replicas.strategy().num_replicas_in_sync
    if total > 1:
        over = f" on {replicas.workers()} workers" if replicas.workers() > 1 else ""
        print(f"devices: {total} replicas{over} share each batch ({', '.join(config.devices)})")
    if before and tuple(before["devices"]) != config.devices:
        print(
            "note: this run resumes on other devices; its batches are the same, and its results "
            "equal up to rounding"
        )


# Between the workers, outside of the training step. Each of them must call these alike.


class Done(Exception):
    """On all workers but the chief: the rest of this stage is the chief's."""


def leave_to_chief() -> None:
    """Goes on in the chief alone.

    Raises:
        Done: in all other workers.
    """
    if not replicas.is_chief():
        raise Done


@functools.cache
def _summing(strategy: tf.distribute.Strategy) -> Callable:
    """Per worker a list of tensors, to their sums over the workers."""
    local = strategy.num_replicas_in_sync // replicas.workers()

    def of_replica(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        first = tf.equal(context.replica_id_in_sync_group % local, 0)  # of this worker's replicas
        own = [tf.where(first, tensor, tf.zeros_like(tensor)) for tensor in tensors]
        # One by one: together they would have to be of one dtype.
        return [context.all_reduce(tf.distribute.ReduceOp.SUM, tensor) for tensor in own]

    def run(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        totals = strategy.run(tf.autograph.experimental.do_not_convert(of_replica), (tensors,))
        return [strategy.experimental_local_results(total)[0] for total in totals]

    return tf.function(run, autograph=False)


def _total(values: Sequence[Any]) -> list[np.ndarray]:
    """The sum over the workers of each of `values`, of equal shapes and dtypes on all."""
    totals = _summing(replicas.strategy())([tf.convert_to_tensor(value) for value in values])
    return [total.numpy() for total in totals]


def sync_variables(variables: Sequence[Any]) -> None:
    """Gives all workers the chief's values."""
    if replicas.workers() == 1:
        return
    values = [variable.numpy() for variable in variables]
    if not replicas.is_chief():
        values = [np.zeros_like(value) for value in values]
    for variable, value in zip(variables, _total(values), strict=True):
        variable.assign(value)


def from_chief(text: str) -> str:
    """The chief's text, on all workers."""
    if replicas.workers() == 1:
        return text
    content = np.frombuffer(text.encode() if replicas.is_chief() else b"", np.uint8).astype(np.int32)
    size = int(_total([np.int32(len(content))])[0])
    content = content if replicas.is_chief() else np.zeros(size, np.int32)
    return _total([content])[0].astype(np.uint8).tobytes().decode()


def any_worker(flag: bool) -> bool:
    """Whether the flag is set on any worker."""
    return flag if replicas.workers() == 1 else bool(_total([np.int32(flag)])[0])


def wait_for_all() -> None:
    """Returns when all workers have come here."""
    any_worker(False)


@contextlib.contextmanager
def lost_workers_named() -> Iterator[None]:
    """Turns the errors of an exchange with a worker that has gone into one line.

    Raises:
        UserError: a worker has gone.
    """
    try:
        yield
    except LOST as error:
        # Errors of the same kinds come from elsewhere too; those of an exchange name it.
        if replicas.workers() == 1 or "ollective" not in error.message:
            raise
        raise UserError(
            f"another worker has gone ({type(error).__name__}); see what it said last, and start "
            "all again with the same command: it goes on from the last checkpoint"
        ) from None
