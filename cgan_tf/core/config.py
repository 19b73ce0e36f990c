"""The options of one chain: a dataclass for each stage, every default in one place.

`Config` is the documentation of the flags: each field is one flag. A field of a section has the
section's prefix (`config.gan.kimg` is `--gan_kimg`); what belongs to several stages has none
(`config.seed` is `--seed`). A stage that has begun refuses a change of its section, and of the
fields without a prefix that name it (see `run_folder.py`).
"""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

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
# The GAN objectives, and the gradient penalty that `auto` takes (`wgan` clips D's weights instead).
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
DIRECTION_FAMILIES = ("learned", "hyperplane", "sefa", "pca")
SPACES = ("z", "w", "ws")
FORMATS = ("saved_model", "tflite", "page")
VARIANTS = ("none", "float16", "dynamic", "weight_int8", "int8")
RESOLUTIONS = (32, 64, 128)
MINIBATCH_GROUP = 4  # images that share one minibatch standard deviation
JUDGE_BATCH_SIZE = 128
AUTO = "auto"


def option(
    default: Any,
    help: str,
    unit: str = "",
    *,
    stages: tuple[str, ...] = (),
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """A field with what its flag, its checks and the resume rule need to know.

    Args:
        default: None stands for `auto` (of numbers) or for a value that is drawn or looked up.
        help: one line.
        unit: of the value.
        stages: which stages refuse a change; of a section's fields that is the section's stage.
        choices: the allowed values.
        minimum, above, below: bounds; `above` and `below` are exclusive.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "help": help,
            "unit": unit,
            "stages": stages,
            "choices": choices,
            "minimum": minimum,
            "above": above,
            "below": below,
        },
    )


@dataclasses.dataclass(frozen=True)
class GanConfig:
    """Stage `gan`. Learning rates are per step; `kimg` counts the real images that D has seen."""

    kimg: float = option(400.0, "length of the training", "kimg", above=0)
    batch_size: int = option(64, "images per step, over all devices", "images", minimum=2)
    arch: str = option("dcgan", "generator architecture", choices=("dcgan", "stylegan"))
    style: str = option(
        "modulated", "style layer of stylegan", choices=("modulated", "adain")
    )
    z_dim: int = option(128, "size of z, and of w in stylegan", minimum=1)
    prior: str = option("normal", "distribution of z", choices=("normal", "uniform"))
    width: int = option(
        32, "channels at the finest level of G and D; doubles per level", minimum=4
    )
    g_lr: float = option(3e-4, "Adam's learning rate of G", above=0)
    d_lr: float = option(3e-4, "Adam's learning rate of D", above=0)
    betas: tuple[float, ...] = option((0.0, 0.99), "Adam's beta1 and beta2 of G and D")
    real_label: float = option(
        1.0, "target of D on reals (0.9: one-sided label smoothing)", above=0.5
    )
    objective: str = option("non_saturating", "GAN objective", choices=OBJECTIVES)
    d_steps: int = option(
        1, "D steps, each on fresh latents, per G step", "steps", minimum=1
    )
    penalty: str = option(
        AUTO,
        "gradient penalty of D; auto takes the objective's usual one",
        choices=(AUTO, "none", *PENALTIES),
    )
    gamma: float = option(
        0.1, "weight of R1 and R2: gamma / 2 * |grad D(x)|^2, on reals and on fakes", minimum=0
    )
    penalty_interval: int | None = option(
        None,
        "D steps between penalties; auto takes 16 for r1 and r2 (lazy regularization), 1 for gp",
        "steps",
        minimum=1,
    )
    d_norm: str = option("none", "normalization in D", choices=("none", "batch", "spectral"))
    g_norm: str = option("batch", "normalization in dcgan's G", choices=("batch", "pixel"))
    equalized_lr: bool = option(
        False,
        "equalized learning rate in G and D (raise --gan_g_lr and --gan_d_lr); stylegan's G always "
        "has it",
    )
    minibatch_std: bool = option(True, "minibatch standard deviation channel in D")
    augment: str = option(
        "none",
        "augmentation of what D sees, for few photos: diffaugment always, ada as often as D's "
        "overfitting requires",
        choices=("none", "diffaugment", "ada"),
    )
    augment_ops: tuple[str, ...] = option(
        AUGMENT_OPS, "augmentations of diffaugment and ada, in order"
    )
    progressive: bool = option(
        False, "grow G and D from 8 px to the resolution, each level fading in"
    )
    ema_kimg: float = option(
        10.0, "half-life of the moving average of G; 0: no averaging", "kimg", minimum=0
    )


@dataclasses.dataclass(frozen=True)
class RegressorConfig:
    """Stage `regressor`."""

    kimg: float = option(60.0, "length of the training", "kimg", above=0)
    batch_size: int = option(32, "images per step, over all devices", "images", minimum=2)
    lr: float = option(3e-4, "AdamW's peak learning rate", above=0)
    resolution: int | None = option(
        None, "side of the image that VGG16 sees; auto takes --resolution", "px", minimum=32
    )
    vgg_weights: str = option(
        AUTO,
        "initial weights of VGG16: imagenet, none, or a weights file; auto takes imagenet where it "
        "can be downloaded, else none",
    )


@dataclasses.dataclass(frozen=True)
class InversionConfig:
    """Stage `inversion`; the directions work in its space and with its perceptual features."""

    kimg: float = option(60.0, "length of the encoder's training", "kimg", above=0)
    batch_size: int = option(
        32, "photos per step, and as many samples, over all devices", "images", minimum=2
    )
    lr: float = option(1e-3, "Adam's peak learning rate", above=0)
    width: int = option(32, "channels at the encoder's finest level", minimum=4)
    space: str = option(
        AUTO,
        "latent space of the encoder and the directions: z; of stylegan also w, or ws, one w per "
        "layer; auto takes z of dcgan and w of stylegan",
        choices=(AUTO, *SPACES),
    )
    perceptual: str = option(
        "regressor", "network of the perceptual loss", choices=("regressor", "imagenet")
    )
    perceptual_crop: int | None = option(
        None,
        "side of the random crop in the perceptual loss; auto takes the entire image",
        "px",
        minimum=16,
    )
    pixel_weight: float = option(1.0, "weight of the pixel L2 loss", minimum=0)


@dataclasses.dataclass(frozen=True)
class DirectionsConfig:
    """Stage `directions`."""

    family: str = option(
        "learned",
        "learned through G; hyperplane normals; or sefa and pca components, assigned to attributes "
        "by the regressor",
        choices=DIRECTION_FAMILIES,
    )
    condition: tuple[str, ...] = option(
        (),
        "attributes that an edit must preserve (conditional manipulation), e.g. "
        "Smiling:Mouth_Slightly_Open+Male,Male:Wearing_Lipstick",
    )
    samples: int = option(
        20000,
        "generator samples that the regressor labels, for hyperplane, sefa, pca and "
        "--directions_condition",
        "images",
        minimum=500,
    )
    kimg: float = option(20.0, "length of the training of learned directions", "kimg", above=0)
    batch_size: int = option(32, "images per step, over all devices", "images", minimum=2)
    lr: float = option(2e-2, "Adam's learning rate", above=0)
    preservation_weight: float = option(
        20.0, "weight of the mean change of all other attributes", minimum=0
    )
    cosine_weight: float = option(
        0.0, "weight of the squared cosines between learned directions, summed over pairs", minimum=0
    )
    calibrated_change: float = option(
        0.8,
        "change of the regressor's mean prediction that strength +1 stands for, if achievable",
        above=0,
        below=1,
    )


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Stage `evaluate`."""

    judge_kimg: float = option(150.0, "length of the judge's training", "kimg", above=0)
    samples: int = option(
        5000, "generator samples for fd, kid, precision and recall", "images", minimum=100
    )
    photos: int = option(1000, "maximum number of test photos", "images", minimum=10)
    projections: int = option(
        64, "maximum number of test photos for hybrid and optimize; 0: none", "images", minimum=0
    )
    optimize_steps: int = option(
        100, "Adam steps of --inversion=optimize, per start", "steps", minimum=1
    )
    hybrid_steps: int = option(50, "Adam steps of --inversion=hybrid", "steps", minimum=1)


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Stage `export`."""

    formats: tuple[str, ...] = option(
        ("saved_model", "tflite"),
        "formats: saved_model, tflite, and page, a folder that edits photos in a browser",
    )
    quantize: tuple[str, ...] = option(
        ("none", "float16"),
        "TFLite variants: none (float32), float16, dynamic (int8 weights, fastest), weight_int8 "
        "(int8 weights, float32 arithmetic), int8 (calibrated, for accelerators)",
    )
    truncation: float = option(
        1.0,
        "truncation psi of stylegan's exported samples: below 1 they are less diverse and have "
        "fewer artifacts, 0 is the mean face",
        minimum=0,
    )


_TRAINING = ("gan", "regressor", "inversion", "directions")


@dataclasses.dataclass(frozen=True)
class Config:
    """Every option of the chain: what belongs to several stages, and a section for each stage."""

    preset: str = option("", "the preset whose values replace the defaults")
    seed: int | None = option(
        None, "seed of everything random; drawn and recorded if not given", stages=STAGES
    )
    precision: str = option(
        AUTO,
        "compute type; auto takes mixed_bfloat16 where the CPU or GPU supports it",
        stages=STAGES,
        choices=(AUTO, "float32", "mixed_bfloat16"),
    )
    # Of no stage: on other devices the global batch and the mathematics are the same.
    devices: tuple[str, ...] = option(
        (AUTO,), "devices that share each batch, e.g. GPU:0,GPU:1; auto takes all GPUs, else the CPU"
    )
    deterministic: bool = option(
        True, "deterministic kernels: equal seeds give equal weights", stages=STAGES
    )
    checkpoint_minutes: float = option(2.0, "time between checkpoints", "minutes", above=0)
    tensorboard: bool = option(
        False, "also write scalars and sample grids as TensorBoard events, STAGE/tensorboard"
    )
    data: str = option(
        "synthetic",
        "image source",
        stages=STAGES,
        choices=("synthetic", "celeba", "celeba_dir", "folder"),
    )
    data_dir: str | None = option(
        None, "folder of celeba_dir or folder; or TensorFlow Datasets' folder"
    )
    cache_dir: str | None = option(
        None, "folder of decoded images, kept between runs; by default in the user's cache folder"
    )
    cache_gib: float = option(
        16.0, "larger data sets are decoded again in each epoch", "GiB", minimum=0
    )
    resolution: int = option(64, "side of the square images: 32, 64 or 128", "px", stages=STAGES)
    flip: bool = option(True, "mirror training photos at random", stages=_TRAINING)
    attributes: tuple[str, ...] = option(
        (),
        "attributes to learn directions for; by default the data set's usual ones",
        stages=("directions", "evaluate", "export"),
    )
    synthetic_size: int = option(
        10000, "number of synthetic faces", "faces", stages=STAGES, minimum=100
    )

    gan: GanConfig = GanConfig()
    regressor: RegressorConfig = RegressorConfig()
    inversion: InversionConfig = InversionConfig()
    directions: DirectionsConfig = DirectionsConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    export: ExportConfig = ExportConfig()


class Option(NamedTuple):
    """One option: its flag, where it stands in `Config`, and what is known about it."""

    flag: str
    section: str  # "" for those without a prefix
    name: str
    hint: Any
    default: Any
    metadata: Mapping[str, Any]

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that refuse a change once they have begun."""
        return (self.section,) if self.section else self.metadata["stages"]

    @property
    def auto(self) -> bool:
        """Whether the flag takes the text `auto` for a number that is resolved later."""
        return self.hint == int | None and self.default is None and self.flag != "seed"


def _options() -> dict[str, Option]:
    found = {}
    for section, owner in {
        "": Config,
        **{field.name: type(field.default) for field in dataclasses.fields(Config)
           if dataclasses.is_dataclass(field.default)},
    }.items():  # fmt: skip
        hints = typing.get_type_hints(owner)
        for field in dataclasses.fields(owner):
            if field.metadata:
                flag = f"{section}_{field.name}" if section else field.name
                found[flag] = Option(
                    flag, section, field.name, hints[field.name], field.default, field.metadata
                )
    return found


OPTIONS: dict[str, Option] = _options()


def get(config: Config, flag: str) -> Any:
    """The value of the option that a flag sets."""
    option = OPTIONS[flag]
    return getattr(getattr(config, option.section) if option.section else config, option.name)


def flat(config: Config) -> dict[str, Any]:
    """All values by flag."""
    return {flag: get(config, flag) for flag in OPTIONS}


def replace(config: Config, **values: Any) -> Config:
    """A copy with other values, given by flag: `replace(config, gan_kimg=1.0, seed=3)`."""
    sections: dict[str, dict[str, Any]] = {}
    for flag, value in values.items():
        option = OPTIONS[flag]
        sections.setdefault(option.section, {})[option.name] = value
    top = sections.pop("", {})
    for section, changed in sections.items():
        top[section] = dataclasses.replace(getattr(config, section), **changed)
    return dataclasses.replace(config, **top)


def penalty_terms(config: Config) -> tuple[str, ...]:
    """The gradient penalties of a resolved config: some of `r1`, `r2` and `gp`."""
    return () if config.gan.penalty == "none" else tuple(config.gan.penalty.split("+"))


def conditions(config: Config) -> dict[str, tuple[str, ...]]:
    """What `--directions_condition` asks for: the preserved attributes by the edited one."""
    return {
        name: tuple(preserved.split("+"))
        for name, _, preserved in (text.partition(":") for text in config.directions.condition)
    }


def with_dependents(stages: Iterable[str]) -> tuple[str, ...]:
    """The stages, and those that need one of them, in the chain's order."""
    return tuple(name for name in STAGES if {name, *NEEDS[name]} & set(stages))


def stage_options(config: Config, stage: str) -> dict[str, Any]:
    """The options that decide what `stage` makes, by flag, as plain JSON values."""
    return {
        flag: _plain(get(config, flag))
        for flag, option in OPTIONS.items()
        if stage in option.stages
    }


def to_dict(config: Config) -> dict[str, Any]:
    """Plain JSON values of all options; each section is a dict."""
    return {
        name: {key: _plain(part) for key, part in value.items()}
        if isinstance(value, dict)
        else _plain(value)
        for name, value in dataclasses.asdict(config).items()
    }


def from_dict(values: Mapping[str, Any]) -> Config:
    """The inverse of `to_dict`.

    Raises:
        TypeError: an unknown option, or a section that is none.
    """
    sections = {name: option for name, option in vars(Config()).items() if _is_section(option)}
    parts = {
        name: dataclasses.replace(sections[name], **_tuples(value))
        if name in sections
        else value
        for name, value in values.items()
    }
    return Config(**_tuples(parts))


def _is_section(value: Any) -> bool:
    return dataclasses.is_dataclass(value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
