"""Converts the editing network to TFLite files for devices, and inspects the resulting files.

The converter can succeed and still write a file that does not run on a device, or that returns NaN.
So its result is not trusted: `check_file` reads operators and weights from the flatbuffer, and
`parity` runs the file.
"""

import collections
import functools
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import disk_full
from cgan_tf.core.quiet import native_stderr_held
from cgan_tf.editing import tflite_file
from cgan_tf.editing.description import DESCRIPTION_NAME
from cgan_tf.export import quantization
from cgan_tf.export.saved_model import DEVICE_SIGNATURES

# Bytes per stored weight of a kernel, by --quantize.
WEIGHT_ITEMSIZE = {"none": 4, "float16": 2, "dynamic": 1, "weight_int8": 1, "int8": 1}

# These need state between calls, or a runtime that includes TensorFlow.
_FORBIDDEN = ("CUSTOM", "DELEGATE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")
_FORBIDDEN_PREFIX = "STABLEHLO_"  # numbered as builtins, but not part of device runtimes
_OPERATORS = {
    number: name
    for name, number in vars(schema.BuiltinOperator).items()
    if isinstance(number, int) and not name.startswith("_")
}
_SMALL = 16 * 1024  # bytes; equal biases (all zero) or shapes are not repeated weights
_CONSTANTS = 64 * 1024  # bytes allowed for shapes and folded scalars, in addition to the weights


def convert(
    saved_model: Path,
    quantize: str,
    description: str,
    samples: Callable[[], Iterator[tuple[str, dict[str, np.ndarray]]]] | None = None,
    signatures: Sequence[str] = DEVICE_SIGNATURES,
) -> bytes:
    """A .tflite file with the signatures, the description in its metadata, and a checksum.

    Args:
        saved_model: a SavedModel with a static batch of 1.
        quantize: "none" (float32), "float16" (weights only, computed in float32), or one of the
            int8 kinds of `export.quantization`.
        description: the text of model.json.
        samples: calibration data for "int8"; see `quantization.Samples`.
        signatures: of the SavedModel, to convert.

    Raises:
        UserError: the conversion fails; has the converter's message.
    """
    with native_stderr_held(), warnings.catch_warnings():
        # Raised by the calibration: TensorFlow deprecates its interpreter.
        warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated")
        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(saved_model), signature_keys=list(signatures)
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
        except Exception as error:  # an unsupported graph can raise any exception
            if disk_full(error):  # of temporary files
                raise
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"cannot be converted: {reason}") from None
    return tflite_file.sealed(add_metadata(content, DESCRIPTION_NAME, description.encode()))


def add_metadata(content: bytes, name: str, data: bytes) -> bytes:
    """The file with an additional named metadata buffer."""
    model = read(content)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return pack(model)


def read(content: bytes) -> schema.ModelT:
    """A file in flatbuffers' object form, with weights stored after the flatbuffer moved into it.

    The ai-edge-quantizer stores them there, which not every reader of the format supports.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for buffer in model.buffers:
        if buffer.offset > 1:
            outside = content[buffer.offset : buffer.offset + buffer.size]
            buffer.data = np.frombuffer(outside, np.uint8)
            buffer.offset = buffer.size = 0
    return model


def pack(model: schema.ModelT) -> bytes:
    """Serializes a model in flatbuffers' object form to a file's bytes.

    The subgraphs of the signatures share their weights, but each has scales and zero points of its
    own, 12 bytes a channel. Equal ones are written once.
    """
    written: dict[tuple, schema.QuantizationParametersT] = {}
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        quantization = tensor.quantization
        if quantization is not None and quantization.scale is not None:
            numbers = (quantization.scale, quantization.zeroPoint, quantization.quantizedDimension)
            key = tuple(np.asarray(part).tobytes() for part in numbers)
            if key not in written:
                quantization.Pack = functools.cache(quantization.Pack)  # one place per builder
                written[key] = quantization
            tensor.quantization = written[key]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=tflite_file.IDENTIFIER)
    return bytes(builder.Output())


def operators(content: bytes) -> list[str]:
    """Sorted names of the operators in the file; a custom one as CUSTOM:its name."""
    model = schema.Model.GetRootAs(content, 0)
    names = set()
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        # Old files have the number in the 8-bit field only.
        name = _OPERATORS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        custom = code.CustomCode()
        names.add(f"{name}:{custom.decode()}" if custom else name)
    return sorted(names)


def constants(content: bytes) -> list[bytes]:
    """The data of all constant tensors (weights, shapes), without the metadata."""
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
    """None if the file is fit for a device, else the reason in words.

    Args:
        content: the .tflite file.
        shapes: shapes of the model's weights.
        itemsize: expected bytes per weight of a kernel.
        derived: shapes of constants that the conversion may compute from the weights and store.
        absent: shapes of weights that the conversion may drop.
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
        return "contains a weight more than once"
    # Batch norm is folded into the neighboring kernel, so only the kernels must all be there.
    kernels = itemsize * (_size_of_kernels(shapes) - _size_of_kernels(absent))
    # Added tensors, such as biases and noise, are not kernels and may be wider than int8.
    added = 4 if itemsize == 1 else itemsize
    everything = _CONSTANTS + sum(
        int(np.prod(shape)) * (itemsize if len(shape) > 1 and shape[0] > 1 else added)
        for shape in [*shapes, *derived]
    )
    stored = sum(map(len, data))
    if not kernels <= stored <= everything:
        return f"contains {stored:,} bytes of weights, expected {kernels:,} to {everything:,}"
    return None


def _size_of_kernels(shapes: Sequence[tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape)) for shape in shapes if len(shape) > 1)
