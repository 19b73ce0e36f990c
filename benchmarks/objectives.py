"""Trains the eight GAN objectives with their usual penalties and compares their distances.

    python -m benchmarks.objectives --kimg=60 --output=objectives.json

Synthetic faces at 32 px, one seed, equal networks and equal numbers of images. `fd` is the Frechet
distance on the features of a judge that is trained first: 2,000 samples of G's moving average
against 2,000 photos on which no generator was trained. Exit code 1 if an objective stops early, or
ends with more than half of its distance at 5 kimg. Minimax is exempt: its generator's gradient can
vanish. The last lines give the size of that gradient, and of the non-saturating one at the same
logits.
"""

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from cgan_tf.core import cli, options, quiet
from cgan_tf.core import config as config_module
from cgan_tf.core.config import OBJECTIVES, Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder

if TYPE_CHECKING:  # at run time they would import TensorFlow, with its start-up lines
    from cgan_tf.data import ImageData
    from cgan_tf.networks.judge import Judge
    from cgan_tf.stages.gan_trainer import GAN

EARLY_KIMG = 5.0  # of the first measurement
INTERVAL = 4  # between later measurements, in multiples of EARLY_KIMG
FAKES = 2000
MAX_RATIO = 0.5  # of the last distance and the early one
BASE: dict[str, Any] = {
    "seed": 1,
    "resolution": 32,
    "synthetic_size": 8000,
    "evaluate_judge_kimg": 20.0,
}
# What an objective needs in addition to the defaults.
RECIPES: dict[str, dict[str, Any]] = {
    "wgan": {
        "gan_d_norm": "batch",
        "gan_g_lr": 2e-4,
        "gan_d_lr": 2e-4,
        "gan_minibatch_std": False,
    },
}

FLAGS = flags.FLAGS
flags.DEFINE_list("objectives", list(OBJECTIVES), "Objectives to train.")
flags.DEFINE_float("kimg", 60.0, "Length of each training [kimg].", lower_bound=EARLY_KIMG)
flags.DEFINE_string("cache_dir", None, "Cache of the synthetic faces; by default a temporary one.")
flags.DEFINE_string("output", "runs/objectives.json", "JSON file of the results.")


def train(
    objective: str, base: dict[str, Any], dataset: "ImageData", judge: "Judge", folder: RunFolder
) -> dict[str, Any]:
    """Trains one objective; returns its `fd` by kimg, why it stopped early, and the seconds."""
    from cgan_tf.data import pipeline
    from cgan_tf.evaluation import generation
    from cgan_tf.stages.gan_trainer import GAN
    from cgan_tf.training import loop, precision

    recipe = RECIPES.get(objective, {})
    config = make_config(base | {"gan_objective": objective} | recipe)
    precision.seed_everything(config)
    trainer = GAN(config, precision.compute_policy(config))
    distances: dict[float, float] = {}

    def measure(seen: int) -> None:
        number = round(seen / 1000 / EARLY_KIMG)
        last = seen >= 1000 * config.gan.kimg
        if last or number == 1 or (number and number % INTERVAL == 0):
            block = generation.measure_generator(
                trainer.average, judge, dataset, FAKES, config.seed
            )
            distances[seen / 1000] = block["fd"]

    reals = config.gan.batch_size * config.gan.d_steps
    start, stopped = time.perf_counter(), None
    try:
        loop.train(
            trainer,
            pipeline.training_feed(dataset, config, reals),
            config.gan.kimg,
            reals,
            folder.stage("gan"),
            config,
            snapshot=measure,
            snapshot_kimg=EARLY_KIMG,
            say=lambda _: None,
        )
    except UserError as error:
        stopped = str(error)
    terms = "+".join(config_module.penalty_terms(config))
    values = list(distances.values())
    return {
        "penalty": terms or ("clipping" if objective == "wgan" else "none"),
        "recipe": recipe,
        "fd": distances,
        "ratio": values[-1] / values[0] if values else None,
        "stopped": stopped,
        "seconds": time.perf_counter() - start,
        "g_gradient": generator_gradients(trainer, config),
    }


def line(name: str, row: dict[str, Any]) -> str:
    """One objective's line of the table."""
    values = list(row["fd"].values())
    cells = f"{values[0]:10.2f}{values[-1]:10.2f}{row['ratio']:8.3f}" if values else " " * 28
    return f"{name:15}{row['penalty']:10}{cells}{row['seconds'] / 60:9.1f}  {row['stopped'] or ''}"


def make_config(values: dict[str, Any]) -> Config:
    """The resolved options; `values` are what differs from the defaults."""
    return options.resolve(options.make(None, values))


def generator_gradients(trainer: "GAN", config: Config) -> dict[str, float]:
    """Mean |dL/dlogits| of the minimax and the non-saturating generator loss, at D's logits."""
    import tensorflow as tf

    from cgan_tf.training import losses

    z = trainer.generator.sample_prior(config.gan.batch_size, seed=config.seed)
    logits = trainer.discriminator(trainer.generator(z, training=False), training=False)
    sizes = {}
    for name in ("minimax", "non_saturating"):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = losses.OBJECTIVES[name].generator(logits)
        sizes[name] = float(tf.reduce_sum(tf.abs(tape.gradient(loss, logits))))
    return sizes


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    unknown = [name for name in FLAGS.objectives if name not in OBJECTIVES]
    if unknown:
        raise UserError(f"--objectives={unknown[0]}: one of {', '.join(OBJECTIVES)}")
    quiet.import_tensorflow()
    from cgan_tf import data
    from cgan_tf.stages import judge as judge_module
    from cgan_tf.training import precision

    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        cache = FLAGS.cache_dir or str(Path(temporary) / "cache")
        base = BASE | {"gan_kimg": FLAGS.kimg, "cache_dir": cache}
        config = make_config(base)
        dataset = data.open_data(config)
        precision.seed_everything(config)
        stage = RunFolder(Path(temporary) / "judge").stage("evaluate")
        stage.checkpoints.mkdir(parents=True)
        judge = judge_module.ensure_judge(config, stage, dataset)
        print(f"{'objective':15}{'penalty':10}{'fd at':>10}{'fd at':>10}{'ratio':>8}{'minutes':>9}")
        print(f"{'':25}{f'{EARLY_KIMG:g} kimg':>10}{f'{FLAGS.kimg:g} kimg':>10}")
        for name in FLAGS.objectives:
            folder = RunFolder(Path(temporary) / name)
            folder.stage("gan").checkpoints.mkdir(parents=True)
            row = rows[name] = train(name, base, dataset, judge, folder)
            print(line(name, row), flush=True)
    for name in ("minimax", "non_saturating"):
        if name in rows:
            sizes = rows[name]["g_gradient"]
            print(
                f"gradient at the logits after {name}: minimax {sizes['minimax']:.3g}, "
                f"non_saturating {sizes['non_saturating']:.3g}"
            )
    write_json(Path(FLAGS.output), {"kimg": FLAGS.kimg, "rows": rows})
    print(f"written: {FLAGS.output}")
    failed = [
        name
        for name, row in rows.items()
        if name != "minimax" and (row["stopped"] or row["ratio"] > MAX_RATIO)
    ]
    if failed:
        print(f"not halved: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    cli.run(main)
