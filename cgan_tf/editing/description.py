"""model.json, the description of an exported editor: what an app must know to use it.

A SavedModel has it in assets.extra/, a .tflite file in its metadata or as a .json file next to it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash
from cgan_tf.core.run_folder import RunFolder, versions
from cgan_tf.editing.tflite_file import REMEDY

if TYPE_CHECKING:  # reading a description needs no TensorFlow, whose import takes seconds
    from cgan_tf.editing.network import EditingNetwork

DESCRIPTION_FORMAT = 2  # of model.json
DESCRIPTION_NAME = "model.json"  # of the file, of the asset and of the TFLite metadata
ASSETS = "assets.extra"  # folder of a SavedModel for files that its graph does not read

CELEBA_CROP = "celeba"  # the centered 148 px square of 178 x 218 px; in proportion at other sizes
SQUARE_CROP = "center_square"  # the largest centered square

_CELEBA_NOTE = (
    "Trained on CelebA, which may be used for non-commercial research only. Whether that "
    "restricts this model is for its user to judge."
)
_OWN_PHOTOS_NOTE = "Trained on photos of the model's maker; ask the maker which uses they allow."
LICENSE_NOTES = {  # by --data
    "synthetic": "Trained on synthetic faces that cgan_tf renders; no third-party photo was used.",
    "celeba": _CELEBA_NOTE,
    "celeba_dir": _CELEBA_NOTE,
    "folder": _OWN_PHOTOS_NOTE,
    "photos": _OWN_PHOTOS_NOTE,
}


def signatures(features: bool) -> dict[str, dict[str, list[str]]]:
    """The names of the inputs and outputs of each signature of an exported model.

    Args:
        features: whether the model has detail features, which are then part of a code.
    """
    code = ["latent", "features"] if features else ["latent"]
    return {
        "translate": {"inputs": ["image", "strengths"], "outputs": ["image"]},
        "encode": {"inputs": ["image"], "outputs": code},
        "generate": {"inputs": [*code, "strengths"], "outputs": ["image"]},
        "sample": {"inputs": ["z"], "outputs": ["image"]},
        "attributes": {"inputs": ["image"], "outputs": ["scores"]},
        "translate_bytes": {"inputs": ["image_bytes", "strengths"], "outputs": ["image_bytes"]},
    }


def training_crop(run: RunFolder) -> str:
    """How the training photos of a run were cropped: `CELEBA_CROP` or `SQUARE_CROP`.

    The squares that `cgan align` writes are crops of CelebA's kind.
    """
    from cgan_tf.data import framing

    aligned = run.load_config().data in ("celeba", "celeba_dir")
    aligned = aligned or run.read().get("data", {}).get("framing") == framing.CELEBA
    return CELEBA_CROP if aligned else SQUARE_CROP


def psnr_p5(run: RunFolder) -> float | None:
    """5th percentile of the validation photos' reconstruction PSNR, dB; None in older runs."""
    return run.stage("features").read_metadata().get("psnr_p5")


# ---- reading -----------------------------------------------------------------------------------


def read_description(path: Path, owner: Path) -> dict[str, Any]:
    """The content of a model.json file.

    Args:
        path: the file.
        owner: the model that it describes, for the error.

    Raises:
        UserError: it is missing, damaged or of another format.
    """
    try:
        return _parse_description(path.read_bytes(), path)
    except FileNotFoundError:
        raise UserError(
            f"{owner}: no attribute names ({path} is missing); put the file back, or {REMEDY}"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def tflite_description(path: Path, content: bytes) -> dict[str, Any]:
    """The description in a .tflite file's metadata, or else in the .json file next to it.

    Raises:
        UserError: it is missing, damaged or of another format.
    """
    model = schema.Model.GetRootAs(content, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == DESCRIPTION_NAME.encode():
            data = model.Buffers(entry.Buffer()).DataAsNumpy()
            return _parse_description(bytes(data) if np.ndim(data) else b"", path)
    return read_description(path.with_suffix(".json"), path)


def _parse_description(text: bytes, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
        number = content["format"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: damaged description of the model; {REMEDY}") from None
    if number != DESCRIPTION_FORMAT:
        raise UserError(
            f"{path}: description of format {number}, this version reads {DESCRIPTION_FORMAT}; "
            f"{REMEDY}"
        )
    return content


def _refuse_constant(name: str) -> None:
    """Refuses NaN and infinity, which Python reads but which are no JSON: no browser does."""
    raise ValueError(name)


class Facts(NamedTuple):
    """What `backends` needs of a description.

    Attributes:
        attributes: names of the K directions.
        resolution: side of the images, px.
        crop: `CELEBA_CROP` or `SQUARE_CROP`.
        psnr_p5: see `psnr_p5`.
    """

    attributes: tuple[str, ...]
    resolution: int
    crop: str
    psnr_p5: float | None = None


def facts(description: dict[str, Any], path: Path) -> Facts:
    """The facts of a description.

    Args:
        description: the content of model.json.
        path: the model that it describes, for the error.

    Raises:
        UserError: an entry is missing or makes no sense.
    """
    for key in ("attributes", "resolution", "crop"):
        if key not in description:
            raise UserError(f"{path}: its description lacks {key!r}; {REMEDY}")
    if not all(fits(description[key]) for key, fits in _ENTRIES.items() if key in description):
        raise UserError(f"{path}: damaged description of the model; {REMEDY}")
    names, resolution, crop = (description[key] for key in ("attributes", "resolution", "crop"))
    return Facts(tuple(names), resolution, crop, description.get("psnr_p5"))


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value <= _LARGEST_SIZE


# What the entries that are read here must be.
_LARGEST_SIZE = 2**14
_ENTRIES: dict[str, Callable[[Any], bool]] = {
    "attributes": _are_names,
    "scores": _are_names,
    "resolution": _is_size,
    "z_dim": _is_size,
    "crop": lambda value: value in (CELEBA_CROP, SQUARE_CROP),
    "prior": lambda value: value in ("normal", "uniform"),
    "psnr_p5": lambda value: (
        value is None or (type(value) in (int, float) and abs(value) < _LARGEST_SIZE)
    ),
}


# ---- writing ------------------------------------------------------------------------------------


def describe(run: RunFolder, config: Config, network: "EditingNetwork") -> dict[str, Any]:
    """The description of a run's editor, as plain JSON values.

    Args:
        run: the run folder.
        config: its resolved options.
        network: of that run, with its regressor and the custom attributes.
    """
    from cgan_tf.editing.models import read_directions

    generator = network.generator
    directions = read_directions(run, generator.latent_shape, custom=True)
    return {
        "format": DESCRIPTION_FORMAT,
        "attributes": list(network.attributes),
        "scores": list(network.regressor.attribute_names),
        "calibration": {name: entry.get("calibration", []) for name, entry in directions.items()},
        "image": {"layout": "NHWC", "dtype": "float32", "range": [-1.0, 1.0]},
        "resolution": network.resolution,
        "crop": training_crop(run),
        "psnr_p5": psnr_p5(run),
        "space": generator.space,
        "latent_shape": list(generator.latent_shape),
        "features_shape": list(network.codec.features_shape),
        "truncation": config.export.truncation,
        "z_dim": generator.z_dim,
        "prior": generator.prior,
        "signatures": signatures(network.features is not None),
        "hashes": model_hashes(run),
        "license": LICENSE_NOTES[config.data],
        "data": config.data,
        "versions": versions(),
    }


def model_hashes(run: RunFolder) -> dict[str, str]:
    """SHA-256 of each file that an export is made from, by its path in the run folder."""
    stages = [run.stage(name) for name in ("gan", "inversion", "features", "regressor")]
    paths = [path for stage in stages if (path := stage.model / "weights.h5").exists()]
    paths += sorted(run.stage("directions").model.glob("*.json"))
    paths += [run.custom_path(name) for name in run.custom_attributes()]
    return {path.relative_to(run.path).as_posix(): file_hash(path) for path in paths}
