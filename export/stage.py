"""The export stage: writes the editor as SavedModel and TFLite, and publishes what passes.

Needs the stages up to directions. Everything is built in a temporary folder, compared with Keras on
the run's validation photos, and only then moved to its final place:

    saved_model/1/                   for servers; any batch
    translator_float32.tflite .json  for devices; batch 1
    translator_float16.tflite .json  likewise dynamic, weight_int8, int8
    page/                            the editor for browsers, a folder of static files
    model.json                       what an app needs to know (also inside each of them)
    report.json                      sizes, differences, edits, times, and why a variant failed
    failed/                          the variants that did not pass
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cgan_tf import data
from cgan_tf.core import cli, run_folder
from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import move_aside, sync_folder, write_json
from cgan_tf.core.folders import building, replacing_folder
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.editing.description import DESCRIPTION_NAME, model_hashes
from cgan_tf.editing.models import finished_stage
from cgan_tf.export import summary, variants

REPORT = "report.json"


def run(
    config: Config,
    folder: RunFolder,
    dataset: data.ImageData | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Runs the stage: exports into `folder`/export.

    Args:
        config: the run's resolved options; `formats` and `quantize` select what to write.
        folder: the run folder, locked by the caller.
        dataset: Keras and the exports are compared on its validation photos; opened if not given.
        say: prints a line for the user.

    Raises:
        UserError: a previous stage has not finished, or a variant did not pass.
    """
    stage = folder.stage("export")
    dataset = dataset or data.open_data(config, say)
    if stage.path.exists() and not stage.finished() and _has_content(stage.path):
        say(f"export: the unfinished export is now {move_aside(stage.path)}")
    if not stage.begin(config, dataset.digest, say):
        return
    with building(stage.path.resolve(), str(stage.path)) as new:
        report = build(config, folder, dataset, new, say)
        # The stage's folder stays. The report comes last: it marks the export as complete.
        for entry in sorted(new.iterdir(), key=lambda entry: entry.name == REPORT):
            os.replace(entry, stage.path / entry.name)
        sync_folder(stage.path)
    _refuse_failures(report, stage.path)
    stage.finish()


def export_to(
    config: Config,
    folder: RunFolder,
    output: Path,
    restart: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Exports into a folder of the user's choice, completely or not at all.

    Args:
        config: the run's resolved options; `formats` and `quantize` select what to write.
        folder: the run folder.
        output: the folder; an existing export is kept.
        restart: move an existing export aside.
        say: prints a line for the user.

    Raises:
        UserError: as `run`, or `output` contains something else, or another process is writing to
            it.
    """
    require_finished(folder)
    state = _existing(config, folder, output, restart)
    if state == "finished":
        say(f"export: {output} is finished; nothing to do (--restart starts over)")
        return
    target = output.resolve()  # of a link, and of the folder "."
    cli.require_writable(f"--output={output}", target.parent)
    dataset = data.open_data(config, say)
    with replacing_folder(target, f"--output={output}") as new:
        report = build(config, folder, dataset, new, say)
        if state == "old" and target.exists():  # one that has appeared meanwhile is kept
            say(f"export: the old export is now {move_aside(target)}")
    _refuse_failures(report, output)


def require_finished(folder: RunFolder) -> None:
    """Raises a UserError for the first stage that an export needs and that has not finished."""
    for name in ("gan", "regressor", "inversion", "features", "directions"):
        finished_stage(folder, name)


def build(
    config: Config,
    folder: RunFolder,
    dataset: data.ImageData,
    output: Path,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Writes and checks every variant in the empty folder `output`; returns its report.json.

    A variant that does not pass goes into `failed/`; the report gives the reason.
    """
    source = variants.Source(config, folder, dataset)
    built: dict[str, dict[str, Any]] = {}
    if "saved_model" in config.export.formats:
        built["saved_model"] = variants.build_saved_model(source, output)
        say(summary.line("saved_model", built["saved_model"]))
    if {"tflite", "page"} & set(config.export.formats):
        for name, variant in variants.build_tflite(source, config.export.quantize, output):
            built[name] = variant
            say(summary.line(name, variant))
    page = {}
    if "page" in config.export.formats:
        page = {"page": variants.build_page(source.description, built, output)}
    write_json(output / DESCRIPTION_NAME, source.description)
    report = {
        "created": run_folder.now(),
        "versions": run_folder.versions(),
        "request": _request(config, folder),
        "photos": {"data": dataset.name, "split": variants.SPLIT, "n": len(source.chosen)},
        "strengths": {"distribution": "U(-1, 1)", "seed": config.seed},
        "variants": built,
        **page,
        "passed": all(part["passed"] for part in (built | page).values()),
    }
    write_json(output / REPORT, report)
    say(summary.table(report))
    return report


def _refuse_failures(report: dict[str, Any], folder: Path) -> None:
    """Raises UserError if a variant did not pass; the others are published all the same."""
    parts = report["variants"] | ({"page": report["page"]} if "page" in report else {})
    failed = [name for name, part in parts.items() if not part["passed"]]
    if failed:
        reasons = "; ".join(f"{name}: {parts[name]['reason']}" for name in failed)
        raise UserError(f"export: not published: {reasons} (see {folder / REPORT})")


# ---- existing exports --------------------------------------------------------------------------


def _has_content(folder: Path) -> bool:
    """Whether a stage folder contains more than the metadata of a stage that has only begun."""
    return any(entry.name != "metadata.json" for entry in folder.iterdir())


def _request(config: Config, folder: RunFolder) -> dict[str, Any]:
    """What determines an export's content: equal requests give equal exports."""
    return {
        "formats": sorted(set(config.export.formats)),
        "quantize": sorted(set(config.export.quantize)),
        "hashes": model_hashes(folder),
    }


def _existing(config: Config, folder: RunFolder, output: Path, restart: bool) -> str:
    """What `output` is: "new", "finished", or an "old" export, which may be moved aside.

    Raises:
        UserError: `output` contains something else, or an export that must stay.
    """
    if not output.exists():
        return "new"
    if not output.is_dir():
        raise UserError(f"--output={output}: is a file; give a folder")
    if not any(output.iterdir()):
        return "new"
    try:
        old = json.loads((output / REPORT).read_text())
        passed, request = old["passed"], old["request"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"--output={output}: is not empty and contains no export; choose another folder"
        ) from None
    if passed and not restart:
        if request == _request(config, folder):
            return "finished"
        raise UserError(
            f"--output={output}: contains an export of other models or formats; choose another "
            "folder, or add --restart, which moves the old one aside"
        )
    return "old"
