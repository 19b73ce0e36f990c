"""Hyperplanes in latent space that separate an attribute (InterFaceGAN, Shen et al. 2020)."""

from collections.abc import Mapping

import numpy as np
from sklearn import linear_model, pipeline, preprocessing

from cgan_tf.core.errors import UserError
from cgan_tf.evaluation.scores import LabelledSamples

CONFIDENT = 0.1  # share of all samples that each class contributes at most
LEAST = 50  # samples that each class needs
SPANNED = 1e-3  # share of a direction that must be left after conditional projection


def as_rows(values: np.ndarray) -> np.ndarray:
    """One flat latent or direction per row, float64 `[N, D]`."""
    return np.asarray(values, np.float64).reshape(len(values), -1)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """One flat direction of length 1 per row, float64 `[N, D]`."""
    rows = as_rows(vectors)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def has_enough_samples(samples: LabelledSamples, column: int) -> bool:
    """Whether each class of an attribute has `LEAST` samples, as `find_hyperplane` requires."""
    return min(map(len, _most_confident(samples, column))) >= LEAST


def _most_confident(samples: LabelledSamples, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the most confident samples without and with an attribute."""
    score = samples.scores[:, column]
    order = np.argsort(score, kind="stable")
    most = max(1, int(CONFIDENT * len(order)))
    negative, positive = order[:most], order[-most:]
    return negative[score[negative] <= 0.5], positive[score[positive] > 0.5]


def find_hyperplane(
    samples: LabelledSamples, column: int, name: str
) -> tuple[np.ndarray, dict[str, int]]:
    """The unit normal of the plane that separates samples with an attribute from those without.

    After InterFaceGAN (Shen et al. 2020, section 3.1). Samples are classified by R's score (above
    0.5, or not); of each class, the most confident ones are used, at most the share `CONFIDENT` of
    all samples. Logistic regression learns on standardized coordinates; the normal is converted
    back to those of the latent.

    Args:
        samples: of the latent space.
        column: of the scores.
        name: of the attribute, for the error.

    Returns:
        float32 `[*latent_shape]`, pointing towards the attribute; and the number of samples used,
        {"positive": n, "negative": n}.

    Raises:
        UserError: a class has fewer than `LEAST` samples.
    """
    negative, positive = _most_confident(samples, column)
    fewest = min(len(negative), len(positive))
    if fewest < LEAST:
        which = "without" if len(negative) < LEAST else "with"
        raise UserError(
            f"--directions_samples={len(samples.scores)}: the regressor finds only {fewest} "
            f"samples {which} {name}, and a hyperplane needs {LEAST}; raise the number, or leave "
            f"{name} out"
        )
    rows = np.concatenate([negative, positive])
    flat, labels = as_rows(samples.latents[rows]), samples.scores[rows, column] > 0.5
    scale, plane = fit_plane(flat, labels)
    normal = plane.coef_[0] / scale.scale_  # score = coef . (x - mean) / scale
    normal = (normal / np.linalg.norm(normal)).reshape(samples.latents.shape[1:])
    return normal.astype(np.float32), {"positive": len(positive), "negative": len(negative)}


def fit_plane(latents: np.ndarray, labels: np.ndarray) -> pipeline.Pipeline:
    """Logistic regression on standardized latents `[N, D]`, with both classes weighted equally.

    The steps of the pipeline are the scaler and the plane; it predicts labels `[N]` from latents
    as they are, before standardization.
    """
    return pipeline.make_pipeline(
        preprocessing.StandardScaler(),
        linear_model.LogisticRegression(class_weight="balanced", max_iter=1000),
    ).fit(latents, labels)


def project_out(name: str, vector: np.ndarray, normals: Mapping[str, np.ndarray]) -> np.ndarray:
    """The vector without its component in the span of the preserved attributes' normals.

    Conditional manipulation (Shen et al. 2020, section 3.3) for any number of conditions: the
    vector minus its least-squares fit by the normals. Moving along the result crosses none of the
    hyperplanes.

    Args:
        name: of the edited attribute, for the error.
        vector: `[*latent_shape]`, of any family and length.
        normals: `[*latent_shape]` by preserved attribute.

    Returns:
        float32 `[*latent_shape]`, as long as the vector.

    Raises:
        UserError: nothing is left.
    """
    flat = np.asarray(vector, np.float64).ravel()
    columns = as_rows(np.stack(list(normals.values()))).T  # [D, conditions]
    rest = flat - columns @ np.linalg.lstsq(columns, flat, rcond=None)[0]
    length = np.linalg.norm(flat)
    if np.linalg.norm(rest) <= SPANNED * length:
        raise UserError(
            f"--directions_condition={name}:{'+'.join(normals)}: nothing is left of the direction "
            "under these conditions; preserve fewer attributes"
        )
    rest *= length / np.linalg.norm(rest)
    return rest.reshape(np.shape(vector)).astype(np.float32)


def cosines(vectors: np.ndarray) -> np.ndarray:
    """Cosines `[K, K]` between directions `[K, *latent_shape]`."""
    units = unit_rows(vectors)
    return units @ units.T
