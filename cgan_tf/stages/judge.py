"""Trains the judge, the attribute classifier of the evaluate stage. Writes evaluate/judge.

The first step of the evaluate stage, before any measurement. The judge is never used for training.
"""

import math

import keras
import tensorflow as tf

from cgan_tf.core import artifact, replicas
from cgan_tf.core.config import JUDGE_BATCH_SIZE, Config
from cgan_tf.core.run_folder import StageFolder
from cgan_tf.data import ImageData, pipeline
from cgan_tf.networks.judge import Judge
from cgan_tf.stages import tensorboard
from cgan_tf.training import augment, loop, optimizers, precision

FOLDER = "judge"  # under evaluate/
SEED_OFFSET = 1_000_003  # from the run's seed, which determines the regressor and its batches
LEARNING_RATE = 2e-3  # AdamW's peak
WEIGHT_DECAY = 0.05
WARMUP = 0.1  # of the training: the learning rate rises linearly


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
    """The judge of the evaluate stage, in float32; trains it if it does not exist yet.

    Args:
        config: the resolved options.
        stage: the evaluate stage, which has begun.
        dataset: the judge trains on its train split.

    Raises:
        UserError: the data has no labels.
        Interrupted: SIGINT or SIGTERM while training; a checkpoint has been written.
    """
    folder = stage.path / FOLDER
    if not (folder / "weights.h5").exists():
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
    return artifact.load_model(Judge, folder)
