"""Runs an exported model and the Keras model on the same photos, and compares every output.

The export's first check: a variant that differs by more than its bounds, or is not finite, is not
published. The second, `export.gates`, compares the effect of the edits.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from cgan_tf.editing import description
from cgan_tf.editing.backends import Backend, sample_prior
from cgan_tf.evaluation import metrics

BATCH = 16  # rows compared at a time
TIMED, WARM_UP = 50, 5  # timed calls of a signature, and calls before them
_LEAST_ERROR = 1e-20  # mean square; equal images get 206 dB instead of infinity


@dataclasses.dataclass(frozen=True)
class Bounds:
    """A variant's limits; None is no limit."""

    max_difference: float | None = None  # maximum |difference| from Keras, in every signature
    psnr: float | None = None  # minimum, dB, of every signature's images


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The inputs of both models, float32, one row per photo."""

    image: np.ndarray  # [N, R, R, 3] in [-1, 1]
    strengths: np.ndarray  # [N, K], U(-1, 1)
    z: np.ndarray  # [N, z_dim], from the prior
    code: dict[str, np.ndarray]  # from the Keras encoder: latent, and features if there are any

    def of(self, signature: str) -> dict[str, np.ndarray]:
        """The inputs of a signature, by name."""
        names = description.signatures("features" in self.code)[signature]["inputs"]
        values = {"image": self.image, "strengths": self.strengths, "z": self.z} | self.code
        return {name: values[name] for name in names}


def make_inputs(reference: Backend, image: np.ndarray, z_dim: int, prior: str, seed: int) -> Inputs:
    """Samples strengths and z from the seed, and encodes the photos with the reference.

    Args:
        reference: the Keras backend.
        image: float32 `[N, R, R, 3]` in [-1, 1].
        z_dim: size of z.
        prior: "normal" or "uniform".
        seed: seed of the random samples.
    """
    count = len(image)
    draw = np.random.Generator(np.random.PCG64([seed, 0xE]))
    strengths = draw.uniform(-1, 1, (count, len(reference.attributes)))
    z = sample_prior(draw, prior, count, z_dim)
    return Inputs(
        image=np.float32(image),
        strengths=np.float32(strengths),
        z=z,
        code=run_batched(reference, "encode", {"image": np.float32(image)}),
    )


def run_batched(
    backend: Backend, signature: str, inputs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The signature's outputs for all rows, computed `BATCH` rows at a time."""
    count = len(next(iter(inputs.values())))
    parts = [
        backend.run(
            signature, **{name: value[start : start + BATCH] for name, value in inputs.items()}
        )
        for start in range(0, count, BATCH)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def compare(
    reference: dict[str, dict[str, np.ndarray]],
    candidate: Backend,
    inputs: Inputs,
    signatures: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Per signature: n, whether all is finite, the max and mean absolute difference, and psnr.

    Images and scores are in [-1, 1]. A latent has no such range, so differences are divided by
    Keras's largest absolute value, if it is above 1 (`scale`); likewise the features. `psnr` is in
    dB, over all images together, and None where the output is not an image. The figures of a
    signature are those of the output whose maximum difference is largest (`output`).

    Args:
        reference: outputs of the Keras backend for `inputs`, by signature.
        candidate: the exported model.
        inputs: the inputs that gave `reference`.
        signatures: the signatures to compare.
    """
    figures = {}
    for signature in signatures:
        outputs = run_batched(candidate, signature, inputs.of(signature))
        expected = reference[signature]
        shapes, wanted = ({n: v.shape for n, v in each.items()} for each in (outputs, expected))
        if shapes != wanted:
            raise ValueError(f"{signature}: outputs {shapes}, not {wanted}")
        each = [_figures(name, value, expected[name]) for name, value in outputs.items()]
        figures[signature] = max(each, key=_severity)
    return figures


def _figures(name: str, output: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    """The figures of one output; see `compare`."""
    finite = bool(np.isfinite(output).all())
    scale = max(1.0, float(np.abs(expected).max()))
    difference = np.abs(np.float64(output) - expected) / scale
    return {
        "output": name,
        "n": len(output),
        "finite": finite,
        "scale": scale,
        "max_difference": float(difference.max()) if finite else None,
        "mean_difference": float(difference.mean()) if finite else None,
        "psnr": _psnr(difference) if finite and name == "image" else None,
    }


def _severity(figures: dict[str, Any]) -> float:
    return figures["max_difference"] if figures["finite"] else np.inf


def _psnr(difference: np.ndarray) -> float:
    error = max(float(np.square(difference).mean()), _LEAST_ERROR)
    return 10.0 * float(np.log10(metrics.PEAK**2 / error))


def verdict(figures: dict[str, dict[str, Any]], bounds: Bounds) -> str | None:
    """None if every signature is finite and within bounds, else the first failure in words."""
    for signature, figure in figures.items():
        if not figure["finite"]:
            return f"{signature} returns NaN or infinite values"
        if bounds.max_difference is not None and figure["max_difference"] > bounds.max_difference:
            return (
                f"{signature} differs from Keras by {figure['max_difference']:.2g} "
                f"(at most {bounds.max_difference:g})"
            )
        if bounds.psnr is not None and (figure["psnr"] or bounds.psnr) < bounds.psnr:
            return (
                f"{signature} has a PSNR of {figure['psnr']:.1f} dB to Keras's images "
                f"(at least {bounds.psnr:g})"
            )
    return None


def latency(backend: Backend, inputs: Inputs, signatures: Sequence[str]) -> dict[str, float]:
    """Median time of one call with one row, in ms, by signature; includes the Python call."""
    milliseconds = {}
    for signature in signatures:
        row = {name: value[:1] for name, value in inputs.of(signature).items()}
        seconds = []
        for _ in range(WARM_UP + TIMED):
            start = time.perf_counter()
            backend.run(signature, **row)
            seconds.append(time.perf_counter() - start)
        milliseconds[signature] = 1e3 * float(np.median(seconds[WARM_UP:]))
    return milliseconds
