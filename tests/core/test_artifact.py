"""core.artifact: what is saved is what is loaded, completely or not at all."""

import errno
import json
import os

import h5py
import keras
import numpy as np
import pytest
import tiny

from cgan_tf.core import artifact
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_text
from cgan_tf.networks.dcgan import Discriminator, Generator
from cgan_tf.networks.encoder import Encoder

FILES = ["model/config.json", "model/weights.h5"]
LATENT = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)


def generator(seed=0, **options):
    """A generator whose weights all differ from their initial values, batch norm's too."""
    keras.utils.set_random_seed(seed)
    model = Generator(**({"resolution": 32, "z_dim": 6, "width": 4} | options))
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(weight.numpy() + np.abs(rng.normal(0, 0.1, weight.shape)))
    return model


@pytest.fixture
def folder(tmp_path):
    """A saved generator's folder."""
    artifact.save_model(generator(), tmp_path / "model")
    return tmp_path / "model"


def message(cls, folder):
    """The one line of the UserError that loading raises."""
    with pytest.raises(UserError) as caught:
        artifact.load_model(cls, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_loaded_model_gives_the_same_images(folder):
    model, loaded = generator(), artifact.load_model(Generator, folder)
    assert loaded is not model and loaded.get_config() == model.get_config()
    assert tiny.same(tiny.values(model), tiny.values(loaded))
    np.testing.assert_array_equal(model(LATENT, training=False), loaded(LATENT, training=False))
    assert tiny.listing(folder.parent) == FILES


def test_every_constructor_argument_is_kept(tmp_path):
    for model in (
        generator(prior="uniform", width=6),
        Discriminator(64, 4, norm="batch", minibatch_std=False),
        Encoder(32, (6,), 8),
    ):
        artifact.save_model(model, tmp_path / "model")
        loaded = artifact.load_model(type(model), tmp_path / "model")
        assert loaded.get_config() == model.get_config()
        assert tiny.same(tiny.values(model), tiny.values(loaded))


def test_the_precision_of_a_loaded_model_is_not_that_of_its_training(tmp_path):
    model = generator(dtype="mixed_bfloat16")
    artifact.save_model(model, tmp_path / "model")
    loaded = artifact.load_model(Generator, tmp_path / "model")
    assert {layer.compute_dtype for layer in loaded.layers} == {"float32"}
    assert tiny.same(tiny.values(model), tiny.values(loaded))
    half = artifact.load_model(Generator, tmp_path / "model", "mixed_bfloat16")
    assert {layer.compute_dtype for layer in half.layers[1:-1]} == {"bfloat16"}
    assert {weight.dtype for weight in half.weights} == {"float32"}
    assert tiny.same(tiny.values(model), tiny.values(half))


def test_equal_models_have_equal_files(tmp_path, folder):
    generator(seed=5)  # Keras counts what was built before in its names
    artifact.save_model(generator(), tmp_path / "again" / "model")
    for name in ("config.json", "weights.h5"):
        assert (folder / name).read_bytes() == (tmp_path / "again/model" / name).read_bytes()


def test_saving_again_replaces_the_model(folder):
    artifact.save_model(generator(seed=1), folder)
    assert tiny.same(tiny.artifact_weights(Generator, folder), tiny.values(generator(seed=1)))
    assert tiny.listing(folder.parent) == FILES


def test_leftovers_of_a_killed_process_are_cleared(folder):
    for name in ("new", "old"):
        write_text(folder.parent / ".model.tmp" / name / "weights.h5", "half")
    artifact.save_model(generator(seed=1), folder)
    assert tiny.same(tiny.artifact_weights(Generator, folder), tiny.values(generator(seed=1)))
    assert tiny.listing(folder.parent) == FILES


def test_a_full_disk_leaves_the_old_model(folder, monkeypatch):
    before = tiny.snapshot(folder.parent)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        artifact.save_model(generator(seed=1), folder)
    assert tiny.snapshot(folder.parent) == before


def test_the_weights_are_synced_before_the_folder_is_renamed(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        calls.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def record_replace(source, target):
        calls.append(f"-> {os.path.basename(target)}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    artifact.save_model(generator(), tmp_path / "model")
    assert calls[-4:] == ["weights.h5", "new", "-> model", tmp_path.name]


def test_a_missing_model(folder, tmp_path):
    path = tmp_path / "gan" / "model"
    assert message(Generator, path) == (
        f"{path}: no model there; --stage=gan --restart trains it again"
    )
    (folder / "weights.h5").unlink()
    assert "no model there" in message(Generator, folder)


def test_a_folder_may_be_given_as_text(tmp_path):
    text = str(tmp_path / "gan" / "model")
    assert message(Generator, text) == (
        f"{text}: no model there; --stage=gan --restart trains it again"
    )
    artifact.save_model(generator(), text)
    assert tiny.same(tiny.artifact_weights(Generator, text), tiny.values(generator()))
    cut_config(tmp_path / "gan" / "model")
    line = message(Generator, text)
    assert line.startswith(f"{text}: damaged model (")
    assert line.endswith("; --stage=gan --restart trains it again")


def test_a_model_of_another_class(folder):
    assert message(Encoder, folder) == f"{folder}: contains a Generator, not a Encoder"


def truncate(folder):
    path = folder / "weights.h5"
    path.write_bytes(path.read_bytes()[:-100])


def garble(folder):
    (folder / "weights.h5").write_bytes(b"not HDF5")


def drop(folder):
    with h5py.File(folder / "weights.h5", "a") as file:
        del file[sorted(file)[0]]


def reshape(folder):
    with h5py.File(folder / "weights.h5", "a") as file:
        name = sorted(file)[0]
        value = file[name][()]
        del file[name]
        file[name] = value[:-1]


def cut_config(folder):
    (folder / "config.json").write_text("{")


def empty_config(folder):
    (folder / "config.json").write_text("{}")


def list_config(folder):
    (folder / "config.json").write_text("[]")


def other_argument(folder):
    config = json.loads((folder / "config.json").read_text())
    config["arguments"]["depth"] = 3
    (folder / "config.json").write_text(json.dumps(config))


def huge_argument(folder):
    config = json.loads((folder / "config.json").read_text())
    config["arguments"]["z_dim"] = 10**6
    (folder / "config.json").write_text(json.dumps(config))


def argument_of_another_type(folder):
    config = json.loads((folder / "config.json").read_text())
    config["arguments"]["resolution"] = float("inf")
    (folder / "config.json").write_text(json.dumps(config))


def binary_config(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe")


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        garble,
        drop,
        reshape,
        cut_config,
        empty_config,
        list_config,
        other_argument,
        huge_argument,
        argument_of_another_type,
        binary_config,
    ],
)
def test_a_damaged_model(folder, damage):
    damage(folder)
    assert message(Generator, folder).startswith(f"{folder}: damaged model (")
