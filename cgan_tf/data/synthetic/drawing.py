"""Draws a face from back to front: a pure function from `Face` to pixels."""

import math

import numpy as np

from cgan_tf.core.errors import UserError
from cgan_tf.data.synthetic.accessories import draw_glasses, draw_hat, draw_temples
from cgan_tf.data.synthetic.colors import hsv, mix
from cgan_tf.data.synthetic.curves import curve, mirrored
from cgan_tf.data.synthetic.face import Face
from cgan_tf.data.synthetic.features import draw_brows, draw_eyes, draw_head, draw_mouth, draw_nose
from cgan_tf.data.synthetic.hair import draw_back_hair, draw_front_hair
from cgan_tf.data.synthetic.scene import Scene

MIN_RESOLUTION, MAX_RESOLUTION = 16, 512


def render(face: Face, resolution: int) -> np.ndarray:
    """The image of a face: uint8 [R, R, 3], R = `resolution` in 16..512.

    Raises:
        UserError: resolution out of range.
    """
    check_resolution(resolution)
    scene = Scene(face, resolution)
    _draw_background(scene)
    draw_back_hair(scene)
    _draw_body(scene)
    draw_head(scene)
    draw_nose(scene)
    draw_mouth(scene)
    draw_eyes(scene)
    draw_brows(scene)
    if face.eyeglasses:
        draw_temples(scene)
    draw_front_hair(scene)
    if face.eyeglasses:
        draw_glasses(scene)
    if face.wearing_hat:
        draw_hat(scene)
    pixels = np.rint(scene.pixels.clip(0.0, 1.0) * 255.0).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def check_resolution(resolution: int) -> None:
    """Raises UserError unless faces can be rendered at this resolution."""
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise UserError(
            f"--resolution={resolution}: synthetic faces can be rendered at "
            f"{MIN_RESOLUTION} to {MAX_RESOLUTION} px"
        )


def _draw_background(scene: Scene) -> None:
    face, size = scene.face, scene.resolution
    base = hsv(
        face.background_hue,
        0.12 + 0.36 * face.background_saturation,
        0.60 + 0.34 * face.background_value,
    )[:, None, None]
    angle = 2 * math.pi * face.background_angle
    axis = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    along = (0.30 * math.cos(angle)) * axis + (0.30 * math.sin(angle)) * axis[:, None]
    # A glow behind the head, towards the light, sets the face off from the background.
    from_x, from_y = axis - 0.35 * scene.light[0], axis + 0.08
    glow = 0.34 * np.exp(-(from_x**2) / 0.16) * np.exp(-(from_y**2) / 0.16)[:, None]
    field = base * (0.86 + along)
    scene.pixels[:] = field + glow * (1.0 - field)


def _draw_body(scene: Scene) -> None:
    face = scene.face
    neck = np.array([[0.36, 0.50], [0.345, 0.95], [0.42, 1.17], [0.75, 1.30], [0.75, 1.8]])
    x, y = curve(np.concatenate([neck, neck[::-1] * [-1, 1]]), True, 4)
    skin = mix(scene.skin, scene.skin_shadow(0.80, 0.70, 0.68), 0.45)
    window, alpha = scene.fill(scene.body(x, y), color=scene.shading(skin, 0, 1.3, 0.8, 1.0))
    clip = np.zeros_like(scene.x)
    clip[window] = alpha
    chin = scene.head(0.0, 0.93, 0.25)
    scene.glow(chin, 0.52, 0.25, scene.skin_shadow(0.58, 0.48, 0.48), 0.75, clip=clip)
    shirt = hsv(
        face.shirt_hue, 0.22 + 0.40 * (1 - face.shirt_value), 0.32 + 0.60 * face.shirt_value
    )
    depth = 1.27 + 0.24 * face.neckline
    edge = 0.42 + 0.10 * face.neckline
    half = np.array(
        [
            [0.0, depth],
            [edge * 0.65, depth - 0.06],
            [edge, 1.12],
            [0.80, 1.23],
            [1.20, 1.40],
            [1.42, 1.75],
            [1.45, 2.2],
            [0.0, 2.2],
        ]
    )
    cloth = scene.shading(shirt, 0.0, 1.9, 1.6, 0.9, shadow=(0.6, 0.6, 0.66))
    scene.fill(scene.body(*curve(mirrored(half), True, 4)), color=cloth)
    collar = curve(np.concatenate([half[2:0:-1] * [-1, 1], half[:3]]))
    scene.stroke(scene.body(*collar), 0.05, shirt * np.float32(0.78))
