"""Compares the generators of two runs by the judge and the photos of the first."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from cgan_tf import data
from cgan_tf.core import cli, quiet
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder, StageFolder

if TYPE_CHECKING:  # at run time they would import TensorFlow, with its start-up lines
    from cgan_tf.evaluation.statistics import Numbers


def compare(judge_run: Path, generator_run: Path) -> "Numbers":
    """Both runs' generators by the judge and the photos of the first; also written there.

    Returns:
        {"run": its `generation` block, "other": the other's, "other_run": its path as given,
        "separability": the other's block of that name, if it is a StyleGAN}

    Raises:
        UserError: a run or what it must hold is missing, or the data is not the judge's.
    """
    from cgan_tf.core import artifact
    from cgan_tf.editing import models
    from cgan_tf.evaluation import generation
    from cgan_tf.networks.judge import Judge
    from cgan_tf.networks.stylegan import StyleGenerator
    from cgan_tf.stages import judge

    run_folder, other_folder = RunFolder(judge_run), RunFolder(generator_run)
    config = run_folder.load_config()
    other_folder.load_config()
    stage = models.finished_stage(run_folder, "evaluate")
    stages = [models.finished_stage(one, "gan") for one in (run_folder, other_folder)]
    loaded = [models.load_generator(gan.model) for gan in stages]
    judge_model = artifact.load_model(Judge, stage.path / judge.FOLDER)
    dataset = data.open_data(config)
    if stage.read_metadata()["data"] != dataset.digest:
        raise UserError(
            f"--judge_run={judge_run}: its photos or labels are no longer those that it was "
            "evaluated on; put them back, or evaluate anew with --restart"
        )
    blocks = [
        generation.measure_generator(generator, judge_model, dataset, config.evaluate.samples, config.seed)
        for generator in loaded
    ]
    result = {"run": blocks[0], "other": blocks[1], "other_run": str(generator_run)}
    if isinstance(loaded[1], StyleGenerator):
        result["separability"] = generation.measure_separability(loaded[1], judge_model, config.seed)
    write_json(against_path(stage, generator_run), result)
    return result


def against_path(stage: StageFolder, generator_run: Path) -> Path:
    """Where `compare` leaves its figures."""
    return stage.path / f"against_{generator_run.resolve().name}.json"


def read_comparisons(stage: StageFolder) -> dict[str, "Numbers"]:
    """What `compare` has left in an evaluate stage, by the other run's name."""
    return {
        path.stem.removeprefix("against_"): json.loads(path.read_text())
        for path in sorted(stage.path.glob("against_*.json"))
    }


def table(result: "Numbers") -> str:
    """What `compare` has found, for a reader."""
    keys = ("resolution", "fd", "fd_floor", "fd_at_32", "fd_floor_at_32", "precision", "recall")
    lines = [f"{'':16}{'--judge_run':>14}{'--generator_run':>18}{'first / second':>18}"]
    for key in keys:
        first, second = result["run"][key], result["other"][key]
        share = f"{first / second:18.3f}" if key in ("fd", "fd_at_32") and second else ""
        lines.append(f"{key:16}{first:14.4g}{second:18.4g}{share}")
    lines.append(
        f"n_real {result['run']['n_real']}, n_fake {result['run']['n_fake']}, "
        f"seed {result['run']['seed']}, features of the judge of --judge_run"
    )
    separability = result.get("separability")
    if separability:
        lines += ["", f"{'hyperplane of --generator_run':32}{'positive':>8}{'z':>8}{'w':>8}"]
        for name, row in {**separability["attributes"], "mean": separability}.items():
            cells = [_text(row.get(key), ".3f") for key in ("positive", "z", "w")]
            lines.append(f"{name:32}" + "".join(f"{cell:>8}" for cell in cells))
        lines.append(
            f"balanced accuracy on {separability['n']} held-out samples, by the judge's opinion"
        )
    return "\n".join(lines)


def main() -> None:
    """The command: a table of both generators."""
    cli.require("judge_run", "generator_run")
    quiet.import_tensorflow()
    print(table(compare(Path(flags.FLAGS.judge_run), Path(flags.FLAGS.generator_run))))


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("judge_run", None, "run folder whose judge and photos decide")
    flags.DEFINE_string("generator_run", None, "run folder whose generator is judged beside it")
