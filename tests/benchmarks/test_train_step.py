"""benchmarks.train_step: which steps it times, and what it says about them."""

import numpy as np
import pytest
from toy import Toy, batches

from benchmarks import own_step, train_step
from benchmarks.own_step import Size
from cgan_tf.core.errors import UserError
from cgan_tf.editing import models
from cgan_tf.networks import dcgan


def test_the_words_of_a_name_are_its_options():
    assert train_step.parse("own") == ("own", {})
    assert train_step.parse("own_r1_16_float32_jit") == (
        "own",
        {"penalty": "r1", "steps": 16, "policy": "float32", "jit": True},
    )
    assert train_step.parse("pytorch_graphs") == ("pytorch", {"mode": "reduce-overhead"})
    assert train_step.parse("pytorch_product") == ("pytorch_product", {})
    for name in train_step.SUBJECTS:
        train_step.parse(name)


@pytest.mark.parametrize("name", ["own_fast", "textbook_16", "own_0", "jax", "pytorch_jit"])
def test_unknown_names_are_refused(name):
    with pytest.raises(UserError, match=f"--subjects={name}"):
        train_step.parse(name)


@pytest.mark.parametrize("size", [Size(64, 48, 8), Size(32, 8, 8), Size(256, 48, 8)])
def test_the_channels_are_those_of_the_networks(size):
    assert train_step.level_widths(size) == dcgan.level_widths(size.resolution, size.width)


def test_flops_of_one_pass_follow_from_the_kernels():
    size = Size(32, 8, 8)
    config = own_step.make_config(size)
    networks = models.build_generator(config), models.build_discriminator(config)
    passes = []
    for network in networks:
        total = 0
        for layer in network.layers:
            if not hasattr(layer, "kernel"):
                continue
            shapes = (layer.input.shape, layer.output.shape)
            small = min(int(np.prod(shape[1:3])) if len(shape) == 4 else 1 for shape in shapes)
            total += int(np.prod(layer.kernel.shape)) * small
        passes.append(total)
    g, d = passes
    first = 16 * 3 * 8 * 16**2  # D's first layer: 4 px kernels at the 16 px positions of its output
    dense = config.gan.z_dim * 16 * train_step.level_widths(size)[0]
    expected = {
        True: 2 * (g + 2 * d + 2 * (2 * d - first) + d + 2 * g - dense),
        False: 2 * (2 * g + 3 * d + 2 * (2 * d - first) + d + 2 * g - dense),
    }
    assert {own: train_step.flops(size, own) for own in expected} == expected


@pytest.mark.parametrize("unrolled", [False, True])
def test_a_call_runs_so_many_steps(unrolled):
    several, one = Toy(), Toy()
    batch = next(iter(batches(0)))
    run = own_step.BareSteps(several, batch, steps=4, unrolled=unrolled)
    single = own_step.BareSteps(one, batch)
    run(), run()
    for _ in range(8):
        single()
    np.testing.assert_allclose(several.weight.numpy(), one.weight.numpy(), rtol=1e-6)
    assert not np.allclose(Toy().weight.numpy(), one.weight.numpy())


def test_unrolled_steps_must_contain_each_variant():
    trainer = Toy()
    trainer.period = 3
    with pytest.raises(ValueError, match="multiple of 3"):
        own_step.BareSteps(trainer, next(iter(batches(0))), steps=4, unrolled=True)


def test_different_networks_and_devices_are_not_compared():
    alike = {"own": {"weights": [3, 4], "device": "CPU"}, "tf_product": {"device": "CPU"}}
    train_step.check_alike(alike)
    with pytest.raises(UserError, match="networks differ"):
        train_step.check_alike(alike | {"pytorch": {"weights": [3, 5], "device": "CPU"}})
    with pytest.raises(UserError, match="own runs on the CPU, pytorch on the GPU"):
        train_step.check_alike(alike | {"pytorch": {"weights": [3, 4], "device": "GPU"}})


def test_ratios_are_to_the_best_of_each_kind():
    seconds = {
        "own_16": [1.0, 1.0, 1.0],
        "pytorch": [2.0, 2.0, 8.0],
        "pytorch_float32": [4.0, 4.0, 4.0],
        "pytorch_compiled": [1.5, 1.5, 1.5],
        "tf_product": [0.5, 0.25, 0.5],
    }
    found = train_step.summarize({"seconds": seconds}, batch=6)
    assert found["best"] == {"eager": "pytorch", "compiled": "pytorch_compiled"}
    assert found["images_per_second"]["own_16"] == 6.0
    assert found["ratios"]["eager"]["own_16"] == 2.0
    assert found["ratios"]["compiled"]["own_16"] == 1.5
    assert found["product_flops"] == pytest.approx(2 * 4096**3 / 0.25)
