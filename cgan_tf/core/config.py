"""The options of one chain: every default in one place, the presets, and their checks.

`Config` is the documentation of the flags: train_main turns each field into one flag.
A field belongs to the stages named in its metadata; a stage that has begun refuses a change
of its own fields (see `run.py`).
"""

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from cgan_tf.core.errors import UserError

STAGES = ("gan", "regressor", "inversion", "directions", "evaluate", "export")
# A stage is only as good as those before it: a change of their options makes its result stale.
NEEDS = {
    "gan": (),
    "regressor": (),
    "inversion": ("gan", "regressor"),
    "directions": ("gan", "regressor", "inversion"),
    "evaluate": ("gan", "regressor", "inversion", "directions"),
    "export": ("gan", "regressor", "inversion", "directions"),
}
ALL = STAGES
# The adversarial games, and what usually holds D in each (`wgan` clips its weights instead).
USUAL_PENALTY = {
    "minimax": "none",
    "non_saturating": "r1",
    "lsgan": "r1",
    "wgan": "none",
    "wgan_gp": "gp",
    "hinge": "r1",
    "ragan": "r1",
    "rpgan": "r1+r2",
}
OBJECTIVES = tuple(USUAL_PENALTY)
PENALTIES = ("r1", "r2", "r1+r2", "gp")
AUGMENT_OPS = ("color", "translation", "cutout")
FAMILIES = ("learned", "hyperplane", "sefa", "pca")  # of directions
SPACES = ("z", "w", "ws")  # of latents


def option(
    default: Any,
    help: str,
    stages: tuple[str, ...],
    unit: str = "",
    *,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """A field of `Config` with what the flag, the checks and the resume rule need to know."""
    return dataclasses.field(
        default=default,
        metadata={
            "help": help,
            "stages": stages,
            "unit": unit,
            "choices": choices,
            "minimum": minimum,
            "above": above,
            "below": below,
        },
    )


GAN, REGRESSOR, INVERSION, DIRECTIONS = (("gan",), ("regressor",), ("inversion",), ("directions",))
EVALUATE, EXPORT = ("evaluate",), ("export",)


@dataclasses.dataclass(frozen=True)
class Config:
    """Every option of the chain. Rates are per second, `kimg` are thousands of images seen."""

    # The run.
    preset: str = option("", "the preset that the defaults came from", ())
    seed: int | None = option(
        None, "seed of everything random; drawn and recorded if not given", ALL
    )
    precision: str = option(
        "auto",
        "compute type; auto takes mixed_bfloat16 where the CPU or GPU has it, and records which",
        ALL,
        choices=("auto", "float32", "mixed_bfloat16"),
    )
    # No stage's own: on other devices the global batch and the mathematics are the same.
    distribution: str = option(
        "auto",
        "how devices share a batch; auto takes multi_worker where TF_CONFIG names several workers, "
        "mirrored on several GPUs or --devices, else none, and records which",
        (),
        choices=("auto", "none", "mirrored", "multi_worker"),
    )
    devices: tuple[str, ...] = option(
        (), "what to train on, e.g. GPU:0,GPU:1 or CPU:0,CPU:1; all GPUs if not given", ()
    )
    deterministic: bool = option(True, "deterministic ops: equal seeds give equal weights", ALL)
    checkpoint_minutes: float = option(2.0, "time between checkpoints", (), "minutes", above=0)

    # Data.
    data: str = option(
        "synthetic",
        "the image source",
        ALL,
        choices=("synthetic", "celeba", "celeba_dir", "folder"),
    )
    data_dir: str | None = option(
        None, "folder of celeba_dir, folder, or of TensorFlow Datasets", ()
    )
    cache_dir: str | None = option(None, "where decoded images are kept between runs", ())
    cache_gib: float = option(
        16.0, "larger data sets are decoded anew each time", (), "GiB", minimum=0
    )
    resolution: int = option(64, "side of the square images: 32, 64 or 128", ALL, "px")
    attributes: tuple[str, ...] = option(
        (),
        "attributes to learn directions for; the data set's defaults if not given",
        ("directions", "evaluate", "export"),
    )
    synthetic_size: int = option(10000, "number of synthetic faces", ALL, "faces", minimum=100)

    # GAN.
    kimg: float = option(400.0, "length of the GAN's training", GAN, "kimg", above=0)
    batch_size: int = option(64, "images a step of the GAN", GAN, "images", minimum=2)
    arch: str = option("dcgan", "the generator", GAN, choices=("dcgan", "stylegan"))
    style: str = option(
        "modulated", "style layer of stylegan", GAN, choices=("modulated", "adain")
    )
    z_dim: int = option(128, "size of z, and of w in stylegan", GAN, minimum=1)
    prior: str = option("normal", "distribution of z", GAN, choices=("normal", "uniform"))
    width: int = option(
        32, "channels at the finest level of G and D; doubles per level", GAN, minimum=4
    )
    g_lr: float = option(3e-4, "Adam's learning rate of G", GAN, above=0)
    d_lr: float = option(3e-4, "Adam's learning rate of D", GAN, above=0)
    beta1: float = option(0.0, "Adam's beta1 of G and D", GAN, minimum=0, below=1)
    beta2: float = option(0.99, "Adam's beta2 of G and D", GAN, minimum=0, below=1)
    real_label: float = option(
        1.0, "target of D on reals (0.9: one-sided label smoothing)", GAN, above=0.5
    )
    objective: str = option("non_saturating", "the adversarial game", GAN, choices=OBJECTIVES)
    d_steps: int = option(1, "D steps, on fresh noise, for one G step", GAN, "steps", minimum=1)
    penalty: str = option(
        "auto",
        "what holds D's gradient; auto takes the objective's usual one",
        GAN,
        choices=("auto", "none", *PENALTIES),
    )
    r1_gamma: float = option(
        0.1, "R1 weight: gamma / 2 * |grad D(x)|^2 on reals", GAN, minimum=0
    )
    r2_gamma: float = option(
        0.1, "R2 weight: gamma / 2 * |grad D(x)|^2 on fakes", GAN, minimum=0
    )
    gp_weight: float = option(
        10.0, "gp weight: lambda * (|grad D(x)| - 1)^2 between reals and fakes", GAN, minimum=0
    )
    penalty_interval: int = option(
        0,
        "D steps between penalties; 0 takes 16 for r1 and r2 (lazy regularization), 1 for gp",
        GAN,
        "steps",
        minimum=0,
    )
    clip_value: float = option(
        0.0, "wgan clips D's weights to this size; 0 takes 0.01", GAN, minimum=0
    )
    d_norm: str = option("none", "normalization in D", GAN, choices=("none", "batch", "spectral"))
    g_norm: str = option("batch", "normalization in dcgan's G", GAN, choices=("batch", "pixel"))
    equalized_lr: bool = option(
        False,
        "weights of unit size, scaled at run time, in G and D (raise --g_lr and --d_lr); "
        "stylegan's G has them anyway",
        GAN,
    )
    minibatch_std: bool = option(True, "minibatch standard deviation channel in D", GAN)
    augment: str = option(
        "none",
        "what D sees changed, reals and fakes alike: diffaugment always, ada as often as D's "
        "sureness asks for; for few photos",
        GAN,
        choices=("none", "diffaugment", "ada"),
    )
    augment_ops: tuple[str, ...] = option(
        AUGMENT_OPS, "the changes of diffaugment and ada, in their order", GAN
    )
    ada_target: float = option(
        0.6, "ada keeps the mean sign of D on reals here", GAN, above=0, below=1
    )
    ada_kimg: float = option(
        100.0, "images in which ada's probability goes from 0 to 1 at most", GAN, "kimg", above=0
    )
    progressive: bool = option(
        False, "grow G and D from 8 px to the resolution, each level fading in", GAN
    )
    level_kimg: float = option(
        60.0,
        "length of each level below the last one of --progressive, its fade included",
        GAN,
        "kimg",
        above=0,
    )
    fade_kimg: float = option(
        30.0, "how long a level of --progressive fades in", GAN, "kimg", above=0
    )
    level_batch_sizes: tuple[int, ...] = option(
        (),
        "images a step at 8 px, 16 px, ... of --progressive; --batch_size at all if not given",
        GAN,
        "images",
    )
    collapse_ratio: float = option(
        0.1,
        "stop when samples differ from each other by less than this share of what photos do; "
        "0 never stops",
        GAN,
        minimum=0,
        below=1,
    )
    ema_kimg: float = option(
        10.0, "half-life of the averaged G; 0 turns averaging off", GAN, "kimg", minimum=0
    )
    ema_rampup: float = option(
        0.05,
        "the half-life is at most this share of the images seen, so that the average leaves its "
        "start behind; 0 turns the ramp off",
        GAN,
        minimum=0,
    )
    flip: bool = option(
        True,
        "mirror training photos at random",
        ("gan", "regressor", "inversion", "directions"),
    )
    grid_kimg: float = option(20.0, "kimg between sample grids", GAN, "kimg", above=0)

    # Regressor.
    regressor_kimg: float = option(
        60.0, "length of the regressor's training", REGRESSOR, "kimg", above=0
    )
    regressor_batch_size: int = option(32, "images a step", REGRESSOR, "images", minimum=2)
    regressor_lr: float = option(3e-4, "AdamW's peak learning rate", REGRESSOR, above=0)
    regressor_resolution: int = option(
        0, "side of the image that VGG16 sees; 0 is the photos' own", REGRESSOR, "px", minimum=0
    )
    regressor_small_fraction: float = option(
        0.6,
        "first part of the training that sees photos at half size",
        REGRESSOR,
        minimum=0,
        below=1,
    )
    class_balance: float = option(
        0.25,
        "power of the inverse class frequency that weighs rare positives; corrected in the scores",
        REGRESSOR,
        minimum=0,
    )
    vgg_weights: str = option(
        "auto", "VGG16's start: auto, imagenet, none, or a weights file", REGRESSOR
    )
    perceptual: str = option(
        "regressor",
        "features of the perceptual loss",
        ("inversion", "directions"),
        choices=("regressor", "imagenet"),
    )
    perceptual_weights: tuple[float, ...] = option(
        (1.0, 1.0, 1.0, 1.0),
        "weights of relu1_2, relu2_2, relu3_3 and relu4_3 in the perceptual loss",
        ("inversion", "directions"),
    )

    # Inversion.
    space: str = option(
        "auto",
        "what the encoder predicts and directions move in: z; w, or ws, a w per layer, of "
        "stylegan; auto takes z of dcgan and w of stylegan",
        ("inversion", "directions"),
        choices=("auto", *SPACES),
    )
    inversion_kimg: float = option(
        60.0, "length of the encoder's training", INVERSION, "kimg", above=0
    )
    inversion_batch_size: int = option(
        32, "images a step and cycle", INVERSION, "images", minimum=2
    )
    inversion_lr: float = option(1e-3, "Adam's peak learning rate", INVERSION, above=0)
    encoder: str = option(
        "convolutional",
        "the encoder's levels: one convolution each, or two beside a shortcut",
        INVERSION,
        choices=("convolutional", "residual"),
    )
    encoder_width: int = option(32, "channels at the encoder's finest level", INVERSION, minimum=4)
    inversion_photos: bool = option(
        True, "train the encoder on photos too, and not on the generator's samples alone", INVERSION
    )
    photo_weight: float = option(
        1.0, "weight of the photo cycle's perceptual term", INVERSION, minimum=0
    )
    sample_weight: float = option(
        1.0, "weight of the latent cycle's perceptual term", INVERSION, minimum=0
    )
    latent_weight: float = option(
        1.0, "weight of the latent cycle's L2(z, z')", INVERSION, minimum=0
    )
    pixel_weight: float = option(
        1.0, "weight of the pixels' L2 in both cycles", INVERSION, minimum=0
    )
    perceptual_crop: int = option(
        0,
        "side of the random crop that VGG16 compares; 0 compares whole images",
        INVERSION,
        "px",
        minimum=0,
    )

    # Inversion by descent on the latent: what evaluate measures and translate --inversion takes.
    projection_steps: int = option(
        100, "Adam's steps of each start of optimize", EVALUATE, "steps", minimum=1
    )
    hybrid_steps: int = option(
        50, "Adam's steps of hybrid, which starts nearer", EVALUATE, "steps", minimum=1
    )
    projection_lr: float = option(0.1, "Adam's first rate, on the latent", EVALUATE, above=0)
    projection_starts: int = option(
        2, "starts of optimize: the mean latent, then random samples", EVALUATE, minimum=1
    )
    projection_patience: int = option(
        30,
        "a photo stops after so many steps without half a percent's gain; 0 never stops",
        EVALUATE,
        "steps",
        minimum=0,
    )
    projection_pixels: float = option(
        1.0, "weight of the pixels' L2 in its distance", EVALUATE, minimum=0
    )
    projection_features: float = option(
        1.0, "weight of the perceptual distance in its distance", EVALUATE, minimum=0
    )
    projection_offset: float = option(
        0.0, "weight of the latent's L1 from the mean latent", EVALUATE, minimum=0
    )

    # Directions.
    directions: str = option(
        "learned",
        "the family of directions: learned through G, hyperplane normals in the latent space, or, "
        "named by what the regressor says that they change, sefa and pca",
        DIRECTIONS,
        choices=FAMILIES,
    )
    hold: tuple[str, ...] = option(
        (),
        "attributes whose hyperplanes a direction must not cross, e.g. "
        "Smiling:Mouth_Slightly_Open+Male,Male:Wearing_Lipstick",
        DIRECTIONS,
    )
    hyperplane_samples: int = option(
        20000,
        "samples that the regressor labels, for hyperplane, sefa, pca and --hold",
        DIRECTIONS,
        "images",
        minimum=500,
    )
    cosine_weight: float = option(
        0.0,
        "weight of the squared cosines between learned directions, the sum over pairs",
        DIRECTIONS,
        minimum=0,
    )
    directions_kimg: float = option(
        20.0, "length of the directions' training", DIRECTIONS, "kimg", above=0
    )
    directions_batch_size: int = option(32, "images a step", DIRECTIONS, "images", minimum=2)
    directions_lr: float = option(2e-2, "Adam's learning rate", DIRECTIONS, above=0)
    content_weight: float = option(0.5, "weight of the perceptual term", DIRECTIONS, minimum=0)
    adversarial_weight: float = option(
        0.02, "weight of D's opinion of the edit", DIRECTIONS, minimum=0
    )
    attribute_weight: float = option(
        10.0, "weight of |alpha + eps - alpha'|, the target", DIRECTIONS, minimum=0
    )
    hold_weight: float = option(
        20.0,
        "weight of |alpha - alpha'|, the mean over the other attributes",
        DIRECTIONS,
        minimum=0,
    )
    calibrated_change: float = option(
        0.8,
        "change of R's mean prediction that strength +1 stands for, if it can be reached",
        DIRECTIONS,
        above=0,
        below=1,
    )

    # Evaluation.
    judge_kimg: float = option(150.0, "length of the judge's training", EVALUATE, "kimg", above=0)
    eval_fakes: int = option(
        5000, "samples behind fd, kid, precision and recall", EVALUATE, "images", minimum=100
    )
    eval_photos: int = option(
        1000, "test photos to measure, at most", EVALUATE, "images", minimum=10
    )
    eval_projections: int = option(
        64,
        "test photos to measure hybrid and optimize on, at most; 0 leaves them out",
        EVALUATE,
        "images",
        minimum=0,
    )

    # Export.
    formats: tuple[str, ...] = option(
        ("saved_model", "tflite"),
        "formats to export: saved_model, tflite, and page, a folder that edits in a browser",
        EXPORT,
    )
    quantize: tuple[str, ...] = option(
        ("none", "float16"),
        "TFLite variants to export: none (float32), float16, dynamic (int8 weights, the fastest), "
        "weight_int8 (int8 weights, computed in float32), int8 (calibrated, for accelerators)",
        EXPORT,
    )
    truncation: float = option(
        1.0,
        "share of their distance from the mean of w that stylegan's exported samples keep: below "
        "1 they are more alike and have fewer faults, 0 is the mean face",
        EXPORT,
        minimum=0,
    )


# Only what differs from the defaults.
PRESETS: dict[str, dict[str, Any]] = {
    # A quarter of an hour on four cores, with the installation.
    "demo": {
        "seed": 1,
        "synthetic_size": 8000,
        "kimg": 200.0,
        "batch_size": 32,
        "g_lr": 4e-4,
        "d_lr": 4e-4,
        "ema_kimg": 8.0,
        "vgg_weights": "none",
        "regressor_resolution": 32,
        "regressor_kimg": 12.0,
        "regressor_batch_size": 16,
        "regressor_lr": 5e-4,
        "inversion_kimg": 24.0,
        "perceptual_crop": 32,
        "pixel_weight": 5.0,
        "directions_kimg": 6.0,
        "calibrated_change": 0.85,
        "judge_kimg": 60.0,
        "eval_fakes": 2000,
        "eval_photos": 400,
        "eval_projections": 16,
    },
    # The recipe of the README that this project started from.
    "celeba32": {
        "data": "celeba_dir",
        "resolution": 32,
        "prior": "uniform",
        "z_dim": 100,
        "width": 32,
        "batch_size": 128,
        "g_lr": 2e-4,
        "d_lr": 2e-4,
        "beta1": 0.5,
        "beta2": 0.999,
        "real_label": 0.9,
        "penalty": "none",
        "d_norm": "batch",
        "minibatch_std": False,
        "ema_kimg": 0.0,
        "flip": False,
        "kimg": 2000.0,
        "grid_kimg": 100.0,
    },
    "celeba64": {
        "data": "celeba_dir",
        "width": 48,
        "kimg": 700.0,
        "regressor_kimg": 150.0,
        "regressor_batch_size": 16,
        "regressor_lr": 5e-4,
        "regressor_small_fraction": 0.5,
        "inversion_kimg": 50.0,
        "directions_kimg": 16.0,
        "hold_weight": 30.0,
        "perceptual_crop": 32,
        "pixel_weight": 5.0,
        "calibrated_change": 0.54,
        "judge_kimg": 130.0,
    },
    "celeba128": {"data": "celeba_dir", "resolution": 128, "width": 24, "batch_size": 32},
}
PRESETS["stylegan64"] = PRESETS["celeba64"] | {
    "arch": "stylegan",
    "kimg": 900.0,
    "g_lr": 1e-3,
    "objective": "rpgan",
}
RESOLUTIONS = (32, 64, 128)
FIELDS = {field.name: field for field in dataclasses.fields(Config)}
_HINTS = typing.get_type_hints(Config)


def closest(name: str, known: Iterable[str]) -> str:
    """ " (did you mean X?)" for a near miss of a known name, else an empty text."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def parse(name: str, text: str) -> Any:
    """The value of field `name` from the text of its flag.

    Raises:
        UserError: the text is no value of the field's type.
    """
    hint = _HINTS[name]
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
        kind = (
            "true or false"
            if hint is bool
            else "a whole number"
            if hint is not float
            else "a number"
        )
        raise UserError(f"--{name}={text}: give {kind}") from None
    if typing.get_origin(hint) is tuple:
        parts = tuple(part.strip() for part in text.split(",") if part.strip())
        kind = typing.get_args(hint)[0]
        try:
            return tuple(kind(part) for part in parts)
        except ValueError:
            number = "whole numbers" if kind is int else "numbers"
            raise UserError(f"--{name}={text}: give {number} with commas between them") from None
    return text


def make(preset: str | None, given: Mapping[str, Any], stored: "Config | None" = None) -> Config:
    """The resolved options: defaults, then the stored ones or the preset, then what was given.

    Args:
        preset: name of a preset, or None for the stored options or the bare defaults.
        given: values by field name, already of the fields' types.
        stored: the options of an existing run folder. A preset given again must be the same.

    Raises:
        UserError: an unknown preset, or a value outside its field's range.
    """
    if preset and preset not in PRESETS:
        raise UserError(
            f"--preset={preset}: unknown preset{closest(preset, PRESETS)}; "
            f"one of {', '.join(PRESETS)}"
        )
    if stored is not None:
        if preset and preset != stored.preset:
            raise UserError(
                f"--preset={preset}: this run folder was made with "
                f"{'preset ' + stored.preset if stored.preset else 'no preset'}; "
                "take another --run_dir"
            )
        config = dataclasses.replace(stored, **given)
    else:
        config = Config(**({"preset": preset or ""} | PRESETS.get(preset or "", {}) | dict(given)))
    check(config)
    return config


def check(config: Config) -> None:
    """Raises a UserError that names the first field whose value makes no sense."""
    for name, field in FIELDS.items():
        value, meta = getattr(config, name), field.metadata
        if value is None:
            continue
        if meta["choices"] and value not in meta["choices"]:
            raise UserError(
                f"--{name}={value}: unknown value{closest(str(value), meta['choices'])}; "
                f"one of {', '.join(meta['choices'])}"
            )
        low, above, below = meta["minimum"], meta["above"], meta["below"]
        if low is not None and value < low:
            raise UserError(f"--{name}={value}: must be at least {low:g}")
        if above is not None and value <= above:
            raise UserError(f"--{name}={value}: must be more than {above:g}")
        if below is not None and value >= below:
            raise UserError(f"--{name}={value}: must be less than {below:g}")
    if config.resolution not in RESOLUTIONS:
        raise UserError(f"--resolution={config.resolution}: one of 32, 64, 128")
    if config.seed is not None and not 0 <= config.seed < 2**32:
        raise UserError(f"--seed={config.seed}: from 0 to {2**32 - 1}")
    if config.real_label > 1:
        raise UserError(f"--real_label={config.real_label}: must be at most 1")
    _check_generator(config)
    _check_growth(config)
    _check_game(config)
    if config.data in ("celeba_dir", "folder") and not config.data_dir:
        raise UserError(
            f"--data_dir: give the folder of the photos (--data={config.data} needs it)"
        )
    if config.regressor_resolution and (
        config.regressor_resolution < 32 or config.resolution % config.regressor_resolution
    ):
        raise UserError(
            f"--regressor_resolution={config.regressor_resolution}: at least 32, and a divisor of "
            f"--resolution={config.resolution}"
        )
    if config.perceptual_crop and not 16 <= config.perceptual_crop <= config.resolution:
        raise UserError(
            f"--perceptual_crop={config.perceptual_crop}: from 16 to "
            f"--resolution={config.resolution}"
        )
    if not config.projection_pixels + config.projection_features:
        raise UserError(
            "--projection_pixels=0 with --projection_features=0: no distance is left; raise one"
        )
    if len(config.perceptual_weights) != 4 or not all(
        0 <= weight < math.inf for weight in config.perceptual_weights
    ):
        given = ",".join(f"{weight:g}" for weight in config.perceptual_weights)
        raise UserError(
            f"--perceptual_weights={given}: give four numbers that are not negative"
        )
    _check_directions(config)
    for name in ("batch_size", "directions_batch_size"):  # D judges both
        if config.minibatch_std and getattr(config, name) % 4:
            raise UserError(
                f"--{name}={getattr(config, name)}: must be divisible by 4, the group of "
                "--minibatch_std"
            )
    for name in ("formats", "quantize"):
        if not getattr(config, name):
            raise UserError(f"--{name}=: names nothing to export; see --help")
    for name, known in (
        ("formats", ("saved_model", "tflite", "page")),
        ("quantize", ("none", "float16", "dynamic", "weight_int8", "int8")),
        ("augment_ops", AUGMENT_OPS),
    ):
        for value in getattr(config, name):
            if value not in known:
                raise UserError(
                    f"--{name}={value}: unknown{closest(value, known)}; one of {', '.join(known)}"
                )


def penalty(config: Config) -> tuple[str, ...]:
    """The penalties on D: `r1`, `r2` and `gp`, or none, with `auto` resolved."""
    name = USUAL_PENALTY[config.objective] if config.penalty == "auto" else config.penalty
    return () if name == "none" else tuple(name.split("+"))


def penalty_interval(config: Config) -> int:
    """D steps between penalties, with 0 resolved."""
    return config.penalty_interval or (1 if "gp" in penalty(config) else 16)


def space(config: Config) -> str:
    """The space of the latents, with `auto` resolved."""
    if config.space != "auto":
        return config.space
    return "w" if config.arch == "stylegan" else "z"


def _check_generator(config: Config) -> None:
    """Refuses what the generator of --arch does not have."""
    if config.arch == "stylegan":
        for name, why in (
            ("g_norm", "its styles normalize"),
            ("prior", "its mapping takes z by its direction alone"),
        ):
            if getattr(config, name) != FIELDS[name].default:
                raise UserError(
                    f"--{name}={getattr(config, name)} with --arch=stylegan: {why}; take "
                    f"--{name}={FIELDS[name].default} or --arch=dcgan"
                )
        return
    for name in ("style", "truncation"):
        if getattr(config, name) != FIELDS[name].default:
            raise UserError(
                f"--{name}={getattr(config, name)}: only --arch=stylegan has it, not {config.arch}"
            )
    if space(config) != "z":
        raise UserError(
            f"--space={config.space}: only --arch=stylegan has w; take --space=z, or train "
            "another generator"
        )


def held(config: Config) -> dict[str, tuple[str, ...]]:
    """What `--hold` asks for: the held attributes by the edited one.

    Raises:
        UserError: it is not written A:B+C, or an attribute is named twice or holds itself.
    """
    pairs: dict[str, tuple[str, ...]] = {}
    for text in config.hold:
        name, colon, others = text.partition(":")
        names = tuple(others.split("+"))
        if not name or not colon or not all(names):
            raise UserError(f"--hold={text}: write EDITED:HELD+HELD, e.g. Smiling:Male+Young")
        if name in names:
            raise UserError(f"--hold={text}: {name} cannot be held while it is edited")
        if name in pairs or len(set(names)) < len(names):
            raise UserError(f"--hold={','.join(config.hold)}: an attribute is named twice")
        pairs[name] = names
    return pairs


def _check_directions(config: Config) -> None:
    """Refuses families that the space or the options do not fit."""
    held(config)
    if config.cosine_weight and config.directions != "learned":
        raise UserError(
            f"--cosine_weight={config.cosine_weight:g}: only --directions=learned has it, not "
            f"{config.directions}"
        )
    if config.directions in ("sefa", "pca") and config.arch == "stylegan" and space(config) == "z":
        raise UserError(
            f"--directions={config.directions} with --space=z: of stylegan it moves w; take "
            "--space=w or ws"
        )


def level_batch_sizes(config: Config) -> tuple[int, ...]:
    """Images a step at each level of progressive growing, from 8 px on."""
    return config.level_batch_sizes or (config.batch_size,) * _levels(config)


def _levels(config: Config) -> int:
    """Levels of progressive growing: 8 px, 16 px, ... resolution."""
    return int(math.log2(config.resolution)) - 2


def _check_growth(config: Config) -> None:
    """Refuses a schedule of progressive growing that does not fit."""
    if not config.progressive:
        if config.level_batch_sizes:
            raise UserError("--level_batch_sizes: only --progressive has levels")
        return
    levels = _levels(config)
    if config.fade_kimg > config.level_kimg:
        raise UserError(
            f"--fade_kimg={config.fade_kimg:g}: longer than its level "
            f"(--level_kimg={config.level_kimg:g})"
        )
    least = config.level_kimg * (levels - 1) + config.fade_kimg
    if config.kimg <= least:
        raise UserError(
            f"--kimg={config.kimg:g}: {levels - 1} levels of --level_kimg={config.level_kimg:g} "
            f"and the last one's fade take {least:g} already; give more, or shorter levels"
        )
    sizes = level_batch_sizes(config)
    flag = f"--level_batch_sizes={','.join(map(str, sizes))}"
    if len(sizes) != levels:
        raise UserError(
            f"{flag}: {levels} numbers are needed, from 8 px to --resolution={config.resolution}"
        )
    for size in sizes:
        if size < 2 or config.minibatch_std and size % 4:
            need = "divisible by 4, the group of --minibatch_std" if size >= 2 else "at least 2"
            raise UserError(f"{flag}: each must be {need}")
    if sizes[-1] != config.batch_size:
        raise UserError(
            f"{flag}: the last is that of --batch_size={config.batch_size}; make them equal"
        )


def _check_game(config: Config) -> None:
    """Refuses combinations of objective, penalty and normalization that make no sense."""
    if config.real_label < 1 and config.objective not in ("minimax", "non_saturating"):
        raise UserError(
            f"--real_label={config.real_label}: labels are smoothed in minimax and non_saturating, "
            f"not in --objective={config.objective}"
        )
    if config.clip_value and config.objective != "wgan":
        raise UserError(
            f"--clip_value={config.clip_value}: only --objective=wgan clips D's weights, "
            f"not {config.objective}"
        )
    if config.objective == "wgan" and penalty(config):
        raise UserError(
            f"--penalty={config.penalty}: wgan clips D's weights instead; "
            "take --penalty=none or --objective=wgan_gp"
        )
    if config.objective == "wgan_gp" and penalty(config) != ("gp",):
        raise UserError(
            f"--penalty={config.penalty}: wgan_gp is held by gp; take --penalty=auto or another "
            "--objective"
        )
    if config.augment != "none" and not config.augment_ops:
        raise UserError(
            f"--augment_ops: none given with --augment={config.augment}; take some of "
            f"{', '.join(AUGMENT_OPS)}"
        )
    if config.augment == "ada" and config.objective in ("wgan", "wgan_gp", "ragan", "rpgan"):
        raise UserError(
            f"--augment=ada with --objective={config.objective}: the sign of D on reals, which "
            "steers ada, means nothing in this game; take --augment=diffaugment"
        )
    if "gp" in penalty(config) and config.d_norm != "none":
        what = (
            "spectral normalization holds D's gradient too"
            if config.d_norm == "spectral"
            else "the penalty is each image's own, batch norm ties them together"
        )
        raise UserError(f"--d_norm={config.d_norm} with --penalty=gp: {what}; take --d_norm=none")
    if config.equalized_lr and (config.d_norm == "spectral" or config.objective == "wgan"):
        other = "--d_norm=spectral" if config.d_norm == "spectral" else "--objective=wgan"
        raise UserError(
            f"--equalized_lr=True with {other}: it holds weights that are scaled afterwards; "
            "take one of the two"
        )
    if config.objective == "wgan" and config.d_norm == "spectral":
        raise UserError(
            "--d_norm=spectral with --objective=wgan: its clipping holds D already; take "
            "--d_norm=none or batch"
        )


def with_dependents(stages: Iterable[str]) -> tuple[str, ...]:
    """The stages, and those that need one of them, in the chain's order."""
    return tuple(name for name in STAGES if {name, *NEEDS[name]} & set(stages))


def stage_fields(stage: str) -> tuple[str, ...]:
    """The fields that decide what `stage` makes, in the order of the class."""
    return tuple(name for name, field in FIELDS.items() if stage in field.metadata["stages"])


def to_dict(config: Config) -> dict[str, Any]:
    """Plain JSON values of all fields."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(config).items()
    }


def from_dict(values: Mapping[str, Any]) -> Config:
    """The inverse of `to_dict`; fields that are not known are an error of the caller."""
    return Config(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
    )
