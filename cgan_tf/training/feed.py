"""How batches reach a compiled training step: from the host, or from the device's memory.

A call of the compiled training runs several steps (`loop.CompiledSteps`). Before each call the loop
asks the feed for what the graph needs (`take`); in the graph, each step picks its batch (`element`)
and each replica decodes its own part of it (`decode`).
"""

from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

from cgan_tf.core import replicas


class Feed(Protocol):
    """The batches of a training, in order."""

    def take(self, count: int) -> Any:
        """What the graph needs for the next `count` batches."""

    def element(self, taken: Any, index: tf.Tensor) -> Any:
        """In the graph: the batch that a step uses, as the arguments of `strategy.run`.

        Args:
            taken: the value of `take`.
            index: of the step in its call.
        """

    def decode(self, element: Any) -> Any:
        """In the graph, on one replica: its rows, as `Trainer.train_step` expects them."""


class DatasetFeed:
    """Batches of a data set on the host.

    Args:
        make: the data set of the batches that follow, one element for each replica of this process
            in turn.
    """

    def __init__(self, make: Callable[[], tf.data.Dataset]) -> None:
        strategy = replicas.strategy()
        with strategy.scope():
            self._batches = iter(strategy.distribute_datasets_from_function(lambda _: make()))

    def take(self, count: int) -> Any:
        """The iterator."""
        return self._batches

    def element(self, taken: Any, index: tf.Tensor) -> Any:
        """The next element."""
        return next(taken)

    def decode(self, element: Any) -> Any:
        """The element itself."""
        return element


class SameBatch:
    """One batch in memory for every step, to measure the speed of a training step.

    Args:
        element: each replica's rows, as the trainer's `train_step` expects them.
    """

    def __init__(self, element: Any) -> None:
        self._element = element

    def take(self, count: int) -> Any:
        """The batch."""
        return self._element

    def element(self, taken: Any, index: tf.Tensor) -> Any:
        """The batch."""
        return taken

    def decode(self, element: Any) -> Any:
        """The replica's rows themselves."""
        return element
