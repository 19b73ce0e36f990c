"""Runs an exported editor beside the Keras model on the same photos, and compares every output.

The first gate of the export: what differs by more than its bounds, or is not finite, is not
published. The second, `export.edits`, asks what becomes of the edits.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from cgan_tf.editing.backends import Editor, draw_prior
from cgan_tf.evaluation import metrics

BATCH = 16  # rows that are compared at a time
TIMED, WARM_UP = 50, 5  # calls of a signature whose time is taken, and calls before them
_LEAST_ERROR = 1e-20  # mean square: what is equal has 206 dB, not infinitely many


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a variant must keep; None is not asked for."""

    max_difference: float | None = None  # of any value from Keras's, in every signature
    psnr: float | None = None  # dB, at least, of every signature's images


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What both sides are given, float32, one row per photo."""

    image: np.ndarray  # [N, R, R, 3] in [-1, 1]
    strengths: np.ndarray  # [N, K], U(-1, 1)
    latent: np.ndarray  # [N, *latent_shape], the Keras encoder's
    z: np.ndarray  # [N, z_dim], from the prior

    def of(self, signature: str) -> dict[str, np.ndarray]:
        """The inputs of a signature, by name."""
        names = {
            "translate": ("image", "strengths"),
            "encode": ("image",),
            "generate": ("latent", "strengths"),
            "sample": ("z",),
            "attributes": ("image",),
        }[signature]
        return {name: getattr(self, name) for name in names}


def make_inputs(reference: Editor, image: np.ndarray, z_dim: int, prior: str, seed: int) -> Inputs:
    """Draws strengths and z from the seed, and encodes the photos with the reference.

    Args:
        reference: the Keras editor.
        image: float32 `[N, R, R, 3]` in [-1, 1].
        z_dim: size of z.
        prior: "normal" or "uniform".
        seed: of the draws.
    """
    count = len(image)
    draw = np.random.Generator(np.random.PCG64([seed, 0xE]))
    strengths = draw.uniform(-1, 1, (count, len(reference.attributes)))
    z = draw_prior(draw, prior, count, z_dim)
    return Inputs(
        image=np.float32(image),
        strengths=np.float32(strengths),
        latent=run_batched(reference, "encode", {"image": np.float32(image)}),
        z=z,
    )


def run_batched(editor: Editor, signature: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """The signature's output for all rows, `BATCH` at a time; the last batch may be smaller."""
    count = len(next(iter(inputs.values())))
    return np.concatenate(
        [
            editor.run(
                signature,
                **{name: value[start : start + BATCH] for name, value in inputs.items()},
            )
            for start in range(0, count, BATCH)
        ]
    )


def compare(
    reference: dict[str, np.ndarray],
    candidate: Editor,
    inputs: Inputs,
    signatures: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Per signature: n, whether all is finite, the max and mean absolute difference, and psnr.

    Images and scores lie in [-1, 1]. A latent has no such range, so differences are divided by
    the largest absolute value that Keras gives, where it is more than 1 (`scale`). `psnr` is in dB,
    of all images together, and None where the output is no image.

    Args:
        reference: the Keras editor's outputs for `inputs`, by signature.
        candidate: the exported editor.
        inputs: the same that the reference had.
        signatures: which to compare.
    """
    figures = {}
    for signature in signatures:
        output = run_batched(candidate, signature, inputs.of(signature))
        expected = reference[signature]
        if output.shape != expected.shape:
            raise ValueError(f"{signature}: output {output.shape}, not {expected.shape}")
        finite = bool(np.isfinite(output).all())
        scale = max(1.0, float(np.abs(expected).max()))
        difference = np.abs(np.float64(output) - expected) / scale
        figures[signature] = {
            "n": len(output),
            "finite": finite,
            "scale": scale,
            "max_difference": float(difference.max()) if finite else None,
            "mean_difference": float(difference.mean()) if finite else None,
            "psnr": _psnr(difference) if finite and output.ndim == 4 else None,
        }
    return figures


def _psnr(difference: np.ndarray) -> float:
    error = max(float(np.square(difference).mean()), _LEAST_ERROR)
    return 10.0 * float(np.log10(metrics.PEAK**2 / error))


def verdict(figures: dict[str, dict[str, Any]], bounds: Bounds) -> str | None:
    """None if every signature is finite and within the bounds, else the first fault in words."""
    for signature, figure in figures.items():
        if not figure["finite"]:
            return f"{signature} gives NaN or infinite values"
        if bounds.max_difference is not None and figure["max_difference"] > bounds.max_difference:
            return (
                f"{signature} differs from Keras by {figure['max_difference']:.2g} "
                f"(at most {bounds.max_difference:g})"
            )
        if bounds.psnr is not None and (figure["psnr"] or bounds.psnr) < bounds.psnr:
            return (
                f"{signature} is at {figure['psnr']:.1f} dB from Keras's images "
                f"(at least {bounds.psnr:g})"
            )
    return None


def latency(editor: Editor, inputs: Inputs, signatures: Sequence[str]) -> dict[str, float]:
    """Median milliseconds of one call with one row, by signature, the Python call included."""
    milliseconds = {}
    for signature in signatures:
        row = {name: value[:1] for name, value in inputs.of(signature).items()}
        seconds = []
        for _ in range(WARM_UP + TIMED):
            start = time.perf_counter()
            editor.run(signature, **row)
            seconds.append(time.perf_counter() - start)
        milliseconds[signature] = 1e3 * float(np.median(seconds[WARM_UP:]))
    return milliseconds
