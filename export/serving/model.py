"""The SavedModel behind the service: which version is served, what a signature takes, running it.

What a signature takes is read from the file's SignatureDefs, which are also what clients are given;
nothing here knows about images or attributes.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from cgan_tf.core.errors import UserError, first_line
from cgan_tf.core.files import expand
from cgan_tf.core.quiet import native_stderr_held
from cgan_tf.core.saved_models import (
    GRAPH_NAME,
    is_version,
    numbered_versions,
    without_wildcards,
)
from cgan_tf.editing import named_models
from cgan_tf.export.serving.errors import RequestError, from_tensorflow, invalid

DEFAULT_SIGNATURE = "serving_default"
_REMEDY = "give the saved_model folder that cgan export wrote, or the name of a model"


def find_version(path: str) -> tuple[Path, int]:
    """The folder of the served version, and its number.

    Args:
        path: value of --model: a folder of numbered version folders, of which the highest is
            served, or one version's folder (version 1 if its name is not a number).

    Raises:
        UserError: it is neither, or the highest version is incomplete.
    """
    base = expand(path, "--model")
    if not base.is_dir():
        hint = named_models.others(path) if named_models.is_name(path) else ""
        raise UserError(f"--model={path}: no such folder; {_REMEDY}{hint}")
    if (base / GRAPH_NAME).is_file():
        name = base.resolve().name
        return base, int(name) if is_version(name) else 1
    versions = numbered_versions(base)
    if not versions:
        nested = base / "saved_model"
        hint = f"did you mean {nested}?" if nested.is_dir() else _REMEDY
        raise UserError(
            f"--model={path}: no SavedModel; it contains neither {GRAPH_NAME} nor version folders "
            f"such as 1/{GRAPH_NAME}; {hint}"
        )
    version, folder = max(versions.items())
    if not (folder / GRAPH_NAME).is_file():
        raise UserError(
            f"--model={path}: its highest version {folder.name} contains no {GRAPH_NAME}; finish "
            "copying it, or move it away"
        )
    return folder, version


@dataclasses.dataclass(frozen=True, eq=False)
class Signature:
    """One function of the model.

    Attributes:
        name: for example `translate`.
        inputs: shape (None: any) and dtype of each input, by name.
        outputs: shape and dtype of each output, by name.
        max_rows: maximum number of rows in one request.
        function: the concrete function; takes and returns tensors by name.
        owner: keeps the variables of the function, which does not keep them itself.
    """

    name: str
    inputs: dict[str, tf.TensorSpec]
    outputs: dict[str, tf.TensorSpec]
    max_rows: int
    function: Callable[..., dict[str, tf.Tensor]]
    owner: Any = None

    @property
    def batched(self) -> bool:
        """Whether requests can be joined: the first dimension of every tensor is free."""
        specs = [*self.inputs.values(), *self.outputs.values()]
        return all(spec.shape.rank and spec.shape[0] is None for spec in specs)

    def check_names(self, names: Collection[str]) -> None:
        """Raises a RequestError unless these are the inputs."""
        missing = sorted(self.inputs.keys() - set(names))
        extra = sorted(set(names) - self.inputs.keys())
        if missing or extra:
            raise invalid(
                f"{self.name}: inputs do not match the signature ({', '.join(self.inputs)}):"
                + (f" missing {', '.join(missing)};" if missing else "")
                + (f" unknown {', '.join(extra)}" if extra else "")
            )

    def check_tensor(self, name: str, dtype: tf.DType, shape: tuple[int, ...]) -> None:
        """Raises a RequestError unless an input has this dtype and shape."""
        spec = self.inputs[name]
        if dtype != spec.dtype:
            raise invalid(f"{self.name}: {name} must be {spec.dtype.name}, not {dtype.name}")
        if min(shape, default=1) < 0 or not spec.shape.is_compatible_with(shape):
            raise invalid(f"{self.name}: {name} must have shape {_text(spec.shape)}, not {shape}")
        if self.batched and not 1 <= shape[0] <= self.max_rows:
            raise invalid(
                f"{self.name}: {name} has {shape[0]} rows; a request must have 1 to "
                f"{self.max_rows} (--max_batch_size); send several requests"
            )

    def check(self, inputs: Mapping[str, np.ndarray]) -> int:
        """The number of rows of a request's inputs (1 for a signature that is not batched).

        Raises:
            RequestError: names, dtypes, shapes or row counts that do not fit, or values that are
                not finite.
        """
        self.check_names(inputs)
        for name, value in inputs.items():
            self.check_tensor(name, tf.as_dtype(value.dtype), value.shape)
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise invalid(
                    f"{self.name}: {name} contains NaN or infinite values; send finite ones"
                )
        if not self.batched:
            return 1
        rows = {name: len(inputs[name]) for name in self.inputs}
        if len(set(rows.values())) > 1:
            counts = ", ".join(f"{name} {count}" for name, count in rows.items())
            raise invalid(f"{self.name}: inputs with different numbers of rows: {counts}")
        return next(iter(rows.values()), 1)


class ServedModel:
    """One loaded version of the model.

    Args:
        folder: folder of the version.
        name: the model's name in requests.
        version: its number.
        max_rows: maximum number of rows in one request.

    Attributes:
        signatures: by name.
        signature_defs: the same, as in the file, for clients.

    Raises:
        UserError: a damaged SavedModel, or one without the tag `serve` or without signatures.
    """

    def __init__(self, folder: Path, name: str, version: int, max_rows: int) -> None:
        self.name = name
        self.version = version
        self.signature_defs = dict(serving_graph(folder).signature_def)
        try:
            with native_stderr_held(), tf.device("CPU:0"), without_wildcards(folder) as path:
                loaded = tf.saved_model.load(path, tags=["serve"])
        except Exception as error:  # a damaged file can raise any exception
            raise UserError(f"{folder}: damaged SavedModel ({first_line(error)})") from None
        self.add_signatures(loaded.signatures, loaded, max_rows)
        if not self.signatures:
            raise UserError(f"{folder}: a SavedModel without signatures; {_REMEDY}")

    def add_signatures(
        self,
        functions: Mapping[str, Callable[..., dict[str, tf.Tensor]]],
        owner: Any,
        max_rows: int,
    ) -> None:
        """Sets `signatures` from `signature_defs`; the arguments are those of `Signature`."""
        self.signatures = {
            key: Signature(
                key,
                _specs(self.signature_defs[key].inputs),
                _specs(self.signature_defs[key].outputs),
                max_rows,
                function,
                owner,
            )
            for key, function in functions.items()
        }

    def check_spec(self, name: str, version: int | None, label: str | None) -> None:
        """Raises a RequestError unless this model is the requested one.

        Args:
            name: the model's name.
            version: None for the latest.
            label: None for no label; labels are not supported.
        """
        if not name:
            raise invalid("no model name in the request")
        if label:
            raise invalid(
                f"version label {label!r}: labels are not supported here; leave it out, or give "
                f"version {self.version}"
            )
        if name != self.name or version not in (None, self.version):
            requested = f"{name!r}" + ("" if version is None else f" version {version}")
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"model {requested} is not served here, only {self.name!r} version {self.version}",
            )

    def signature(self, name: str, missing: grpc.StatusCode) -> Signature:
        """A signature by name, the default one for an empty name.

        Args:
            name: as requested.
            missing: error code if there is none; the two protocols use different ones.
        """
        found = self.signatures.get(name or DEFAULT_SIGNATURE)
        if found is None:
            known = ", ".join(sorted(self.signatures))
            raise RequestError(
                missing, f"no signature {name or DEFAULT_SIGNATURE!r}; the model has {known}"
            )
        return found


def serving_graph(folder: Path) -> meta_graph_pb2.MetaGraphDef:
    """The meta graph with the tag `serve`.

    Raises:
        UserError: it has none, or the file is damaged.
    """
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((folder / GRAPH_NAME).read_bytes())
        return next(g for g in saved.meta_graphs if list(g.meta_info_def.tags) == ["serve"])
    except (OSError, StopIteration, message.DecodeError):
        raise UserError(
            f"{folder}: damaged SavedModel, or not one for serving; {_REMEDY}"
        ) from None


def run(signature: Signature, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of a signature for checked inputs, on the CPU.

    Raises:
        RequestError: the graph refuses them; has the graph's code and reason.
    """
    try:
        with tf.device("CPU:0"):
            tensors = {
                name: tf.constant(value, signature.inputs[name].dtype)
                for name, value in inputs.items()
            }
            outputs = signature.function(**tensors)
        return {name: value.numpy() for name, value in outputs.items()}
    except tf.errors.OpError as error:
        raise from_tensorflow(
            error.error_code, f"{signature.name}: {_graph_reason(error)}"
        ) from None


def warm_up(model: ServedModel) -> None:
    """Runs each signature once, since a first run takes several times as long.

    A signature may refuse the row of zeros and empty strings that it is given.

    Raises:
        RequestError: it fails for another reason.
    """
    for signature in model.signatures.values():
        inputs = {
            name: np.zeros(
                [size or 1 for size in spec.shape] if spec.shape.rank else (),
                spec.dtype.as_numpy_dtype,
            )
            for name, spec in signature.inputs.items()
        }
        for value in inputs.values():
            if value.dtype == object:
                value.fill(b"")
        try:
            run(signature, inputs)
        except RequestError as error:
            if error.code != grpc.StatusCode.INVALID_ARGUMENT:
                raise


def check_finite(signature: Signature, outputs: Mapping[str, np.ndarray]) -> None:
    """Raises a RequestError if a result is not finite, as happens for extremely large inputs."""
    for name, value in outputs.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise invalid(
                f"{signature.name}: {name} would not be finite for these inputs; send smaller ones"
            )


def _specs(infos: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype), name)
        for name, info in sorted(infos.items())
    }


def _text(shape: tf.TensorShape) -> str:
    """A shape such as [N, 64, 64, 3], with N for a free dimension."""
    if shape.rank is None:
        return "[...]"
    return f"[{', '.join('N' if size is None else str(size) for size in shape)}]"


def _graph_reason(error: tf.errors.OpError) -> str:
    """The line of a graph's error that explains it, without nodes and stack traces."""
    lines = [
        line.split(" [[{{")[0].split(" [Op:")[0].strip() for line in error.message.splitlines()
    ]
    noise = ("Graph execution error", "Detected at node", "<stack traces", "[[", "Detected at")
    reasons = [line for line in lines if line and not line.startswith(noise)]
    return reasons[-1] if reasons else "the graph failed"
