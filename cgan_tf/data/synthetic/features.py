"""Draws the head and the facial features: nose, mouth, eyes and eyebrows."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from cgan_tf.data.synthetic.canvas import Window
from cgan_tf.data.synthetic.colors import WHITE, mix, ramp, rgb
from cgan_tf.data.synthetic.curves import SIDES, circle, curve, join, mirrored, span
from cgan_tf.data.synthetic.face import Face
from cgan_tf.data.synthetic.scene import Scene

_IRIS = (
    rgb(58, 36, 24),
    rgb(104, 66, 34),
    rgb(122, 112, 56),
    rgb(72, 118, 92),
    rgb(74, 122, 168),
    rgb(108, 132, 150),
)
_LIPSTICK = (rgb(214, 20, 40), rgb(192, 12, 62), rgb(222, 36, 100), rgb(164, 14, 50))


def draw_head(scene: Scene) -> None:
    """Ears, head and blush; sets `scene.head_mask`."""
    face = scene.face
    wide = scene.head_width
    jaw = 0.90 + 0.17 * face.jaw_width
    chin = 0.97 + 0.07 * face.chin_length
    skin = scene.shading(scene.skin, 0.10 * face.yaw, -0.05, 0.98, 1.28)
    x, y = circle()
    scene.fill(scene.head(SIDES * (0.775 * wide + 0.095 * x), 0.09 + 0.185 * y, -0.08), color=skin)
    scene.fill(
        scene.head(SIDES * (0.790 * wide + 0.050 * x), 0.09 + 0.110 * y, -0.08),
        color=scene.skin_shadow(0.74, 0.60, 0.58),
        opacity=0.55,
    )
    # z: the chin comes forward, so it leads when the head turns.
    x, y, z = curve(
        mirrored(
            [
                [0, -1.03, 0],
                [0.40, -0.95, 0],
                [0.67, -0.66, 0],
                [0.765, -0.22, 0.0],
                [0.745, 0.15, 0.04],
                [0.675 * jaw, 0.47, 0.12],
                [0.48 * jaw, 0.79 * chin, 0.28],
                [0.22 * jaw, 0.965 * chin, 0.40],
                [0, 1.0 * chin, 0.42],
            ]
        ),
        True,
    )
    window, alpha = scene.fill(scene.head(x * wide, y, z), color=skin)
    scene.head_mask = np.zeros_like(scene.x)
    scene.head_mask[window] = alpha
    blush = mix(scene.skin, rgb(226, 84, 78), 0.42)
    for side in (-1, 1):
        scene.glow(scene.on_face(side * 0.43, 0.32), 0.21, 0.16, blush, 0.36, scene.head_mask)


def draw_nose(scene: Scene) -> None:
    face = scene.face
    shadow = scene.skin_shadow(0.72, 0.56, 0.52)
    light = mix(scene.skin, WHITE, 0.45)
    tip = 0.28 + 0.07 * face.nose_length
    wide = 0.105 + 0.045 * face.nose_width
    dark = -1.0 if scene.light[0] > 0 else 1.0  # the side turned away from the light
    x, y = curve([[dark * 0.07, -0.10], [dark * 0.055, 0.08], [dark * wide * 0.9, tip - 0.05]])
    scene.stroke(
        scene.on_face(x, y, np.linspace(0.05, 0.16, len(x))),
        np.linspace(0.03, 0.09, len(x)),
        shadow,
        0.20,
    )
    scene.glow(scene.on_face(0.0, tip + 0.07, 0.10), 0.16, 0.065, shadow, 0.48)
    scene.glow(scene.on_face(0.0, 0.08, 0.12), 0.035, 0.17, light, 0.24)
    scene.glow(scene.on_face(0.0, tip - 0.03, 0.22), 0.075, 0.065, light, 0.48)
    x, y = curve(
        [
            [-wide, tip - 0.04],
            [-wide * 0.98, tip + 0.02],
            [-wide * 0.5, tip + 0.03],
            [0, tip + 0.055],
            [wide * 0.5, tip + 0.03],
            [wide * 0.98, tip + 0.02],
            [wide, tip - 0.04],
        ],
        False,
        4,
    )
    taper = 0.012 + 0.018 * (1 - span(len(x)) ** 2)
    scene.stroke(scene.on_face(x, y, 0.12), taper, shadow * np.float32(0.86), 0.72)
    x, y = circle(12)
    nostrils = scene.on_face(SIDES * wide * (0.52 + 0.26 * x), tip + 0.025 + 0.021 * y, 0.13)
    scene.fill(nostrils, color=shadow * np.float32(0.52), opacity=0.72)


@dataclasses.dataclass(frozen=True)
class _Mouth:
    """The lips' edges as y over x, in head units; all arrays are [17], from corner to corner."""

    half: float  # half of the width
    opening: float  # in [0, 1]
    grin: float  # 1 for a smile, else 0
    x: np.ndarray
    arch: np.ndarray  # 1 in the middle, 0 at the corners
    line: np.ndarray  # where closed lips meet
    top: np.ndarray  # upper lip
    upper: np.ndarray
    lower: np.ndarray  # lower lip
    bottom: np.ndarray


def _mouth_shape(face: Face) -> _Mouth:
    t = span(17)
    arch = 1 - t * t
    # The corners' lift and the gap between the lips, then the edges of the lips.
    smile = 0.72 + 0.40 * face.smile_strength if face.smiling else -0.12 + 0.24 * face.mouth_rest
    opening = 0.60 + 0.40 * face.mouth_opening if face.mouth_slightly_open else 0.0
    grin = 1.0 if face.smiling else 0.0
    half = 0.285 + 0.04 * face.mouth_width + (0.105 if face.smiling else -0.06 * opening)
    line = 0.565 + 0.03 * face.mouth_height + smile * (0.075 - 0.19 * t * t)
    upper = line - opening * (0.07 - 0.03 * grin) * arch
    lower = line + opening * (0.165 + 0.010 * grin) * np.sqrt(arch) * (0.35 + 0.65 * arch)
    full = 0.8 + 0.45 * face.lip_fullness
    bow = 1 - 0.28 * np.exp(-((t / 0.16) ** 2))
    top = upper - full * (0.085 - 0.015 * grin) * arch**0.6 * bow
    bottom = lower + full * (0.115 - 0.018 * grin) * arch**0.8
    return _Mouth(half, opening, grin, t * half, arch, line, top, upper, lower, bottom)


def draw_mouth(scene: Scene) -> None:
    face, mouth = scene.face, _mouth_shape(scene.face)
    x, line, upper, lower = mouth.x, mouth.line, mouth.upper, mouth.lower

    def between(high: np.ndarray, low: np.ndarray) -> np.ndarray:
        return scene.on_face(join(x, x[::-1]), join(high, low[::-1]), 0.04)

    shadow = scene.skin_shadow(0.74, 0.58, 0.54)
    if face.wearing_lipstick:
        lip = ramp(_LIPSTICK, face.lipstick_color)
    else:
        lip = mix(scene.skin_shadow(0.88, 0.69, 0.66), rgb(202, 108, 100), 0.30)
    scene.glow(scene.on_face(0.0, mouth.bottom[8] + 0.055, 0.03), 0.16, 0.04, shadow, 0.42)
    if face.smiling:
        _draw_smiling_cheeks(scene, mouth, shadow)
    scene.fill(between(mouth.top, upper + 0.006), color=lip * np.float32(0.86))
    scene.fill(between(lower - 0.006, mouth.bottom), color=lip)
    if mouth.opening:
        window, inside = scene.fill(between(upper, lower), color=rgb(78, 20, 26))
        teeth_height = (0.060 + 0.026 * mouth.grin) * mouth.arch**0.4
        edge = upper + teeth_height * (0.5 + 0.5 * mouth.opening)
        _, teeth = scene.mask(between(upper, edge), window=window)
        scene.blend(window, inside * teeth, rgb(248, 246, 240))
        cos, sin = circle(16)
        tongue_y = lower[8] + 0.015 + 0.065 * mouth.opening * sin
        tongue = scene.on_face(mouth.half * 0.5 * cos, tongue_y, 0.04)
        _, tongue = scene.mask(tongue, window=window)
        scene.blend(window, inside * tongue * np.float32(0.8), rgb(200, 88, 92))
    else:
        seam = lip * np.array([0.46, 0.36, 0.38], np.float32)
        scene.stroke(scene.on_face(x * 1.03, line, 0.04), 0.013 + 0.016 * mouth.arch, seam)
    for k in (0, -1):
        corner = scene.on_face(x[k] * 1.04, line[k], 0.04)
        scene.glow(corner, 0.03, 0.03, shadow * np.float32(0.8), 0.55)
    shine_x = 0.25 * mouth.half * math.copysign(1, scene.light[0])
    shine = scene.on_face(shine_x, (lower[8] + mouth.bottom[8]) / 2, 0.05)
    scene.glow(shine, 0.085, 0.022, WHITE, 0.40 if face.wearing_lipstick else 0.22)


def _draw_smiling_cheeks(scene: Scene, mouth: _Mouth, shadow: np.ndarray) -> None:
    """The folds next to the mouth and the raised cheeks."""
    end = [mouth.half + 0.065, mouth.line[0] + 0.03]
    fold = curve([[0.20, 0.36], [mouth.half + 0.045, 0.46], end])
    scene.stroke(
        scene.on_face(SIDES * fold[0], fold[1]),
        0.028 * (1.05 - span(fold.shape[1]) ** 2),
        shadow,
        0.34,
    )
    cheek = mix(scene.skin, WHITE, 0.4)
    for side in (-1, 1):
        scene.glow(scene.on_face(side * 0.44, 0.26), 0.13, 0.09, cheek, 0.26)


def draw_eyes(scene: Scene) -> None:
    face = scene.face
    half = 0.165 + 0.03 * face.eye_size
    spacing = 0.325 + 0.035 * face.eye_spacing
    squint = 0.15 + 0.25 * face.smile_strength if face.smiling else 0.0  # a smile raises the lids
    up = (0.105 + 0.035 * face.eye_openness) * (1 - 0.15 * squint)
    down = (0.072 + 0.012 * face.eye_openness) * (1 - 0.55 * squint)
    slope = 0.035 * face.eye_tilt / half
    shadow = scene.skin_shadow(0.66, 0.52, 0.52)

    def at(x, y):
        """Eye coordinates (x outwards, y down) -> image points of both eyes [2, n]."""
        return scene.on_face(SIDES * (spacing + x), 0.01 + y - slope * x)

    for side in (-1, 1):
        scene.glow(scene.on_face(side * spacing, -0.09), 0.21, 0.10, shadow, 0.40)
    upper = curve(
        [
            [-half, 0.025],
            [-half * 0.55, -up * 0.72],
            [0.0, -up],
            [half * 0.6, -up * 0.74],
            [half, -0.01],
        ],
        False,
        4,
    )
    lower = curve(
        [
            [half, -0.01],
            [half * 0.5, down * 0.85],
            [0, down],
            [-half * 0.6, down * 0.78],
            [-half, 0.025],
        ],
        False,
        4,
    )
    window, inside = scene.fill(at(*join(upper, lower)), color=rgb(250, 248, 246))
    _draw_irises(scene, at, window, inside)
    # The shadow of the upper lid, the crease above it, the lower lid and the lashes.
    _, alpha = scene.mask(at(*join(upper, upper[:, ::-1] + [[0.0], [0.05]])), window=window)
    scene.blend(window, alpha * inside * np.float32(0.30), shadow * np.float32(0.5))
    crease = curve([[-half * 0.8, -up * 0.75], [0, -up - 0.055], [half * 0.95, -up * 0.62]])
    scene.stroke(at(*crease), 0.020, shadow * np.float32(0.85), 0.55)
    taper = np.linspace(0.016, 0.005, lower.shape[1])
    scene.stroke(at(*lower), taper, shadow * np.float32(0.7), 0.6)
    wing = np.array(
        [[half, half * (1.0 + 0.22 * face.lashes)], [-0.012, -0.03 - 0.03 * face.lashes]]
    )
    lashes = join(upper[:, :-1], wing)
    width = (0.032 + 0.018 * face.lashes) * np.linspace(0.45, 1.15, lashes.shape[1])
    width[-1] *= 0.25
    scene.stroke(at(*lashes), width, mix(rgb(40, 24, 22), scene.skin * np.float32(0.3), 0.2))


def _draw_irises(scene: Scene, at: Callable, window: Window, inside: np.ndarray) -> None:
    """Iris, pupil and reflections of both eyes, clipped to the mask `inside` of the eyeballs.

    `at` maps eye coordinates to image points.
    """
    face = scene.face
    iris = ramp(_IRIS, face.iris_color)
    cos, sin = circle()
    # Both eyes look in the same direction; x points outwards, so its sign differs between them.
    gaze_x, gaze_y = 0.025 * face.gaze_x * SIDES, -0.008 + 0.012 * face.gaze_y
    glint = 0.035 * math.copysign(1, scene.light[0]) * SIDES
    discs = (
        (0.0, 0.0, 0.098, iris * np.float32(0.45), 1.0),
        (0.0, 0.004, 0.083, iris, 1.0),
        (0.0, 0.032, 0.050, mix(iris, WHITE, 0.28), 0.7),
        (0.0, 0.0, 0.045, rgb(14, 10, 12), 1.0),
        (glint, -0.036, 0.027, WHITE, 1.0),
        (-glint, 0.036, 0.014, WHITE, 0.6),
    )
    for x, y, radius, color, opacity in discs:
        shape = at(gaze_x + x + radius * cos, gaze_y + y + radius * sin)
        _, alpha = scene.mask(shape, window=window)
        scene.blend(window, alpha * inside * np.float32(opacity), color)


def draw_brows(scene: Scene) -> None:
    face = scene.face
    color = mix(rgb(30, 21, 18), rgb(76, 50, 36), face.brow_tone)
    bushy = face.bushy_eyebrows
    thick = 0.105 + 0.035 * face.brow_thickness if bushy else 0.036 + 0.016 * face.brow_thickness
    y = -0.222 - 0.03 * face.brow_height
    arch = 0.02 + 0.035 * face.brow_arch
    x, y = curve([[0.14, y], [0.28, y - arch * 0.7], [0.43, y - arch], [0.57, y + 0.045]], False, 9)
    along = np.linspace(0, 1, len(x))
    width = thick * np.interp(along, [0, 0.08, 0.55, 1], [0.55, 0.95, 0.95, 0.22])
    if bushy:  # a ragged edge that suggests single hairs
        width *= 1 + 0.06 * np.sin(2.3 * np.arange(len(x)))
    scene.stroke(scene.on_face(SIDES * x, y, 0.02), width, color, 0.95 if bushy else 0.80)
