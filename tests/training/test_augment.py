"""cgan_tf.training.augment: shapes, ranges, and the effect of each augmentation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cgan_tf.training import augment


def photos(count, side, low=-1.0, high=1.0):
    return np.random.default_rng(0).uniform(low, high, (count, side, side, 3)).astype(np.float32)


def without_color(monkeypatch):
    monkeypatch.setattr(augment, "BRIGHTNESS", 0.0)
    monkeypatch.setattr(augment, "CONTRAST", 0.0)


def test_shape_and_range():
    jittered = augment.jitter(photos(6, 32), keras.random.SeedGenerator(0))
    assert jittered.shape == (6, 32, 32, 3) and jittered.dtype == tf.float32
    assert -1.0 <= float(tf.reduce_min(jittered)) and float(tf.reduce_max(jittered)) <= 1.0


def test_jitter_shifts_each_photo_by_whole_pixels(monkeypatch):
    without_color(monkeypatch)
    side, pad = 32, 2  # a sixteenth
    images = photos(40, side)
    jittered = augment.jitter(images, keras.random.SeedGenerator(1)).numpy()
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    shifts = set()
    for image, expected in zip(padded, jittered, strict=True):
        found = [
            (row, column)
            for row in range(2 * pad + 1)
            for column in range(2 * pad + 1)
            if np.allclose(image[row : row + side, column : column + side], expected, atol=1e-6)
        ]
        assert len(found) == 1
        shifts.update(found)
    assert {row for row, _ in shifts} == {column for _, column in shifts} == set(range(5))


def test_brightness_and_contrast_stay_within_their_bounds(monkeypatch):
    monkeypatch.setattr(augment, "SHIFT", 0.0)
    images = photos(200, 8, -0.2, 0.2)  # nothing is clipped
    jittered = augment.jitter(images, keras.random.SeedGenerator(2)).numpy()
    axes = (1, 2, 3)
    brightness = jittered.mean(axes) - images.mean(axes)
    contrast = jittered.std(axes) / images.std(axes)
    assert -0.2 <= brightness.min() < -0.17 and 0.17 < brightness.max() <= 0.2001
    assert 0.7999 <= contrast.min() < 0.83 and 1.17 < contrast.max() <= 1.2001
    # Each photo has its own random numbers.
    assert len(np.unique(brightness.round(6))) > 190


def test_equal_seeds_give_equal_photos_and_the_generator_advances():
    images = photos(4, 16)
    seed = keras.random.SeedGenerator(3)
    first, second = augment.jitter(images, seed), augment.jitter(images, seed)
    again = augment.jitter(images, keras.random.SeedGenerator(3))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)


# Augmentation of the discriminator's input.

IMAGES = tf.constant(np.random.default_rng(3).uniform(-1, 1, (4, 16, 16, 3)), tf.float32)
ALL, NONE = tf.ones(4), tf.zeros(4)


def same_numbers(*values):
    return tf.tile(tf.constant([values], tf.float32), (4, 1))


@pytest.mark.parametrize("name", augment.OPS)
def test_an_image_that_is_not_chosen_does_not_change(name):
    op, needed = augment.OPS[name]
    uniform = tf.constant(np.random.default_rng(0).random((4, needed)), tf.float32)
    np.testing.assert_allclose(op(IMAGES, uniform, NONE), IMAGES, atol=1e-6)
    half = tf.constant([1.0, 0.0, 1.0, 0.0])
    changed = np.abs(op(IMAGES, uniform, half) - IMAGES).max(axis=(1, 2, 3))
    assert changed[0] > 0.1 and changed[2] > 0.1
    assert changed[1] < 1e-6 and changed[3] < 1e-6


def test_color_closed_form():
    np.testing.assert_allclose(
        augment.color(IMAGES, same_numbers(0.5, 0.5, 0.5), ALL), IMAGES, atol=1e-6
    )
    x = IMAGES.numpy()
    brighter = augment.color(IMAGES, same_numbers(0.75, 0.5, 0.5), ALL)
    np.testing.assert_allclose(brighter, x + 0.25, atol=1e-6)
    gray = augment.color(IMAGES, same_numbers(0.5, 0.0, 0.5), ALL)
    np.testing.assert_allclose(gray, np.repeat(x.mean(3, keepdims=True), 3, 3), atol=1e-6)
    flat = augment.color(IMAGES, same_numbers(0.5, 0.5, 0.25), ALL)
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(flat, mean + 0.75 * (x - mean), atol=1e-6)


@pytest.mark.parametrize("down, right", [(0, 0), (2, 0), (-2, 1), (1, -2)])
def test_translation_is_a_shift_with_gray_padding(down, right):
    uniform = same_numbers((down + 2.5) / 5, (right + 2.5) / 5)  # an eighth of 16 px: -2 to 2
    moved = augment.translation(IMAGES, uniform, ALL).numpy()
    expected = np.zeros_like(moved)
    to, source = (slice(max(d, 0), 16 + min(d, 0)) for d in (down, -down))
    to_x, source_x = (slice(max(d, 0), 16 + min(d, 0)) for d in (right, -right))
    expected[:, to, to_x] = IMAGES.numpy()[:, source, source_x]
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_each_op_is_chosen_with_the_probability(monkeypatch):
    def blank(images, uniform, chosen):
        return images * (1.0 - chosen)[:, None, None, None]

    monkeypatch.setattr(augment, "OPS", {"blank": (blank, 1)})
    images, seed = tf.ones((400, 8, 8, 3)), keras.random.SeedGenerator(1)
    for probability in (0.0, 0.3, 1.0):
        out = augment.diff_augment(images, probability, seed).numpy()
        share = np.mean((out == 0).any(axis=(1, 2, 3)))
        assert share == pytest.approx(probability, abs=0.08)


def test_gradients_pass_through_all_ops():

    def total(images):
        out = augment.diff_augment(images, 1.0, keras.random.SeedGenerator(2))
        return tf.reduce_sum(tf.square(out))

    with tf.GradientTape() as tape:
        tape.watch(IMAGES)
        loss = total(IMAGES)
    gradient = tape.gradient(loss, IMAGES)
    step = gradient / tf.norm(gradient) * 0.1
    difference = (total(IMAGES + step) - total(IMAGES - step)) / 2
    slope = tf.reduce_sum(gradient * step)
    assert abs(float(slope)) > 0.1
    assert float(difference) == pytest.approx(float(slope), rel=1e-2)


def test_the_augmentations_depend_on_the_seed():
    def augmented(seed):
        return augment.diff_augment(IMAGES, 0.7, keras.random.SeedGenerator(seed)).numpy()

    assert np.array_equal(augmented(5), augmented(5))
    assert not np.array_equal(augmented(5), augmented(6))


def test_a_crop_is_a_window_and_xla_compiles_it_once_for_all_corners():
    images, corner = photos(3, 12), tf.constant([3, 1])
    np.testing.assert_array_equal(augment.crop(images, corner, 8), images[:, 3:11, 1:9])

    def crop(images, corner):
        return augment.crop(images, corner, 8)

    compiled = tf.function(crop, jit_compile=True)
    program = compiled.experimental_get_compiler_ir(images, corner)(stage="hlo")
    assert program.count(" parameter(") == 2  # a corner that must be constant would not be one
