"""Draws the hair: its strands and color, and its shape behind and in front of the head."""

import math

import numpy as np

from cgan_tf.data.synthetic.canvas import Window
from cgan_tf.data.synthetic.colors import WHITE, mix, ramp, rgb
from cgan_tf.data.synthetic.curves import SIDES, circle, curve, join, mirrored, span
from cgan_tf.data.synthetic.face import Face
from cgan_tf.data.synthetic.scene import Scene

_HAIR = {
    "blond": (rgb(248, 218, 138), rgb(226, 178, 92)),
    "black": (rgb(20, 19, 24), rgb(38, 33, 34)),
    "brown": (rgb(82, 49, 32), rgb(120, 76, 48)),
    "red": (rgb(150, 56, 28), rgb(184, 84, 40)),
    "gray": (rgb(142, 142, 148), rgb(184, 184, 188)),
}


def _hair_color(face: Face) -> np.ndarray:
    kind = "blond" if face.blond_hair else "black" if face.black_hair else face.hair_other
    return ramp(_HAIR[kind], face.hair_tone)


def _hair_field(scene: Scene, color: np.ndarray) -> np.ndarray:
    """Strands that fall from above the crown, with a band of reflected light: [3, R, R]."""
    face = scene.face
    phase = 6.28 * face.hair_phase
    x, y = scene.x - np.float32(0.25 * face.hair_part), scene.y + np.float32(1.35)
    if face.hair_style == "curly":
        bend_x, bend_y = 2.2 * np.sin(8 * scene.y + phase), 2.2 * np.sin(9 * scene.x - phase)
        strands = 0.9 * np.sin(17 * scene.x + bend_x) * np.sin(15 * scene.y + bend_y)
        strands += 0.4 * np.sin(31 * scene.x - bend_x) * np.sin(27 * scene.y - bend_y)
    else:
        angle = np.arctan2(x, y)
        if face.hair_style == "wavy":
            angle = angle + 0.05 * np.sin(7.0 * scene.y + phase)
        strands = 0.6 * np.sin(23 * angle + phase + 1.5 * np.sin(9 * angle))
        strands += 0.4 * np.sin(51 * angle + 2 * phase)
        if scene.resolution > 96:  # at lower resolutions these strands are finer than a pixel
            strands += 0.35 * np.sin(117 * angle + 3 * phase)
    strands *= min(1.0, scene.resolution / 64)
    radius = np.sqrt(scene.x * scene.x + 0.9 * scene.y * scene.y)
    band = np.exp(-(((radius - 0.92) * (1 / 0.11)) ** 2))
    band *= np.minimum(np.maximum(0.9 - 1.5 * scene.y, 0), 1)
    lit = np.minimum(np.maximum(0.35 + 0.9 * scene.x * scene.light[0] - 0.45 * scene.y, 0), 1)
    # Blond hair has a warm shadow; a neutral one would turn it olive.
    shadow = (0.62, 0.50, 0.38) if face.blond_hair else (0.48, 0.44, 0.44)
    field = scene.shading(color, 0, -0.1, 1.25, 1.6, shadow, 0.8)(scene.full_window)
    field *= 1 + 0.11 * strands
    shine = band * lit * (0.36 + 0.14 * strands)
    field += shine * (mix(color, WHITE, 0.55)[:, None, None] - field)
    return field


def _hair_volume(face: Face) -> float:
    base = {"crop": 0.04, "quiff": 0.06, "bun": 0.04, "curly": 0.16}.get(face.hair_style, 0.08)
    return base + 0.05 * face.hair_volume


def _hair_end(face: Face) -> float:
    """The y at which the hair ends at the sides."""
    low, high = {
        "bob": (0.62, 0.88),
        "long": (1.25, 1.75),
        "wavy": (1.15, 1.65),
        "curly": (0.45, 0.80),
    }.get(face.hair_style, (0.05, 0.15))
    return low + (high - low) * face.hair_length


def _wave(face: Face, y: np.ndarray) -> np.ndarray:
    """Sideways offset of wavy or curly hair at height y."""
    if face.hair_style not in ("wavy", "curly"):
        return np.zeros_like(y)
    swing, turns = (0.045, 8.0) if face.hair_style == "wavy" else (0.035, 17.0)
    return swing * np.sin(turns * y + 6.28 * face.hair_phase) * np.clip((y + 0.7) * 2, 0, 1)


def draw_back_hair(scene: Scene) -> None:
    """The hair behind the head; sets `scene.hair`."""
    face = scene.face
    scene.hair = _hair_field(scene, _hair_color(face))
    style, volume, end = face.hair_style, _hair_volume(face), _hair_end(face)
    crown = -1.02 - volume * (0.4 if face.wearing_hat else 1.0)  # a hat flattens the hair

    def dark(window: Window) -> np.ndarray:
        return scene.hair[:, window[0], window[1]] * np.float32(0.78)

    if style == "bun" and not face.wearing_hat:
        x, y = circle()
        scene.fill(scene.head(0.29 * x + 0.1 * face.hair_part, 0.25 * y - 1.17, -0.2), color=dark)
    if style not in ("bob", "long", "wavy", "curly"):
        return
    wide = 0.82 + volume
    flare = {"bob": 0.05, "curly": 0.02}.get(style, 0.09)
    temple = 0.82 if face.wearing_hat else wide - 0.06
    x, y = curve(
        mirrored(
            [
                [0, crown],
                [0.48, crown + 0.09],
                [temple, -0.62],
                [wide, -0.2],
                [wide + 0.01, 0.2],
                [wide + flare * 0.6, 0.6 * end],
                [wide + flare, end - 0.06],
                [0.62, end + 0.04],
                [0, end],
            ]
        ),
        True,
    )
    scene.fill(scene.head(x + np.sign(x) * _wave(face, y), y, -0.2), color=dark)


def draw_front_hair(scene: Scene) -> None:
    """The hair in front of the head, and its shadow on the skin."""
    face = scene.face
    shapes = [_cap(scene)]
    if face.hair_style in ("bob", "long", "wavy", "curly"):
        shapes.append(_locks(scene))
    if face.bangs:
        shapes.append(_bangs(scene))
    window, alpha = scene.mask(*shapes)
    # The shadow is the blurred mask, moved down and clipped to the head.
    step = max(1, round(0.05 * scene.unit))
    cast = np.zeros_like(scene.x)
    cast[window] = alpha
    cast = scene.blur(cast[:-step], 0.045) * scene.head_mask[step:]
    below = (slice(step, scene.resolution), slice(0, scene.resolution))
    scene.blend(below, cast * np.float32(0.55), scene.skin_shadow(0.60, 0.45, 0.42))
    scene.blend(window, alpha, scene.hair[:, window[0], window[1]])


def _cap(scene: Scene) -> np.ndarray:
    """The hair on the skull, from one temple over the crown to the other."""
    face, volume = scene.face, _hair_volume(scene.face)
    lift = volume * (0.4 if face.wearing_hat else 1.0)
    part = 0.12 * face.hair_part
    side = np.array(
        [
            [0.735, 0.21, 0.08],
            [0.785, -0.08, -0.02],
            [0.80 + 0.5 * volume, -0.35, -0.05],
            [0.70 + 0.6 * lift, -0.76, -0.05],
            [0.40, -0.99 - lift, -0.05],
        ]
    )
    top = np.array([[0.0, -1.06 - lift, -0.05]])
    if face.hair_style == "quiff" and not face.wearing_hat:
        sway = 0.16 if face.hair_part > 0 else -0.16
        top = np.array(
            [
                [0.27 + sway, -1.14 - lift, 0.1],
                [sway, -1.22 - lift, 0.1],
                [-0.27 + sway, -1.12 - lift, 0.1],
            ]
        )
    outer = np.concatenate([side, top, side[::-1] * [-1, 1, 1]])
    drop = 0.05 * face.hair_part  # the hairline is higher on the side of the part
    line = np.array(
        [
            [-0.715, 0.22],
            [-0.680, -0.10],
            [-0.645, -0.36],
            [-0.52, -0.56 - drop],
            [-0.28, -0.66 - drop],
            [part, -0.69],
            [0.28, -0.66 + drop],
            [0.52, -0.56 + drop],
            [0.645, -0.36],
            [0.680, -0.10],
            [0.715, 0.22],
        ]
    )
    outer, line = curve(outer), curve(line)
    depth = 0.55 * np.sqrt(np.maximum(0, 1 - (line[0] / 0.78) ** 2))
    if face.hair_style == "curly":
        bump = 1 + 0.025 * np.sin(np.arange(outer.shape[1]) * (2 * math.pi / 3.3))
        outer = outer * bump
    x, y, z = join(outer, np.stack([line[0], line[1], depth]))
    return scene.head(x * scene.head_width, y, z)


def _locks(scene: Scene) -> np.ndarray:
    """The hair that falls in front of the ears, both sides [2, n]."""
    face, volume, end = scene.face, _hair_volume(scene.face), _hair_end(scene.face)
    inner = 0.66 if face.hair_style == "curly" else 0.62
    right = curve(
        [
            [0.45, -0.82],
            [inner - 0.01, -0.44],
            [inner + 0.05, 0.0],
            [inner + 0.03, 0.45 * end],
            [inner + 0.05, 0.8 * end],
            [inner + 0.14, end],
        ]
    )
    left = curve(
        [
            [0.80 + volume, end - 0.04],
            [0.85 + volume, 0.6 * end],
            [0.82 + volume, 0.0],
            [0.79 + 0.8 * volume, -0.45],
            [0.62, -0.88],
        ]
    )
    x, y = join(right, left)
    x = x + _wave(face, y)
    return scene.head(SIDES * x * scene.head_width, y, np.where(x < 0.75, 0.18, -0.02))


def _bangs(scene: Scene) -> np.ndarray:
    """A fringe over the forehead that ends above the brows, with an uneven edge."""
    face = scene.face
    x = 0.66 * span(31)
    y = -0.375 + 0.04 * face.bangs_length + 0.10 * face.bangs_sweep * x - 0.08 * x * x
    y = y - 0.05 * np.abs(np.sin(5.5 * x + 6.28 * face.hair_phase)) ** 4
    y = y + 0.45 * np.maximum(np.abs(x) - 0.52, 0)
    depth = 0.60 * np.sqrt(1 - (x / 0.85) ** 2)
    x, y, z = join(
        np.stack([x, y, depth]), np.stack([x[::-1] * 0.9, -0.94 + 0.3 * x * x, np.full(31, 0.2)])
    )
    return scene.head(x * scene.head_width, y, z)
