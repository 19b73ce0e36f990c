"""The .tflite files of an export: their names, and the one that a page is made of.

Imports no TensorFlow, so that `cgan page` answers at once.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand
from cgan_tf.editing import description, named_models, tflite_file
from cgan_tf.editing.errors import EditorError
from cgan_tf.export import browser

NAMES = {
    "none": "translator_float32",
    "float16": "translator_float16",
    "dynamic": "translator_dynamic",
    "weight_int8": "translator_weight_int8",
    "int8": "translator_int8",
}  # file names by --quantize
PAGE_ORDER = ("dynamic", "weight_int8", "float16", "none")  # fastest first
_FORMS = "give a run folder, the folder of an export, a .tflite file or a name"


class DeviceModel(NamedTuple):
    """A model that a page can be made of.

    Attributes:
        path: the .tflite file.
        example: where a picture of a face may be, which the page starts with.
    """

    path: Path
    example: Path | None = None


def fastest(variants: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The fastest variant that passed and that a page can run, by --quantize; None if none did.

    Args:
        variants: the entries of report.json by file name.
    """
    passed = (kind for kind in PAGE_ORDER if variants.get(NAMES[kind], {}).get("passed"))
    return next(passed, None)


def find(model: str) -> DeviceModel:
    """The named model, or the model at a path: a .tflite file, a run or an export.

    Raises:
        EditorError: there is none; the reason names the remedy.
    """
    place = expand(model, "--model")
    try:
        named = named_models.folder_of(place)
        if named is None:
            place.stat()
    except OSError as error:
        hint = named_models.others(model) if named_models.is_name(model) else ""
        raise EditorError("model", f"{error.strerror}; {_FORMS}{hint}", model) from None
    if named is not None:
        named_models.read(named).check_hashes()
        return DeviceModel(named / named_models.MODEL, named / named_models.FACE)
    if place.is_file():
        return DeviceModel(place)
    run = (place / "config.json").exists()
    export = place / "export" if run else place
    kind = fastest(_variants(export / "report.json"))
    if kind is not None:
        return DeviceModel(export / f"{NAMES[kind]}.tflite", place / browser.EXAMPLE)
    if not run:
        raise EditorError("model", f"contains no .tflite file that passed; {_FORMS}", model)
    command = f"cgan export --run_dir={shlex.quote(str(place))} --formats=tflite --quantize=float16"
    restart = " --restart" if (export / "report.json").exists() else ""
    reason = f"has no exported .tflite file that passed; write one: {command}{restart}"
    raise EditorError("model", reason, model)


def page_files(model: DeviceModel) -> dict[str, bytes]:
    """The files of the model's page, see `browser.files`.

    Raises:
        EditorError: the file is not a TFLite model.
        UserError: it cannot be read, or its description is missing or damaged.
    """
    path = model.path
    try:
        content = path.read_bytes()
        has_example = model.example is not None and model.example.exists()
        example = model.example.read_bytes() if has_example else None
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    if content[4:8] != tflite_file.IDENTIFIER:
        raise EditorError("model", "not a TFLite model", str(path))
    tflite_file.has_checksum(path, content)
    try:
        described = description.tflite_description(path, content)
    except UserError:
        raise
    except Exception:  # a damaged file gives errors of many types
        raise UserError(f"{path}: damaged TFLite model; {description.REMEDY}") from None
    description.facts(described, path)
    kinds = {name: kind for kind, name in NAMES.items()}
    return browser.files(content, described, kinds.get(path.stem, "TFLite"), example)


def _variants(report: Path) -> dict[str, Any]:
    """The variants in an export's report.json; empty if it cannot be read."""
    try:
        variants = json.loads(report.read_text())["variants"]
        return {name: entry for name, entry in variants.items() if isinstance(entry, dict)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
