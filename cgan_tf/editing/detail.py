"""What keep_detail needs to know of a direction: its footprint, and its factor.

With keep_detail an edit adds only the difference between the generated images after and before the
edit to the photo, so that the photo keeps its own detail. Within the direction's footprint that
difference is the edit; outside it is the side effect of a latent that moved, and is left out. Such
an edit changes the photo less than the generated image, so the strength is multiplied by the
factor. The directions stage measures both on validation photos, and an export contains them.
"""

import base64
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cgan_tf.core.errors import UserError

# Candidate footprints from narrow to wide: the share of an edit's energy where the footprint is 1,
# and the share where it is above 0.
SHARES = ((0.3, 0.7), (0.5, 0.8), (0.5, 0.9), (0.7, 0.95), (0.9, 0.98), (0.95, 0.99))
KEPT = 0.98  # minimum fraction of the effect on the regressor that the chosen footprint keeps
BLUR = 1 / 40  # standard deviation of the blur of an edit's energy, as a fraction of the side


def footprint(before: np.ndarray, after: np.ndarray, shares: tuple[float, float]) -> np.ndarray:
    """Where an edit is strongest, float32 `[R, R]` in [0, 1].

    The edit's energy at a pixel is the mean squared difference, blurred. Sorted by falling energy,
    the pixels that make up the first share of the total are 1, those beyond the second share are 0,
    and in between the footprint falls smoothly with the amplitude.

    Args:
        before: generated images of several faces, float32 `[N, R, R, 3]`.
        after: the same faces after the edit.
        shares: of the energy, ascending.
    """
    energy = np.square(np.float32(after) - before).mean(axis=(0, 3))
    energy = gaussian_blur(energy, BLUR * len(energy))
    falling = np.sort(energy, axis=None)[::-1].astype(np.float64)
    if falling[0] <= 0:  # nothing changes, so no pixel is preferred
        return np.ones_like(energy)
    cumulative = np.cumsum(falling) / falling.sum()
    full, none = (np.sqrt(falling[np.searchsorted(cumulative, share)]) for share in shares)
    span = max(full - none, 1e-3 * full)  # an edit of equal energy everywhere acts everywhere
    rise = np.clip(1.0 - (full - np.sqrt(energy)) / span, 0.0, 1.0)
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


def choose_footprint(before: np.ndarray, after: np.ndarray, change: Callable[[str], float]) -> str:
    """The narrowest footprint that keeps `KEPT` of the edit's effect; else the complete image.

    Glasses need a small area, while the hair is at a different place in every photo.

    Args:
        before: see `footprint`.
        after: see `footprint`.
        change: how much the regressor's prediction changes when the edit is confined to an encoded
            footprint.

    Returns:
        The footprint, encoded.
    """
    everywhere = encode(np.ones(before.shape[1:3], np.float32))
    enough = KEPT * change(everywhere)
    for shares in SHARES if enough > 0 else ():
        text = encode(footprint(before, after, shares))
        if change(text) >= enough:
            return text
    return everywhere


def encode(values: np.ndarray) -> str:
    """A footprint `[R, R]` in [0, 1] as text: base64 of its rows in uint8, with 255 for 1."""
    return base64.b64encode(np.rint(values * 255).astype(np.uint8).tobytes()).decode()


def decode(text: str, resolution: int) -> np.ndarray:
    """The footprint float32 `[R, R]` that `encode` has encoded.

    Raises:
        ValueError: not a footprint of this resolution.
    """
    levels = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    return levels.reshape(resolution, resolution).astype(np.float32) / 255


def entries(directions: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Factor and footprint by attribute, from the direction files that contain both."""
    return {
        name: {key: entry["keep_detail"][key] for key in ("factor", "footprint")}
        for name, entry in directions.items()
        if "footprint" in entry.get("keep_detail", {})
    }


@dataclasses.dataclass(frozen=True)
class KeepDetail:
    """The factors and footprints of all directions, in the order of the attributes."""

    factors: np.ndarray  # float32 [K], multiply the strengths
    footprints: np.ndarray  # float32 [K, R, R] in [0, 1]

    @classmethod
    def of(
        cls, entries: Any, attributes: Sequence[str], resolution: int, owner: Path
    ) -> "KeepDetail | None":
        """From the result of `entries`; None if an attribute is missing, as in older models.

        Args:
            entries: {attribute: {"factor", "footprint"}}, of a run or an export's description.
            attributes: the K names.
            resolution: R.
            owner: the model that they belong to, for the error.

        Raises:
            UserError: damaged entries.
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
                f"{owner}: its data for keep_detail is damaged; make the model again"
            ) from None
        return cls(factors, np.stack(footprints))

    def scaled(self, strengths: np.ndarray) -> np.ndarray:
        """The strengths `[..., K]` times the factors: with them the photo changes as calibrated."""
        return strengths * self.factors

    def confine(self, images: np.ndarray, before: np.ndarray, strengths: np.ndarray) -> np.ndarray:
        """The edited images, with the edit confined to the footprints of the active directions.

        Args:
            images: generated images after the edit, float32 `[N, R, R, 3]`.
            before: the same images before the edit.
            strengths: `[N, K]`; a direction is active if its strength is not 0.
        """
        active = (strengths != 0)[:, :, None, None] * self.footprints  # [N, K, R, R]
        return before + active.max(axis=1)[..., None] * (images - before)
