"""A face recognizer of the user's: an ONNX network that turns a face into a vector.

FILE.json beside FILE.onnx describes what the network expects; its keys are the fields of `Format`.
onnxruntime, an optional package, runs it.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cgan_tf.core.cli import closest
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand, file_hash
from cgan_tf.data.images import to_uint8

if TYPE_CHECKING:  # an optional package
    from onnxruntime import InferenceSession

CHANNELS, LAYOUTS, METRICS = ("RGB", "BGR"), ("NCHW", "NHWC"), ("cosine", "euclidean")
_LEAST = 1e-12  # length of a vector that has no direction


@dataclasses.dataclass(frozen=True)
class Format:
    """What a network expects.

    Attributes:
        size: side of its square input, px.
        scale: factor of the pixels' levels, 0 to 255.
        offset: added to the scaled levels.
        channels: "RGB" or "BGR".
        layout: "NCHW" or "NHWC".
        square: left and top edge and side of the square that it sees, in sides of the face crop.
            Beyond the crop its edge is repeated.
        metric: of two vectors: "cosine" (the distance is 1 - cosine) or "euclidean".
    """

    size: int
    scale: float
    offset: float
    channels: str
    layout: str
    square: tuple[float, float, float]
    metric: str

    @classmethod
    def from_json(cls, values: Any) -> "Format":
        """The format that a JSON value describes.

        Raises:
            ValueError: it is not an object, a key is missing or unknown, or a value makes no sense.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(values, dict):
            raise ValueError(f"not a JSON object; give one with the keys {', '.join(names)}")
        for name in names:
            if name not in values:
                raise ValueError(f"{name} is missing; the keys are {', '.join(names)}")
        for name in values:
            if name not in names:
                raise ValueError(
                    f"unknown key {name}{closest(name, names)}; the keys are {', '.join(names)}"
                )
        size, square = values["size"], values["square"]
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"size={json.dumps(size)}: give a number of px")
        for name in ("scale", "offset"):
            if not _number(values[name]) or (name == "scale" and values[name] == 0):
                given = json.dumps(values[name])
                other = " other than 0" if name == "scale" else ""
                raise ValueError(f"{name}={given}: give a number{other}")
        for name, allowed in (("channels", CHANNELS), ("layout", LAYOUTS), ("metric", METRICS)):
            if values[name] not in allowed:
                raise ValueError(f"{name}={json.dumps(values[name])}: give {' or '.join(allowed)}")
        if not _overlaps_crop(square):
            raise ValueError(
                f"square={json.dumps(square)}: give [left, top, side] in sides of the face crop, "
                "between -1 and 2; [0, 0, 1] is the crop"
            )
        return cls(**(values | {"square": tuple(square)}))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _overlaps_crop(square: Any) -> bool:
    if not isinstance(square, list) or len(square) != 3 or not all(map(_number, square)):
        return False
    left, top, side = square
    return side > 0 and all(-1 <= edge < 1 and 0 < edge + side <= 2 for edge in (left, top))


class Recognizer:
    """The vectors of faces, and the distances between these.

    Attributes:
        output_shape: of the network, for one face.

    Args:
        session: the network, from one input of the format to one vector.
        form: what it expects.
        name: of its file.
        digest: hash of its file.
    """

    def __init__(
        self, session: "InferenceSession", form: Format, name: str = "", digest: str = ""
    ) -> None:
        self.form = form
        self.name = name
        self.digest = digest
        self._session = session
        self._input = session.get_inputs()[0].name
        self.output_shape = self._run(np.zeros((2, 2, 3), np.float32)).shape

    @property
    def description(self) -> dict[str, Any]:
        """File name, hash and format, as JSON values: vectors of equal hash and format compare."""
        form = dataclasses.asdict(self.form) | {"square": list(self.form.square)}
        return {"file": self.name, "hash": self.digest, "format": form}

    def embed(self, faces: np.ndarray) -> np.ndarray:
        """The vectors of face crops, float64 `[N, D]`.

        One face at a time: many recognizers have a fixed batch of 1, and no vector depends on the
        other faces.

        Args:
            faces: float32 `[N, R, R, 3]` in [-1, 1].

        Raises:
            UserError: a vector is not finite.
        """
        vectors = np.array([self._run(face)[0] for face in faces], np.float64)
        if not np.isfinite(vectors).all():
            raise UserError(
                f"{self.name}: the vector of a face is not finite; check scale and offset in "
                f"{Path(self.name).with_suffix('.json')}"
            )
        return vectors.reshape(len(faces), *self.output_shape[1:])

    def distances(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The distances `[N]` of vectors `[N, D]` from others `[N, D]`, row by row."""
        if self.form.metric == "cosine":
            return 1.0 - np.sum(_units(some) * _units(others), axis=1)
        return np.linalg.norm(some - others, axis=1)

    def pair_distances(self, vectors: np.ndarray) -> np.ndarray:
        """The distances `[N (N - 1) / 2]` of all pairs of vectors `[N, D]`."""
        pairs = np.triu_indices(len(vectors), 1)
        if self.form.metric == "cosine":
            units = _units(vectors)
            return 1.0 - (units @ units.T)[pairs]
        squares = np.square(vectors).sum(axis=1)
        squared = squares[:, None] + squares[None, :] - 2.0 * vectors @ vectors.T
        return np.sqrt(np.maximum(squared[pairs], 0.0))

    def prepare(self, face: np.ndarray) -> np.ndarray:
        """The network's input float32, `[1, 3, S, S]` or `[1, S, S, 3]`, of a face crop.

        Args:
            face: float32 `[R, R, 3]` in [-1, 1].
        """
        form, levels = self.form, to_uint8(face)
        left, top, side = (len(levels) * part for part in form.square)
        beyond = max(-left, -top, left + side - len(levels), top + side - len(levels), 0.0)
        edge = math.ceil(beyond)
        padded = np.pad(levels, ((edge, edge), (edge, edge), (0, 0)), mode="edge")
        box = (left + edge, top + edge, left + side + edge, top + side + edge)
        size = (form.size, form.size)
        seen = Image.fromarray(padded).resize(size, Image.Resampling.BICUBIC, box=box)
        values = np.asarray(seen, np.float32) * np.float32(form.scale) + np.float32(form.offset)
        values = values[:, :, ::-1] if form.channels == "BGR" else values
        values = values.transpose(2, 0, 1) if form.layout == "NCHW" else values
        return np.ascontiguousarray(values[None])

    def _run(self, face: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self._input: self.prepare(face)})[0]


def _units(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _LEAST)


def load(path: str, flag: str) -> Recognizer:
    """The recognizer of an ONNX file with its description in the .json file beside it.

    Args:
        path: of the ONNX file.
        flag: that gave it, for the errors.

    Raises:
        UserError: a file is missing or unusable, the network does not fit its description, or
            onnxruntime is not installed.
    """
    file = expand(path, f"--{flag}")
    described, given = file.with_suffix(".json"), f"--{flag}={path}"
    if not file.is_file():
        raise UserError(f"{given}: no such file; give a face recognizer as an ONNX file")
    try:
        form = Format.from_json(json.loads(described.read_text()))
    except FileNotFoundError:
        raise UserError(
            f"{given}: {described} is missing, which describes the network's input; see "
            "docs/evaluation.md"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{given}: {described} is not JSON; write it as text") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{given}: {described} is not JSON ({error}); correct it") from None
    except ValueError as error:
        raise UserError(f"{given}: {described}: {error}") from None
    session = _session(file, given)
    _check_input(session, form, given, described)
    outputs = session.get_outputs()
    if len(outputs) != 1:
        raise UserError(
            f"{given}: it has {len(outputs)} outputs; give a network with one, the face's vector"
        )
    try:
        recognizer = Recognizer(session, form, file.name, file_hash(file))
    except Exception as error:  # onnxruntime's have no common class
        raise UserError(
            f"{given}: it cannot be run on a face ({_words(error)}); give another network"
        ) from None
    shape = recognizer.output_shape
    if len(shape) != 2 or shape[0] != 1 or not shape[1]:
        raise UserError(
            f"{given}: its output for one face has the shape {list(shape)}; give a network that "
            "returns one vector, [1, D]"
        )
    return recognizer


def _session(file: Path, given: str) -> "InferenceSession":
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"{given}: onnxruntime, which runs it, cannot be imported ({_words(error)}); run "
            'pip install "cgan_tf[identity]"'
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its warnings about a network are not about faces
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's have no common class
        raise UserError(
            f"{given}: not an ONNX network that onnxruntime can load ({_words(error)}); give "
            "another file"
        ) from None


def _check_input(session: "InferenceSession", form: Format, given: str, described: Path) -> None:
    """Refuses a network whose input is not one face of the format; a size may be left open."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise UserError(
            f"{given}: it has {len(inputs)} inputs; give a network with one, the face's image"
        )
    (one,) = inputs
    if one.type != "tensor(float)" or len(one.shape) != 4:
        raise UserError(
            f"{given}: its input is a {one.type} of shape {one.shape}; give a network that takes "
            "an image as tensor(float) with four axes"
        )
    side = form.size
    expected = [1, 3, side, side] if form.layout == "NCHW" else [1, side, side, 3]
    pairs = zip(one.shape, expected, strict=True)
    if any(isinstance(size, int) and size != wanted for size, wanted in pairs):
        raise UserError(
            f"{given}: its input has the shape {one.shape}, but {described.name} says size={side} "
            f"and layout={form.layout}, {expected} for one face; correct the description"
        )


def _words(error: Exception) -> str:
    """The start of an error's message, in one line."""
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else f"{text[:160]}..."
