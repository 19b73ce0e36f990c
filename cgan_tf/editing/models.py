"""Builds the GAN that the options describe, and loads what a run's stages have finished."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cgan_tf.core import artifact
from cgan_tf.core.config import Config, features_side
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash
from cgan_tf.core.run_folder import RunFolder, StageFolder
from cgan_tf.networks.codec import Codec
from cgan_tf.networks.dcgan import Discriminator, Generator
from cgan_tf.networks.detail_features import DetailFeatures
from cgan_tf.networks.encoder import Encoder
from cgan_tf.networks.generators import AnyGenerator
from cgan_tf.networks.residual import ResidualDiscriminator, ResidualGenerator
from cgan_tf.networks.stylegan import StyleGenerator
from cgan_tf.networks.vgg import Perceptual, Regressor, build_backbone, load_weights, widened
from cgan_tf.training import precision

GENERATORS = (Generator, StyleGenerator, ResidualGenerator)


def finished_stage(run: RunFolder, name: str) -> StageFolder:
    """The folder of a finished stage.

    Raises:
        UserError: the stage has not finished; the message gives its command.
    """
    stage = run.stage(name)
    if not stage.finished():
        raise UserError(
            f"{run.path}: the {name} stage has not finished; run "
            f"python train_main.py --stage={name} --run_dir={run.path}"
        )
    return stage


def build_generator(
    config: Config, dtype: str = "float32", name: str = "generator"
) -> AnyGenerator:
    """The generator that the options describe, with fresh weights, called with latents in z."""
    gan = config.gan
    if gan.arch == "stylegan":
        return StyleGenerator(
            config.resolution, gan.z_dim, gan.width, gan.style, dtype=dtype, name=name
        )
    if gan.arch == "residual":
        return ResidualGenerator(
            config.resolution, gan.z_dim, gan.width, gan.prior, gan.g_norm, dtype=dtype, name=name
        )
    return Generator(
        config.resolution,
        gan.z_dim,
        gan.width,
        gan.prior,
        gan.g_norm,
        gan.equalized_lr,
        dtype=dtype,
        name=name,
    )


def build_discriminator(config: Config, dtype: str = "float32") -> keras.Model:
    """The discriminator that the options describe, with fresh weights."""
    gan = config.gan
    if gan.arch == "residual":
        return ResidualDiscriminator(config.resolution, gan.width, gan.minibatch_std, dtype=dtype)
    return Discriminator(
        config.resolution, gan.width, gan.d_norm, gan.minibatch_std, gan.equalized_lr, dtype=dtype
    )


def load_generator(folder: Path, space: str = "z", dtype: str = "float32") -> AnyGenerator:
    """The generator of an artifact.

    Args:
        folder: the artifact's folder.
        space: latent space of its input. Only a `StyleGenerator` has other spaces than z.
        dtype: dtype policy of the computation.

    Raises:
        UserError: the artifact is missing, damaged, or of another class.
    """
    generator = artifact.load_model(GENERATORS, folder, dtype)
    generator.space = space
    return generator


def load_codec(
    run: RunFolder, config: Config, dtype: str = "float32", features: bool = True
) -> Codec:
    """Encoder, generator and detail features of a run.

    Args:
        run: the run folder.
        config: the resolved options.
        dtype: dtype policy of the computation.
        features: load the detail features, if the run has them.

    Raises:
        UserError: a model is missing or damaged.
    """
    detail_features = None
    if features and features_side(config) is not None:
        detail_features = artifact.load_model(DetailFeatures, run.stage("features").model, dtype)
    return Codec(
        artifact.load_model(Encoder, run.stage("inversion").model, dtype),
        load_generator(run.stage("gan").model, config.inversion.space, dtype),
        detail_features,
    )


def load_discriminator(folder: Path, dtype: str = "float32") -> keras.Model:
    """The discriminator of an artifact.

    Raises:
        UserError: the artifact is missing, damaged, or of another class.
    """
    return artifact.load_model((Discriminator, ResidualDiscriminator), folder, dtype)


def check_perceptual(config: Config) -> None:
    """Raises a UserError if the perceptual loss needs weights that cannot be loaded."""
    if config.inversion.perceptual != "regressor":
        load_weights(build_backbone(), config.inversion.perceptual, "--inversion_perceptual")


def load_perceptual(config: Config, regressor: Regressor) -> Perceptual:
    """The perceptual distance that --inversion_perceptual names.

    Raises:
        UserError: it needs weights that cannot be loaded.
    """
    backbone = None
    if config.inversion.perceptual != "regressor":
        backbone = build_backbone(precision.compute_policy(config))
        load_weights(backbone, config.inversion.perceptual, "--inversion_perceptual")
        backbone.trainable = False
    return Perceptual(regressor, backbone)


def load_regressor(run: RunFolder, custom: Iterable[str] = (), dtype: str = "float32") -> Regressor:
    """The regressor of a run whose regressor stage has finished.

    Args:
        run: the run folder.
        custom: custom attributes. Their heads come after those that the regressor was trained with.
        dtype: dtype policy of the computation.

    Raises:
        UserError: the model or the file of a custom attribute is missing or damaged.
    """
    regressor = artifact.load_model(Regressor, run.stage("regressor").model, dtype)
    names = tuple(custom)
    if not names:
        return regressor
    weights = file_hash(run.stage("regressor").model / "weights.h5")
    size = regressor.head.kernel.shape[0]
    heads = {}
    for name in names:
        path = run.custom_path(name)
        entry = _read_entry(path, _CUSTOM_REMEDY)
        try:
            with np.errstate(over="ignore"):  # becomes infinity, which is refused below
                kernel = np.asarray(entry["head"]["kernel"], np.float32)
            bias, owner = float(entry["head"]["bias"]), entry["regressor"]
        except (KeyError, OverflowError, TypeError, ValueError):
            raise UserError(f"{path} is damaged; {_CUSTOM_REMEDY}") from None
        if owner != weights:
            raise UserError(
                f"{path} belongs to another regressor than {run.path}/regressor; {_CUSTOM_REMEDY}"
            )
        if kernel.shape != (size,) or not np.isfinite([*kernel, bias]).all():
            raise UserError(
                f"{path} is damaged (its head is not {size} finite numbers); {_CUSTOM_REMEDY}"
            )
        heads[name] = kernel, bias
    return widened(regressor, heads, dtype)


_CUSTOM_REMEDY = "add it again with cgan attribute --restart"


def read_directions(
    run: RunFolder, shape: tuple[int, ...], custom: bool = False
) -> dict[str, dict[str, Any]]:
    """The direction files of a run by attribute, in the order of the run's --attributes.

    Args:
        run: a run folder whose directions stage has finished.
        shape: of one latent; each vector must have it.
        custom: append the directions of the custom attributes.

    Raises:
        UserError: a file is missing or damaged, or belongs to another generator.
    """
    folder = run.stage("directions").model
    names = run.load_config().attributes or sorted(path.stem for path in folder.glob("*.json"))
    generator = file_hash(run.stage("gan").model / "weights.h5")
    remedy = f"run python train_main.py --stage=directions --restart --run_dir={run.path}"
    if not names:
        raise UserError(f"{folder}: contains no directions; {remedy}")
    files = {name: (folder / f"{name}.json", remedy) for name in names}
    if custom:
        files |= {name: (run.custom_path(name), _CUSTOM_REMEDY) for name in run.custom_attributes()}
    directions = {}
    for name, (path, remedy) in files.items():
        directions[name] = entry = _read_entry(path, remedy)
        try:
            with np.errstate(over="ignore"):  # becomes infinity, which is refused below
                vector, owner = np.asarray(entry["vector"], np.float32), entry["generator"]
        except (KeyError, OverflowError, TypeError, ValueError):
            raise UserError(f"{path} is damaged; {remedy}") from None
        if owner != generator:
            raise UserError(f"{path} belongs to another generator than {run.path}/gan; {remedy}")
        if vector.shape != shape or not np.isfinite(vector).all():
            numbers = " x ".join(map(str, shape))
            raise UserError(f"{path} is damaged (not {numbers} finite numbers); {remedy}")
    return directions


def _read_entry(path: Path, remedy: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except ValueError:
        raise UserError(f"{path} is damaged; {remedy}") from None
