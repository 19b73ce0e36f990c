"""A model for tests of the service's parts, without TensorFlow Serving's file or a network."""

import threading

import tensorflow as tf

from cgan_tf.export.serving import model


class Graph:
    """Doubles `x` `[N]`; refuses negative values; can be held while it runs.

    Attributes:
        runs: the inputs of each run, as lists.
        begun: set when a run has begun.
        free: what a run waits for; set unless a test clears it.
    """

    def __init__(self):
        self.runs = []
        self.begun = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def __call__(self, x):
        self.runs.append(x.numpy().tolist())
        self.begun.set()
        assert self.free.wait(30)
        if (x.numpy() < 0).any():
            raise tf.errors.InvalidArgumentError(None, None, "a negative value\n\t [[{{node x}}]]")
        return {"y": 2 * x}


def make_signature(graph, size=None, max_rows=4):
    spec = {name: tf.TensorSpec((size,), tf.float32, name) for name in "xy"}
    return model.Signature("double", {"x": spec["x"]}, {"y": spec["y"]}, max_rows, graph)
