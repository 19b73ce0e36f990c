"""The start from another run's networks, --init_from.

A stage that has no checkpoint yet begins with the weights of the same stage of that run, if they
fit, and with fresh optimizers. What it began with is recorded in its metadata.json, so that a
resumed stage, whose checkpoint has everything, needs the other run no longer.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras

from cgan_tf.core import artifact, presets
from cgan_tf.core import config as config_module
from cgan_tf.core.config import OPTIONS, Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash
from cgan_tf.core.run_folder import INIT_FROM, RunFolder, StageFolder, recorded_options
from cgan_tf.editing import description, models
from cgan_tf.networks.dcgan import level_widths
from cgan_tf.networks.encoder import Encoder
from cgan_tf.networks.vgg import FROM_SCRATCH, Regressor, width_of
from cgan_tf.stages.gan_trainer import GAN
from cgan_tf.training import cluster

STAGES = ("gan", "regressor", "inversion")  # those that begin with networks of the other run
# The options that decide on the shapes and the meaning of the GAN's weights, but for the sizes.
GAN_FLAGS = (
    "gan_arch",
    "gan_style",
    "gan_z_dim",
    "gan_prior",
    "gan_g_norm",
    "gan_d_norm",
    "gan_minibatch_std",
    "gan_equalized_lr",
)
# Architectures to which `networks.growing` adds a finer level.
GROWING = ("dcgan", "stylegan")
# The same of the encoder, whose latents are the generator's.
ENCODER_FLAGS = ("resolution", "inversion_space", "inversion_width")


class Start(NamedTuple):
    """What a stage begins with.

    Attributes:
        record: for metadata.json; empty if the stage begins with fresh networks.
        networks: the other run's, to be copied; empty unless the stage begins now, on the chief.
        note: one line on what differs from the request; "" if nothing does.
    """

    record: dict[str, Any]
    networks: tuple[keras.Model, ...] = ()
    note: str = ""


def check(config: Config, run: RunFolder, stages: Sequence[str], restarted: Sequence[str]) -> None:
    """Checks before any work that the stages can begin with the networks of --init_from.

    Args:
        config: the resolved options.
        run: the run folder of this command.
        stages: the stages of this command.
        restarted: the stages that start over.

    Raises:
        UserError: --init_from is no run folder or this one, its GAN is unfinished, one of its
            files is damaged, or its networks do not fit.
    """
    for name in STAGES if config.init_from else ():
        if name in stages and (name in restarted or not run.stage(name).has_progress()):
            _read(config, run, name, attributes=())


def begin(config: Config, stage: StageFolder, attributes: Sequence[str] = ()) -> Start:
    """What the stage begins with, or began with if it has a checkpoint; recorded in metadata.json.

    Args:
        config: the resolved options.
        stage: its `begin` has been called.
        attributes: the data's.

    Raises:
        UserError: see `check`.
    """
    networks: tuple[keras.Model, ...] = ()

    def record() -> dict[str, Any]:
        nonlocal networks
        if stage.has_progress():
            return stage.read_metadata().get(INIT_FROM, {})
        key = f"{INIT_FROM} of {stage.name}"
        stage.run.clear_substitutions(key)
        if not config.init_from:
            return {}
        start = _read(config, stage.run, stage.name, attributes)
        if start.note:
            stage.run.record_substitution(key, start.note)
        if start.record:
            stage.record(**{INIT_FROM: start.record})
            print(f"{stage.name}: starts from the networks of {config.init_from}")
            note = _framing_note(config, stage.run)
            if note:
                print(f"note: {note}")
        networks = start.networks
        return start.record

    # The other workers get the chief's variables when training begins.
    return Start(cluster.on_chief(record), networks)


def copy_gan(trainer: GAN, start: Start) -> None:
    """Copies the networks of `begin` into the trainer's; the average starts as G."""
    if start.networks:
        targets = trainer.weights_at(start.record["resolution"])
        for source, target in zip(start.networks, targets, strict=True):
            _assign(start, source.weights, target)
        trainer.reset_average()


def copy_regressor(model: Regressor, start: Start) -> None:
    """Copies the network of `begin`; of the head, the columns of common attributes.

    Their biases move with the offsets, which depend on the data, so that the predictions are the
    same as before.
    """
    for parent in start.networks:
        _assign(start, parent.backbone.weights, model.backbone.weights)
        kernel, bias = model.head.get_weights()
        old_kernel, old_bias = parent.head.get_weights()
        for column, name in enumerate(model.attribute_names):
            if name in parent.attribute_names:
                old = parent.attribute_names.index(name)
                kernel[:, column] = old_kernel[:, old]
                bias[column] = old_bias[old] + (model.offsets[column] - parent.offsets[old])
        model.head.set_weights([kernel, bias])


def copy_encoder(encoder: Encoder, start: Start) -> None:
    """Copies the network of `begin`."""
    for parent in start.networks:
        _assign(start, parent.weights, encoder.weights)


def _assign(start: Start, source: Sequence, target: Sequence) -> None:
    """Copies weights by position; all of them, or none where a shape differs."""
    shapes, wanted = ([tuple(v.shape) for v in weights] for weights in (source, target))
    if shapes != wanted:
        one, two = next(
            pair for pair in itertools.zip_longest(shapes, wanted) if pair[0] != pair[1]
        )
        raise UserError(
            f"--init_from={start.record['run']}: has weights of shape {one} instead of {two}; give "
            "a run of the same networks"
        )
    for one, two in zip(source, target, strict=True):
        two.assign(one.numpy())


def _read(config: Config, run: RunFolder, stage: str, attributes: Sequence[str]) -> Start:
    """The networks with which a stage begins."""
    parent = _open(config, run)
    try:
        if stage == "gan":
            return _read_gan(config, parent)
        if stage == "regressor":
            return _read_regressor(config, parent, attributes)
        return _read_encoder(config, parent)
    except UserError as error:
        flag = f"--init_from={config.init_from}"
        raise UserError(str(error) if flag in str(error) else f"{flag}: {error}") from None


def _open(config: Config, run: RunFolder) -> RunFolder:
    """The run folder of --init_from."""
    flag = f"--init_from={config.init_from}"
    parent = RunFolder(config.init_from, "--init_from")
    if not parent.path.exists():
        raise UserError(f"{flag}: no such folder; give the --run_dir of a training")
    if parent.path.resolve() == run.path.resolve():
        raise UserError(f"{flag}: is --run_dir itself; give the folder of another training")
    if (parent.path / "weights.h5").exists() or not parent.read():
        raise UserError(
            f"{flag}: not a run folder; give the --run_dir of a training (a SavedModel or a TFLite "
            "file has no discriminator)"
        )
    return parent


def _read_gan(config: Config, parent: RunFolder) -> Start:
    stage = parent.stage("gan")
    if not stage.finished():
        raise UserError(
            f"its gan stage has not finished; run cgan train --stage=gan --run_dir={parent.path}"
        )
    old = _options(stage)
    for flag in GAN_FLAGS:
        value = getattr(config.gan, OPTIONS[flag].name)
        if value != old[flag]:
            raise _mismatch(config, flag, old[flag], f"use --{flag}={presets.text(old[flag])}")
    _check_sizes(config, old["resolution"], old["gan_width"])
    networks = (
        models.load_generator(stage.model),
        models.load_discriminator(stage.path / "discriminator"),
    )
    record = _record(config, parent, "gan/model", "gan/discriminator")
    return Start(record | {"resolution": old["resolution"]}, networks)


def _check_sizes(config: Config, resolution: int, width: int) -> None:
    """Refuses a resolution or width to which the other run's networks cannot grow.

    A width is that of the finest level, and doubles at each coarser one. So a network of twice the
    resolution has the same channels at the same sides if its width is half as large.

    Args:
        config: the resolved options.
        resolution: the other run's, in px.
        width: the other run's, in channels at its finest level.
    """
    growing = config.resolution != resolution
    if config.resolution not in (resolution, 2 * resolution):
        remedy = f"use --resolution={resolution} or {2 * resolution}"
        raise _mismatch(config, "resolution", f"{resolution} px", remedy)
    if growing and config.gan.arch not in GROWING:
        remedy = f"--gan_arch={config.gan.arch} cannot grow; use --resolution={resolution}"
        raise _mismatch(config, "resolution", f"{resolution} px", remedy)
    shared = level_widths(resolution, width)
    fitting = width // 2 if growing else width

    def fits(width: int) -> bool:
        return level_widths(config.resolution, width)[: len(shared)] == shared

    if not fits(config.gan.width):
        remedy = f"at {config.resolution} px use --gan_width={fitting}"
        if not fits(fitting) or fitting < OPTIONS["gan_width"].metadata["minimum"]:
            remedy = f"no width fits at {config.resolution} px; use --resolution={resolution}"
        raise _mismatch(config, "gan_width", f"{width} at {resolution} px", remedy)


def _read_regressor(config: Config, parent: RunFolder, attributes: Sequence[str]) -> Start:
    stage, weights = parent.stage("regressor"), config.regressor.vgg_weights
    flag = f"--init_from={config.init_from}"
    if weights not in ("auto", *FROM_SCRATCH):
        return Start(
            {}, note=f"the regressor starts from --regressor_vgg_weights={weights}, not from {flag}"
        )
    if not stage.finished():
        return Start({}, note=f"{flag} has no finished regressor; the regressor starts without")
    model = artifact.load_model(Regressor, stage.model)
    if model.width != width_of(weights):
        kind = "narrow" if model.width < width_of(weights) else "not narrow"
        return Start({}, note=f"the regressor does not start from {flag}, whose is {kind}")
    common = [name for name in attributes if name in model.attribute_names]
    note = ""
    if len(common) < len(attributes):
        fresh = ", ".join(name for name in attributes if name not in common)
        note = f"{flag} has no regressor of {fresh}; its outputs for them start from scratch"
    record = _record(config, parent, "regressor/model")
    return Start(record | {"input_scale": model.input_scale, "attributes": common}, (model,), note)


def _read_encoder(config: Config, parent: RunFolder) -> Start:
    stage, flag = parent.stage("inversion"), f"--init_from={config.init_from}"
    if not stage.finished():
        return Start({}, note=f"{flag} has no finished encoder; the encoder starts from scratch")
    old = _options(stage)
    for option in ENCODER_FLAGS:
        if config_module.get(config, option) != old[option]:
            value = presets.text(old[option])
            note = f"the encoder starts from scratch; that of {flag} has --{option}={value}"
            return Start({}, note=note)
    model = artifact.load_model(Encoder, stage.model)
    return Start(_record(config, parent, "inversion/model"), (model,))


def _framing_note(config: Config, run: RunFolder) -> str:
    """What to do if the other run's photos are framed in another way than this run's; else ""."""
    old = description.training_crop(RunFolder(config.init_from, "--init_from"))
    if old == description.training_crop(run):
        return ""
    if old == description.CELEBA_CROP:
        return (
            f"--init_from={config.init_from} has faces in CelebA's framing, --data={config.data} "
            "has not; --data=photos aligns photos of faces"
        )
    return (
        f"--data={config.data} has faces in CelebA's framing, --init_from={config.init_from} has "
        "not; --data=folder takes the center squares of photos"
    )


def _options(stage: StageFolder) -> dict[str, Any]:
    """The options of a finished stage, by flag."""
    return recorded_options(stage.name, stage.read_metadata())


def _mismatch(config: Config, flag: str, old: Any, remedy: str) -> UserError:
    value = presets.text(config_module.get(config, flag))
    return UserError(
        f"--{flag}={value}: --init_from={config.init_from} has {presets.text(old)}; {remedy}"
    )


def _record(config: Config, parent: RunFolder, *folders: str) -> dict[str, Any]:
    """The other run, and the hashes of the copied weights."""
    files = [Path(folder) / "weights.h5" for folder in folders]
    return {
        "run": config.init_from,
        "weights": {str(file): file_hash(parent.path / file) for file in files},
    }
