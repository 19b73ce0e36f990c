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

The module imports no TensorFlow, so the processes of `render_many` start in a moment.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import math
import os
import pathlib
import pickle
import queue
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cgan_tf.core.errors import UserError

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
        raise UserError(
            f"attribute {attribute!r} is not one of the synthetic data's: "
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


# ----------------------------------------------------------------------------------------------
# Rendering


def render(face: Face, resolution: int) -> np.ndarray:
    """uint8 [R, R, 3], R = `resolution` in 16..256. Raises UserError outside that range."""
    _check_resolution(resolution)
    scene = _Scene(face, resolution)
    _draw_background(scene)
    _draw_back_hair(scene)
    _draw_body(scene)
    _draw_head(scene)
    _draw_nose(scene)
    _draw_mouth(scene)
    _draw_eyes(scene)
    _draw_brows(scene)
    if face.eyeglasses:
        _draw_temples(scene)
    _draw_front_hair(scene)
    if face.eyeglasses:
        _draw_glasses(scene)
    if face.wearing_hat:
        _draw_hat(scene)
    pixels = np.rint(scene.pixels.clip(0.0, 1.0) * 255.0).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _check_resolution(resolution: int) -> None:
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise UserError(
            f"--resolution={resolution}: synthetic faces can be drawn at "
            f"{MIN_RESOLUTION} to {MAX_RESOLUTION} px"
        )


def render_many(faces: Sequence[Face], resolution: int, processes: int = 1) -> np.ndarray:
    """uint8 [N, R, R, 3]: `render` of each face, in order, spread over `processes`.

    The result is the same for every number of processes.
    """
    _check_resolution(resolution)
    out = np.empty((len(faces), resolution, resolution, 3), np.uint8)
    for i, image in enumerate(render_stream(faces, resolution, processes)):
        out[i] = image
    return out


def render_stream(
    faces: Iterable[Face], resolution: int, processes: int = 1
) -> Iterator[np.ndarray]:
    """Yields `render` of each face, in order, spread over `processes`; keeps few in memory.

    The processes are fresh interpreters that talk over pipes. A fork of a process that has
    TensorFlow's threads can hang, and multiprocessing's spawn would run the caller's main
    module, TensorFlow and all, once more in each process.
    """
    _check_resolution(resolution)
    faces = iter(faces)
    chunks = iter(lambda: list(itertools.islice(faces, _CHUNK)), [])
    first = next(chunks, [])
    if processes <= 1 or len(first) < _CHUNK:  # too few to be worth a start
        for face in itertools.chain(first, itertools.chain.from_iterable(chunks)):
            yield render(face, resolution)
        return
    idle: queue.SimpleQueue[subprocess.Popen] = queue.SimpleQueue()

    def draw(chunk: list[Face]) -> np.ndarray:
        worker = idle.get()
        try:
            shape = (len(chunk), resolution, resolution, 3)
            pixels = b""
            with contextlib.suppress(BrokenPipeError):
                pickle.dump((chunk, resolution), worker.stdin)
                worker.stdin.flush()
                pixels = worker.stdout.read(math.prod(shape))
            if len(pixels) != math.prod(shape):
                raise RuntimeError("a process that draws faces ended early; its message is above")
            return np.frombuffer(pixels, np.uint8).reshape(shape)
        finally:
            idle.put(worker)

    workers = [_start_worker() for _ in range(processes)]
    pool = concurrent.futures.ThreadPoolExecutor(processes)
    try:
        for worker in workers:
            idle.put(worker)
        pending: collections.deque[concurrent.futures.Future] = collections.deque()
        for chunk in itertools.chain([first], chunks):
            pending.append(pool.submit(draw, chunk))
            if len(pending) > 2 * processes:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        for worker in workers:
            with contextlib.suppress(BrokenPipeError):
                worker.stdin.close()
            worker.stdout.close()
            worker.wait()


_CHUNK = 64  # faces that a process draws at a time


def _start_worker() -> subprocess.Popen:
    root = str(pathlib.Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    # One BLAS thread: the products are tiny, and the processes fill the machine already.
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-c", "from cgan_tf.data.synthetic import drawing; drawing._serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )  # Ctrl-C is the parent's to handle; its end closes the pipe


def _serve() -> None:
    """The life of a process of `render_stream`: faces in, pixels out, until the pipe closes."""
    while True:
        try:
            faces, resolution = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        for face in faces:
            sys.stdout.buffer.write(render(face, resolution).data)
        sys.stdout.buffer.flush()


_Window = tuple[slice, slice]


class _Scene:
    """The picture under way, the head's pose, and the few ways to put paint on it.

    Image points are complex numbers x + iy in pixels, arrays of them are polygons [n] or
    several polygons [k, n]. Colors are [3], fields of color [3, h, w].
    """

    def __init__(self, face: Face, resolution: int):
        self.face = face
        self.resolution = resolution
        self.whole = (slice(0, resolution), slice(0, resolution))
        self.pixels = np.zeros((3, resolution, resolution), np.float32)
        # Masks are drawn on 256 px a side or more, so small pictures are averaged over more.
        self.supersample = 3 if resolution > 128 else max(4, -(-256 // resolution))
        self.stencil = Image.new("L", (resolution * self.supersample,) * 2)
        self.pen = ImageDraw.Draw(self.stencil)

        # The head turns about the neck (0, 0.9). Each head axis is one step in the image plane.
        yaw, pitch, roll = 0.28 * face.yaw, 0.12 * face.pitch, 0.04 * face.roll
        cos, sin = math.cos, math.sin
        self.unit = resolution * 0.385 * (0.97 + 0.06 * face.scale)  # pixels per head unit
        tilt = self.unit * complex(cos(roll), sin(roll))
        self.step_x = tilt * complex(cos(yaw), sin(pitch) * sin(yaw))
        self.step_y = tilt * complex(0.0, cos(pitch))
        self.step_z = tilt * complex(sin(yaw), -sin(pitch) * cos(yaw))
        # As in CelebA's aligned photos, the point between the eyes, (0, 0.01, 0.6) in head units,
        # is nearly the same in all.
        eyes = resolution * complex(0.5 + 0.015 * face.shift_x, 0.549 + 0.012 * face.shift_y)
        self.neck = eyes + 0.89 * self.step_y - 0.6 * self.step_z
        self.center = self.neck - 0.9j * self.unit
        # Head coordinates of every pixel (turned back in the plane only): what shading uses.
        axis = np.arange(resolution) + 0.5
        flat = ((axis + 1j * axis[:, None]) - self.neck) / tilt
        self.x = flat.real.astype(np.float32)
        self.y = (flat.imag + 0.9).astype(np.float32)

        light = np.array([0.75 * face.light_x, -0.45 + 0.25 * face.light_y, 0.85])
        self.light = (light / np.linalg.norm(light)).tolist()
        self.skin = _skin_color(face)
        self.hair = None  # field, set with the back hair
        self.head_mask = None  # coverage of the head, set with the head

    # --- places -------------------------------------------------------------------------------

    def head(self, x, y, z):
        """Head coordinates (scalars or arrays that broadcast) -> image points."""
        return self.neck + x * self.step_x + (y - 0.9) * self.step_y + z * self.step_z

    def on_face(self, x, y, lift=0.0):
        """Points on the surface of the face, raised by `lift` -> image points."""
        depth = np.sqrt(np.maximum(1.0 - x * x * 1.23 - y * y * 0.64, 0.0))
        return self.head(x, y, 0.6 * depth + lift)

    def body(self, x, y):
        """Points on the body, which keeps still while the head turns -> image points."""
        return self.center + self.unit * (x + 1j * y)

    # --- paint --------------------------------------------------------------------------------

    def mask(
        self, *shapes: np.ndarray, window: _Window | None = None
    ) -> tuple[_Window, np.ndarray]:
        """Coverage of the union of polygons: (its window, float32 [h, w] in [0, 1])."""
        factor, size = self.supersample, self.resolution
        if window is None:
            left = max(0, int(min(shape.real.min() for shape in shapes)) - 1)
            top = max(0, int(min(shape.imag.min() for shape in shapes)) - 1)
            right = min(size, int(max(shape.real.max() for shape in shapes)) + 2)
            bottom = min(size, int(max(shape.imag.max() for shape in shapes)) + 2)
            window = (slice(top, max(top, bottom)), slice(left, max(left, right)))
        rows, columns = window
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if height == 0 or width == 0:
            return window, np.zeros((height, width), np.float32)
        for shape in shapes:
            corners = (shape * factor - (0.5 + 0.5j)).view(np.float64)
            for polygon in corners if corners.ndim == 2 else (corners,):
                self.pen.polygon(polygon.tolist(), fill=255)
        box = (
            columns.start * factor,
            rows.start * factor,
            columns.stop * factor,
            rows.stop * factor,
        )
        small = self.stencil.reduce(factor, box)
        self.pen.rectangle((0, 0, size * factor, size * factor), fill=0)
        alpha = np.frombuffer(small.tobytes(), np.uint8).reshape(height, width)
        return window, alpha * np.float32(1 / 255)

    def paint(self, window: _Window, alpha: np.ndarray, color) -> None:
        """Blends a color [3] or a field [3, h, w] over the window with weights [h, w]."""
        part = self.pixels[:, window[0], window[1]]
        part += alpha * ((color if color.ndim == 3 else color[:, None, None]) - part)

    def fill(self, *shapes: np.ndarray, color, opacity: float = 1.0) -> tuple[_Window, np.ndarray]:
        """Paints polygons in a color [3] or in a field given as function of the window."""
        window, alpha = self.mask(*shapes)
        if opacity != 1.0:
            alpha *= np.float32(opacity)
        self.paint(window, alpha, color(window) if callable(color) else color)
        return window, alpha

    def stroke(self, line: np.ndarray, width, color, opacity: float = 1.0) -> None:
        """Paints lines [n] or [k, n] whose `width` (head units; scalar or [n]) may vary."""
        along = np.empty_like(line)
        along[..., 1:-1] = line[..., 2:] - line[..., :-2]
        along[..., 0] = line[..., 1] - line[..., 0]
        along[..., -1] = line[..., -1] - line[..., -2]
        offset = along * (0.5j * self.unit * width / np.maximum(np.abs(along), 1e-9))
        ribbon = np.concatenate([line + offset, (line - offset)[..., ::-1]], axis=-1)
        self.fill(ribbon, color=color, opacity=opacity)

    def glow(
        self,
        center: complex,
        radius_x: float,
        radius_y: float,
        color,
        opacity: float,
        clip: np.ndarray | None = None,
    ) -> None:
        """A soft spot around an image point: radii in head units, `clip` a mask [R, R]."""
        size, rx, ry = self.resolution, radius_x * self.unit, radius_y * self.unit
        window = (
            slice(
                max(0, int(center.imag - 2.2 * ry)),
                max(0, min(size, int(center.imag + 2.2 * ry) + 1)),
            ),
            slice(
                max(0, int(center.real - 2.2 * rx)),
                max(0, min(size, int(center.real + 2.2 * rx) + 1)),
            ),
        )
        dx = (np.arange(window[1].start, window[1].stop) + (0.5 - center.real)) / rx
        dy = (np.arange(window[0].start, window[0].stop) + (0.5 - center.imag)) / ry
        alpha = (opacity * np.exp(-dy * dy)[:, None] * np.exp(-dx * dx)).astype(np.float32)
        self.paint(window, alpha if clip is None else alpha * clip[window], color)

    def blur(self, alpha: np.ndarray, radius: float) -> np.ndarray:
        """A mask [h, w] made soft; `radius` in head units."""
        image = Image.fromarray((alpha * 255).astype(np.uint8))
        image = image.filter(ImageFilter.GaussianBlur(radius * self.unit))
        return np.asarray(image, np.float32) * np.float32(1 / 255)

    def ball(
        self,
        color,
        x0: float,
        y0: float,
        rx: float,
        ry: float,
        shadow=(0.66, 0.55, 0.54),
        gain: float = 1.0,
    ) -> Callable[[_Window], np.ndarray]:
        """The color of a lit ball around (x0, y0), as a function window -> field [3, h, w].

        Shadows keep their saturation and lights go a little towards white: shading with gray
        alone makes skin look dead.
        """
        face = self.face
        strength = gain * (0.75 + 0.5 * face.light_strength)
        warm = np.array([1.0, 0.985 - 0.03 * face.light_warmth, 0.98 - 0.12 * face.light_warmth])
        base = np.asarray(color, np.float32)[:, None, None]
        darker = base * (1 - np.array(shadow, np.float32))[:, None, None]
        lighter = warm.astype(np.float32)[:, None, None] - base

        def field(window: _Window) -> np.ndarray:
            nx = (self.x[window] - x0) * (1 / rx)
            ny = (self.y[window] - y0) * (1 / ry)
            nz = np.sqrt(np.maximum(1.0 - nx * nx - ny * ny, 0.02))
            amount = nx * self.light[0] + ny * self.light[1] + nz * self.light[2]
            dark = np.minimum(np.maximum(0.80 - amount, 0) * (0.95 * strength), 1)
            bright = np.minimum(np.maximum(amount - 0.78, 0) * (0.9 * strength), 1)
            return base - dark * darker + bright * lighter

        return field


# ----------------------------------------------------------------------------------------------
# Curves and colors

_BOTH = np.array([[-1.0], [1.0]])  # times x: a shape on the two sides of the face


@functools.cache
def _spline_matrix(count: int, closed: bool, steps: int) -> np.ndarray:
    """Matrix [m, count] that samples the Catmull-Rom curve through `count` points."""
    segments = count if closed else count - 1
    t = np.arange(steps) / steps
    basis = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], 1
    )  # [steps, 4]
    matrix = np.zeros((segments * steps + (not closed), count))
    for segment in range(segments):
        for k in range(4):
            index = segment + k - 1
            index = index % count if closed else min(max(index, 0), count - 1)
            matrix[segment * steps : (segment + 1) * steps, index] += basis[:, k]
    if not closed:
        matrix[-1, -1] = 1.0
    return matrix


def _curve(points, closed: bool = False, steps: int = 5) -> np.ndarray:
    """A smooth curve through points [n, d] -> its coordinates [d, m]."""
    points = np.asarray(points, float)
    return (_spline_matrix(len(points), closed, steps) @ points).T


def _mirrored(half) -> np.ndarray:
    """Right half of a shape [n, d], on the axis at both ends -> the whole shape's points."""
    half = np.asarray(half, float)
    left = half[-2:0:-1].copy()
    left[:, 0] *= -1
    return np.concatenate([half, left])


@functools.cache
def _circle(count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    angle = np.arange(count) * (2 * math.pi / count)
    return np.cos(angle), np.sin(angle)


@functools.cache
def _span(count: int) -> np.ndarray:
    """-1 to 1 in `count` steps."""
    return np.linspace(-1.0, 1.0, count)


def _join(*lines) -> np.ndarray:
    return np.concatenate(lines, axis=-1)


def _rgb(*values: float) -> np.ndarray:
    return np.array(values, np.float32) / np.float32(255)


_WHITE = _rgb(255, 255, 255)


def _mix(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return a + (b - a) * np.float32(share)


def _hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """Hue, saturation, value in [0, 1] -> RGB."""
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6.0) % 6.0
    fall = np.minimum(np.maximum(np.minimum(k, 4 - k), 0), 1)
    return (value - value * saturation * fall).astype(np.float32)


def _ramp(colors: Sequence[np.ndarray], share: float) -> np.ndarray:
    """Linear interpolation along a list of colors."""
    place = min(max(share, 0.0), 1.0) * (len(colors) - 1)
    index = min(int(place), len(colors) - 2)
    return _mix(colors[index], colors[index + 1], place - index)


# Pale and other skin lie apart, so that no light makes one look like the other.
_SKIN = (
    _rgb(231, 180, 140),
    _rgb(217, 158, 114),
    _rgb(190, 129, 89),
    _rgb(156, 101, 70),
    _rgb(124, 79, 56),
)
_PALE = (_rgb(255, 234, 221), _rgb(250, 224, 206))
_IRIS = (
    _rgb(58, 36, 24),
    _rgb(104, 66, 34),
    _rgb(122, 112, 56),
    _rgb(72, 118, 92),
    _rgb(74, 122, 168),
    _rgb(108, 132, 150),
)
_HAIR = {
    "blond": (_rgb(248, 218, 138), _rgb(226, 178, 92)),
    "black": (_rgb(20, 19, 24), _rgb(38, 33, 34)),
    "brown": (_rgb(82, 49, 32), _rgb(120, 76, 48)),
    "red": (_rgb(150, 56, 28), _rgb(184, 84, 40)),
    "gray": (_rgb(142, 142, 148), _rgb(184, 184, 188)),
}
_FRAMES = (_rgb(24, 24, 28), _rgb(66, 36, 22), _rgb(120, 24, 36), _rgb(26, 46, 96))
_LIPSTICK = (_rgb(214, 20, 40), _rgb(192, 12, 62), _rgb(222, 36, 100), _rgb(164, 14, 50))


def _skin_color(face: Face) -> np.ndarray:
    color = _ramp(_PALE if face.pale_skin else _SKIN, face.skin_tone)
    tint = (face.skin_undertone - 0.5) * 0.04
    return np.minimum(color + np.array([tint, 0.0, -tint], np.float32), 1)


def _hair_color(face: Face) -> np.ndarray:
    kind = "blond" if face.blond_hair else "black" if face.black_hair else face.hair_other
    return _ramp(_HAIR[kind], face.hair_tone)


def _shadow(scene: _Scene, red: float, green: float, blue: float) -> np.ndarray:
    return scene.skin * np.array([red, green, blue], np.float32)


def _head_wide(face: Face) -> float:
    return 0.95 + 0.08 * face.head_width


# ----------------------------------------------------------------------------------------------
# Parts, back to front


def _draw_background(scene: _Scene) -> None:
    face, size = scene.face, scene.resolution
    base = _hsv(
        face.background_hue,
        0.12 + 0.36 * face.background_saturation,
        0.60 + 0.34 * face.background_value,
    )[:, None, None]
    angle = 2 * math.pi * face.background_angle
    axis = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    along = (0.30 * math.cos(angle)) * axis + (0.30 * math.sin(angle)) * axis[:, None]
    # A glow behind the head on the light's side lifts the figure off the background.
    from_x, from_y = axis - 0.35 * scene.light[0], axis + 0.08
    glow = 0.34 * np.exp(-(from_x**2) / 0.16) * np.exp(-(from_y**2) / 0.16)[:, None]
    field = base * (0.86 + along)
    scene.pixels[:] = field + glow * (1.0 - field)


def _hair_field(scene: _Scene, color: np.ndarray) -> np.ndarray:
    """Strands combed down from above the crown, and a band of light: [3, R, R]."""
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
        if scene.resolution > 96:  # finer than a pixel below
            strands += 0.35 * np.sin(117 * angle + 3 * phase)
    strands *= min(1.0, scene.resolution / 64)
    radius = np.sqrt(scene.x * scene.x + 0.9 * scene.y * scene.y)
    band = np.exp(-(((radius - 0.92) * (1 / 0.11)) ** 2))
    band *= np.minimum(np.maximum(0.9 - 1.5 * scene.y, 0), 1)
    lit = np.minimum(np.maximum(0.35 + 0.9 * scene.x * scene.light[0] - 0.45 * scene.y, 0), 1)
    # Light hair keeps its warmth in the shade, where black would turn it olive.
    shadow = (0.62, 0.50, 0.38) if face.blond_hair else (0.48, 0.44, 0.44)
    field = scene.ball(color, 0, -0.1, 1.25, 1.6, shadow, 0.8)(scene.whole)
    field *= 1 + 0.11 * strands
    shine = band * lit * (0.36 + 0.14 * strands)
    field += shine * (_mix(color, _WHITE, 0.55)[:, None, None] - field)
    return field


def _hair_volume(face: Face) -> float:
    base = {"crop": 0.04, "quiff": 0.06, "bun": 0.04, "curly": 0.16}.get(face.hair_style, 0.08)
    return base + 0.05 * face.hair_volume


def _hair_end(face: Face) -> float:
    """The y at which hair ends at the sides."""
    low, high = {
        "bob": (0.62, 0.88),
        "long": (1.25, 1.75),
        "wavy": (1.15, 1.65),
        "curly": (0.45, 0.80),
    }.get(face.hair_style, (0.05, 0.15))
    return low + (high - low) * face.hair_length


def _wave(face: Face, y: np.ndarray) -> np.ndarray:
    """Sideways swing of wavy hair at height y."""
    if face.hair_style not in ("wavy", "curly"):
        return np.zeros_like(y)
    swing, turns = (0.045, 8.0) if face.hair_style == "wavy" else (0.035, 17.0)
    return swing * np.sin(turns * y + 6.28 * face.hair_phase) * np.clip((y + 0.7) * 2, 0, 1)


def _draw_back_hair(scene: _Scene) -> None:
    face = scene.face
    scene.hair = _hair_field(scene, _hair_color(face))
    style, volume, end = face.hair_style, _hair_volume(face), _hair_end(face)
    crown = -1.02 - volume * (0.4 if face.wearing_hat else 1.0)  # a hat presses hair flat

    def dark(window: _Window) -> np.ndarray:
        return scene.hair[:, window[0], window[1]] * np.float32(0.78)

    if style == "bun" and not face.wearing_hat:
        x, y = _circle()
        scene.fill(scene.head(0.29 * x + 0.1 * face.hair_part, 0.25 * y - 1.17, -0.2), color=dark)
    if style not in ("bob", "long", "wavy", "curly"):
        return
    wide = 0.82 + volume
    flare = {"bob": 0.05, "curly": 0.02}.get(style, 0.09)
    temple = 0.82 if face.wearing_hat else wide - 0.06
    x, y = _curve(
        _mirrored(
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


def _draw_body(scene: _Scene) -> None:
    face = scene.face
    neck = np.array([[0.36, 0.50], [0.345, 0.95], [0.42, 1.17], [0.75, 1.30], [0.75, 1.8]])
    x, y = _curve(np.concatenate([neck, neck[::-1] * [-1, 1]]), True, 4)
    skin = _mix(scene.skin, _shadow(scene, 0.80, 0.70, 0.68), 0.45)
    window, alpha = scene.fill(scene.body(x, y), color=scene.ball(skin, 0, 1.3, 0.8, 1.0))
    clip = np.zeros_like(scene.x)
    clip[window] = alpha
    chin = scene.head(0.0, 0.93, 0.25)
    scene.glow(chin, 0.52, 0.25, _shadow(scene, 0.58, 0.48, 0.48), 0.75, clip=clip)
    shirt = _hsv(
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
    cloth = scene.ball(shirt, 0.0, 1.9, 1.6, 0.9, shadow=(0.6, 0.6, 0.66))
    scene.fill(scene.body(*_curve(_mirrored(half), True, 4)), color=cloth)
    collar = _curve(np.concatenate([half[2:0:-1] * [-1, 1], half[:3]]))
    scene.stroke(scene.body(*collar), 0.05, shirt * np.float32(0.78))


def _draw_head(scene: _Scene) -> None:
    face = scene.face
    wide = _head_wide(face)
    jaw = 0.90 + 0.17 * face.jaw_width
    chin = 0.97 + 0.07 * face.chin_length
    skin = scene.ball(scene.skin, 0.10 * face.yaw, -0.05, 0.98, 1.28)
    x, y = _circle()
    scene.fill(scene.head(_BOTH * (0.775 * wide + 0.095 * x), 0.09 + 0.185 * y, -0.08), color=skin)
    scene.fill(
        scene.head(_BOTH * (0.790 * wide + 0.050 * x), 0.09 + 0.110 * y, -0.08),
        color=_shadow(scene, 0.74, 0.60, 0.58),
        opacity=0.55,
    )
    # z: the chin comes forward, so it leads when the head turns.
    x, y, z = _curve(
        _mirrored(
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
    blush = _mix(scene.skin, _rgb(226, 84, 78), 0.42)
    for side in (-1, 1):
        scene.glow(scene.on_face(side * 0.43, 0.32), 0.21, 0.16, blush, 0.36, scene.head_mask)


def _draw_nose(scene: _Scene) -> None:
    face = scene.face
    shadow = _shadow(scene, 0.72, 0.56, 0.52)
    light = _mix(scene.skin, _WHITE, 0.45)
    tip = 0.28 + 0.07 * face.nose_length
    wide = 0.105 + 0.045 * face.nose_width
    dark = -1.0 if scene.light[0] > 0 else 1.0  # the side that the light does not reach
    x, y = _curve([[dark * 0.07, -0.10], [dark * 0.055, 0.08], [dark * wide * 0.9, tip - 0.05]])
    scene.stroke(
        scene.on_face(x, y, np.linspace(0.05, 0.16, len(x))),
        np.linspace(0.03, 0.09, len(x)),
        shadow,
        0.20,
    )
    scene.glow(scene.on_face(0.0, tip + 0.07, 0.10), 0.16, 0.065, shadow, 0.48)
    scene.glow(scene.on_face(0.0, 0.08, 0.12), 0.035, 0.17, light, 0.24)
    scene.glow(scene.on_face(0.0, tip - 0.03, 0.22), 0.075, 0.065, light, 0.48)
    x, y = _curve(
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
    taper = 0.012 + 0.018 * (1 - _span(len(x)) ** 2)
    scene.stroke(scene.on_face(x, y, 0.12), taper, shadow * np.float32(0.86), 0.72)
    x, y = _circle(12)
    nostrils = scene.on_face(_BOTH * wide * (0.52 + 0.26 * x), tip + 0.025 + 0.021 * y, 0.13)
    scene.fill(nostrils, color=shadow * np.float32(0.52), opacity=0.72)


def _draw_mouth(scene: _Scene) -> None:
    face = scene.face
    t = _span(17)
    arch = 1 - t * t
    # How far the corners are up, how far the lips are apart, and where the lips' edges run.
    smile = 0.72 + 0.40 * face.smile_strength if face.smiling else -0.12 + 0.24 * face.mouth_rest
    opening = 0.60 + 0.40 * face.mouth_opening if face.mouth_slightly_open else 0.0
    grin = 1.0 if face.smiling else 0.0
    half = 0.285 + 0.04 * face.mouth_width + (0.105 if face.smiling else -0.06 * opening)
    x = t * half
    line = 0.565 + 0.03 * face.mouth_height + smile * (0.075 - 0.19 * t * t)
    upper = line - opening * (0.07 - 0.03 * grin) * arch
    lower = line + opening * (0.165 + 0.010 * grin) * np.sqrt(arch) * (0.35 + 0.65 * arch)
    full = 0.8 + 0.45 * face.lip_fullness
    bow = 1 - 0.28 * np.exp(-((t / 0.16) ** 2))
    top = upper - full * (0.085 - 0.015 * grin) * arch**0.6 * bow
    bottom = lower + full * (0.115 - 0.018 * grin) * arch**0.8

    def between(high: np.ndarray, low: np.ndarray) -> np.ndarray:
        return scene.on_face(_join(x, x[::-1]), _join(high, low[::-1]), 0.04)

    shadow = _shadow(scene, 0.74, 0.58, 0.54)
    if face.wearing_lipstick:
        lip = _ramp(_LIPSTICK, face.lipstick_color)
    else:
        lip = _mix(_shadow(scene, 0.88, 0.69, 0.66), _rgb(202, 108, 100), 0.30)
    scene.glow(scene.on_face(0.0, bottom[8] + 0.055, 0.03), 0.16, 0.04, shadow, 0.42)
    if face.smiling:
        fold = _curve([[0.20, 0.36], [half + 0.045, 0.46], [half + 0.065, line[0] + 0.03]])
        scene.stroke(
            scene.on_face(_BOTH * fold[0], fold[1]),
            0.028 * (1.05 - _span(fold.shape[1]) ** 2),
            shadow,
            0.34,
        )
        apple = _mix(scene.skin, _WHITE, 0.4)
        for side in (-1, 1):
            scene.glow(scene.on_face(side * 0.44, 0.26), 0.13, 0.09, apple, 0.26)
    scene.fill(between(top, upper + 0.006), color=lip * np.float32(0.86))
    scene.fill(between(lower - 0.006, bottom), color=lip)
    if opening:
        window, inside = scene.fill(between(upper, lower), color=_rgb(78, 20, 26))
        edge = upper + (0.060 + 0.026 * grin) * arch**0.4 * (0.5 + 0.5 * opening)
        _, teeth = scene.mask(between(upper, edge), window=window)
        scene.paint(window, inside * teeth, _rgb(248, 246, 240))
        cos, sin = _circle(16)
        tongue = scene.on_face(half * 0.5 * cos, lower[8] + 0.015 + 0.065 * opening * sin, 0.04)
        _, tongue = scene.mask(tongue, window=window)
        scene.paint(window, inside * tongue * np.float32(0.8), _rgb(200, 88, 92))
    else:
        seam = lip * np.array([0.46, 0.36, 0.38], np.float32)
        scene.stroke(scene.on_face(x * 1.03, line, 0.04), 0.013 + 0.016 * arch, seam)
    for k in (0, -1):
        corner = scene.on_face(x[k] * 1.04, line[k], 0.04)
        scene.glow(corner, 0.03, 0.03, shadow * np.float32(0.8), 0.55)
    shine = scene.on_face(
        0.25 * half * math.copysign(1, scene.light[0]), (lower[8] + bottom[8]) / 2, 0.05
    )
    scene.glow(shine, 0.085, 0.022, _WHITE, 0.40 if face.wearing_lipstick else 0.22)


def _draw_eyes(scene: _Scene) -> None:
    face = scene.face
    half = 0.165 + 0.03 * face.eye_size
    spacing = 0.325 + 0.035 * face.eye_spacing
    squint = 0.15 + 0.25 * face.smile_strength if face.smiling else 0.0  # a smile lifts the lids
    up = (0.105 + 0.035 * face.eye_openness) * (1 - 0.15 * squint)
    down = (0.072 + 0.012 * face.eye_openness) * (1 - 0.55 * squint)
    slope = 0.035 * face.eye_tilt / half
    shadow = _shadow(scene, 0.66, 0.52, 0.52)
    iris = _ramp(_IRIS, face.iris_color)

    def at(x, y):
        """Eye coordinates (x outwards, y down) -> image points of both eyes [2, n]."""
        return scene.on_face(_BOTH * (spacing + x), 0.01 + y - slope * x)

    for side in (-1, 1):
        scene.glow(scene.on_face(side * spacing, -0.09), 0.21, 0.10, shadow, 0.40)
    lid = _curve(
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
    low = _curve(
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
    window, inside = scene.fill(at(*_join(lid, low)), color=_rgb(250, 248, 246))
    cos, sin = _circle()
    # The gaze goes the same way in both eyes, so its sign turns with the side.
    gaze_x, gaze_y = 0.025 * face.gaze_x * _BOTH, -0.008 + 0.012 * face.gaze_y
    glint = 0.035 * math.copysign(1, scene.light[0]) * _BOTH
    discs = (
        (0.0, 0.0, 0.098, iris * np.float32(0.45), 1.0),
        (0.0, 0.004, 0.083, iris, 1.0),
        (0.0, 0.032, 0.050, _mix(iris, _WHITE, 0.28), 0.7),
        (0.0, 0.0, 0.045, _rgb(14, 10, 12), 1.0),
        (glint, -0.036, 0.027, _WHITE, 1.0),
        (-glint, 0.036, 0.014, _WHITE, 0.6),
    )
    for x, y, radius, color, opacity in discs:
        shape = at(gaze_x + x + radius * cos, gaze_y + y + radius * sin)
        _, alpha = scene.mask(shape, window=window)
        scene.paint(window, alpha * inside * np.float32(opacity), color)
    _, alpha = scene.mask(at(*_join(lid, lid[:, ::-1] + [[0.0], [0.05]])), window=window)
    scene.paint(window, alpha * inside * np.float32(0.30), shadow * np.float32(0.5))
    crease = _curve([[-half * 0.8, -up * 0.75], [0, -up - 0.055], [half * 0.95, -up * 0.62]])
    scene.stroke(at(*crease), 0.020, shadow * np.float32(0.85), 0.55)
    scene.stroke(at(*low), np.linspace(0.016, 0.005, low.shape[1]), shadow * np.float32(0.7), 0.6)
    wing = np.array(
        [[half, half * (1.0 + 0.22 * face.lashes)], [-0.012, -0.03 - 0.03 * face.lashes]]
    )
    lashes = _join(lid[:, :-1], wing)
    width = (0.032 + 0.018 * face.lashes) * np.linspace(0.45, 1.15, lashes.shape[1])
    width[-1] *= 0.25
    scene.stroke(at(*lashes), width, _mix(_rgb(40, 24, 22), scene.skin * np.float32(0.3), 0.2))


def _draw_brows(scene: _Scene) -> None:
    face = scene.face
    color = _mix(_rgb(30, 21, 18), _rgb(76, 50, 36), face.brow_tone)
    bushy = face.bushy_eyebrows
    thick = 0.105 + 0.035 * face.brow_thickness if bushy else 0.036 + 0.016 * face.brow_thickness
    y = -0.222 - 0.03 * face.brow_height
    arch = 0.02 + 0.035 * face.brow_arch
    x, y = _curve(
        [[0.14, y], [0.28, y - arch * 0.7], [0.43, y - arch], [0.57, y + 0.045]], False, 9
    )
    along = np.linspace(0, 1, len(x))
    width = thick * np.interp(along, [0, 0.08, 0.55, 1], [0.55, 0.95, 0.95, 0.22])
    if bushy:  # a ragged edge: single hairs
        width *= 1 + 0.06 * np.sin(2.3 * np.arange(len(x)))
    scene.stroke(scene.on_face(_BOTH * x, y, 0.02), width, color, 0.95 if bushy else 0.80)


def _draw_front_hair(scene: _Scene) -> None:
    face = scene.face
    shapes = [_cap(scene)]
    if face.hair_style in ("bob", "long", "wavy", "curly"):
        shapes.append(_locks(scene))
    if face.bangs:
        shapes.append(_bangs(scene))
    window, alpha = scene.mask(*shapes)
    # The shadow that the hair throws on the skin: the blurred mask, moved down.
    step = max(1, round(0.05 * scene.unit))
    cast = np.zeros_like(scene.x)
    cast[window] = alpha
    cast = scene.blur(cast[:-step], 0.045) * scene.head_mask[step:]
    below = (slice(step, scene.resolution), slice(0, scene.resolution))
    scene.paint(below, cast * np.float32(0.55), _shadow(scene, 0.60, 0.45, 0.42))
    scene.paint(window, alpha, scene.hair[:, window[0], window[1]])


def _cap(scene: _Scene) -> np.ndarray:
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
    drop = 0.05 * face.hair_part  # the hairline is higher on the part's side
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
    outer, line = _curve(outer), _curve(line)
    depth = 0.55 * np.sqrt(np.maximum(0, 1 - (line[0] / 0.78) ** 2))
    if face.hair_style == "curly":
        bump = 1 + 0.025 * np.sin(np.arange(outer.shape[1]) * (2 * math.pi / 3.3))
        outer = outer * bump
    x, y, z = _join(outer, np.stack([line[0], line[1], depth]))
    return scene.head(x * _head_wide(face), y, z)


def _locks(scene: _Scene) -> np.ndarray:
    """The hair that falls in front of the ears, both sides [2, n]."""
    face, volume, end = scene.face, _hair_volume(scene.face), _hair_end(scene.face)
    inner = 0.66 if face.hair_style == "curly" else 0.62
    right = _curve(
        [
            [0.45, -0.82],
            [inner - 0.01, -0.44],
            [inner + 0.05, 0.0],
            [inner + 0.03, 0.45 * end],
            [inner + 0.05, 0.8 * end],
            [inner + 0.14, end],
        ]
    )
    left = _curve(
        [
            [0.80 + volume, end - 0.04],
            [0.85 + volume, 0.6 * end],
            [0.82 + volume, 0.0],
            [0.79 + 0.8 * volume, -0.45],
            [0.62, -0.88],
        ]
    )
    x, y = _join(right, left)
    x = x + _wave(face, y)
    return scene.head(_BOTH * x * _head_wide(face), y, np.where(x < 0.75, 0.18, -0.02))


def _bangs(scene: _Scene) -> np.ndarray:
    """A fringe over the forehead that ends above the brows, with an uneven edge."""
    face = scene.face
    x = 0.66 * _span(31)
    y = -0.375 + 0.04 * face.bangs_length + 0.10 * face.bangs_sweep * x - 0.08 * x * x
    y = y - 0.05 * np.abs(np.sin(5.5 * x + 6.28 * face.hair_phase)) ** 4
    y = y + 0.45 * np.maximum(np.abs(x) - 0.52, 0)
    depth = 0.60 * np.sqrt(1 - (x / 0.85) ** 2)
    x, y, z = _join(
        np.stack([x, y, depth]), np.stack([x[::-1] * 0.9, -0.94 + 0.3 * x * x, np.full(31, 0.2)])
    )
    return scene.head(x * _head_wide(face), y, z)


_LENS = {"round": (1.0, 0.235, 0.210), "square": (0.55, 0.250, 0.182), "cat": (0.75, 0.250, 0.190)}


def _draw_temples(scene: _Scene) -> None:
    """The arms of the glasses; hair falls over them."""
    wide = _head_wide(scene.face)
    x, z = np.array([0.57, 0.755 * wide]), np.array([0.56, 0.02])
    scene.stroke(scene.head(_BOTH * x, np.array([-0.03, 0.0]), z), 0.045, _frame_color(scene.face))


def _frame_color(face: Face) -> np.ndarray:
    return _ramp(_FRAMES, face.glasses_color)


def _draw_glasses(scene: _Scene) -> None:
    face = scene.face
    frame = _frame_color(face)
    size = 0.94 + 0.14 * face.glasses_size
    power, rx, ry = _LENS[face.glasses_style]
    cos, sin = _circle(36)
    x = rx * np.sign(cos) * np.abs(cos) ** power
    y = ry * np.sign(sin) * np.abs(sin) ** power
    if face.glasses_style == "cat":
        y = y - 0.16 * np.maximum(x, 0) * (y < 0)

    def at(x, y, side=_BOTH):
        """Glasses are nearly flat: a plane in front of the face, bent a little."""
        return scene.head(side * x, y + 0.04, 0.66 - 0.22 * x * x)

    middle, width = 0.335, 0.048
    window, rim = scene.mask(at(middle + (size + width / rx) * x, (size + width / ry) * y))
    _, glass = scene.mask(at(middle + size * x, size * y), window=window)
    glare = np.array([[-0.16, -0.07, -0.17, -0.26], [-0.2, -0.2, 0.2, 0.2]]) * size
    _, streak = scene.mask(at(_BOTH * middle + glare[0], glare[1], 1.0), window=window)
    scene.paint(window, glass * (0.09 + 0.15 * streak), _rgb(236, 248, 255))
    scene.paint(window, np.maximum(rim - glass, 0), frame)
    gap = middle - rx * size - 0.02
    scene.stroke(at(*_curve([[-gap, 0.0], [0, -0.045], [gap, 0.0]]), 1.0), 0.045, frame)


_HAT_EDGE = -0.565  # where a hat ends on the forehead; bangs end lower


def _draw_hat(scene: _Scene) -> None:
    face = scene.face
    color = _hsv(face.hat_hue, 0.35 + 0.38 * (1 - face.hat_value), 0.30 + 0.58 * face.hat_value)
    cloth = scene.ball(color, 0, -0.72, 1.05, 0.85, shadow=(0.50, 0.48, 0.54))
    t = _span(25)
    x, front = 0.88 * t, 0.62 * np.sqrt(np.maximum(0, 1 - 0.92 * t * t))
    edge = _HAT_EDGE + 0.03 * t * t

    # Its shadow on the forehead and on the hair.
    band = _join(
        scene.head(0.93 * x, edge - 0.1, front), scene.head(0.93 * x, edge + 0.09, front)[::-1]
    )
    window, alpha = scene.mask(band)
    scene.paint(window, scene.blur(alpha, 0.035) * np.float32(0.30), _rgb(20, 8, 8))

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
    dome = _curve(np.concatenate([right, right[-2::-1] * [-1, 1]]))
    crown = _join(scene.head(x, edge, front), scene.head(*dome, -0.05))
    draw = {"beanie": _draw_beanie, "cap": _draw_cap, "brim": _draw_brim}[face.hat_style]
    draw(scene, color, cloth, crown, top)


def _draw_beanie(scene: _Scene, color, cloth, crown: np.ndarray, top: float) -> None:
    face, t = scene.face, _span(25)

    def knit(window: _Window, light: float = 0.0) -> np.ndarray:
        turned = np.clip(scene.x[window] - 0.2 * face.yaw, -1, 1)
        ribs = 1 + 0.07 * np.sin(28 * np.arcsin(turned))
        return _mix(cloth(window), np.float32(1), light) * ribs

    cos, sin = _circle(24)
    bumps = 1 + 0.06 * np.cos(8 * np.arccos(cos))
    scene.fill(
        scene.head(0.16 * bumps * cos, top - 0.05 + 0.15 * bumps * sin, -0.05),
        color=scene.ball(_mix(color, _WHITE, 0.5), 0, top - 0.05, 0.2, 0.2),
    )
    scene.fill(crown, color=knit)
    x, front = 0.905 * t, 0.66 * np.sqrt(np.maximum(0, 1 - 0.92 * t * t))
    low, high = _HAT_EDGE + 0.01 + 0.03 * t * t, _HAT_EDGE - 0.25 + 0.05 * t * t
    upper = scene.head(x, high, front)
    scene.fill(_join(upper, scene.head(x, low, front)[::-1]), color=lambda w: knit(w, 0.15))
    scene.stroke(upper, 0.03, color * np.float32(0.5), 0.6)


def _draw_cap(scene: _Scene, color, cloth, crown: np.ndarray, top: float) -> None:
    t = _span(25)
    scene.fill(crown, color=cloth)
    seam = _curve([[0, top, 0.0], [0.0, -0.95, 0.35], [0, _HAT_EDGE - 0.1, 0.62]])
    scene.stroke(scene.head(*seam), 0.02, color * np.float32(0.6), 0.6)
    cos, sin = _circle(12)
    scene.fill(scene.head(0.06 * cos, top + 0.01 + 0.035 * sin, 0.0), color=color * np.float32(0.7))
    # The visor comes towards the viewer; seen from the front it is a crescent.
    bow = np.sqrt(np.maximum(0, 1 - t * t))
    back = scene.head(0.80 * t, _HAT_EDGE + 0.05 - 0.27 * bow, 0.10 + 0.50 * bow)
    rim = scene.head(0.87 * t, _HAT_EDGE + 0.07 - 0.01 * bow, 0.10 + 0.72 * bow)
    top_side = scene.ball(
        color * np.float32(0.86), 0, _HAT_EDGE + 0.08, 1.1, 0.5, shadow=(0.50, 0.48, 0.54)
    )
    scene.fill(_join(back, rim[::-1]), color=top_side)
    scene.stroke(rim, 0.03, color * np.float32(0.5))
    scene.stroke(back, 0.022, color * np.float32(0.42), 0.8)


def _draw_brim(scene: _Scene, color, cloth, crown: np.ndarray, top: float) -> None:
    t = _span(25)
    scene.fill(crown, color=cloth)
    bow = 0.6 * np.sqrt(np.maximum(0, 1 - t * t))
    band = _join(
        scene.head(0.91 * t, _HAT_EDGE - 0.24 + 0 * t, bow),
        scene.head(0.91 * t, _HAT_EDGE - 0.04 + 0 * t, bow)[::-1],
    )
    scene.fill(band, color=color * np.float32(0.40))
    cos, sin = _circle(40)
    y = _HAT_EDGE - 0.05
    scene.fill(
        scene.head(1.20 * cos, y + 0.12 * sin, 0.25),
        color=scene.ball(color, 0, y - 0.1, 1.4, 0.5, shadow=(0.50, 0.48, 0.54)),
    )
    scene.stroke(
        scene.head(1.20 * cos[:21], y + 0.12 * sin[:21], 0.25), 0.035, color * np.float32(0.6), 0.8
    )
