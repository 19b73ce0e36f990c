"""A trainer with one weight, for tests of the training loop."""

import math

import keras
import tensorflow as tf

from cgan_tf.training import loop, optimizers
from cgan_tf.training.feed import DatasetFeed

BATCH = 10  # images: 100 steps are one kimg


class Toy(loop.Trainer):
    """One weight that follows the mean of the batches, with noise and momentum; can fail.

    Args:
        seed: of the noise.
        nan_at: step whose loss is NaN.
        nan_weight_at: step after which the weight is infinite.
    """

    remedy = "lower --toy_lr"

    def __init__(self, seed=0, nan_at=None, nan_weight_at=None):
        super().__init__(name="toy")
        self.weight = self.add_weight(shape=(3,), initializer="zeros", name="weight")
        self.optimizer = optimizers.Adam(0.05)
        self.optimizer.build([self.weight])
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.nan_at, self.nan_weight_at = nan_at or -1, nan_weight_at or -1
        self.built = True

    def checkpoint_parts(self):
        return {
            "weight": [self.weight],
            "optimizer": self.optimizer,
            "seed_generator": self.seed_generator,
        }

    def train_step(self, data):
        noise = keras.random.normal((3,), seed=self.seed_generator)
        gradient = self.weight - tf.reduce_mean(data) + noise
        step = tf.cast(self.optimizer.iterations, tf.int32) + 1
        self.optimizer.apply([gradient], [self.weight])
        self.weight.assign(tf.where(step == self.nan_weight_at, math.inf, self.weight))
        return {
            "first": tf.where(step == self.nan_at, math.nan, tf.reduce_mean(data)),
            "second": tf.cast(step, tf.float32),
        }


def feed(seen):
    return DatasetFeed(lambda: batches(seen))


def batches(seen):
    """Batch s contains s, ten times."""
    return tf.data.Dataset.range(seen // BATCH, 10**6).map(
        lambda s: tf.fill((BATCH,), tf.cast(s, tf.float32))
    )
