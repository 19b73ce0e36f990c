"""Regressor: calibrated scores, the phase at half resolution, initial weights, the stage."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from cgan_tf.core import artifact
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import pipeline
from cgan_tf.networks import vgg
from cgan_tf.stages import regressor
from cgan_tf.training import augment, checkpoint, precision

NOTE = "ImageNet weights of VGG16 are not available; the regressor trains from scratch"


def offline(include_top, weights, **options):
    """`tiny.slim_vgg16` on a machine without network access."""
    if weights == "imagenet":
        raise Exception("URL fetch failure on https://example.org: None")
    return tiny.slim_vgg16(include_top, weights, **options)


def online(include_top, weights, **options):
    """`tiny.slim_vgg16` with weights that stand in for ImageNet's."""
    model = tiny.slim_vgg16(include_top, None, **options)
    if weights == "imagenet":
        model.set_weights([np.full(w.shape, 0.01, np.float32) for w in model.weights])
    return model


def with_labels(faces, rates, count=80):
    """The faces with attributes of exactly these rates in the training split."""
    labels = np.zeros((len(faces.files), len(rates)), np.float32)
    for column, rate in enumerate(rates):
        labels[faces.splits["train"][: round(rate * count)], column] = 1
    names = tuple(f"attribute_{column}" for column in range(len(rates)))
    return dataclasses.replace(faces, labels=labels, attribute_names=names)


# What the scores mean.


@pytest.mark.parametrize("balance", [0.0, 0.25, 1.0])
def test_scores_are_calibrated_at_any_class_balance(slim_vgg, cache, faces, balance, monkeypatch):
    monkeypatch.setattr(regressor, "CLASS_BALANCE", balance)
    rates = (0.05, 0.25, 0.5, 0.9)
    dataset = with_labels(faces, rates)
    config = tiny.make_config(cache)
    model, _ = regressor.build(config, dataset, "float32")
    np.testing.assert_allclose(
        model.offsets, balance * np.log((1 - np.array(rates)) / rates), rtol=1e-6
    )
    # A model that cannot distinguish photos should predict the base rates. It does at the start,
    # where the weighted loss has its minimum.
    model.head.kernel.assign(tf.zeros_like(model.head.kernel))
    photos = np.zeros((80, 32, 32, 3), np.float32)
    labels = dataset.labels[dataset.splits["train"]]
    np.testing.assert_allclose(model(photos[:2], training=False), [rates] * 2, rtol=1e-5)
    trainer = regressor.RegressorTrainer(model, config)
    bias = next(i for i, v in enumerate(model.trainable_variables) if v is model.head.bias)

    def gradient(shift):
        model.head.bias.assign_add(tf.fill((4,), shift))
        _, _, gradients = trainer._gradients(tf.constant(photos), tf.constant(labels))
        model.head.bias.assign_add(tf.fill((4,), -shift))
        return gradients[bias].numpy()

    # Close to the minimum: at logits of exactly 0, TensorFlow's gradient of this loss is wrong.
    np.testing.assert_allclose(gradient(1e-4), 0.0, atol=2e-5)
    np.testing.assert_allclose(gradient(-1e-4), 0.0, atol=2e-5)
    assert (gradient(0.1) > 1e-3).all() and (gradient(-0.1) < -1e-3).all()


def test_the_loss_weights_positives_by_the_inverse_frequency(slim_vgg, cache, faces, monkeypatch):
    monkeypatch.setattr(regressor, "CLASS_BALANCE", 1.0)
    config = tiny.make_config(cache)
    dataset = with_labels(faces, (0.2,))
    model, _ = regressor.build(config, dataset, "float32")
    trainer = regressor.RegressorTrainer(model, config)
    np.testing.assert_allclose(trainer.positive_weights, [4.0], rtol=1e-6)  # 0.8 / 0.2
    model.head.kernel.assign(tf.zeros_like(model.head.kernel))
    model.head.bias.assign([0.0])  # a probability of one half in the loss
    photos = tf.zeros((2, 32, 32, 3))
    loss, accuracy, _ = trainer._gradients(photos, tf.constant([[1.0], [0.0]]))
    assert float(loss) == pytest.approx(np.log(2) * (4 + 1) / 2, rel=1e-6)
    assert float(accuracy) == 0.5


def test_a_constant_column_has_finite_offsets(slim_vgg, cache, faces, monkeypatch):
    monkeypatch.setattr(regressor, "CLASS_BALANCE", 1.0)
    dataset = with_labels(faces, (0.0, 1.0))
    model, _ = regressor.build(tiny.make_config(cache), dataset, "float32")
    np.testing.assert_allclose(model.offsets, [np.log(999), -np.log(999)], rtol=1e-5)
    assert np.isfinite(model.head.bias.numpy()).all()


# The step.


def test_the_first_phase_is_at_half_resolution(slim_vgg, cache, faces, monkeypatch):
    monkeypatch.setattr(regressor, "SMALL_FRACTION", 0.6)
    config = tiny.make_config(cache, resolution=64, regressor_kimg=0.04)  # 10 steps
    model, _ = regressor.build(config, faces, "float32")
    trainer = regressor.RegressorTrainer(model, config)
    assert trainer.small_steps == 6
    monkeypatch.setattr(augment, "jitter", lambda photos, seed: photos)
    inputs = []
    logits = model.logits
    monkeypatch.setattr(
        model, "logits", lambda photos, training: inputs.append(photos) or logits(photos, training)
    )
    photos = np.random.default_rng(0).uniform(-1, 1, (4, 64, 64, 3)).astype(np.float32)
    batch = (tf.constant(photos), tf.constant(faces.labels[:4]))
    for _ in range(8):
        trainer.train_step(batch)
    assert [image.shape[1] for image in inputs] == [32] * 6 + [64] * 2
    smaller = photos.reshape(4, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(inputs[0], smaller, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"resolution": 32}, {"resolution": 64, "regressor_resolution": 32}]
)
def test_photos_of_32_px_are_not_halved(slim_vgg, cache, faces, options):
    config = tiny.make_config(cache, **options)
    model, _ = regressor.build(config, faces, "float32")
    assert regressor.RegressorTrainer(model, config).small_steps == 0


def test_photos_are_jittered(slim_vgg, cache, faces, monkeypatch):
    config = tiny.make_config(cache)
    model, _ = regressor.build(config, faces, "float32")
    trainer = regressor.RegressorTrainer(model, config)
    inputs = []
    monkeypatch.setattr(
        augment, "jitter", lambda photos, seed: inputs.append((photos, seed)) or photos
    )
    batch = next(iter(pipeline.training_batches(faces, "train", 4, 0, labels=True)))
    logs = trainer.train_step(batch)
    assert inputs[0][0] is batch[0] and inputs[0][1] is trainer.seed_generator
    assert set(logs) == {"loss", "accuracy"}


def test_it_learns_a_visible_attribute(slim_vgg, cache, faces, monkeypatch):
    # The only attribute is whether a photo is bright.
    monkeypatch.setattr(augment, "jitter", lambda photos, seed: photos)
    precision.seed_everything(tiny.make_config(cache))
    config = tiny.make_config(cache, regressor_kimg=0.48, regressor_lr=3e-3)  # 120 steps
    model, _ = regressor.build(config, with_labels(faces, (0.5,)), "float32")
    step = tf.function(regressor.RegressorTrainer(model, config).train_step, autograph=False)
    draw = np.random.default_rng(0)

    def batch(count):
        labels = (draw.random((count, 1)) < 0.5).astype(np.float32)
        noise = draw.uniform(-0.3, 0.3, (count, 32, 32, 3))
        return (noise + (labels - 0.5)[:, :, None, None]).astype(np.float32), labels

    for _ in range(120):
        step(batch(4))
    photos, labels = batch(100)
    assert ((model(photos, training=False).numpy() > 0.5) == (labels > 0.5)).mean() > 0.95


def test_the_checkpoint_has_everything_that_a_step_changes(slim_vgg, cache, faces):
    config = tiny.make_config(cache)
    model, _ = regressor.build(config, faces, "float32")
    trainer = regressor.RegressorTrainer(model, config)
    saved = {id(v) for v in checkpoint.named_variables(trainer.checkpoint_parts()).values()}
    seeds = [trainer.seed_generator.state, model.dropout.seed_generator.state]
    everything = {id(v): v for v in [*trainer.variables, *seeds]}
    before = {key: variable.numpy() for key, variable in everything.items()}
    batches = iter(pipeline.training_batches(faces, "train", 4, 0, labels=True))
    for _ in range(3):  # the warm-up begins at a rate of 0
        trainer.train_step(next(batches))
    changed = {k for k, v in everything.items() if not np.array_equal(before[k], v.numpy())}
    assert changed <= saved
    assert {id(seed) for seed in seeds} | {id(v) for v in model.trainable_variables} <= changed


# Initial weights.


def scale(model):
    return model.get_config()["input_scale"]


def test_auto_takes_imagenet_weights_where_they_are_available(monkeypatch, cache, faces):
    monkeypatch.setattr(keras.applications, "VGG16", online)
    for requested in ("auto", "imagenet"):
        model, note = regressor.build(
            tiny.make_config(cache, regressor_vgg_weights=requested), faces, "float32"
        )
        assert note == "" and scale(model) == 1.0
        assert all(np.all(value == np.float32(0.01)) for value in model.backbone.get_weights())


def test_auto_trains_from_scratch_otherwise_and_returns_a_note(monkeypatch, cache, faces):
    monkeypatch.setattr(keras.applications, "VGG16", offline)
    model, note = regressor.build(
        tiny.make_config(cache, regressor_vgg_weights="auto"), faces, "float32"
    )
    assert note == NOTE and scale(model) == 1 / 64
    kernel = model.backbone.get_layer("block4_conv2").kernel.numpy()
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 8)), rel=0.1)  # He's


def test_imagenet_weights_that_are_not_available_are_one_line(monkeypatch, cache, faces):
    monkeypatch.setattr(keras.applications, "VGG16", offline)
    with pytest.raises(
        UserError, match="--regressor_vgg_weights=imagenet: the weights are not available"
    ):
        regressor.build(tiny.make_config(cache, regressor_vgg_weights="imagenet"), faces, "float32")


def test_none_downloads_nothing(slim_vgg, cache, faces):
    # `slim_vgg16` refuses to load weights.
    model, note = regressor.build(
        tiny.make_config(cache, regressor_vgg_weights="none"), faces, "float32"
    )
    assert note == "" and scale(model) == 1 / 64


def test_weights_of_a_file(slim_vgg, cache, faces, tmp_path):
    source = keras.applications.VGG16(include_top=False, weights=None)
    source.save_weights(tmp_path / "vgg.weights.h5")
    config = tiny.make_config(cache, regressor_vgg_weights=str(tmp_path / "vgg.weights.h5"))
    model, note = regressor.build(config, faces, "float32")
    assert note == "" and scale(model) == 1.0
    assert tiny.same(model.backbone.get_weights(), source.get_weights())


# The stage.


def new_run(chain, path, **options):
    config = tiny.make_config(chain.config.cache_dir, **options)
    folder = RunFolder(path / "run")
    tiny.save_config(folder, config, chain.faces)
    return config, folder


def test_the_files_of_the_stage(chain):
    stage = chain.folder.stage("regressor")
    assert tiny.listing(stage.path) == [
        "checkpoints/step-000000008.npz",
        "metadata.json",
        "model/config.json",
        "model/weights.h5",
        "stats.jsonl",
    ]
    assert [line["kimg"] for line in stage.read_stats()] == [0.004 * n for n in range(1, 9)]
    assert {"loss", "accuracy"} < set(stage.read_stats()[0])


def test_the_validation_accuracy_of_each_attribute_is_recorded(chain, slim_vgg):
    stage = chain.folder.stage("regressor")
    recorded = stage.read_metadata()["validation_accuracy"]
    model = artifact.load_model(vgg.Regressor, stage.model)
    assert model.attribute_names == chain.faces.attribute_names
    rows = chain.faces.splits["validation"]
    photos = next(pipeline.sequential_batches(chain.faces, rows, len(rows)))
    right = (model(photos, training=False).numpy() > 0.5) == (chain.faces.labels[rows] > 0.5)
    assert list(recorded) == list(chain.faces.attribute_names)
    np.testing.assert_allclose(list(recorded.values()), right.mean(axis=0))


def test_a_substitution_is_printed_and_recorded(chain, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(keras.applications, "VGG16", offline)
    monkeypatch.setattr(regressor.loop, "train", lambda *arguments, **options: None)
    config, folder = new_run(chain, tmp_path, regressor_vgg_weights="auto")
    regressor.run(config, folder, chain.faces)
    assert capsys.readouterr().out.splitlines()[0] == f"note: {NOTE}"
    assert folder.read()["substitutions"] == {"vgg_weights": NOTE}
    # Started over with network access, the note is removed.
    shutil.rmtree(folder.stage("regressor").path)
    monkeypatch.setattr(keras.applications, "VGG16", online)
    regressor.run(config, folder, chain.faces)
    assert folder.read()["substitutions"] == {}


@pytest.mark.parametrize(
    "before, after, start",
    [
        (offline, online, 1 / 64),
        pytest.param(online, offline, 1.0, marks=pytest.mark.slow),
    ],
)
def test_a_killed_and_resumed_training_ends_with_the_same_weights(
    chain, tmp_path, monkeypatch, before, after, start
):
    """Also if the download of ImageNet weights becomes available, or unavailable, in between."""
    options = {"regressor_vgg_weights": "auto", "regressor_kimg": 0.016}
    config, folder = new_run(chain, tmp_path, **options)
    often = dataclasses.replace(config, checkpoint_minutes=1e-9)
    monkeypatch.setattr(keras.applications, "VGG16", before)
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        tiny.interrupt(patch, checkpoint=2, kill=3)
        regressor.run(often, folder, chain.faces)
    notes = folder.read()["substitutions"]
    assert notes == ({"vgg_weights": NOTE} if before is offline else {})
    monkeypatch.setattr(keras.applications, "VGG16", after)
    regressor.run(config, folder, chain.faces)
    assert folder.read()["substitutions"] == notes
    stage = folder.stage("regressor")
    assert scale(artifact.load_model(vgg.Regressor, stage.model)) == start
    if before is offline:
        monkeypatch.setattr(keras.applications, "VGG16", before)
        _, uninterrupted = new_run(chain, tmp_path / "uninterrupted", **options)
        regressor.run(config, uninterrupted, chain.faces)
        reference = uninterrupted.stage("regressor")
        tiny.assert_equal_state(tiny.final_state(stage), tiny.final_state(reference))
        assert stage.artifact_hash() == reference.artifact_hash()


def test_photos_without_labels_are_one_line(chain, tmp_path):
    config, folder = new_run(chain, tmp_path)
    bare = dataclasses.replace(
        chain.faces, attribute_names=(), labels=np.zeros((100, 0), np.float32)
    )
    with pytest.raises(UserError, match="the regressor needs labels; add labels.csv to --data_dir"):
        regressor.run(config, folder, bare)
    assert tiny.listing(folder.path) == ["config.json"]


@pytest.mark.slow
def test_the_real_vgg16_repeats_a_step_bit_for_bit(cache, faces, tmp_path):
    # By default Grappler sums gradients in order of arrival: half of these repetitions would then
    # differ in every moment of the optimizer.
    assert keras.applications.VGG16 is tiny.VGG16
    config = tiny.make_config(cache)
    precision.seed_everything(config)
    model, _ = regressor.build(config, faces, "float32")
    trainer = regressor.RegressorTrainer(model, config)
    step = tf.function(trainer.train_step, autograph=False)
    batch = next(iter(pipeline.training_batches(faces, "train", 4, 0, labels=True)))
    variables = checkpoint.named_variables(trainer.checkpoint_parts()).values()
    start = [variable.numpy() for variable in variables]
    results = set()
    for _ in range(6):
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        step(batch)
        results.add(hash(tuple(variable.numpy().tobytes() for variable in variables)))
    assert len(results) == 1
    artifact.save_model(model, tmp_path / "model")
    loaded = artifact.load_model(vgg.Regressor, tmp_path / "model")
    assert loaded.count_params() == 14_714_688 + 12_801 * len(faces.attribute_names)
    photos = batch[0][:1]
    np.testing.assert_array_equal(loaded(photos, training=False), model(photos, training=False))
