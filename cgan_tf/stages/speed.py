"""How fast this machine trains: the steps of all stages on random photos, without a data set."""

import collections
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cgan_tf.core import config as config_module
from cgan_tf.core import replicas
from cgan_tf.core.config import FEATURES_BATCH_SIZE, JUDGE_BATCH_SIZE, Config, features_side
from cgan_tf.editing import models
from cgan_tf.networks import vgg
from cgan_tf.networks.attribute_discriminator import AttributeDiscriminator
from cgan_tf.networks.codec import Codec
from cgan_tf.networks.encoder import Encoder
from cgan_tf.networks.judge import Judge
from cgan_tf.stages import directions, features, inversion, judge, progressive, regressor
from cgan_tf.training import feed, loop, memory, precision

ATTRIBUTES = tuple(f"attribute{index}" for index in range(40))  # as many as CelebA has
EDITED = ATTRIBUTES[:8]
LARGEST_BATCH = 1024
WORTH = 1.15  # a doubled batch pays if it is so much faster
TRIAL_SECONDS = 2.0  # for each batch size
# Seconds per image of celeba64's stages on two CPU cores. Their ratios give a rough estimate where
# there is no time to measure.
REFERENCE_COST = {
    "gan": 0.004,
    "regressor": 0.020,
    "inversion": 0.019,
    "features": 0.010,
    "directions": 0.037,
    "evaluate": 0.002,
}


class Cost(NamedTuple):
    """The training of one stage: seconds per image and images in all; measured, or estimated."""

    seconds: float
    images: float
    measured: bool

    @property
    def hours(self) -> float:
        """Length of the training."""
        return self.seconds * self.images / 3600


def seconds_per_step(
    trainer: loop.Trainer,
    batch: Any,
    config: Config,
    seconds: float,
    budget: float = math.inf,
) -> float:
    """The mean time of a training step, over the variants of the step as often as they occur.

    Args:
        trainer: in the phase that is measured.
        batch: one replica's rows, as `Trainer.train_step` expects them.
        config: for `steps_per_call` and `jit`.
        seconds: how long to measure, after each variant's graph has been compiled.
        budget: seconds, compiling included, after which rarer variants are left out.
    """
    deadline = time.perf_counter() + budget
    run = loop.CompiledSteps(trainer, feed.SameBatch(batch), jit=config.jit == "true")
    limit = loop.steps_per_call(config)
    first: dict[tuple, int] = {}  # the first step of each variant
    for step in range(trainer.period):
        first.setdefault(trainer.variant(step), step)
    counts = collections.Counter(map(trainer.variant, range(trainer.period)))

    def timed(step: int) -> tuple[int, float]:
        start = time.perf_counter()
        count, losses = run(step, limit)
        for value in losses.values():
            float(value)  # waits for the device
        return count, time.perf_counter() - start

    total = measured = 0.0
    for variant, count in counts.most_common():
        if measured and time.perf_counter() > deadline:
            break
        timed(first[variant])  # compiles
        steps, elapsed = timed(first[variant])
        while elapsed < seconds * count / trainer.period:
            more, took = timed(first[variant])
            steps, elapsed = steps + more, elapsed + took
        total, measured = total + count * elapsed / steps, measured + count
    return total / measured


def images_per_second(config: Config, batch_size: int, seconds: float) -> float:
    """Photos that D sees per second in the bare GAN step of the full resolution.

    Args:
        config: the resolved options, precision included.
        batch_size: replaces the config's.
        seconds: how long to measure, without building and compiling.
    """
    config = config_module.replace(config, gan_batch_size=batch_size)
    keras.backend.clear_session()
    precision.seed_everything(config)
    with replicas.scope():
        trainer = progressive.make_trainer(config, precision.compute_policy(config))
    return config.gan.d_steps * batch_size / _gan_step(trainer, config, seconds, math.inf)


def _gan_step(trainer: loop.Trainer, config: Config, seconds: float, budget: float) -> float:
    reals = config.gan.batch_size * config.gan.d_steps
    trainer.begin_phase(len(trainer.phases(config.gan.kimg, reals)) - 1, fresh=True)
    return seconds_per_step(trainer, _photos(config, reals), config, seconds, budget)


def largest_batch(config: Config, limit: int, say: Callable[[str], None]) -> int:
    """The value of --gan_batch_size=auto: doubled from the config's as long as that pays.

    Args:
        config: the resolved options, precision included.
        limit: the largest batch size.
        say: receives a line per batch size.
    """
    best, rate = config.gan.batch_size, 0.0
    batch = best
    while batch <= max(limit, best):
        try:
            found = images_per_second(config, batch, TRIAL_SECONDS)
        except Exception as error:
            if not memory.exhausted(error) or batch == config.gan.batch_size:
                raise
            say(f"gan_batch_size: {batch} does not fit into memory")
            break
        say(f"gan_batch_size: {batch}: {found:,.0f} images/s")
        if found < WORTH * rate:
            break
        best, rate, batch = batch, found, 2 * batch
    keras.backend.clear_session()
    say(f"gan_batch_size: auto takes {best}")
    return best


def costs(config: Config, seconds: float, budget: float) -> dict[str, Cost]:
    """The cost of each stage's training; of `evaluate`, the judge's.

    Args:
        config: the resolved options, precision included.
        seconds: how long to measure the GAN's step.
        budget: seconds after which no further stage is measured: its cost is estimated from the
            last that was.
    """
    deadline = time.perf_counter() + budget
    precision.seed_everything(config)
    images = {
        "gan": config.gan.kimg,
        "regressor": config.regressor.kimg,
        "inversion": config.inversion.kimg,
        "features": 0.0 if features_side(config) is None else config.features.kimg,
        "directions": config.directions.kimg,
        "evaluate": config.evaluate.judge_kimg,
    }
    found: dict[str, Cost] = {}
    steps = _steps(config, seconds, budget / 2)
    for stage, kimg in images.items():
        if not found or time.perf_counter() < deadline:
            found[stage] = Cost(next(steps), 1000 * kimg, True)
            last = stage
        else:
            cost = found[last].seconds * REFERENCE_COST[stage] / REFERENCE_COST[last]
            found[stage] = Cost(cost, 1000 * kimg, False)
    return found


def _steps(config: Config, seconds: float, budget: float) -> Iterator[float]:
    """Seconds per image of each stage's training in the order of `REFERENCE_COST`.

    A single step is timed of all but the GAN. The networks are new, and shared as in a run.
    """
    policy = precision.compute_policy(config)

    def per_image(trainer: loop.Trainer, batch: Any, size: int) -> float:
        return seconds_per_step(trainer, batch, config, 0.0) / size

    with replicas.scope():
        gan = progressive.make_trainer(config, policy)
    reals = config.gan.batch_size * config.gan.d_steps
    yield _gan_step(gan, config, seconds, budget) / reals

    size = config.regressor.batch_size
    with replicas.scope():
        network = vgg.Regressor(
            ATTRIBUTES,
            config.resolution,
            config.regressor.resolution,
            vgg.SCRATCH_INPUT_SCALE,
            width=vgg.width_of(config.regressor.vgg_weights),
            dtype=policy,
        )
        trainer = regressor.RegressorTrainer(network, config)
    labels = tf.zeros((replicas_share(size), len(ATTRIBUTES)))
    batch = (_photos(config, size), labels)
    # Measured at full resolution; the steps at half of it cost a quarter.
    share = 1 - 0.75 * regressor.SMALL_FRACTION if trainer.small_steps else 1.0
    trainer.small_steps = 0
    yield share * per_image(trainer, batch, size)

    size = config.inversion.batch_size
    with replicas.scope():
        generator = models.build_generator(config, policy)
        generator.space = config.inversion.space
        encoder = Encoder(config.resolution, generator.latent_shape, config.inversion.width, policy)
        perceptual = vgg.Perceptual(network, None)
        trainer = inversion.InversionTrainer(encoder, generator, perceptual, config)
    yield per_image(trainer, _photos(config, size), size)

    size, side = FEATURES_BATCH_SIZE, features_side(config)
    codec = Codec(encoder, generator)
    labels = tf.zeros((replicas_share(size), len(ATTRIBUTES)))
    if side is None:
        yield 0.0
    else:
        with replicas.scope():
            codec = features.new_codec(codec, side, policy)
            trainer = features.FeaturesTrainer(
                codec,
                AttributeDiscriminator(gan.discriminator, len(ATTRIBUTES), dtype=policy),
                np.zeros((len(ATTRIBUTES), *generator.latent_shape), np.float32),
                range(len(ATTRIBUTES)),
                range(len(EDITED)),
                config,
            )
        # Measured with edits; the steps before them cost about half (119 of 227 ms).
        trainer.first_edits = 0
        share = 1 - 0.5 * features.RECONSTRUCTION
        yield share * per_image(trainer, (_photos(config, size), labels), size)

    size = config.directions.batch_size
    with replicas.scope():
        trainer = directions.DirectionsTrainer(EDITED, codec, gan.discriminator, perceptual, config)
    yield per_image(trainer, _photos(config, size), size)

    size = JUDGE_BATCH_SIZE
    with replicas.scope():
        model = Judge(ATTRIBUTES, config.resolution, dtype=policy)
        trainer = judge.JudgeTrainer(model, 1, config.seed)
    labels = tf.zeros((replicas_share(size), len(ATTRIBUTES)))
    yield per_image(trainer, (_photos(config, size), labels), size)


def replicas_share(size: int) -> int:
    """One replica's rows of a batch."""
    return size // replicas.strategy().num_replicas_in_sync


def _photos(config: Config, size: int) -> tf.Tensor:
    """One replica's rows of a batch of noise, float32 `[n, R, R, 3]` in [-1, 1]."""
    shape = (replicas_share(size), config.resolution, config.resolution, 3)
    return tf.random.stateless_uniform(shape, (0, 0), -1.0, 1.0)
