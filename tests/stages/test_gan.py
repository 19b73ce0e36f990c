"""cgan_tf.stages.gan: what the stage saves, and how it stops and resumes."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
import tiny

from cgan_tf.core import artifact
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.networks.dcgan import Discriminator, Generator
from cgan_tf.stages import gan


def test_a_collapsed_generator_stops_the_stage(chain, tmp_path, monkeypatch):
    monkeypatch.setattr(gan, "COLLAPSE_KIMG", 0.03)
    monkeypatch.setattr(gan, "mean_distance", lambda images: 1.0 if np.std(images) > 0.3 else 0.01)
    folder = RunFolder(tmp_path / "run")
    config = tiny.make_config(chain.config.cache_dir, gan_penalty_interval=1)  # one graph
    tiny.save_config(folder, config, chain.faces)
    with pytest.raises(UserError) as error:
        gan.run(config, folder, chain.faces)
    assert str(error.value) == (
        "gan: collapsed (the mean distance of 64 samples, 0.01, is less than 0.1 of that of "
        "photos) at 0.03 kimg; there is no checkpoint yet; lower --gan_g_lr and --gan_d_lr, or "
        "raise the weight of the penalty (--gan_gamma), with --restart"
    )
    assert not folder.stage("gan").finished()


def test_the_mean_distance_of_images():
    images = np.zeros((3, 2, 2, 3), np.float32)
    images[1], images[2] = 1.0, -1.0  # distances 1, 1 and 2
    assert gan.mean_distance(images) == pytest.approx(4 / 3)
    assert gan.mean_distance(np.ones((5, 2, 2, 3))) == 0.0


def test_the_files_of_the_stage(chain):
    stage = chain.folder.stage("gan")
    assert tiny.listing(stage.path) == [
        "checkpoints/step-000000008.npz",
        "discriminator/config.json",
        "discriminator/weights.h5",
        "fakes000000.png",
        "metadata.json",
        "model/config.json",
        "model/weights.h5",
        "reals.png",
        "stats.jsonl",
    ]
    lines = stage.read_stats()
    # A tick is a multiple of the penalty interval of 3 steps, so that each has a penalty.
    assert [line["kimg"] for line in lines] == [0.024, 0.048, 0.064]
    assert {"g_loss", "d_loss", "d_real", "d_fake", "r1"} < set(lines[0])
    assert all(line["r1"] > 0 for line in lines)
    assert stage.read_metadata()["kimg"] == chain.config.gan.kimg


def test_the_saved_models_are_the_average_and_the_discriminator(chain):
    stage = chain.folder.stage("gan")
    state = tiny.final_state(stage)

    def part(name):
        return [state[key] for key in sorted(state) if key.startswith(f"{name}/")]

    average = artifact.load_model(Generator, stage.model)
    assert tiny.same([v.numpy() for v in average.variables], part("average"))
    assert not tiny.same([v.numpy() for v in average.variables], part("generator"))
    discriminator = artifact.load_model(Discriminator, stage.path / "discriminator")
    assert tiny.same([v.numpy() for v in discriminator.variables], part("discriminator"))
    assert average.prior == chain.config.gan.prior and average.z_dim == chain.config.gan.z_dim


def copy_without(chain, path, *stages):
    """A copy of the chain's folder without these stages."""
    shutil.copytree(chain.folder.path, path)
    for name in stages:
        shutil.rmtree(path / name)
    return RunFolder(path)


def test_a_killed_and_resumed_training_ends_with_the_same_weights(
    chain, tmp_path, monkeypatch, capsys
):
    folder = copy_without(chain, tmp_path / "run", *tiny.STAGES)
    often = tiny.make_config(chain.config.cache_dir, checkpoint_minutes=1e-9)
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        tiny.interrupt(patch, checkpoint=3, kill=5)
        gan.run(often, folder, chain.faces)
    stage = folder.stage("gan")
    assert not stage.finished() and not stage.model.exists()
    np.random.random(7)  # a new process has another random state
    gan.run(chain.config, folder, chain.faces)
    reference = chain.folder.stage("gan")
    tiny.assert_equal_state(tiny.final_state(stage), tiny.final_state(reference))
    assert stage.artifact_hash() == reference.artifact_hash()
    for name in ("discriminator/weights.h5", "reals.png", "fakes000000.png"):
        assert (stage.path / name).read_bytes() == (reference.path / name).read_bytes()
    assert "gan: resuming at 0.0 of 0.064 kimg" in capsys.readouterr().out
    assert len(stage.read_metadata()["resumed"]) == 1


def test_killed_between_the_training_and_the_artifact(chain, tmp_path, monkeypatch):
    folder = copy_without(chain, tmp_path / "run", *tiny.STAGES)
    reference = chain.folder.stage("gan")
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        patch.setattr(
            artifact, "save_model", lambda model, path: (_ for _ in ()).throw(tiny.Killed)
        )
        gan.run(chain.config, folder, chain.faces)
    stage = folder.stage("gan")
    assert not stage.finished()
    gan.run(chain.config, folder, chain.faces)
    assert stage.finished() and stage.artifact_hash() == reference.artifact_hash()
    assert len(stage.read_stats()) == 3


@pytest.mark.slow
def test_another_seed_gives_other_weights_and_tensorboard_events_are_optional(chain, tmp_path):
    folder = RunFolder(tmp_path / "run")
    config = tiny.make_config(chain.config.cache_dir, seed=4, tensorboard=True)
    tiny.save_config(folder, config, chain.faces)
    gan.run(config, folder, chain.faces)
    assert folder.stage("gan").artifact_hash() != chain.folder.stage("gan").artifact_hash()
    events = list((folder.stage("gan").path / "tensorboard").glob("events.out.tfevents.*"))
    assert len(events) == 1
    records = tf.data.TFRecordDataset(str(events[0])).as_numpy_iterator()
    written = {
        (event.step, value.tag)
        for event in map(tf.compat.v1.Event.FromString, records)
        for value in event.summary.value
    }
    assert {(0, "fakes"), (64, "fakes"), (24, "g_loss"), (64, "r1")} <= written
