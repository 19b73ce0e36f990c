"""cgan_tf.networks: shapes and ranges, sizes, and what each special layer computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from keras import layers

from cgan_tf.core import config as config_module
from cgan_tf.core.errors import UserError
from cgan_tf.editing import models
from cgan_tf.networks import vgg
from cgan_tf.networks.dcgan import SLOPE, Discriminator, Generator, MinibatchStd, level_widths
from cgan_tf.networks.encoder import AddMean, Encoder

NAMES = ("Smiling", "Eyeglasses", "Male")
# Weights of G, D and E. Whoever changes a preset's network says so here.
SIZES = {
    "demo": (1_215_875, 694_257, 2_855_040),
    "celeba32": (371_075, 168_225, 1_026_072),
    "celeba64": (2_339_907, 1_557_473, 2_855_040),
    "stylegan64": (2_923_699, 1_557_473, 2_855_040),
    "celeba128": (2_357_283, 1_574_777, 7_051_392),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def images(count, side, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, side, side, 3)).astype(np.float32)


# DCGAN.


@pytest.mark.parametrize("resolution, widths", [(32, [16, 8, 4]), (64, [32, 16, 8, 4])])
def test_channels_double_as_the_side_halves(resolution, widths):
    assert level_widths(resolution, 4) == widths


@pytest.mark.parametrize("resolution", [32, 64, 128])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_shapes_and_ranges(resolution, policy):
    generator = Generator(resolution, 10, 4, dtype=policy)
    for weight in generator.trainable_weights:  # far into the saturation
        weight.assign(weight.numpy() * 30)
    fakes = generator(10 * normal(4, 10), training=True)
    assert fakes.shape == (4, resolution, resolution, 3) and fakes.dtype == tf.float32
    assert -1 <= float(tf.reduce_min(fakes)) < -0.9 and 0.9 < float(tf.reduce_max(fakes)) <= 1
    for norm in ("none", "batch"):
        discriminator = Discriminator(resolution, 4, norm=norm, dtype=policy)
        logits = discriminator(fakes, training=True)
        assert logits.shape == (4, 1) and logits.dtype == tf.float32
    for residual in (False, True):
        latent = Encoder(resolution, (10,), 4, residual, dtype=policy)(fakes, training=True)
        assert latent.shape == (4, 10) and latent.dtype == tf.float32
    assert {weight.dtype for weight in generator.weights} == {"float32"}


def test_the_network_follows_from_the_resolution():
    for resolution, levels in ((32, 3), (64, 4), (128, 5)):
        convolutions = [
            layer.output.shape[1:]
            for layer in Discriminator(resolution, 4).layers
            if isinstance(layer, layers.Conv2D)
        ]
        assert convolutions == [
            (resolution >> level, resolution >> level, 4 << (level - 1))
            for level in range(1, levels + 1)
        ]


def test_batch_norm_where_it_was_asked_for():
    def norms(model):
        return sum(isinstance(layer, layers.BatchNormalization) for layer in model.layers)

    assert norms(Discriminator(64, 4)) == 0
    assert norms(Discriminator(64, 4, norm="batch")) == 3  # not on the first layer
    assert norms(Generator(64, 8, 4)) == 4


@pytest.mark.parametrize("preset", config_module.PRESETS)
def test_sizes_are_pinned_for_every_preset(preset):
    config = config_module.make(preset, {"data_dir": "photos"})
    generator = models.build_generator(config)
    discriminator = Discriminator(
        config.resolution, config.gan.width, config.gan.d_norm, config.gan.minibatch_std
    )
    generator.space = config_module.space(config)
    encoder = Encoder(config.resolution, generator.latent_shape, config.inversion.width)
    sizes = tuple(model.count_params() for model in (generator, discriminator, encoder))
    assert SIZES[preset] == sizes


def test_no_preset_without_a_pin_and_no_pin_without_a_preset():
    assert set(SIZES) == set(config_module.PRESETS)


def test_the_size_of_a_small_generator_is_the_sum_of_its_layers():
    dense, first, second, last = 10 * 16 * 16, 16 * 8 * 16, 8 * 4 * 16, 4 * 3 * 16 + 3
    assert Generator(32, 10, 4).count_params() == dense + first + second + last + 4 * (16 + 8 + 4)
    convolutions = (3 * 4 + 4 * 8 + 8 * 16) * 16 + (4 + 8 + 16)
    assert Discriminator(32, 4).count_params() == convolutions + 17 * 16 + 1
    assert Discriminator(32, 4, minibatch_std=False).count_params() == convolutions + 16 * 16 + 1


def test_the_uniform_prior():
    generator = Generator(32, 100, 4, prior="uniform")
    z = generator.sample_prior(2000, keras.random.SeedGenerator(0)).numpy()
    assert z.shape == (2000, 100) and z.dtype == np.float32
    assert -1 <= z.min() < -0.999 and 0.999 < z.max() <= 1
    assert z.mean() == pytest.approx(0, abs=0.01) and z.var() == pytest.approx(1 / 3, abs=0.005)


def test_the_normal_prior_and_its_seeds():
    generator = Generator(32, 100, 4)
    seed = keras.random.SeedGenerator(0)
    first, second = (generator.sample_prior(2000, seed).numpy() for _ in range(2))
    assert first.mean() == pytest.approx(0, abs=0.01) and first.std() == pytest.approx(1, abs=0.01)
    assert np.abs(first).max() > 3.5 and not np.array_equal(first, second)
    np.testing.assert_array_equal(
        generator.sample_prior(5, seed=7), generator.sample_prior(5, seed=7)
    )


def test_minibatch_std_closed_form():
    # Two images, 1 px, 2 channels: deviations 1 and 2, their mean 1.5 on both.
    x = tf.constant([[[[1.0, 0.0]]], [[[3.0, 4.0]]]])
    y = MinibatchStd(group=2)(x)
    np.testing.assert_allclose(y, [[[[1.0, 0.0, 1.5]]], [[[3.0, 4.0, 1.5]]]], rtol=1e-6)
    # The first four of eight images are a group, and the last four.
    x = normal(8, 3, 3, 5)
    y = MinibatchStd(group=4)(tf.constant(x)).numpy()
    np.testing.assert_array_equal(y[..., :5], x)
    for group in (slice(0, 4), slice(4, 8)):
        wanted = x[group].std(axis=0).mean()
        np.testing.assert_allclose(y[group, :, :, 5], wanted, rtol=1e-5)
    assert not np.isclose(y[0, 0, 0, 5], y[4, 0, 0, 5], rtol=1e-3)


def test_minibatch_std_of_equal_images_is_zero_with_a_finite_gradient():
    x = tf.Variable(np.repeat(normal(1, 2, 2, 3), 4, axis=0))
    with tf.GradientTape() as tape:
        y = MinibatchStd()(x)
        loss = tf.reduce_sum(y[..., 3])
    np.testing.assert_allclose(y[..., 3], 1e-4, rtol=1e-3)  # sqrt(1e-8)
    np.testing.assert_allclose(tape.gradient(loss, x), 0.0, atol=1e-6)


def test_minibatch_std_gradient():
    values = np.random.default_rng(0).normal(size=(2, 1, 1, 1))
    x = tf.Variable(values.astype(np.float32))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(MinibatchStd(group=2)(x)[..., 1])
    # sd = |a - b| / 2, on both images: d(2 sd)/da = sign(a - b).
    sign = np.sign(values[0] - values[1]).item()
    np.testing.assert_allclose(tape.gradient(loss, x).numpy().ravel(), [sign, -sign], rtol=1e-5)


def test_minibatch_std_is_float32_inside():
    x = tf.constant(normal(4, 2, 2, 3) * 1e-3 + 100, tf.bfloat16)
    assert MinibatchStd(dtype="bfloat16")(x).dtype == tf.bfloat16


# The encoder.


def test_the_encoder_adds_the_mean_latent():
    encoder = Encoder(32, (6,), 4)
    photos = images(3, 32)
    before = encoder(photos, training=False).numpy()
    mean = normal(6, seed=1)
    encoder.add_mean.mean.assign(mean)
    np.testing.assert_allclose(encoder(photos, training=False), before + mean, atol=1e-6)
    assert not any(weight is encoder.add_mean.mean for weight in encoder.trainable_weights)
    assert any(weight is encoder.add_mean.mean for weight in encoder.weights)


def test_the_size_of_a_small_residual_encoder_is_the_sum_of_its_layers():
    shortcuts = 3 * 4 + 4 * 8 + 8 * 16
    first, second = 16 * shortcuts, 9 * (4 * 4 + 8 * 8 + 16 * 16)
    norms = 3 * 4 * (4 + 8 + 16)  # each of three has four numbers a channel
    dense = (4 * 4 * 16 + 1) * 24 + (24 + 1) * 6 + 6
    assert Encoder(32, (6,), 4, True).count_params() == shortcuts + first + second + norms + dense


def test_with_no_weight_in_its_second_convolutions_only_the_shortcuts_are_left():
    encoder = Encoder(32, (6,), 4, True)
    photos = images(3, 32)
    whole = encoder(photos, training=False).numpy()
    x = tf.constant(photos)
    for layer in encoder.layers:
        if isinstance(layer, layers.Conv2D) and layer.kernel_size == (3, 3):
            layer.kernel.assign(tf.zeros_like(layer.kernel))
        if isinstance(layer, layers.Conv2D) and layer.kernel_size == (1, 1):
            x = tf.nn.avg_pool2d(x, 2, 2, "VALID") @ layer.kernel[0, 0]
            x = x / np.sqrt(1 + 1e-3)  # batch norm as it begins
            x = tf.nn.leaky_relu(x, SLOPE)
    x = tf.reshape(x, (3, -1))
    for layer in encoder.layers:
        if isinstance(layer, layers.Dense):
            x = x @ layer.kernel + layer.bias
            x = x if layer.name == "offset" else tf.nn.leaky_relu(x, SLOPE)
    alone = encoder(photos, training=False).numpy()
    np.testing.assert_allclose(alone, x, rtol=1e-3, atol=1e-4)
    assert np.abs(whole - alone).max() > 1e-2


def test_a_fresh_add_mean_changes_nothing():
    np.testing.assert_array_equal(AddMean()(normal(2, 5)), normal(2, 5))


# VGG16.


@pytest.fixture(scope="module")
def backbone():
    """The real thing: 15 million weights."""
    keras.utils.set_random_seed(0)
    return vgg.build_backbone()


def test_features_are_those_of_relu1_2_to_relu4_3(backbone):
    operations = [output._keras_history.operation for output in backbone.outputs]
    assert [operation.name for operation in operations] == [
        "block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_pool",
    ]  # fmt: skip
    assert [operation.activation for operation in operations[:-1]] == [keras.activations.relu] * 4
    assert [output.shape[-1] for output in backbone.outputs] == [64, 128, 256, 512, 512]
    *maps, pooled = backbone(np.zeros((1, 32, 32, 3), np.float32))
    assert [tuple(m.shape[1:3]) for m in maps] == [(32, 32), (16, 16), (8, 8), (4, 4)]
    assert pooled.shape == (1, 1, 1, 512)
    assert backbone.count_params() == 14_714_688  # VGG16 without its head


def test_the_start_from_scratch_keeps_the_signals_scale(backbone):
    *maps, _ = backbone(normal(2, 32, 32, 3))
    for features in maps:  # He: the mean square stays 2 x 1/2 of the input's
        assert 0.1 < float(tf.reduce_mean(tf.square(features))) < 10


def test_preprocessing_is_that_of_keras_applications():
    photos = images(2, 8)
    wanted = keras.applications.vgg16.preprocess_input((photos + 1) * 127.5)
    np.testing.assert_allclose(vgg.preprocess(photos), wanted, atol=1e-4)
    white = vgg.preprocess(np.ones((1, 1, 1, 3), np.float32)).numpy().ravel()
    np.testing.assert_allclose(white, [255 - 103.939, 255 - 116.779, 255 - 123.68], atol=1e-4)


@pytest.fixture
def regressor(slim_vgg):
    keras.utils.set_random_seed(0)
    return vgg.Regressor(NAMES, 64, 32, 1 / 64, [0.5, 0.0, -0.5])


def test_the_regressor_answers_with_probabilities(regressor):
    photos = images(4, 64)
    scores = regressor(photos, training=False)
    assert scores.shape == (4, 3) and scores.dtype == tf.float32
    assert np.all((scores.numpy() > 0) & (scores.numpy() < 1))
    np.testing.assert_allclose(scores, tf.sigmoid(regressor.logits(photos)), rtol=1e-6)
    maps, logits = regressor.features_and_logits(photos)
    np.testing.assert_allclose(logits, regressor.logits(photos), rtol=1e-6)
    assert [m.shape[1] for m in maps] == [32, 16, 8, 4]  # what VGG16 sees, not the photo


def test_the_offsets_are_taken_off_the_logits(regressor):
    plain = vgg.Regressor(NAMES, 64, 32, 1 / 64)
    plain.set_weights(regressor.get_weights())
    photos = images(2, 64)
    np.testing.assert_allclose(
        plain.logits(photos) - regressor.logits(photos), [[0.5, 0.0, -0.5]] * 2, atol=1e-5
    )


def test_vgg_sees_photos_averaged_down_and_scaled(regressor):
    photos = images(2, 64)
    seen = regressor.backbone_input(photos).numpy()
    smaller = photos.reshape(2, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(seen, vgg.preprocess(smaller).numpy() / 64, atol=1e-5)


def test_dropout_only_while_training(regressor):
    photos = images(1, 64)
    still = regressor.logits(photos).numpy()
    np.testing.assert_array_equal(regressor.logits(photos), still)
    assert not np.array_equal(regressor.logits(photos, training=True), still)


def test_half_precision_answers_in_float32(slim_vgg):
    model = vgg.Regressor(NAMES, 32, 32, 1 / 64, dtype="mixed_bfloat16")
    assert model.backbone.get_layer("block1_conv1").compute_dtype == "bfloat16"
    assert model(images(2, 32), training=False).dtype == tf.float32
    assert keras.config.dtype_policy().name == "float32"
    distance = vgg.Perceptual(model)(images(2, 32), images(2, 32, seed=1))
    assert distance.dtype == tf.float32


# The perceptual distance.


def test_the_distance_is_zero_on_equal_images_symmetric_and_one_per_image(regressor):
    perceptual = vgg.Perceptual(regressor)
    x, y = images(3, 64), images(3, 64, seed=1)
    np.testing.assert_array_equal(perceptual(x, x), np.zeros(3))
    there, back = perceptual(x, y).numpy(), perceptual(y, x).numpy()
    assert there.shape == (3,) and (there > 0).all()
    np.testing.assert_allclose(there, back, rtol=1e-6)
    np.testing.assert_allclose(perceptual(x[1:2], y[1:2]), there[1:2], rtol=1e-5)


def test_channels_are_normalized_to_unit_length(regressor):
    maps = [normal(2, 3, 3, 4, seed=seed) * 10 for seed in range(4)]
    perceptual = vgg.Perceptual(regressor, weights=(1.0, 0.25, 4.0, 0.0))
    lengths = [np.linalg.norm(m, axis=-1) for m in perceptual.normalize(maps)]
    for length, weight in zip(lengths, (1.0, 0.25, 4.0, 0.0), strict=True):
        np.testing.assert_allclose(length, weight**0.5, rtol=1e-6)
    # So the brightness of a map does not count.
    louder = [m * 7 for m in maps]
    for one, two in zip(perceptual.normalize(maps), perceptual.normalize(louder), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)
    # Where nothing is active there is no direction, and no NaN.
    np.testing.assert_array_equal(perceptual.normalize([m * 0 for m in maps])[0], maps[0] * 0)


def test_the_distance_closed_form(regressor):
    perceptual = vgg.Perceptual(regressor, weights=(1.0, 2.0, 0.5, 0.0))
    east, north, west = ([[[[1.0, 0.0]]]], [[[[0.0, 3.0]]]], [[[[-2.0, 0.0]]]])
    x = perceptual.normalize([tf.constant(east)] * 4)
    y = perceptual.normalize([tf.constant(m) for m in (north, west, east, west)])
    # |e - n|^2 = 2, |e - w|^2 = 4.
    np.testing.assert_allclose(perceptual.between(x, y), [1.0 * 2 + 2.0 * 4], rtol=1e-6)
    # The mean over positions, the sum over channels.
    wide = tf.constant([[[[1.0, 0.0], [1.0, 0.0]]]])
    half = tf.constant([[[[1.0, 0.0], [0.0, 1.0]]]])
    x, y = (perceptual.normalize([m] * 4) for m in (wide, half))
    np.testing.assert_allclose(perceptual.between(x, y), [(1.0 + 2.0 + 0.5) * 2 / 2], rtol=1e-6)


def test_the_layers_weights_add_up(regressor):
    x, y = images(2, 64), images(2, 64, seed=1)

    def distance(*weights):
        return vgg.Perceptual(regressor, weights=weights)(x, y).numpy()

    single = [distance(*row) for row in np.eye(4)]
    assert all((part > 0).all() for part in single)
    wanted = 0.5 * single[0] + 2 * single[1] + 3 * single[3]
    np.testing.assert_allclose(distance(0.5, 2.0, 0.0, 3.0), wanted, rtol=1e-5)


def test_another_backbone_takes_the_regressors_place(regressor):
    other = vgg.build_backbone()
    x, y = images(2, 64), images(2, 64, seed=1)
    perceptual = vgg.Perceptual(regressor, other)
    maps = other(vgg.preprocess(x))[:-1]
    for one, two in zip(perceptual.features(x), perceptual.normalize(maps), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    assert not np.allclose(perceptual(x, y), vgg.Perceptual(regressor)(x, y), rtol=1e-3)


# ImageNet's weights.


def slim_with_known_weights(include_top, weights, **options):
    """A stand-in for the download: every kernel and bias holds its own number."""
    assert weights in ("imagenet", None)
    model = tiny.slim_vgg16(include_top, None, **options)
    if weights == "imagenet":
        model.set_weights([np.full(w.shape, i, np.float32) for i, w in enumerate(model.weights)])
    return model


def test_imagenets_weights_reach_the_backbone(monkeypatch):
    monkeypatch.setattr(keras.applications, "VGG16", slim_with_known_weights)
    backbone = vgg.build_backbone()
    assert float(tf.reduce_max(backbone.get_layer("block1_conv1").kernel)) < 5
    vgg.load_imagenet(backbone, "--regressor_vgg_weights")
    names = [f"block{b}_conv{i + 1}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(n)]
    for index, name in enumerate(names):
        kernel, bias = backbone.get_layer(name).get_weights()
        assert np.all(kernel == 2 * index) and np.all(bias == 2 * index + 1)


@pytest.mark.parametrize(
    "flag, remedy",
    [("--regressor_vgg_weights", "give a file, or none"), ("--inversion_perceptual", "take --inversion_perceptual=regressor")],
)
def test_no_network_is_one_line(monkeypatch, flag, remedy):
    def offline(**options):
        raise Exception("URL fetch failure on\nhttps://example.org: None -- no name")

    monkeypatch.setattr(keras.applications, "VGG16", offline)
    with pytest.raises(UserError) as caught:
        vgg.load_imagenet(keras.Model(), flag)
    assert str(caught.value) == (
        f"{flag}=imagenet: the weights cannot be had (URL fetch failure on "
        f"https://example.org: None -- no name); connect to the network once, or {remedy}"
    )


def test_weights_from_a_file(slim_vgg, tmp_path):
    source = keras.applications.VGG16(include_top=False, weights=None)
    source.set_weights([np.full(w.shape, i, np.float32) for i, w in enumerate(source.weights)])
    path = tmp_path / "vgg16.weights.h5"
    source.save_weights(path)
    backbone = vgg.build_backbone()
    vgg.load_file(backbone, str(path))
    for loaded, wanted in zip(backbone.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, wanted)


def missing(folder):
    return folder / "none.weights.h5"


def text(folder):
    path = folder / "text.weights.h5"
    path.write_text("no weights")
    return path


def other_ending(folder):
    path = folder / "weights.txt"
    path.write_text("no weights")
    return path


def other_network(folder):
    path = folder / "dense.weights.h5"
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.save_weights(path)
    return path


@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize("make", [missing, text, other_ending, other_network])
def test_a_file_without_vgg16s_weights_is_one_line(slim_vgg, tmp_path, make):
    path = make(tmp_path)
    backbone = vgg.build_backbone()
    before = tiny.values(backbone)
    with pytest.raises(UserError) as caught:
        vgg.load_file(backbone, str(path))
    line = str(caught.value)
    assert line.startswith(f"--regressor_vgg_weights={path}: no VGG16 weights without top (")
    assert line.endswith("); give auto, imagenet, none or such a file") and "\n" not in line
    assert tiny.same(before, tiny.values(backbone))
