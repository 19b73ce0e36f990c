"""The acceptance limits of this project's reference runs, applied to the figures of one run.

    python -m benchmarks.acceptance --run_dir=runs/celeba64

Reads evaluate/report.json, evaluate/comparison_with_NAME.json (of `cgan evaluate`) and
export/report.json, and measures nothing itself. Photos (celeba, celeba_dir) and synthetic faces
have different limits. Exit code 1 if a limit is missed.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags

from cgan_tf.core import cli
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder, StageFolder
from cgan_tf.evaluation.figures import number
from cgan_tf.evaluation.report import FILE, read_comparisons, read_report

FLAGS = flags.FLAGS
flags.DEFINE_string("run_dir", None, "Run folder whose evaluate or export stage has finished.")

PHOTO_SOURCES = ("celeba", "celeba_dir")
FD_OVER_FLOOR, FD_32_RATIO = 12.0, 0.6
MEAN_ACCURACY = 0.875
ACCURACIES = {"Smiling": 0.90, "Male": 0.93, "Eyeglasses": 0.965}
CLOSER_THAN_RANDOM = 0.95
HYBRID_OVER_ENCODER, HYBRID_SECONDS = 0.6, 1.5
HYBRID_OVER_OPTIMIZE, HYBRID_TIME = 1.05, 0.25
PHOTO_CHANGE, PHOTO_LEAKAGE, PHOTO_RATIO = 0.4, 0.10, 3.0
PHOTO_TARGETS = ("Smiling", "Blond_Hair", "Male")  # attributes with limits on change and leakage
SET_ERROR, SET_ERROR_JUDGE = 0.10, 0.15
EQUAL_CHANGE_TARGETS = (*PHOTO_TARGETS, "Eyeglasses", "Young")
EQUAL_CHANGE_LEAKAGE, EQUAL_CHANGE_OVER_RANDOM = 0.08, 1 / 3
SYNTHETIC_CHANGE, SYNTHETIC_LEAKAGE = 0.6, 0.05
SYNTHETIC_MEAN_LEAKAGE = 0.03
SYNTHETIC_CLOSER_TO_TRUTH, SYNTHETIC_CLOSER_THAN_PHOTO = 0.80, 0.95
EXPORT_KEPT, EXPORT_LEAKAGE_ADDED, EXPORT_AGREEMENT = 0.95, 0.01, 0.98


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure with its limit."""

    name: str
    value: float | None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """Whether the value meets the limit; an undefined value does not."""
        if self.value is None:
            return False
        if self.at_least is not None:
            return self.value >= self.at_least
        return self.value <= self.at_most

    @property
    def limit(self) -> str:
        """The limit as text."""
        if self.at_least is not None:
            return f">= {self.at_least:.4g}"
        return f"<= {self.at_most:.4g}"


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def evaluation_rows(
    report: dict[str, Any], comparisons: dict[str, dict[str, Any]]
) -> Iterator[Row]:
    """The limits on evaluate/report.json and on the comparisons with other generators."""
    separability = report.get("separability")
    if separability:
        yield Row("separability of w, mean", separability["w"], at_least=separability["z"])
    if report["data"]["name"] in PHOTO_SOURCES:
        yield from _photo_rows(report, comparisons)
    if report["data"]["name"] == "synthetic":
        yield from _synthetic_rows(report)


def _photo_rows(report: dict[str, Any], comparisons: dict[str, dict[str, Any]]) -> Iterator[Row]:
    yield Row("fd / floor", report["generation"]["fd_over_floor"], at_most=FD_OVER_FLOOR)
    for name, blocks in comparisons.items():
        share = _ratio(blocks["run"]["fd_at_32"], blocks["other"]["fd_at_32"])
        yield Row(f"fd at 32 px / that of {name}", share, at_most=FD_32_RATIO)
    regressor = report["regressor"]
    accuracy = regressor["regressor"]["accuracy"]
    yield Row("regressor, mean accuracy", accuracy, at_least=MEAN_ACCURACY)
    for name, bound in ACCURACIES.items():
        if name in regressor["attributes"]:
            accuracy = regressor["attributes"][name]["accuracy"]
            yield Row(f"regressor, {name}", accuracy, at_least=bound)
    yield from _inversion_rows(report["inversion"])
    for name, entry in report["edits"]["learned"].items():
        if name in PHOTO_TARGETS:
            yield Row(f"{name}, target change", entry["target_change"], at_least=PHOTO_CHANGE)
            yield Row(f"{name}, leakage", entry["leakage"], at_most=PHOTO_LEAKAGE)
            ratio = entry["ratio_over_random"]
            yield Row(f"{name}, ratio / random's", ratio, at_least=PHOTO_RATIO)
    change = report["keep_detail"]["mean"]["keep_detail"]["target_change"]
    yield Row("--keep_detail, target change", change, at_least=PHOTO_CHANGE)
    block = report["set"]
    yield Row("--set, mean error", block["error"], at_most=SET_ERROR)
    yield Row("--set, mean error by the judge", block["error_judge"], at_most=SET_ERROR_JUDGE)
    for name, entry in report["comparison"]["attributes"].items():
        if name in EQUAL_CHANGE_TARGETS:
            leakage, share = (entry["learned"][key] for key in ("leakage", "leakage_over_random"))
            yield Row(f"{name}, leakage at equal change", leakage, at_most=EQUAL_CHANGE_LEAKAGE)
            yield Row(
                f"{name}, leakage / random's at equal change",
                share,
                at_most=EQUAL_CHANGE_OVER_RANDOM,
            )


def _inversion_rows(block: dict[str, Any]) -> Iterator[Row]:
    closer = block["encoder"]["closer_than_random"]
    yield Row("encoder, closer than random", closer, at_least=CLOSER_THAN_RANDOM)
    if "hybrid" not in block:  # --evaluate_projections=0
        return
    hybrid, optimize = block["hybrid"], block["optimize"]
    for name, above, below, bound in (
        (
            "distance / encoder's",
            hybrid["perceptual"],
            hybrid["perceptual_encoder"],
            HYBRID_OVER_ENCODER,
        ),
        ("seconds per image", hybrid["seconds_per_image"], 1.0, HYBRID_SECONDS),
        (
            "distance / optimize's",
            hybrid["perceptual"],
            optimize["perceptual"],
            HYBRID_OVER_OPTIMIZE,
        ),
        (
            "seconds to match optimize / its seconds",
            hybrid["seconds_to_match_optimize"],
            optimize["seconds_per_image"],
            HYBRID_TIME,
        ),
    ):
        yield Row(f"hybrid, {name}", _ratio(above, below), at_most=bound)


def _synthetic_rows(report: dict[str, Any]) -> Iterator[Row]:
    for name, entry in report["edits"]["learned"].items():
        yield Row(f"{name}, target change", entry["target_change"], at_least=SYNTHETIC_CHANGE)
        yield Row(f"{name}, leakage", entry["leakage"], at_most=SYNTHETIC_LEAKAGE)
    leakage = report["edits_mean"]["learned"]["leakage"]
    yield Row("mean leakage of the edits", leakage, at_most=SYNTHETIC_MEAN_LEAKAGE)
    for name, entry in report["counterfactual"].items():
        for key, bound in (
            ("closer_to_truth", SYNTHETIC_CLOSER_TO_TRUTH),
            ("closer_than_photo", SYNTHETIC_CLOSER_THAN_PHOTO),
            ("keep_detail_closer_than_photo", SYNTHETIC_CLOSER_THAN_PHOTO),
        ):
            yield Row(f"{name}, {key.replace('_', ' ')}", entry.get(key), at_least=bound)


def export_rows(report: dict[str, Any]) -> Iterator[Row]:
    """The limits on export/report.json: each variant's difference from Keras, and its edits."""
    for name, variant in report["variants"].items():
        rows = list(_variant_rows(name, variant))
        yield from rows
        if not variant["passed"] and not (rows and not rows[-1].met):
            yield Row(f"{name}: {variant['reason']}", None, at_least=1)


def _variant_rows(name: str, variant: dict[str, Any]) -> Iterator[Row]:
    signatures = variant.get("signatures", {}).values()
    differences = [figure["max_difference"] for figure in signatures]
    finite = differences and None not in differences
    if variant.get("bound") is not None:
        largest = max(differences) if finite else None
        yield Row(f"{name}, largest difference", largest, at_most=variant["bound"])
    if variant.get("psnr_bound") is not None and finite:
        psnrs = [figure["psnr"] for figure in signatures if figure["psnr"] is not None]
        yield Row(f"{name}, dB", min(psnrs), at_least=variant["psnr_bound"])
    if "edits" in variant:  # of the attribute with the worst figure
        attributes = variant["edits"]["attributes"].values()
        kept = [entry["kept"] for entry in attributes if entry["kept"] is not None]
        if kept:
            yield Row(f"{name}, change kept", min(kept), at_least=EXPORT_KEPT)
        added = max((entry["leakage_added"] for entry in attributes), default=None)
        yield Row(f"{name}, leakage added", added, at_most=EXPORT_LEAKAGE_ADDED)
        agreement = variant["edits"]["agreement"]
        yield Row(f"{name}, agreement", agreement, at_least=EXPORT_AGREEMENT)


def table(rows: list[Row]) -> str:
    """The rows as aligned text."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'figure':{width}}  {'value':>9}  {'limit':>9}"]
    for row in rows:
        verdict = "met" if row.met else "missed"
        lines.append(f"{row.name:{width}}  {number(row.value):>9}  {row.limit:>9}  {verdict}")
    lines.append(f"{sum(row.met for row in rows)} of {len(rows)} limits met")
    return "\n".join(lines)


def collect(run: RunFolder) -> list[Row]:
    """The rows of all reports of a run.

    Raises:
        UserError: no run folder, no report, or one of an older version.
    """
    run.load_config()
    evaluate, export = run.stage("evaluate"), run.stage("export")
    exported = _read_export(export)
    rows: list[Row] = []
    if exported is None or (evaluate.path / FILE).exists():
        rows += evaluation_rows(read_report(evaluate), read_comparisons(evaluate))
    return rows + list(export_rows(exported)) if exported else rows


def _read_export(stage: StageFolder) -> dict[str, Any] | None:
    path: Path = stage.path / FILE
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise UserError(
            f"{path}: the file is damaged; run python train_main.py --stage=export --restart "
            f"--run_dir={stage.run.path}"
        ) from None


def main() -> int:
    """Prints the table; returns 1 if a limit is missed."""
    cli.require("run_dir")
    rows = collect(RunFolder(FLAGS.run_dir))
    if not rows:
        raise UserError(f"--run_dir={FLAGS.run_dir}: no limit applies to this data")
    print(table(rows))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    cli.run(main)
