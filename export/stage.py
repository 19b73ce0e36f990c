"""The export stage: writes the editor as SavedModel and TFLite, and publishes what passes.

After directions, before `translate` in the chain. Everything is built in a temporary folder,
compared with Keras on the run's validation photos, and only then moved to its place:

    saved_model/1/                   for servers; any batch
    translator_float32.tflite .json  for devices; batch 1
    translator_float16.tflite .json  and likewise dynamic, weight_int8, int8
    page/                            the editor in a browser, a folder of static files
    model.json                       what an app must know (also inside each of them)
    report.json                      sizes, differences, edits, times, and the reason of a failure
    failed/                          what did not pass
"""

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cgan_tf import data, measure
from cgan_tf import run as run_module
from cgan_tf.config import Config
from cgan_tf.data import images
from cgan_tf.editors import DESCRIPTION_NAME, KerasEditor, SavedModelEditor, TFLiteEditor
from cgan_tf.errors import UserError
from cgan_tf.run import RunFolder
from cgan_tf.translator import Translator, finished_stage
from export import edits, parity, quantization, saved_model, summary, tflite
from export.description import describe, model_hashes

PHOTOS = 200  # validation photos behind the figures: the variants' bounds were chosen on such ones
# By --quantize. int8 rounds every value, so that a largest difference says little of it: bounded is
# the noise, at what the eye hardly sees on faces of this size, and where the edits still hold.
BOUNDS = {
    "none": parity.Bounds(max_difference=1e-4),
    "float16": parity.Bounds(max_difference=2e-2),
    "dynamic": parity.Bounds(psnr=30.0),
    "weight_int8": parity.Bounds(psnr=30.0),
    "int8": parity.Bounds(psnr=25.0),
}
VERSION = "1"  # folder of the SavedModel, as TensorFlow Serving wants it
PAGE_ORDER = ("dynamic", "weight_int8", "float16", "none")  # the fastest first
SPLIT = "validation"
PAGE = "page"
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
        dataset: its validation photos are what is compared; opened here if not given.
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
    source = _Source(config, folder, dataset, output, say)
    variants: dict[str, dict[str, Any]] = {}
    if "saved_model" in config.formats:
        variants["saved_model"] = _build_saved_model(source)
        say(summary.line("saved_model", variants["saved_model"]))
    if {"tflite", "page"} & set(config.formats):
        variants |= _build_tflite_variants(source)
    page = _build_page(source, variants) if "page" in config.formats else None
    run_module.write_json(output / DESCRIPTION_NAME, source.description)
    report = {
        "created": run_module.now(),
        "versions": run_module.versions(),
        "request": _request(config, folder),
        "photos": {"data": dataset.name, "split": SPLIT, "n": len(source.chosen)},
        "strengths": {"distribution": "U(-1, 1)", "seed": config.seed},
        "variants": variants,
        **({} if page is None else {"page": page}),
        "passed": all(part["passed"] for part in [*variants.values(), *([page] if page else [])]),
    }
    run_module.write_json(output / REPORT, report)
    say(summary.table(report))
    return report


# ---- variants ----------------------------------------------------------------------------------


class _Source:
    """What every variant is made from and compared with; each part is computed once."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        dataset: data.ImageData,
        output: Path,
        say: Callable[[str], None],
    ) -> None:
        self.config, self.folder, self.dataset = config, folder, dataset
        self.output, self.say = output, say
        self.translator = Translator.from_run(folder.path, scores=True, own=True)
        self.description = describe(folder, config, self.translator)
        self.text = json.dumps(self.description, indent=2, allow_nan=False) + "\n"
        self.keras = KerasEditor(self.translator, self.description["crop"])
        self.chosen = measure.choose(dataset.splits[SPLIT], PHOTOS, config.seed)
        self.inputs = parity.make_inputs(
            self.keras,
            images.to_float(dataset.read(self.chosen)),
            self.description["z_dim"],
            self.description["prior"],
            config.seed,
        )
        self.reference = {
            name: parity.run_batched(self.keras, name, self.inputs.of(name))
            for name in saved_model.FLOAT_SIGNATURES
        }

    @functools.cached_property
    def edits(self) -> edits.Edits:
        """What Keras's edits do."""
        scorer = edits.load_scorer(self.folder, self.translator)
        return edits.Edits(scorer, self.keras, self.dataset, self.chosen, self.inputs.image)

    def samples(self) -> quantization.Samples:
        """What int8 is calibrated with: photos that the models have learned from."""
        count, seed = quantization.CALIBRATION, self.config.seed
        chosen = measure.choose(self.dataset.splits["train"], count, seed)
        photos = images.to_float(self.dataset.read(chosen))
        return quantization.Samples(self.keras, photos, seed)


def _build_saved_model(source: _Source) -> dict[str, Any]:
    base = source.output / "saved_model"
    path = base / VERSION
    base.mkdir()
    saved_model.write(
        source.translator, path, description=source.description, crop=source.description["crop"]
    )
    expected = saved_model.weight_bytes([source.translator])
    reason = saved_model.check_weights(path, expected)
    bounds = BOUNDS["none"]
    measured = {}
    if reason is None:
        editor = SavedModelEditor(path)
        signatures = saved_model.FLOAT_SIGNATURES
        measured = parity.compare(source.reference, editor, source.inputs, signatures)
        reason = parity.verdict(measured, bounds)
    size = sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    facts = {"bytes": size, "weight_bytes": expected, "bound": bounds.max_difference}
    return _settle([base], source.output, reason, facts | {"signatures": measured})


def _build_tflite_variants(source: _Source) -> dict[str, dict[str, Any]]:
    variants = {}
    with tempfile.TemporaryDirectory(dir=source.output, prefix=_BUILDING) as temporary:
        device = Path(temporary) / "batch1"
        saved_model.write(source.translator, device, saved_model.DEVICE_SIGNATURES, batch=1)
        for quantize in dict.fromkeys(source.config.quantize):
            name = tflite.NAMES[quantize]
            variants[name] = _build_tflite(source, device, quantize)
            source.say(summary.line(name, variants[name]))
    return variants


def _build_tflite(source: _Source, device: Path, quantize: str) -> dict[str, Any]:
    path = source.output / f"{tflite.NAMES[quantize]}.tflite"
    samples = source.samples() if quantize == "int8" else None
    try:
        content = tflite.convert(device, quantize, source.text, samples)
    except UserError as error:
        return {"passed": False, "reason": str(error), "path": None}
    run_module.write_bytes(path, content)
    run_module.write_text(path.with_suffix(".json"), source.text)
    bounds = BOUNDS[quantize]
    facts = {
        "bytes": len(content),
        "weight_bytes": sum(map(len, tflite.constants(content))),
        "operators": tflite.operators(content),
        "bound": bounds.max_difference,
        "psnr_bound": bounds.psnr,
        "signatures": {},
    }
    reason = _check_tflite(source, content, quantize)
    if reason is None:
        measured, reason = _measure_tflite(source, TFLiteEditor(path, content), bounds)
        facts |= measured
    return _settle([path, path.with_suffix(".json")], source.output, reason, facts)


def _check_tflite(source: _Source, content: bytes, quantize: str) -> str | None:
    """What is wrong with the file's insides."""
    generator, encoder = source.translator.generator, source.translator.encoder
    weights = [*generator.weights, *encoder.weights, source.translator.directions]
    shapes = [tuple(weight.shape) for weight in weights]
    derived = getattr(generator, "derived_shapes", ())
    return tflite.check_file(content, shapes, tflite.WEIGHT_ITEMSIZE[quantize], derived)


def _measure_tflite(
    source: _Source, editor: TFLiteEditor, bounds: parity.Bounds
) -> tuple[dict[str, Any], str | None]:
    """The variant's figures, and what is wrong with them."""
    signatures = saved_model.DEVICE_SIGNATURES
    compared = parity.compare(source.reference, editor, source.inputs, signatures)
    measured = {
        "signatures": compared,
        "milliseconds": parity.latency(editor, source.inputs, signatures),
    }
    reason = parity.verdict(compared, bounds)
    if all(figure["finite"] for figure in compared.values()):
        measured["edits"] = source.edits.measure(editor)
        reason = reason or edits.verdict(measured["edits"])
    return measured, reason


def _build_page(source: _Source, variants: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The page's entry in the report; the page runs the fastest variant that has passed."""
    from export import page

    passed = [
        quantize
        for quantize in PAGE_ORDER
        if variants.get(tflite.NAMES[quantize], {}).get("passed")
    ]
    if not passed:
        needed = ", ".join(PAGE_ORDER)
        return {"passed": False, "reason": f"no variant for it has passed; it takes {needed}",
                "path": None, "variant": None}  # fmt: skip
    model = (source.output / f"{tflite.NAMES[passed[0]]}.tflite").read_bytes()
    folder = source.output / PAGE
    folder.mkdir()
    try:
        page.write(folder, model, source.description, passed[0])
    except UserError as error:
        shutil.rmtree(folder)
        return {"passed": False, "reason": str(error), "path": None, "variant": passed[0]}
    return {"passed": True, "reason": None, "path": PAGE, "variant": passed[0]}


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


def _refuse_failures(report: dict[str, Any], folder: Path) -> None:
    """UserError if a variant did not pass; those that did are published all the same."""
    parts = report["variants"] | ({"page": report["page"]} if "page" in report else {})
    failed = [name for name, part in parts.items() if not part["passed"]]
    if failed:
        reasons = "; ".join(f"{name}: {parts[name]['reason']}" for name in failed)
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
