"""Runs TensorFlow functions on NumPy arrays of any length, batch by batch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

BATCH = 100  # images


def batched(
    function: Callable[..., Any], *arrays: np.ndarray, batch: int = BATCH
) -> np.ndarray | tuple[np.ndarray, ...]:
    """The outputs of `function` for the rows of the arrays, `batch` rows at a time, concatenated.

    Args:
        function: of as many arrays; returns an array or tensor, or a tuple of them.
        arrays: of equal length.
        batch: rows per call.
    """
    parts = [
        function(*(array[start : start + batch] for array in arrays))
        for start in range(0, len(arrays[0]), batch)
    ]
    if isinstance(parts[0], tuple):
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
    return np.concatenate(parts)


def batched_once(
    function: Callable[..., Any], *arrays: np.ndarray
) -> np.ndarray | tuple[np.ndarray, ...]:
    """`batched`, with one evaluation for rows that are equal in all arrays."""
    flat = np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)
    _, first, again = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    again = again.reshape(-1)
    found = batched(function, *(array[first] for array in arrays))
    return tuple(part[again] for part in found) if isinstance(found, tuple) else found[again]


def compiled(function: Callable[..., Any], *shapes: tuple[int, ...]) -> Callable[..., Any]:
    """`function` as one graph for batches of any size; takes and returns NumPy arrays.

    Args:
        function: of float32 tensors, one per shape; returns a tensor or a tuple of them.
        shapes: of one row of each argument.
    """
    signature = [tf.TensorSpec((None, *shape), tf.float32) for shape in shapes]
    graph = tf.function(function, input_signature=signature, autograph=False)

    def call(*arrays: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        output = graph(*(tf.constant(array, tf.float32) for array in arrays))
        if isinstance(output, tuple):
            return tuple(part.numpy() for part in output)
        return output.numpy()

    return call


def choose(indices: np.ndarray, count: int, seed: int) -> np.ndarray:
    """A seeded choice of at most `count` of the indices, in ascending order."""
    if len(indices) <= count:
        return np.sort(indices)
    return np.sort(np.random.default_rng(seed).choice(indices, count, replace=False))
