"""cgan_tf.networks.residual: its layers, its sizes, its start, and its way through the stages."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from fake_run import make_config, make_run

from cgan_tf.core import artifact
from cgan_tf.core import config as config_module
from cgan_tf.core.config import Config
from cgan_tf.editing import models
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.export import stage as export_stage
from cgan_tf.networks import convolution
from cgan_tf.networks.residual import Repeat, ResidualDiscriminator, ResidualGenerator
from cgan_tf.stages import gan, gan_trainer


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Layers.


def test_repeated_pixels():
    x = normal(2, 3, 4, 5)
    np.testing.assert_array_equal(Repeat()(x), x.repeat(2, axis=1).repeat(2, axis=2))


@pytest.mark.parametrize("side, training", [(4, True), (4, False), (6, True)])
def test_an_upsampled_convolution_convolves_repeated_pixels(side, training):
    layer = convolution.UpsampledConv2D(5)
    x = normal(2, side, side, 3)
    y = layer(x, training=training)  # a matrix product at 4 px
    layer.kernel.assign(normal(3, 3, 5, 3, seed=1))
    y = layer(x, training=training)
    repeated = x.repeat(2, axis=1).repeat(2, axis=2)
    # The kernel of a transposed convolution, of stride 1, is mirrored.
    kernel = layer.kernel.numpy()[::-1, ::-1].transpose(0, 1, 3, 2)
    np.testing.assert_allclose(y, tf.nn.conv2d(repeated, kernel, 1, "SAME"), atol=1e-4)


# Networks.


def test_the_parameter_counts_are_the_sums_over_the_blocks():
    def g_block(c, f):  # 3 px, upsampling 3 px, shortcut; two batch norms
        return 9 * c * f + 9 * f * f + (c * f + f) + 4 * f + 4 * f

    first = 10 * 16 * 16 + 16 * 16 + 4 * 16
    to_image = sum(16 * c * 3 + 3 for c in (16, 8, 4))
    generator = ResidualGenerator(32, 10, 4)
    assert generator.count_params() == first + g_block(16, 8) + g_block(8, 4) + to_image

    def d_block(c, f):  # 4 px, 3 px, shortcut
        return (16 * c * c + c) + (9 * c * f + f) + c * f

    blocks = (16 * 3 * 4 + 4) + d_block(4, 8) + d_block(8, 16)
    assert ResidualDiscriminator(32, 4).count_params() == blocks + 16 * 17 + 1
    assert ResidualDiscriminator(32, 4, minibatch_std=False).count_params() == blocks + 16 * 16 + 1


@pytest.mark.parametrize("make", [ResidualGenerator, ResidualDiscriminator])
def test_the_networks_begin_as_their_shortcuts(make):
    """The last convolution of each branch is zero; others are not."""
    model = make(32, 6, 4) if make is ResidualGenerator else make(32, 4)
    kernels = [layer for layer in model.layers if hasattr(layer, "kernel")]
    zero = [layer for layer in kernels if not np.any(layer.kernel.numpy())]
    assert len(zero) == 2  # to or from 8 px, and 16 px
    add = {layer for layer in model.layers if isinstance(layer, keras.layers.Add)}
    ends = {layer.name for end in add for layer in inbound(end)}
    assert {layer.name for layer in zero} <= ends


def inbound(layer):
    return [tensor._keras_history.operation for tensor in layer.input]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("norm", ["batch", "pixel"])
def test_shapes_and_ranges(policy, norm):
    generator = ResidualGenerator(64, 10, 4, norm=norm, dtype=policy)
    for weight in generator.trainable_weights:  # saturates the tanh
        weight.assign(normal(*weight.shape) * 3)
    fakes = generator(normal(4, 10), training=True)
    assert fakes.shape == (4, 64, 64, 3) and fakes.dtype == tf.float32
    assert -1 <= float(tf.reduce_min(fakes)) < -0.9 and 0.9 < float(tf.reduce_max(fakes)) <= 1
    assert {side: maps.shape[1:] for side, maps in generator.maps.items()} == {
        side: (side, side, 4 * 32 // side) for side in (4, 8, 16, 32)
    }
    logits = ResidualDiscriminator(64, 4, dtype=policy)(fakes, training=True)
    assert logits.shape == (4, 1) and logits.dtype == tf.float32
    assert {weight.dtype for weight in generator.weights} == {"float32"}


def test_a_gradient_penalty_reaches_every_kernel():
    model = ResidualDiscriminator(32, 4)
    for layer in model.layers:  # a zero kernel hides the layers before it
        if hasattr(layer, "kernel"):
            layer.kernel.assign(0.2 * normal(*layer.kernel.shape))
    x = tf.constant(normal(4, 32, 32, 3))
    kernels = [layer.kernel for layer in model.layers if hasattr(layer, "kernel")]
    assert len(kernels) == 2 + 2 * 3
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            inner.watch(x)
            total = tf.reduce_sum(model(x, training=True))
        penalty = tf.reduce_sum(tf.square(inner.gradient(total, x)))
    for gradient in outer.gradient(penalty, [kernel.value for kernel in kernels]):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 1e-4


def test_the_options_select_the_networks():
    config = config_module.replace(
        Config(), gan_arch="residual", gan_z_dim=6, gan_width=4, gan_prior="uniform",
        gan_g_norm="pixel", gan_minibatch_std=False,
    )  # fmt: skip
    generator, discriminator = models.build_generator(config), models.build_discriminator(config)
    assert type(generator) is ResidualGenerator and type(discriminator) is ResidualDiscriminator
    assert generator.get_config() == {
        "resolution": 64, "z_dim": 6, "width": 4, "prior": "uniform", "norm": "pixel"
    }  # fmt: skip
    assert discriminator.get_config() == {"resolution": 64, "width": 4, "minibatch_std": False}
    assert generator.latent_shape == (6,) and generator.space == "z"


def test_the_saved_networks_give_the_same_outputs(tmp_path):
    generator, discriminator = ResidualGenerator(32, 6, 4), ResidualDiscriminator(32, 4)
    artifact.save_model(generator, tmp_path / "model")
    artifact.save_model(discriminator, tmp_path / "discriminator")
    z = normal(4, 6)
    fakes = generator.from_prior(z)
    np.testing.assert_array_equal(models.load_generator(tmp_path / "model")(z), fakes)
    loaded = models.load_discriminator(tmp_path / "discriminator")
    np.testing.assert_array_equal(loaded(fakes), discriminator(fakes))


# Stages and export.


def test_training_changes_all_weights(cache):
    """Two steps: in the first, the zero kernels hide the layers before them."""
    config = tiny.make_config(cache, gan_arch="residual", gan_penalty_interval=1)
    trainer = gan_trainer.GAN(config, "float32")
    networks = trainer.generator, trainer.discriminator
    variables = [v for model in networks for v in model.trainable_variables]
    before = [variable.numpy() for variable in variables]
    for step in range(2):
        losses = trainer.train_step(tf.tanh(normal(8, 32, 32, 3, seed=step)), (True,))
    assert np.isfinite(list(losses.values())).all()
    unchanged = [
        variable.path
        for variable, value in zip(variables, before, strict=True)
        if np.array_equal(variable.numpy(), value)
    ]
    assert unchanged == []


@pytest.mark.slow
def test_a_killed_and_resumed_training_ends_with_the_same_weights(
    cache, faces, tmp_path, monkeypatch
):
    config = tiny.make_config(
        cache,
        gan_arch="residual",
        gan_kimg=0.04,
        gan_penalty_interval=1,
        checkpoint_minutes=1e-9,
    )
    states = []
    for name in ("whole", "killed"):
        folder = tiny.RunFolder(tmp_path / name)
        tiny.save_config(folder, config, faces)
        if name == "killed":
            with monkeypatch.context() as patch:
                tiny.interrupt(patch, checkpoint=1, kill=2)
                with pytest.raises(tiny.Killed):
                    gan.run(config, folder, faces)
        gan.run(config, folder, faces)
        states.append(tiny.final_state(folder.stage("gan")))
    tiny.assert_equal_state(*states)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["batch", "pixel"])
def test_an_editor_can_be_exported(tmp_path, norm):
    config = make_config(
        tmp_path / "cache",
        gan_arch="residual",
        gan_g_norm=norm,
        export_quantize=("none", "float16"),
    )
    folder = make_run(tmp_path / "run", config)
    assert type(EditingNetwork.from_run(folder.path).generator) is ResidualGenerator
    export_stage.export_to(config, folder, tmp_path / "export", say=lambda line: None)
    report = json.loads((tmp_path / "export" / "report.json").read_text())
    assert report["passed"]
    assert set(report["variants"]) == {"saved_model", "translator_float32", "translator_float16"}
    operators = report["variants"]["translator_float32"]["operators"]
    assert "TRANSPOSE_CONV" not in operators and "DEPTH_TO_SPACE" in operators
