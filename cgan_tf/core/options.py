"""From flags to a resolved config: parse, merge with a preset or a run folder, resolve `auto`."""

import dataclasses
import math
import os
import secrets
import typing
from collections.abc import Mapping
from typing import Any

from cgan_tf.core import config as config_module
from cgan_tf.core import presets, rules
from cgan_tf.core.cli import closest
from cgan_tf.core.config import AUTO, OPTIONS, USUAL_PENALTY, Config
from cgan_tf.core.errors import UserError

LAZY_INTERVAL = 16  # D steps between R1 and R2 penalties (Karras et al. 2020)


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
        if hint is float:
            value = float(text)
            if not math.isfinite(value):
                raise ValueError
            return value
    except (ValueError, KeyError):
        kind = "true or false" if hint is bool else "a number" if hint is float else "a whole number"
        kind += " or auto" if option.auto else ""
        raise UserError(f"--{flag}={text}: give {kind}") from None
    if typing.get_origin(hint) is tuple:
        parts = tuple(part.strip() for part in text.split(",") if part.strip())
        kind = typing.get_args(hint)[0]
        try:
            return tuple(kind(part) for part in parts)
        except ValueError:
            raise UserError(f"--{flag}={text}: give numbers, separated by commas") from None
    return text


def make(preset: str | None, given: Mapping[str, Any], stored: Config | None = None) -> Config:
    """The requested options: defaults, then the stored ones or the preset, then what was given.

    Args:
        preset: name of a preset, or None for the stored options or the bare defaults.
        given: values by flag, already of the options' types.
        stored: the options of an existing run folder. A preset given again must be the same.

    Raises:
        UserError: an unknown preset, or a value outside its option's range.
    """
    if preset and preset not in presets.PRESETS:
        raise UserError(
            f"--preset={preset}: unknown preset{closest(preset, presets.PRESETS)}; "
            f"one of {', '.join(presets.PRESETS)}"
        )
    if stored is not None:
        if preset and preset != stored.preset:
            raise UserError(
                f"--preset={preset}: this run folder was made with "
                f"{'preset ' + stored.preset if stored.preset else 'no preset'}; "
                "take another --run_dir"
            )
        config = config_module.replace(stored, **given)
    else:
        values = {"preset": preset or ""} | presets.PRESETS.get(preset or "", {}) | dict(given)
        config = config_module.replace(Config(), **values)
    rules.check(config)
    return config


def resolve(config: Config) -> Config:
    """The options without `auto` and without values that stand for others.

    What depends on the machine or on the data is resolved later, where it is known: the devices
    and the precision when TensorFlow starts, the attributes when the data is open.

    Raises:
        UserError: a combination that makes no sense once it is resolved.
    """
    gan, inversion = config.gan, config.inversion
    penalty = USUAL_PENALTY[gan.objective] if gan.penalty == AUTO else gan.penalty
    interval = gan.penalty_interval or (1 if penalty in ("gp", "none") else LAZY_INTERVAL)
    space = inversion.space
    if space == AUTO:
        space = "w" if gan.arch == "stylegan" else "z"
    cache = config.cache_dir
    if cache is None:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        cache = os.path.join(home, "cgan_tf")
    resolved = dataclasses.replace(
        config,
        seed=secrets.randbelow(2**31) if config.seed is None else config.seed,
        cache_dir=cache,
        gan=dataclasses.replace(gan, penalty=penalty, penalty_interval=interval),
        regressor=dataclasses.replace(
            config.regressor, resolution=config.regressor.resolution or config.resolution
        ),
        inversion=dataclasses.replace(
            inversion,
            space=space,
            perceptual_crop=inversion.perceptual_crop or config.resolution,
        ),
    )
    rules.check(resolved)
    return resolved
