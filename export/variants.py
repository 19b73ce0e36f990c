"""The variants of an export: writes each one, measures it, and sets it aside if it fails.

Called by `export.stage`, which publishes the variants; calls the modules that write (`saved_model`,
`tflite`, `browser`) and measure (`parity`, `gates`). A variant's entry in report.json states
whether it passed, the reason if not, its path, and its figures.
"""

import functools
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import names_full_disk, write_bytes, write_text
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import ImageData, images
from cgan_tf.editing.backends import KerasBackend, SavedModelBackend, TFLiteBackend
from cgan_tf.editing.description import describe
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.evaluation.batching import choose
from cgan_tf.export import (
    browser,
    device_files,
    device_generator,
    gates,
    parity,
    quantization,
    saved_model,
    tflite,
)

SPLIT = "validation"  # the bounds were chosen on this split; the test split is for evaluation
PHOTOS = 200  # photos of that split that the figures are measured on
# By --quantize. int8 rounds every value, so its maximum difference is not informative. Instead the
# noise is bounded, at a level that is hardly visible on faces of this size and keeps the edits.
BOUNDS = {
    "none": parity.Bounds(max_difference=1e-4),
    "float16": parity.Bounds(max_difference=2e-2),
    "dynamic": parity.Bounds(psnr=30.0),
    "weight_int8": parity.Bounds(psnr=30.0),
    "int8": parity.Bounds(psnr=25.0),
}
VERSION = "1"  # folder of the SavedModel, in TensorFlow Serving's layout
PAGE = "page"
_FAILED = "failed"

Entry = dict[str, Any]


class Source:
    """The models and photos that every variant is made from and compared with."""

    def __init__(self, config: Config, folder: RunFolder, dataset: ImageData) -> None:
        self.config, self.folder, self.dataset = config, folder, dataset
        self.network = EditingNetwork.from_run(folder.path, scores=True, custom=True)
        self.description = describe(folder, config, self.network)
        self.text = json.dumps(self.description, indent=2, allow_nan=False) + "\n"
        self.keras = KerasBackend(self.network, self.description["crop"])
        self.chosen = choose(dataset.splits[SPLIT], PHOTOS, config.seed)
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
    def edits(self) -> gates.Edits:
        """The effect of Keras's edits, the baseline of the second check."""
        scorer = gates.load_scorer(self.folder, self.network)
        return gates.Edits(scorer, self.keras, self.dataset, self.chosen, self.inputs.image)

    def samples(self) -> quantization.Samples:
        """Training photos, with which int8 is calibrated."""
        count, seed = quantization.CALIBRATION, self.config.seed
        chosen = choose(self.dataset.splits["train"], count, seed)
        photos = images.to_float(self.dataset.read(chosen))
        return quantization.Samples(self.keras, photos, seed)


def build_saved_model(source: Source, output: Path) -> Entry:
    """Writes saved_model/1 in the folder `output`."""
    base = output / "saved_model"
    path = base / VERSION
    base.mkdir()
    saved_model.write(
        source.network, path, description=source.description, crop=source.description["crop"]
    )
    expected = saved_model.weight_bytes([source.network])
    reason = saved_model.check_weights(path, expected)
    bounds = BOUNDS["none"]
    measured = {}
    if reason is None:
        backend = SavedModelBackend(path)
        signatures = saved_model.FLOAT_SIGNATURES
        measured = parity.compare(source.reference, backend, source.inputs, signatures)
        reason = parity.verdict(measured, bounds)
    size = sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    facts = {"bytes": size, "weight_bytes": expected, "bound": bounds.max_difference}
    return _settle([base], output, reason, facts | {"signatures": measured})


def build_tflite(source: Source, kinds: Sequence[str], output: Path) -> Iterator[tuple[str, Entry]]:
    """Writes the variants of --quantize in the folder `output`; yields each name and entry."""
    with tempfile.TemporaryDirectory(prefix="cgan_tf_export_") as temporary:
        batch1 = Path(temporary) / "batch1"
        network = device_generator.for_device(source.network)
        with names_full_disk(batch1):
            saved_model.write(network, batch1, saved_model.DEVICE_SIGNATURES, batch=1)
        for quantize in dict.fromkeys(kinds):
            entry = _build_tflite(source, network, batch1, quantize, output)
            yield device_files.NAMES[quantize], entry


def _build_tflite(
    source: Source, network: EditingNetwork, batch1: Path, quantize: str, output: Path
) -> Entry:
    """Writes one variant from `batch1`, the SavedModel of `network`."""
    path = output / f"{device_files.NAMES[quantize]}.tflite"
    samples = source.samples() if quantize == "int8" else None
    try:
        content = tflite.convert(batch1, quantize, source.text, samples)
    except UserError as error:
        return {"passed": False, "reason": str(error), "path": None}
    write_bytes(path, content)
    write_text(path.with_suffix(".json"), source.text)
    bounds = BOUNDS[quantize]
    facts = {
        "bytes": len(content),
        "weight_bytes": sum(map(len, tflite.constants(content))),
        "operators": tflite.operators(content),
        "bound": bounds.max_difference,
        "psnr_bound": bounds.psnr,
        "signatures": {},
    }
    reason = _check_tflite(network, content, quantize)
    if reason is None:
        measured, reason = _measure_tflite(source, TFLiteBackend(path, content), bounds)
        facts |= measured
    return _settle([path, path.with_suffix(".json")], output, reason, facts)


def _check_tflite(network: EditingNetwork, content: bytes, quantize: str) -> str | None:
    """None if the file's operators and weights are as expected, else the reason."""
    generator, encoder = network.generator, network.encoder
    weights = [*generator.weights, *encoder.weights, network.directions]
    weights += network.features.weights if network.features is not None else []
    shapes = [tuple(weight.shape) for weight in weights]
    derived, absent = (getattr(generator, name, ()) for name in ("derived_shapes", "absent_shapes"))
    return tflite.check_file(content, shapes, tflite.WEIGHT_ITEMSIZE[quantize], derived, absent)


def _measure_tflite(
    source: Source, backend: TFLiteBackend, bounds: parity.Bounds
) -> tuple[Entry, str | None]:
    """The variant's figures, and the reason if they are out of bounds."""
    signatures = saved_model.DEVICE_SIGNATURES
    compared = parity.compare(source.reference, backend, source.inputs, signatures)
    measured = {
        "signatures": compared,
        "milliseconds": parity.latency(backend, source.inputs, signatures),
    }
    reason = parity.verdict(compared, bounds)
    if all(figure["finite"] for figure in compared.values()):
        measured["edits"] = source.edits.measure(backend)
        reason = reason or gates.verdict(measured["edits"])
    return measured, reason


def build_page(description: Entry, variants: Mapping[str, Entry], output: Path) -> Entry:
    """Writes page/ in the folder `output`, with the fastest variant that passed.

    Args:
        description: content of model.json.
        variants: entries of the TFLite variants, by name; those that passed are in `output`.
        output: the export's folder.
    """
    chosen = device_files.fastest(variants)
    if chosen is None:
        kinds = ", ".join(device_files.PAGE_ORDER)
        reason = f"no suitable variant has passed; the page takes {kinds}"
        return {"passed": False, "reason": reason, "path": None, "variant": None}
    model = (output / f"{device_files.NAMES[chosen]}.tflite").read_bytes()
    browser.write(browser.files(model, description, chosen), output / PAGE)
    return {"passed": True, "reason": None, "path": PAGE, "variant": chosen}


def _settle(paths: list[Path], output: Path, reason: str | None, facts: Entry) -> Entry:
    """The variant's entry in the report; with a reason, its files move into failed/."""
    if reason is not None:
        (output / _FAILED).mkdir(exist_ok=True)
        for path in paths:
            os.replace(path, output / _FAILED / path.name)
    place = Path(_FAILED, paths[0].name) if reason is not None else Path(paths[0].name)
    return {"passed": reason is None, "reason": reason, "path": place.as_posix()} | facts
