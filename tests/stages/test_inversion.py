"""Inversion: the terms of the loss, the frozen networks, the stage."""

import dataclasses
import math
import shutil
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from cgan_tf.core import artifact
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.editing import models
from cgan_tf.networks import vgg
from cgan_tf.networks.codec import Codec
from cgan_tf.networks.dcgan import Discriminator, Generator
from cgan_tf.networks.encoder import Encoder
from cgan_tf.stages import inversion
from cgan_tf.training import checkpoint, precision

TERMS = ("photo", "sample", "latent", "pixel")
COUNT = 4


def photos(seed=0, side=32):
    draw = np.random.default_rng(seed)
    return tf.constant(draw.uniform(-1, 1, (COUNT, side, side, 3)).astype(np.float32))


def build(chain, **options):
    """A trainer with the networks of the tiny run and a new encoder."""
    config = tiny.make_config(chain.config.cache_dir, **options)
    precision.seed_everything(config)
    generator = artifact.load_model(Generator, chain.folder.stage("gan").model)
    for weight in generator.trainable_weights:  # its images are almost gray
        weight.assign(weight.numpy() * 3)
    regressor = artifact.load_model(vgg.Regressor, chain.folder.stage("regressor").model)
    encoder = Encoder(config.resolution, (config.gan.z_dim,), config.inversion.width)
    perceptual = models.load_perceptual(config, regressor)
    return inversion.InversionTrainer(encoder, generator, perceptual, config)


def expected_terms(trainer, images):
    """The four terms, unweighted, computed one after the other."""
    latent = trainer.generator.sample_prior(COUNT, keras.random.SeedGenerator(trainer.config.seed))
    samples = trainer.generator(latent, training=False)
    # Batch normalization is over photos and samples together.
    predicted = trainer.encoder(tf.concat([images, samples], axis=0), training=True)
    photo = trainer.generator(predicted[:COUNT], training=False)
    sample = trainer.generator(predicted[COUNT:], training=False)
    return {
        "photo": tf.reduce_mean(trainer.perceptual(images, photo)),
        "sample": tf.reduce_mean(trainer.perceptual(samples, sample)),
        "latent": tf.reduce_mean(tf.square(latent - predicted[COUNT:])),
        "pixel": 0.5 * tf.reduce_mean(tf.square(photo - images))
        + 0.5 * tf.reduce_mean(tf.square(sample - samples)),
    }


def test_the_terms_are_those_of_photos_and_samples(chain, slim_vgg):
    trainer = build(chain)
    weights = {"photo": 1.0, "sample": 1.0, "latent": 1.0, "pixel": 5.0}
    terms = expected_terms(trainer, photos())
    logs = trainer.train_step(photos())
    assert set(logs) == {*TERMS, "loss"}
    for name, value in terms.items():
        assert value > 1e-3
        assert float(logs[name]) == pytest.approx(weights[name] * float(value), rel=1e-4), name
    total = sum(weights[name] * float(value) for name, value in terms.items())
    assert float(logs["loss"]) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("only", TERMS)
def test_each_term_alone_trains_the_encoder(chain, slim_vgg, only):
    trainer = build(chain)
    losses = trainer.losses
    object.__setattr__(trainer, "losses", lambda *inputs: {only: losses(*inputs)[only]})
    before = tiny.values(trainer.encoder)
    logs = [trainer.train_step(photos()) for _ in range(2)]  # the warm-up begins at a rate of 0
    assert float(logs[0][only]) == float(logs[0]["loss"]) > 1e-3
    trained = {id(weight) for weight in trainer.encoder.trainable_weights}
    moved = [
        not np.array_equal(old, weight.numpy())
        for old, weight in zip(before, trainer.encoder.weights, strict=True)
        if id(weight) in trained
    ]
    assert sum(moved) > 0.7 * len(moved)  # all but biases that have no gradient at the start


def test_only_the_encoder_learns(chain, slim_vgg):
    trainer = build(chain)
    frozen = {
        "generator": trainer.generator,
        "regressor": trainer.perceptual.regressor,
        "features": trainer.perceptual.network,
    }
    assert not any(
        network.trainable_variables for network in (trainer.generator, frozen["regressor"])
    )
    before = {name: tiny.values(network) for name, network in frozen.items()}
    encoder = tiny.values(trainer.encoder)
    mean = trainer.encoder.add_mean.mean.numpy()
    step = tf.function(trainer.train_step, autograph=False)
    for seed in range(3):
        step(photos(seed))
    for name, network in frozen.items():
        assert tiny.same(before[name], tiny.values(network)), name
    assert not tiny.same(encoder, tiny.values(trainer.encoder))
    np.testing.assert_array_equal(trainer.encoder.add_mean.mean, mean)
    saved = {id(v) for v in checkpoint.named_variables(trainer.checkpoint_parts()).values()}
    assert {id(v) for v in trainer.encoder.variables} <= saved
    assert id(trainer.seed_generator.state) in saved


def test_imagenet_features_are_frozen_too(chain, monkeypatch):
    monkeypatch.setattr(
        keras.applications,
        "VGG16",
        lambda include_top, weights, **options: tiny.slim_vgg16(include_top, None, **options),
    )
    trainer = build(chain, inversion_perceptual="imagenet")
    backbone = trainer.perceptual.backbone
    assert backbone is not None and not backbone.trainable_variables
    before = tiny.values(backbone)
    for seed in range(2):
        trainer.train_step(photos(seed))
    assert tiny.same(before, tiny.values(backbone))


def test_the_perceptual_network_comes_from_a_file(chain, slim_vgg, tmp_path):
    path = tmp_path / "vgg16.weights.h5"
    source = tiny.slim_vgg16(False, None)
    source.set_weights([np.full(w.shape, i, np.float32) for i, w in enumerate(source.weights)])
    source.save_weights(path)
    backbone = build(chain, inversion_perceptual=str(path)).perceptual.backbone
    for index, weights in enumerate(backbone.get_weights()):
        np.testing.assert_array_equal(weights, index)


def test_imagenet_weights_that_are_not_available_are_one_line(chain, monkeypatch):
    def offline(include_top, weights, **options):
        if weights == "imagenet":
            raise Exception("no network")
        return tiny.slim_vgg16(include_top, weights, **options)

    monkeypatch.setattr(keras.applications, "VGG16", offline)
    with pytest.raises(UserError, match="the weights are not available"):
        build(chain, inversion_perceptual="imagenet")


def test_a_perfect_encoder_has_no_loss_on_samples(chain, slim_vgg):
    trainer = build(chain)
    latent = trainer.generator.sample_prior(COUNT, keras.random.SeedGenerator(trainer.config.seed))
    answers = tf.concat([tf.zeros_like(latent), latent], axis=0)

    class Oracle:
        trainable_variables = trainer.encoder.trainable_variables

        def __call__(self, images, training):
            return answers + 0.0 * self.trainable_variables[0][0, 0, 0, 0]

    object.__setattr__(trainer, "encoder", Oracle())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.optimizer, "apply", lambda *_: None)
        logs = trainer.train_step(photos())
    assert float(logs["sample"]) == pytest.approx(0, abs=1e-6) and float(logs["latent"]) == 0
    assert float(logs["photo"]) > 1e-3


def test_crops_are_random_and_equal_for_targets_and_outputs(chain, slim_vgg, monkeypatch):
    trainer = build(chain, inversion_perceptual_crop=16)
    inputs = []
    features = trainer.perceptual.features
    monkeypatch.setattr(
        trainer.perceptual, "features", lambda images: inputs.append(images) or features(images)
    )
    offsets = []
    for seed in range(6):
        trainer.train_step(photos(seed))
        target, output = inputs[-2:]
        assert target.shape == output.shape == (2 * COUNT, 16, 16, 3)
        photo = photos(seed).numpy()[0]
        found = [
            (row, column)
            for row in range(17)
            for column in range(17)
            if np.array_equal(photo[row : row + 16, column : column + 16], target[0])
        ]
        assert len(found) == 1
        offsets += found
    assert len(set(offsets)) > 3


# The stage.


def test_the_files_of_the_stage(chain):
    stage = chain.folder.stage("inversion")
    assert tiny.listing(stage.path) == [
        "checkpoints/step-000000008.npz",
        "metadata.json",
        "model/config.json",
        "model/weights.h5",
        "reconstructions000000.png",
        "stats.jsonl",
    ]
    assert [line["kimg"] for line in stage.read_stats()] == [0.004 * n for n in range(1, 9)]
    assert {*TERMS, "loss"} < set(stage.read_stats()[0])
    parents = stage.read_metadata()["parents"]
    assert parents == {
        name: chain.folder.stage(name).artifact_hash() for name in ("gan", "regressor")
    }


def test_the_encoder_predicts_an_offset_from_the_mean_latent(chain):
    encoder = artifact.load_model(Encoder, chain.folder.stage("inversion").model)
    generator = artifact.load_model(Generator, chain.folder.stage("gan").model)
    draws = generator.sample_prior(inversion.MEAN_SAMPLES, seed=chain.config.seed)
    np.testing.assert_allclose(encoder.add_mean.mean, np.mean(draws, axis=0), atol=1e-6)
    spread = 4 / math.sqrt(inversion.MEAN_SAMPLES)
    assert 0 < np.abs(encoder.add_mean.mean.numpy()).max() < spread


def test_a_killed_and_resumed_training_ends_with_the_same_weights(
    chain, slim_vgg, tmp_path, monkeypatch
):
    shutil.copytree(chain.folder.path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    for name in ("inversion", "directions"):
        shutil.rmtree(folder.stage(name).path)
    others = {name: tiny.snapshot(folder.stage(name).path) for name in ("gan", "regressor")}
    often = tiny.make_config(chain.config.cache_dir, checkpoint_minutes=1e-9)
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        tiny.interrupt(patch, checkpoint=3, kill=6)
        inversion.run(often, folder, chain.faces)
    inversion.run(chain.config, folder, chain.faces)
    reference, stage = chain.folder.stage("inversion"), folder.stage("inversion")
    tiny.assert_equal_state(tiny.final_state(stage), tiny.final_state(reference))
    assert stage.artifact_hash() == reference.artifact_hash()
    grid = "reconstructions000000.png"
    assert (stage.path / grid).read_bytes() == (reference.path / grid).read_bytes()
    # The files of the earlier stages are unchanged.
    assert others == {name: tiny.snapshot(folder.stage(name).path) for name in others}


def test_the_frozen_networks_compute_in_the_training_precision(
    chain, slim_vgg, tmp_path, monkeypatch
):
    shutil.copytree(chain.folder.path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    shutil.rmtree(folder.stage("inversion").path)
    networks = {}

    def stop(encoder, generator, perceptual, config):
        networks.update(generator=generator, backbone=perceptual.regressor.backbone)
        raise tiny.Killed

    monkeypatch.setattr(inversion, "InversionTrainer", stop)
    with pytest.raises(tiny.Killed):
        inversion.run(
            dataclasses.replace(chain.config, precision="mixed_bfloat16"), folder, chain.faces
        )
    for name, network in networks.items():
        assert network.layers[1].compute_dtype == "bfloat16", name
        assert {weight.dtype for weight in network.weights} == {"float32"}


def test_a_damaged_parent_is_one_line(chain, slim_vgg, tmp_path):
    shutil.copytree(chain.folder.path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    shutil.rmtree(folder.stage("inversion").path)
    path = folder.stage("gan").model / "weights.h5"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged model"):
        inversion.run(chain.config, folder, chain.faces)


def test_the_discriminator_is_not_used(chain):
    assert Discriminator.__name__ not in vars(inversion)


def test_the_5th_percentile_of_the_psnr(monkeypatch):
    # Photo i of 40 has brightness i and an error of 0.1 + i / 100, so that PSNR decreases with i.
    read = types.SimpleNamespace(
        splits={"validation": np.arange(40)},
        read=lambda rows: np.repeat(np.uint8(rows)[:, None], 48, 1).reshape(-1, 4, 4, 3),
    )
    monkeypatch.setattr(inversion, "PERCENTILE_BATCH", 7)

    def encoder(photos, training):
        return tf.convert_to_tensor(photos)

    def generator(latents, training):
        index = (latents + 1) * 127.5
        return latents + 0.1 + index / 100

    exact = 20 * np.log10(2 / (0.1 + np.arange(40) / 100))
    psnr = inversion.psnr_p5(Codec(encoder, generator), read)
    assert abs(psnr - np.quantile(exact, 0.05)) < 1e-3
    assert np.sum(exact < psnr) == 2
