"""A run that others start from (--init_from): its networks have every weight, but no training."""

import keras
import numpy as np
import tiny

from cgan_tf.core import artifact
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.editing import models
from cgan_tf.stages import init_from, progressive

NETWORKS = ("gan/model", "gan/discriminator", "regressor/model", "inversion/model")
GROWN = {"resolution": 64, "gan_width": 4}  # from 32 px and width 8


def shaken(networks):
    """Gives every weight another value: biases and batch norm start as the identity."""
    draw = np.random.default_rng(4)
    for weight in (weight for network in networks for weight in network.weights):
        weight.assign(weight.numpy() + draw.uniform(-0.1, 0.1, weight.shape))


def make_parent(path, cache, **options):
    """A run whose gan stage has finished; its networks are not trained."""
    config = tiny.make_config(cache, **options)
    keras.utils.set_random_seed(5)
    folder = RunFolder(path)
    folder.save_config(config, {"digest": "photos"})
    stage = folder.stage("gan")
    assert stage.begin(config, "photos")
    generator, discriminator = models.build_generator(config), models.build_discriminator(config)
    shaken((generator, discriminator))
    artifact.save_model(generator, stage.model)
    artifact.save_model(discriminator, stage.path / "discriminator")
    stage.finish()
    return folder


def make_child(path, parent, cache, faces, **options):
    """The options and the folder of a run that starts from `parent`."""
    config = tiny.make_config(cache, init_from=str(parent.path), **options)
    folder = RunFolder(path)
    tiny.save_config(folder, config, faces)
    return config, folder


def started(config, folder, digest="photos"):
    """The trainer of a gan stage before its first step."""
    stage = folder.stage("gan")
    assert stage.begin(config, digest)
    start = init_from.begin(config, stage)
    trainer = progressive.make_trainer(config, "float32", start.record.get("resolution"))
    init_from.copy_gan(trainer, start)
    return trainer


def networks_of(parent):
    """G and D of a finished gan stage."""
    stage = parent.stage("gan")
    return (
        models.load_generator(stage.model),
        models.load_discriminator(stage.path / "discriminator"),
    )
