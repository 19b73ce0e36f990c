"""Class differences: means over a toy encoder's latents."""

import dataclasses

import numpy as np
import tensorflow as tf

from cgan_tf.data import images
from cgan_tf.stages import class_differences


def test_differences_of_the_class_means_and_the_smaller_class(monkeypatch, faces):
    # The encoder maps a photo to its index and its number of channels.
    def encoder(batch, training):
        rows = [by_pixels[photo.tobytes()] for photo in np.asarray(batch)]
        return tf.constant([[row, 3.0] for row in rows], tf.float32)

    monkeypatch.setattr(class_differences, "PHOTOS", 60)
    labels = faces.labels.copy()
    labels[:, 1] = 1.0
    faces = dataclasses.replace(faces, labels=labels)
    train = faces.splits["train"][:60]
    photos = images.to_float(faces.read(train))
    by_pixels = {photo.tobytes(): float(row) for photo, row in zip(photos, train, strict=True)}
    differences, least = class_differences.class_differences(encoder, faces)
    assert differences.shape == (labels.shape[1], 2) and differences.dtype == np.float32
    for column in (0, 2):
        has = labels[train, column] == 1
        expected = train[has].mean() - train[~has].mean()
        np.testing.assert_allclose(differences[column], [expected, 0.0], rtol=1e-5, atol=1e-6)
        assert least[column] == min(has.sum(), 60 - has.sum())
    assert least[1] == 0 and not differences[1].any()
