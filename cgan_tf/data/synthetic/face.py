"""The named factors of a synthetic face: sampling, labels and counterfactuals."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cgan_tf.core.errors import UserError

# Share of faces with each attribute: near one half, so that a small network learns each quickly.
_RATES = {
    "Smiling": 0.50,
    "Blond_Hair": 0.35,
    "Black_Hair": 0.35,
    "Eyeglasses": 0.40,
    "Wearing_Hat": 0.35,
    "Mouth_Slightly_Open": 0.45,
    "Pale_Skin": 0.40,
    "Bushy_Eyebrows": 0.40,
    "Wearing_Lipstick": 0.40,
    "Bangs": 0.40,
}
ATTRIBUTES: tuple[str, ...] = tuple(_RATES)


@dataclasses.dataclass(frozen=True)
class Face:
    """All factors of one face. The booleans are its attributes; the other factors are its identity.

    Floats are in [0, 1], or in [-1, 1] where a sign matters (yaw, pitch, roll, shifts, gaze, light,
    part); `render` scales them. Every factor has a value, even one that is visible only with an
    attribute (the style of the glasses of a face without glasses), so that every counterfactual is
    defined.
    """

    smiling: bool
    blond_hair: bool
    black_hair: bool
    eyeglasses: bool
    wearing_hat: bool
    mouth_slightly_open: bool
    pale_skin: bool
    bushy_eyebrows: bool
    wearing_lipstick: bool
    bangs: bool

    hair_other: str  # "brown", "red" or "gray": the color of hair that is neither blond nor black
    hair_style: str  # one of _HAIR_STYLES
    hat_style: str  # "beanie", "cap" or "brim"
    glasses_style: str  # "round", "square" or "cat"

    yaw: float
    pitch: float
    roll: float
    shift_x: float
    shift_y: float
    scale: float
    light_x: float
    light_y: float
    light_strength: float
    light_warmth: float
    background_hue: float
    background_saturation: float
    background_value: float
    background_angle: float
    shirt_hue: float
    shirt_value: float
    neckline: float
    head_width: float
    jaw_width: float
    chin_length: float
    skin_tone: float
    skin_undertone: float
    eye_spacing: float
    eye_size: float
    eye_openness: float
    eye_tilt: float
    iris_color: float
    gaze_x: float
    gaze_y: float
    lashes: float
    brow_height: float
    brow_arch: float
    brow_thickness: float
    brow_tone: float
    nose_length: float
    nose_width: float
    mouth_width: float
    mouth_height: float
    lip_fullness: float
    smile_strength: float
    mouth_rest: float
    mouth_opening: float
    lipstick_color: float
    hair_length: float
    hair_volume: float
    hair_part: float
    hair_tone: float
    hair_phase: float
    bangs_length: float
    bangs_sweep: float
    glasses_size: float
    glasses_color: float
    hat_hue: float
    hat_value: float
    hat_height: float


_HAIR_STYLES = ("crop", "quiff", "bob", "long", "wavy", "curly", "bun")
_CHOICES = {
    "hair_style": (_HAIR_STYLES, (0.17, 0.13, 0.17, 0.18, 0.15, 0.10, 0.10)),
    "hat_style": (("beanie", "cap", "brim"), (0.45, 0.30, 0.25)),
    "glasses_style": (("round", "square", "cat"), (0.40, 0.40, 0.20)),
}
_HAIR_OTHER = (("brown", "red", "gray"), (0.70, 0.18, 0.12))
# Sampled from a triangular distribution with its peak at 0 (the sum of two uniforms): most people
# look into the camera.
_SIGNED = (
    "yaw",
    "pitch",
    "roll",
    "shift_x",
    "shift_y",
    "light_x",
    "light_y",
    "gaze_x",
    "gaze_y",
    "hair_part",
    "eye_tilt",
    "bangs_sweep",
)
_FLOATS = tuple(f.name for f in dataclasses.fields(Face) if f.type in (float, "float"))


def sample_face(seed: int, index: int) -> Face:
    """Face number `index` of the infinite sequence given by `seed`; both are non-negative.

    Stateless: the result depends on these two numbers only, not on any earlier call.
    """
    random = np.random.Generator(np.random.PCG64([seed, index]))
    # Uniform numbers in a fixed order: one per attribute, one for the hair color, one per choice,
    # and two per float.
    draws = iter(random.random(len(ATTRIBUTES) + 1 + len(_CHOICES) + 2 * len(_FLOATS)).tolist())
    factors = {name.lower(): next(draws) < rate for name, rate in _RATES.items()}
    # One number decides on both hair colors, so that each has its rate and they exclude each other.
    color = next(draws)
    factors["blond_hair"] = color < _RATES["Blond_Hair"]
    factors["black_hair"] = color >= 1.0 - _RATES["Black_Hair"]
    named = factors["blond_hair"] or factors["black_hair"]
    # The color below blond or black hair is visible only in a counterfactual: brown.
    rest = (color - _RATES["Blond_Hair"]) / (1 - _RATES["Blond_Hair"] - _RATES["Black_Hair"])
    factors["hair_other"] = "brown" if named else _choose(*_HAIR_OTHER, rest)
    for name, (values, weights) in _CHOICES.items():
        factors[name] = _choose(values, weights, next(draws))
    for name in _FLOATS:
        first, second = next(draws), next(draws)
        factors[name] = first + second - 1.0 if name in _SIGNED else first
    return Face(**factors)


def labels(face: Face) -> np.ndarray:
    """float32 [K] in {0, 1}, in the order of `ATTRIBUTES`."""
    return np.array([getattr(face, name.lower()) for name in ATTRIBUTES], dtype=np.float32)


def counterfactual(face: Face, attribute: str, value: bool) -> Face:
    """The same face with one attribute set to `value` and every other factor unchanged.

    Blond and black hair exclude each other: setting one clears the other. Clearing the color that
    the face has reveals its `hair_other`.

    Raises:
        UserError: unknown attribute.
    """
    if attribute not in ATTRIBUTES:
        raise UserError(
            f"attribute {attribute!r}: the synthetic faces have no such attribute; "
            f"choose from {', '.join(ATTRIBUTES)}"
        )
    changes = {attribute.lower(): bool(value)}
    other = {"Blond_Hair": "black_hair", "Black_Hair": "blond_hair"}.get(attribute)
    if other and value:
        changes[other] = False
    return dataclasses.replace(face, **changes)


def _choose(values: Sequence[str], weights: Sequence[float], draw: float) -> str:
    for value, weight in zip(values, weights, strict=True):
        draw -= weight
        if draw < 0:
            return value
    return values[-1]
