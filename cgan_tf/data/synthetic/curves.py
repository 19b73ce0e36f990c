"""Polygons and smooth curves of which the parts of a face are made."""

import functools
import math

import numpy as np

SIDES = np.array([[-1.0], [1.0]])  # multiplies x: the same shape on both sides of the face


@functools.cache
def _spline_matrix(count: int, closed: bool, steps: int) -> np.ndarray:
    """Matrix [m, count] that samples the Catmull-Rom spline through `count` points."""
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


def curve(points, closed: bool = False, steps: int = 5) -> np.ndarray:
    """Smooth curve through points [n, d] -> the coordinates [d, m] of its samples."""
    points = np.asarray(points, float)
    return (_spline_matrix(len(points), closed, steps) @ points).T


def mirrored(half) -> np.ndarray:
    """Right half of a shape [n, d] whose ends lie on the axis -> points of the complete shape."""
    half = np.asarray(half, float)
    left = half[-2:0:-1].copy()
    left[:, 0] *= -1
    return np.concatenate([half, left])


@functools.cache
def circle(count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of `count` equally spaced angles."""
    angle = np.arange(count) * (2 * math.pi / count)
    return np.cos(angle), np.sin(angle)


@functools.cache
def span(count: int) -> np.ndarray:
    """`count` equally spaced numbers from -1 to 1."""
    return np.linspace(-1.0, 1.0, count)


def join(*lines) -> np.ndarray:
    """Concatenates lines along their last axis."""
    return np.concatenate(lines, axis=-1)
