"""Trains the judge, the attribute classifier of the evaluate stage. Writes evaluate/judge.

The first step of the evaluate stage, before any measurement. The judge is never used for training.
It depends on the data alone, so an evaluation that starts over keeps the judge of the one that was
moved aside, unless its training would differ.
"""

import math
from typing import Any

import keras
import tensorflow as tf

from cgan_tf.core import artifact, replicas
from cgan_tf.core.config import JUDGE_BATCH_SIZE, Config, stage_options
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_bytes
from cgan_tf.core.run_folder import StageFolder, recorded_options
from cgan_tf.data import ImageData, pipeline
from cgan_tf.networks.judge import Judge
from cgan_tf.stages import tensorboard
from cgan_tf.training import augment, cluster, loop, optimizers, precision

FOLDER = "judge"  # under evaluate/
SEED_OFFSET = 1_000_003  # from the run's seed, which determines the regressor and its batches
LEARNING_RATE = 2e-3  # AdamW's peak
WEIGHT_DECAY = 0.05
WARMUP = 0.1  # of the training: the learning rate rises linearly
# The options of the evaluate stage that the training does not depend on.
MEASUREMENT_FLAGS = (
    "attributes",
    "evaluate_samples",
    "evaluate_photos",
    "evaluate_projections",
    "evaluate_identity_model",
)


class JudgeTrainer(loop.Trainer):
    """Binary cross-entropy over all attributes on augmented photos, AdamW with a cosine schedule.

    Args:
        model: the judge.
        steps: length of the schedule.
        seed: of the augmentation.
    """

    remedy = "try another --seed"

    def __init__(self, model: Judge, steps: int, seed: int) -> None:
        super().__init__(name="judge_trainer")
        self.model = model
        schedule = optimizers.warmup_cosine(LEARNING_RATE, steps, WARMUP)
        self.optimizer = optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY)
        self.optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        self.optimizer.build(model.trainable_variables)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def checkpoint_parts(self) -> dict:
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "seed_generator": self.seed_generator,
        }

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One update on photos float32 `[N, R, R, 3]` and labels float32 `[N, K]`."""
        photos, labels = data
        photos = augment.jitter(photos, self.seed_generator)
        with tf.GradientTape() as tape:
            logits = self.model.logits(photos, training=True)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, self.model.trainable_variables)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        accuracy = tf.reduce_mean(tf.cast((logits > 0) == (labels > 0.5), tf.float32))
        return {"loss": loss, "accuracy": accuracy}


def ensure_judge(config: Config, stage: StageFolder, dataset: ImageData) -> Judge:
    """The judge of the evaluate stage, in float32; trained unless it exists or can be kept.

    Args:
        config: the resolved options.
        stage: the evaluate stage, which has begun.
        dataset: the judge trains on its train split.

    Raises:
        UserError: the data has no labels.
        Interrupted: SIGINT or SIGTERM while training; a checkpoint has been written.
        cluster.Done: the judge exists, on all workers but the chief.
    """
    folder = stage.path / FOLDER
    # The other workers need not see the chief's files.
    if not cluster.on_chief(
        lambda: (folder / "weights.h5").exists() or keep_judge(config, stage, dataset.digest)
    ):
        dataset.require_labels("the judge")
        seed = config.seed + SEED_OFFSET
        keras.utils.set_random_seed(seed % 2**32)
        policy = precision.compute_policy(config)
        steps = math.ceil(config.evaluate.judge_kimg * 1000 / JUDGE_BATCH_SIZE)
        with replicas.scope():
            model = Judge(dataset.attribute_names, dataset.resolution, dtype=policy)
            trainer = JudgeTrainer(model, steps, seed)
        loop.train(
            trainer,
            pipeline.training_feed(
                dataset, config, JUDGE_BATCH_SIZE, seed=seed, flip=True, labels=True
            ),
            config.evaluate.judge_kimg,
            JUDGE_BATCH_SIZE,
            stage,
            config,
            writer=tensorboard.events(config, stage),
        )
        artifact.save_model(model, folder)
    cluster.leave_to_chief()
    return artifact.load_model(Judge, folder)


def keep_judge(config: Config, stage: StageFolder, data_digest: str) -> bool:
    """Copies a judge from an evaluation that was moved aside, if training would give the same one.

    Its checkpoints and statistics are copied, too, as if this stage had trained it.

    Args:
        config: the resolved options.
        stage: the evaluate stage, which has begun and has no judge.
        data_digest: the data set's hash.

    Returns:
        Whether there is such a judge.
    """
    wanted = _training_options(stage_options(config, stage.name))
    for folder in sorted(stage.run.path.glob(f"{stage.name}.old-*"), reverse=True):
        old = stage.run.stage(folder.name)
        try:
            metadata = old.read_metadata()
            options = recorded_options(stage.name, metadata)
            if metadata.get("data") != data_digest or _training_options(options) != wanted:
                continue
            artifact.load_model(Judge, folder / FOLDER)
        except UserError:  # damaged, or not trained to the end
            continue
        # The weights come last: what a killed process has copied is no judge without them.
        files = [*old.checkpoints.glob("*.npz"), *folder.glob("stats.jsonl")]
        files += [folder / FOLDER / name for name in ("config.json", "weights.h5")]
        for file in files:
            write_bytes(stage.path / file.relative_to(folder), file.read_bytes())
        print(f"{stage.name}: keeps the judge of {folder}, whose data and options are the same")
        return True
    return False


def _training_options(options: dict[str, Any]) -> dict[str, Any]:
    """Those of the evaluate stage's options that the judge's training depends on."""
    return {flag: value for flag, value in options.items() if flag not in MEASUREMENT_FLAGS}
