"""One face on its canvas: the pose of the head, the light and the skin."""

import math
from collections.abc import Callable

import numpy as np

from cgan_tf.data.synthetic.canvas import Canvas, Window
from cgan_tf.data.synthetic.colors import ramp, rgb
from cgan_tf.data.synthetic.face import Face

# The two palettes are far enough apart that no light makes one look like the other.
_SKIN = (
    rgb(231, 180, 140),
    rgb(217, 158, 114),
    rgb(190, 129, 89),
    rgb(156, 101, 70),
    rgb(124, 79, 56),
)
_PALE = (rgb(255, 234, 221), rgb(250, 224, 206))


class Scene(Canvas):
    """The canvas of a face, with what all of its parts share.

    Shapes are given in head units: x right, y down, z towards the viewer; the chin is at y = 1, the
    crown at y = -1. They turn with the head in three dimensions and are projected orthographically
    to image points. Colors and shading are smooth, so they are computed at the final resolution;
    this is what makes rendering fast.

    Attributes:
        hair: color field [3, R, R], set when the hair behind the head is drawn.
        head_mask: coverage of the head [R, R], set when the head is drawn.
    """

    def __init__(self, face: Face, resolution: int) -> None:
        super().__init__(resolution, unit=resolution * 0.385 * (0.97 + 0.06 * face.scale))
        self.face = face
        self.full_window = (slice(0, resolution), slice(0, resolution))

        # The head turns about the neck (0, 0.9). Each head axis is one step in the image plane.
        yaw, pitch, roll = 0.28 * face.yaw, 0.12 * face.pitch, 0.04 * face.roll
        cos, sin = math.cos, math.sin
        tilt = self.unit * complex(cos(roll), sin(roll))
        self.step_x = tilt * complex(cos(yaw), sin(pitch) * sin(yaw))
        self.step_y = tilt * complex(0.0, cos(pitch))
        self.step_z = tilt * complex(sin(yaw), -sin(pitch) * cos(yaw))
        # As in CelebA's aligned photos, the point between the eyes, (0, 0.01, 0.6) in head units,
        # is at nearly the same place in all images.
        eyes = resolution * complex(0.5 + 0.015 * face.shift_x, 0.549 + 0.012 * face.shift_y)
        self.neck = eyes + 0.89 * self.step_y - 0.6 * self.step_z
        self.center = self.neck - 0.9j * self.unit
        # Head coordinates of every pixel for the shading; only the roll is undone.
        axis = np.arange(resolution) + 0.5
        flat = ((axis + 1j * axis[:, None]) - self.neck) / tilt
        self.x = flat.real.astype(np.float32)
        self.y = (flat.imag + 0.9).astype(np.float32)

        light = np.array([0.75 * face.light_x, -0.45 + 0.25 * face.light_y, 0.85])
        self.light = (light / np.linalg.norm(light)).tolist()
        self.skin = _skin_color(face)
        self.head_width = 0.95 + 0.08 * face.head_width
        self.hair: np.ndarray | None = None
        self.head_mask: np.ndarray | None = None

    def head(self, x, y, z):
        """Head coordinates (scalars or arrays that broadcast) -> image points."""
        return self.neck + x * self.step_x + (y - 0.9) * self.step_y + z * self.step_z

    def on_face(self, x, y, lift=0.0):
        """Points on the surface of the face, raised by `lift` -> image points."""
        depth = np.sqrt(np.maximum(1.0 - x * x * 1.23 - y * y * 0.64, 0.0))
        return self.head(x, y, 0.6 * depth + lift)

    def body(self, x, y):
        """Points on the body, which does not turn with the head -> image points."""
        return self.center + self.unit * (x + 1j * y)

    def skin_shadow(self, red: float, green: float, blue: float) -> np.ndarray:
        """The color [3] of the skin, darkened by a factor per channel."""
        return self.skin * np.array([red, green, blue], np.float32)

    def shading(
        self,
        color,
        x0: float,
        y0: float,
        rx: float,
        ry: float,
        shadow=(0.66, 0.55, 0.54),
        gain: float = 1.0,
    ) -> Callable[[Window], np.ndarray]:
        """The color of a lit ellipsoid around (x0, y0), as a function window -> field [3, h, w].

        Shadows keep their saturation and highlights move a little towards white: shading with gray
        alone makes skin look dead.
        """
        face = self.face
        strength = gain * (0.75 + 0.5 * face.light_strength)
        warm = np.array([1.0, 0.985 - 0.03 * face.light_warmth, 0.98 - 0.12 * face.light_warmth])
        base = np.asarray(color, np.float32)[:, None, None]
        darker = base * (1 - np.array(shadow, np.float32))[:, None, None]
        lighter = warm.astype(np.float32)[:, None, None] - base

        def field(window: Window) -> np.ndarray:
            nx = (self.x[window] - x0) * (1 / rx)
            ny = (self.y[window] - y0) * (1 / ry)
            nz = np.sqrt(np.maximum(1.0 - nx * nx - ny * ny, 0.02))
            amount = nx * self.light[0] + ny * self.light[1] + nz * self.light[2]
            dark = np.minimum(np.maximum(0.80 - amount, 0) * (0.95 * strength), 1)
            bright = np.minimum(np.maximum(amount - 0.78, 0) * (0.9 * strength), 1)
            return base - dark * darker + bright * lighter

        return field


def _skin_color(face: Face) -> np.ndarray:
    color = ramp(_PALE if face.pale_skin else _SKIN, face.skin_tone)
    tint = (face.skin_undertone - 0.5) * 0.04
    return np.minimum(color + np.array([tint, 0.0, -tint], np.float32), 1)
