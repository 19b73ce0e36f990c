"""The export stage: writes the editor as SavedModel and TFLite, and publishes what passes.

After directions, before `translate` in the chain. Everything is built in a temporary folder,
compared with Keras on the run's test photos, and only then moved to its place:

    saved_model/                     for servers; any batch
    translator_float32.tflite .json  for devices; batch 1
    translator_float16.tflite .json
    model.json                       what an app must know (also inside each of them)
    report.json                      sizes, differences, operators, and the reason of a failure
    failed/                          what did not pass
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cgan_tf import data
from cgan_tf import run as run_module
from cgan_tf.config import Config
from cgan_tf.data import images
from cgan_tf.editors import DESCRIPTION_NAME, KerasEditor, SavedModelEditor, TFLiteEditor
from cgan_tf.errors import UserError
from cgan_tf.run import RunFolder
from cgan_tf.translator import Translator, finished_stage
from export import parity, saved_model, tflite
from export.description import describe, model_hashes

PHOTOS = 64  # test photos behind the parity figures
BOUNDS = {"none": 1e-4, "float16": 2e-2}  # max absolute difference to Keras, by --quantize
REPORT = "report.json"
_FAILED = "failed"
_BUILDING = ".building-"


def run(
    config: Config,
    folder: RunFolder,
    dataset: data.ImageData | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """The stage: exports into `folder`/export.

    Args:
        config: the run's resolved options; `formats` and `quantize` say what to write.
        folder: the run folder, locked.
        dataset: its test photos are what is compared; opened here if not given.
        say: where lines for the user go.

    Raises:
        UserError: a stage that this one needs has not finished, or a variant did not pass.
    """
    stage = folder.stage("export")
    dataset = dataset or data.open_data(config, say)
    if stage.path.exists() and not stage.finished() and _has_content(stage.path):
        say(f"export: the unfinished export is now {run_module.set_aside(stage.path)}")
    if not stage.begin(config, dataset.digest, say):
        return
    building = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=stage.path))
    try:
        report = build(config, folder, dataset, building, say)
        # The report comes last: with it the export is whole.
        for entry in sorted(building.iterdir(), key=lambda entry: entry.name == REPORT):
            os.replace(entry, stage.path / entry.name)
        run_module.sync_folder(stage.path)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    _refuse_failures(report, stage.path)
    stage.finish()


def export_to(
    config: Config,
    folder: RunFolder,
    output: Path,
    restart: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Exports into a folder of the user's choice, whole or not at all.

    Args:
        config: the run's resolved options; `formats` and `quantize` say what to write.
        folder: the run folder.
        output: the folder; an export that is already there is kept.
        restart: move an export that is already there aside.
        say: where lines for the user go.

    Raises:
        UserError: as `run`, or `output` holds something else.
    """
    for name in ("gan", "regressor", "inversion", "directions"):
        finished_stage(folder, name)
    if not _make_room(config, folder, output, restart, say):
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{output.name}{_BUILDING}", dir=output.parent))
    except OSError as error:
        raise UserError(f"--output={output}: {error.strerror}; choose another folder") from None
    try:
        report = build(config, folder, data.open_data(config, say), building, say)
        building.chmod(0o755)  # mkdtemp's own is private
        os.replace(building, output)
        run_module.sync_folder(output.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    _refuse_failures(report, output)


def build(
    config: Config,
    folder: RunFolder,
    dataset: data.ImageData,
    output: Path,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Writes and checks every variant in the empty folder `output`; returns what report.json says.

    A variant that does not pass is in its `failed/`, and the report has the reason.
    """
    translator = Translator.from_run(folder.path, scores=True, own=True)
    description = describe(folder, config, translator)
    keras_editor = KerasEditor(translator, description["crop"])
    chosen = dataset.splits["test"][:PHOTOS]
    inputs = parity.make_inputs(
        keras_editor,
        images.to_float(dataset.read(chosen)),
        description["z_dim"],
        description["prior"],
        config.seed,
    )
    reference = {
        name: parity.run_batched(keras_editor, name, inputs.of(name))
        for name in saved_model.SERVER_SIGNATURES
    }
    variants: dict[str, dict[str, Any]] = {}
    if "saved_model" in config.formats:
        variants["saved_model"] = _build_saved_model(
            translator, description, output, reference, inputs
        )
        _say_variant("saved_model", variants["saved_model"], say)
    if "tflite" in config.formats:
        with tempfile.TemporaryDirectory(dir=output, prefix=_BUILDING) as temporary:
            device = Path(temporary) / "batch1"
            saved_model.write(translator, device, saved_model.DEVICE_SIGNATURES, batch=1)
            for quantize in dict.fromkeys(config.quantize):
                name = tflite.NAMES[quantize]
                variants[name] = _build_tflite(
                    translator, description, device, quantize, output, reference, inputs
                )
                _say_variant(name, variants[name], say)
    run_module.write_json(output / DESCRIPTION_NAME, description)
    report = {
        "created": run_module.now(),
        "versions": run_module.versions(),
        "request": _request(config, folder),
        "photos": {"data": dataset.name, "split": "test", "n": len(chosen)},
        "strengths": {"distribution": "U(-1, 1)", "seed": config.seed},
        "variants": variants,
        "passed": all(variant["passed"] for variant in variants.values()),
    }
    run_module.write_json(output / REPORT, report)
    return report


# ---- variants ----------------------------------------------------------------------------------


def _build_saved_model(
    translator: Translator,
    description: dict[str, Any],
    output: Path,
    reference: dict[str, np.ndarray],
    inputs: parity.Inputs,
) -> dict[str, Any]:
    path = output / "saved_model"
    saved_model.write(translator, path, description=description)
    expected = saved_model.weight_bytes([translator])
    reason = saved_model.check_weights(path, expected)
    figures = {}
    if reason is None:
        figures = parity.compare(
            reference, SavedModelEditor(path), inputs, saved_model.SERVER_SIGNATURES
        )
        reason = parity.verdict(figures, BOUNDS["none"])
    size = sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    facts = {"bytes": size, "weight_bytes": expected, "bound": BOUNDS["none"]}
    return _settle([path], output, reason, facts | {"signatures": figures})


def _build_tflite(
    translator: Translator,
    description: dict[str, Any],
    device: Path,
    quantize: str,
    output: Path,
    reference: dict[str, np.ndarray],
    inputs: parity.Inputs,
) -> dict[str, Any]:
    path = output / f"{tflite.NAMES[quantize]}.tflite"
    text = json.dumps(description, indent=2, allow_nan=False) + "\n"
    try:
        content = tflite.convert(device, quantize, text)
    except UserError as error:
        return {"passed": False, "reason": str(error), "path": None}
    run_module.write_bytes(path, content)
    run_module.write_text(path.with_suffix(".json"), text)
    models = (translator.generator, translator.encoder)
    weights = [*(weight for model in models for weight in model.weights), translator.directions]
    shapes = [tuple(weight.shape) for weight in weights]
    derived = getattr(translator.generator, "derived_shapes", ())
    reason = tflite.check_file(content, shapes, tflite.WEIGHT_ITEMSIZE[quantize], derived)
    figures = {}
    if reason is None:
        editor = TFLiteEditor(path, content)
        figures = parity.compare(reference, editor, inputs, saved_model.DEVICE_SIGNATURES)
        reason = parity.verdict(figures, BOUNDS[quantize])
    facts = {
        "bytes": len(content),
        "weight_bytes": sum(map(len, tflite.constants(content))),
        "operators": tflite.operators(content),
        "bound": BOUNDS[quantize],
        "signatures": figures,
    }
    return _settle([path, path.with_suffix(".json")], output, reason, facts)


def _settle(
    paths: list[Path], output: Path, reason: str | None, facts: dict[str, Any]
) -> dict[str, Any]:
    """The variant's entry in the report; puts its files aside if there is a reason to."""
    if reason is not None:
        (output / _FAILED).mkdir(exist_ok=True)
        for path in paths:
            os.replace(path, output / _FAILED / path.name)
    place = Path(_FAILED, paths[0].name) if reason is not None else Path(paths[0].name)
    return {"passed": reason is None, "reason": reason, "path": place.as_posix()} | facts


def _say_variant(name: str, variant: dict[str, Any], say: Callable[[str], None]) -> None:
    if not variant["passed"]:
        say(f"export: {name}: FAILED: {variant['reason']}")
        return
    worst = max(figure["max_difference"] for figure in variant["signatures"].values())
    say(
        f"export: {name}: {variant['bytes'] / 1e6:.2f} MB, at most {worst:.1e} from Keras "
        f"(bound {variant['bound']:g})"
    )


def _refuse_failures(report: dict[str, Any], folder: Path) -> None:
    """UserError if a variant did not pass; those that did are published all the same."""
    failed = [name for name, variant in report["variants"].items() if not variant["passed"]]
    if failed:
        reasons = "; ".join(f"{name}: {report['variants'][name]['reason']}" for name in failed)
        raise UserError(f"export: not published: {reasons} (see {folder / REPORT})")


# ---- what is already there ---------------------------------------------------------------------


def _has_content(folder: Path) -> bool:
    """Whether a stage folder holds more than the notes of a stage that has only begun."""
    for entry in folder.iterdir():
        if entry.name.startswith(_BUILDING):  # left by a process that was killed
            shutil.rmtree(entry)
    return any(entry.name != "metadata.json" for entry in folder.iterdir())


def _request(config: Config, folder: RunFolder) -> dict[str, Any]:
    """What decides an export's content: equal requests make equal exports."""
    return {
        "formats": sorted(set(config.formats)),
        "quantize": sorted(set(config.quantize)),
        "hashes": model_hashes(folder),
    }


def _make_room(
    config: Config, folder: RunFolder, output: Path, restart: bool, say: Callable[[str], None]
) -> bool:
    """Whether there is something to do; an export in the way is moved aside if it may be."""
    if not output.exists():
        return True
    if not output.is_dir():
        raise UserError(f"--output={output}: is a file; give a folder")
    if not any(output.iterdir()):
        return True
    try:
        old = json.loads((output / REPORT).read_text())
        passed, request = old["passed"], old["request"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"--output={output}: is not empty and holds no export; choose another folder"
        ) from None
    if passed and not restart:
        if request == _request(config, folder):
            say(f"export: {output} is finished; nothing to do (--restart begins anew)")
            return False
        raise UserError(
            f"--output={output}: holds an export of other models or formats; choose another "
            "folder, or --restart, which moves the old one aside"
        )
    say(f"export: the old export is now {run_module.set_aside(output)}")
    return True
