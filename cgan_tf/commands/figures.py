"""Prints a run's measured figures beside the project's bars.

    cgan figures --run_dir=RUN_DIR

Reads what the evaluate and export stages left (evaluate/report.json, evaluate/against_NAME.json
of `cgan evaluate`, export/report.json) and measures nothing itself. Photos and drawn
faces have bars of their own; a figure without one is printed for information.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from absl import flags

from cgan_tf.commands.evaluate import read_comparisons
from cgan_tf.core import cli
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder, StageFolder

PHOTO_SOURCES = ("celeba", "celeba_dir")
FD_OVER_FLOOR, FD_32_RATIO = 12.0, 0.6
MEAN_ACCURACY = 0.875
ACCURACIES = {"Smiling": 0.90, "Male": 0.93, "Eyeglasses": 0.965}
NEARER_THAN_RANDOM = 0.95
HYBRID_OVER_ENCODER, HYBRID_SECONDS = 0.6, 1.5
HYBRID_OVER_OPTIMIZE, HYBRID_TIME = 1.05, 0.25
PHOTO_CHANGE, PHOTO_LEAKAGE, PHOTO_RATIO = 0.4, 0.10, 3.0
PHOTO_TARGETS = ("Smiling", "Blond_Hair", "Male")  # the attributes that the change is asked of
SET_ERROR, SET_ERROR_JUDGE = 0.10, 0.15
KEEP_DETAIL_IDENTITY = 0.90
MATCHED_TARGETS = (*PHOTO_TARGETS, "Eyeglasses", "Young")
MATCHED_LEAKAGE, MATCHED_OVER_RANDOM = 0.08, 1 / 3
DRAWN_CHANGE, DRAWN_LEAKAGE, DRAWN_NEARER = 0.6, 0.05, 0.80
DRAWN_MEAN_LEAKAGE, DRAWN_BEATS = 0.03, 0.95


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure, taken on n; `at_least` or `at_most` is its bar, if it has one.

    `interval` is [low, high], within which it lies with 95 %, if that was measured.
    """

    name: str
    value: float | None
    at_least: float | None = None
    at_most: float | None = None
    n: int | None = None
    interval: list[float] | None = None

    @property
    def verdict(self) -> str:
        """ "met", "MISSED", or nothing where there is no bar."""
        if self.at_least is None and self.at_most is None:
            return ""
        if self.value is None:
            return "MISSED"
        low = self.at_least is None or self.value >= self.at_least
        high = self.at_most is None or self.value <= self.at_most
        return "met" if low and high else "MISSED"

    @property
    def bar(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:.4g}"
        return f"<= {self.at_most:.4g}" if self.at_most is not None else ""


    @property
    def spread(self) -> str:
        """Half the interval's width."""
        if self.interval is None:
            return ""
        low, high = self.interval
        return f"±{(high - low) / 2:.2g}"


def evaluation_rows(report: dict[str, Any], comparisons: dict[str, dict[str, Any]]) -> list[Row]:
    """The rows of evaluate/report.json and of the comparisons with other runs' generators."""
    photos = report["data"]["name"] in PHOTO_SOURCES
    drawn = report["data"]["name"] == "synthetic"
    generation, encoder = report["generation"], report["inversion"]["encoder"]
    fakes = generation["n_fake"]
    rows = [
        Row("fd", generation["fd"], n=fakes),
        Row("fd, floor", generation["fd_floor"], n=generation["n_floor"]),
        Row("fd / floor", generation["fd_over_floor"],
            at_most=FD_OVER_FLOOR if photos else None, n=fakes),
        Row("fd at 32 px", generation["fd_at_32"], n=fakes),
    ]  # fmt: skip
    for name, blocks in comparisons.items():
        other = blocks["other"]["fd_at_32"]
        rows.append(Row(f"fd at 32 px / that of {name}",
                        blocks["run"]["fd_at_32"] / other if other else None,
                        at_most=FD_32_RATIO if photos else None,
                        n=blocks["other"]["n_fake"]))  # fmt: skip
    rows += [
        Row("precision", generation["precision"], n=generation["n_real"]),
        Row("recall", generation["recall"], n=generation["n_real"]),
    ]

    separability = report.get("separability")
    if separability:
        rows += [
            Row("separability of z, mean", separability["z"], n=separability["n"]),
            Row("separability of w, mean", separability["w"], at_least=separability["z"],
                n=separability["n"]),
        ]  # fmt: skip

    regressor = report["regressor"]
    count = regressor["n"]
    rows.append(Row("regressor, mean accuracy", regressor["regressor"]["accuracy"],
                    at_least=MEAN_ACCURACY if photos else None, n=count))  # fmt: skip
    for name, bound in ACCURACIES.items() if photos else ():
        entry = regressor["attributes"].get(name)
        if entry:
            rows.append(Row(f"regressor, {name}", entry["accuracy"], at_least=bound, n=count))
    rows.append(Row("judge, mean accuracy", regressor["judge"]["accuracy"], n=count))

    rows += [
        Row("inversion, nearer than random", encoder["nearer_than_random"],
            at_least=NEARER_THAN_RANDOM if photos else None, n=encoder["n"]),
        Row("inversion, psnr", encoder["psnr"], n=encoder["n"]),
        Row("inversion, ssim", encoder["ssim"], n=encoder["n"]),
        Row("inversion, identity", encoder["identity"], n=encoder["n"]),
    ]  # fmt: skip
    rows += _projection_rows(report["inversion"], photos)
    for name, entry in report["edits"]["learned"].items():
        rows += _edit_rows(name, entry, photos, drawn)
    rows += _keep_detail_rows(report.get("keep_detail"), photos)
    rows += _set_rows(report.get("set"), photos)
    if drawn:
        rows.append(Row("mean leakage of the edits", report["edits_mean"]["learned"]["leakage"],
                        at_most=DRAWN_MEAN_LEAKAGE))  # fmt: skip
    for name, entry in report.get("comparison", {}).get("attributes", {}).items():
        learned, barred = entry["learned"], photos and name in MATCHED_TARGETS
        rows += [
            Row(f"{name}, leakage at the same change", learned["leakage"], n=learned["n"],
                at_most=MATCHED_LEAKAGE if barred else None),
            Row(f"{name}, leakage / random's at the same change", learned["leakage_over_random"],
                at_most=MATCHED_OVER_RANDOM if barred else None, n=learned["n"]),
        ]  # fmt: skip
    for name, entry in report.get("counterfactual", {}).items():
        rows += [
            Row(f"{name}, nearer to the true edit", entry.get("nearer"),
                at_least=DRAWN_NEARER, n=entry.get("n_nearer")),
            Row(f"{name}, nearer by the judge", entry.get("nearer_judge"), n=entry["n"]),
            Row(f"{name}, nearer by psnr", entry.get("nearer_psnr"), n=entry["n"]),
            Row(f"{name}, beats the photo", entry.get("beats_photo"),
                at_least=DRAWN_BEATS, n=entry.get("n_nearer")),
            Row(f"{name}, beats the photo by the judge", entry.get("beats_photo_judge"),
                n=entry["n"]),
            Row(f"{name}, beats the reconstruction", entry.get("beats_reconstruction"),
                n=entry.get("n_nearer")),
            Row(f"{name}, kept detail beats the photo", entry.get("detail_beats_photo"),
                at_least=DRAWN_BEATS, n=entry.get("n_nearer")),
        ]  # fmt: skip
    return rows


def _projection_rows(inversion: dict[str, Any], photos: bool) -> list[Row]:
    """hybrid beside the encoder and optimize; none if they were left out."""
    if "hybrid" not in inversion:
        return []
    hybrid, optimize = inversion["hybrid"], inversion["optimize"]

    def row(name: str, above: float | None, below: float | None, bound: float) -> Row:
        share = above / below if above is not None and below else None
        return Row(f"hybrid, {name}", share, at_most=bound if photos else None, n=hybrid["n"])

    return [
        row("distance / encoder's", hybrid["perceptual"], hybrid["perceptual_encoder"],
            HYBRID_OVER_ENCODER),
        row("seconds per image", hybrid["seconds_per_image"], 1.0, HYBRID_SECONDS),
        row("distance / optimize's", hybrid["perceptual"], optimize["perceptual"],
            HYBRID_OVER_OPTIMIZE),
        row("seconds to optimize's distance / its", hybrid["seconds_to_optimize"],
            optimize["seconds_per_image"], HYBRID_TIME),
    ]  # fmt: skip


def _edit_rows(name: str, entry: dict[str, Any], photos: bool, drawn: bool) -> list[Row]:
    barred = photos and name in PHOTO_TARGETS
    change = PHOTO_CHANGE if barred else DRAWN_CHANGE if drawn else None
    leakage = PHOTO_LEAKAGE if barred else DRAWN_LEAKAGE if drawn else None
    count = entry["n"]
    spread = entry.get("interval", {})
    return [
        Row(f"{name}, target change", entry["target_change"], at_least=change, n=count,
            interval=spread.get("target_change")),
        Row(f"{name}, success", entry["success"], n=entry["n_success"],
            interval=spread.get("success")),
        Row(f"{name}, leakage", entry["leakage"], at_most=leakage, n=count,
            interval=spread.get("leakage")),
        Row(f"{name}, identity", entry["identity"], n=count, interval=spread.get("identity")),
        Row(f"{name}, calibration error", entry["calibration_error"], n=entry["n_calibration"],
            interval=spread.get("calibration_error")),
        Row(f"{name}, ratio / random's", entry["ratio_over_random"],
            at_least=PHOTO_RATIO if barred else None, n=count),
    ]  # fmt: skip


def _keep_detail_rows(block: dict[str, Any] | None, photos: bool) -> list[Row]:
    """--keep_detail beside plain translation; none in the report of an older version."""
    if not block:
        return []
    kept, plain = block["mean"]["keep_detail"], block["mean"]["plain"]
    return [
        Row("keep_detail, identity to the photo", kept["identity"],
            at_least=KEEP_DETAIL_IDENTITY if photos else None),
        Row("plain, identity to the photo", plain["identity"]),
        Row("keep_detail, target change", kept["target_change"],
            at_least=PHOTO_CHANGE if photos else None),
        Row("plain, target change from the photo", plain["target_change"]),
        Row("keep_detail, leakage", kept["leakage"]),
        Row("plain, leakage from the photo", plain["leakage"]),
    ]  # fmt: skip


def _set_rows(block: dict[str, Any] | None, photos: bool) -> list[Row]:
    """How far --set misses; none in the report of an older version."""
    if not block:
        return []
    count = block["n"]
    return [
        Row("set, |reached - asked|", block["error"], at_most=SET_ERROR if photos else None,
            n=count),
        Row("set, |reached - asked| by the judge", block["error_judge"],
            at_most=SET_ERROR_JUDGE if photos else None, n=count),
        Row("set, share met", block["met"], n=count),
    ]  # fmt: skip


def export_rows(report: dict[str, Any]) -> list[Row]:
    """The rows of export/report.json: each variant's differences from Keras, and its edits."""
    rows, n = [], report["photos"]["n"]
    for name, variant in report["variants"].items():
        signatures = variant.get("signatures", {}).values()
        differences = [figure["max_difference"] for figure in signatures]
        finite = differences and None not in differences
        rows.append(Row(f"{name}, largest difference", max(differences) if finite else None,
                        at_most=variant.get("bound"), n=n))  # fmt: skip
        if variant.get("psnr_bound") is not None and finite:
            psnrs = [figure["psnr"] for figure in signatures if figure["psnr"] is not None]
            rows.append(Row(f"{name}, dB", min(psnrs), at_least=variant["psnr_bound"], n=n))
        if "edits" in variant:
            rows += _exported_edits(name, variant["edits"], n)
        if not variant["passed"] and rows[-1].verdict != "MISSED":
            rows.append(Row(f"{name}: {variant['reason']}", None, at_least=1))
    return rows


def _exported_edits(name: str, edits: dict[str, Any], n: int) -> list[Row]:
    """Of the attribute that fares worst."""
    attributes = edits["attributes"].values()
    kept = [one["kept"] for one in attributes if one["kept"] is not None]
    added = [one["leakage_added"] for one in attributes]
    return [
        Row(f"{name}, change kept", min(kept, default=None),
            at_least=0.95 if kept else None, n=n),
        Row(f"{name}, leakage added", max(added, default=None), at_most=0.01, n=n),
        Row(f"{name}, agreement", edits["agreement"], at_least=0.98, n=n),
    ]  # fmt: skip


def table(rows: list[Row]) -> str:
    """The rows as aligned text."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'figure':{width}}  {'value':>9}  {'95 %':>8}  {'bar':>9}  {'':6}  {'n':>5}"]
    for row in rows:
        value = "-" if row.value is None else f"{row.value:.4g}"
        count = "" if row.n is None else str(row.n)
        lines.append(f"{row.name:{width}}  {value:>9}  {row.spread:>8}  {row.bar:>9}  "
                     f"{row.verdict:6}  {count:>5}")  # fmt: skip
    return "\n".join(line.rstrip() for line in lines)


def read_report(stage: StageFolder) -> dict[str, Any] | None:
    """A stage's report.json, or None if there is none.

    Raises:
        UserError: it is damaged.
    """
    path = stage.path / "report.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise UserError(
            f"{path} is damaged; python train_main.py --stage={stage.name} --restart "
            f"--run_dir={stage.run.path} makes it anew"
        ) from None


def collect(run_dir: Path) -> str:
    """What the command prints.

    Raises:
        UserError: no run folder, or nothing measured yet.
    """
    folder = RunFolder(run_dir)
    config = folder.load_config()
    evaluate, export = folder.stage("evaluate"), folder.stage("export")
    evaluation, exported = read_report(evaluate), read_report(export)
    if evaluation is None and exported is None:
        raise UserError(
            f"--run_dir={run_dir}: nothing measured yet; run "
            f"python train_main.py --stage=evaluate --run_dir={run_dir}"
        )
    rows = [] if evaluation is None else evaluation_rows(evaluation, read_comparisons(evaluate))
    rows += [] if exported is None else export_rows(exported)
    missed = sum(row.verdict == "MISSED" for row in rows)
    barred = sum(row.verdict != "" for row in rows)
    head = f"{run_dir}: {config.data}, {config.resolution} px, seed {config.seed}"
    return f"{head}\n{table(rows)}\n{barred - missed} of {barred} bars met"


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("run_dir", None, "run folder to report on")


def main() -> None:
    """The command."""
    cli.require("run_dir")
    print(collect(Path(flags.FLAGS.run_dir)))
