"""The image in progress and the drawing primitives: masks, fills, strokes, glows and blur."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Window = tuple[slice, slice]  # rows, columns


class Canvas:
    """An image in progress, float32 [3, R, R] in [0, 1].

    Coverage masks are drawn supersampled and averaged down. Points are complex numbers x + iy in
    pixels; arrays of points are polygons [n] or several polygons [k, n]. Colors are [3], color
    fields [3, h, w].

    Args:
        resolution: R.
        unit: pixels per head unit, in which widths and radii are given.
    """

    def __init__(self, resolution: int, unit: float) -> None:
        self.resolution = resolution
        self.unit = unit
        self.pixels = np.zeros((3, resolution, resolution), np.float32)
        # Masks have at least 256 px per side, so small images are averaged over more samples.
        self.supersample = 3 if resolution > 128 else max(4, -(-256 // resolution))
        self.stencil = Image.new("L", (resolution * self.supersample,) * 2)
        self.pen = ImageDraw.Draw(self.stencil)

    def mask(self, *shapes: np.ndarray, window: Window | None = None) -> tuple[Window, np.ndarray]:
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

    def blend(self, window: Window, alpha: np.ndarray, color) -> None:
        """Blends a color [3] or a field [3, h, w] over the window with weights [h, w]."""
        part = self.pixels[:, window[0], window[1]]
        part += alpha * ((color if color.ndim == 3 else color[:, None, None]) - part)

    def fill(self, *shapes: np.ndarray, color, opacity: float = 1.0) -> tuple[Window, np.ndarray]:
        """Fills polygons with a color [3] or with a field given as a function of the window."""
        window, alpha = self.mask(*shapes)
        if opacity != 1.0:
            alpha *= np.float32(opacity)
        self.blend(window, alpha, color(window) if callable(color) else color)
        return window, alpha

    def stroke(self, line: np.ndarray, width, color, opacity: float = 1.0) -> None:
        """Draws lines [n] or [k, n]; their `width` in head units is a scalar or varies, [n]."""
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
        """Draws a soft spot around a point: radii in head units, `clip` a mask [R, R]."""
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
        self.blend(window, alpha if clip is None else alpha * clip[window], color)

    def blur(self, alpha: np.ndarray, radius: float) -> np.ndarray:
        """Gaussian blur of a mask [h, w]; `radius` in head units."""
        image = Image.fromarray((alpha * 255).astype(np.uint8))
        image = image.filter(ImageFilter.GaussianBlur(radius * self.unit))
        return np.asarray(image, np.float32) * np.float32(1 / 255)
