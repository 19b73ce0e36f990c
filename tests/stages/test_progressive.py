"""cgan_tf.progressive: the schedule, what a level begins with, and a run killed in a fade."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from cgan_tf.core import artifact
from cgan_tf.core import config as config_module
from cgan_tf.core.config import Config
from cgan_tf.data import images
from cgan_tf.networks import growing
from cgan_tf.networks.dcgan import Generator
from cgan_tf.stages import gan, progressive
from cgan_tf.stages.progressive import Level
from cgan_tf.training import loop
from cgan_tf.training.loop import Stretch

# 8 px: 4 steps of 16; 16 px: 4 of 8 that fade in and 4 more; 32 px: 4 and 4 of 8.
GROWING = {
    "gan_progressive": True,
    "gan_kimg": 0.192,
    "level_kimg": 0.064,
    "fade_kimg": 0.032,
    "level_batch_sizes": (16, 8, 8),
}


def make_config(cache, **options):
    return tiny.make_config(cache, **GROWING | options)


def test_the_schedule():
    config = config_module.replace(Config(), 
        gan_progressive=True, gan_kimg=100.0, level_kimg=20.0, fade_kimg=5.0, gan_batch_size=32,
        level_batch_sizes=(64, 64, 32, 32), gan_d_steps=2,
    )  # fmt: skip
    assert progressive.schedule(config) == [
        Level(8, False, 64, 157),  # 20 kimg of 128 images a step: 156.25
        Level(16, True, 64, 40),
        Level(16, False, 64, 118),
        Level(32, True, 32, 79),
        Level(32, False, 32, 235),
        Level(64, True, 32, 79),
        Level(64, False, 32, 547),  # what is left of the 100
    ]
    whole_fade = progressive.schedule(config_module.replace(config, fade_kimg=20.0))
    assert [(level.side, level.fading) for level in whole_fade] == [
        (8, False), (16, True), (32, True), (64, True), (64, False)
    ]  # fmt: skip


def test_stretches_are_counted_in_images():
    stretches = [Stretch(4, 16), Stretch(2, 8), Stretch(3, 4)]
    seen = [loop.images_seen(stretches, step) for step in range(10)]
    assert seen == [0, 16, 32, 48, 64, 72, 80, 84, 88, 92]
    at = [loop._stretch_at(stretches, step) for step in range(9)]
    assert at == [(0, 0, 4)] * 4 + [(1, 4, 6)] * 2 + [(2, 6, 9)] * 3


@pytest.fixture(scope="module", params=["dcgan", "stylegan"])
def finished(request, tmp_path_factory, cache, faces):
    """A finished tiny gan stage, with ada."""
    config = make_config(cache, gan_arch=request.param, gan_augment="ada", grid_kimg=0.032)
    folder = tiny.RunFolder(tmp_path_factory.mktemp("growing") / "run")
    tiny.save_config(folder, config, faces)
    gan.run(config, folder, faces)
    return config, folder


@pytest.mark.parametrize("checkpoint, kill", [(5, 7), (12, 14)])
def test_killed_in_a_fade_and_resumed_it_ends_with_the_same_weights(
    finished, faces, tmp_path, monkeypatch, checkpoint, kill
):
    config, folder = finished
    again = tiny.RunFolder(tmp_path / "run")
    config = dataclasses.replace(config, checkpoint_minutes=1e-9)
    tiny.save_config(again, config, faces)
    with monkeypatch.context() as patch:
        tiny.interrupt(patch, checkpoint, kill)
        with pytest.raises(tiny.Killed):
            gan.run(config, again, faces)
    gan.run(config, again, faces)
    one, two = (tiny.final_state(run.stage("gan")) for run in (folder, again))
    tiny.assert_equal_state(one, two)
    one, two = (run.stage("gan").read_stats() for run in (folder, again))
    assert [line["kimg"] for line in one] == [line["kimg"] for line in two]


def test_the_stage_leaves_ordinary_models(finished):
    config, folder = finished
    generator = artifact.load_model((Generator, gan.StyleGenerator), folder.stage("gan").model)
    assert generator.resolution == 32
    state = tiny.final_state(folder.stage("gan"))
    names = sorted(name for name in state if name.startswith("average/"))
    for name, weight in zip(names, generator.weights, strict=False):
        np.testing.assert_array_equal(state[name], weight.numpy())
    added = 4 if config.gan.arch == "dcgan" else 0
    assert len(names) == len(generator.weights) + added


def test_the_grids_show_the_growth(finished):
    _, folder = finished
    path = folder.stage("gan").path
    grids = sorted(path.glob("fakes*.png"))
    assert [grid.name for grid in grids] == ["fakes000000.png"]  # all of them below 1 kimg
    last = images.decode_file(grids[0])
    assert last.shape == (8 * 32, 8 * 32, 3)


def test_a_picture_of_a_level_has_its_pixels(cache):
    trainer = progressive.ProgressiveGAN(make_config(cache), "float32")
    z = trainer.generator.sample_prior(4, seed=1)
    for index, level in enumerate(trainer.levels):
        trainer.enter(index, True)
        assert trainer.samples(z).shape == (4, level.side, level.side, 3)


def test_a_level_begins_with_fresh_optimizers_and_its_second_half_does_not(cache):
    trainer = progressive.ProgressiveGAN(make_config(cache), "float32")
    rate = float(trainer.g_optimizer.learning_rate)
    kept = []
    for index in range(len(trainer.levels)):
        for optimizer in (trainer.g_optimizer, trainer.d_optimizer):
            for variable in optimizer.variables:
                if variable is not optimizer.learning_rate:
                    variable.assign(np.ones(variable.shape))
        trainer.enter(index, True)
        sums = [float(np.sum(v.numpy())) for v in trainer.g_optimizer.variables]
        kept.append(sum(sums) > len(sums))
        assert float(trainer.g_optimizer.learning_rate) == pytest.approx(rate)
        assert (int(trainer.d_optimizer.iterations) == 1) == kept[-1]
    assert kept == [False, False, True, False, True]
    trainer.g_optimizer.iterations.assign(3)
    trainer.enter(1, False)  # resumed
    assert int(trainer.g_optimizer.iterations) == 3


def test_alpha_goes_from_0_to_1_over_the_fade(cache):
    trainer = progressive.ProgressiveGAN(make_config(cache), "float32")
    trainer.enter(0, True)
    assert trainer._alpha() is None
    trainer.enter(1, True)
    alphas = []
    for step in range(4):
        trainer.g_optimizer.iterations.assign(step)
        alphas.append(float(trainer._alpha()))
    assert alphas == [0.0, 0.25, 0.5, 0.75]
    trainer.enter(2, True)
    assert trainer._alpha() is None


def test_the_last_stretch_is_the_ordinary_game(cache):
    grown = progressive.ProgressiveGAN(make_config(cache), "float32")
    ordinary = gan.GAN(tiny.make_config(cache), "float32")
    for mine, theirs in (
        (grown.generator, ordinary.generator),
        (grown.discriminator, ordinary.discriminator),
    ):
        for one, two in zip(mine.variables, theirs.variables, strict=True):
            one.assign(two)
    grown.seed_generator = keras.random.SeedGenerator(5)
    ordinary.seed_generator = keras.random.SeedGenerator(5)
    grown.enter(len(grown.levels) - 1, True)
    photos = tf.constant(np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 3)), tf.float32)
    logs, wanted = grown.train_step(photos), ordinary.train_step(photos)
    for name, value in wanted.items():
        assert float(logs[name]) == pytest.approx(float(value), rel=1e-5), name
    assert growing.sides(32)[-1] == grown.level.side
