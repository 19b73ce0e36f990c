"""cgan_tf.networks.stylegan: each layer against its formula, and the latent spaces."""

import dataclasses
import json

import fake_run
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from cgan_tf.core import artifact
from cgan_tf.core import config as config_module
from cgan_tf.core.config import Config
from cgan_tf.data import images
from cgan_tf.editing import models
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.export import saved_model, tflite
from cgan_tf.export import stage as export_stage
from cgan_tf.networks import stylegan
from cgan_tf.networks.codec import Code
from cgan_tf.networks.dcgan import Generator
from cgan_tf.networks.stylegan import StyleConv, StyleGenerator
from cgan_tf.stages import gan


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def make(style="modulated", dtype="float32", resolution=32, seed=3):
    """A small generator in which all parts matter: no styles, noise or biases are 0."""
    keras.utils.set_random_seed(seed)
    model = StyleGenerator(resolution, 6, 8, style, dtype=dtype)
    for layer in model.convolutions:
        layer.affine.bias.assign(0.3 * normal(*layer.affine.bias.shape, seed=1))
        layer.bias.assign(0.3 * normal(*layer.bias.shape, seed=2))
        layer.noise_scale.assign(0.4)
    for layer in model.to_image:
        layer.kernel.assign(0.1 * normal(*layer.kernel.shape, seed=4))
    model.w_mean.assign(normal(6, seed=5))
    return model


def images_of(model, count, seed):
    return model.training_images(model.sample_inputs(count, keras.random.SeedGenerator(seed)))


@pytest.fixture(scope="module")
def model():
    """For tests that do not change it."""
    return make()


def conv_by_image(x, kernel, up):
    """Convolves image i with kernel i, one convolution per image."""
    outputs = []
    for image, weights in zip(x, kernel, strict=True):
        if up:
            shape = (1, 2 * x.shape[1], 2 * x.shape[2], weights.shape[2])
            outputs.append(tf.nn.conv2d_transpose(image[None], weights, shape, 2, "SAME"))
        else:
            outputs.append(tf.nn.conv2d(image[None], weights, 1, "SAME"))
    return np.concatenate(outputs)


@pytest.mark.parametrize("up", [False, True])
def test_the_modulated_layer_equals_the_paper_with_a_kernel_per_image(up):
    keras.utils.set_random_seed(1)
    layer, side = StyleConv(4, "modulated", up), 10 if up else 5
    x, w, noise = normal(3, 5, 5, 7), normal(3, 6, seed=1), normal(3, side, side, 1, seed=2)
    layer(x, w, noise)
    layer.bias.assign(normal(4, seed=3))
    layer.noise_scale.assign(0.7)
    style = 1 + 2 * w @ layer.affine.kernel.numpy() / np.sqrt(6)  # [N, C]
    kernel = layer.convolution.scaled_kernel().numpy()
    axis = 4 if up else 3  # the input channels in [N, h, w, ., .]
    shape = [3, 1, 1, 1, 1]
    shape[axis] = 7
    kernel = kernel[None] * style.reshape(shape)
    # After upsampling, a pixel sums over a quarter of the positions.
    squares = np.sum(kernel**2, axis=(1, 2, axis), keepdims=True) / (4 if up else 1)
    x = conv_by_image(x, np.sqrt(2) * kernel / np.sqrt(squares), up)
    x += 0.7 * noise + layer.bias.numpy()
    expected = np.maximum(x, 0.2 * x)
    np.testing.assert_allclose(layer(normal(3, 5, 5, 7), w, noise), expected, atol=2e-5)


@pytest.mark.parametrize("style, up", [("modulated", True), ("modulated", False), ("adain", True)])
def test_a_layer_preserves_the_variance_of_its_input(style, up):
    keras.utils.set_random_seed(1)
    layer = StyleConv(64, style, up)
    side = 16 if up else 8
    y = layer(normal(16, 8, 8, 64), 30 * normal(16, 6), np.zeros((1, side, side, 1), np.float32))
    inner = y.numpy()[:, 2:-2, 2:-2]
    if style == "adain":
        inner = inner / 60 / np.sqrt(2)  # scale and offset have the style's variance
    assert 0.8 < np.sqrt(np.mean(inner**2)) < 1.25


def test_adain_sets_each_channels_mean_and_standard_deviation():
    keras.utils.set_random_seed(1)
    layer = StyleConv(4, "adain")
    w = normal(3, 6, seed=1)
    noise = normal(3, 5, 5, 1, seed=2)
    y = layer(normal(3, 5, 5, 7), w, noise).numpy()
    scale, offset = np.split(2 * w @ layer.affine.kernel.numpy() / np.sqrt(6), 2, axis=1)
    np.testing.assert_allclose(y.mean(axis=(1, 2)), offset, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=(1, 2)), np.abs(1 + scale), rtol=1e-4)


@pytest.mark.parametrize(
    "style, resolution, dtype",
    [
        # The fast cases have every value.
        ("modulated", 32, "float32"),
        ("adain", 32, "mixed_bfloat16"),
        ("adain", 64, "float32"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("modulated", 64, "mixed_bfloat16"),
                ("modulated", 32, "mixed_bfloat16"),
                ("modulated", 64, "float32"),
                ("adain", 32, "float32"),
                ("adain", 64, "mixed_bfloat16"),
            )
        ),
    ],
)
def test_shapes_and_ranges(style, resolution, dtype):
    model = make(style, dtype, resolution)
    assert model.num_layers == 2 * np.log2(resolution) - 5
    assert model.sides == [4, 8, 8, 16, 16, 32, 32][: model.num_layers]
    image = model(normal(3, 6))
    assert image.shape == (3, resolution, resolution, 3) and image.dtype == tf.float32
    assert np.abs(image).max() <= 1 and np.std(image) > 0.2
    assert {weight.dtype for weight in model.weights} == {"float32"}


def test_the_initial_images_are_gray():
    model = StyleGenerator(64, 32, 16)
    np.testing.assert_array_equal(model(normal(4, 32)), np.zeros((4, 64, 64, 3)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(normal(4, 32)) * normal(4, 64, 64, 3))
    kernels = [layer.kernel for layer in model.to_image]
    assert min(np.abs(gradient).max() for gradient in tape.gradient(loss, kernels)) > 0


def test_half_precision_gives_almost_the_same_images(model):
    half = make(dtype="mixed_bfloat16")
    z = normal(8, 6)
    full = model(z).numpy()
    assert 1e-4 < np.abs(half(z) - full).max() < 0.15


def test_w_depends_only_on_the_direction_of_z(model):
    z = normal(5, 6)
    np.testing.assert_allclose(model.mapping(3 * z), model.mapping(z), rtol=1e-4, atol=1e-5)
    assert np.abs(model.mapping(-z) - model.mapping(z)).max() > 0.1


def test_the_mapping_has_a_hundredth_of_the_learning_rate(model):
    """Adam's step of its kernel has a hundredth of the usual effect."""
    dense = [layer for layer in model.mapping.layers if hasattr(layer, "kernel")]
    assert len(dense) == stylegan.MAPPING_LAYERS
    for layer in dense:
        assert layer.scale == pytest.approx(0.01 * np.sqrt(2 / 6), rel=1e-6)
        assert layer.kernel.numpy().std() == pytest.approx(100, rel=0.3)
    assert model.convolutions[0].affine.scale == pytest.approx(2 / np.sqrt(6), rel=1e-6)


def test_all_spaces_give_the_same_image():
    model, z = make(), normal(4, 6)
    from_z = model(z).numpy()
    w = model.mapping(z)
    for space, shape in (("w", (6,)), ("ws", (5, 6))):
        model.space = space
        assert model.latent_shape == shape
        latent = model.to_space(z)
        assert latent.shape == (4, *shape)
        np.testing.assert_allclose(model(latent), from_z, atol=1e-5)
        np.testing.assert_array_equal(
            model.sample_latent(3, seed=8), model.to_space(model.sample_prior(3, seed=8))
        )
    np.testing.assert_array_equal(model.to_space(z)[:, 3], w)
    np.testing.assert_allclose(model.from_prior(z), from_z, atol=1e-5)


def test_each_layer_has_its_own_w():
    model = make()
    model.space = "ws"
    ws = np.array(model.to_space(normal(1, 6)))
    before = model(ws).numpy()
    for layer in range(model.num_layers):
        moved = ws.copy()
        moved[:, layer] += 1
        assert np.abs(model(moved) - before).max() > 1e-3


def test_truncation_moves_w_towards_its_mean():
    model, z = make(), normal(4, 6)
    mean, w = model.w_mean.numpy(), model.mapping(z).numpy()
    np.testing.assert_allclose(model.truncate(w, 0.25), 0.75 * mean + 0.25 * w, atol=1e-6)
    np.testing.assert_allclose(model.from_prior(z, 1.0), model(z), atol=1e-5)
    model.space = "w"
    np.testing.assert_allclose(
        model.from_prior(z, 0.3), model(np.float32(0.7 * mean + 0.3 * w)), atol=1e-5
    )
    mean_face = model(mean[None]).numpy()
    np.testing.assert_allclose(model.from_prior(z, 0.0), np.repeat(mean_face, 4, 0), atol=1e-5)


def test_the_noise_is_part_of_the_model(model):
    z = normal(2, 6)
    np.testing.assert_array_equal(model(z), model(z))
    silent = model.synthesize(
        tf.tile(model.mapping(z)[:, None], (1, 5, 1)), [0.0 * noise for noise in model.noise]
    )
    assert np.abs(model(z) - silent).max() > 0.05
    for noise, side in zip(model.noise, model.sides, strict=True):
        assert noise.shape == (1, side, side, 1) and 0.6 < noise.numpy().std() < 1.4


def test_training_images_mix_the_styles_of_two_latents(monkeypatch):
    model = make()
    seen = []
    monkeypatch.setattr(model, "synthesize", lambda *given: seen.append(given) or given[0])
    model.training_images(model.sample_inputs(3000, keras.random.SeedGenerator(2)))
    ws, noise = seen[0][0].numpy(), seen[0][1]
    changes = np.any(ws[:, 1:] != ws[:, :-1], axis=2)  # [N, layers - 1]
    assert changes.sum(axis=1).max() == 1  # one crossover at most
    share = changes.mean(axis=0)  # equally often after each layer but the last
    np.testing.assert_allclose(share, stylegan.MIXING / 4, atol=0.03)
    assert changes.any(axis=1).mean() == pytest.approx(stylegan.MIXING, abs=0.02)
    assert [part.shape for part in noise] == [(3000, s, s, 1) for s in model.sides]
    values = np.concatenate([part.numpy().ravel() for part in noise])
    assert abs(values.mean()) < 0.01 and values.std() == pytest.approx(1, abs=0.01)


def test_training_images_depend_on_the_seed(model):
    images = [images_of(make(), 3, s).numpy() for s in (1, 1, 2)]
    np.testing.assert_array_equal(images[0], images[1])
    assert np.abs(images[0] - images[2]).mean() > 0.05
    assert images[0].shape == (3, 32, 32, 3)


def test_the_moving_average_of_w():
    model = make()
    model.w_mean.assign(np.full(6, 9.0))
    seed = keras.random.SeedGenerator(2)
    w = model.mapping(model.sample_prior(4, keras.random.SeedGenerator(2))).numpy()
    model.training_images(model.sample_inputs(4, seed))
    expected = 0.995 * 9.0 + 0.005 * w.mean(axis=0)
    np.testing.assert_allclose(model.w_mean, expected, rtol=1e-5)


@pytest.mark.parametrize("style", ["modulated", "adain"])
def test_every_weight_has_a_gradient(style):
    model = make(style)
    with tf.GradientTape() as tape:
        images = images_of(model, 4, 1)
        loss = tf.reduce_mean(images**2 * normal(4, 32, 32, 3))
    for weight, gradient in zip(
        model.trainable_weights, tape.gradient(loss, model.trainable_weights), strict=True
    ):
        assert gradient is not None and np.abs(gradient).max() > 0, weight.path
    fixed = {weight.name for weight in model.non_trainable_weights}
    assert fixed == {"w_mean", *(f"noise_{index}" for index in range(5))}


def test_the_saved_model_gives_the_same_images(model, tmp_path):
    artifact.save_model(model, tmp_path / "model")
    loaded, z = models.load_generator(tmp_path / "model"), normal(3, 6)
    np.testing.assert_array_equal(loaded(z), model(z))
    in_w = models.load_generator(tmp_path / "model", "w")
    np.testing.assert_allclose(in_w(in_w.to_space(z)), model(z), atol=1e-5)


def test_the_options_select_the_generator():
    config = config_module.replace(Config(), gan_z_dim=6, gan_width=8)
    assert isinstance(models.build_generator(config), Generator)
    config = config_module.replace(config, gan_arch="stylegan", gan_style="adain")
    model = models.build_generator(config)
    assert isinstance(model, StyleGenerator)
    assert (model.resolution, model.z_dim, model.width, model.style) == (64, 6, 8, "adain")
    assert model.convolutions[0].style == "adain"


# The stage.


def finished_stage(path, cache, faces, **options):
    """The options and the folder of a finished tiny gan stage."""
    config = tiny.make_config(cache, gan_arch="stylegan", **options)
    folder = tiny.RunFolder(path)
    tiny.save_config(folder, config, faces)
    gan.run(config, folder, faces)
    return config, folder


@pytest.mark.slow
def test_a_killed_and_resumed_training_ends_with_the_same_weights(
    cache, faces, tmp_path, monkeypatch
):
    # Three penalized steps: one function is traced.
    options = {"gan_kimg": 0.024, "gan_penalty_interval": 1}
    config, folder = finished_stage(tmp_path / "whole", cache, faces, **options)
    again = tiny.RunFolder(tmp_path / "run")
    config = dataclasses.replace(config, checkpoint_minutes=1e-9)
    tiny.save_config(again, config, faces)
    with monkeypatch.context() as patch:
        tiny.interrupt(patch, checkpoint=1, kill=2)
        with pytest.raises(tiny.Killed):
            gan.run(config, again, faces)
    gan.run(config, again, faces)
    one, two = (tiny.final_state(run.stage("gan")) for run in (folder, again))
    tiny.assert_equal_state(one, two)


def test_the_stage_saves_grids_of_truncation_and_mixing(cache, faces, tmp_path):
    options = {"gan_kimg": 0.008, "gan_penalty": "none"}  # one step, the cheapest
    config, folder = finished_stage(tmp_path / "run", cache, faces, **options)
    path = folder.stage("gan").path
    model = models.load_generator(folder.stage("gan").model)
    assert isinstance(model, StyleGenerator)
    assert not np.array_equal(model.w_mean, np.zeros(config.gan.z_dim))
    z = model.sample_prior(gan.GRID, seed=config.seed)
    truncation = images.decode_file(path / "truncation.png")
    mixing = images.decode_file(path / "mixing.png")
    np.testing.assert_array_equal(truncation, gan.truncation_grid(model, z[:8]))
    np.testing.assert_array_equal(mixing, gan.mixing_grid(model, z[:14]))
    assert truncation.shape == (6 * 32, 8 * 32, 3) and mixing.shape == (8 * 32, 8 * 32, 3)


def test_mixing_uses_the_coarse_layers_of_the_left(model):
    z = normal(4, 6)
    cells = gan.mixing_grid(model, z).reshape(3, 32, 3, 32, 3).transpose(0, 2, 1, 3, 4)
    faces = images.to_uint8(model.from_prior(z).numpy())
    assert (cells[0, 0] == 255).all()
    np.testing.assert_array_equal(cells[1:, 0], faces[:2])
    np.testing.assert_array_equal(cells[0, 1:], faces[2:])
    ws = np.repeat(model.mapping(z).numpy()[3:4, None], 5, axis=1)
    ws[0, :3] = model.mapping(z)[0]  # 4, 8 and 8 px
    expected = images.to_uint8(model.synthesize(ws, model.noise).numpy())[0]
    assert np.abs(cells[1, 2].astype(int) - expected).max() <= 1


# The stages after it.


@pytest.mark.slow
def test_an_editor_in_ws_works_and_can_be_exported(tmp_path):
    """The SavedModel and the TFLite file must give Keras's images."""
    config = fake_run.make_config(
        tmp_path / "cache",
        gan_arch="stylegan",
        inversion_space="ws",
        export_truncation=0.7,
        export_quantize=("none",),
    )
    folder = fake_run.make_run(tmp_path / "run", config)
    editor = EditingNetwork.from_run(folder.path)
    assert editor.directions.shape == (3, 5, 24)
    codec, strengths = editor.codec, np.float32([[0.5, 0, -1], [0, 2, 0]])
    code = Code(*map(tf.constant, (normal(2, 5, 24), normal(2, *codec.features_shape))))
    offset = np.einsum("nk,klw->nlw", strengths, editor.directions.numpy())
    np.testing.assert_allclose(
        editor.generate(code, strengths), codec.generate(code, offset), atol=1e-5
    )
    z = normal(2, 24)
    np.testing.assert_allclose(editor.sample(z), editor.generator.from_prior(z, 0.7), atol=1e-6)
    lines = []
    export_stage.export_to(config, folder, tmp_path / "export", say=lines.append)
    report = json.loads((tmp_path / "export" / "report.json").read_text())
    assert report["passed"] and set(report["variants"]) == {"saved_model", "translator_float32"}
    description = json.loads((tmp_path / "export" / "model.json").read_text())
    assert (description["space"], description["latent_shape"]) == ("ws", [5, 24])
    assert description["truncation"] == 0.7


@pytest.mark.slow
def test_the_first_convolution_of_adain_is_precomputed(tmp_path):
    """A TFLite file contains neither the first layer's kernel nor an unused mapping."""
    config = fake_run.make_config(
        tmp_path / "cache", gan_arch="stylegan", gan_style="adain", inversion_space="w"
    )
    editor = EditingNetwork.from_run(fake_run.make_run(tmp_path / "run", config).path)
    saved_model.write(editor, tmp_path / "batch1", saved_model.DEVICE_SIGNATURES, batch=1)
    content = tflite.convert(tmp_path / "batch1", "none", "{}")
    generator = editor.generator
    first = generator.convolutions[0].convolution.kernel.shape
    assert first in generator.absent_shapes
    assert len(generator.absent_shapes) == 2 + len(generator.mapping.weights)
    shapes = [tuple(weight.shape) for weight in editor.weights]
    derived = generator.derived_shapes
    assert tflite.check_file(content, shapes, 4, derived, generator.absent_shapes) is None
    assert tflite.check_file(content, shapes, 4, derived).startswith("contains ")
