"""Trains on one and on two replicas (logical CPUs) and writes how the results differ.

    python tests/helpers/two_replicas.py CACHE OUT.json CASE...

It runs in a process of its own: logical devices must be configured before TensorFlow starts.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
import toy

from cgan_tf import data
from cgan_tf.core import config as config_module
from cgan_tf.core import replicas
from cgan_tf.core.config import Config
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import pipeline
from cgan_tf.networks.attribute_discriminator import AttributeDiscriminator
from cgan_tf.networks.codec import Codec
from cgan_tf.networks.dcgan import Discriminator, Generator
from cgan_tf.networks.encoder import Encoder
from cgan_tf.networks.judge import Judge
from cgan_tf.networks.vgg import Perceptual
from cgan_tf.stages import directions, features, gan, inversion, judge, regressor
from cgan_tf.stages.gan_trainer import GAN
from cgan_tf.training import checkpoint, cluster, loop

STEPS = 20
# At the usual learning rates a rounding error of these tiny, hardly trained networks grows tenfold
# in two steps, also on one replica: Adam's step is not smaller where a gradient is only rounding.
LOW_RATES = {"gan_g_lr": 1e-5, "gan_d_lr": 1e-5}
# With these weights and intervals the penalties matter.
GANS = {
    # One traced function with what replicas exchange: moments, also in the second derivative.
    "smoke": {"gan_d_norm": "batch", "gan_penalty_interval": 1, "gan_gamma": 10.0},
    "r1": {"gan_penalty_interval": 3, "gan_gamma": 10.0},
    "gp": {"gan_penalty": "gp", "gan_penalty_interval": 1, "gan_g_norm": "pixel"},
    "ragan": {"gan_objective": "ragan", "gan_penalty": "none", "gan_augment": "diffaugment"},
    "batch_norm": {
        "gan_d_norm": "batch",
        "gan_penalty": "r1+r2",
        "gan_penalty_interval": 3,
        "gan_gamma": 10.0,
        "gan_minibatch_std": False,
    },
    "resident": {"device_cache_gib": 1.0, "gan_d_steps": 2, "gan_gamma": 10.0},
    "ada": {"gan_augment": "ada", "gan_d_steps": 2, "gan_penalty_interval": 3},
    "style": {"gan_arch": "stylegan", "gan_objective": "rpgan", "gan_penalty_interval": 3},
    "wgan": {"gan_objective": "wgan", "gan_g_norm": "pixel"},
    "spectral": {"gan_d_norm": "spectral", "gan_objective": "hinge", "gan_penalty": "none"},
}


def make_gan(config: Config, faces: data.ImageData) -> loop.Trainer:
    return GAN(config, "float32")


def make_regressor(config: Config, faces: data.ImageData) -> loop.Trainer:
    return regressor.RegressorTrainer(regressor.build(config, faces, "float32")[0], config)


def make_judge(config: Config, faces: data.ImageData) -> loop.Trainer:
    judge.LEARNING_RATE = 1e-5  # as LOW_RATES
    return judge.JudgeTrainer(Judge(faces.attribute_names, 32), STEPS, config.seed)


def make_perceptual(config: Config, faces: data.ImageData) -> Perceptual:
    return Perceptual(regressor.build(config, faces, "float32")[0])


def scale(factor: float, *networks: keras.Model) -> None:
    """Enlarges the initial weights, so that images differ."""
    for network in networks:
        for weight in network.trainable_weights:
            weight.assign(weight.numpy() * factor)


def make_inversion(config: Config, faces: data.ImageData) -> loop.Trainer:
    inversion.LEARNING_RATE = 1e-5  # as LOW_RATES
    return inversion.InversionTrainer(
        Encoder(32, (8,), 4), Generator(32, 8, 4), make_perceptual(config, faces), config
    )


def make_directions(config: Config, faces: data.ImageData) -> loop.Trainer:
    encoder, generator = Encoder(32, (8,), 4), Generator(32, 8, 4)
    discriminator = Discriminator(32, 4)
    # By 4, the gradient along a direction differs by 7 % from rounding alone on some CPUs.
    scale(1.5, encoder, generator, discriminator)
    codec = Codec(encoder, generator)
    trainer = directions.DirectionsTrainer(
        config.attributes, codec, discriminator, make_perceptual(config, faces), config
    )
    trainer.directions.assign(np.random.default_rng(0).normal(size=(2, 8)))
    return trainer


def make_features(config: Config, faces: data.ImageData) -> loop.Trainer:
    features.LEARNING_RATE = features.D_LEARNING_RATE = 1e-5  # as LOW_RATES
    features.RECONSTRUCTION = 0.0  # edits from the first step
    encoder, generator = Encoder(32, (8,), 4), Generator(32, 8, 4)
    discriminator = Discriminator(32, 4)
    scale(1.5, encoder, generator, discriminator)
    codec = features.new_codec(Codec(encoder, generator), 8, "float32")
    draw = np.random.default_rng(1)
    for weight in codec.features.weights:  # the last layers start at 0
        weight.assign(weight.numpy() + 0.05 * draw.normal(size=weight.shape))
    count = len(faces.attribute_names)
    steps = np.random.default_rng(0).normal(size=(count, 8))
    discriminator = AttributeDiscriminator(discriminator, count)
    (conditions,) = discriminator.get_layer("conditions").weights  # start at 0, too
    conditions.assign(0.05 * draw.normal(size=conditions.shape))
    return features.FeaturesTrainer(codec, discriminator, steps, range(count), [0, 1], config)


STAGES = {
    "regressor": (make_regressor, {"regressor_resolution": 32, "regressor_batch_size": 8}),
    "judge": (make_judge, {}),
    "inversion": (
        make_inversion,
        {"inversion_batch_size": 8, "inversion_perceptual_crop": 16},
    ),
    "features": (make_features, {"features_kimg": 0.016 * STEPS}),
    "directions": (make_directions, {"directions_batch_size": 8}),
}


def run_steps(make: Callable, config: Config, faces: data.ImageData, labels: bool) -> tuple:
    """Each step's losses, and every variable before the first step, after it, and at the end."""
    keras.utils.set_random_seed(config.seed)
    with replicas.scope():
        trainer = make(config, faces)
    passes = config.gan.d_steps
    make_feed = pipeline.training_feed(faces, config, 8 * passes, labels=labels, passes=passes)
    train_step = loop.CompiledSteps(trainer, make_feed(0))
    variables = checkpoint.named_variables(trainer.checkpoint_parts())
    losses, states = [], []
    for step in range(STEPS + 1):
        if step in (0, 1, STEPS):
            states.append({name: variable.numpy() for name, variable in variables.items()})
        if step < STEPS:
            _, values = train_step(step)
            losses.append({name: float(value) for name, value in values.items()})
    return losses, *states


def distance(one: np.ndarray, two: np.ndarray) -> float:
    """|a - b| / |b|, in the Euclidean norm."""
    one, two = np.asarray(one, np.float64), np.asarray(two, np.float64)
    return float(np.linalg.norm(one - two) / max(np.linalg.norm(two), 1e-12))


def compare(
    case: str, config: Config, faces: data.ImageData, mirrored: tf.distribute.Strategy
) -> dict:
    """The differences between two replicas and one, by variable and by loss."""
    make, options = (make_gan, LOW_RATES | GANS[case]) if case in GANS else STAGES[case]
    config = config_module.replace(config, **options)
    results = []
    for strategy in (None, mirrored):
        replicas.use(strategy)
        results.append(run_steps(make, config, faces, labels=case in LABELLED))
    (losses, start, *states), (losses_of_two, _, *states_of_two) = results
    first, last = (
        {name: distance(two[name], value) for name, value in one.items()}
        for one, two in zip(states, states_of_two, strict=True)
    )
    return {
        "first": first,
        "last": last,
        "from_zero": [name for name, value in start.items() if not np.any(value)],
        "moved": {name: distance(value, states[0][name]) for name, value in states[1].items()},
        "errors": [
            {name: abs(two[name] - value) / max(1.0, abs(value)) for name, value in one.items()}
            for one, two in zip(losses, losses_of_two, strict=True)
        ],
        "losses": losses,
    }


def train_toy(config: Config, folder: RunFolder, faces: data.ImageData) -> None:
    stage = folder.stage("gan")
    stage.path.mkdir(parents=True, exist_ok=True)
    with replicas.scope():
        trainer = toy.Toy()
    # A step takes two elements of the data set, one per replica.
    loop.train(trainer, lambda seen: toy.feed(2 * seen), 0.06, toy.BATCH, stage, config)


LABELLED = ("regressor", "judge", "features")  # stages that train with the labels
RESUMES = {
    "resume": (train_toy, {}),
    "resume_resident": (gan.run, {"device_cache_gib": 1.0, "steps_per_call": 4}),
    "resume_gan": (gan.run, {"gan_augment": "ada", "gan_penalty_interval": 2}),
}


def resume(
    case: str, config: Config, faces: data.ImageData, mirrored: tf.distribute.Strategy
) -> dict[str, bool]:
    """Whether a killed and resumed training on two replicas ends like an uninterrupted one."""
    replicas.use(mirrored)
    train, options = RESUMES[case]
    options = {"gan_kimg": 0.048, "checkpoint_minutes": 1e-9} | options
    config = config_module.replace(config, **options)
    states = []
    for kill in (None, 4):
        folder = RunFolder(Path(tempfile.mkdtemp()) / "run")
        tiny.save_config(folder, config, faces)
        if kill:
            with pytest.MonkeyPatch.context() as patch:
                tiny.interrupt(patch, checkpoint=3, kill=kill)
                with pytest.raises(tiny.Killed):
                    train(config, folder, faces)
        train(config, folder, faces)
        states.append(tiny.final_state(folder.stage("gan")))
    return {name: value.tobytes() == states[1][name].tobytes() for name, value in states[0].items()}


def main(cache: str, out: str, *cases: str) -> None:
    config = tiny.make_config(Path(cache), devices=("CPU:0", "CPU:1"))
    cluster.start(config.devices)
    mirrored = replicas.strategy()
    faces = data.open_data(config, say=lambda line: None)
    keras.applications.VGG16 = tiny.slim_vgg16
    results = {}
    for case in cases:
        results[case] = (
            resume(case, config, faces, mirrored)
            if case in RESUMES
            else compare(case, config, faces, mirrored)
        )
        Path(out).write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
