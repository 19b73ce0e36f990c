"""The JSON of TensorFlow Serving's predict API: rows ("instances") or columns ("inputs").

Converts between the bytes of `rest` and the arrays of `batching`. A string is given as text or as
{"b64": "..."}; an output whose name ends in `_bytes` is returned in the second form. Source: the
RESTful API page of TensorFlow Serving's documentation.
"""

import base64
import binascii
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson
import tensorflow as tf

from cgan_tf.export.serving.errors import invalid
from cgan_tf.export.serving.model import Signature

# The JSON types allowed for each kind of dtype; a bool is not a number.
_JSON_TYPES = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}}


def decode(
    body: bytes, find: Callable[[str], Signature]
) -> tuple[Signature, dict[str, np.ndarray], bool]:
    """The signature that a body requests, its inputs, and whether the answer is by rows.

    Args:
        body: JSON.
        find: returns the signature of a name, "" for the default.

    Raises:
        RequestError: not JSON, not in this form, or values of the wrong type or of ragged shape.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(f"the body is not JSON: {error}") from None
    if not isinstance(content, dict) or ("instances" in content) == ("inputs" in content):
        raise invalid('the body must be an object with either "instances" or "inputs"')
    name = content.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid("signature_name must be a string")
    signature = find(name)
    by_rows = "instances" in content
    columns = (
        _columns(content["instances"], signature)
        if by_rows
        else _named(content["inputs"], signature)
    )
    signature.check_names(columns)
    inputs = {key: _array(key, value, signature) for key, value in columns.items()}
    return signature, inputs, by_rows


def encode(signature: Signature, outputs: Mapping[str, np.ndarray], by_rows: bool) -> bytes:
    """The body of the answer; the name of a single output is omitted."""
    values = {key: _jsonable(key, value) for key, value in outputs.items()}
    if not by_rows:
        content = {"outputs": _unwrapped(values)}
    elif signature.batched:
        rows = zip(*values.values(), strict=True)
        content = {"predictions": [_unwrapped(dict(zip(values, row, strict=True))) for row in rows]}
    else:
        raise invalid(f'{signature.name}: its outputs have no rows; send "inputs" instead')
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _unwrapped(values: dict[str, Any]) -> Any:
    return next(iter(values.values())) if len(values) == 1 else values


def _columns(instances: Any, signature: Signature) -> dict[str, Any]:
    """The values of all rows, as one list per input."""
    if not isinstance(instances, list) or not instances:
        raise invalid('"instances" must be a list with at least one row')
    rows = [_named(row, signature) for row in instances]
    if any(row.keys() != rows[0].keys() for row in rows):
        raise invalid('"instances": the rows name different inputs')
    return {key: [row[key] for row in rows] for key in rows[0]}


def _named(value: Any, signature: Signature) -> dict[str, Any]:
    """Values by input; the name of a single input may be omitted."""
    if isinstance(value, dict) and value.keys() != {"b64"}:
        return value
    if len(signature.inputs) > 1:
        raise invalid(f"{signature.name}: name the inputs: {', '.join(signature.inputs)}")
    return dict.fromkeys(signature.inputs, value)


def _array(name: str, value: Any, signature: Signature) -> np.ndarray:
    """An input's array.

    Nested lists are flattened level by level: several times faster than NumPy's own inference of
    their shape and type, and strict about both.
    """
    dtype = signature.inputs[name].dtype
    shape, level = [], [value]
    while level and isinstance(level[0], list):
        if set(map(type, level)) != {list} or len(set(map(len, level))) > 1:
            raise invalid(f"{signature.name}: {name} is ragged; its rows must have equal lengths")
        shape.append(len(level[0]))
        level = list(itertools.chain.from_iterable(level))
    if dtype == tf.string:
        flat = np.empty(len(level), object)
        flat[:] = [_string(name, item, signature) for item in level]
        return flat.reshape(shape)
    allowed = _JSON_TYPES.get(np.dtype(dtype.as_numpy_dtype).kind)
    found = set(map(type, level))
    if allowed is None or not found <= allowed:
        kinds = ", ".join(sorted(kind.__name__ for kind in found - (allowed or set())))
        raise invalid(f"{signature.name}: {name} must be {dtype.name}, not {kinds}")
    try:
        with np.errstate(over="ignore"):  # becomes infinity, which is refused later
            return np.array(level, dtype.as_numpy_dtype).reshape(shape)
    except OverflowError:
        raise invalid(f"{signature.name}: {name} contains a number beyond {dtype.name}") from None


def _string(name: str, item: Any, signature: Signature) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, dict) and item.keys() == {"b64"} and isinstance(item["b64"], str):
        try:
            return base64.b64decode(item["b64"], validate=True)
        except (binascii.Error, ValueError):
            raise invalid(f"{signature.name}: {name} contains invalid base64") from None
    raise invalid(f'{signature.name}: {name} must be a string or {{"b64": ...}}')


def _jsonable(name: str, value: np.ndarray) -> Any:
    """An output in a form that orjson writes: numbers as they are, strings as text or base64."""
    if value.dtype != object:
        return np.ascontiguousarray(value)
    if name.endswith("_bytes"):
        texts = [{"b64": base64.b64encode(item).decode()} for item in value.flat]
    else:
        texts = [item.decode(errors="replace") for item in value.flat]
    filled = np.empty(len(texts), object)
    filled[:] = texts
    return filled.reshape(value.shape).tolist()
