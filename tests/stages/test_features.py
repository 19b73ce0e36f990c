"""The detail features' training: the terms of the loss, what learns, the stage."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tiny

from cgan_tf.core import artifact
from cgan_tf.core import config as config_module
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.editing import models
from cgan_tf.networks.detail_features import DetailFeatures
from cgan_tf.stages import class_differences, features
from cgan_tf.training import losses, precision

PHOTOS = 16


@pytest.fixture
def trainer(chain):
    """A trainer of the tiny run, whose features are not 0 any more."""
    config = tiny.make_config(chain.config.cache_dir)
    precision.seed_everything(config)
    trainer = features.build(config, chain.folder, chain.faces, side=8)
    draw = np.random.default_rng(1)
    conditions = trainer.discriminator.get_layer("conditions")  # they start at 0, too
    for weight in (*trainer.features.weights, *conditions.weights):
        weight.assign(weight.numpy() + 0.1 * draw.standard_normal(weight.shape))
    for weight in trainer.codec.generator.trainable_weights:  # its images are almost gray
        weight.assign(weight.numpy() * 3)
    return trainer


@pytest.fixture
def batch(chain):
    rows = chain.faces.splits["train"][:PHOTOS]
    photos = np.float32(chain.faces.read(rows)) / 127.5 - 1
    return tf.constant(photos), tf.constant(chain.faces.labels[rows])


def parts(trainer):
    """The trained networks, and the frozen ones."""
    codec = trainer.codec
    return {
        "predictor": trainer.features.predictor,
        "editor": trainer.features.editor,
        "discriminator": trainer.discriminator,
        "encoder": codec.encoder,
        "generator": codec.generator,
    }


def changed(trainer, *step):
    """The names of the networks that a step changes."""
    trainer.train_step(*step)  # the first step's learning rate is 0
    before = {name: tiny.values(model) for name, model in parts(trainer).items()}
    trainer.train_step(*step)
    return {
        name
        for name, model in parts(trainer).items()
        if not tiny.same(before[name], tiny.values(model))
    }


def test_reconstructions_train_the_predictor_and_edits_everything_but_the_codec(trainer, batch):
    assert changed(trainer, batch, False, False) == {"predictor", "discriminator"}
    assert changed(trainer, batch, True, False) == {"predictor", "editor", "discriminator"}


def test_a_reconstruction_step_reports_the_distance_and_zeros_for_the_edits(
    trainer, batch, monkeypatch
):
    monkeypatch.setattr(trainer, "_sample_shift", lambda: tf.constant([2, 2]))  # not shifted
    code = trainer.codec.encode(batch[0])
    expected = 10 * float(features.distance(batch[0], trainer.codec.generate(code)))
    logits = trainer.discriminator(batch[0])[1]
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(batch[1], logits)
    logs = {name: float(value) for name, value in trainer.train_step(batch, False, False).items()}
    assert logs.pop("reconstruction") == pytest.approx(expected, rel=1e-4)
    assert logs.pop("loss") == pytest.approx(expected, rel=1e-4)
    assert logs.pop("d_loss") == pytest.approx(4 * np.mean(entropy), rel=1e-4)
    assert set(logs.values()) == {0.0}
    assert (
        logs.keys() | {"reconstruction", "loss", "d_loss"}
        == trainer.train_step(batch, True, True).keys()
    )


def test_the_terms_of_an_edit_step_are_those_of_the_formula(trainer, batch, monkeypatch):
    photos, labels = batch
    chosen = tf.constant(np.arange(PHOTOS) % 2 + 3, tf.int32)
    strength = tf.constant(np.linspace(0.1, 1.3, PHOTOS), tf.float32)
    monkeypatch.setattr(trainer, "_sample_edits", lambda count: (chosen, strength))
    monkeypatch.setattr(trainer, "_sample_shift", lambda: tf.constant([2, 2]))  # not shifted
    codec, d = trainer.codec, trainer.discriminator
    code = codec.encode(photos)
    value = labels.numpy()[np.arange(PHOTOS), chosen]
    offset = (strength.numpy() * (1 - 2 * value))[:, None] * trainer.steps.numpy()[chosen]
    reconstructed, edited = codec.generate(code), codec.generate(code, offset)
    undone = codec.generate(codec.encode(edited[::2]), -offset[::2])
    scores, after = (tf.sigmoid(d(images)[1]).numpy() for images in (photos, edited))

    def entropy(p, q):
        return -(p * np.log(q) + (1 - p) * np.log(1 - q))

    rows, share = np.arange(PHOTOS), np.minimum(strength, 1)

    def realism(images, label):  # of images with that label, 0 to 1
        logits, _, conditions = (output.numpy() for output in d(images))
        return logits + ((2 * label - 1) * conditions[rows, chosen])[:, None]

    logits = realism(reconstructed, value)
    edited_logits = realism(edited, (1 - share) * value + share * (1 - value))
    target = (1 - share) * scores[rows, chosen] + share * (1 - value)
    divergence = entropy(scores, after) - entropy(scores, scores)
    divergence[rows, chosen] = 0
    expected = {
        "attribute": features.ATTRIBUTE_WEIGHT * entropy(target, after[rows, chosen]).mean(),
        "preservation": features.PRESERVATION_WEIGHT
        * divergence.sum()
        / (divergence.size - PHOTOS),
        "reconstruction": 10 * features.distance(photos, reconstructed),
        "adversarial": features.ADVERSARIAL_WEIGHT
        * losses.rpgan_generator_loss(edited_logits, logits),
        "content": features.CONTENT_WEIGHT * features.content_distance(photos, edited),
        "undo": features.UNDO_WEIGHT * features.distance(photos[::2], undone),
    }
    d_loss = losses.rpgan_discriminator_loss(logits, edited_logits)
    d_loss += 4 * entropy(labels.numpy(), scores).mean()
    logs = {name: float(found) for name, found in trainer.train_step(batch, True, False).items()}
    for name, wanted in expected.items():
        assert logs[name] == pytest.approx(float(wanted), rel=2e-3, abs=2e-5), name
    assert logs["loss"] == pytest.approx(sum(map(float, expected.values())), rel=1e-3)
    assert logs["d_loss"] == pytest.approx(float(d_loss), rel=1e-3)


def test_the_distances_are_those_of_pixels_their_gradients_and_averages():
    x = np.zeros((1, 4, 4, 3), np.float32)
    x[0, 0, 0] = 1.0  # one corner: 1/16 of the pixels, 1/12 of either gradient, 1/16 of 4 means
    x, none = tf.constant(x), tf.zeros(x.shape)
    assert float(features.distance(x, none)) == pytest.approx(1 / 16 + 2 / 12 + 1 / 16)
    expected = 1 / 16 + features.GRADIENT_WEIGHT * 2 / 12
    assert float(features.content_distance(x, none)) == pytest.approx(expected)


def test_the_discriminator_is_penalized_every_sixteenth_step_of_the_edits(chain):
    config = tiny.make_config(chain.config.cache_dir, features_kimg=3.2)  # 200 steps
    trainer = features.build(config, chain.folder, chain.faces, side=8)
    assert trainer.phases(3.2, 16) == [80, 120]
    assert [trainer.variant(step) for step in (0, 64, 79, 80, 81, 95, 96)] == [
        (False, False), (False, False), (False, False),
        (True, True), (True, False), (True, False), (True, True),
    ]  # fmt: skip


def test_the_penalty_is_r1_on_reconstructions_with_their_labels(trainer, batch):
    images, chosen, label = batch[0], tf.range(PHOTOS) % 3, tf.constant([-1.0, 1.0] * (PHOTOS // 2))
    gradients = [tf.zeros(v.shape) for v in trainer.discriminator.trainable_variables]
    found = trainer._add_penalty(gradients, images, chosen, label)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            inner.watch(images)
            logits, _, conditions = trainer.discriminator(images, training=True)
            condition = tf.gather(conditions, chosen, axis=1, batch_dims=1)
            total = tf.reduce_sum(logits[:, 0] + label * condition)
        squares = tf.reduce_sum(tf.square(inner.gradient(total, images)), axis=(1, 2, 3))
        penalty = 16 * 0.05 * tf.reduce_mean(squares)
    kernel = trainer.discriminator.trainable_variables[0]
    np.testing.assert_allclose(found[0], outer.gradient(penalty, kernel.value), rtol=1e-3)


def test_edits_are_mostly_of_the_attributes_to_edit(trainer):
    chosen, strength = (value.numpy() for value in trainer._sample_edits(4000))
    edited = np.isin(chosen, trainer.edited.numpy()).mean()
    others = len(trainer.edited) / len(trainer.rows)
    assert edited == pytest.approx(0.75 + 0.25 * others, abs=0.04)
    assert 0 <= strength.min() and 1.25 < strength.max() <= 1.3
    assert np.isin(chosen, trainer.rows.numpy()).all()


@pytest.mark.parametrize("count, usable", [(4, False), (5, True)])
def test_an_attribute_needs_five_photos_with_it_and_five_without(chain, count, usable):
    faces = dataclasses.replace(chain.faces, labels=chain.faces.labels.copy())
    train = faces.splits["train"]
    faces.labels[train, 0], faces.labels[train, 1] = 0, 1
    faces.labels[train[:count], 0], faces.labels[train[:count], 1] = 1, 0
    trainer = features.build(tiny.make_config(chain.config.cache_dir), chain.folder, faces, side=8)
    assert {0, 1} & set(trainer.rows.numpy()) == ({0, 1} if usable else set())


def test_the_steps_are_class_differences(chain, trainer):
    differences, least = class_differences.class_differences(trainer.codec.encoder, chain.faces)
    assert (least[trainer.rows.numpy()] >= 5).all()
    np.testing.assert_allclose(trainer.steps, 1.2 * differences, rtol=1e-6)


def test_photos_without_a_usable_attribute_are_refused(chain):
    config = tiny.make_config(chain.config.cache_dir)
    faces = dataclasses.replace(chain.faces, labels=np.zeros_like(chain.faces.labels))
    with pytest.raises(UserError, match="no attribute has 5 training photos with it and 5 without"):
        features.build(config, chain.folder, faces, side=8)


def test_the_stage_saves_the_features_a_grid_and_the_reconstructions_psnr(chain):
    stage = chain.folder.stage("features")
    model = artifact.load_model(DetailFeatures, stage.model)
    assert model.shape == (8, 8, 8)
    metadata = stage.read_metadata()
    codec = models.load_codec(chain.folder, chain.config)
    assert metadata["psnr_p5"] == pytest.approx(features.psnr_p5(codec, chain.faces))
    assert metadata["parents"].keys() == {"gan", "regressor", "inversion"}
    assert (stage.path / "edits000000.png").exists()


def test_a_run_without_features_finishes_the_stage_at_once(chain, tmp_path, capsys):
    folder, _ = finished_before_features(chain, tmp_path)
    config = config_module.replace(chain.config, features_side="none")
    features.run(config, folder, chain.faces)
    assert capsys.readouterr().out == "features: none (--features_side=none)\n"
    stage = folder.stage("features")
    inversion = folder.stage("inversion").read_metadata()
    assert stage.finished() and stage.read_metadata()["psnr_p5"] == inversion["psnr_p5"]
    assert models.load_codec(folder, config).features is None
    assert stage.artifact_hash()


@pytest.mark.slow
def test_a_killed_training_resumes_bit_for_bit(chain, tmp_path, monkeypatch):
    folder, config = finished_before_features(chain, tmp_path)
    config = config_module.replace(config, checkpoint_minutes=1e-9)
    with monkeypatch.context() as patch:
        tiny.interrupt(patch, checkpoint=4, kill=6)
        with pytest.raises(tiny.Killed):
            features.run(config, folder, chain.faces)
    features.run(config, folder, chain.faces)
    uninterrupted = chain.folder.stage("features")
    tiny.assert_equal_state(
        tiny.final_state(folder.stage("features")), tiny.final_state(uninterrupted)
    )


def finished_before_features(chain, tmp_path):
    """A copy of the tiny run's first three stages, and its options."""
    folder = RunFolder(tmp_path / "run")
    tiny.save_config(folder, chain.config, chain.faces)
    for name in ("gan", "regressor", "inversion"):
        (folder.path / name).symlink_to(chain.folder.path / name)
    return folder, chain.config
