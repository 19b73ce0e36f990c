"""cgan_tf.stages.progressive: the schedule, the start of a level, and resuming in a fade."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from cgan_tf.core import artifact
from cgan_tf.core import config as config_module
from cgan_tf.core.config import Config
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import images
from cgan_tf.networks import growing
from cgan_tf.networks.dcgan import Generator
from cgan_tf.networks.stylegan import StyleGenerator
from cgan_tf.stages import gan, progressive
from cgan_tf.stages.gan_trainer import GAN
from cgan_tf.stages.progressive import Level

# 8 px: 4 steps; 16 px: 2 steps that fade in and 2 more; 32 px: 2 and 3.
STEPS = [4, 2, 2, 2, 3]
DEFAULT_GROWTH, GROWTH = progressive.GROWTH, 0.66
GROWING = {"gan_progressive": True, "gan_kimg": 0.096}


@pytest.fixture(autouse=True, scope="module")
def growth():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progressive, "GROWTH", GROWTH)
        yield


def make_config(cache, **options):
    return tiny.make_config(cache, **GROWING | options)


def test_the_schedule(monkeypatch):
    monkeypatch.setattr(progressive, "GROWTH", 0.6)
    config = config_module.replace(
        Config(), gan_progressive=True, gan_kimg=100.0, gan_batch_size=64, gan_d_steps=2
    )
    assert progressive.schedule(config) == [
        Level(8, False, 157),  # 20 kimg of 128 images per step: 156.25
        Level(16, True, 79),
        Level(16, False, 79),
        Level(32, True, 79),
        Level(32, False, 79),
        Level(64, True, 79),
        Level(64, False, 235),  # the remaining 30 kimg
    ]


def test_the_lower_levels_share_almost_half_of_the_training(monkeypatch):
    monkeypatch.setattr(progressive, "GROWTH", DEFAULT_GROWTH)
    levels = progressive.schedule(config_module.replace(Config(), gan_kimg=400.0))
    steps = sum(level.steps for level in levels)
    lower = sum(level.steps for level in levels if level.side < 64)
    assert lower / steps == pytest.approx(0.45, abs=0.002)
    assert steps == pytest.approx(400_000 / 64, abs=len(levels))


def finish(config, faces, path):
    """The folder of a finished stage."""
    folder = RunFolder(path)
    tiny.save_config(folder, config, faces)
    gan.run(config, folder, faces)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache, faces):
    config = make_config(cache, gan_penalty="none")
    return config, finish(config, faces, tmp_path_factory.mktemp("growing") / "run")


@pytest.fixture(scope="module", params=["dcgan", "stylegan"])
def finished_with_all_options(request, tmp_path_factory, cache, faces):
    config = make_config(cache, gan_arch=request.param, gan_augment="ada")
    return config, finish(config, faces, tmp_path_factory.mktemp("growing") / "run")


def kill_and_resume(finished, faces, path, checkpoint, kill):
    """Trains again, with an interruption, and compares with the finished stage."""
    config, reference = finished
    config = dataclasses.replace(config, checkpoint_minutes=1e-9)
    folder = RunFolder(path)
    tiny.save_config(folder, config, faces)
    with pytest.MonkeyPatch.context() as patch:
        tiny.interrupt(patch, checkpoint, kill)
        with pytest.raises(tiny.Killed):
            gan.run(config, folder, faces)
    gan.run(config, folder, faces)
    one, two = (run.stage("gan") for run in (reference, folder))
    tiny.assert_equal_state(tiny.final_state(one), tiny.final_state(two))
    assert [line["kimg"] for line in one.read_stats()] == [
        line["kimg"] for line in two.read_stats()
    ]


@pytest.mark.slow
def test_killed_in_a_fade_and_resumed_it_ends_with_the_same_weights(finished, faces, tmp_path):
    kill_and_resume(finished, faces, tmp_path / "run", checkpoint=9, kill=10)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint, kill", [(5, 6), (9, 10)])
def test_killed_and_resumed_with_ada_and_lazy_penalties(
    finished_with_all_options, faces, tmp_path, checkpoint, kill
):
    kill_and_resume(finished_with_all_options, faces, tmp_path / "run", checkpoint, kill)


@pytest.mark.slow
def test_stylegan_needs_no_additional_layers(finished_with_all_options):
    assert_ordinary_models(*finished_with_all_options)


def assert_ordinary_models(config, folder):
    generator = artifact.load_model((Generator, StyleGenerator), folder.stage("gan").model)
    assert generator.resolution == 32
    state = tiny.final_state(folder.stage("gan"))
    names = sorted(name for name in state if name.startswith("average/"))
    for name, weight in zip(names, generator.weights, strict=False):  # then the toRGB layers'
        np.testing.assert_array_equal(state[name], weight.numpy())
    added = 4 if config.gan.arch == "dcgan" else 0
    assert len(names) == len(generator.weights) + added


def test_the_saved_models_are_ordinary_models(finished):
    assert_ordinary_models(*finished)


def test_sample_grids_have_the_full_resolution(finished):
    _, folder = finished
    path = folder.stage("gan").path
    grids = sorted(path.glob("fakes*.png"))
    assert [grid.name for grid in grids] == ["fakes000000.png"]  # all of them before 1 kimg
    last = images.decode_file(grids[0])
    assert last.shape == (8 * 32, 8 * 32, 3)


def test_samples_of_a_level_have_its_side(cache):
    trainer = progressive.ProgressiveGAN(make_config(cache), "float32")
    z = trainer.generator.sample_prior(4, seed=1)
    for index, level in enumerate(trainer.levels):
        trainer.begin_phase(index, True)
        assert trainer.samples(z).shape == (4, level.side, level.side, 3)


def test_optimizers_start_from_scratch_with_each_level(cache):
    trainer = progressive.ProgressiveGAN(make_config(cache), "float32")
    rate = float(trainer.g_optimizer.learning_rate)
    kept = []
    for index in range(len(trainer.levels)):
        for optimizer in (trainer.g_optimizer, trainer.d_optimizer):
            for variable in optimizer.variables:
                if variable is not optimizer.learning_rate:
                    variable.assign(np.ones(variable.shape))
        trainer.begin_phase(index, True)
        sums = [float(np.sum(v.numpy())) for v in trainer.g_optimizer.variables]
        kept.append(sum(sums) > len(sums))
        assert float(trainer.g_optimizer.learning_rate) == pytest.approx(rate)
        assert (int(trainer.d_optimizer.iterations) == 1) == kept[-1]
    assert kept == [False, False, True, False, True]
    trainer.g_optimizer.iterations.assign(3)
    trainer.begin_phase(1, False)  # resumed
    assert int(trainer.g_optimizer.iterations) == 3


def test_the_penalty_interval_starts_over_with_each_level(cache):
    trainer = progressive.ProgressiveGAN(make_config(cache, gan_penalty_interval=3), "float32")
    assert [level.steps for level in trainer.levels] == STEPS
    penalized, step = [], 0
    for index, steps in enumerate(STEPS):
        trainer.begin_phase(index, True)
        penalized.append([trainer.variant(step + n)[0][0] for n in range(steps)])
        step += steps
    assert penalized == [
        [True, False, False, True],
        [True, False],
        [False, True],
        [True, False],
        [False, True, False],
    ]


def test_alpha_goes_from_0_to_1_over_the_fade(cache):
    trainer = progressive.ProgressiveGAN(make_config(cache), "float32")
    trainer.begin_phase(0, True)
    assert trainer._alpha() is None
    trainer.begin_phase(1, True)
    alphas = []
    for step in range(2):
        trainer.g_optimizer.iterations.assign(step)
        alphas.append(float(trainer._alpha()))
    assert alphas == [0.0, 0.5]
    trainer.begin_phase(2, True)
    assert trainer._alpha() is None


def test_the_last_phase_is_the_ordinary_training(cache):
    grown = progressive.ProgressiveGAN(make_config(cache), "float32")
    ordinary = GAN(tiny.make_config(cache), "float32")
    for one_network, other_network in (
        (grown.generator, ordinary.generator),
        (grown.discriminator, ordinary.discriminator),
    ):
        for one, two in zip(one_network.variables, other_network.variables, strict=True):
            one.assign(two)
    grown.seed_generator = keras.random.SeedGenerator(5)
    ordinary.seed_generator = keras.random.SeedGenerator(5)
    grown.begin_phase(len(grown.levels) - 1, True)
    photos = tf.constant(np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 3)), tf.float32)
    logs, expected = (trainer.train_step(photos, (True,)) for trainer in (grown, ordinary))
    for name, value in expected.items():
        assert float(logs[name]) == pytest.approx(float(value), rel=1e-5), name
    assert growing.sides(32)[-1] == grown.level.side
