"""The judge: shapes, cost, artifact, training and resuming."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tiny
from fake_run import make_config
from keras import layers

from cgan_tf import data
from cgan_tf.core import artifact, run_folder
from cgan_tf.core import config as config_module
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.data import pipeline
from cgan_tf.networks.judge import FEATURES, Judge
from cgan_tf.networks.vgg import Regressor
from cgan_tf.stages import judge

NAMES = ("Smiling", "Eyeglasses", "Male")


def images(count, side, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, side, side, 3)).astype(np.float32)


def macs(model):
    """Multiplications in the convolutions for one image."""
    return sum(
        int(np.prod(layer.output.shape[1:3])) * int(np.prod(layer.kernel.shape))
        for layer in model.backbone.layers
        if isinstance(layer, layers.Conv2D)
    )


@pytest.mark.parametrize("side", [16, 32, 64, 128])
def test_shapes_and_ranges(side):
    model = Judge(NAMES, side)
    photos = images(2, side)
    features, probabilities = model.features_and_probabilities(photos)
    assert features.shape == (2, FEATURES) and features.dtype == tf.float32
    assert probabilities.shape == (2, 3) and probabilities.dtype == tf.float32
    assert np.all(features >= 0) and np.all((probabilities > 0) & (probabilities < 1))
    np.testing.assert_allclose(features, model.features(photos))
    np.testing.assert_allclose(probabilities, model(photos, training=False), rtol=1e-6)
    np.testing.assert_allclose(probabilities, tf.sigmoid(model.logits(photos)), rtol=1e-6)


def test_larger_images_are_averaged_down_to_128_px():
    small, large = Judge(("A",), 128), Judge(("A",), 512)
    large.set_weights(small.get_weights())
    photos = np.random.default_rng(0).uniform(-1, 1, (2, 128, 128, 3)).astype(np.float32)
    repeated = photos.repeat(4, axis=1).repeat(4, axis=2)
    np.testing.assert_allclose(large.features(repeated), small.features(photos), atol=1e-5)


def test_size_and_cost_are_pinned():
    model = Judge(tuple(f"attribute_{index}" for index in range(40)), 64)
    assert model.count_params() == 731872
    assert macs(model) == 37_232_640
    assert macs(Judge(NAMES, 128)) < 1.2 * macs(model)


def test_shares_no_layer_shape_with_the_regressor():
    def shapes(model):
        convolutions = (one for one in model.backbone.layers if isinstance(one, layers.Conv2D))
        return {layer.kernel.shape for layer in convolutions}

    assert not shapes(Judge(NAMES, 32)) & shapes(Regressor(NAMES, 32, 32))


def test_a_loaded_artifact_gives_the_same_predictions(tmp_path):
    model = Judge(NAMES, 16)
    for weight in model.weights:  # batch norm starts as the identity
        value = weight.numpy()
        weight.assign(np.abs(value + np.random.default_rng(1).normal(0, 0.1, value.shape)))
    artifact.save_model(model, tmp_path / "judge")
    loaded = artifact.load_model(Judge, tmp_path / "judge")
    photos = images(3, 16)
    assert loaded.attribute_names == NAMES and loaded.resolution == 16
    for before, after in zip(
        model.features_and_probabilities(photos),
        loaded.features_and_probabilities(photos),
        strict=True,
    ):
        np.testing.assert_array_equal(before, after)


def test_half_precision_returns_float32():
    model = Judge(NAMES, 32, dtype="mixed_bfloat16")
    features, probabilities = model.features_and_probabilities(images(2, 32))
    assert features.dtype == probabilities.dtype == tf.float32
    assert all(weight.dtype == "float32" for weight in model.weights)


def bright_or_dark(count, seed):
    """Photos whose only attribute is whether they are bright."""
    labels = (np.random.default_rng(seed).random((count, 1)) < 0.5).astype(np.float32)
    photos = images(count, 16, seed) * 0.3 + (labels - 0.5)[:, :, None, None]
    return photos.astype(np.float32), labels


def test_learns_what_is_there_to_learn():
    tf.keras.utils.set_random_seed(0)
    model = Judge(("Bright",), 16)
    trainer = judge.JudgeTrainer(model, steps=40, seed=0)
    step = tf.function(trainer.train_step, autograph=False)
    losses = [float(step(bright_or_dark(32, seed))["loss"]) for seed in range(40)]
    photos, labels = bright_or_dark(200, 1000)
    assert np.mean(losses[-5:]) < 0.3 < losses[0]
    assert np.mean((model(photos, training=False) > 0.5) == (labels > 0.5)) > 0.95


def test_the_checkpoint_has_everything_that_a_step_changes():
    model = Judge(("Bright",), 16)
    trainer = judge.JudgeTrainer(model, steps=10, seed=3)
    parts = trainer.checkpoint_parts()
    saved = {id(v) for part in ("model", "optimizer") for v in parts[part].variables}
    saved.add(id(parts["seed_generator"].state))
    variables = {id(v): v for v in [*trainer.variables, trainer.seed_generator.state]}
    before = {key: variable.numpy() for key, variable in variables.items()}
    for seed in range(2):  # the warm-up begins at a rate of 0
        trainer.train_step(bright_or_dark(8, seed))
    changed = {k for k, v in variables.items() if not np.array_equal(before[k], v.numpy())}
    assert len(changed) == len(model.weights) + 1 and changed <= saved


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Options, data set, stage folder and the judge of a training of four small steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "JUDGE_BATCH_SIZE", 32)
        config = make_config(
            tmp_path_factory.mktemp("cache"), evaluate_judge_kimg=0.125, precision="float32"
        )
        dataset = data.open_data(config, say=lambda line: None)
        stage = new_stage(tmp_path_factory.mktemp("judge") / "run")
        yield config, dataset, stage, judge.ensure_judge(config, stage, dataset)


def test_photos_without_labels_are_one_line(faces, tmp_path):
    bare = dataclasses.replace(faces, attribute_names=())
    with pytest.raises(UserError, match="^--data=synthetic: the judge needs labels; add "):
        judge.ensure_judge(config_module.Config(), new_stage(tmp_path / "run"), bare)


def new_stage(path):
    stage = run_folder.RunFolder(path).stage("evaluate")
    stage.path.mkdir(parents=True)
    return stage


def test_the_judge_is_trained_once(trained):
    config, dataset, stage, first = trained
    written = (stage.path / "judge" / "weights.h5").stat().st_mtime_ns
    assert first.attribute_names == dataset.attribute_names
    assert [line["kimg"] for line in stage.read_stats()] == [0.032, 0.064, 0.096, 0.128]
    again = judge.ensure_judge(config, stage, dataset)
    assert (stage.path / "judge" / "weights.h5").stat().st_mtime_ns == written
    for one, two in zip(first.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


@pytest.fixture
def restarted(trained, tmp_path):
    """An evaluation with the trained judge that was moved aside, and a new stage without one."""
    config, dataset, stage, _ = trained
    new = new_stage(tmp_path / "run")
    old = tmp_path / "run" / "evaluate.old-001"
    shutil.copytree(stage.path, old)
    options = config_module.stage_options(config, "evaluate")
    record = {"stage": "evaluate", "options": options, "data": dataset.digest, "parents": {}}
    write_json(old / "metadata.json", record)
    return old, new


def test_an_evaluation_that_starts_over_keeps_the_judge(trained, restarted, monkeypatch, capsys):
    config, dataset, _, first = trained
    old, stage = restarted
    monkeypatch.setattr(judge.loop, "train", None)  # nothing is trained
    changed = config_module.replace(
        config,
        attributes=("Eyeglasses",),
        evaluate_samples=100,
        evaluate_photos=10,
        evaluate_projections=0,
        evaluate_identity_model="face.onnx",
    )
    kept = judge.ensure_judge(changed, stage, dataset)
    assert capsys.readouterr().out == (
        f"evaluate: keeps the judge of {old}, whose data and options are the same\n"
    )
    for one, two in zip(first.weights, kept.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    files = [name for name in tiny.listing(old) if name != "metadata.json"]
    assert tiny.listing(stage.path) == files and len(files) == 4
    assert all((stage.path / name).read_bytes() == (old / name).read_bytes() for name in files)
    assert stage.has_progress()  # from now on other options are refused
    judge.ensure_judge(changed, stage, dataset)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "flag, value",
    [
        ("evaluate_judge_kimg", 0.25),
        ("seed", 8),
        ("precision", "mixed_bfloat16"),
        ("jit", "true"),
        ("deterministic", False),
    ],
)
def test_a_judge_of_other_options_is_not_kept(trained, restarted, flag, value):
    config, dataset, *_ = trained
    _, stage = restarted
    changed = config_module.replace(config, **{flag: value})
    assert not judge.keep_judge(changed, stage, dataset.digest)
    assert tiny.listing(stage.path) == []


def test_a_judge_of_other_photos_or_a_damaged_one_is_not_kept(trained, restarted):
    config, dataset, *_ = trained
    old, stage = restarted
    assert not judge.keep_judge(config, stage, "other photos")
    weights = old / "judge" / "weights.h5"
    content = weights.read_bytes()
    weights.write_bytes(content[:2000])
    assert not judge.keep_judge(config, stage, dataset.digest)
    weights.unlink()  # its training did not end
    assert not judge.keep_judge(config, stage, dataset.digest)
    weights.write_bytes(content)
    (old / "metadata.json").write_text("{")
    assert not judge.keep_judge(config, stage, dataset.digest)
    assert tiny.listing(stage.path) == []


@pytest.mark.slow
def test_a_resumed_training_ends_with_the_same_weights(tmp_path, trained, monkeypatch):
    config, dataset, _, uninterrupted = trained
    stage = new_stage(tmp_path / "resumed")
    batches = pipeline.training_batches

    # As if the process were killed: a checkpoint after every step, and no batches after two steps.
    with monkeypatch.context() as patch, pytest.raises(tf.errors.OutOfRangeError):
        patch.setattr(
            judge.pipeline,
            "training_batches",
            lambda *args, **options: batches(*args, **options).take(2),
        )
        frequent = config_module.replace(config, checkpoint_minutes=1e-9)
        judge.ensure_judge(frequent, stage, dataset)
    assert not (stage.path / "judge").exists()
    resumed = judge.ensure_judge(config, stage, dataset)
    for one, two in zip(uninterrupted.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
