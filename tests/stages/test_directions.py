"""Directions: the loss on toy networks, frozen networks, the choice of attributes, the stage."""

import contextlib
import dataclasses
import json
import shutil
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from PIL import Image

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.networks.codec import Codec
from cgan_tf.stages import calibration, directions
from cgan_tf.training import checkpoint

NAMES = ("A", "B", "C")
SLOPES = np.array([[2.0, 0.5, -1.0], [0.3, -1.5, 0.7]], np.float32)  # [z, attributes]


def softplus(x):
    return np.logaddexp(0.0, x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class ToyRegressor:
    """Logits are linear in the image; the only feature map is the image itself."""

    trainable = True
    attribute_names = NAMES

    def __init__(self, names=NAMES):
        self.attribute_names = names

    def features_and_logits(self, x):
        return [x], x[:, 0, 0, :] @ SLOPES[:, : len(self.attribute_names)]

    def __call__(self, x, training):
        assert training is False
        return tf.sigmoid(self.features_and_logits(x)[1])


@pytest.mark.parametrize(
    "positive, message",
    [
        ([0, 1, 8], None),
        ([0, 1], "none of the 2 validation photos has it .of all 10 photos, 2 have it.; give more"),
        ([0, 8, 9], "none of the 2 validation photos lacks it"),
        ([8], "none of the 7 training photos has it"),
        ([0, 1, 2, 3, 4, 5, 6, 8], "none of the 7 training photos lacks it"),
    ],
)
def test_attributes_of_one_class_are_refused_before_any_training(positive, message):
    labels = np.zeros((10, 3), np.float32)
    labels[positive, 1] = 1
    splits = {"train": np.arange(7), "test": np.array([7]), "validation": np.array([8, 9])}
    dataset = types.SimpleNamespace(attribute_names=NAMES, labels=labels, splits=splits)
    directions.check(types.SimpleNamespace(attributes=()), dataset)
    refused = pytest.raises(UserError, match=f"--attributes=B: {message}")
    with refused if message else contextlib.nullcontext():
        directions.check(types.SimpleNamespace(attributes=("B",)), dataset)


class ToyPerceptual:
    """The squared distance of the images."""

    backbone = None

    def __init__(self, names=NAMES):
        self.regressor = ToyRegressor(names)

    def normalize(self, maps):
        return maps

    def between(self, x, y):
        return tf.reduce_sum(tf.square(x[0] - y[0]), axis=(1, 2, 3))


class ToyGenerator:
    """A latent is a 1 px image of two channels."""

    trainable = True
    latent_shape = (2,)

    def __call__(self, latent, training):
        assert training is False
        return latent[:, None, None, :]


class ToyEncoder:
    """The inverse with an offset, so that the reconstruction is not perfect."""

    trainable = True

    def __call__(self, image, training):
        assert training is False
        return image[:, 0, 0, :] + 0.1


class ToyDiscriminator:
    trainable = True

    def __call__(self, image, training):
        assert training is False
        return 3.0 * image[:, 0, 0, :1] - 1.0


TOY_CODEC = Codec(ToyEncoder(), ToyGenerator())


def toy(names=NAMES, **options):
    config = tiny.make_config("cache", directions_batch_size=64, **options)
    networks = TOY_CODEC, ToyDiscriminator(), ToyPerceptual(names)
    trainer = directions.DirectionsTrainer(names[:2], *networks, config)
    trainer.directions.assign(np.random.default_rng(5).normal(0, 0.1, (2, 2)))
    return trainer


def photos(count=64, spread=1.0, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(0, spread, (count, 1, 1, 2)).astype(np.float32)


def first_draws(trainer, count=64):
    """The attribute and the eps of each photo in the trainer's first step."""
    seed = keras.random.SeedGenerator(trainer.config.seed)
    chosen = keras.random.randint((count,), 0, 2, seed=seed).numpy()
    return chosen, keras.random.uniform((count, 1), -1.0, 1.0, seed=seed).numpy()


def set_weights(monkeypatch, **weights):
    """Sets constants of the module: CONTENT_WEIGHT, ADVERSARIAL_WEIGHT, ATTRIBUTE_WEIGHT."""
    for name, value in weights.items():
        monkeypatch.setattr(directions, f"{name.upper()}_WEIGHT", value)


@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_the_loss_closed_form(spread, monkeypatch):
    weights = {"content": 0.3, "adversarial": 0.7, "attribute": 5.0}
    set_weights(monkeypatch, **weights)
    weights["hold"] = 2.0
    trainer = toy(directions_preservation_weight=2.0)
    x = photos(spread=spread)
    chosen, eps = first_draws(trainer)
    assert set(chosen) == {0, 1} and eps.min() < -0.9 and eps.max() > 0.9
    latent = x[:, 0, 0, :] + 0.1
    edited = latent + eps * trainer.directions.numpy()[chosen]
    alpha, after = sigmoid(latent @ SLOPES), sigmoid(edited @ SLOPES)  # of the reconstruction
    target = np.eye(3)[chosen]
    requested = alpha + eps * target
    clipped = np.clip(requested, 0, 1)
    assert (requested != clipped).any()
    error = np.abs(clipped - after)
    expected = {
        "content": np.mean(np.sum((x[:, 0, 0, :] - edited) ** 2, axis=1)),
        "adversarial": np.mean(softplus(-(3 * edited[:, 0] - 1))),
        "attribute": np.mean(error[np.arange(64), chosen]),
        "hold": np.mean(np.sum(error * (1 - target), axis=1) / 2),
    }
    logs = trainer.train_step(tf.constant(x))
    assert set(logs) == {*weights, "loss"}
    for name, value in expected.items():
        assert float(logs[name]) == pytest.approx(weights[name] * value, rel=1e-5), name
    assert float(logs["loss"]) == pytest.approx(
        sum(weights[name] * value for name, value in expected.items()), rel=1e-5
    )


def test_a_target_beyond_1_is_clipped(monkeypatch):
    set_weights(monkeypatch, attribute=1.0)
    trainer = toy()
    x = np.full((64, 1, 1, 2), 9.0, np.float32)  # R is confident in A, and in the absence of B
    chosen, eps = first_draws(trainer)
    trainer.directions.assign(tf.zeros((2, 2)))
    # Raising A and lowering B have no loss; the others have |eps|.
    expected = np.mean(np.where(chosen == 0, np.maximum(-eps[:, 0], 0), np.maximum(eps[:, 0], 0)))
    logs = trainer.train_step(tf.constant(x))
    assert float(logs["attribute"]) == pytest.approx(expected, rel=1e-3)


def test_a_single_attribute_has_no_others_to_preserve():
    config = tiny.make_config("cache", directions_batch_size=64)
    networks = TOY_CODEC, ToyDiscriminator(), ToyPerceptual(("A",))
    trainer = directions.DirectionsTrainer(("A",), *networks, config)
    logs = trainer.train_step(tf.constant(photos()))
    assert float(logs["hold"]) == 0.0 and np.isfinite(float(logs["loss"]))


def test_a_direction_rotates_towards_its_attribute_and_keeps_its_length(monkeypatch):
    set_weights(monkeypatch, content=0.0, adversarial=0.0)
    monkeypatch.setattr(directions, "LEARNING_RATE", 0.05)
    trainer = toy(directions_preservation_weight=0.0, directions_kimg=64 * 0.1)
    best = (SLOPES[:, :2] / np.linalg.norm(SLOPES[:, :2], axis=0)).T  # of A, and of B
    orthogonal = best[:, ::-1] * [1, -1]
    trainer.directions.assign([[0.8], [1.5]] * (0.2 * best + orthogonal))
    lengths = np.linalg.norm(trainer.directions.numpy(), axis=1)
    step = tf.function(trainer.train_step, autograph=False)
    x = photos(spread=0.3)
    first = float(step(tf.constant(x))["attribute"])
    for _ in range(99):
        last = float(step(tf.constant(x))["attribute"])
    assert last < 0.8 * first
    directions_ = trainer.directions.numpy()
    np.testing.assert_allclose(np.linalg.norm(directions_, axis=1), lengths, rtol=1e-4)
    assert np.all(np.sum(directions_ * best, axis=1) / lengths > 0.97)  # cosines


def test_only_the_directions_learn(chain, slim_vgg):
    trainer = directions.DirectionsTrainer(
        chain.config.attributes,
        **directions.load_networks(chain.folder, chain.config),
        config=chain.config,
    )
    frozen = {
        "encoder": trainer.codec.encoder,
        "generator": trainer.codec.generator,
        "detail features": trainer.codec.features,
        "discriminator": trainer.discriminator,
        "regressor": trainer.perceptual.regressor,
        "features": trainer.perceptual.network,
    }
    assert not any(frozen[name].trainable_variables for name in list(frozen)[:5])
    before = {name: tiny.values(network) for name, network in frozen.items()}
    columns = trainer.columns.numpy()
    start = directions.class_differences(trainer.codec.encoder, chain.faces)[0][columns]
    trainer.directions.assign(start)
    step = tf.function(trainer.train_step, autograph=False)
    draw = np.random.default_rng(0)
    for _ in range(3):
        step(tf.constant(draw.uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)))
    for name, network in frozen.items():
        assert tiny.same(before[name], tiny.values(network)), name
    assert (trainer.directions.numpy() != start).all()
    saved = {id(v) for v in checkpoint.named_variables(trainer.checkpoint_parts()).values()}
    assert {id(trainer.directions), id(trainer.seed_generator.state)} <= saved


def test_the_frozen_networks_compute_in_the_training_precision(chain, slim_vgg):
    config = dataclasses.replace(chain.config, precision="mixed_bfloat16")
    networks = directions.load_networks(chain.folder, config)
    codec = networks["codec"]
    parts = (codec.encoder, codec.generator, codec.features.predictor, networks["discriminator"])
    for network in parts:
        kinds = {layer.compute_dtype for layer in network.layers}
        assert "bfloat16" in kinds, network.name
    regressor = networks["perceptual"].regressor
    assert regressor.backbone.layers[1].compute_dtype == "bfloat16"
    assert {weight.dtype for weight in regressor.weights} == {"float32"}


def test_the_regressors_feature_maps_are_its_perceptual_features(chain, slim_vgg):
    networks = directions.load_networks(chain.folder, chain.config)
    trainer = directions.DirectionsTrainer(("Smiling",), **networks, config=chain.config)
    draw = np.random.default_rng(0)
    x, y = (draw.uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32) for _ in range(2))
    maps = [networks["perceptual"].regressor.features_and_logits(image)[0] for image in (x, y)]
    shared = trainer._perceptual(x, maps[0], y, maps[1])
    np.testing.assert_allclose(shared, networks["perceptual"](x, y), rtol=1e-5)


# Choosing the attributes.


def test_attributes_are_those_of_the_flag_or_the_defaults_of_the_data(faces):
    config = tiny.make_config("cache", attributes=("Pale_Skin", "Smiling"))
    assert directions.choose_attributes(config, faces) == ("Pale_Skin", "Smiling")
    config = tiny.make_config("cache", attributes=())
    chosen = directions.choose_attributes(config, faces)
    assert chosen == directions.DEFAULTS["synthetic"] and len(chosen) == 5
    for name in ("celeba", "celeba_dir"):
        assert directions.DEFAULTS[name] == (
            "Smiling",
            "Blond_Hair",
            "Black_Hair",
            "Eyeglasses",
            "Male",
        )


def refusal(faces, *attributes, **changes):
    """The message about these attributes and a data set with these changes."""
    with pytest.raises(UserError) as caught:
        config = tiny.make_config("cache", attributes=attributes)
        directions.choose_attributes(config, dataclasses.replace(faces, **changes))
    return str(caught.value)


def test_data_without_default_attributes(faces):
    assert refusal(faces, name="folder") == (
        "--attributes: name the attributes to edit; the data has "
        f"{', '.join(faces.attribute_names)}"
    )
    assert refusal(faces, name="folder", attribute_names=()) == (
        "--attributes: name the attributes to edit; the data has none: add its CSV"
    )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"attributes": ("Smiling", "Eyeglases")}, "did you mean Eyeglasses"),
        ({"attributes": ("Smiling", "Smiling")}, "an attribute is named twice"),
        ({"directions_condition": ("Male:Smiling",)}, "Male is not edited"),
    ],
)
def test_the_stage_checks_its_attributes_before_it_starts(faces, cache, tmp_path, options, message):
    config = tiny.make_config(cache, **options)
    with pytest.raises(UserError, match=message):
        directions.run(config, RunFolder(tmp_path / "run"), faces)
    assert not (tmp_path / "run" / "directions").exists()


# The stage.


def test_the_files_of_the_stage(chain):
    stage = chain.folder.stage("directions")
    assert tiny.listing(stage.path) == [
        "checkpoints/step-000000008.npz",
        "edits.png",
        "metadata.json",
        "model/Eyeglasses.json",
        "model/Smiling.json",
        "stats.jsonl",
    ]
    terms = {"content", "adversarial", "attribute", "hold", "loss"}
    assert terms < set(stage.read_stats()[0])
    # Two attributes with six photos each; a row has the photo and five strengths.
    with Image.open(stage.path / "edits.png") as grid:
        assert grid.size == (6 * 32, 2 * 6 * 32)


def test_a_direction_file_has_its_origin_and_its_generator(chain):
    generator = file_hash(chain.folder.stage("gan").model / "weights.h5")
    trained = tiny.final_state(chain.folder.stage("directions"))["directions/0000"]
    for name, row in zip(chain.config.attributes, trained, strict=True):
        path = chain.folder.stage("directions").model / f"{name}.json"
        entry = json.loads(path.read_text())
        assert list(entry) == [
            "attribute",
            "space",
            "vector",
            "generator",
            "calibration",
            "seed",
            "family",
            "condition",
            "found",
        ]
        assert (entry["family"], entry["condition"], entry["found"]) == ("learned", [], {})
        assert (entry["attribute"], entry["space"], entry["seed"]) == (name, "z", 3)
        assert entry["generator"] == generator
        vector = np.array(entry["vector"])
        cosine = vector @ row / np.linalg.norm(vector) / np.linalg.norm(row)
        assert cosine == pytest.approx(1, abs=1e-5)
        assert [line["strength"] for line in entry["calibration"]] == list(calibration.TABLE)
        assert all(line["n"] >= 1 for line in entry["calibration"])


def test_strengths_out_of_reach_are_recorded(chain):
    # The scores of an untrained regressor hardly change.
    notes = chain.folder.read()["substitutions"]
    for name in chain.config.attributes:
        assert f"{name} +1 changes the prediction by " in notes[f"calibration of {name}"]
        assert "does not reach --directions_calibrated_change=" in notes[f"calibration of {name}"]


@pytest.mark.slow
def test_a_killed_and_resumed_training_ends_with_the_same_directions(
    chain, slim_vgg, tmp_path, monkeypatch
):
    shutil.copytree(chain.folder.path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    shutil.rmtree(folder.stage("directions").path)
    earlier = ("gan", "regressor", "inversion")
    others = {name: tiny.snapshot(folder.stage(name).path) for name in earlier}
    often = tiny.make_config(chain.config.cache_dir, checkpoint_minutes=1e-9)
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        tiny.interrupt(patch, checkpoint=3, kill=6)
        directions.run(often, folder, chain.faces)
    # A note of an earlier attempt is removed.
    folder.record_substitution("calibration of Male", "half")
    directions.run(chain.config, folder, chain.faces)
    reference, stage = chain.folder.stage("directions"), folder.stage("directions")
    tiny.assert_equal_state(tiny.final_state(stage), tiny.final_state(reference))
    assert stage.artifact_hash() == reference.artifact_hash()
    assert (stage.path / "edits.png").read_bytes() == (reference.path / "edits.png").read_bytes()
    assert folder.read()["substitutions"] == chain.folder.read()["substitutions"]
    assert others == {name: tiny.snapshot(folder.stage(name).path) for name in earlier}


def test_directions_are_saved_all_or_none(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    directions.save_directions(folder, {"A": {"vector": [1.0]}, "B": {"vector": [2.0]}})
    before = tiny.snapshot(tmp_path)
    with pytest.raises(ValueError, match="JSON compliant"):
        directions.save_directions(folder, {"A": {"vector": [3.0]}, "C": {"vector": [np.nan]}})
    assert {k: v for k, v in tiny.snapshot(tmp_path).items() if not k.startswith(".")} == before
    directions.save_directions(folder, {"C": {"vector": [4.0]}})
    assert tiny.listing(tmp_path) == ["model/C.json"]
