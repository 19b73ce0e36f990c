"""Hyperplanes in latent space that separate an attribute (InterFaceGAN, Shen et al. 2020)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from sklearn import linear_model, pipeline, preprocessing

from cgan_tf.core.errors import UserError

CONFIDENT = 0.1  # share of the samples that are kept of either class, at most
LEAST = 50  # samples that either class needs
SPANNED = 1e-3  # share of a direction that must be left when others are held


class Samples(NamedTuple):
    """Latents from the prior and what R says of their images."""

    latents: np.ndarray  # float32 [N, *latent_shape]
    scores: np.ndarray  # float32 [N, all attributes] in [0, 1]


def _rows(values: np.ndarray) -> np.ndarray:
    """One latent or direction per row."""
    return np.asarray(values, np.float64).reshape(len(values), -1)


def _units(vectors: np.ndarray) -> np.ndarray:
    """One direction per row, each of length 1."""
    rows = _rows(vectors)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# ---- hyperplanes, and holding others ------------------------------------------------------------


def enough(samples: Samples, column: int) -> bool:
    """Whether either class of an attribute has `LEAST` samples, as `hyperplane` needs."""
    return min(map(len, _surest(samples, column))) >= LEAST


def _surest(samples: Samples, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the surest samples without and with an attribute, see `hyperplane`."""
    score = samples.scores[:, column]
    order = np.argsort(score, kind="stable")
    most = max(1, int(CONFIDENT * len(order)))
    negative, positive = order[:most], order[-most:]
    return negative[score[negative] <= 0.5], positive[score[positive] > 0.5]


def hyperplane(samples: Samples, column: int, name: str) -> tuple[np.ndarray, dict[str, int]]:
    """The unit normal of the plane that parts samples with an attribute from those without.

    After InterFaceGAN (Shen et al. 2020, section 3.1). Of either class by R (above 0.5, or not)
    the `CONFIDENT` share of all samples is kept at most, the surest ones. Logistic regression
    learns on standardized coordinates; the normal is that of the latent's own.

    Args:
        samples: see `label`.
        column: of the scores.
        name: the attribute's, for the error.

    Returns:
        float32 `[*latent_shape]`, towards the attribute; {"positive": n, "negative": n}, the
        samples that were kept.

    Raises:
        UserError: fewer than `LEAST` samples of one class.
    """
    negative, positive = _surest(samples, column)
    fewest = min(len(negative), len(positive))
    if fewest < LEAST:
        few = "without" if len(negative) < LEAST else "with"
        raise UserError(
            f"--directions_samples={len(samples.scores)}: only "
            f"{fewest} are {few} {name} by the regressor, its "
            f"hyperplane needs {LEAST}; raise the number, or leave {name} out"
        )
    rows = np.concatenate([negative, positive])
    flat, labels = _rows(samples.latents[rows]), samples.scores[rows, column] > 0.5
    scale, plane = fit_plane(flat, labels)
    normal = plane.coef_[0] / scale.scale_  # score = coef . (x - mean) / scale
    normal = (normal / np.linalg.norm(normal)).reshape(samples.latents.shape[1:])
    return normal.astype(np.float32), {"positive": len(positive), "negative": len(negative)}


def fit_plane(latents: np.ndarray, labels: np.ndarray) -> pipeline.Pipeline:
    """Logistic regression on standardized latents `[N, D]`, both classes of equal weight.

    Its two steps are the scale and the plane; it predicts labels `[N]` of latents as they are.
    """
    return pipeline.make_pipeline(
        preprocessing.StandardScaler(),
        linear_model.LogisticRegression(class_weight="balanced", max_iter=1000),
    ).fit(latents, labels)


def project_out(name: str, vector: np.ndarray, held: Mapping[str, np.ndarray]) -> np.ndarray:
    """The vector without its part in the span of the held attributes' normals.

    Conditional projection (Shen et al. 2020, section 3.3) for any number of held attributes: the
    vector minus its least-squares fit by the normals. Along the rest their planes are not crossed.

    Args:
        name: the attribute's, for the error.
        vector: `[*latent_shape]`, of any family and length.
        held: normals `[*latent_shape]` by attribute.

    Returns:
        float32 `[*latent_shape]`, as long as the vector.

    Raises:
        UserError: nothing is left.
    """
    flat = np.asarray(vector, np.float64).ravel()
    normals = _rows(np.stack(list(held.values()))).T  # [D, held]
    rest = flat - normals @ np.linalg.lstsq(normals, flat, rcond=None)[0]
    length = np.linalg.norm(flat)
    if np.linalg.norm(rest) <= SPANNED * length:
        raise UserError(
            f"--directions_condition={name}:{'+'.join(held)}: nothing of the direction is left when they are held; "
            "hold fewer"
        )
    rest *= length / np.linalg.norm(rest)
    return rest.reshape(np.shape(vector)).astype(np.float32)


def cosines(vectors: np.ndarray) -> np.ndarray:
    """Cosines `[K, K]` between directions `[K, *latent_shape]`."""
    units = _units(vectors)
    return units @ units.T
