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
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

_strategy: tf.distribute.Strategy | None = None  # of this process


def use(strategy: tf.distribute.Strategy | None) -> None:
    """Makes the strategy that of this process; None is the default, one replica."""
    global _strategy
    _strategy = strategy


def strategy() -> tf.distribute.Strategy:
    """The strategy of this process."""
    return _strategy or tf.distribute.get_strategy()


@contextlib.contextmanager
def scope() -> Iterator[None]:
    """Variables made in the block have a copy on each replica."""
    with strategy().scope():
        yield


def workers() -> int:
    """Processes that train together."""
    resolver = strategy().cluster_resolver
    return len(sum(resolver.cluster_spec().as_dict().values(), [])) if resolver else 1


def is_chief() -> bool:
    """Whether this process writes: one does."""
    return strategy().extended.should_checkpoint


def shares() -> tuple[int, range]:
    """The number of all replicas, and which of them are this process's."""
    total = strategy().num_replicas_in_sync
    local = total // workers()
    resolver = strategy().cluster_resolver
    if resolver is None:
        return total, range(total)
    jobs = resolver.cluster_spec().as_dict()
    first = len(jobs.get("chief", [])) if resolver.task_type == "worker" else 0
    number = first + resolver.task_id
    return total, range(number * local, (number + 1) * local)


# In a training step: from one replica's point of view.


def count() -> int:
    """How many replicas share the global batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def own_rows(value: tf.Tensor, axis: int = 0) -> tf.Tensor:
    """This replica's rows of what was drawn for the global batch.

    Args:
        value: has the global batch along `axis`; equal on all replicas.
        axis: see `value`.
    """
    if count() == 1:
        return value
    index = tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.gather(tf.split(value, count(), axis), index)


def batch_mean(value: Any) -> Any:
    """The mean over the global batch from each replica's mean over its rows; gradients pass.

    Args:
        value: a float tensor, or a structure of them, of the same shapes on all replicas. Not
            inside of `tf.cond` or a loop, where replicas cannot exchange anything.
    """
    if count() == 1:
        return value
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)
