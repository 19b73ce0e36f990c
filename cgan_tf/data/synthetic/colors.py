"""Colors as float32 RGB in [0, 1]: conversion and interpolation."""

from collections.abc import Sequence

import numpy as np


def rgb(*values: float) -> np.ndarray:
    """Levels in 0..255 -> float32 [3] in [0, 1]."""
    return np.array(values, np.float32) / np.float32(255)


WHITE = rgb(255, 255, 255)


def mix(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """Linear interpolation from `a` (share 0) to `b` (share 1)."""
    return a + (b - a) * np.float32(share)


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """Hue, saturation and value in [0, 1] -> RGB, float32 [3]."""
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6.0) % 6.0
    fall = np.minimum(np.maximum(np.minimum(k, 4 - k), 0), 1)
    return (value - value * saturation * fall).astype(np.float32)


def ramp(colors: Sequence[np.ndarray], share: float) -> np.ndarray:
    """Linear interpolation along a list of colors; `share` is clipped to [0, 1]."""
    place = min(max(share, 0.0), 1.0) * (len(colors) - 1)
    index = min(int(place), len(colors) - 2)
    return mix(colors[index], colors[index + 1], place - index)
