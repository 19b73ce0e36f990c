"""Inversion by optimization: closed-form solutions, bookkeeping, masks, all latent spaces."""

import dataclasses

import fake_run
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from PIL import Image

from cgan_tf.core.errors import UserError
from cgan_tf.editing import models, projection
from cgan_tf.networks.codec import Code, Codec
from cgan_tf.networks.stylegan import StyleGenerator

SIDE, SIZE = 8, 6
DRAW = np.random.default_rng(5)
MATRIX = (DRAW.standard_normal((SIZE, SIDE * SIDE * 3)) / 4).astype(np.float32)
PHOTOS = DRAW.uniform(-1, 1, (5, SIDE, SIDE, 3)).astype(np.float32)


class Linear:
    """G(z) = z A: the best latent of a photo is the least-squares solution."""

    resolution, space, latent_shape = SIDE, "z", (SIZE,)

    def __call__(self, latent, training):
        return tf.reshape(latent @ MATRIX, (-1, SIDE, SIDE, 3))

    def sample_latent(self, count, seed):
        return tf.random.stateless_normal((count, SIZE), (seed, 0))


class Features:
    """Two maps: the image, and its 3 x 3 mean at half the resolution."""

    def features(self, photos):
        blurred = tf.nn.avg_pool2d(photos, 3, 2, "SAME")
        return [photos, blurred]


def projector(mask=None, codec=None, features=None, **settings):
    defaults = {
        "steps": 200,
        "learning_rate": 0.1,
        "starts": 1,
        "patience": 0,
        "pixel_weight": 1.0,
        "feature_weight": 0.0,
        "offset_weight": 0.0,
        "seed": 3,
    }
    return projection.Projector(
        codec or Codec(None, Linear()),
        features or Features(),
        projection.Settings(**(defaults | settings)),
        mask,
    )


def run(photos=PHOTOS, start=None, **options):
    model = projector(**options)
    starts = model.starts(len(photos)) if start is None else [code_of(start)]
    return model.project(photos, starts)


def code_of(latents):
    """The codes of latents in a model without features."""
    return Code(tf.constant(latents), tf.zeros((len(latents), 0)))


def solution(photos, weights=None):
    """The least-squares latents, float64."""
    root = np.ones(SIDE * SIDE * 3) if weights is None else np.sqrt(np.repeat(weights.ravel(), 3))
    flat = photos.reshape(len(photos), -1)
    return np.linalg.lstsq((MATRIX * root).T, (flat * root).T, rcond=None)[0].T


def test_the_optimum_is_the_least_squares_solution():
    found = run()
    np.testing.assert_allclose(found.latents, solution(PHOTOS), atol=2e-3)
    errors = (found.latents @ MATRIX).reshape(PHOTOS.shape) - PHOTOS
    np.testing.assert_allclose(found.distances, np.square(errors).mean((1, 2, 3)), rtol=1e-5)


def test_the_distance_is_the_weighted_sum_of_its_parts():
    model = projector(pixel_weight=2.0, feature_weight=3.0, offset_weight=0.5)
    latents = DRAW.standard_normal((5, SIZE)).astype(np.float32)
    outputs = model.generator(latents, training=False)
    parts = [np.square(outputs - PHOTOS).mean((1, 2, 3)), np.abs(latents).mean(1)]
    maps = zip(Features().features(outputs), Features().features(PHOTOS), strict=True)
    perceptual = sum(np.square(a - b).sum(3).mean((1, 2)) for a, b in maps)
    expected = 2 * parts[0] + 3 * perceptual + 0.5 * parts[1]
    np.testing.assert_allclose(model.distance(PHOTOS, code_of(latents)), expected, rtol=1e-5)


def test_the_best_latent_is_kept_not_the_last():
    start = solution(PHOTOS).astype(np.float32)  # the optimum
    found = run(start=start, steps=12, learning_rate=5.0)
    np.testing.assert_array_equal(found.latents, start)
    assert found.steps.tolist() == [1, 10, 12]
    np.testing.assert_array_equal(found.curve, np.repeat(found.curve[:1], 3, axis=0))


def test_hybrid_is_never_worse_than_its_start_and_its_curve_never_rises():
    start = DRAW.standard_normal((5, SIZE)).astype(np.float32)
    for rate in (0.05, 50.0):
        found = run(start=start, steps=30, learning_rate=rate, feature_weight=1.0)
        first = projector(feature_weight=1.0).distance(PHOTOS, code_of(start))
        np.testing.assert_allclose(found.curve[0], first, rtol=1e-5)
        assert (found.distances <= found.curve[0]).all()
        assert (np.diff(found.curve, axis=0) <= 0).all() and (np.diff(found.seconds) > 0).all()
        np.testing.assert_array_equal(found.curve[-1], found.distances)
        np.testing.assert_array_equal(found.path[-1].latent, found.latents)
        again = projector(feature_weight=1.0).distance(PHOTOS, code_of(found.latents))
        np.testing.assert_allclose(again, found.distances, rtol=1e-5)


def test_a_photo_does_not_depend_on_its_batch():
    options = {"steps": 60, "feature_weight": 1.0, "patience": 4, "starts": 2}
    together = run(**options)
    for row in range(len(PHOTOS)):
        alone = run(PHOTOS[row : row + 1], **options)
        np.testing.assert_allclose(alone.latents[0], together.latents[row], atol=1e-5)
        np.testing.assert_allclose(alone.distances[0], together.distances[row], rtol=1e-5)


def test_equal_seeds_give_equal_latents():
    one, two = (run(steps=25, starts=3, feature_weight=1.0) for _ in range(2))
    np.testing.assert_array_equal(one.latents, two.latents)
    np.testing.assert_array_equal(one.curve, two.curve)
    # Another seed gives other starts; the first is always the mean.
    first, second = (
        [code.latent for code in projector(starts=3, seed=seed).starts(2)] for seed in (3, 4)
    )
    np.testing.assert_array_equal(first[0], np.zeros((2, SIZE)))
    np.testing.assert_array_equal(first[0], second[0])
    assert np.abs(first[1] - second[1]).max() > 0.1 and np.abs(first[1] - first[2]).max() > 0.1


def test_the_best_of_several_starts_is_taken_for_each_photo():
    model = projector(steps=1)
    near = solution(PHOTOS).astype(np.float32)
    starts = [near.copy(), near.copy()]
    starts[0][::2] += 1.0
    starts[1][1::2] += 1.0
    found = model.project(PHOTOS, [code_of(start) for start in starts])
    np.testing.assert_array_equal(found.latents, near)
    assert found.steps.tolist() == [1, 2]


def test_each_photo_has_its_own_early_stopping():
    start = solution(PHOTOS).astype(np.float32)
    start[0] += 3.0  # this one is far from its optimum
    found = run(start=start, steps=400, patience=7, learning_rate=0.02)
    assert 20 < found.steps[-1] < 400
    assert run(start=start, steps=400, learning_rate=0.02).steps[-1] == 400
    stopped = run(PHOTOS[1:], start=start[1:], steps=400, patience=7, learning_rate=0.02)
    # The first distance counts as an improvement, the seven steps after it do not.
    assert stopped.steps[-1] == 8


def test_the_offset_penalty_pulls_toward_the_mean():
    sizes = [
        np.abs(run(steps=300, offset_weight=weight).latents).mean() for weight in (0.0, 0.1, 1e3)
    ]
    assert sizes[1] < 0.9 * sizes[0] and sizes[2] < 1e-6


def test_the_learning_rate_is_constant_and_then_falls_to_zero():
    model = projector(steps=100, learning_rate=0.4)
    rates = [float(model._rate(tf.constant(step))) for step in (0, 50, 75, 100)]
    np.testing.assert_allclose(rates, [0.4, 0.4, 0.2, 0.0], atol=1e-6)


# ---- masks -------------------------------------------------------------------------------------


def test_the_mask_weights_pixels():
    mask = DRAW.uniform(0.2, 1, (SIDE, SIDE)).astype(np.float32)
    found = run(mask=mask, steps=400)
    np.testing.assert_allclose(found.latents, solution(PHOTOS, mask), atol=3e-3)


def test_masked_pixels_have_no_influence():
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[2:7, 1:6] = 1
    changed = np.where(mask[None, :, :, None] > 0, PHOTOS, -PHOTOS[:, ::-1])
    options = {"mask": mask, "steps": 20, "feature_weight": 1.0, "starts": 2}
    one, two = run(**options), run(changed, **options)
    np.testing.assert_array_equal(one.latents, two.latents)
    assert np.abs(run(changed, **options | {"mask": None}).latents - one.latents).max() > 1e-2


def test_a_mask_of_ones_changes_nothing():
    one = run(mask=np.ones((SIDE, SIDE), np.float32), steps=20, feature_weight=1.0)
    np.testing.assert_allclose(one.latents, run(steps=20, feature_weight=1.0).latents, atol=1e-5)


def test_the_ellipse_is_a_face_in_the_middle():
    mask = projection.ellipse(64)
    assert mask.shape == (64, 64) and set(np.unique(mask)) == {0.0, 1.0}
    assert mask[34, 32] == 1 and mask[0, 0] == mask[63, 63] == mask[34, 2] == 0
    assert mask.mean() == pytest.approx(np.pi * 0.36 * 0.46, rel=0.01)
    np.testing.assert_array_equal(mask, mask[:, ::-1])
    np.testing.assert_array_equal(projection.load_mask("ellipse", 64)[0], mask)


def save_mask(path, pixels):
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return str(path)


def test_a_mask_file_of_another_size_is_resized_and_that_is_reported(tmp_path):
    pixels = np.zeros((16, 16))
    pixels[:, 8:] = 255
    mask, note = projection.load_mask(save_mask(tmp_path / "mask.png", pixels), 8)
    np.testing.assert_array_equal(mask, pixels[::2, ::2] / 255)
    assert note == "--mask: resized from 16 to 8 px"
    assert projection.load_mask(str(tmp_path / "mask.png"), 16)[1] == ""


def test_masks_that_make_no_sense_are_refused(tmp_path):
    oblong = save_mask(tmp_path / "oblong.png", np.ones((8, 16)))
    black = save_mask(tmp_path / "black.png", np.zeros((8, 8)))
    (tmp_path / "empty.png").write_bytes(b"")
    for path, message in (
        (oblong, "16x8 px; it must be square"),
        (black, "completely black"),
        (str(tmp_path / "empty.png"), "give an image file, or ellipse"),
        (str(tmp_path / "missing.png"), "give an image file, or ellipse"),
    ):
        with pytest.raises(UserError) as caught:
            projection.load_mask(path, 8)
        assert str(caught.value).startswith("--mask") and message in str(caught.value)
        assert "\n" not in str(caught.value)


# ---- the generators ----------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["z", "w", "ws"])
def test_stylegan_in_every_space(space):
    keras.utils.set_random_seed(5)
    generator = StyleGenerator(32, 8, 4, "modulated")
    for layer in generator.to_image:  # its initial images are gray
        layer.kernel.assign(tf.random.stateless_normal(layer.kernel.shape, (1, 2)))
    generator.w_mean.assign(DRAW.standard_normal(8).astype(np.float32))
    generator.space = space
    target = generator(generator.sample_latent(2, seed=9), training=False).numpy()
    model = projector(codec=Codec(None, generator), steps=30)
    (code,) = model.starts(2)
    start = code.latent
    assert start.shape == (2, *generator.latent_shape)
    if space == "z":  # z is normalized, so 0 is no start
        np.testing.assert_array_equal(start, [generator.sample_prior(1, seed=3)[0]] * 2)
    else:
        np.testing.assert_array_equal(start, np.broadcast_to(generator.w_mean.numpy(), start.shape))
    found = model.project(target, [code])
    assert found.latents.shape == start.shape
    assert (found.distances < 0.8 * found.curve[0]).all()


def test_more_photos_than_a_batch_come_in_order(monkeypatch):
    monkeypatch.setattr(projection, "BATCH", 2)
    seen = []

    def encoder(photos, training):
        seen.append(len(photos))
        return tf.zeros((len(photos), SIZE))

    model = projector(codec=Codec(encoder, Linear()), steps=5)
    parts = projection.invert(model, PHOTOS, "hybrid")
    assert seen == [2, 2, 1] and [len(part.latents) for part in parts] == [2, 2, 1]
    latents = np.concatenate([part.latents for part in parts])
    np.testing.assert_allclose(latents, run(steps=5).latents, atol=1e-5)


def test_hybrid_with_features_compares_pixels_and_hardly_moves_the_latent(tmp_path):
    config = tiny.make_config(tmp_path, features_side="8")
    settings = projection.Settings.of(config, "hybrid")
    assert (settings.steps, settings.feature_weight) == (projection.FEATURES_STEPS, 0.0)
    plain = projection.Settings.of(tiny.make_config(tmp_path, features_side="none"), "hybrid")
    assert (plain.steps, plain.feature_weight) == (projection.HYBRID_STEPS, 1.0)
    assert settings.learning_rate == plain.learning_rate / 5
    other = projection.Settings.of(config, "optimize")
    assert (other.steps, other.feature_weight) == (projection.OPTIMIZE_STEPS, 1.0)


def test_latent_and_features_descend_together():
    with fake_run.slim():
        run = fake_run.slim_run()
        codec = models.load_codec(run, run.load_config())
        photos = np.random.default_rng(0).uniform(-0.8, 0.8, (3, 32, 32, 3)).astype(np.float32)
        code = codec.encode(photos)
        moved = {}
        for mode, weight in (("hybrid", 1.0), ("hybrid", 0.0), ("optimize", 1.0)):
            model = projection.load_projector(run.path, codec, mode, steps=20)
            model.settings = dataclasses.replace(model.settings, features_rate=weight)
            (found,) = projection.invert(model, photos, mode)
            assert found.features.shape == (3, *codec.features_shape)
            again = model.distance(photos, Code(found.latents, found.features))
            np.testing.assert_allclose(again, found.distances, rtol=1e-4)
            moved[mode, weight] = found
    fixed, free = moved["hybrid", 0.0], moved["hybrid", 1.0]
    np.testing.assert_allclose(free.curve[0], fixed.curve[0], rtol=1e-4)
    np.testing.assert_array_equal(fixed.features, code.features)
    assert (free.distances < fixed.distances).all(), "the features add to the latent"
    assert (free.distances < free.curve[0]).all()
    for start in projector(codec=codec, starts=2).starts(3):
        assert not start.features.numpy().any(), "a random face has none"
    assert (moved["optimize", 1.0].distances < moved["optimize", 1.0].curve[0]).all()
    np.testing.assert_array_equal(free.path[-1].features, free.features)
    assert [list(one) for one in free.codes()] == [["latent", "features"]] * 3
