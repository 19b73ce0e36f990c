"""The replicas of data parallelism: the same global batch, the same mathematics.

Each replica has a copy of every variable and takes its contiguous rows of the global batch and of
the random numbers for it. Losses are means over the replica's rows; the optimizers average the
gradients over the replicas (`training.optimizers`), and `batch_mean` averages batch statistics. So
every replica assigns the same values to its copies.

With one replica every helper returns its argument. `training.cluster` sets the strategy before
TensorFlow's runtime starts; the stages build their trainers in `scope`. Among several workers
(processes, each started with the same command) one is the chief: only it writes files.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

_strategy: tf.distribute.Strategy | None = None  # of this process


def use(strategy: tf.distribute.Strategy | None) -> None:
    """Sets the strategy of this process; None is the default, one replica."""
    global _strategy
    _strategy = strategy


def strategy() -> tf.distribute.Strategy:
    """The strategy of this process."""
    return _strategy or tf.distribute.get_strategy()


@contextlib.contextmanager
def scope() -> Iterator[None]:
    """Variables created in the block have a copy on each replica."""
    with strategy().scope():
        yield


def workers() -> int:
    """The number of processes that train together."""
    resolver = strategy().cluster_resolver
    return len(sum(resolver.cluster_spec().as_dict().values(), [])) if resolver else 1


def is_chief() -> bool:
    """Whether this is the process that writes files."""
    return strategy().extended.should_checkpoint


def on_gpu() -> bool:
    """Whether this process computes on GPUs."""
    return bool(tf.config.get_visible_devices("GPU"))


def shares() -> tuple[int, range]:
    """The number of all replicas, and the range of those that this process runs."""
    total = strategy().num_replicas_in_sync
    local = total // workers()
    resolver = strategy().cluster_resolver
    if resolver is None:
        return total, range(total)
    jobs = resolver.cluster_spec().as_dict()
    first = len(jobs.get("chief", [])) if resolver.task_type == "worker" else 0
    number = first + resolver.task_id
    return total, range(number * local, (number + 1) * local)


# The functions below are called in a training step, on one replica.


def count() -> int:
    """The number of replicas that share the global batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def own_rows(value: tf.Tensor, axis: int = 0) -> tf.Tensor:
    """This replica's rows of a tensor for the global batch.

    Args:
        value: equal on all replicas, with the global batch along `axis`.
        axis: the batch axis.
    """
    if count() == 1:
        return value
    index = tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.gather(tf.split(value, count(), axis), index)


def batch_mean(value: Any) -> Any:
    """The mean over the global batch of each replica's mean over its rows; differentiable.

    Args:
        value: a float tensor, or a structure of them, of the same shapes on all replicas. Must not
            be called in `tf.cond` or a loop, where replicas cannot communicate.
    """
    if count() == 1:
        return value
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)
