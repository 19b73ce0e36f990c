"""Trains the GAN stage by several recipes, and tells how near to photos each is on the way.

    python -m benchmarks.recipes --judge_run=runs/celeba64 --kimg=200 --photos=1000 \\
        --recipe=plain: --recipe=ada:augment=ada "--recipe=wide:width=64 batch_size=32"

Each recipe is "NAME:FLAG=VALUE FLAG=VALUE ..." over the options of the judged run's gan stage; the
seed, the photos and the images seen are equal. `fd` is the Frechet distance on the features of that
run's judge, as its evaluate stage measures it; the seconds are those of the training alone. The
last table compares with the first recipe: the ratio of the last fd, and the share of the first
one's time after which its last fd was reached ("-" where it was not).
"""

import dataclasses
import tempfile
import time
from pathlib import Path

from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core import config as config_module
from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder

FLAGS = flags.FLAGS
flags.DEFINE_string("judge_run", None, "Run folder whose options, photos and judge are used.")
flags.DEFINE_multi_string("recipe", [], "NAME:FLAG=VALUE FLAG=VALUE ... (once for each).")
flags.DEFINE_float("kimg", 200.0, "Length of each training [kimg].", lower_bound=1)
flags.DEFINE_integer("photos", 0, "Training photos; 0 takes all.", lower_bound=0)
flags.DEFINE_integer("measurements", 8, "Times that fd is measured in each.", lower_bound=1)
flags.DEFINE_integer("fakes", 5000, "Samples behind each fd.", lower_bound=100)
flags.DEFINE_string("output", None, "JSON file of the figures.")


def parse_recipe(text: str, base: Config) -> tuple[str, Config]:
    """A recipe's name and options.

    Raises:
        UserError: no recipe, or an option that makes no sense.
    """
    name, colon, options = text.partition(":")
    if not name or not colon:
        raise UserError(f"--recipe={text}: write NAME:FLAG=VALUE FLAG=VALUE ...")
    given = {}
    for option in options.split():
        flag, _, value = option.partition("=")
        if flag not in config_module.stage_fields("gan"):
            raise UserError(
                f"--recipe={text}: {flag} is no option of the gan stage"
                f"{config_module.closest(flag, config_module.stage_fields('gan'))}"
            )
        given[flag] = config_module.parse(flag, value)
    config = dataclasses.replace(base, **({"kimg": FLAGS.kimg} | given))
    config_module.check(config)
    return name, config


def train(name: str, config: Config, dataset, photos, judge) -> list[dict]:
    """fd, kimg and seconds of one recipe, in the order of the training; prints them.

    Args:
        name: the recipe's.
        config: the recipe.
        dataset: what it trains on.
        photos: whose held-out photos it is compared with.
        judge: whose features are compared.
    """
    from cgan_tf.data import pipeline
    from cgan_tf.evaluation import generation
    from cgan_tf.stages import progressive
    from cgan_tf.training import loop, precision

    precision.seed_everything(config)
    trainer = progressive.make(config, precision.compute_policy(config))
    rows: list[dict] = []
    start, measuring = time.perf_counter(), 0.0

    def measure_now(seen: int) -> None:
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
            print(f"{name:16s}{row['kimg']:8.0f}{row['seconds']:9.0f}{row['fd']:9.2f}"
                  f"{row['fd_over_floor']:9.2f}", flush=True)  # fmt: skip
        measuring += time.perf_counter() - before

    with tempfile.TemporaryDirectory() as temporary:
        stage = RunFolder(temporary).stage("gan")
        stage.checkpoints.mkdir(parents=True)
        loop.train(
            trainer,
            lambda seen, size: pipeline.training_batches(
                dataset, "train", size, config.seed, start=seen, flip=config.flip,
                passes=config.gan.d_steps,
            ),
            config.gan.kimg, config.gan.batch_size * config.gan.d_steps, stage, config,
            picture=measure_now, picture_kimg=FLAGS.kimg / FLAGS.measurements,
            say=lambda _: None,
        )  # fmt: skip
    return rows


def share_of_time(rows: list[dict], first: list[dict]) -> float | None:
    """Time to the first recipe's last fd, as a share of that one's; None if it is not reached."""
    reached = [row["seconds"] for row in rows if row["fd"] <= first[-1]["fd"]]
    return reached[0] / first[-1]["seconds"] if reached else None


def main() -> None:
    cli.require("judge_run")
    if not FLAGS.recipe:
        raise UserError("--recipe: give some, e.g. --recipe=plain: --recipe=ada:augment=ada")
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
    print(f"{'recipe':16s}{'kimg':>8s}{'seconds':>9s}{'fd':>9s}{'/ floor':>9s}")
    results = {
        name: train(name, config, dataset, photos, judge) for name, config in recipes.items()
    }
    first = next(iter(results.values()))
    print(f"{'':16s}{'last fd / first':>17s}{'time to its fd':>17s}")
    for name, rows in results.items():
        share = share_of_time(rows, first)
        text = "-" if share is None else f"{share:.3f}"
        print(f"{name:16s}{rows[-1]['fd'] / first[-1]['fd']:17.3f}{text:>17s}")
    if FLAGS.output:
        write_json(Path(FLAGS.output), {
            "photos": len(splits["train"]),
            "recipes": {name: config_module.to_dict(config) for name, config in recipes.items()},
            "rows": results,
        })  # fmt: skip
        print(f"written: {FLAGS.output}")


if __name__ == "__main__":
    cli.run(main)
