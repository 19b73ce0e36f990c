"""A named model as the service runs it: .tflite files in the place of a SavedModel."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from cgan_tf.editing.backends import NamedBackend
from cgan_tf.export.serving.model import DEFAULT_SIGNATURE, ServedModel

_METHOD = "tensorflow/serving/predict"
Shapes = Mapping[str, tuple[int, ...]]


class NamedServedModel(ServedModel):
    """One named model, version 1: translate (the default), encode, generate and attributes.

    Args:
        folder: of the named model.
        name: the model's name in requests.
        max_rows: maximum number of rows in one request.

    Raises:
        UserError: a file is missing or damaged.
    """

    def __init__(self, folder: Path, name: str, max_rows: int) -> None:
        self.name, self.version = name, 1
        backend = NamedBackend(folder)
        shapes = backend.shapes()
        functions = {key: _function(backend, key) for key in shapes}
        for table in (shapes, functions):
            table[DEFAULT_SIGNATURE] = table["translate"]
        self.signature_defs = {key: _signature_def(key, *both) for key, both in shapes.items()}
        self.add_signatures(functions, backend, max_rows)


def _signature_def(signature: str, inputs: Shapes, outputs: Shapes) -> meta_graph_pb2.SignatureDef:
    """What clients are told: tensors of float32, with any number of rows."""

    def infos(shapes: Shapes) -> dict[str, meta_graph_pb2.TensorInfo]:
        return {
            key: meta_graph_pb2.TensorInfo(
                name=f"{signature}_{key}:0",
                dtype=types_pb2.DT_FLOAT,
                tensor_shape=tf.TensorShape([None, *shape[1:]]).as_proto(),
            )
            for key, shape in shapes.items()
        }

    return meta_graph_pb2.SignatureDef(
        inputs=infos(inputs), outputs=infos(outputs), method_name=_METHOD
    )


def _function(backend: NamedBackend, signature: str) -> Callable[..., dict[str, tf.Tensor]]:
    def function(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        arrays: dict[str, np.ndarray] = {key: value.numpy() for key, value in inputs.items()}
        return {key: tf.constant(value) for key, value in backend.run(signature, **arrays).items()}

    return function
