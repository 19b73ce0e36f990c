"""The options of one chain: a dataclass for each stage, every default in one place.

`Config` is the documentation of the flags: each field is one flag. A field of a section has the
section's prefix (`config.gan.kimg` is `--gan_kimg`); a common field has none (`config.seed` is
`--seed`). Once a stage has made progress it refuses a change of its section and of the common
fields that name it in `stages` (see `run_folder.py`).
"""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

STAGES = ("gan", "regressor", "inversion", "features", "directions", "evaluate", "export")
# What each stage reads. A stage that is trained again makes the results of its dependents stale.
NEEDS = {
    "gan": (),
    "regressor": (),
    "inversion": ("gan", "regressor"),
    "features": ("gan", "regressor", "inversion"),
    "directions": ("gan", "regressor", "inversion", "features"),
    "evaluate": ("gan", "regressor", "inversion", "features", "directions"),
    "export": ("gan", "regressor", "inversion", "features", "directions"),
}
# The GAN objectives and their usual gradient penalty (`wgan` clips D's weights instead).
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
DIRECTION_FAMILIES = ("learned", "hyperplane", "sefa", "pca")
SPACES = ("z", "w", "ws")
SIDES = ("8", "16", "32", "64")  # px, of the detail features
FORMATS = ("saved_model", "tflite", "page")
VARIANTS = ("none", "float16", "dynamic", "weight_int8", "int8")
RESOLUTIONS = (32, 64, 128, 256, 512)
# px; `auto` of VGG16's input and of the perceptual crop is at most this. The attributes of a face
# show at this size; with each doubling, VGG16's time and memory would grow by four.
VGG_SIDE = 128
MINIBATCH_GROUP = 4  # images that share one minibatch standard deviation
JUDGE_BATCH_SIZE = 128
FEATURES_BATCH_SIZE = 16  # photos, each with one edit
AUTO = "auto"
# These have a number as default, and `auto` measures another one when the training starts.
MEASURED = ("gan_batch_size",)


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
    """A field with the metadata of its flag.

    Args:
        default: None for a value that is resolved later; optional integers spell it `auto`.
        help: one line.
        unit: unit of the value.
        stages: the stages that refuse a change; a section's fields belong to the section's stage.
        choices: the allowed values, of a list those of each element.
        minimum: inclusive lower bound.
        above: exclusive lower bound.
        below: exclusive upper bound.
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

    kimg: float = option(400.0, "training length", "kimg", above=0)
    batch_size: int = option(
        64, "global batch size; auto: the largest that pays, measured", "images", minimum=2
    )
    arch: str = option(
        "dcgan",
        "architecture of G and D; stylegan has dcgan's D, residual is for 128 px and more",
        choices=("dcgan", "stylegan", "residual"),
    )
    style: str = option(
        "modulated",
        "stylegan's style layer: weight modulation (StyleGAN2) or AdaIN (StyleGAN)",
        choices=("modulated", "adain"),
    )
    z_dim: int = option(128, "dimension of z, and of w in stylegan", minimum=1)
    prior: str = option("normal", "prior of z", choices=("normal", "uniform"))
    width: int = option(
        32, "channels of G and D at the finest level; doubled at each coarser one", minimum=4
    )
    g_lr: float = option(3e-4, "Adam learning rate of G", above=0)
    d_lr: float = option(3e-4, "Adam learning rate of D", above=0)
    betas: tuple[float, ...] = option((0.0, 0.99), "Adam betas of G and D")
    real_label: float = option(
        1.0, "target of D for reals; below 1: one-sided label smoothing", above=0.5
    )
    objective: str = option("non_saturating", "GAN objective", choices=OBJECTIVES)
    d_steps: int = option(1, "D steps per G step, each on new latents", "steps", minimum=1)
    penalty: str = option(
        AUTO,
        "gradient penalty on D; auto takes the objective's usual one",
        choices=(AUTO, "none", *PENALTIES),
    )
    gamma: float = option(0.1, "weight of R1 and R2: gamma / 2 * ||grad D(x)||^2", minimum=0)
    penalty_interval: int | None = option(
        None,
        "D steps between penalties; auto: 16 for r1 and r2 (lazy regularization), 1 for gp",
        "steps",
        minimum=1,
    )
    d_norm: str = option("none", "normalization in D", choices=("none", "batch", "spectral"))
    g_norm: str = option(
        "batch", "normalization in dcgan's and residual's G", choices=("batch", "pixel")
    )
    equalized_lr: bool = option(
        False,
        "equalized learning rate (raise --gan_g_lr and --gan_d_lr); always on in stylegan's G",
    )
    minibatch_std: bool = option(True, "minibatch standard deviation channel in D")
    augment: str = option(
        "none",
        "augmentation of D's inputs, for small data sets: fixed or adaptive (ada)",
        choices=("none", "diffaugment", "ada"),
    )
    progressive: bool = option(False, "progressive growing of G and D from 8 px, with fade-in")
    ema_kimg: float = option(
        10.0, "half-life of the moving average of G's weights; 0: none", "kimg", minimum=0
    )


@dataclasses.dataclass(frozen=True)
class RegressorConfig:
    """Stage `regressor`."""

    kimg: float = option(60.0, "training length", "kimg", above=0)
    batch_size: int = option(32, "global batch size", "images", minimum=2)
    lr: float = option(3e-4, "AdamW peak learning rate", above=0)
    resolution: int | None = option(
        None,
        f"input size of VGG16; auto: --resolution, at most {VGG_SIDE}",
        "px",
        minimum=32,
    )
    vgg_weights: str = option(
        AUTO,
        "initial VGG16 weights: imagenet, none, narrow or a file; auto: imagenet if available",
    )


@dataclasses.dataclass(frozen=True)
class InversionConfig:
    """Stage `inversion`; the directions work in its space and with its perceptual features."""

    kimg: float = option(60.0, "training length of the encoder", "kimg", above=0)
    batch_size: int = option(
        32, "global batch size, of photos and of generator samples each", "images", minimum=2
    )
    width: int = option(32, "channels of the encoder at the finest level", minimum=4)
    space: str = option(
        AUTO,
        "edit space: z, or stylegan's w or ws (one w per layer); auto: w of stylegan, else z",
        choices=(AUTO, *SPACES),
    )
    perceptual: str = option(
        "regressor",
        "network of the perceptual loss: regressor, imagenet or a file of VGG16 weights",
    )
    perceptual_crop: int | None = option(
        None,
        f"size of the perceptual loss's random crop; auto: --resolution, at most {VGG_SIDE}",
        "px",
        minimum=16,
    )


@dataclasses.dataclass(frozen=True)
class FeaturesConfig:
    """Stage `features`: the detail features, which carry what the latent cannot."""

    side: str = option(
        AUTO,
        "side of the detail features; none: no features; auto: --resolution / 4, at most 32",
        "px",
        choices=(AUTO, "none", *SIDES),
    )
    kimg: float = option(60.0, "training length", "kimg", above=0)


@dataclasses.dataclass(frozen=True)
class DirectionsConfig:
    """Stage `directions`."""

    family: str = option(
        "learned",
        "method: learned through G, hyperplane normals, or sefa or pca components",
        choices=DIRECTION_FAMILIES,
    )
    condition: tuple[str, ...] = option(
        (),
        "attributes that an edit must preserve, e.g. Smiling:Mouth_Slightly_Open+Male,Male:Bald",
    )
    samples: int = option(
        20000,
        "generator samples for hyperplane, sefa, pca and --directions_condition",
        "images",
        minimum=500,
    )
    kimg: float = option(20.0, "training length of learned directions", "kimg", above=0)
    batch_size: int = option(32, "global batch size", "images", minimum=2)
    preservation_weight: float = option(
        20.0, "weight of the preservation loss: the mean change of the other attributes", minimum=0
    )
    calibrated_change: float = option(
        0.8,
        "target change of the regressor's mean prediction at strength +1",
        above=0,
        below=1,
    )


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Stage `evaluate`."""

    judge_kimg: float = option(150.0, "training length of the judge", "kimg", above=0)
    samples: int = option(
        5000, "generator samples for fd, kid, precision and recall", "images", minimum=100
    )
    photos: int = option(1000, "maximum number of test photos", "images", minimum=10)
    projections: int = option(
        64, "maximum number of test photos for hybrid and optimize inversion", "images", minimum=0
    )
    identity_model: str | None = option(
        None, "face recognizer, FILE.onnx with FILE.json, that measures whether a person is kept"
    )


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Stage `export`."""

    formats: tuple[str, ...] = option(
        ("saved_model", "tflite"),
        "export formats; page is a folder that edits photos in a browser",
        choices=FORMATS,
    )
    quantize: tuple[str, ...] = option(
        ("none", "float16"),
        "TFLite variants; dynamic and weight_int8: int8 weights, int8: weights and activations",
        choices=VARIANTS,
    )
    truncation: float = option(
        1.0,
        "truncation psi of stylegan's exported samples; 1: none, 0: the mean face",
        minimum=0,
    )


_TRAINING = ("gan", "regressor", "inversion", "features", "directions")


@dataclasses.dataclass(frozen=True)
class Config:
    """All options: the common ones, and a section for each stage."""

    preset: str = option("", "preset whose values replace the defaults")
    init_from: str = option(
        "",
        "run folder whose networks the GAN, the regressor and the encoder start from",
        stages=("gan", "regressor", "inversion"),
    )
    seed: int | None = option(
        None, "random seed; generated and recorded if not given", stages=STAGES
    )
    precision: str = option(
        AUTO,
        "compute dtype; auto takes mixed_bfloat16 where it is faster",
        stages=STAGES,
        choices=(AUTO, "float32", "mixed_bfloat16"),
    )
    jit: str = option(
        AUTO,
        "compile training steps with XLA; auto: on a GPU",
        stages=STAGES,
        choices=(AUTO, "true", "false"),
    )
    # No stage refuses a change of the devices: the global batch stays the same.
    devices: tuple[str, ...] = option(
        (AUTO,),
        "devices that share each batch, e.g. GPU:0,GPU:1; auto takes all GPUs, else the CPU",
    )
    gpu_memory_gib: float | None = option(
        None, "cap of the memory that TensorFlow takes of each GPU; auto: none", "GiB", above=0
    )
    deterministic: bool = option(
        True, "deterministic kernels: equal seeds give equal weights", stages=STAGES
    )
    steps_per_call: int | None = option(
        None,
        "training steps in one call of the graph, at most; auto: 16 on a GPU, else 1",
        "steps",
        minimum=1,
    )
    checkpoint_minutes: float = option(2.0, "time between checkpoints", "minutes", above=0)
    tensorboard: bool = option(False, "also write scalars and sample grids to STAGE/tensorboard")
    data: str = option(
        "synthetic",
        "data set; photos: a folder of photos, whose faces are aligned first (see cgan align)",
        stages=STAGES,
        choices=("synthetic", "celeba", "celeba_dir", "folder", "photos"),
    )
    data_dir: str | None = option(
        None, "folder of the photos; of celeba: TensorFlow Datasets' folder"
    )
    cache_dir: str | None = option(
        None, "cache of decoded images; by default in the user's cache folder"
    )
    cache_gib: float = option(
        16.0,
        "size limit of the cache; larger data sets are decoded again in each epoch",
        "GiB",
        minimum=0,
    )
    device_cache_gib: float | None = option(
        None,
        "training photos up to this size stay in the devices' memory; auto: 4 on a GPU, else 0",
        "GiB",
        minimum=0,
    )
    resolution: int = option(
        64, f"image size: {', '.join(map(str, RESOLUTIONS))}", "px", stages=STAGES
    )
    flip: bool = option(True, "random horizontal flips of the training photos", stages=_TRAINING)
    attributes: tuple[str, ...] = option(
        (),
        "attributes to edit; by default a few common ones of the data set",
        stages=("features", "directions", "evaluate", "export"),
    )
    synthetic_size: int = option(
        10000, "number of synthetic faces", "faces", stages=STAGES, minimum=100
    )

    gan: GanConfig = GanConfig()
    regressor: RegressorConfig = RegressorConfig()
    inversion: InversionConfig = InversionConfig()
    features: FeaturesConfig = FeaturesConfig()
    directions: DirectionsConfig = DirectionsConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    export: ExportConfig = ExportConfig()


class Option(NamedTuple):
    """One option: its flag, its place in `Config`, and its metadata."""

    flag: str
    section: str  # "" for the common options
    name: str
    hint: Any
    default: Any
    metadata: Mapping[str, Any]

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that refuse a change once they have made progress."""
        return (self.section,) if self.section else self.metadata["stages"]

    @property
    def auto(self) -> bool:
        """Whether the flag accepts `auto` in place of a number."""
        numbers = (int | None, float | None)
        unset = self.hint in numbers and self.default is None and self.flag != "seed"
        return unset or self.flag in MEASURED


SECTIONS: dict[str, Any] = {stage: getattr(Config(), stage) for stage in STAGES}


def _options() -> dict[str, Option]:
    found = {}
    for section, owner in {"": Config(), **SECTIONS}.items():
        hints = typing.get_type_hints(type(owner))
        for field in dataclasses.fields(owner):
            if field.metadata:
                flag = f"{section}_{field.name}" if section else field.name
                found[flag] = Option(
                    flag, section, field.name, hints[field.name], field.default, field.metadata
                )
    return found


OPTIONS: dict[str, Option] = _options()


def features_side(config: Config) -> int | None:
    """The side of the detail features of a resolved config, in px; None without them."""
    return None if config.features.side == "none" else int(config.features.side)


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


def with_dependents(stages: Iterable[str]) -> tuple[str, ...]:
    """The stages and their dependents, in the chain's order."""
    return tuple(name for name in STAGES if {name, *NEEDS[name]} & set(stages))


def stage_options(config: Config, stage: str) -> dict[str, Any]:
    """The options that determine the result of `stage`, by flag, as JSON values."""
    return {
        flag: _plain(get(config, flag))
        for flag, option in OPTIONS.items()
        if stage in option.stages
    }


def to_dict(config: Config) -> dict[str, Any]:
    """All options as JSON values; each section is a dict."""
    return {
        name: {key: _plain(part) for key, part in value.items()}
        if isinstance(value, dict)
        else _plain(value)
        for name, value in dataclasses.asdict(config).items()
    }


def from_dict(values: Mapping[str, Any]) -> Config:
    """The inverse of `to_dict`.

    Raises:
        TypeError: an unknown option, or a section that is not a dict.
    """
    if not all(isinstance(values.get(name, {}), Mapping) for name in SECTIONS):
        raise TypeError("a section is not a dict")
    parts = {
        name: type(SECTIONS[name])(**_tuples(value)) if name in SECTIONS else value
        for name, value in values.items()
    }
    return Config(**_tuples(parts))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
