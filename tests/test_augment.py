"""cgan_tf.augment: shapes, range, what moves and what does not."""

import keras
import numpy as np
import tensorflow as tf

from cgan_tf import augment


def photos(count, side, low=-1.0, high=1.0):
    return np.random.default_rng(0).uniform(low, high, (count, side, side, 3)).astype(np.float32)


def without_color(monkeypatch):
    monkeypatch.setattr(augment, "BRIGHTNESS", 0.0)
    monkeypatch.setattr(augment, "CONTRAST", 0.0)


def test_shape_and_range():
    jittered = augment.jitter(photos(6, 32), keras.random.SeedGenerator(0))
    assert jittered.shape == (6, 32, 32, 3) and jittered.dtype == tf.float32
    assert -1.0 <= float(tf.reduce_min(jittered)) and float(tf.reduce_max(jittered)) <= 1.0


def test_shifts_each_photo_by_whole_pixels_and_nothing_else(monkeypatch):
    without_color(monkeypatch)
    side, pad = 32, 2  # a sixteenth
    images = photos(40, side)
    jittered = augment.jitter(images, keras.random.SeedGenerator(1)).numpy()
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    shifts = set()
    for image, wanted in zip(padded, jittered, strict=True):
        found = [
            (row, column)
            for row in range(2 * pad + 1)
            for column in range(2 * pad + 1)
            if np.allclose(image[row : row + side, column : column + side], wanted, atol=1e-6)
        ]
        assert len(found) == 1
        shifts.update(found)
    assert {row for row, _ in shifts} == {column for _, column in shifts} == set(range(5))


def test_brightness_and_contrast_keep_to_their_bounds(monkeypatch):
    monkeypatch.setattr(augment, "SHIFT", 0.0)
    images = photos(200, 8, -0.2, 0.2)  # nothing is clipped
    jittered = augment.jitter(images, keras.random.SeedGenerator(2)).numpy()
    axes = (1, 2, 3)
    brightness = jittered.mean(axes) - images.mean(axes)
    contrast = jittered.std(axes) / images.std(axes)
    assert -0.2 <= brightness.min() < -0.17 and 0.17 < brightness.max() <= 0.2001
    assert 0.7999 <= contrast.min() < 0.83 and 1.17 < contrast.max() <= 1.2001
    # Each photo by its own draw.
    assert len(np.unique(brightness.round(6))) > 190


def test_equal_seeds_give_equal_photos_and_the_seed_advances():
    images = photos(4, 16)
    seed = keras.random.SeedGenerator(3)
    first, second = augment.jitter(images, seed), augment.jitter(images, seed)
    again = augment.jitter(images, keras.random.SeedGenerator(3))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)
