"""Trains stage gan with several recipes and compares their distances to photos along the way.

    python -m benchmarks.recipes --judge_run=runs/celeba64 --kimg=200 --photos=1000 \\
        --recipe=plain: --recipe=ada:gan_augment=ada \\
        "--recipe=wide:gan_width=64 gan_batch_size=32"

A recipe is "NAME:FLAG=VALUE FLAG=VALUE ..."; its flags replace those of the judged run's stage gan.
With a new --gan_objective the penalty becomes the usual one of that objective. All recipes have the
same seed, photos and number of images. `fd` is the Frechet distance on the features of that run's
judge, as stage evaluate measures it; seconds are those of the training alone. The last table
compares each recipe with the first: the ratio of their last `fd`, and the fraction of the first
recipe's time after which its last `fd` was reached ("-" if it was not).
"""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from cgan_tf.core import cli, options, quiet
from cgan_tf.core import config as config_module
from cgan_tf.core.config import OPTIONS, Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder

if TYPE_CHECKING:  # at run time they would import TensorFlow, with its start-up lines
    from cgan_tf.data import ImageData
    from cgan_tf.networks.judge import Judge

FLAGS = flags.FLAGS
flags.DEFINE_string("judge_run", None, "Run folder whose options, photos and judge are used.")
flags.DEFINE_multi_string("recipe", [], "NAME:FLAG=VALUE FLAG=VALUE ...; give one for each recipe.")
flags.DEFINE_float("kimg", 200.0, "Length of each training [kimg].", lower_bound=1)
flags.DEFINE_integer("photos", 0, "Number of training photos; 0 takes all.", lower_bound=0)
flags.DEFINE_integer("measurements", 8, "Measurements of fd in each training.", lower_bound=1)
flags.DEFINE_integer("fakes", 5000, "Samples for each fd.", lower_bound=100)
flags.DEFINE_string("output", "runs/recipes.json", "JSON file of the results.")


def parse_recipe(text: str, base: Config) -> tuple[str, Config]:
    """A recipe's name and resolved options.

    Args:
        text: the value of --recipe.
        base: the resolved options of the judged run.

    Raises:
        UserError: a malformed recipe, an unknown flag, or a combination that makes no sense.
    """
    name, colon, rest = text.partition(":")
    if not name or not colon:
        raise UserError(f"--recipe={text}: write NAME:FLAG=VALUE FLAG=VALUE ...")
    known = [flag for flag, option in OPTIONS.items() if "gan" in option.stages]
    given = {}
    for part in rest.split():
        flag, _, value = part.partition("=")
        if flag not in known:
            raise UserError(
                f"--recipe={text}: {flag} is not an option of stage gan{cli.closest(flag, known)}"
            )
        given[flag] = options.parse(flag, value)
    values = {"gan_kimg": FLAGS.kimg}
    # The base is resolved: what depends on the changed options is resolved again.
    if "gan_objective" in given:
        values |= {"gan_penalty": config_module.AUTO, "gan_penalty_interval": None}
    if "gan_penalty" in given:
        values["gan_penalty_interval"] = None
    return name, options.resolve(config_module.replace(base, **(values | given)))


def train(
    name: str, config: Config, dataset: "ImageData", photos: "ImageData", judge: "Judge"
) -> list[dict[str, float]]:
    """Trains one recipe and prints its lines; returns `fd`, kimg and seconds, in order.

    Args:
        name: the recipe's name.
        config: the recipe.
        dataset: the training photos.
        photos: the data set whose held-out photos are compared with the samples.
        judge: its features are compared.
    """
    from cgan_tf.data import pipeline
    from cgan_tf.evaluation import generation
    from cgan_tf.stages import progressive
    from cgan_tf.training import loop, precision

    precision.seed_everything(config)
    trainer = progressive.make_trainer(config, precision.compute_policy(config))
    rows: list[dict[str, float]] = []
    start, measuring = time.perf_counter(), 0.0

    def measure(seen: int) -> None:
        nonlocal measuring
        before = time.perf_counter()
        if seen:
            block = generation.measure_generator(
                trainer.average, judge, photos, FLAGS.fakes, config.seed
            )
            row = {
                "kimg": seen / 1000,
                "seconds": before - start - measuring,
                "fd": block["fd"],
                "fd_over_floor": block["fd_over_floor"],
            }
            rows.append(row)
            print(
                f"{name:16}{row['kimg']:8.0f}{row['seconds']:9.0f}{row['fd']:9.2f}"
                f"{row['fd_over_floor']:9.2f}",
                flush=True,
            )
        measuring += time.perf_counter() - before

    batch_size = config.gan.batch_size * config.gan.d_steps
    with tempfile.TemporaryDirectory() as temporary:
        stage = RunFolder(temporary).stage("gan")
        stage.checkpoints.mkdir(parents=True)
        loop.train(
            trainer,
            pipeline.training_feed(dataset, config, batch_size, passes=config.gan.d_steps),
            config.gan.kimg,
            batch_size,
            stage,
            config,
            snapshot=measure,
            snapshot_kimg=FLAGS.kimg / FLAGS.measurements,
            say=lambda _: None,
        )
    return rows


def fraction_of_time(rows: list[dict[str, float]], first: list[dict[str, float]]) -> float | None:
    """Time to the first recipe's last `fd`, as a fraction of its time; None if not reached."""
    achieved = [row["seconds"] for row in rows if row["fd"] <= first[-1]["fd"]]
    return achieved[0] / first[-1]["seconds"] if achieved else None


def main() -> None:
    """Runs the benchmark."""
    cli.require("judge_run")
    if not FLAGS.recipe:
        raise UserError("--recipe: give some, e.g. --recipe=plain: --recipe=ada:gan_augment=ada")
    run = RunFolder(FLAGS.judge_run)
    base = run.load_config()
    recipes = dict(parse_recipe(text, base) for text in FLAGS.recipe)
    if len(recipes) < len(FLAGS.recipe):
        raise UserError("--recipe: two have the same name")
    quiet.import_tensorflow()
    from cgan_tf import data
    from cgan_tf.core import artifact
    from cgan_tf.editing import models
    from cgan_tf.networks.judge import Judge
    from cgan_tf.stages import judge as judge_module

    stage = models.finished_stage(run, "evaluate")
    judge = artifact.load_model(Judge, stage.path / judge_module.FOLDER)
    photos = data.open_data(base)
    splits = dict(photos.splits)
    if FLAGS.photos:
        splits["train"] = splits["train"][: FLAGS.photos]
    dataset = dataclasses.replace(photos, splits=splits)
    print(f"{len(splits['train'])} training photos, {base.resolution} px, seed {base.seed}")
    print(f"{'recipe':16}{'kimg':>8}{'seconds':>9}{'fd':>9}{'/ floor':>9}")
    results = {
        name: train(name, config, dataset, photos, judge) for name, config in recipes.items()
    }
    first = next(iter(results.values()))
    print(f"{'':16}{'last fd / first':>17}{'time to its fd':>17}")
    for name, rows in results.items():
        fraction = fraction_of_time(rows, first)
        cell = "-" if fraction is None else f"{fraction:.3f}"
        print(f"{name:16}{rows[-1]['fd'] / first[-1]['fd']:17.3f}{cell:>17}")
    content = {
        "photos": len(splits["train"]),
        "recipes": {name: config_module.to_dict(config) for name, config in recipes.items()},
        "rows": results,
    }
    write_json(Path(FLAGS.output), content)
    print(f"written: {FLAGS.output}")


if __name__ == "__main__":
    cli.run(main)
