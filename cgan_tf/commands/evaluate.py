"""Prints what the evaluate stage measured, or compares the generators of two runs.

    cgan evaluate --run_dir=RUN_DIR
    cgan evaluate --run_dir=RUN_DIR --generator_run=OTHER_RUN_DIR [--data_dir=DIR]

The first command prints the main figures of RUN_DIR/evaluate/report.json: each with its 95 %
interval over the test photos, its floor (the same figure for a trivial baseline) and the number of
images. The second one measures both generators, of any resolution, by the judge and the photos of
RUN_DIR, prints both, and writes RUN_DIR/evaluate/comparison_with_OTHER_RUN_DIR.json; of a StyleGAN,
also how well hyperplanes in z and w predict the attributes.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from cgan_tf import data
from cgan_tf.core import cli, quiet
from cgan_tf.core.errors import UserError
from cgan_tf.core.options import absolute
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.evaluation import figures, report

if TYPE_CHECKING:  # at run time this would import TensorFlow, with its start-up messages
    from cgan_tf.evaluation.statistics import Numbers


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("run_dir", None, "run folder whose evaluate stage has finished")
    flags.DEFINE_string("generator_run", None, "run folder with another generator to compare with")
    flags.DEFINE_string("data_dir", None, "folder of the run's photos, if they have moved")


def main() -> None:
    """The command behind the flags."""
    cli.require("run_dir")
    run_dir, generator_run = flags.FLAGS.run_dir, flags.FLAGS.generator_run
    if generator_run is None:
        print(summary(Path(run_dir)))
    else:
        quiet.import_tensorflow()
        moved = absolute(flags.FLAGS.data_dir, "--data_dir")
        print(comparison_table(compare(Path(run_dir), Path(generator_run), moved)))


def summary(run_dir: Path) -> str:
    """The main figures of a run's report as text.

    Raises:
        UserError: no run folder, no report, or one of an older version.
    """
    folder = RunFolder(run_dir)
    config, stage = folder.load_config(), folder.stage("evaluate")
    measured, comparisons = report.read_report(stage), report.read_comparisons(stage)
    title = f"{run_dir}: {config.data}, {config.resolution} px, seed {config.seed}"
    try:
        return f"{title}\n{figures.table(figures.from_report(measured, comparisons))}"
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        raise UserError(
            f"{stage.path / report.FILE}, or a comparison next to it, is damaged; run python "
            f"train_main.py --stage=evaluate --run_dir={run_dir} --restart"
        ) from None


def compare(run_dir: Path, generator_run: Path, data_dir: str | None = None) -> "Numbers":
    """Measures both runs' generators by the judge and the photos of the first; writes the result.

    Args:
        run_dir: the first run.
        generator_run: the other.
        data_dir: folder of the first run's photos; None for the one that it was trained on.

    Returns:
        {"run": the first run's `generation` block, "other": the other's, "other_run": its path as
        given, "separability": the other's block of that name, if it is a StyleGAN}

    Raises:
        UserError: a run or one of its stages is missing, or the judge's data has changed.
    """
    from cgan_tf.core import artifact
    from cgan_tf.editing import models
    from cgan_tf.evaluation import generation
    from cgan_tf.networks.judge import Judge
    from cgan_tf.networks.stylegan import StyleGenerator
    from cgan_tf.stages import judge

    run_folder, other_folder = RunFolder(run_dir), RunFolder(generator_run, "--generator_run")
    config = run_folder.load_config()
    config = dataclasses.replace(config, data_dir=data_dir or config.data_dir)
    other_folder.load_config()
    stage = models.finished_stage(run_folder, "evaluate")
    report.read_report(stage)
    stages = [models.finished_stage(one, "gan") for one in (run_folder, other_folder)]
    generators = [models.load_generator(gan.model) for gan in stages]
    judge_model = artifact.load_model(Judge, stage.path / judge.FOLDER)
    dataset = data.open_data(config)
    if stage.read_metadata()["data"] != dataset.digest:
        raise UserError(
            f"--run_dir={run_dir}: its photos or labels have changed since it was evaluated; "
            "restore them, or run its evaluate stage again with --restart"
        )
    count, seed = config.evaluate.samples, config.seed
    blocks = [
        generation.measure_generator(generator, judge_model, dataset, count, seed)
        for generator in generators
    ]
    result = {"run": blocks[0], "other": blocks[1], "other_run": str(generator_run)}
    if isinstance(generators[1], StyleGenerator):
        result["separability"] = generation.measure_separability(generators[1], judge_model, seed)
    report.write_comparison(stage, generator_run, result)
    return result


def comparison_table(result: "Numbers") -> str:
    """The result of `compare` as text."""
    keys = ("resolution", "fd", "fd_floor", "fd_at_32", "fd_floor_at_32", "precision", "recall")
    lines = [f"{'':16}{'--run_dir':>14}{'--generator_run':>18}{'first / second':>18}"]
    for key in keys:
        first, second = result["run"][key], result["other"][key]
        share = f"{first / second:18.3f}" if key in ("fd", "fd_at_32") and second else ""
        lines.append(f"{key:16}{first:14.4g}{second:18.4g}{share}")
    lines.append(
        f"n_real {result['run']['n_real']}, n_fake {result['run']['n_fake']}, "
        f"seed {result['run']['seed']}, features of the judge of --run_dir"
    )
    separability = result.get("separability")
    if separability:
        lines += ["", f"{'separability of --generator_run':32}{'positive':>8}{'z':>8}{'w':>8}"]
        for name, row in {**separability["attributes"], "mean": separability}.items():
            cells = [figures.number(row.get(key), ".3f") for key in ("positive", "z", "w")]
            lines.append(f"{name:32}" + "".join(f"{cell:>8}" for cell in cells))
        lines.append(
            f"balanced accuracy of hyperplanes on {separability['n']} held-out samples, labelled "
            f"by the judge (floor {figures.CHANCE:g})"
        )
    return "\n".join(lines)
