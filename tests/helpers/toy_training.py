"""Trains the toy model through the training loop."""

from pathlib import Path

import tiny
from toy import BATCH, Toy, batches

from cgan_tf.training import loop
from cgan_tf.training.feed import DatasetFeed

STEPS = 40


def config(**options):
    return tiny.make_config(Path("cache"), **options)


EVERY_STEP = {"checkpoint_minutes": 1e-9}


def train(stage, trainer=None, steps=STEPS, make_batches=batches, lines=None, options=None, **rest):
    trainer = trainer or Toy()
    loop.train(
        trainer,
        lambda seen: DatasetFeed(lambda: make_batches(seen)),
        steps * BATCH / 1000,
        BATCH,
        stage,
        config(**(options or {})),
        say=(lines if lines is not None else []).append,
        **rest,
    )
    return trainer


def checkpoints(stage):
    return tiny.listing(stage.checkpoints)


def name(step):
    return f"step-{step:09d}.npz"


def message(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)
