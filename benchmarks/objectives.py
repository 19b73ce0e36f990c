"""Trains the eight objectives, each with its usual penalty, and tells how far each has come.

    python -m benchmarks.objectives --kimg=60 --output=objectives.json

Drawn faces at 32 px, one seed, equal networks and images seen. `fd` is the Frechet distance on the
features of a judge that is trained first (2,000 samples of the averaged generator against 2,000
photos that no generator has seen). Exit code 1 if an objective stops, or does not halve its early
distance; minimax is excused, and the size of its generator's gradient, by which it learns, stands
beside the non-saturating game's on the same logits.
"""

import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core import config as config_module
from cgan_tf.core.config import OBJECTIVES, Config, penalty
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder

EARLY = 5.0  # kimg
BETWEEN = 4  # times EARLY between two measurements
FAKES = 2000
BASE = config_module.replace(Config(), 
    seed=1, resolution=32, synthetic_size=8000, gan_batch_size=64, gan_width=32, evaluate_judge_kimg=20.0,
    grid_kimg=EARLY,
)  # fmt: skip
# What each game needs beside the defaults; each holds only what differs.
RECIPES = {
    "minimax": {},
    "non_saturating": {},
    "lsgan": {},
    "wgan": {"gan_d_norm": "batch", "gan_d_lr": 2e-4, "gan_g_lr": 2e-4, "gan_minibatch_std": False},
    "wgan_gp": {},
    "hinge": {},
    "ragan": {},
    "rpgan": {},
}

FLAGS = flags.FLAGS
flags.DEFINE_list("objectives", list(OBJECTIVES), "The objectives to train.")
flags.DEFINE_float("kimg", 60.0, "Length of each training [kimg].", lower_bound=EARLY)
flags.DEFINE_string("cache_dir", None, "Where drawn faces are kept between runs.")
flags.DEFINE_string("output", None, "JSON file of the figures.")


def train(objective: str, config: Config, dataset, judge, folder: RunFolder) -> dict:
    """One objective's row: `fd` by kimg, what stopped it, seconds."""
    from cgan_tf.data import pipeline
    from cgan_tf.evaluation import generation
    from cgan_tf.stages import gan
    from cgan_tf.training import loop, precision

    config = config_module.replace(config, gan_objective=objective, **RECIPES[objective])
    precision.seed_everything(config)
    trainer = gan.GAN(config, precision.compute_policy(config))
    distances: dict[float, float] = {}

    def measure_now(seen: int) -> None:
        number = round(seen / 1000 / EARLY)
        if number == 1 or number and number % BETWEEN == 0 or seen >= 1000 * config.gan.kimg:
            block = generation.measure_generator(trainer.average, judge, dataset, FAKES, config.seed)
            distances[seen / 1000] = block["fd"]

    reals = config.gan.batch_size * config.gan.d_steps
    start, stopped = time.perf_counter(), None
    try:
        loop.train(
            trainer,
            lambda seen, _: pipeline.training_batches(
                dataset, "train", reals, config.seed, start=seen, flip=config.flip
            ),
            config.gan.kimg, reals, folder.stage("gan"), config,
            picture=measure_now, picture_kimg=EARLY, say=lambda _: None,
        )  # fmt: skip
    except UserError as error:
        stopped = str(error)
    return {
        "gan_penalty": "+".join(penalty(config)) or ("clipping" if objective == "wgan" else "none"),
        "recipe": RECIPES[objective],
        "fd": distances,
        "stopped": stopped,
        "seconds": time.perf_counter() - start,
        "g_gradient": generator_gradient(trainer, config),
    }


def generator_gradient(trainer, config: Config) -> dict[str, float]:
    """|dL/dlogits| of the minimax and the non-saturating generator, where D now is: mean size."""
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


def main() -> None:
    unknown = [name for name in FLAGS.objectives if name not in OBJECTIVES]
    if unknown:
        raise UserError(f"--objectives={unknown[0]}: one of {', '.join(OBJECTIVES)}")
    quiet.import_tensorflow()
    from cgan_tf import data
    from cgan_tf.stages import judge as judge_module
    from cgan_tf.training import precision

    with tempfile.TemporaryDirectory() as temporary:
        cache = FLAGS.cache_dir or str(Path(temporary) / "cache")
        config = config_module.replace(BASE, gan_kimg=FLAGS.kimg, cache_dir=cache)
        dataset = data.open_data(config)
        precision.seed_everything(config)
        stage = RunFolder(Path(temporary) / "judge").stage("evaluate")
        stage.checkpoints.mkdir(parents=True)
        judge = judge_module.ensure_judge(config, stage, dataset)
        rows = {}
        print(f"{'objective':15s}{'penalty':10s}{'fd at':>8s}{'fd at':>10s}{'ratio':>8s}"
              f"{'minutes':>9s}\n{'':25s}{EARLY:>5g} kimg{FLAGS.kimg:>5g} kimg")  # fmt: skip
        for name in FLAGS.objectives:
            folder = RunFolder(Path(temporary) / name)
            folder.stage("gan").checkpoints.mkdir(parents=True)
            row = rows[name] = train(name, config, dataset, judge, folder)
            distances = list(row["fd"].values()) or [float("nan")]
            first, last = distances[0], distances[-1]
            row["ratio"] = last / first
            print(
                f"{name:15s}{row['penalty']:10s}{first:8.2f}{last:10.2f}{row['ratio']:8.3f}"
                f"{row['seconds'] / 60:9.1f}  {row['stopped'] or ''}",
                flush=True,
            )
        for name in ("minimax", "non_saturating"):
            if name not in rows:
                continue
            sizes = rows[name]["g_gradient"]
            print(
                f"gradient at the logits after {name}: minimax {sizes['minimax']:.3g}, "
                f"non_saturating {sizes['non_saturating']:.3g}"
            )
    if FLAGS.output:
        write_json(Path(FLAGS.output), {"gan_kimg": FLAGS.kimg, "rows": rows})
        print(f"written: {FLAGS.output}")
    failed = [
        name for name, row in rows.items()
        if name != "minimax" and (row["stopped"] or not row["ratio"] <= 0.5)
    ]  # fmt: skip
    if failed:
        print(f"not halved: {', '.join(failed)}")
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
