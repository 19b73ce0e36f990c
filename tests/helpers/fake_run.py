"""A finished but untrained run folder for tests: real models and metadata, made in seconds."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import shared
import tiny

from cgan_tf import data
from cgan_tf.core import artifact, run_folder
from cgan_tf.core import config as config_module
from cgan_tf.core.config import Config, features_side
from cgan_tf.core.files import file_hash, write_text
from cgan_tf.core.options import resolve
from cgan_tf.editing import models
from cgan_tf.networks.dcgan import level_widths
from cgan_tf.networks.detail_features import DetailFeatures
from cgan_tf.networks.encoder import Encoder
from cgan_tf.networks.generators import AnyGenerator
from cgan_tf.networks.vgg import SCRATCH_INPUT_SCALE, Regressor

ATTRIBUTES = ("Smiling", "Blond_Hair", "Eyeglasses")
PSNR_P5 = 1.0  # dB; all photos of the tests are reconstructed better
FEATURES_WIDTH = 8


def make_config(cache: Path, **options) -> Config:
    """Resolved options: 32 px, 100 synthetic faces; `options` by flag."""
    values = {
        "seed": 7,
        "resolution": 32,
        "gan_z_dim": 24,
        "gan_width": 16,
        "attributes": ATTRIBUTES,
        "synthetic_size": 100,
        "cache_dir": str(cache),
    }
    return resolve(config_module.replace(Config(), **(values | options)))


def make_run(path: Path, config: Config) -> run_folder.RunFolder:
    """A run whose stages up to directions have finished."""
    keras.utils.set_random_seed(config.seed)
    folder = run_folder.RunFolder(path)
    photos = data.open_data(config, say=lambda line: None)
    folder.save_config(config, {"digest": photos.digest})
    generator = models.build_generator(config)
    generator.space = config.inversion.space
    regressor = Regressor(
        photos.attribute_names, config.resolution, config.resolution, SCRATCH_INPUT_SCALE
    )
    encoder = Encoder(config.resolution, generator.latent_shape, 16)
    levels = len(level_widths(config.resolution, 1))  # 3 at 32 px; gains have the same product
    if config.gan.arch == "dcgan":
        shake(generator, gain=8.0 ** (3 / levels))  # its initial images are almost gray
    elif config.gan.arch == "residual":
        shake(generator, gain=2.0)
    else:  # its initial images are gray
        for layer in generator.to_image:
            # With more levels, rounding in the latent makes a larger difference.
            scale = (3 / levels) ** 4
            layer.kernel.assign(scale * keras.random.normal(layer.kernel.shape))
    shake(encoder, gain=1.2 ** (3 / levels))
    made = {
        "gan": generator,
        "regressor": regressor,
        "inversion": encoder,
        "features": make_features(config, generator),
    }
    for name, model in made.items():
        stage = folder.stage(name)
        stage.begin(config, photos.digest)
        if model is None:
            stage.model.mkdir(exist_ok=True)
        else:
            artifact.save_model(model, stage.model)
        stage.finish(**({"psnr_p5": PSNR_P5} if name in ("inversion", "features") else {}))
    stage = folder.stage("directions")
    stage.begin(config, photos.digest)
    owner = file_hash(folder.stage("gan").model / "weights.h5")
    draw = np.random.Generator(np.random.PCG64(config.seed))
    for name in config.attributes:
        entry = {
            "attribute": name,
            "space": generator.space,
            "vector": draw.standard_normal(generator.latent_shape).tolist(),
            "generator": owner,
            "calibration": [{"strength": 1.0, "change": 0.5, "n": 10}],
        }
        write_text(stage.model / f"{name}.json", json.dumps(entry))
    stage.finish()
    return folder


def make_features(config: Config, generator: AnyGenerator) -> DetailFeatures | None:
    """Detail features that matter, although they are untrained; None if the run has none."""
    side = features_side(config)
    if side is None:
        return None
    channels = generator.channels_at(side)
    features = DetailFeatures(config.resolution, side, channels, FEATURES_WIDTH)
    shake(features, gain=1.0)
    for weight in features.weights:  # the last layers start at 0
        if not weight.numpy().any():
            weight.assign(0.1 * keras.random.normal(weight.shape))
    return features


def _shared(name: str) -> run_folder.RunFolder:
    """The run folder of this name, which the processes of the tests share."""

    def make(path: Path) -> None:
        make_run(path / "run", make_config(path / "cache"))

    return run_folder.RunFolder(shared.folder(name, make) / "run")


@functools.cache
def shared_run() -> run_folder.RunFolder:
    """One run folder for all tests that only read it."""
    with _vgg16(tiny.VGG16):
        return _shared("full")


@functools.cache
def shared_export() -> Path:
    """One export of `shared_run`, in every format, for all tests that only read it."""
    from cgan_tf.export import stage

    run = shared_run()

    def make(path: Path) -> None:
        stage.export_to(run.load_config(), run, path / "export", say=lambda line: None)

    with _vgg16(tiny.VGG16):
        return shared.folder("full_export", make) / "export"


@contextlib.contextmanager
def _vgg16(builder: Callable[..., keras.Model]) -> Iterator[None]:
    """Within it VGG16 is what the function builds, whatever a test has put in its place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.applications, "VGG16", builder)
        yield


def slim() -> contextlib.AbstractContextManager[None]:
    """Within it VGG16 is `tiny.slim_vgg16`: `slim_run` and `slim_forms` need it."""
    return _vgg16(tiny.slim_vgg16)


@functools.cache
def slim_run() -> run_folder.RunFolder:
    """As `shared_run`, with a slim regressor: it loads in a fraction of the time."""
    with slim():
        return _shared("slim")


@functools.cache
def slim_forms() -> dict[str, Path]:
    """The model of `slim_run` as run folder, SavedModel, and TFLite file in float32 and float16."""
    from cgan_tf.export import stage

    run = slim_run()
    config = config_module.replace(
        run.load_config(),
        export_formats=("saved_model", "tflite"),
        export_quantize=("none", "float16"),
    )

    def make(path: Path) -> None:
        stage.export_to(config, run, path / "export", say=lambda line: None)

    with slim():
        output = shared.folder("slim_export", make) / "export"
    return {
        "run": run.path,
        "saved_model": output / "saved_model",
        "float32": output / "translator_float32.tflite",
        "float16": output / "translator_float16.tflite",
    }


def shake(model: keras.Model, gain: float) -> None:
    """Changes every weight: batch normalization, biases and means start as the identity."""
    draw = np.random.Generator(np.random.PCG64(1))
    for weight in model.weights:
        value = weight.numpy()
        if value.ndim > 1:
            weight.assign(value * gain)
        else:
            weight.assign(value + np.abs(draw.normal(0, 0.1, value.shape)))
