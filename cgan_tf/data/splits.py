"""The split of labelled data without an official one."""

import numpy as np

from cgan_tf.data.source import seeded_split


def labelled_split(labels: np.ndarray) -> dict[str, np.ndarray]:
    """`seeded_split`, repaired so that each part has photos with and without each attribute.

    Of 50 photos, 5 validate; a rare attribute would often be in none of them, and could not be
    calibrated. Where a held-out part lacks a class, one of its photos changes places with a
    training photo of that class, unless the one or the other is the last of some class in its
    part. Large data sets keep the random split.

    Args:
        labels: `[N, K]` in {0, 1}; K may be 0.

    Raises:
        UserError: fewer than 3 images.
    """
    splits = seeded_split(len(labels))
    classes = np.concatenate([labels > 0.5, labels <= 0.5], axis=1)  # [N, 2K]
    for part in ("validation", "test"):
        for column in range(classes.shape[1]):
            if classes[splits[part], column].any():
                continue
            leaving = _dispensable(splits[part], classes)
            train = splits["train"]
            joining = _dispensable(train, classes)
            joining = joining[classes[joining, column]]
            if len(leaving) and len(joining):
                splits[part] = _exchanged(splits[part], leaving[0], joining[0])
                splits["train"] = _exchanged(train, joining[0], leaving[0])
    return splits


def _dispensable(rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The rows that are not the last of any class among them."""
    last = classes[rows].sum(axis=0) == 1
    return rows[~(classes[rows] & last).any(axis=1)]


def _exchanged(rows: np.ndarray, old: int, new: int) -> np.ndarray:
    return np.sort(np.append(rows[rows != old], new))
