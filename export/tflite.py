"""Converts the translator to TFLite files for devices, and reads a file's insides to check it.

The converter can succeed and leave a file that cannot run on a device, or that runs and says NaN;
so nothing here is trusted: `check_file` reads the operators and the weights from the flatbuffer,
and `parity` runs it.
"""

import collections
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from cgan_tf.core.errors import UserError
from cgan_tf.core.quiet import native_stderr_held
from cgan_tf.editing.description import DESCRIPTION_NAME
from cgan_tf.export import quantization
from cgan_tf.export.saved_model import DEVICE_SIGNATURES

IDENTIFIER = b"TFL3"
NAMES = {
    "none": "translator_float32",
    "float16": "translator_float16",
    "dynamic": "translator_dynamic",
    "weight_int8": "translator_weight_int8",
    "int8": "translator_int8",
}  # of the files, by --quantize
# Bytes of one stored weight of a kernel.
WEIGHT_ITEMSIZE = {"none": 4, "float16": 2, "dynamic": 1, "weight_int8": 1, "int8": 1}

# These need memory between calls or a runtime with TensorFlow in it.
_FORBIDDEN = ("CUSTOM", "DELEGATE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")
_FORBIDDEN_PREFIX = "STABLEHLO_"  # builtin by number, but not in the runtimes of devices
_OPERATORS = {
    number: name
    for name, number in vars(schema.BuiltinOperator).items()
    if isinstance(number, int) and not name.startswith("_")
}
_SMALL = 16 * 1024  # bytes; equal biases (all zero) or shapes are no repeated weights
_CONSTANTS = 64 * 1024  # bytes that shapes and folded scalars may add to the weights


def convert(
    saved_model: Path,
    quantize: str,
    description: str,
    samples: Callable[[], Iterator[tuple[str, dict[str, np.ndarray]]]] | None = None,
) -> bytes:
    """A .tflite file with the device signatures and the description inside.

    Args:
        saved_model: a SavedModel with a static batch of 1.
        quantize: "none" (float32), "float16" (weights only, computed in float32), or one of the
            int8 kinds of `export.quantization`.
        description: text of model.json.
        samples: for "int8"; see `quantization.Samples`.

    Raises:
        UserError: the converter cannot; the message is its own.
    """
    with native_stderr_held(), warnings.catch_warnings():
        # The calibration's own: TensorFlow's interpreter is going away.
        warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated")
        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(saved_model), signature_keys=list(DEVICE_SIGNATURES)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantize in ("float16", "int8"):
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if quantize == "int8":
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.representative_dataset = samples
        try:
            content = converter.convert()
            if quantize in ("dynamic", "weight_int8"):
                content = quantization.quantize_weights(content, quantize)
        except Exception as error:  # they raise whatever an unsupported graph makes them trip on
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"cannot be converted: {reason}") from None
    return add_metadata(content, DESCRIPTION_NAME, description.encode())


def add_metadata(content: bytes, name: str, data: bytes) -> bytes:
    """The file with one more named metadata buffer."""
    model = read(content)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return pack(model)


def read(content: bytes) -> schema.ModelT:
    """A file in flatbuffers' object form; weights that lie behind the flatbuffer are taken in.

    The ai-edge-quantizer puts them there, which not every reader of the format knows.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for buffer in model.buffers:
        if buffer.offset > 1:
            outside = content[buffer.offset : buffer.offset + buffer.size]
            buffer.data = np.frombuffer(outside, np.uint8)
            buffer.offset = buffer.size = 0
    return model


def pack(model: schema.ModelT) -> bytes:
    """The file of a model in flatbuffers' object form."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def operators(content: bytes) -> list[str]:
    """Names of the operators in the file, sorted; a custom one as CUSTOM:its name."""
    model = schema.Model.GetRootAs(content, 0)
    names = set()
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        # Old files keep the number in the 8-bit field alone.
        name = _OPERATORS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        custom = code.CustomCode()
        names.add(f"{name}:{custom.decode()}" if custom else name)
    return sorted(names)


def constants(content: bytes) -> list[bytes]:
    """The data of all tensors that are part of the file (weights, shapes), not its metadata."""
    model = schema.Model.GetRootAs(content, 0)
    used = {
        graph.Tensors(number).Buffer()
        for graph in map(model.Subgraphs, range(model.SubgraphsLength()))
        for number in range(graph.TensorsLength())
    }
    found = (model.Buffers(index).DataAsNumpy() for index in sorted(used))
    return [data.tobytes() for data in found if np.ndim(data)]


def check_file(
    content: bytes,
    shapes: list[tuple[int, ...]],
    itemsize: int,
    derived: Sequence[tuple[int, ...]] = (),
    absent: Sequence[tuple[int, ...]] = (),
) -> str | None:
    """None if the file is fit for a device, else what is wrong in words.

    Args:
        content: the .tflite file.
        shapes: shapes of the weights that it was made from.
        itemsize: bytes that one weight of a kernel should take.
        derived: shapes of what the conversion computes of the weights and may store with them.
        absent: shapes of weights that it may do without.
    """
    bad = [
        name
        for name in operators(content)
        if name.split(":")[0] in _FORBIDDEN or name.startswith(_FORBIDDEN_PREFIX)
    ]
    if bad:
        return f"needs operators outside the TFLite builtins: {', '.join(bad)}"
    data = constants(content)
    copies = collections.Counter(hashlib.sha256(d).digest() for d in data if len(d) > _SMALL)
    if copies and max(copies.values()) > 1:
        return "holds a weight more than once"
    # Batch norm folds into its neighbor's kernel, so only the kernels must all be there.
    kernels = itemsize * (_size_of_kernels(shapes) - _size_of_kernels(absent))
    # What is added, like biases and noise, is no kernel, and may be wider than int8.
    added = 4 if itemsize == 1 else itemsize
    everything = _CONSTANTS + sum(
        int(np.prod(shape)) * (itemsize if len(shape) > 1 and shape[0] > 1 else added)
        for shape in [*shapes, *derived]
    )
    stored = sum(map(len, data))
    if not kernels <= stored <= everything:
        return f"holds {stored:,} bytes of weights, expected {kernels:,} to {everything:,}"
    return None


def _size_of_kernels(shapes: Sequence[tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape)) for shape in shapes if len(shape) > 1)
