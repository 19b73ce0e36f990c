"""Whether an image shows its photo's person, by a face recognizer of the user's.

Two images are of the same person if their distance is below a threshold. It is chosen on the photos
themselves, so that only 0.1 % or 1 % of the pairs of different photos are below it: false accepts,
if all photos are of different people. Photos of one person among them make it stricter.
"""

import numpy as np

from cgan_tf.editing.recognizer import Recognizer
from cgan_tf.evaluation.batching import choose
from cgan_tf.evaluation.statistics import Numbers, mean

# The figures, and of how many pairs of different photos one may be accepted.
FALSE_ACCEPTS = {"same_person_at_0.1": 1000, "same_person_at_1": 100}
PAIRED = 2000  # photos whose pairs give the thresholds: two million pairs


class Identity:
    """Photos whose people are to be recognized in other images.

    Attributes:
        thresholds: by figure, the distance below which two images show the same person; None with
            fewer pairs than the figure needs.
        pairs: number of pairs behind the thresholds.
        floor: by figure, the share of pairs of different photos that are accepted.

    Args:
        recognizer: of the user.
        images: the photos' face crops, float32 `[N, R, R, 3]`.
        seed: of the choice of photos, if there are more than `PAIRED`.
    """

    def __init__(self, recognizer: Recognizer, images: np.ndarray, seed: int) -> None:
        self.recognizer = recognizer
        self._vectors = recognizer.embed(images)
        rows = choose(np.arange(len(images)), PAIRED, seed)
        strangers = recognizer.pair_distances(self._vectors[rows])
        self.pairs = len(strangers)
        self.thresholds = {
            key: threshold(strangers, one_in) for key, one_in in FALSE_ACCEPTS.items()
        }
        self.floor = {
            key: None if limit is None else mean(strangers < limit)
            for key, limit in self.thresholds.items()
        }

    def same_person(self, images: np.ndarray, owners: np.ndarray) -> dict[str, np.ndarray]:
        """By figure, whether each image shows its photo's person: 0.0, 1.0 or NaN, `[M]`.

        Args:
            images: float32 `[M, R, R, 3]`.
            owners: the index of each image's own photo.
        """
        vectors = self.recognizer.embed(images)
        distances = self.recognizer.distances(vectors, self._vectors[owners])
        return {
            key: np.full(len(images), np.nan) if limit is None else (distances < limit) * 1.0
            for key, limit in self.thresholds.items()
        }

    def block(self, images: np.ndarray, seed: int) -> Numbers:
        """The `identity` block of the report.

        Args:
            images: the photos again, `[N, R, R, 3]`; mirrored, they are the ceiling.
            seed: for the report.
        """
        mirrored = self.same_person(images[:, :, ::-1], np.arange(len(images)))
        return {
            "model": self.recognizer.description,
            "thresholds": self.thresholds,
            "floor": self.floor,
            "ceiling": {key: mean(values) for key, values in mirrored.items()},
            "pairs": self.pairs,
            "n": len(images),
            "seed": seed,
        }


def threshold(distances: np.ndarray, one_in: int) -> float | None:
    """The distance below which at most one in so many of the distances lies; None if too few."""
    allowed = len(distances) // one_in
    return float(np.partition(distances, allowed)[allowed]) if allowed else None
