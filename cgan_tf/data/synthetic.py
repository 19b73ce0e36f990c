"""Faces that the library draws itself: the `synthetic` data source.

First in the chain: `cgan_tf.data` caches what this module draws as it caches decoded photos.
A `Face` is a list of named factors. The attributes are booleans with CelebA's names and are drawn
independently (only blond and black hair exclude each other); every other factor is identity.
`sample_face` is a pure function of (seed, index), `render` a pure function of the face, so the
data has no end, and `counterfactual` gives the true edit of any face: the same face with one
attribute changed. That is what no photo collection has.

How a face is drawn: all shapes live in head units (x right, y down, z towards the viewer; the
chin is at y = 1, the crown at y = -1), turn with the head in three dimensions, and are projected
flat. Coverage masks are drawn supersampled and averaged down; colors and shading are computed at
the final resolution, where they are smooth, which is what makes drawing fast.

The module imports no TensorFlow: the worker processes of `render_many` start in a moment.
"""

import dataclasses
import functools
import math
import multiprocessing
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cgan_tf.errors import UserError

# Rate of positives per attribute: near one half, so that a small network learns each quickly.
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

MIN_RESOLUTION, MAX_RESOLUTION = 16, 256


@dataclasses.dataclass(frozen=True)
class Face:
    """All factors of one face. Booleans are the attributes; the floats are identity.

    Floats are in [0, 1] or, where a sign matters (yaw, pitch, roll, shifts, gaze, light, part),
    in [-1, 1]; `render` gives them their scale. Every factor always has a value, also one that
    shows only with an attribute (the glasses of a face without glasses), so that a
    counterfactual is defined.
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

    hair_other: str  # "brown", "red" or "gray": the color when neither blond nor black
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
# Drawn with a peak at 0 (the mean of two uniforms): most people look into the camera.
_SIGNED = ("yaw", "pitch", "roll", "shift_x", "shift_y", "light_x", "light_y", "gaze_x", "gaze_y",
           "hair_part", "eye_tilt", "bangs_sweep")
_FLOATS = tuple(f.name for f in dataclasses.fields(Face) if f.type in (float, "float"))


# ----------------------------------------------------------------------------------------------
# Factors

def sample_face(seed: int, index: int) -> Face:
    """Face number `index` of the endless set `seed` (both non-negative).

    Stateless: the result depends on the two numbers only, not on any earlier call.
    """
    random = np.random.Generator(np.random.PCG64([seed, index]))
    # One uniform number per decision, in a fixed order: attributes, choices, floats (two each).
    draws = iter(random.random(len(ATTRIBUTES) + 1 + len(_CHOICES) + 2 * len(_FLOATS)).tolist())
    factors = {name.lower(): next(draws) < rate for name, rate in _RATES.items()}
    # The two hair colors share one draw, so that each has its own rate and they never meet.
    color = next(draws)
    factors["blond_hair"] = color < _RATES["Blond_Hair"]
    factors["black_hair"] = color >= 1.0 - _RATES["Black_Hair"]
    named = factors["blond_hair"] or factors["black_hair"]
    # Where the color shows only in a counterfactual, it is a brown.
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
    """The same face with one attribute set to `value`; every other factor stays.

    Blond and black exclude each other: setting one clears the other. Clearing the color that
    the face has leaves its `hair_other`. Raises UserError on an unknown attribute.
    """
    if attribute not in ATTRIBUTES:
        raise UserError(f"attribute {attribute!r} is not one of the synthetic data's: "
                        f"choose from {', '.join(ATTRIBUTES)}")
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


# ----------------------------------------------------------------------------------------------
# Rendering

def render(face: Face, resolution: int) -> np.ndarray:
    """uint8 [R, R, 3], R = `resolution` in 16..256. Raises UserError outside that range."""
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise UserError(f"resolution {resolution} cannot be drawn: choose "
                        f"{MIN_RESOLUTION}..{MAX_RESOLUTION} for synthetic faces")
    scene = _Scene(face, resolution)
    _draw_background(scene)
    _draw_back_hair(scene)
    _draw_body(scene)
    _draw_head(scene)
    _draw_nose(scene)
    _draw_mouth(scene)
    _draw_eyes(scene)
    _draw_brows(scene)
    _draw_front_hair(scene)
    if face.eyeglasses:
        _draw_glasses(scene)
    if face.wearing_hat:
        _draw_hat(scene)
    return np.rint(np.clip(scene.pixels, 0.0, 1.0) * 255.0).astype(np.uint8)


def render_many(faces: Sequence[Face], resolution: int, processes: int = 1) -> np.ndarray:
    """uint8 [N, R, R, 3]: `render` of each face, in order, spread over `processes`.

    The workers are spawned, never forked: a fork of a process that has TensorFlow's threads
    can hang. The result is the same for every number of processes.
    """
    out = np.empty((len(faces), resolution, resolution, 3), np.uint8)
    draw = functools.partial(render, resolution=resolution)
    if processes <= 1 or len(faces) < 2 * processes:
        for i, face in enumerate(faces):
            out[i] = draw(face)
        return out
    chunk = max(1, min(64, len(faces) // (4 * processes)))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for i, image in enumerate(pool.imap(draw, faces, chunksize=chunk)):
            out[i] = image
    return out


class _Scene:
    """The picture under way, the head's pose, and the few ways to put paint on it."""

    def __init__(self, face: Face, resolution: int):
        self.face = face
        self.resolution = resolution
        # Masks have at least 256 px a side: below 64 px shapes are small, so average more.
        self.supersample = 3 if resolution > 128 else max(4, -(-256 // resolution))
        self.pixels = np.zeros((resolution, resolution, 3), np.float32)
        yaw, pitch, roll = 0.36 * face.yaw, 0.14 * face.pitch, 0.13 * face.roll
        cos, sin = math.cos, math.sin
        turn_y = np.array([[cos(yaw), 0, sin(yaw)], [0, 1, 0], [-sin(yaw), 0, cos(yaw)]])
        turn_x = np.array([[1, 0, 0], [0, cos(pitch), -sin(pitch)], [0, sin(pitch), cos(pitch)]])
        turn_z = np.array([[cos(roll), -sin(roll)], [sin(roll), cos(roll)]])
        self.turn = turn_z @ (turn_x @ turn_y)[:2]                                       # [2, 3]
        self.unit = 0.345 * (0.95 + 0.1 * face.scale)      # head unit as a share of the image
        self.pivot = np.array([0.0, 0.9])                  # the head turns on the neck
        self.center = np.array([0.5 + 0.045 * face.shift_x, 0.505 + 0.03 * face.shift_y])
        # Head coordinates of every pixel (turned back in the plane only): what shading uses.
        axis = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution
        flat_x = (axis[None, :] - self.center[0]) / self.unit - self.pivot[0]
        flat_y = (axis[:, None] - self.center[1]) / self.unit - self.pivot[1]
        self.x = (turn_z[0, 0] * flat_x + turn_z[1, 0] * flat_y + self.pivot[0]).astype(np.float32)
        self.y = (turn_z[0, 1] * flat_x + turn_z[1, 1] * flat_y + self.pivot[1]).astype(np.float32)
        self.axis = axis
        self.light = np.array([0.75 * face.light_x, -0.45 + 0.25 * face.light_y, 0.85])
        self.light /= np.linalg.norm(self.light)
        self.skin = _skin_color(face)

    # --- places -------------------------------------------------------------------------------

    def head(self, points: np.ndarray) -> np.ndarray:
        """Head coordinates [n, 3] -> image coordinates [n, 2] in [0, 1]."""
        turned = (points - np.append(self.pivot, 0.0)) @ self.turn.T + self.pivot
        return self.center + self.unit * turned

    def on_face(self, xy: np.ndarray, lift: float | np.ndarray = 0.0) -> np.ndarray:
        """Points [n, 2] on the surface of the face, raised by `lift` -> image coordinates."""
        xy = np.asarray(xy, float)
        depth = 0.6 * np.sqrt(np.maximum(0.0, 1 - (xy[:, 0] / 0.9) ** 2 - (xy[:, 1] / 1.25) ** 2))
        return self.head(np.column_stack([xy, depth + lift]))

    def body(self, xy: np.ndarray) -> np.ndarray:
        """Points [n, 2] on the body, which keeps still while the head turns."""
        return self.center + self.unit * np.asarray(xy, float)

    # --- paint --------------------------------------------------------------------------------

    def mask(self, points: np.ndarray, window=None) -> tuple[tuple[slice, slice], np.ndarray]:
        """Coverage of a polygon [n, 2]: (the window's slices, float32 [h, w] in [0, 1])."""
        size, factor = self.resolution, self.supersample
        if window is None:
            low = np.floor(points.min(0) * size).astype(int) - 1
            high = np.ceil(points.max(0) * size).astype(int) + 1
            (left, top), (right, bottom) = np.clip(low, 0, size), np.clip(high, 0, size)
            window = (slice(int(top), int(bottom)), slice(int(left), int(right)))
        height = window[0].stop - window[0].start
        width = window[1].stop - window[1].start
        if height <= 0 or width <= 0:
            return window, np.zeros((max(height, 0), max(width, 0)), np.float32)
        image = Image.new("L", (width * factor, height * factor))
        corner = np.array([window[1].start, window[0].start])
        corners = (points * size - corner) * factor - 0.5
        ImageDraw.Draw(image).polygon(corners.ravel().tolist(), fill=255)
        return window, np.asarray(image.reduce(factor), np.float32) * np.float32(1 / 255)

    def paint(self, window, alpha: np.ndarray, color) -> None:
        """Blends `color` ([3] or [h, w, 3]) over the window with weights `alpha` [h, w]."""
        part = self.pixels[window]
        part += alpha[..., None] * (np.asarray(color, np.float32) - part)

    def fill(self, points: np.ndarray, color, opacity: float = 1.0) -> None:
        """Polygon [n, 2] in one color, or in a field [R, R, 3] over the whole picture."""
        window, alpha = self.mask(points)
        color = np.asarray(color, np.float32)
        self.paint(window, alpha * np.float32(opacity), color[window] if color.ndim == 3 else color)

    def stroke(self, points: np.ndarray, width, color, opacity: float = 1.0) -> None:
        """A line along points [n, 2] whose `width` (head units; scalar or [n]) may vary."""
        self.fill(_ribbon(points, np.asarray(width) * self.unit), color, opacity)

    def glow(self, center: np.ndarray, radius_x: float, radius_y: float, color, opacity: float,
             clip: np.ndarray | None = None) -> None:
        """A soft spot around an image point: radii in head units, `clip` a mask [R, R]."""
        size = self.resolution
        reach = 2.2 * max(radius_x, radius_y) * self.unit
        low = np.clip(np.floor((center - reach) * size).astype(int), 0, size)
        high = np.clip(np.ceil((center + reach) * size).astype(int), 0, size)
        window = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
        dx = (self.axis[window[1]] - center[0]) / (radius_x * self.unit)
        dy = (self.axis[window[0]] - center[1]) / (radius_y * self.unit)
        alpha = np.exp(-dy * dy)[:, None] * np.exp(-dx * dx)[None, :] * opacity
        if clip is not None:
            alpha = alpha * clip[window]
        self.paint(window, alpha.astype(np.float32), color)

    def blur(self, alpha: np.ndarray, radius: float) -> np.ndarray:
        """A mask [h, w] made soft; `radius` in head units."""
        image = Image.fromarray(np.rint(alpha * 255).astype(np.uint8))
        image = image.filter(ImageFilter.GaussianBlur(radius * self.unit * self.resolution))
        return np.asarray(image, np.float32) * np.float32(1 / 255)

    def shade(self, color, x0: float, y0: float, rx: float, ry: float,
              shadow=(0.66, 0.56, 0.56), gain: float = 1.0) -> np.ndarray:
        """The color of a ball lit by the scene's light, as a field [R, R, 3].

        The ball has center (x0, y0) and radii (rx, ry) in head units. Shadows keep their
        saturation, lights go a little towards white: flat gray shading makes skin look dead.
        """
        color = np.asarray(color, np.float32)
        nx, ny = (self.x - x0) / rx, (self.y - y0) / ry
        nz = np.sqrt(np.maximum(0.02, 1.0 - nx * nx - ny * ny))
        lx, ly, lz = self.light
        amount = (nx * lx + ny * ly + nz * lz).astype(np.float32)
        strength = gain * (0.75 + 0.5 * self.face.light_strength)
        dark = np.clip((0.80 - amount) * 0.95 * strength, 0, 1)[..., None]
        bright = np.clip((amount - 0.78) * 1.1 * strength, 0, 1)[..., None]
        warm = np.array([1.0, 0.985 - 0.03 * self.face.light_warmth,
                         0.99 - 0.10 * self.face.light_warmth], np.float32)
        field = color * (1 - dark * (1 - np.asarray(shadow, np.float32)))
        return field + bright * (warm - field)


# ----------------------------------------------------------------------------------------------
# Curves and colors

@functools.lru_cache(maxsize=None)
def _spline_matrix(count: int, closed: bool, steps: int) -> np.ndarray:
    """Matrix [m, count] that samples the Catmull-Rom curve through `count` points."""
    segments = count if closed else count - 1
    t = np.arange(steps) / steps
    basis = 0.5 * np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3,
                            t + 4 * t**2 - 3 * t**3, -t**2 + t**3], 1)              # [steps, 4]
    matrix = np.zeros((segments * steps + (not closed), count))
    for segment in range(segments):
        for k in range(4):
            index = segment + k - 1
            index = index % count if closed else min(max(index, 0), count - 1)
            matrix[segment * steps:(segment + 1) * steps, index] += basis[:, k]
    if not closed:
        matrix[-1, -1] = 1.0
    return matrix


def _curve(points, closed: bool = False, steps: int = 6) -> np.ndarray:
    """A smooth curve through points [n, d] -> [m, d]."""
    points = np.asarray(points, float)
    return _spline_matrix(len(points), closed, steps) @ points


def _mirrored(half) -> np.ndarray:
    """Right half of a shape, top to bottom, on the axis at both ends -> the closed shape."""
    half = np.asarray(half, float)
    left = half[-2:0:-1] * np.array([-1.0] + [1.0] * (half.shape[1] - 1))
    return np.concatenate([half, left])


def _ellipse(x: float, y: float, rx: float, ry: float, count: int = 24) -> np.ndarray:
    angle = np.arange(count) * (2 * math.pi / count)
    return np.column_stack([x + rx * np.cos(angle), y + ry * np.sin(angle)])


def _ribbon(points: np.ndarray, width: np.ndarray) -> np.ndarray:
    """The polygon around a line [n, 2]: `width` is a scalar or [n]."""
    along = np.gradient(points, axis=0)
    normal = np.column_stack([-along[:, 1], along[:, 0]])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    offset = normal * (0.5 * np.broadcast_to(width, len(points)))[:, None]
    return np.concatenate([points + offset, (points - offset)[::-1]])


def _rgb(*values: float) -> np.ndarray:
    return np.array(values, np.float32) / np.float32(255)


def _mix(a, b, share: float) -> np.ndarray:
    return np.asarray(a, np.float32) * (1 - share) + np.asarray(b, np.float32) * share


def _hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """Hue, saturation, value in [0, 1] -> RGB."""
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6.0) % 6.0
    return (value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)).astype(np.float32)


def _ramp(colors: Sequence, share: float) -> np.ndarray:
    """Linear interpolation along a list of colors."""
    place = min(max(share, 0.0), 1.0) * (len(colors) - 1)
    index = min(int(place), len(colors) - 2)
    return _mix(colors[index], colors[index + 1], place - index)


_SKIN = (_rgb(232, 184, 146), _rgb(217, 160, 116), _rgb(188, 128, 88), _rgb(150, 97, 66),
         _rgb(112, 70, 49))
_PALE = (_rgb(253, 236, 227), _rgb(249, 226, 213))
_IRIS = (_rgb(58, 36, 24), _rgb(104, 66, 34), _rgb(122, 118, 60), _rgb(72, 118, 92),
         _rgb(74, 122, 168), _rgb(112, 136, 152))
_HAIR = {
    "blond": (_rgb(246, 214, 130), _rgb(222, 174, 88)),
    "black": (_rgb(20, 19, 24), _rgb(40, 34, 34)),
    "brown": (_rgb(84, 52, 34), _rgb(132, 86, 54)),
    "red": (_rgb(150, 56, 28), _rgb(184, 84, 40)),
    "gray": (_rgb(142, 142, 148), _rgb(184, 184, 188)),
}
_FRAMES = (_rgb(24, 24, 28), _rgb(66, 36, 22), _rgb(120, 24, 36), _rgb(26, 46, 96))
_LIPSTICK = (_rgb(196, 24, 40), _rgb(170, 16, 60), _rgb(206, 36, 92), _rgb(140, 20, 48))


def _skin_color(face: Face) -> np.ndarray:
    color = _ramp(_PALE if face.pale_skin else _SKIN, face.skin_tone)
    tint = (face.skin_undertone - 0.5) * 0.04
    return np.clip(color + np.array([tint, 0.0, -tint], np.float32), 0, 1)


def _hair_color(face: Face) -> np.ndarray:
    kind = "blond" if face.blond_hair else "black" if face.black_hair else face.hair_other
    return _ramp(_HAIR[kind], face.hair_tone)


# ----------------------------------------------------------------------------------------------
# Parts, back to front

def _draw_background(scene: _Scene) -> None:
    face = scene.face
    base = _hsv(face.background_hue, 0.15 + 0.45 * face.background_saturation,
                0.55 + 0.40 * face.background_value)
    angle = 2 * math.pi * face.background_angle
    x, y = scene.axis[None, :] - 0.5, scene.axis[:, None] - 0.5
    along = (math.cos(angle) * x + math.sin(angle) * y)[..., None]
    # A glow behind the head on the light's side lifts the figure off the background.
    from_x, from_y = x - 0.35 * scene.light[0], y + 0.08
    glow = np.exp(-(from_x * from_x + from_y * from_y) / 0.16)[..., None]
    field = base * (0.86 + 0.30 * along)
    scene.pixels[:] = field + 0.30 * glow * (1.0 - field)


def _draw_body(scene: _Scene) -> None:
    face = scene.face
    shade = scene.skin * np.array([0.80, 0.70, 0.68], np.float32)
    neck = np.array([[0.36, 0.55], [0.35, 0.95], [0.42, 1.18], [0.75, 1.32], [0.75, 1.8]])
    outline = _curve(np.concatenate([neck, neck[::-1] * [-1, 1]]), True, 4)
    scene.fill(scene.body(outline), scene.shade(_mix(scene.skin, shade, 0.45), 0, 1.3, 0.8, 1.0))
    jaw = scene.head(np.array([[0.0, 0.86, 0.25]]))[0]
    scene.glow(jaw + [0.0, 0.06 * scene.unit], 0.52, 0.26, shade * 0.72, 0.75,
               clip=_full_mask(scene, scene.body(outline)))
    shirt = _hsv(face.shirt_hue, 0.25 + 0.45 * (1 - face.shirt_value), 0.30 + 0.65 * face.shirt_value)
    depth = 1.28 + 0.22 * face.neckline
    edge = 0.42 + 0.10 * face.neckline
    half = np.array([[0.0, depth], [edge * 0.65, depth - 0.06], [edge, 1.13], [0.80, 1.25],
                     [1.20, 1.42], [1.42, 1.75], [1.45, 2.2], [0.0, 2.2]])
    cloth = scene.shade(shirt, 0.0, 1.9, 1.6, 0.9, shadow=(0.6, 0.6, 0.66))
    scene.fill(scene.body(_curve(_mirrored(half), True, 4)), cloth)
    collar = _curve(np.concatenate([half[2:0:-1] * [-1, 1], half[:3]]), False, 5)
    scene.stroke(scene.body(collar), 0.05, shirt * 0.78)


def _full_mask(scene: _Scene, points: np.ndarray) -> np.ndarray:
    """Coverage of a polygon as a mask [R, R] of the whole picture."""
    whole = slice(0, scene.resolution)
    return scene.mask(points, (whole, whole))[1]


def _head_outline(face: Face) -> np.ndarray:
    """Closed outline of the head, [m, 3]: the chin comes forward when the head turns."""
    wide = 0.95 + 0.09 * face.head_width
    jaw = 0.90 + 0.18 * face.jaw_width
    chin = 0.97 + 0.07 * face.chin_length
    half = [[0, -1.0, 0], [0.42, -0.92, 0], [0.70, -0.60, 0], [0.765, -0.20, 0.0],
            [0.74, 0.15, 0.04], [0.665 * jaw, 0.48, 0.12], [0.47 * jaw, 0.79 * chin, 0.28],
            [0.22 * jaw, 0.97 * chin, 0.40], [0, 1.0 * chin, 0.42]]
    return _curve(_mirrored(half), True, 6) * [wide, 1, 1]


def _draw_head(scene: _Scene) -> None:
    face = scene.face
    wide = 0.95 + 0.09 * face.head_width
    shadow = scene.skin * np.array([0.74, 0.62, 0.60], np.float32)
    skin = scene.shade(scene.skin, 0.10 * face.yaw, -0.05, 0.98, 1.28)
    for side in (-1, 1):
        ear = np.column_stack([_ellipse(side * 0.775 * wide, 0.08, 0.10, 0.19), np.full(24, -0.08)])
        scene.fill(scene.head(ear), skin)
        inner = np.column_stack([_ellipse(side * 0.785 * wide, 0.08, 0.05, 0.11),
                                 np.full(24, -0.08)])
        scene.fill(scene.head(inner), shadow, 0.55)
    outline = scene.head(_head_outline(face))
    scene.head_mask = _full_mask(scene, outline)
    scene.fill(outline, skin)
    cheek = _mix(scene.skin, _rgb(226, 84, 78), 0.40)
    for side in (-1, 1):
        place = scene.on_face([[side * 0.43, 0.32]])[0]
        scene.glow(place, 0.21, 0.16, cheek, 0.34, clip=scene.head_mask)


def _draw_nose(scene: _Scene) -> None:
    face = scene.face
    shadow = scene.skin * np.array([0.70, 0.55, 0.52], np.float32)
    light = _mix(scene.skin, [1, 1, 1], 0.45)
    tip_y = 0.28 + 0.07 * face.nose_length
    wide = 0.105 + 0.045 * face.nose_width
    side = -1.0 if scene.light[0] > 0 else 1.0  # the side that the light does not reach
    bridge = _curve([[side * 0.07, -0.10], [side * 0.055, 0.08], [side * wide * 0.9, tip_y - 0.05]])
    lift = np.linspace(0.05, 0.16, len(bridge))
    scene.stroke(scene.on_face(bridge, lift), np.linspace(0.03, 0.09, len(bridge)), shadow, 0.22)
    scene.glow(scene.on_face([[0, tip_y + 0.07]], 0.10)[0], 0.17, 0.07, shadow, 0.50)
    scene.glow(scene.on_face([[0, 0.05]], 0.12)[0], 0.035, 0.19, light, 0.35)
    scene.glow(scene.on_face([[0, tip_y - 0.03]], 0.22)[0], 0.075, 0.065, light, 0.50)
    base = _curve([[-wide, tip_y - 0.045], [-wide * 0.98, tip_y + 0.02], [-wide * 0.5, tip_y + 0.03],
                   [0, tip_y + 0.06], [wide * 0.5, tip_y + 0.03], [wide * 0.98, tip_y + 0.02],
                   [wide, tip_y - 0.045]], False, 4)
    taper = 0.030 * (0.35 + 0.65 * np.sin(np.linspace(0, math.pi, len(base))))
    scene.stroke(scene.on_face(base, 0.12), taper, shadow * 0.86, 0.75)
    for sign in (-1, 1):
        nostril = _ellipse(sign * wide * 0.52, tip_y + 0.025, wide * 0.26, 0.021, 12)
        scene.fill(scene.on_face(nostril, 0.13), shadow * 0.52, 0.75)


def _draw_mouth(scene: _Scene) -> None:
    face = scene.face
    smile = 0.75 + 0.35 * face.smile_strength if face.smiling else -0.32 + 0.34 * face.mouth_rest
    opening = 0.55 + 0.45 * face.mouth_opening if face.mouth_slightly_open else 0.0
    middle = 0.575 + 0.04 * face.mouth_height
    half = 0.235 + 0.04 * face.mouth_width + (0.075 if face.smiling else -0.035 * opening)
    t = np.linspace(-1, 1, 17)
    arch = 1 - t * t
    line = middle + smile * (0.055 - 0.125 * t * t)
    grin = 1.0 if face.smiling else 0.0
    upper = line - opening * (0.035 + 0.035 * (1 - grin)) * arch
    lower = line + opening * (0.115 + 0.02 * grin) * np.sqrt(np.maximum(arch, 0)) * (0.35 + 0.65 * arch)
    full = 0.8 + 0.45 * face.lip_fullness
    bow = np.exp(-(t / 0.16) ** 2)
    top = upper - full * 0.068 * (1 - 0.3 * grin) * np.maximum(arch, 0) ** 0.6 * (1 - 0.28 * bow)
    bottom = lower + full * 0.092 * (1 - 0.2 * grin) * np.maximum(arch, 0) ** 0.8
    x = t * half

    def place(y_top: np.ndarray, y_bottom: np.ndarray) -> np.ndarray:
        outline = np.concatenate([np.column_stack([x, y_top]),
                                  np.column_stack([x, y_bottom])[::-1]])
        return scene.on_face(outline, 0.04)

    shadow = scene.skin * np.array([0.72, 0.56, 0.53], np.float32)
    natural = _mix(scene.skin * np.array([0.86, 0.62, 0.60], np.float32), _rgb(204, 92, 92), 0.35)
    lip = _ramp(_LIPSTICK, face.lipstick_color) if face.wearing_lipstick else natural
    under = scene.on_face([[0, bottom[8] + 0.055]], 0.03)[0]
    scene.glow(under, 0.16, 0.04, shadow, 0.45)
    if face.smiling:
        for side in (-1, 1):
            fold = _curve([[side * 0.19, 0.33], [side * (half + 0.05), 0.45],
                           [side * (half + 0.075), line[0] + 0.05]], False, 5)
            width = 0.035 * np.sin(np.linspace(0.15, math.pi, len(fold)))
            scene.stroke(scene.on_face(fold), width, shadow, 0.55)
            cheek = scene.on_face([[side * 0.44, 0.27]])[0]
            scene.glow(cheek, 0.13, 0.09, _mix(scene.skin, [1, 1, 1], 0.4), 0.30)
    scene.fill(place(top, line if not opening else upper + 0.004), lip * 0.86)
    scene.fill(place(line if not opening else lower - 0.004, bottom), lip)
    if opening:
        scene.fill(place(upper, lower), _rgb(74, 20, 26))
        window, inside = scene.mask(place(upper, lower))
        gum = upper + (0.062 + 0.022 * grin) * np.maximum(arch, 0) ** 0.4 * (0.5 + 0.5 * opening)
        teeth = scene.mask(place(upper, gum), window)[1]
        scene.paint(window, inside * teeth, _rgb(248, 246, 240))
        tongue = _ellipse(0, float(lower[8]) + 0.015, half * 0.5, 0.065 * opening)
        scene.paint(window, inside * scene.mask(scene.on_face(tongue, 0.04), window)[1] * 0.8,
                    _rgb(196, 84, 88))
    else:
        mouth = scene.on_face(np.column_stack([x * 1.03, line]), 0.04)
        scene.stroke(mouth, 0.030 * (0.45 + 0.55 * arch), lip * np.array([0.42, 0.34, 0.36], np.float32))
    for side in (0, -1):
        scene.glow(scene.on_face([[x[side] * 1.04, line[side]]], 0.04)[0], 0.03, 0.03, shadow * 0.8, 0.6)
    shine = scene.on_face([[0.25 * half * np.sign(scene.light[0] + 1e-9), (lower[8] + bottom[8]) / 2]],
                          0.05)[0]
    scene.glow(shine, 0.085, 0.022, [1, 1, 1], 0.40 if face.wearing_lipstick else 0.24)


def _draw_eyes(scene: _Scene) -> None:
    face = scene.face
    half = 0.165 + 0.03 * face.eye_size
    spacing = 0.325 + 0.035 * face.eye_spacing
    squint = 0.25 * face.smile_strength + 0.15 if face.smiling else 0.0
    up = (0.105 + 0.035 * face.eye_openness) * (1 - 0.15 * squint)
    down = (0.072 + 0.012 * face.eye_openness) * (1 - 0.55 * squint)
    tilt = 0.035 * face.eye_tilt
    shadow = scene.skin * np.array([0.66, 0.52, 0.52], np.float32)
    lid = _mix(_rgb(40, 24, 22), scene.skin * 0.3, 0.2)
    iris = _ramp(_IRIS, face.iris_color)
    for side in (-1, 1):
        def at(points, side=side) -> np.ndarray:
            """Eye coordinates (x outwards, y down) -> image."""
            points = np.asarray(points, float)
            y = points[:, 1] - tilt * points[:, 0] / half
            return scene.on_face(np.column_stack([side * (spacing + points[:, 0]), y]))

        scene.glow(at([[0, -0.10]])[0], 0.21, 0.10, shadow, 0.42)
        lid_top = _curve([[-half, 0.025], [-half * 0.55, -up * 0.72], [0.0, -up], [half * 0.6, -up * 0.74],
                          [half, -0.01]], False, 4)
        lid_low = _curve([[half, -0.01], [half * 0.5, down * 0.85], [0, down], [-half * 0.6, down * 0.78],
                          [-half, 0.025]], False, 4)
        outline = at(np.concatenate([lid_top, lid_low]))
        window, inside = scene.mask(outline)
        scene.paint(window, inside, _rgb(250, 248, 246))
        gaze = np.array([0.025 * side * face.gaze_x, -0.008 + 0.012 * face.gaze_y])
        radius = 0.098

        def disc(x, y, r, color, opacity=1.0):
            shape = at(_ellipse(gaze[0] + x * side, gaze[1] + y, r, r, 20))
            scene.paint(window, inside * scene.mask(shape, window)[1] * opacity, color)

        disc(0, 0, radius, iris * 0.45)
        disc(0, 0.004, radius * 0.84, iris)
        disc(0, 0.035, radius * 0.50, _mix(iris, [1, 1, 1], 0.25), 0.7)
        disc(0, 0, radius * 0.46, _rgb(14, 10, 12))
        brow_shade = at(np.concatenate([lid_top, lid_top[::-1] + [0, 0.05]]))
        scene.paint(window, inside * scene.mask(brow_shade, window)[1] * 0.35, shadow * 0.5)
        glint = 0.035 if scene.light[0] > 0 else -0.035
        disc(glint, -0.038, 0.027, [1, 1, 1])
        disc(-glint, 0.036, 0.014, [1, 1, 1], 0.6)
        crease = _curve([[-half * 0.8, -up * 0.75], [0, -up - 0.055], [half * 0.95, -up * 0.62]], False, 6)
        scene.stroke(at(crease), 0.022, shadow * 0.85, 0.6)
        low_width = 0.016 * np.linspace(1.0, 0.3, len(lid_low))
        scene.stroke(at(lid_low), low_width, shadow * 0.7, 0.6)
        wing = half * (1.0 + 0.22 * face.lashes)
        line = np.concatenate([lid_top[:-1], [[half, -0.012], [wing, -0.03 - 0.03 * face.lashes]]])
        width = (0.034 + 0.018 * face.lashes) * np.concatenate(
            [np.linspace(0.45, 1.15, len(line) - 1), [0.3]])
        scene.stroke(at(line), width, lid)


def _draw_brows(scene: _Scene) -> None:
    face = scene.face
    color = _mix(_rgb(34, 24, 20), _rgb(88, 58, 40), face.brow_tone)
    bushy = face.bushy_eyebrows
    thick = 0.120 + 0.035 * face.brow_thickness if bushy else 0.038 + 0.016 * face.brow_thickness
    y = -0.245 - 0.03 * face.brow_height
    arch = 0.035 + 0.05 * face.brow_arch
    for side in (-1, 1):
        line = _curve([[0.135, y + 0.03], [0.29, y - arch * 0.5], [0.43, y - arch],
                       [0.575, y + 0.045]], False, 6)
        s = np.linspace(0, 1, len(line))
        width = thick * np.interp(s, [0, 0.1, 0.55, 1], [0.65, 1.0, 0.95, 0.25])
        points = scene.on_face(line * [side, 1], 0.02)
        scene.stroke(points, width, color, 0.95 if bushy else 0.80)
        if bushy:  # single hairs along the upper edge
            for k in range(1, len(line) - 2, 2):
                start = line[k] + [0.0, 0.2 * thick]
                hair = np.array([start, start + [0.035, -0.45 * thick], start + [0.075, -0.74 * thick]])
                scene.stroke(scene.on_face(hair * [side, 1], 0.02), [0.04, 0.03, 0.006], color, 0.9)


def _hair_field(scene: _Scene, color: np.ndarray) -> np.ndarray:
    """Strands that run from the part, and a band of light around the crown: [R, R, 3]."""
    face = scene.face
    x = scene.x - 0.30 * face.hair_part
    y = scene.y + 1.02
    angle = np.arctan2(x, y + 0.35 * np.abs(x) + 1e-3)
    phase = 6.28 * face.hair_phase
    distance = np.sqrt(x * x + y * y)
    bend = 0.10 * np.sin(3.0 * distance + phase) * (face.hair_style in ("wavy", "curly"))
    strands = 0.55 * np.sin(19 * (angle + bend) + phase) + 0.45 * np.sin(31 * (angle - bend) + 2 * phase)
    if scene.resolution > 96:  # finer than a pixel below
        strands = strands + 0.45 * np.sin(83 * (angle + bend) + 3 * phase)
    crown = np.exp(-((np.sqrt(scene.x**2 + (0.95 * scene.y) ** 2) - 0.90) / 0.12) ** 2)
    lit = np.clip(0.55 + 0.9 * (scene.x * scene.light[0] - scene.y * 0.5), 0, 1) * (scene.y < 0.4)
    field = scene.shade(color, 0, -0.1, 1.25, 1.5, shadow=(0.45, 0.42, 0.44), gain=0.9)
    field = field * (1 + 0.13 * strands[..., None])
    shine = (crown * lit * (0.30 + 0.10 * strands))[..., None]
    return (field + shine * (_mix(color, [1, 1, 1], 0.45) - field)).astype(np.float32)


def _hair_volume(face: Face) -> float:
    return {"crop": 0.05, "quiff": 0.07, "bun": 0.05}.get(face.hair_style, 0.09) + 0.05 * face.hair_volume


def _hair_length(face: Face) -> float:
    """The y at which hair ends at the sides."""
    low, high = {"bob": (0.55, 0.85), "long": (1.25, 1.75), "wavy": (1.15, 1.65),
                 "curly": (0.35, 0.80)}.get(face.hair_style, (0.05, 0.22))
    return low + (high - low) * face.hair_length


def _draw_back_hair(scene: _Scene) -> None:
    face = scene.face
    color = _hair_color(face)
    scene.hair = _hair_field(scene, color)
    style, volume, end = face.hair_style, _hair_volume(face), _hair_length(face)
    dark = scene.hair * np.float32(0.72)
    top = 0.6 if face.wearing_hat else 1.0
    if style == "bun" and not face.wearing_hat:
        bun = np.column_stack([_ellipse(0.1 * face.hair_part, -1.24, 0.30, 0.27), np.full(24, -0.2)])
        scene.fill(scene.head(bun), scene.hair * np.float32(0.9))
    if style == "curly":
        outline = _curls(1.08 + 0.8 * volume, end, face.hair_phase, face.wearing_hat)
    elif style in ("bob", "long", "wavy"):
        wide = 0.84 + volume
        flare = 0.06 if style == "bob" else 0.10
        outline = _curve(_mirrored([
            [0, -1.0 - volume * top, -0.2], [0.5, -0.93 - volume * top, -0.2], [wide, -0.45, -0.2],
            [wide + 0.02, 0.1, -0.2], [wide + flare * 0.6, 0.6 * end, -0.2],
            [wide + flare, end - 0.06, -0.2], [0.62, end + 0.04, -0.2], [0, end, -0.2]]), True, 6)
        if style == "wavy":
            outline[:, 0] *= 1 + 0.05 * np.sin(9 * outline[:, 1] + 6 * face.hair_phase) * (outline[:, 1] > -0.6)
    else:
        return
    scene.fill(scene.head(outline), dark)


def _curls(radius: float, end: float, phase: float, flat: bool) -> np.ndarray:
    """The bumpy outline of curly hair, [m, 3]."""
    angle = np.linspace(0, 2 * math.pi, 120, endpoint=False)
    bump = 1 + 0.035 * np.abs(np.sin(11 * angle / 2 + 6 * phase))
    x, y = radius * bump * np.sin(angle), -np.cos(angle) * bump
    y = np.where(y < 0, y * (0.95 if flat else 1.16 * radius), y * (end + 0.25))
    return np.column_stack([x, y - 0.1, np.full(len(x), -0.15)])


def _draw_front_hair(scene: _Scene) -> None:
    face = scene.face
    style, volume, end = face.hair_style, _hair_volume(face), _hair_length(face)
    wide = 0.95 + 0.09 * face.head_width
    part = 0.30 * face.hair_part
    lift = volume * (0.5 if face.wearing_hat else 1.0)
    burn = 0.14 if style in ("crop", "quiff", "bun") else 0.0
    side = np.array([[0.79, 0.10 + burn, -0.02], [0.835 + 0.4 * volume, -0.30, -0.05],
                     [0.73 + 0.5 * lift, -0.74, -0.05], [0.40, -0.97 - lift, -0.05]])
    top = np.array([[0.0, -1.03 - lift, -0.05]])
    if style == "quiff" and not face.wearing_hat:
        sway = 0.18 if face.hair_part > 0 else -0.18
        top = np.array([[0.25 + sway, -1.16 - lift, 0.1], [sway, -1.25 - lift, 0.1],
                        [-0.25 + sway, -1.16 - lift, 0.1]])
    mirror = [-1, 1, 1]
    outer = np.concatenate([side, top, side[::-1] * mirror]) * [wide, 1, 1]
    drop = 0.08 * face.hair_part  # the hairline is higher on the part's side
    line = np.array([[-0.715, 0.10 + burn], [-0.675, -0.20], [-0.60, -0.46 - drop], [-0.36, -0.62 - drop],
                     [part, -0.70], [0.36, -0.62 + drop], [0.60, -0.46 + drop], [0.675, -0.20],
                     [0.715, 0.10 + burn]])
    depth = 0.55 * np.sqrt(np.maximum(0, 1 - (line[:, 0] / 0.78) ** 2))
    hairline = np.column_stack([line, depth]) * [wide, 1, 1]
    shapes = [scene.head(np.concatenate([_curve(outer, False, 5), _curve(hairline, False, 5)]))]
    if style in ("bob", "long", "wavy", "curly"):
        shapes += [_lock(scene, sign, wide, volume, end) for sign in (-1, 1)]
    if face.bangs:
        shapes.append(_bangs(scene, wide))
    size = scene.resolution
    alpha = np.zeros((size, size), np.float32)
    for shape in shapes:
        window, part_alpha = scene.mask(shape)
        np.maximum(alpha[window], part_alpha, out=alpha[window])
    whole = (slice(0, size), slice(0, size))
    # The shadow that the hair throws on the skin: the blurred mask, moved down.
    step = max(1, round(0.05 * scene.unit * size))
    cast = np.zeros_like(alpha)
    cast[step:] = alpha[:-step]
    shadow = scene.skin * np.array([0.58, 0.44, 0.42], np.float32)
    scene.paint(whole, scene.blur(cast, 0.045) * scene.head_mask * np.float32(0.55), shadow)
    scene.paint(whole, alpha, scene.hair)


def _lock(scene: _Scene, sign: int, wide: float, volume: float, end: float) -> np.ndarray:
    """The hair that falls in front of one ear."""
    face = scene.face
    low = min(end, 1.7)
    inner = 0.64 if face.hair_style != "curly" else 0.70
    right = np.array([[0.45, -0.80], [inner - 0.02, -0.42], [inner + 0.03, 0.0], [inner + 0.02, 0.45 * low],
                      [inner + 0.04, 0.8 * low], [inner + 0.12, low]])
    left = np.array([[0.82 + volume, low - 0.05], [0.86 + volume, 0.6 * low], [0.83 + volume, 0.0],
                     [0.82 + 0.7 * volume, -0.45], [0.62, -0.86]])
    right, left = _curve(right, False, 6), _curve(left, False, 6)
    if face.hair_style in ("wavy", "curly"):
        for edge in (right, left):
            edge[:, 0] += 0.035 * np.sin(8 * edge[:, 1] + 6 * face.hair_phase) * (edge[:, 1] > -0.4)
    outline = np.concatenate([right, left])
    depth = np.where(outline[:, 0] < 0.75, 0.18, -0.02)
    return scene.head(np.column_stack([outline * [sign * wide, 1], depth]))


def _bangs(scene: _Scene, wide: float) -> np.ndarray:
    """A fringe over the forehead that ends above the brows, with an uneven edge."""
    face = scene.face
    x = np.linspace(-0.66, 0.66, 27)
    end = -0.375 + 0.045 * face.bangs_length
    y = end + 0.16 * face.bangs_sweep * x - 0.12 * x * x + 0.16 * np.maximum(np.abs(x) - 0.5, 0)
    y = y - 0.030 * np.abs(np.sin(5.5 * x + 6.28 * face.hair_phase)) ** 3 * 2
    depth = 0.60 * np.sqrt(np.maximum(0, 1 - (x / 0.85) ** 2))
    edge = np.column_stack([x, y, depth])
    top = np.column_stack([x[::-1] * 0.9, -0.92 + 0.3 * x * x, np.full(27, 0.2)])
    return scene.head(np.concatenate([edge, top]) * [wide, 1, 1])


def _draw_glasses(scene: _Scene) -> None:
    face = scene.face
    frame = _ramp(_FRAMES, face.glasses_color)
    size = 0.92 + 0.16 * face.glasses_size
    angle = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    power = {"round": 1.0, "square": 0.55, "cat": 0.75}[face.glasses_style]
    lens = np.column_stack([0.262 * np.sign(cos) * np.abs(cos) ** power,
                            (0.235 if power == 1.0 else 0.20) * np.sign(sin) * np.abs(sin) ** power]) * size
    if face.glasses_style == "cat":
        lens[:, 1] -= 0.16 * np.maximum(lens[:, 0], 0) * (lens[:, 1] < 0)
    width = 0.052
    center = np.array([0.345, 0.025])

    def at(points) -> np.ndarray:
        """Glasses are nearly flat: a plane in front of the face, bent a little."""
        points = np.asarray(points, float)
        return scene.head(np.column_stack([points, 0.66 - 0.22 * points[:, 0] ** 2]))

    for side in (-1, 1):
        inner = at((lens + center) * [side, 1])
        window, rim = scene.mask(at((lens * (1 + width / 0.22) + center) * [side, 1]))
        glass = scene.mask(inner, window)[1]
        scene.paint(window, glass * np.float32(0.10), [0.92, 0.97, 1.0])
        glare = np.array([[-0.16, -0.2], [-0.07, -0.2], [-0.17, 0.2], [-0.26, 0.2]]) * size
        glare_mask = scene.mask(at(glare + center * [side, 1]), window)[1]
        scene.paint(window, glass * glare_mask * np.float32(0.16), [1, 1, 1])
        scene.paint(window, np.clip(rim - glass, 0, 1), frame)
        arm = np.array([[side * (center[0] + 0.25 * size), -0.04, 0.56], [side * 0.80, -0.02, 0.05]])
        scene.stroke(scene.head(arm), 0.05, frame * 0.9)
    gap = center[0] - 0.262 * size
    bridge = _curve([[-gap, 0.0], [0, -0.045], [gap, 0.0]], False, 5)
    scene.stroke(at(bridge), 0.05, frame)


def _draw_hat(scene: _Scene) -> None:
    face = scene.face
    color = _hsv(face.hat_hue, 0.35 + 0.40 * (1 - face.hat_value), 0.30 + 0.60 * face.hat_value)
    cloth = scene.shade(color, 0, -0.75, 1.05, 0.85, shadow=(0.50, 0.48, 0.54))
    rise = 0.12 * face.hat_height
    brow = -0.47  # where the hat ends on the forehead

    def at(points, front) -> np.ndarray:
        points = np.asarray(points, float)
        return scene.head(np.column_stack([points, np.broadcast_to(front, len(points))]))

    x = np.linspace(-0.90, 0.90, 25)
    front = 0.62 * np.sqrt(np.maximum(0, 1 - (x / 0.92) ** 2))
    shadow_band = at(np.concatenate([np.column_stack([x * 0.85, np.full(25, brow - 0.1)]),
                                     np.column_stack([x * 0.85, brow + 0.10 - 0.08 * x * x])[::-1]]),
                     np.concatenate([front, front[::-1]]))
    window, alpha = scene.mask(shadow_band)
    scene.paint(window, scene.blur(alpha, 0.03) * scene.head_mask[window] * 0.35,
                scene.pixels[window] * 0.55)
    edge = np.column_stack([x, brow + 0.02 * np.abs(x)])
    dome_top = -1.25 - rise if face.hat_style != "brim" else -1.28 - rise
    dome = np.array([[0.90, brow + 0.03], [0.93, -0.72], [0.80, -1.02 - rise * 0.5], [0.45, dome_top + 0.06],
                     [0, dome_top], [-0.45, dome_top + 0.06], [-0.80, -1.02 - rise * 0.5], [-0.93, -0.72],
                     [-0.90, brow + 0.03]])
    dome = _curve(dome, False, 6)
    outline = np.concatenate([at(edge, front), at(dome, -0.05)])
    if face.hat_style == "beanie":
        ribs = np.sin(30 * np.arcsin(np.clip((scene.x - 0.2 * face.yaw) / 1.0, -1, 1)))[..., None]
        pompon = at(_ellipse(0, dome_top - 0.06, 0.17, 0.15), -0.05)
        scene.fill(pompon, _mix(color, [1, 1, 1], 0.55))
        scene.fill(outline, (cloth * (1 + 0.06 * ribs)).astype(np.float32))
        upper = np.column_stack([x * 1.03, brow - 0.26 + 0.02 * np.abs(x)])
        lower = np.column_stack([x * 1.03, edge[:, 1] + 0.01])
        fold = np.concatenate([at(upper, front), at(lower[::-1], front[::-1])])
        scene.fill(fold, (_mix(cloth, [1, 1, 1], 0.16) * (1 + 0.08 * ribs)).astype(np.float32))
        scene.stroke(at(upper, front), 0.03, color * 0.55, 0.6)
    elif face.hat_style == "cap":
        scene.fill(outline, cloth)
        scene.stroke(at(_curve([[0, dome_top], [0.02, -0.9], [0, brow - 0.1]], False, 5),
                        np.linspace(0, 0.6, 11)), 0.02, color * 0.6, 0.6)
        button = at(_ellipse(0, dome_top + 0.01, 0.06, 0.035, 12), 0.0)
        scene.fill(button, color * 0.75)
        t = np.linspace(-1, 1, 21)
        back = np.column_stack([0.80 * t, brow - 0.12 + 0.10 * t * t])
        rim = np.column_stack([0.86 * t, brow + 0.055 - 0.02 * t * t])
        visor = np.concatenate([at(back, 0.55 * np.sqrt(1 - 0.8 * t * t)),
                                at(rim[::-1], 0.85 * np.sqrt(1 - 0.8 * t * t))])
        scene.fill(visor, _mix(cloth * np.float32(0.72), [1, 1, 1], 0.05))
        scene.stroke(at(back, 0.55 * np.sqrt(1 - 0.8 * t * t)), 0.025, color * 0.5, 0.7)
    else:
        scene.fill(outline, cloth)
        t = np.linspace(-1, 1, 25)
        top_edge = np.column_stack([0.93 * t, np.full(25, brow - 0.24)])
        low_edge = np.column_stack([0.93 * t, np.full(25, brow - 0.06)])
        curve = 0.5 * np.sqrt(np.maximum(0, 1 - t * t))
        band = np.concatenate([at(top_edge, curve), at(low_edge[::-1], curve)])
        scene.fill(band, color * 0.42)
        brim = _ellipse(0, brow - 0.05, 1.24, 0.13, 40)
        scene.fill(at(brim, 0.25), _mix(cloth, color, 0.4))
        scene.stroke(at(brim[:21], 0.25), 0.035, color * 0.6, 0.8)
