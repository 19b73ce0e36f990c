"""Whether an image is still its photo's: by retrieval among all measured photos.

Cosines of a network's features say little by themselves, since those of strangers are high, too.
Retrieval asks which photo of many is the most similar one.
"""

import numpy as np

_LEAST = 1e-12  # length of features that have no direction


class Gallery:
    """Photos to be found by their features, minus the mean over all of them.

    Args:
        features: the judge's, `[N, D]`.
    """

    def __init__(self, features: np.ndarray) -> None:
        features = np.asarray(features, np.float64)
        self._mean = features.mean(axis=0)
        self._units = self._centered(features)

    def finds(self, features: np.ndarray, owners: np.ndarray) -> np.ndarray:
        """Whether the photo with the largest cosine is the image's own, 0.0 or 1.0, `[M]`.

        Args:
            features: of the images, `[M, D]`.
            owners: the index of each image's own photo.
        """
        nearest = np.argmax(self._centered(features) @ self._units.T, axis=1)
        return (nearest == owners).astype(np.float64)

    @property
    def chance(self) -> float:
        """The share that a random choice finds."""
        return 1.0 / len(self._units)

    def _centered(self, features: np.ndarray) -> np.ndarray:
        rows = np.asarray(features, np.float64) - self._mean
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _LEAST)
