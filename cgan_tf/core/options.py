"""From flags to resolved options: parse, merge with a preset or a run folder, resolve `auto`."""

import dataclasses
import math
import os
import secrets
import tempfile
import typing
from collections.abc import Mapping
from typing import Any

from cgan_tf.core import config as config_module
from cgan_tf.core import presets, rules
from cgan_tf.core.cli import closest
from cgan_tf.core.config import AUTO, MEASURED, OPTIONS, USUAL_PENALTY, VGG_SIDE, Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand

LARGEST_SIDE = 32  # px, of the detail features by `auto`
LAZY_INTERVAL = 16  # D steps between R1 and R2 penalties (Karras et al. 2020)
# What `auto` of an option depends on.
DERIVED_FROM = {
    "gan_penalty": ("gan_objective",),
    "gan_penalty_interval": ("gan_objective", "gan_penalty"),
    "regressor_resolution": ("resolution",),
    "inversion_space": ("gan_arch",),
    "inversion_perceptual_crop": ("resolution",),
    "features_side": ("resolution",),
}


def parse(flag: str, text: str) -> Any:
    """The value of an option from the text of its flag.

    Raises:
        UserError: the text does not fit the option's type.
    """
    option = OPTIONS[flag]
    hint = option.hint
    if option.auto and text == AUTO:
        return None
    try:
        if hint is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if hint in (int, int | None):
            return int(text)
        if hint in (float, float | None):
            value = float(text)
            if not math.isfinite(value):
                raise ValueError
            return value
    except (ValueError, KeyError):
        kinds = {bool: "true or false", float: "a number", float | None: "a number"}
        kind = kinds.get(hint, "a whole number")
        auto = " or auto" if option.auto else ""
        raise UserError(f"--{flag}={text}: give {kind}{auto}") from None
    if typing.get_origin(hint) is tuple:
        parts = tuple(part.strip() for part in text.split(",") if part.strip())
        kind = typing.get_args(hint)[0]
        try:
            return tuple(kind(part) for part in parts)
        except ValueError:
            raise UserError(f"--{flag}={text}: give numbers, separated by commas") from None
    return text


def check_preset(preset: str | None) -> None:
    """Raises a UserError, with the most similar name, if there is no such preset."""
    if preset and preset not in presets.PRESETS:
        raise UserError(
            f"--preset={preset}: unknown preset{closest(preset, presets.PRESETS)}; "
            f"one of {', '.join(presets.PRESETS)}"
        )


def make(
    preset: str | None,
    given: Mapping[str, Any],
    stored: Config | None = None,
    requested: Mapping[str, Any] | None = None,
) -> Config:
    """The options before `resolve`: the defaults or the stored ones, the preset, then the flags.

    Args:
        preset: name of a preset; None for the stored one or for the bare defaults.
        given: the flags' values, parsed.
        stored: the resolved options of an existing run folder. Those that `auto` derived from an
            option that changes now are derived again.
        requested: the flags' values of the commands that made `stored`.

    Raises:
        UserError: an unknown preset, not the preset of `stored`, or a value out of range.
    """
    check_preset(preset)
    # What is measured later begins with the value that it has without `auto`.
    given = {flag: v for flag, v in given.items() if v is not None or flag not in MEASURED}
    if stored is None:
        values = {"preset": preset or ""} | presets.PRESETS.get(preset or "", {}) | dict(given)
        config = config_module.replace(Config(), **values)
    else:
        if preset and preset != stored.preset:
            made = f"preset {stored.preset}" if stored.preset else "no preset"
            raise UserError(
                f"--preset={preset}: this run folder was made with {made}; use another --run_dir"
            )
        chosen = presets.PRESETS.get(stored.preset, {}) | dict(requested or {}) | dict(given)
        changed = {flag for flag in given if given[flag] != config_module.get(stored, flag)}
        derived = {
            flag: chosen.get(flag, OPTIONS[flag].default)
            for flag, sources in DERIVED_FROM.items()
            if changed & set(sources)
        }
        config = config_module.replace(stored, **(derived | dict(given)))
    rules.check(config)
    return config


def _cache_home() -> str:
    """The user's cache folder; the temporary folder for a user without a home, in a container."""
    home = os.path.expanduser("~")
    own = tempfile.gettempdir() if home == "~" else os.path.join(home, ".cache")
    return os.environ.get("XDG_CACHE_HOME") or own


def absolute(path: str | None, option: str) -> str | None:
    """The path from the root, since a later command may start in another folder.

    An address such as gs://bucket, which TensorFlow Datasets accepts, stays as it is.

    Args:
        path: value of a flag.
        option: the flag, for an error.

    Raises:
        UserError: see `files.expand`.
    """
    if not path or "://" in path:
        return path
    return os.path.abspath(expand(path, option))


def resolve(config: Config) -> Config:
    """The options with every `auto` replaced by its value; resolved options stay as they are.

    What depends on the machine or on the data is resolved later: the devices and the precision
    when TensorFlow has started, the attributes when the data set has been opened.

    Raises:
        UserError: the resolved options contradict each other.
    """
    gan, inversion = config.gan, config.inversion
    penalty = USUAL_PENALTY[gan.objective] if gan.penalty == AUTO else gan.penalty
    interval = gan.penalty_interval or (1 if penalty in ("gp", "none") else LAZY_INTERVAL)
    space = inversion.space
    if space == AUTO:
        space = "w" if gan.arch == "stylegan" else "z"
    vgg_side = min(config.resolution, VGG_SIDE)
    cache = config.cache_dir
    if cache is None:
        cache = os.path.join(_cache_home(), "cgan_tf")
    resolved = dataclasses.replace(
        config,
        seed=secrets.randbelow(2**31) if config.seed is None else config.seed,
        data_dir=absolute(config.data_dir, "--data_dir"),
        cache_dir=absolute(cache, "--cache_dir"),
        gan=dataclasses.replace(gan, penalty=penalty, penalty_interval=interval),
        regressor=dataclasses.replace(
            config.regressor, resolution=config.regressor.resolution or vgg_side
        ),
        inversion=dataclasses.replace(
            inversion,
            space=space,
            perceptual_crop=inversion.perceptual_crop or vgg_side,
        ),
        features=dataclasses.replace(
            config.features,
            side=str(min(config.resolution // 4, LARGEST_SIDE))
            if config.features.side == AUTO
            else config.features.side,
        ),
        evaluate=dataclasses.replace(
            config.evaluate,
            identity_model=absolute(config.evaluate.identity_model, "--evaluate_identity_model"),
        ),
    )
    rules.check(resolved)
    return resolved
