"""What --keep_detail needs of a direction: where its edit acts, and how much further it must go.

A photo that gets only the difference between the model's pictures before and after an edit keeps
its own detail. Of that difference only what lies in the direction's footprint is the edit; the rest
is what else the direction moves a little. The directions stage measures both on validation photos,
an export carries them.
"""

import base64
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cgan_tf.core.errors import UserError

# Footprints from narrow to wide: the shares of an edit's energy that lie where it counts whole, and
# where it counts at all; and how much of its effect on the regressor the chosen one must keep.
SHARES = ((0.3, 0.7), (0.5, 0.8), (0.5, 0.9), (0.7, 0.95), (0.9, 0.98), (0.95, 0.99))
KEPT = 0.98
BLUR = 1 / 40  # of the side: standard deviation of what smooths an edit's energy


def footprint(
    before: np.ndarray, after: np.ndarray, shares: tuple[float, float]
) -> np.ndarray:
    """Where an edit is strongest, float32 `[R, R]` from 0 to 1.

    The mean squared difference of each pixel, smoothed, is the edit's energy. Pixels by falling
    energy: those that hold the first share of it are 1, those beyond the second are 0, and the ones
    between fall smoothly with their amplitude.

    Args:
        before: the model's pictures of several faces, float32 `[N, R, R, 3]`.
        after: the same after the edit.
        shares: of the energy, the second larger than the first.
    """
    energy = np.square(np.float32(after) - before).mean(axis=(0, 3))
    energy = gaussian_blur(energy, BLUR * len(energy))
    falling = np.sort(energy, axis=None)[::-1].astype(np.float64)
    if falling[0] <= 0:  # nothing moves: no place is better than another
        return np.ones_like(energy)
    held = np.cumsum(falling) / falling.sum()
    whole, none = (np.sqrt(falling[np.searchsorted(held, share)]) for share in shares)
    span = max(whole - none, 1e-3 * whole)  # an edit that is the same everywhere acts everywhere
    rise = np.clip(1.0 - (whole - np.sqrt(energy)) / span, 0.0, 1.0)
    return (rise * rise * (3.0 - 2.0 * rise)).astype(np.float32)


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of a gray image, float32 `[H, W]`.

    As `cv2.GaussianBlur` without a kernel size: the kernel has round(8 sigma + 1) | 1 taps, and the
    image is reflected at its borders without repeating the border pixels.

    Args:
        image: `[H, W]`, larger than half of the kernel.
        sigma: standard deviation, px.
    """
    radius = (round(8 * sigma + 1) | 1) // 2
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(image.astype(np.float64), radius, mode="reflect")
    for axis in (0, 1):
        padded = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis) @ kernel
    return padded.astype(np.float32)


def choose_footprint(
    before: np.ndarray, after: np.ndarray, change: Callable[[str], float]
) -> str:
    """The narrowest footprint that keeps `KEPT` of what the edit does, else the whole picture.

    Glasses need little room, the color of hair has another place in every photo.

    Args:
        before: see `footprint`.
        after: likewise.
        change: what the regressor sees change when a footprint, as `encode` has it, is kept.

    Returns:
        its text.
    """
    whole = encode(np.ones(before.shape[1:3], np.float32))
    enough = KEPT * change(whole)
    for shares in SHARES if enough > 0 else ():
        text = encode(footprint(before, after, shares))
        if change(text) >= enough:
            return text
    return whole


def encode(shares: np.ndarray) -> str:
    """A footprint as text: base64 of its rows in uint8, 255 for 1."""
    return base64.b64encode(np.rint(shares * 255).astype(np.uint8).tobytes()).decode()


def decode(text: str, resolution: int) -> np.ndarray:
    """A footprint float32 `[R, R]` from its text.

    Raises:
        ValueError: it is none of this resolution.
    """
    levels = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    return levels.reshape(resolution, resolution).astype(np.float32) / 255


def entries(directions: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Factor and footprint by attribute, of the direction files that have both."""
    return {
        name: {key: entry["keep_detail"][key] for key in ("factor", "footprint")}
        for name, entry in directions.items()
        if "footprint" in entry.get("keep_detail", {})
    }


@dataclasses.dataclass(frozen=True)
class KeepDetail:
    """The directions' footprints and factors, in the order of the attributes."""

    factors: np.ndarray  # float32 [K], of the strengths
    footprints: np.ndarray  # float32 [K, R, R]

    @classmethod
    def of(
        cls, entries: Any, attributes: Sequence[str], resolution: int, owner: Path
    ) -> "KeepDetail | None":
        """What `entries` has made; None where an attribute lacks its own, as in older models.

        Args:
            entries: {attribute: {"factor", "footprint"}}, of a run or in an export's description.
            attributes: the K names.
            resolution: R.
            owner: whose entries they are, for the error.

        Raises:
            UserError: they are damaged.
        """
        found = [entries.get(name) for name in attributes] if isinstance(entries, Mapping) else []
        if not found or not all(isinstance(entry, Mapping) for entry in found):
            return None
        try:
            factors = np.float32([entry["factor"] for entry in found])
            footprints = [decode(entry["footprint"], resolution) for entry in found]
            if not np.isfinite(factors).all():
                raise ValueError("a factor is not finite")
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{owner}: what it says for --keep_detail is damaged; make it anew"
            ) from None
        return cls(factors, np.stack(footprints))

    def scaled(self, strengths: np.ndarray) -> np.ndarray:
        """Strengths `[..., K]` at which the photo changes as much as these promise."""
        return strengths * self.factors

    def confine(
        self, images: np.ndarray, before: np.ndarray, strengths: np.ndarray
    ) -> np.ndarray:
        """The edited pictures, as before the edit wherever none of its directions acts.

        Args:
            images: the model's edited pictures, float32 `[N, R, R, 3]`.
            before: the same without an edit.
            strengths: `[N, K]` of the edits; directions at 0 have no part in them.
        """
        active = (strengths != 0)[:, :, None, None] * self.footprints  # [N, K, R, R]
        return before + active.max(axis=1)[..., None] * (images - before)
