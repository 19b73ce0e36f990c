"""Which values the options may have, and which combinations are refused."""

import math
from collections.abc import Callable
from typing import Any

from cgan_tf.core import presets
from cgan_tf.core.cli import closest
from cgan_tf.core.config import (
    FEATURES_BATCH_SIZE,
    JUDGE_BATCH_SIZE,
    MINIBATCH_GROUP,
    OPTIONS,
    RESOLUTIONS,
    Config,
    flat,
    get,
    penalty_terms,
)
from cgan_tf.core.errors import UserError

# The batches that D sees, in which --gan_minibatch_std groups images.
GROUPED_BATCHES = ("gan_batch_size", "directions_batch_size")
BATCH_SIZES = (
    "gan_batch_size",
    "regressor_batch_size",
    "inversion_batch_size",
    "directions_batch_size",
)

Condition = Callable[[Config], bool]


def _stylegan(c: Config) -> bool:
    return c.gan.arch == "stylegan"


def _residual(c: Config) -> bool:
    return c.gan.arch == "residual"


# (condition, message): the message of the first condition that holds is the error. It is formatted
# with all options by flag.
RULES: tuple[tuple[Condition, str], ...] = (
    (
        lambda c: c.resolution not in RESOLUTIONS,
        f"--resolution={{resolution}}: one of {', '.join(map(str, RESOLUTIONS))}",
    ),
    (
        lambda c: c.seed is not None and not 0 <= c.seed < 2**32,
        f"--seed={{seed}}: from 0 to {2**32 - 1}",
    ),
    (
        lambda c: c.data in ("celeba_dir", "folder", "photos") and not c.data_dir,
        "--data_dir: give the folder of the photos (--data={data} needs it)",
    ),
    (
        lambda c: len(c.gan.betas) != 2 or not all(0 <= beta < 1 for beta in c.gan.betas),
        "--gan_betas={gan_betas}: give two numbers from 0 to below 1",
    ),
    (lambda c: c.gan.real_label > 1, "--gan_real_label={gan_real_label}: must be at most 1"),
    # Options that only one of the architectures has.
    (
        lambda c: _stylegan(c) and c.gan.g_norm != "batch",
        "--gan_g_norm={gan_g_norm} with --gan_arch=stylegan: its style layers normalize; "
        "use --gan_g_norm=batch or --gan_arch=dcgan",
    ),
    (
        lambda c: _stylegan(c) and c.gan.prior != "normal",
        "--gan_prior={gan_prior} with --gan_arch=stylegan: its mapping network only uses the "
        "direction of z; use --gan_prior=normal or --gan_arch=dcgan",
    ),
    (
        lambda c: not _stylegan(c) and c.gan.style != "modulated",
        "--gan_style={gan_style}: only --gan_arch=stylegan has it, not {gan_arch}",
    ),
    (
        lambda c: not _stylegan(c) and c.export.truncation != 1,
        "--export_truncation={export_truncation}: only --gan_arch=stylegan has it, not {gan_arch}",
    ),
    (
        lambda c: not _stylegan(c) and c.inversion.space not in ("auto", "z"),
        "--inversion_space={inversion_space}: only --gan_arch=stylegan has w; use "
        "--inversion_space=z, or train another generator",
    ),
    (
        lambda c: _residual(c) and c.gan.d_norm != "none",
        "--gan_d_norm={gan_d_norm} with --gan_arch=residual: its D has no normalization; use "
        "--gan_d_norm=none or --gan_arch=dcgan",
    ),
    (
        lambda c: _residual(c) and c.gan.equalized_lr,
        "--gan_equalized_lr=true with --gan_arch=residual: its layers do not have it; use "
        "--gan_equalized_lr=false or another --gan_arch",
    ),
    (
        lambda c: _residual(c) and c.gan.progressive,
        "--gan_progressive=true with --gan_arch=residual: its levels are not trained one by one; "
        "use --gan_progressive=false or another --gan_arch",
    ),
    # Objective, penalty, normalization and augmentation.
    (
        lambda c: c.gan.real_label < 1 and c.gan.objective not in ("minimax", "non_saturating"),
        "--gan_real_label={gan_real_label}: labels are smoothed in minimax and non_saturating, not "
        "in --gan_objective={gan_objective}",
    ),
    (
        lambda c: c.gan.objective == "wgan" and c.gan.penalty not in ("auto", "none"),
        "--gan_penalty={gan_penalty}: wgan clips D's weights instead; use --gan_penalty=none or "
        "--gan_objective=wgan_gp",
    ),
    (
        lambda c: c.gan.objective == "wgan_gp" and c.gan.penalty not in ("auto", "gp"),
        "--gan_penalty={gan_penalty}: wgan_gp needs gp; use --gan_penalty=auto or another "
        "--gan_objective",
    ),
    (
        lambda c: (
            c.gan.augment == "ada" and c.gan.objective in ("wgan", "wgan_gp", "ragan", "rpgan")
        ),
        "--gan_augment=ada with --gan_objective={gan_objective}: the sign of D on reals, which "
        "controls ada, has no meaning there; use --gan_augment=diffaugment",
    ),
    (
        lambda c: "gp" in penalty_terms(c) and c.gan.d_norm == "spectral",
        "--gan_d_norm={gan_d_norm} with --gan_penalty=gp: spectral normalization bounds D's "
        "gradient already; use --gan_d_norm=none",
    ),
    (
        lambda c: "gp" in penalty_terms(c) and c.gan.d_norm == "batch",
        "--gan_d_norm={gan_d_norm} with --gan_penalty=gp: the penalty is per image, batch norm "
        "mixes images; use --gan_d_norm=none",
    ),
    (
        lambda c: c.gan.equalized_lr and c.gan.d_norm == "spectral",
        "--gan_equalized_lr=true with --gan_d_norm=spectral: both rescale the weights; use one",
    ),
    (
        lambda c: c.gan.equalized_lr and c.gan.objective == "wgan",
        "--gan_equalized_lr=true with --gan_objective=wgan: it would rescale the clipped "
        "weights; use one",
    ),
    (
        lambda c: c.gan.objective == "wgan" and c.gan.d_norm == "spectral",
        "--gan_d_norm=spectral with --gan_objective=wgan: weight clipping bounds D already; use "
        "--gan_d_norm=none or batch",
    ),
    (
        lambda c: c.init_from and c.gan.progressive,
        "--gan_progressive=true with --init_from={init_from}: its networks have grown already; use "
        "--gan_progressive=false",
    ),
    # Sizes.
    (
        lambda c: c.regressor.resolution is not None and c.resolution % c.regressor.resolution,
        "--regressor_resolution={regressor_resolution}: must divide --resolution={resolution}",
    ),
    (
        lambda c: (
            c.inversion.perceptual_crop is not None and c.inversion.perceptual_crop > c.resolution
        ),
        "--inversion_perceptual_crop={inversion_perceptual_crop}: must be at most "
        "--resolution={resolution}",
    ),
    (
        lambda c: (
            c.features.side not in ("auto", "none") and int(c.features.side) > c.resolution // 2
        ),
        "--features_side={features_side}: must be at most half of --resolution={resolution}; use "
        "--features_side=auto",
    ),
    *(
        (
            lambda c, flag=flag: c.gan.minibatch_std and get(c, flag) % MINIBATCH_GROUP,
            f"--{flag}={{{flag}}}: must be divisible by {MINIBATCH_GROUP}, the group of "
            "--gan_minibatch_std",
        )
        for flag in GROUPED_BATCHES
    ),
    # Directions.
    (
        lambda c: (
            c.directions.family in ("sefa", "pca") and _stylegan(c) and c.inversion.space == "z"
        ),
        "--directions_family={directions_family} with --inversion_space=z: stylegan's components "
        "are found in w; use --inversion_space=w or ws",
    ),
    *(
        (lambda c, flag=flag: not get(c, flag), f"--{flag}: nothing given; see --help")
        for flag in ("export_formats", "export_quantize", "devices")
    ),
)


def check(config: Config) -> None:
    """Raises a UserError for the first value out of range, or combination that makes no sense."""
    for flag in OPTIONS:
        _check_range(flag, get(config, flag))
    for condition, message in RULES:
        if condition(config):
            values = {flag: presets.text(value) for flag, value in flat(config).items()}
            raise UserError(message.format(**values))
    _check_conditions(config.directions.condition)


def _check_range(flag: str, value: Any) -> None:
    metadata = OPTIONS[flag].metadata
    choices = metadata["choices"]
    if value is None:
        return
    for part in value if isinstance(value, tuple) else (value,):
        if choices and part not in choices:
            raise UserError(
                f"--{flag}={presets.text(part)}: unknown value{closest(str(part), choices)}; "
                f"one of {', '.join(choices)}"
            )
    given = f"--{flag}={presets.text(value)}"
    minimum, above, below = metadata["minimum"], metadata["above"], metadata["below"]
    if minimum is not None and not value >= minimum:
        raise UserError(f"{given}: must be at least {minimum:g}")
    if above is not None and not value > above:
        raise UserError(f"{given}: must be more than {above:g}")
    if below is not None and not value < below:
        raise UserError(f"{given}: must be less than {below:g}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{given}: must be finite")


def conditions(config: Config) -> dict[str, tuple[str, ...]]:
    """The preserved attributes of `--directions_condition`, by the edited attribute."""
    return {
        name: tuple(preserved.split("+"))
        for name, _, preserved in (text.partition(":") for text in config.directions.condition)
    }


def _check_conditions(condition: tuple[str, ...]) -> None:
    """Refuses a --directions_condition that is malformed or contradicts itself."""
    seen = set()
    for text in condition:
        flag = f"--directions_condition={text}"
        edited, _, rest = text.partition(":")
        preserved = rest.split("+")
        if not edited or not all(preserved):
            raise UserError(f"{flag}: write EDITED:PRESERVED+PRESERVED, e.g. Smiling:Male+Young")
        if edited in preserved:
            raise UserError(f"{flag}: {edited} cannot be preserved while it is edited")
        if len(set(preserved)) < len(preserved):
            raise UserError(f"{flag}: an attribute is named twice")
        if edited in seen:
            raise UserError(
                f"{flag}: {edited} has a condition already; write a single {edited}:A+B"
            )
        seen.add(edited)


def check_attributes(config: Config, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Refuses attributes to edit, or to preserve, that the data does not have.

    Args:
        config: for `directions_condition`.
        names: the attributes to edit.
        known: the data's attributes.

    Raises:
        UserError: an unknown or repeated attribute.
    """
    for name in names:
        if name not in known:
            raise UserError(
                f"--attributes={name}: the data has no such attribute{closest(name, known)}; "
                f"it has {', '.join(known)}"
            )
    if len(set(names)) < len(names):
        raise UserError(f"--attributes={','.join(names)}: an attribute is named twice")
    for name, preserved in conditions(config).items():
        flag = f"--directions_condition={name}:{'+'.join(preserved)}"
        if name not in names:
            raise UserError(
                f"{flag}: {name} is not edited{closest(name, names)}; --attributes has "
                f"{', '.join(names)}"
            )
        for other in preserved:
            if other not in known:
                raise UserError(
                    f"{flag}: the data has no attribute {other}{closest(other, known)}; it has "
                    f"{', '.join(known)}"
                )


def check_replicas(config: Config, replicas: int) -> None:
    """Raises a UserError if the replicas cannot share every batch evenly."""
    if replicas == 1:
        return
    if config.jit == "true":
        raise UserError(
            f"--jit=true: XLA cannot communicate between {replicas} replicas; use --jit=false"
        )
    for flag in BATCH_SIZES:
        grouped = config.gan.minibatch_std and flag in GROUPED_BATCHES
        unit = replicas * (MINIBATCH_GROUP if grouped else 1)
        if get(config, flag) % unit:
            group = f" with groups of {MINIBATCH_GROUP} (--gan_minibatch_std)" if grouped else ""
            raise UserError(
                f"--{flag}={get(config, flag)}: {replicas} replicas share it{group}: must be "
                f"divisible by {unit}"
            )
    for whose, size in (("the features'", FEATURES_BATCH_SIZE), ("the judge's", JUDGE_BATCH_SIZE)):
        if size % replicas:
            raise UserError(
                f"--devices={','.join(config.devices)}: {replicas} replicas cannot share {whose} "
                f"batch of {size}; use 2, 4, 8, ... of them"
            )
