"""cgan_tf.networks: shapes, ranges, parameter counts, and what each special layer computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from keras import layers

from cgan_tf.core import options
from cgan_tf.core.config import MINIBATCH_GROUP
from cgan_tf.core.errors import UserError
from cgan_tf.core.presets import PRESETS
from cgan_tf.data import synthetic
from cgan_tf.editing import models
from cgan_tf.networks import vgg
from cgan_tf.networks.dcgan import Discriminator, Generator, MinibatchStd, level_widths
from cgan_tf.networks.encoder import AddMean, Encoder

NAMES = ("Smiling", "Eyeglasses", "Male")
# Parameter counts of G, D, the regressor and the encoder: a change of a preset's networks must be
# deliberate. FFHQ has no labels of its own; its regressor is counted with CelebA's attributes.
SIZES = {
    "demo": (1_215_875, 694_257, 952_794, 2_855_040),
    "synthetic64": (1_215_875, 694_257, 952_794, 2_855_040),
    "celeba32": (371_075, 168_225, 15_226_728, 1_026_072),
    "celeba64": (2_339_907, 1_557_473, 15_226_728, 2_855_040),
    "stylegan64": (2_923_699, 1_557_473, 15_226_728, 2_855_040),
    "celeba128": (2_357_283, 1_574_777, 15_226_728, 2_862_528),
    "ffhq256": (3_643_266, 3_153_137, 15_226_728, 7_058_880),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def images(count, side, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, side, side, 3)).astype(np.float32)


# DCGAN.


@pytest.mark.parametrize(
    "resolution, width, widths",
    [
        (32, 4, [16, 8, 4]),
        (64, 48, [384, 192, 96, 48]),
        (128, 32, [512, 256, 128, 64, 32]),
        (128, 33, [512, 264, 132, 66, 33]),
        (512, 32, [512, 512, 512, 256, 128, 64, 32]),
        (32, 600, [600, 600, 600]),
    ],
)
def test_channels_double_as_the_side_halves_up_to_a_limit(resolution, width, widths):
    assert level_widths(resolution, width) == widths


@pytest.mark.parametrize("resolution", [32, 128])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_shapes_and_ranges(resolution, policy):
    generator = Generator(resolution, 10, 4, dtype=policy)
    for weight in generator.trainable_weights:  # saturates the tanh
        weight.assign(weight.numpy() * 30)
    fakes = generator(10 * normal(4, 10), training=True)
    assert fakes.shape == (4, resolution, resolution, 3) and fakes.dtype == tf.float32
    assert -1 <= float(tf.reduce_min(fakes)) < -0.9 and 0.9 < float(tf.reduce_max(fakes)) <= 1
    for norm in ("none", "batch"):
        discriminator = Discriminator(resolution, 4, norm=norm, dtype=policy)
        logits = discriminator(fakes, training=True)
        assert logits.shape == (4, 1) and logits.dtype == tf.float32
    latent = Encoder(resolution, (10,), 4, dtype=policy)(fakes, training=True)
    assert latent.shape == (4, 10) and latent.dtype == tf.float32
    assert {weight.dtype for weight in generator.weights} == {"float32"}


def test_the_number_of_levels_depends_on_the_resolution():
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


def test_batch_norm_is_where_it_was_requested():
    def norms(model):
        return sum(isinstance(layer, layers.BatchNormalization) for layer in model.layers)

    assert norms(Discriminator(64, 4)) == 0
    assert norms(Discriminator(64, 4, norm="batch")) == 3  # not on the first layer
    assert norms(Generator(64, 8, 4)) == 4


@pytest.mark.parametrize("resolution, arch", [(256, "stylegan"), (512, "dcgan"), (512, "residual")])
def test_networks_of_large_images(resolution, arch):
    given = {"resolution": resolution, "gan_arch": arch, "gan_width": 4, "inversion_width": 4}
    config = options.resolve(options.make(None, given))
    generator, discriminator = models.build_generator(config), models.build_discriminator(config)
    fakes = generator.from_prior(normal(4, config.gan.z_dim))
    assert fakes.shape == (4, resolution, resolution, 3)
    assert discriminator(fakes).shape == (4, 1)
    assert Encoder(resolution, generator.latent_shape, 4)(fakes).shape == (4, config.gan.z_dim)


@pytest.mark.parametrize("preset", PRESETS)
def test_sizes_are_pinned_for_every_preset(preset, backbone, monkeypatch):
    build = vgg.build_backbone
    narrow = vgg.NARROW_WIDTH
    monkeypatch.setattr(
        vgg, "build_backbone", lambda _, width: build(width=narrow) if width == narrow else backbone
    )
    config = options.resolve(options.make(preset, {"data_dir": "photos"}))
    generator, discriminator = models.build_generator(config), models.build_discriminator(config)
    attributes = len(synthetic.ATTRIBUTES) if config.data == "synthetic" else 40
    names = [f"A{index}" for index in range(attributes)]
    width = vgg.width_of(config.regressor.vgg_weights)
    regressor = vgg.Regressor(names, config.resolution, config.regressor.resolution, width=width)
    generator.space = config.inversion.space
    encoder = Encoder(config.resolution, generator.latent_shape, config.inversion.width)
    networks = (generator, discriminator, regressor, encoder)
    assert SIZES[preset] == tuple(model.count_params() for model in networks)


def test_every_preset_has_a_parameter_count():
    assert set(SIZES) == set(PRESETS)


def test_the_parameter_counts_are_the_sums_over_the_layers():
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


def test_the_normal_prior_depends_on_the_seed():
    generator = Generator(32, 100, 4)
    seed = keras.random.SeedGenerator(0)
    first, second = (generator.sample_prior(2000, seed).numpy() for _ in range(2))
    assert first.mean() == pytest.approx(0, abs=0.01) and first.std() == pytest.approx(1, abs=0.01)
    assert np.abs(first).max() > 3.5 and not np.array_equal(first, second)
    np.testing.assert_array_equal(
        generator.sample_prior(5, seed=7), generator.sample_prior(5, seed=7)
    )


def test_minibatch_std_closed_form():
    # Two images, 1 px, 2 channels: standard deviations 1 and 2, with a mean of 1.5 for both.
    x = tf.constant([[[[1.0, 0.0]]], [[[3.0, 4.0]]]])
    y = MinibatchStd(group=2)(x)
    np.testing.assert_allclose(y, [[[[1.0, 0.0, 1.5]]], [[[3.0, 4.0, 1.5]]]], rtol=1e-6)
    # Of eight images, the first four and the last four are a group.
    x = normal(8, 3, 3, 5)
    y = MinibatchStd(group=4)(tf.constant(x)).numpy()
    np.testing.assert_array_equal(y[..., :5], x)
    for group in (slice(0, 4), slice(4, 8)):
        expected = x[group].std(axis=0).mean()
        np.testing.assert_allclose(y[group, :, :, 5], expected, rtol=1e-5)
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
    # std = |a - b| / 2 for both images: d(2 std)/da = sign(a - b).
    sign = np.sign(values[0] - values[1]).item()
    np.testing.assert_allclose(tape.gradient(loss, x).numpy().ravel(), [sign, -sign], rtol=1e-5)


def test_minibatch_std_preserves_the_dtype():
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


def test_a_new_add_mean_layer_is_the_identity():
    np.testing.assert_array_equal(AddMean()(normal(2, 5)), normal(2, 5))


# VGG16.


@pytest.fixture(scope="module")
def backbone():
    """The real VGG16: 15 million weights."""
    keras.utils.set_random_seed(0)
    return vgg.build_backbone()


def test_the_backbone_on_a_gpu_pools_by_slices_and_has_equal_features(monkeypatch, backbone):
    monkeypatch.setattr(vgg.replicas, "on_gpu", lambda: True)
    on_gpu = vgg.build_backbone()
    monkeypatch.undo()
    pools = [layer for layer in on_gpu.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    assert [type(layer) for layer in pools] == [vgg.SlicedMaxPooling] * 5
    on_gpu.set_weights(backbone.get_weights())
    images = normal(1, 36, 32, 3)
    for ours, theirs in zip(on_gpu(images), backbone(images), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("side", [6, 7])
def test_sliced_max_pooling_has_the_values_and_gradients_of_the_built_in_one(side):
    maps, weights = tf.constant(normal(2, side, 8, 3)), normal(2, 3, 4, 3)
    outcomes = []
    for layer in (vgg.SlicedMaxPooling(), keras.layers.MaxPooling2D()):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            pooled = layer(maps)
            loss = tf.reduce_sum(pooled * weights)
        outcomes.append((pooled, tape.gradient(loss, maps)))
    for ours, theirs in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_feature_layers_are_relu1_2_to_relu4_3(backbone):
    operations = [output._keras_history.operation for output in backbone.outputs]
    assert [operation.name for operation in operations] == [
        "block1_conv2",
        "block2_conv2",
        "block3_conv3",
        "block4_conv3",
        "block5_pool",
    ]
    assert [operation.activation for operation in operations[:-1]] == [keras.activations.relu] * 4
    assert [output.shape[-1] for output in backbone.outputs] == [64, 128, 256, 512, 512]
    *maps, pooled = backbone(np.zeros((1, 32, 32, 3), np.float32))
    assert [tuple(m.shape[1:3]) for m in maps] == [(32, 32), (16, 16), (8, 8), (4, 4)]
    assert pooled.shape == (1, 1, 1, 512)
    assert backbone.count_params() == 14_714_688  # VGG16 without its head


def test_a_narrow_backbone_has_a_quarter_of_the_channels():
    narrow = vgg.build_backbone(width=vgg.width_of("narrow"))
    assert [output.shape[-1] for output in narrow.outputs] == [16, 32, 64, 128, 128]
    # 3 x 3 kernels and biases; block by block.
    blocks = [(3, 16, 2), (16, 32, 2), (32, 64, 3), (64, 128, 3), (128, 128, 3)]
    count = sum((9 * a + 1) * b + (n - 1) * (9 * b + 1) * b for a, b, n in blocks)
    assert narrow.count_params() == count == 920_784
    assert [vgg.width_of(weights) for weights in ("none", "auto", "vgg.h5")] == [64, 64, 64]
    regressor = vgg.Regressor(NAMES, 64, 32, width=vgg.NARROW_WIDTH)
    wide = vgg.widened(regressor, {"D": (np.ones(regressor.head.kernel.shape[0]), 0.0)})
    assert type(wide).from_config(wide.get_config()).width == wide.width == 16
    photos = images(1, 64)
    np.testing.assert_allclose(wide(photos)[:, :3], regressor(photos), rtol=1e-5)


def test_the_initial_weights_preserve_the_scale_of_the_signal(backbone):
    *maps, _ = backbone(normal(2, 32, 32, 3))
    for features in maps:  # with He's initializer the mean square stays that of the input
        assert 0.1 < float(tf.reduce_mean(tf.square(features))) < 10


def test_the_preprocessing_is_that_of_keras_applications():
    photos = images(2, 8)
    expected = keras.applications.vgg16.preprocess_input((photos + 1) * 127.5)
    np.testing.assert_allclose(vgg.preprocess(photos), expected, atol=1e-4)
    white = vgg.preprocess(np.ones((1, 1, 1, 3), np.float32)).numpy().ravel()
    np.testing.assert_allclose(white, [255 - 103.939, 255 - 116.779, 255 - 123.68], atol=1e-4)


@pytest.fixture
def regressor(slim_vgg):
    keras.utils.set_random_seed(0)
    return vgg.Regressor(NAMES, 64, 32, 1 / 64, [0.5, 0.0, -0.5])


def test_the_regressor_predicts_probabilities(regressor):
    photos = images(4, 64)
    scores = regressor(photos, training=False)
    assert scores.shape == (4, 3) and scores.dtype == tf.float32
    assert np.all((scores.numpy() > 0) & (scores.numpy() < 1))
    np.testing.assert_allclose(scores, tf.sigmoid(regressor.logits(photos)), rtol=1e-6)
    maps, logits = regressor.features_and_logits(photos)
    np.testing.assert_allclose(logits, regressor.logits(photos), rtol=1e-6)
    assert [m.shape[1] for m in maps] == [32, 16, 8, 4]  # of VGG16's input, not of the photo


def test_the_offsets_are_subtracted_from_the_logits(regressor):
    plain = vgg.Regressor(NAMES, 64, 32, 1 / 64)
    plain.set_weights(regressor.get_weights())
    photos = images(2, 64)
    np.testing.assert_allclose(
        plain.logits(photos) - regressor.logits(photos), [[0.5, 0.0, -0.5]] * 2, atol=1e-5
    )


def test_the_input_of_vgg16_is_averaged_down_and_scaled(regressor):
    photos = images(2, 64)
    seen = regressor.backbone_input(photos).numpy()
    smaller = photos.reshape(2, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(seen, vgg.preprocess(smaller).numpy() / 64, atol=1e-5)


def test_dropout_is_used_only_in_training(regressor):
    photos = images(1, 64)
    expected = regressor.logits(photos).numpy()
    np.testing.assert_array_equal(regressor.logits(photos), expected)
    assert not np.array_equal(regressor.logits(photos, training=True), expected)


def test_half_precision_predicts_in_float32(slim_vgg):
    model = vgg.Regressor(NAMES, 32, 32, 1 / 64, dtype="mixed_bfloat16")
    assert model.backbone.get_layer("block1_conv1").compute_dtype == "bfloat16"
    assert model(images(2, 32), training=False).dtype == tf.float32
    assert keras.config.dtype_policy().name == "float32"
    distance = vgg.Perceptual(model)(images(2, 32), images(2, 32, seed=1))
    assert distance.dtype == tf.float32


# The perceptual distance.


def test_the_distance_is_symmetric_zero_for_equal_images_and_per_image(regressor):
    perceptual = vgg.Perceptual(regressor)
    x, y = images(3, 64), images(3, 64, seed=1)
    np.testing.assert_array_equal(perceptual(x, x), np.zeros(3))
    there, back = perceptual(x, y).numpy(), perceptual(y, x).numpy()
    assert there.shape == (3,) and (there > 0).all()
    np.testing.assert_allclose(there, back, rtol=1e-6)
    np.testing.assert_allclose(perceptual(x[1:2], y[1:2]), there[1:2], rtol=1e-5)


def test_channels_are_normalized_to_unit_length(regressor):
    maps = [normal(2, 3, 3, 4, seed=seed) * 10 for seed in range(4)]
    perceptual = vgg.Perceptual(regressor)
    for normalized in perceptual.normalize(maps):
        np.testing.assert_allclose(np.linalg.norm(normalized, axis=-1), 1.0, rtol=1e-6)
    # So the scale of a map does not matter.
    scaled = [m * 7 for m in maps]
    for one, two in zip(perceptual.normalize(maps), perceptual.normalize(scaled), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)
    # Where all channels are zero, the result is zero, not NaN.
    np.testing.assert_array_equal(perceptual.normalize([m * 0 for m in maps])[0], maps[0] * 0)


def test_the_distance_closed_form(regressor):
    perceptual = vgg.Perceptual(regressor)
    east, north, west = ([[[[1.0, 0.0]]]], [[[[0.0, 3.0]]]], [[[[-2.0, 0.0]]]])
    x = perceptual.normalize([tf.constant(east)] * 4)
    y = perceptual.normalize([tf.constant(m) for m in (north, west, east, west)])
    # |e - n|^2 = 2, |e - w|^2 = 4.
    np.testing.assert_allclose(perceptual.between(x, y), [2 + 4 + 0 + 4], rtol=1e-6)
    # The mean over positions, the sum over channels.
    wide = tf.constant([[[[1.0, 0.0], [1.0, 0.0]]]])
    half = tf.constant([[[[1.0, 0.0], [0.0, 1.0]]]])
    x, y = (perceptual.normalize([m] * 4) for m in (wide, half))
    np.testing.assert_allclose(perceptual.between(x, y), [4 * 2 / 2], rtol=1e-6)


def test_another_backbone_can_replace_the_regressors(regressor):
    other = vgg.build_backbone()
    x, y = images(2, 64), images(2, 64, seed=1)
    perceptual = vgg.Perceptual(regressor, other)
    maps = other(vgg.preprocess(x))[:-1]
    for one, two in zip(perceptual.features(x), perceptual.normalize(maps), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    assert not np.allclose(perceptual(x, y), vgg.Perceptual(regressor)(x, y), rtol=1e-3)


# ImageNet's weights.


def slim_with_known_weights(include_top, weights, **options):
    """A substitute for the download: every kernel and bias contains its own number."""
    assert weights in ("imagenet", None)
    model = tiny.slim_vgg16(include_top, None, **options)
    if weights == "imagenet":
        model.set_weights([np.full(w.shape, i, np.float32) for i, w in enumerate(model.weights)])
    return model


def test_imagenets_weights_are_loaded_into_the_backbone(monkeypatch):
    monkeypatch.setattr(keras.applications, "VGG16", slim_with_known_weights)
    backbone = vgg.build_backbone()
    assert float(tf.reduce_max(backbone.get_layer("block1_conv1").kernel)) < 5
    vgg.load_weights(backbone, "imagenet", "--regressor_vgg_weights")
    names = [f"block{b}_conv{i + 1}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(n)]
    for index, name in enumerate(names):
        kernel, bias = backbone.get_layer(name).get_weights()
        assert np.all(kernel == 2 * index) and np.all(bias == 2 * index + 1)


@pytest.mark.parametrize(
    "flag, remedy",
    [
        ("--regressor_vgg_weights", "give a file, or none"),
        ("--inversion_perceptual", "give a file, or regressor"),
    ],
)
def test_a_failed_download_is_reported_in_one_line(monkeypatch, flag, remedy):
    def offline(**options):
        raise Exception("URL fetch failure on\nhttps://example.org: None -- no name")

    monkeypatch.setattr(keras.applications, "VGG16", offline)
    with pytest.raises(UserError) as caught:
        vgg.load_weights(keras.Model(), "imagenet", flag)
    assert str(caught.value) == (
        f"{flag}=imagenet: the weights are not available (URL fetch failure on "
        f"https://example.org: None -- no name); connect to the network once, or {remedy}"
    )


def test_weights_from_a_file(slim_vgg, tmp_path):
    source = keras.applications.VGG16(include_top=False, weights=None)
    source.set_weights([np.full(w.shape, i, np.float32) for i, w in enumerate(source.weights)])
    path = tmp_path / "vgg16.weights.h5"
    source.save_weights(path)
    backbone = vgg.build_backbone()
    vgg.load_weights(backbone, str(path), "--inversion_perceptual")
    for loaded, expected in zip(backbone.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, expected)


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
def test_a_file_without_vgg16s_weights_is_reported_in_one_line(slim_vgg, tmp_path, make):
    path = make(tmp_path)
    backbone = vgg.build_backbone()
    before = tiny.values(backbone)
    with pytest.raises(UserError) as caught:
        vgg.load_weights(backbone, str(path), "--inversion_perceptual")
    line = str(caught.value)
    assert line.startswith(
        f"--inversion_perceptual={path}: not a file of VGG16 weights without top ("
    )
    assert line.endswith("); give such a file, or imagenet or regressor") and "\n" not in line
    assert tiny.same(before, tiny.values(backbone))


def test_the_options_know_the_group_of_the_minibatch_standard_deviation():
    assert MinibatchStd().group == MINIBATCH_GROUP
