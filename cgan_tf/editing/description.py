"""model.json: what an app must know to use an exported editor."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash
from cgan_tf.core.run_folder import RunFolder, versions
from cgan_tf.editing import detail
from cgan_tf.editing.detail import KeepDetail
from cgan_tf.editing.models import read_directions
from cgan_tf.editing.network import Translator

DESCRIPTION_FORMAT = 1  # of model.json
DESCRIPTION_NAME = "model.json"  # the file's name, the asset's, and the TFLite metadata's
ASSETS = "assets.extra"  # where a SavedModel keeps files that its graph does not read

CELEBA_CROP = "celeba"  # the centered 148 px square of 178 x 218 px, in proportion
SQUARE_CROP = "center_square"  # the largest centered square

LICENSE_NOTES = {
    "synthetic": "Trained on faces that cgan_tf draws itself; no third-party photo was used.",
    "celeba": "Trained on CelebA, which may be used for non-commercial research only; whether that "
    "binds this model is for its user to judge.",
    "folder": "Trained on the photos of its maker's own folder; ask the maker what they allow.",
}
SIGNATURES = {
    "translate": {"inputs": ["image", "strengths"], "output": "image"},
    "encode": {"inputs": ["image"], "output": "latent"},
    "generate": {"inputs": ["latent", "strengths"], "output": "image"},
    "sample": {"inputs": ["z"], "output": "image"},
    "attributes": {"inputs": ["image"], "output": "scores"},
    "translate_bytes": {"inputs": ["image_bytes", "strengths"], "output": "image_bytes"},
}


def training_crop(config: Config) -> str:
    """Which crop the training photos of a run had."""
    return CELEBA_CROP if config.data in ("celeba", "celeba_dir") else SQUARE_CROP


def psnr_p5(run: RunFolder) -> float | None:
    """What the inversion stage has found that nearly all validation photos reach, dB."""
    return run.stage("inversion").read_metadata().get("psnr_p5")


# ---- model.json -------------------------------------------------------------------------------

_REMEDY = "export it with cgan export"


def read_description(path: Path, owner: Path) -> dict[str, Any]:
    """A model.json file; UserError that names the model `owner` where it is missing or damaged."""
    try:
        return _parse_description(path.read_bytes(), path)
    except FileNotFoundError:
        raise UserError(
            f"{owner}: no attribute names ({path} is missing); put the file back, or {_REMEDY}"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def tflite_description(path: Path, content: bytes) -> dict[str, Any]:
    """The description inside the file, else the one in the .json beside it."""
    model = schema.Model.GetRootAs(content, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == DESCRIPTION_NAME.encode():
            data = model.Buffers(entry.Buffer()).DataAsNumpy()
            return _parse_description(bytes(data) if np.ndim(data) else b"", path)
    return read_description(path.with_suffix(".json"), path)


def _parse_description(text: bytes, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(text)
        number = content["format"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: damaged description of the model; {_REMEDY}") from None
    if number != DESCRIPTION_FORMAT:
        raise UserError(
            f"{path}: description of format {number}, this version reads {DESCRIPTION_FORMAT}; "
            f"{_REMEDY}"
        )
    return content


def _essentials(
    description: dict[str, Any], path: Path
) -> tuple[tuple[str, ...], int, str, float | None, KeepDetail | None]:
    try:
        names, resolution = description["attributes"], description["resolution"]
        crop = description["crop"]
    except KeyError as error:
        raise UserError(f"{path}: its description lacks {error}; {_REMEDY}") from None
    if not (
        isinstance(names, list)
        and names
        and all(isinstance(name, str) for name in names)
        and isinstance(resolution, int)
        and crop in (CELEBA_CROP, SQUARE_CROP)
    ):
        raise UserError(f"{path}: damaged description of the model; {_REMEDY}")
    keep = KeepDetail.of(description.get("keep_detail"), names, resolution, path)
    return tuple(names), resolution, crop, description.get("psnr_p5"), keep


def _reason(error: Exception) -> str:
    """The first line of a library's error, cut to what one line holds."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:120]


# ---- writing ------------------------------------------------------------------------------------


def describe(run: RunFolder, config: Config, translator: Translator) -> dict[str, Any]:
    """The description of a run's editor, as plain JSON values.

    Args:
        run: the run folder that the translator came from.
        config: its resolved options.
        translator: with its regressor.
    """
    generator = translator.generator
    directions = read_directions(run, generator.latent_shape, own=True)
    source = "celeba" if config.data.startswith("celeba") else config.data
    return {
        "format": DESCRIPTION_FORMAT,
        "attributes": list(translator.attributes),
        "scores": list(translator.regressor.attribute_names),
        "calibration": {name: entry.get("calibration", []) for name, entry in directions.items()},
        "keep_detail": detail.entries(directions),
        "image": {"layout": "NHWC", "dtype": "float32", "range": [-1.0, 1.0]},
        "resolution": translator.resolution,
        "crop": training_crop(config),
        "psnr_p5": psnr_p5(run),
        "space": generator.space,
        "latent_shape": list(generator.latent_shape),
        "truncation": config.export.truncation,
        "z_dim": generator.z_dim,
        "prior": generator.prior,
        "signatures": SIGNATURES,
        "hashes": model_hashes(run),
        "license": LICENSE_NOTES[source],
        "data": config.data,
        "versions": versions(),
    }


def model_hashes(run: RunFolder) -> dict[str, str]:
    """SHA-256 of each artifact that an export is made of, by its path in the run folder."""
    paths = [run.stage(name).model / "weights.h5" for name in ("gan", "inversion", "regressor")]
    paths += sorted(run.stage("directions").model.glob("*.json"))
    paths += [run.custom_path(name) for name in run.custom_attributes()]
    return {path.relative_to(run.path).as_posix(): file_hash(path) for path in paths}
