"""Draws the accessories: glasses and hats."""

import numpy as np

from cgan_tf.data.synthetic.canvas import Window
from cgan_tf.data.synthetic.colors import WHITE, hsv, mix, ramp, rgb
from cgan_tf.data.synthetic.curves import SIDES, circle, curve, join, span
from cgan_tf.data.synthetic.face import Face
from cgan_tf.data.synthetic.scene import Scene

_FRAMES = (rgb(24, 24, 28), rgb(66, 36, 22), rgb(120, 24, 36), rgb(26, 46, 96))
# Exponent of the superellipse (1: a circle), half of the width and half of the height.
_LENS = {"round": (1.0, 0.235, 0.210), "square": (0.55, 0.250, 0.182), "cat": (0.75, 0.250, 0.190)}
_HAT_EDGE = -0.565  # y at which a hat ends on the forehead; bangs end lower


def draw_temples(scene: Scene) -> None:
    """The temples of the glasses, which the hair covers."""
    wide = scene.head_width
    x, z = np.array([0.57, 0.755 * wide]), np.array([0.56, 0.02])
    scene.stroke(scene.head(SIDES * x, np.array([-0.03, 0.0]), z), 0.045, _frame_color(scene.face))


def _frame_color(face: Face) -> np.ndarray:
    return ramp(_FRAMES, face.glasses_color)


def draw_glasses(scene: Scene) -> None:
    face = scene.face
    frame = _frame_color(face)
    size = 0.94 + 0.14 * face.glasses_size
    power, rx, ry = _LENS[face.glasses_style]
    cos, sin = circle(36)
    x = rx * np.sign(cos) * np.abs(cos) ** power
    y = ry * np.sign(sin) * np.abs(sin) ** power
    if face.glasses_style == "cat":
        y = y - 0.16 * np.maximum(x, 0) * (y < 0)

    def at(x, y, side=SIDES):
        """Points on the glasses, a slightly bent plane in front of the face -> image points."""
        return scene.head(side * x, y + 0.04, 0.66 - 0.22 * x * x)

    middle, width = 0.335, 0.048
    window, rim = scene.mask(at(middle + (size + width / rx) * x, (size + width / ry) * y))
    _, glass = scene.mask(at(middle + size * x, size * y), window=window)
    glare = np.array([[-0.16, -0.07, -0.17, -0.26], [-0.2, -0.2, 0.2, 0.2]]) * size
    _, streak = scene.mask(at(SIDES * middle + glare[0], glare[1], 1.0), window=window)
    scene.blend(window, glass * (0.09 + 0.15 * streak), rgb(236, 248, 255))
    scene.blend(window, np.maximum(rim - glass, 0), frame)
    gap = middle - rx * size - 0.02
    scene.stroke(at(*curve([[-gap, 0.0], [0, -0.045], [gap, 0.0]]), 1.0), 0.045, frame)


def draw_hat(scene: Scene) -> None:
    face = scene.face
    color = hsv(face.hat_hue, 0.35 + 0.38 * (1 - face.hat_value), 0.30 + 0.58 * face.hat_value)
    cloth = scene.shading(color, 0, -0.72, 1.05, 0.85, shadow=(0.50, 0.48, 0.54))
    t = span(25)
    x, front = 0.88 * t, 0.62 * np.sqrt(np.maximum(0, 1 - 0.92 * t * t))
    edge = _HAT_EDGE + 0.03 * t * t

    # The shadow of the hat on the forehead and on the hair.
    band = join(
        scene.head(0.93 * x, edge - 0.1, front), scene.head(0.93 * x, edge + 0.09, front)[::-1]
    )
    window, alpha = scene.mask(band)
    scene.blend(window, scene.blur(alpha, 0.035) * np.float32(0.30), rgb(20, 8, 8))

    top = -1.20 - 0.10 * face.hat_height
    right = np.array(
        [
            [0.88, _HAT_EDGE + 0.02],
            [0.90, -0.72],
            [0.78, top + 0.30],
            [0.46, top + 0.06],
            [0.0, top],
        ]
    )
    dome = curve(np.concatenate([right, right[-2::-1] * [-1, 1]]))
    crown = join(scene.head(x, edge, front), scene.head(*dome, -0.05))
    draw = {"beanie": _draw_beanie, "cap": _draw_cap, "brim": _draw_brim}[face.hat_style]
    draw(scene, color, cloth, crown, top)


def _draw_beanie(scene: Scene, color, cloth, crown: np.ndarray, top: float) -> None:
    """As each hat: `color` [3], its shading `cloth`, the outline `crown`, y of its `top`."""
    face, t = scene.face, span(25)

    def knit(window: Window, light: float = 0.0) -> np.ndarray:
        turned = np.clip(scene.x[window] - 0.2 * face.yaw, -1, 1)
        ribs = 1 + 0.07 * np.sin(28 * np.arcsin(turned))
        return mix(cloth(window), np.float32(1), light) * ribs

    cos, sin = circle(24)
    bumps = 1 + 0.06 * np.cos(8 * np.arccos(cos))
    scene.fill(
        scene.head(0.16 * bumps * cos, top - 0.05 + 0.15 * bumps * sin, -0.05),
        color=scene.shading(mix(color, WHITE, 0.5), 0, top - 0.05, 0.2, 0.2),
    )
    scene.fill(crown, color=knit)
    x, front = 0.905 * t, 0.66 * np.sqrt(np.maximum(0, 1 - 0.92 * t * t))
    low, high = _HAT_EDGE + 0.01 + 0.03 * t * t, _HAT_EDGE - 0.25 + 0.05 * t * t
    upper = scene.head(x, high, front)
    scene.fill(join(upper, scene.head(x, low, front)[::-1]), color=lambda w: knit(w, 0.15))
    scene.stroke(upper, 0.03, color * np.float32(0.5), 0.6)


def _draw_cap(scene: Scene, color, cloth, crown: np.ndarray, top: float) -> None:
    t = span(25)
    scene.fill(crown, color=cloth)
    seam = curve([[0, top, 0.0], [0.0, -0.95, 0.35], [0, _HAT_EDGE - 0.1, 0.62]])
    scene.stroke(scene.head(*seam), 0.02, color * np.float32(0.6), 0.6)
    cos, sin = circle(12)
    scene.fill(scene.head(0.06 * cos, top + 0.01 + 0.035 * sin, 0.0), color=color * np.float32(0.7))
    # The visor points towards the viewer: a crescent when seen from the front.
    bow = np.sqrt(np.maximum(0, 1 - t * t))
    back = scene.head(0.80 * t, _HAT_EDGE + 0.05 - 0.27 * bow, 0.10 + 0.50 * bow)
    rim = scene.head(0.87 * t, _HAT_EDGE + 0.07 - 0.01 * bow, 0.10 + 0.72 * bow)
    top_side = scene.shading(
        color * np.float32(0.86), 0, _HAT_EDGE + 0.08, 1.1, 0.5, shadow=(0.50, 0.48, 0.54)
    )
    scene.fill(join(back, rim[::-1]), color=top_side)
    scene.stroke(rim, 0.03, color * np.float32(0.5))
    scene.stroke(back, 0.022, color * np.float32(0.42), 0.8)


def _draw_brim(scene: Scene, color, cloth, crown: np.ndarray, top: float) -> None:
    t = span(25)
    scene.fill(crown, color=cloth)
    bow = 0.6 * np.sqrt(np.maximum(0, 1 - t * t))
    band = join(
        scene.head(0.91 * t, _HAT_EDGE - 0.24 + 0 * t, bow),
        scene.head(0.91 * t, _HAT_EDGE - 0.04 + 0 * t, bow)[::-1],
    )
    scene.fill(band, color=color * np.float32(0.40))
    cos, sin = circle(40)
    y = _HAT_EDGE - 0.05
    scene.fill(
        scene.head(1.20 * cos, y + 0.12 * sin, 0.25),
        color=scene.shading(color, 0, y - 0.1, 1.4, 0.5, shadow=(0.50, 0.48, 0.54)),
    )
    scene.stroke(
        scene.head(1.20 * cos[:21], y + 0.12 * sin[:21], 0.25), 0.035, color * np.float32(0.6), 0.8
    )
