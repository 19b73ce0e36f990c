"""Data parallelism: the devices of --devices, and the workers of TF_CONFIG.

The command calls `start` before TensorFlow's runtime starts. A worker is a process; each is started
with the same command. One of them is the chief, which alone writes. `core.replicas` describes the
replicas and has what a training step needs of them.
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
from cgan_tf.training import devices as device_facts

JOIN_TIMEOUT = 120  # seconds that the workers wait for each other at the start
HEARTBEAT_TIMEOUT = 30  # seconds after which a silent worker is lost
# A collective operation raises one of these when another worker is lost.
LOST_WORKER_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
    tf.errors.UnknownError,
)


class Cluster(NamedTuple):
    """The content of TF_CONFIG: the workers, and which of them this process is."""

    jobs: dict[str, list[str]]
    job: str
    index: int

    @property
    def addresses(self) -> list[str]:
        """HOST:PORT of each worker, the chief's first."""
        return self.jobs.get("chief", []) + self.jobs.get("worker", [])

    @property
    def number(self) -> int:
        """Index of this process in `addresses`."""
        return self.index + (len(self.jobs.get("chief", [])) if self.job == "worker" else 0)


def parse_cluster(text: str | None) -> Cluster | None:
    """The cluster that TF_CONFIG describes; None if it describes none.

    Args:
        text: the environment variable, None if it is not set.

    Raises:
        UserError: it is not JSON, a key is missing, or a value makes no sense.
    """
    if not text or not text.strip():
        return None
    example = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'

    def refuse(what: str) -> UserError:
        return UserError(f"TF_CONFIG: {what}; it should look like {example}")

    try:
        content = json.loads(text)
    except ValueError as error:
        raise refuse(f"not JSON ({error})") from None
    if not isinstance(content, dict):
        raise refuse("not a JSON object")
    if not content.get("cluster"):
        return None  # Kubernetes' operators set this for a job of one process
    jobs, task = content["cluster"], content.get("task")
    if not isinstance(jobs, dict) or not all(
        isinstance(tasks, list) and all(isinstance(address, str) for address in tasks)
        for tasks in jobs.values()
    ):
        raise refuse("its cluster does not give a list of addresses for each job")
    unknown = sorted(set(jobs) - {"chief", "worker"})
    if unknown:
        raise refuse(f"its cluster has the job {unknown[0]}; only chief and worker are supported")
    for address in sum(jobs.values(), []):
        if not re.fullmatch(r"[^\s/]+:\d+", address):
            raise refuse(f"its address {address!r} is not HOST:PORT")
    if not isinstance(task, dict) or "type" not in task or "index" not in task:
        raise refuse("its task has no type or no index")
    job, index = task["type"], task["index"]
    if job not in jobs:
        raise refuse(f"its task's type {job!r} is not a job of its cluster")
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
    """The kind, CPU or GPU, and the indices of the devices of --devices.

    Raises:
        UserError: an unknown device, two kinds, or one device twice.
    """
    flag = f"--devices={','.join(devices)}"
    found = [re.fullmatch(r"(CPU|GPU):(\d+)", device.upper()) for device in devices]
    for device, match in zip(devices, found, strict=True):
        if not match:
            raise UserError(f"{flag}: {device} is not a device; give e.g. GPU:0,GPU:1 or CPU:0")
    kinds = {match[1] for match in found}
    if len(kinds) > 1:
        raise UserError(f"{flag}: give CPUs or GPUs, not both")
    indices = [int(match[2]) for match in found]
    if len(set(indices)) < len(indices):
        raise UserError(f"{flag}: a device is given twice")
    kind = kinds.pop()
    if kind == "CPU" and sorted(indices) != list(range(len(indices))):
        raise UserError(f"{flag}: CPU devices are parts of one processor; count from CPU:0")
    if kind == "GPU":
        count = len(tf.config.list_physical_devices("GPU"))
        if not count:
            raise UserError(f"{flag}: {device_facts.refusal(device_facts.find())}")
        if max(indices) >= count:
            raise UserError(f"{flag}: this machine has GPU:0 to GPU:{count - 1}")
    return kind, indices


def start(
    devices: tuple[str, ...],
    cluster: Cluster | None = None,
    gpu_memory_gib: float | None = None,
) -> tuple[str, ...]:
    """Configures the devices and the strategy of this process; called once, before any tensor.

    Several workers train with MultiWorkerMirroredStrategy, several devices with MirroredStrategy.

    Args:
        devices: the value of --devices; ("auto",) is all GPUs, else the CPU.
        cluster: the workers, if there are several.
        gpu_memory_gib: cap of the memory that is taken of each GPU; None: none.

    Returns:
        The names of this worker's devices.

    Raises:
        UserError: a device is unknown, or a worker does not connect.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if devices == (AUTO,):
        kind, indices = ("GPU", list(range(len(gpus)))) if gpus else ("CPU", [0])
    else:
        kind, indices = parse_devices(devices)
    workers = len(cluster.addresses) if cluster else 1
    if workers > 1 and kind == "CPU" and len(indices) > 1:
        raise UserError(
            f"--devices={','.join(devices)}: TF_CONFIG lists {workers} workers, and a worker "
            "without GPUs is one replica; start more workers instead"
        )
    chosen = [gpus[index] for index in indices] if kind == "GPU" else []
    if chosen != tf.config.get_visible_devices("GPU"):
        tf.config.set_visible_devices(chosen, "GPU")
    if gpu_memory_gib is not None:
        # Within it, memory is taken as it is needed, see `quiet.import_tensorflow`.
        limit = tf.config.LogicalDeviceConfiguration(memory_limit=round(1024 * gpu_memory_gib))
        for gpu in chosen:
            tf.config.set_logical_device_configuration(gpu, [limit])
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
    """Waits for all workers, and returns the strategy over them.

    Raises:
        UserError: a worker does not connect within `JOIN_TIMEOUT`, or the port is in use.
    """
    rendezvous(cluster, JOIN_TIMEOUT)
    # The timeouts have no public interface.
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
    from tensorflow.python.eager import context

    context.context().configure_coordination_service(
        "standalone",
        f"/job:{'chief' if 'chief' in cluster.jobs else 'worker'}/replica:0/task:0",
        cluster_register_timeout_in_ms=JOIN_TIMEOUT * 1000,
        heartbeat_timeout_in_ms=HEARTBEAT_TIMEOUT * 1000,
        shutdown_barrier_timeout_in_ms=HEARTBEAT_TIMEOUT * 1000,
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
    """Returns when all workers have connected to the first worker's address.

    It uses plain sockets, before TensorFlow takes over that address: in TensorFlow, the first
    worker would wait without limit, and no other Python thread would run meanwhile.

    Args:
        cluster: the workers, and which of them this process is.
        seconds: how long to wait.

    Raises:
        UserError: a worker does not connect in time, or the first worker's port is in use.
    """
    deadline = time.monotonic() + seconds
    addresses = cluster.addresses
    host, port = addresses[0].rsplit(":", 1)
    remedy = "start the same command on each, and check TF_CONFIG's addresses"
    if cluster.number > 0:
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                with socket.create_connection((host, int(port)), timeout=5) as connection:
                    connection.sendall(b"%d" % cluster.number)
                    connection.settimeout(max(1.0, deadline - time.monotonic()))
                    if connection.recv(2) == b"go":
                        return
            time.sleep(0.2)
        raise UserError(
            f"TF_CONFIG: {addresses[0]} did not answer within {seconds:g} seconds, or is waiting "
            f"for others; {remedy}"
        )
    connected: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(socket.create_server(("", int(port))))
        except OSError as error:
            raise UserError(
                f"TF_CONFIG: cannot listen at {addresses[0]} ({error.strerror}); use another port"
            ) from None
        while missing := [a for n, a in enumerate(addresses) if n > 0 and n not in connected]:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection = stack.enter_context(server.accept()[0])
                connection.settimeout(5)
                connected[int(connection.recv(8))] = connection
            except (OSError, ValueError):  # a timeout, or another program has connected
                if time.monotonic() >= deadline:
                    raise UserError(
                        f"TF_CONFIG: {', '.join(missing)} did not connect within {seconds:g} "
                        f"seconds; {remedy}"
                    ) from None
        for connection in connected.values():
            with contextlib.suppress(OSError):
                connection.sendall(b"go")


def announce(config: Config, before: dict[str, Any]) -> None:
    """Prints the devices, if there is more than one replica or they have changed.

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
            "are equal up to rounding"
        )


# Communication between the workers, outside of the training step: all of them must call these in
# the same order.


class Done(Exception):
    """On all workers but the chief: the chief completes the stage alone."""


def leave_to_chief() -> None:
    """Only the chief continues.

    Raises:
        Done: on all other workers.
    """
    if not replicas.is_chief():
        raise Done


@functools.cache
def _summing(strategy: tf.distribute.Strategy) -> Callable:
    """A function of a list of tensors per worker that returns their sums over the workers."""
    local = strategy.num_replicas_in_sync // replicas.workers()

    def of_replica(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        first = tf.equal(context.replica_id_in_sync_group % local, 0)  # one replica per worker
        own = [tf.where(first, tensor, tf.zeros_like(tensor)) for tensor in tensors]
        # One by one, since a joint reduction needs equal dtypes.
        return [context.all_reduce(tf.distribute.ReduceOp.SUM, tensor) for tensor in own]

    def run(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        totals = strategy.run(tf.autograph.experimental.do_not_convert(of_replica), (tensors,))
        return [strategy.experimental_local_results(total)[0] for total in totals]

    return tf.function(run, autograph=False)


def _total(values: Sequence[Any]) -> list[np.ndarray]:
    """The sum of each value over the workers; shapes and dtypes are equal on all of them."""
    totals = _summing(replicas.strategy())([tf.convert_to_tensor(value) for value in values])
    return [total.numpy() for total in totals]


def sync_variables(variables: Sequence[Any]) -> None:
    """Assigns the chief's values on all workers."""
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
    content = np.frombuffer(text.encode() if replicas.is_chief() else b"", np.uint8).astype(
        np.int32
    )
    size = int(_total([np.int32(len(content))])[0])
    content = content if replicas.is_chief() else np.zeros(size, np.int32)
    return _total([content])[0].astype(np.uint8).tobytes().decode()


def on_chief(work: Callable[[], Any]) -> Any:
    """Does work on the chief only, and returns its result on all workers.

    Args:
        work: returns a JSON value.

    Raises:
        UserError: `work` raised it; all workers raise it.
    """
    outcome = {}
    if replicas.is_chief():
        try:
            outcome = {"result": work()}
        except UserError as error:
            outcome = {"error": str(error)}
    outcome = json.loads(from_chief(json.dumps(outcome)))
    if "error" in outcome:
        raise UserError(outcome["error"])
    return outcome["result"]


def any_worker(*flags: bool) -> list[bool]:
    """For each flag, whether it is set on any worker."""
    if replicas.workers() == 1:
        return list(flags)
    return [bool(total) for total in _total([np.int32(flags)])[0]]


def end_together(error: UserError | None) -> None:
    """Returns when all workers have called it.

    Args:
        error: why this worker cannot continue.

    Raises:
        UserError: the chief has an `error`; all workers raise it.
    """

    def raise_error() -> None:
        if error is not None:
            raise error

    if not replicas.is_chief():
        raise_error()  # the others will report a lost worker
    on_chief(raise_error)


@contextlib.contextmanager
def report_lost_workers() -> Iterator[None]:
    """Turns the errors of a collective operation with a lost worker into one line.

    Raises:
        UserError: a worker is lost.
    """
    try:
        yield
    except LOST_WORKER_ERRORS as error:
        # Other operations raise the same types; the message of a collective one contains its name.
        if replicas.workers() == 1 or "ollective" not in error.message:
            raise
        raise UserError(
            f"another worker is lost ({type(error).__name__}); see its last message, and start all "
            "workers again with the same command, which resumes from the last checkpoint"
        ) from None
