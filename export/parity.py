"""Runs an exported editor beside the Keras model on the same photos, and compares every output.

The gate of the export: what differs by more than its bound, or is not finite, is not published.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cgan_tf.editors import Editor, draw_prior

BATCH = 16  # rows that are compared at a time


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
    """Per signature: n, whether all is finite, and the max and mean absolute difference.

    Images and scores lie in [-1, 1]. A latent has no such range, so differences are divided by
    the largest absolute value that Keras gives, where it is more than 1 (`scale`).

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
        }
    return figures


def verdict(figures: dict[str, dict[str, Any]], bound: float) -> str | None:
    """None if every signature is finite and within `bound`, else the first fault in words."""
    for signature, figure in figures.items():
        if not figure["finite"]:
            return f"{signature} gives NaN or infinite values"
        if figure["max_difference"] > bound:
            return (
                f"{signature} differs from Keras by {figure['max_difference']:.2g} "
                f"(at most {bound:g})"
            )
    return None
