"""Writes tiny ONNX networks whose vectors are known, byte by byte: protobuf needs no package."""

import json

FORMAT = {
    "size": 32,
    "scale": 1.0,
    "offset": 0.0,
    "channels": "RGB",
    "layout": "NCHW",
    "square": [0, 0, 1],
    "metric": "euclidean",
}


def write_recognizer(path, shape=(None, 3, 32, 32), axes=(2, 3), keep=False, **changes):
    """A network whose vector is the mean over the axes, and its description; returns the path.

    Args:
        path: of the ONNX file.
        shape: of the input; None is a size that is left open.
        axes: that are averaged, by default the image's two: the vector is the mean color.
        keep: whether these axes are kept, with one element each.
        changes: of the description, which is `FORMAT`.
    """
    path.write_bytes(mean_network(shape, axes, keep))
    path.with_suffix(".json").write_text(json.dumps(FORMAT | changes))
    return path


def mean_network(shape, axes, keep=False):
    """The bytes of a network with the operator ReduceMean."""
    ranked = len(shape) if keep else len(shape) - len(axes)
    node = b"".join([
        _field(1, "image"),
        _field(2, "vector"),
        _field(4, "ReduceMean"),
        _field(5, _field(1, "axes") + b"".join(_field(8, axis) for axis in axes) + _field(20, 7)),
        _field(5, _field(1, "keepdims") + _field(3, int(keep)) + _field(20, 2)),
    ])  # fmt: skip
    graph = b"".join([
        _field(1, node),
        _field(2, "mean"),
        _field(11, _tensor("image", shape)),
        _field(12, _tensor("vector", [None] * ranked)),
    ])  # fmt: skip
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))


def _tensor(name, shape):
    """A ValueInfoProto of float32."""
    sizes = b"".join(
        _field(1, _field(2, f"{name}{axis}") if size is None else _field(1, size))
        for axis, size in enumerate(shape)
    )
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, sizes)))


def _field(number, value):
    """A field of a protobuf message: a whole number, text or another message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value):
    """Groups of seven bits, the lowest first; all but the last are marked."""
    marked = []
    while value > 127:
        marked.append(value & 127 | 128)
        value >>= 7
    return bytes([*marked, value])
