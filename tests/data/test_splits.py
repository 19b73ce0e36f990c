"""The split of labelled data."""

import numpy as np
import pytest

from cgan_tf.data.source import seeded_split
from cgan_tf.data.splits import labelled_split


def labels_of(count, *positives):
    labels = np.zeros((count, len(positives)), np.float32)
    for column, rows in enumerate(positives):
        labels[rows, column] = 1
    return labels


def is_partition(splits, count):
    together = np.concatenate(list(splits.values()))
    return np.array_equal(np.sort(together), np.arange(count))


@pytest.mark.parametrize("rare", [1, 0])
def test_a_rare_class_reaches_every_part(rare):
    train = seeded_split(50)["train"]
    labels = labels_of(50, train[:5])
    labels = labels if rare else 1 - labels
    splits = labelled_split(labels)
    assert [np.sum(labels[splits[name], 0] == rare) for name in splits] == [3, 1, 1]
    assert [len(rows) for rows in splits.values()] == [40, 5, 5] and is_partition(splits, 50)


def test_the_last_photo_of_a_class_is_not_taken_away():
    random = seeded_split(50)
    hat = random["train"][:2]
    beard = np.append(random["train"][2:6], random["validation"][0])
    splits = labelled_split(labels_of(50, hat, beard))
    assert [np.isin(hat, splits[name]).sum() for name in splits] == [1, 1, 0]
    assert [np.isin(beard, splits[name]).sum() for name in splits] == [3, 1, 1]
    assert is_partition(splits, 50)


def test_a_split_that_has_every_class_stays_random():
    labels = labels_of(200, np.arange(0, 200, 2), np.arange(0, 200, 3))
    for name, rows in labelled_split(labels).items():
        np.testing.assert_array_equal(rows, seeded_split(200)[name])
    for name, rows in labelled_split(np.zeros((200, 0), np.float32)).items():
        np.testing.assert_array_equal(rows, seeded_split(200)[name])
