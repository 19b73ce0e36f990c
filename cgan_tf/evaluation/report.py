"""The files of an evaluate stage: report.json, and the comparisons with other runs' generators."""

import json
from pathlib import Path
from typing import Any

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import StageFolder

VERSION = 4  # of the layout of report.json, which `stages/evaluate.py` documents
FILE = "report.json"
COMPARISON = "comparison_with_"  # NAME.json, with the name of the other run's folder


def write_report(stage: StageFolder, report: dict[str, Any]) -> None:
    """Writes the report of the current version."""
    write_json(stage.path / FILE, {"version": VERSION, **report})


def read_report(stage: StageFolder) -> dict[str, Any]:
    """The report of a finished evaluate stage.

    Raises:
        UserError: there is none, it is damaged, or an older version has written it.
    """
    path = stage.path / FILE
    command = f"python train_main.py --stage=evaluate --run_dir={stage.run.path}"
    try:
        report = json.loads(path.read_text())
        version = report["version"]
    except FileNotFoundError:
        raise UserError(
            f"--run_dir={stage.run.path}: nothing has been measured yet; run {command}"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: the file is damaged; run {command} --restart") from None
    if version != VERSION:
        raise UserError(
            f"{path}: the report has version {version}, this program reads version {VERSION}; run "
            f"{command} --restart"
        )
    return report


def write_comparison(stage: StageFolder, generator_run: Path, comparison: dict[str, Any]) -> None:
    """Writes the comparison with the generator of another run."""
    write_json(stage.path / f"{COMPARISON}{generator_run.resolve().name}.json", comparison)


def read_comparisons(stage: StageFolder) -> dict[str, dict[str, Any]]:
    """All comparisons of an evaluate stage, by the name of the other run's folder.

    Raises:
        UserError: one is damaged.
    """
    found = {}
    for path in sorted(stage.path.glob(f"{COMPARISON}*.json")):
        try:
            found[path.stem.removeprefix(COMPARISON)] = json.loads(path.read_text())
        except ValueError:
            raise UserError(
                f"{path}: the file is damaged; run cgan evaluate --generator_run again"
            ) from None
    return found
