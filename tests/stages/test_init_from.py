"""cgan_tf.stages.init_from: what is copied, what grows, what is refused; resuming without it."""

import dataclasses
import json
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from refusal import message

from cgan_tf import data
from cgan_tf.core import artifact
from cgan_tf.core import config as config_module
from cgan_tf.core.files import file_hash, write_text
from cgan_tf.core.run_folder import METADATA, RunFolder
from cgan_tf.editing import models
from cgan_tf.networks import vgg
from cgan_tf.networks.encoder import Encoder
from cgan_tf.networks.growing import downsample
from cgan_tf.networks.stylegan import upsample
from cgan_tf.stages import gan, init_from, inversion, progressive, regressor
from cgan_tf.stages.progressive import Level
from cgan_tf.training import checkpoint

NETWORKS = ("gan/model", "gan/discriminator", "regressor/model", "inversion/model")


def shaken(networks):
    """Gives every weight another value: biases and batch norm start as the identity."""
    draw = np.random.default_rng(4)
    for weight in (weight for network in networks for weight in network.weights):
        weight.assign(weight.numpy() + draw.uniform(-0.1, 0.1, weight.shape))


def make_parent(path, cache, **options):
    """A run whose gan stage has finished; its networks are not trained."""
    config = tiny.make_config(cache, **options)
    keras.utils.set_random_seed(5)
    folder = RunFolder(path)
    folder.save_config(config, {"digest": "photos"})
    stage = folder.stage("gan")
    assert stage.begin(config, "photos")
    generator, discriminator = models.build_generator(config), models.build_discriminator(config)
    shaken((generator, discriminator))
    artifact.save_model(generator, stage.model)
    artifact.save_model(discriminator, stage.path / "discriminator")
    stage.finish()
    return folder


def make_child(path, parent, cache, faces, **options):
    """The options and the folder of a run that starts from `parent`."""
    config = tiny.make_config(cache, init_from=str(parent.path), **options)
    folder = RunFolder(path)
    tiny.save_config(folder, config, faces)
    return config, folder


def started(config, folder, digest="photos"):
    """The trainer of a gan stage before its first step."""
    stage = folder.stage("gan")
    assert stage.begin(config, digest)
    start = init_from.begin(config, stage)
    trainer = progressive.make_trainer(config, "float32", start.record.get("resolution"))
    init_from.copy_gan(trainer, start)
    return trainer


def networks_of(parent):
    """G and D of a finished gan stage."""
    stage = parent.stage("gan")
    return (
        models.load_generator(stage.model),
        models.load_discriminator(stage.path / "discriminator"),
    )


# What is copied.


@pytest.mark.parametrize("arch", ["dcgan", "stylegan", "residual"])
def test_the_networks_of_the_same_resolution_are_copied(arch, cache, faces, tmp_path, capsys):
    parent = make_parent(tmp_path / "parent", cache, gan_arch=arch)
    config, folder = make_child(tmp_path / "run", parent, cache, faces, gan_arch=arch)
    trainer = started(config, folder)
    generator, discriminator = map(tiny.values, networks_of(parent))
    assert tiny.same(tiny.values(trainer.generator), generator)
    assert tiny.same(tiny.values(trainer.average), generator)
    assert tiny.same(tiny.values(trainer.discriminator), discriminator)
    for optimizer in (trainer.g_optimizer, trainer.d_optimizer):
        fresh = [v for v in optimizer.variables if v is not optimizer.learning_rate]
        assert not any(np.any(variable.numpy()) for variable in fresh)
    assert type(trainer) is not progressive.ProgressiveGAN
    names = [f"{folder}/weights.h5" for folder in NETWORKS[:2]]
    assert folder.stage("gan").read_metadata()["init_from"] == {
        "run": str(parent.path),
        "weights": {name: file_hash(parent.path / name) for name in names},
        "resolution": 32,
    }
    out = capsys.readouterr().out
    assert out == f"gan: starts from the networks of {parent.path}\n"


@pytest.fixture(scope="module")
def child(tmp_path_factory, chain):
    """All stages of the tiny run, started from `chain`, which is not changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.applications, "VGG16", tiny.slim_vgg16)
        path = tmp_path_factory.mktemp("child") / "run"
        config, folder = make_child(path, chain.folder, chain.config.cache_dir, chain.faces)
        for name in init_from.STAGES:
            tiny.STAGES[name](config, folder, chain.faces)
    return config, folder


def test_every_stage_records_the_weights_that_it_started_from(chain, child):
    _, folder = child
    for name, networks in (
        ("gan", NETWORKS[:2]),
        ("regressor", NETWORKS[2:3]),
        ("inversion", NETWORKS[3:]),
    ):
        record = folder.stage(name).read_metadata()["init_from"]
        assert record["run"] == str(chain.folder.path)
        assert record["weights"] == {
            f"{path}/weights.h5": file_hash(chain.folder.path / path / "weights.h5")
            for path in networks
        }
    assert folder.read()["substitutions"] == {}


def regressor_start(folder, config, faces):
    """A regressor before its first step, and the start that it has."""
    stage = folder.stage("regressor")
    assert stage.begin(config, faces.digest)
    start = init_from.begin(config, stage, faces.attribute_names)
    model, _ = regressor.build(
        config, faces, "float32", input_scale=start.record.get("input_scale")
    )
    init_from.copy_regressor(model, start)
    return model, start


def test_a_regressor_of_the_same_attributes_is_copied(chain, slim_vgg, tmp_path):
    config, folder = make_child(tmp_path / "run", chain.folder, chain.config.cache_dir, chain.faces)
    model, start = regressor_start(folder, config, chain.faces)
    parent = artifact.load_model(vgg.Regressor, chain.folder.stage("regressor").model)
    assert tiny.same(tiny.values(model), tiny.values(parent))
    assert start.record["attributes"] == list(chain.faces.attribute_names)


def test_outputs_of_common_attributes_predict_the_same(chain, slim_vgg, tmp_path, capsys):
    """The columns are in another order, and the labels have other rates, so other offsets."""
    names = chain.faces.attribute_names
    labels = np.roll(chain.faces.labels[:, [2, 0, 1]], 7, axis=0)
    labels[::3] = 1.0
    faces = dataclasses.replace(
        chain.faces, attribute_names=(names[2], "Freckles", names[0]), labels=labels
    )
    config, folder = make_child(tmp_path / "run", chain.folder, chain.config.cache_dir, faces)
    model, start = regressor_start(folder, config, faces)
    parent = artifact.load_model(vgg.Regressor, chain.folder.stage("regressor").model)
    assert tiny.same(tiny.values(model.backbone), tiny.values(parent.backbone))
    assert abs(model.offsets[0] - parent.offsets[2]) > 0.01
    photos = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
    ours, theirs = (network(photos, training=False).numpy() for network in (model, parent))
    np.testing.assert_allclose(ours[:, [0, 2]], theirs[:, [2, 0]], rtol=1e-5)
    assert start.record["attributes"] == [names[2], names[0]]
    note = f"--init_from={chain.folder.path} has no regressor of Freckles; its outputs for them"
    assert folder.read()["substitutions"]["init_from of regressor"].startswith(note)
    assert f"note: {note}" in capsys.readouterr().out


@pytest.mark.parametrize("scale", [1.0, 1 / 64])
def test_a_regressor_keeps_the_scale_of_its_inputs(chain, slim_vgg, tmp_path, scale):
    parent = RunFolder(tmp_path / "parent")
    shutil.copytree(chain.folder.path, parent.path)
    path = parent.stage("regressor").model / "config.json"
    stored = json.loads(path.read_text())
    stored["arguments"]["input_scale"] = scale
    write_text(path, json.dumps(stored))
    config, folder = make_child(tmp_path / "run", parent, chain.config.cache_dir, chain.faces)
    model, _ = regressor_start(folder, config, chain.faces)
    assert model.input_scale == scale


def test_an_encoder_is_copied_except_for_the_mean_latent(chain, child, slim_vgg, monkeypatch):
    config, finished = child
    encoders = []

    def train(trainer, *arguments, **options):
        encoders.append(tiny.values(trainer.encoder))
        mean = trainer.generator.sample_latent(inversion.MEAN_SAMPLES, seed=config.seed)
        expected = tf.reduce_mean(mean, axis=0)
        np.testing.assert_allclose(trainer.encoder.add_mean.mean, expected, atol=1e-6)
        raise tiny.Killed

    folder = RunFolder(finished.path.with_name("encoder"))
    shutil.copytree(finished.path, folder.path)
    shutil.rmtree(folder.stage("inversion").path)
    monkeypatch.setattr(inversion.loop, "train", train)
    with pytest.raises(tiny.Killed):
        inversion.run(config, folder, chain.faces)
    parent = tiny.artifact_weights(Encoder, chain.folder.stage("inversion").model)
    equal = [np.array_equal(one, two) for one, two in zip(encoders[0], parent, strict=True)]
    assert equal.count(False) <= 1  # the mean


# What does not fit is said and recorded.


def test_stages_without_networks_to_start_from_are_noted(cache, faces, tmp_path, capsys):
    parent = make_parent(tmp_path / "parent", cache)
    config, folder = make_child(tmp_path / "run", parent, cache, faces)
    for name, note in (
        ("regressor", "has no finished regressor; the regressor starts without"),
        ("inversion", "has no finished encoder; the encoder starts from scratch"),
    ):
        stage = folder.stage(name)
        stage.path.mkdir()
        write_text(stage.path / "metadata.json", json.dumps(dict.fromkeys(METADATA, {})))
        start = init_from.begin(config, stage)
        assert start == init_from.Start({}) and "init_from" not in stage.read_metadata()
        line = f"--init_from={parent.path} {note}"
        assert folder.read()["substitutions"][f"init_from of {name}"] == line
        assert f"note: {line}\n" in capsys.readouterr().out


def test_weights_of_a_file_win_over_the_regressor(chain, tmp_path):
    config, _ = make_child(
        tmp_path / "run",
        chain.folder,
        chain.config.cache_dir,
        chain.faces,
        regressor_vgg_weights="vgg.weights.h5",
    )
    start = init_from._read_regressor(config, chain.folder, ())
    assert not start.networks and start.note == (
        "the regressor starts from --regressor_vgg_weights=vgg.weights.h5, not from "
        f"--init_from={chain.folder.path}"
    )


def test_an_encoder_of_other_sizes_is_not_copied(chain, tmp_path):
    for options, old in (
        ({"inversion_width": 8}, "--inversion_width=4"),
        ({"resolution": 64}, "--resolution=32"),
    ):
        config = tiny.make_config(
            chain.config.cache_dir, init_from=str(chain.folder.path), **options
        )
        start = init_from._read_encoder(config, chain.folder)
        assert not start.networks and not start.record
        assert start.note == (
            f"the encoder starts from scratch; that of --init_from={chain.folder.path} has {old}"
        )


# Half the resolution.

GROWN = {"resolution": 64, "gan_width": 4}  # from 32 px and width 8


@pytest.fixture(scope="module")
def faces_64(cache):
    return data.open_data(tiny.make_config(cache, resolution=64), say=lambda line: None)


@pytest.mark.parametrize(
    "options",
    [
        {"gan_d_norm": "none"},
        {"gan_d_norm": "spectral", "gan_g_norm": "pixel"},
        {"gan_arch": "stylegan", "gan_d_norm": "batch"},
    ],
    ids=lambda options: "-".join(options.values()),
)
def test_at_first_a_grown_generator_and_discriminator_are_those_of_half_the_resolution(
    options, cache, faces, tmp_path
):
    parent = make_parent(tmp_path / "parent", cache, gan_width=8, **options)
    config, folder = make_child(tmp_path / "run", parent, cache, faces, **GROWN, **options)
    trainer = started(config, folder)
    trainer.begin_phase(0, fresh=True)
    assert float(trainer._alpha()) == 0.0
    generator, discriminator = networks_of(parent)

    z = trainer.generator.sample_prior(4, seed=1)
    small = generator.from_prior(z)
    assert np.std(small) > 0.05
    if config.gan.arch == "stylegan":  # it sums levels before the tanh
        expected = tf.tanh(upsample(tf.atanh(small)))
    else:
        expected = upsample(small)
    np.testing.assert_allclose(trainer.samples(z), expected, atol=1e-5)
    grown = trainer.grown.from_prior(z, 64, tf.constant(0.0))
    np.testing.assert_allclose(grown, expected, atol=1e-5)

    photos = np.random.default_rng(0).uniform(-1, 1, (4, 64, 64, 3)).astype(np.float32)
    logits = trainer.grown_discriminator(photos, 64, tf.constant(0.0), training=True)
    expected = discriminator(downsample(photos, 32), training=True)
    assert np.std(expected) > 1e-3
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    for one, two in trainer._average_pairs():
        np.testing.assert_array_equal(one, two)


def test_only_the_finest_level_is_grown(cache):
    config = tiny.make_config(cache, gan_kimg=100.0, gan_batch_size=64, **GROWN)
    assert progressive.schedule(config, trained=32) == [
        Level(64, True, 352),  # 22.5 kimg of 64 images per step: 351.6
        Level(64, False, 1211),  # 77.5 kimg: 1210.9
    ]


# Resuming.


def test_killed_in_the_fade_it_resumes_without_the_other_run(cache, faces_64, tmp_path):
    parent = make_parent(tmp_path / "parent", cache, gan_width=8)
    state = []
    for path in (tmp_path / "whole", tmp_path / "resumed"):
        config, folder = make_child(path, parent, cache, faces_64, **GROWN)
        stage = folder.stage("gan")
        if path.name == "resumed":
            often = dataclasses.replace(config, checkpoint_minutes=1e-9)
            with pytest.MonkeyPatch.context() as patch, pytest.raises(tiny.Killed):
                tiny.interrupt(patch, checkpoint=1, kill=2)  # the fade has two steps
                gan.run(often, folder, faces_64)
            record = stage.read_metadata()["init_from"]
            shutil.rmtree(parent.path)
            init_from.check(config, folder, init_from.STAGES[:1], ())
        gan.run(config, folder, faces_64)
        state.append(tiny.final_state(stage))
    tiny.assert_equal_state(*state)
    assert stage.read_metadata()["init_from"] == record
    assert models.load_generator(stage.model).resolution == 64


@pytest.mark.slow
@pytest.mark.parametrize("name", ["regressor", "inversion"])
def test_the_later_stages_resume_without_the_other_run(
    name, chain, child, slim_vgg, tmp_path, capsys
):
    config, finished = child
    parent = RunFolder(finished.path.with_name("parent"))
    shutil.copytree(chain.folder.path, parent.path)
    config = config_module.replace(config, init_from=str(parent.path))
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(finished.path, folder.path)
    for stage in init_from.STAGES[init_from.STAGES.index(name) :]:
        shutil.rmtree(folder.stage(stage).path)
    often = dataclasses.replace(config, checkpoint_minutes=1e-9)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(tiny.Killed):
        tiny.interrupt(patch, checkpoint=3, kill=5)
        tiny.STAGES[name](often, folder, chain.faces)
    shutil.rmtree(parent.path)
    tiny.STAGES[name](config, folder, chain.faces)
    one, two = (tiny.final_state(run.stage(name)) for run in (folder, finished))
    tiny.assert_equal_state(one, two)
    assert folder.stage(name).artifact_hash() == finished.stage(name).artifact_hash()


@pytest.mark.slow
def test_killed_before_the_first_checkpoint_it_starts_again(cache, faces, tmp_path):
    parent = make_parent(tmp_path / "parent", cache)
    config, folder = make_child(tmp_path / "run", parent, cache, faces)
    started(config, folder)
    trainer = started(config, folder)
    assert tiny.same(tiny.values(trainer.generator), tiny.values(networks_of(parent)[0]))
    # Without --init_from it starts from scratch, and the record is gone.
    trainer = started(dataclasses.replace(config, init_from=""), folder)
    assert not tiny.same(tiny.values(trainer.generator), tiny.values(networks_of(parent)[0]))
    assert "init_from" not in folder.stage("gan").read_metadata()


# Bad input.


@pytest.fixture(scope="module")
def parent(tmp_path_factory, cache):
    """A run of 32 px and width 8 with a finished gan stage; read-only."""
    return make_parent(tmp_path_factory.mktemp("parent") / "run", cache, gan_width=8)


def refusal(cache, path, own="own", restarted=(), **options):
    """The line that refuses to start from a path, without "--init_from=PATH"."""
    config = tiny.make_config(cache, init_from=str(path), **options)
    line = message(init_from.check, config, RunFolder(own), ("gan",), restarted)
    return line.replace(f"--init_from={path}", "FLAG").replace(str(path), "RUN")


@pytest.mark.parametrize(
    "options, line",
    [
        ({}, "--gan_width=4: FLAG has 8 at 32 px; at 32 px use --gan_width=8"),
        ({"gan_width": 16}, "--gan_width=16: FLAG has 8 at 32 px; at 32 px use --gan_width=8"),
        (
            {"resolution": 64, "gan_width": 8},
            "--gan_width=8: FLAG has 8 at 32 px; at 64 px use --gan_width=4",
        ),
        (
            {"resolution": 128},
            "--resolution=128: FLAG has 32 px; use --resolution=32 or 64",
        ),
        ({"gan_arch": "stylegan"}, "--gan_arch=stylegan: FLAG has dcgan; use --gan_arch=dcgan"),
        ({"gan_arch": "residual"}, "--gan_arch=residual: FLAG has dcgan; use --gan_arch=dcgan"),
        ({"gan_z_dim": 9}, "--gan_z_dim=9: FLAG has 8; use --gan_z_dim=8"),
        ({"gan_prior": "uniform"}, "--gan_prior=uniform: FLAG has normal; use --gan_prior=normal"),
        ({"gan_g_norm": "pixel"}, "--gan_g_norm=pixel: FLAG has batch; use --gan_g_norm=batch"),
        (
            {"gan_d_norm": "spectral"},
            "--gan_d_norm=spectral: FLAG has none; use --gan_d_norm=none",
        ),
        (
            {"gan_minibatch_std": False},
            "--gan_minibatch_std=false: FLAG has true; use --gan_minibatch_std=true",
        ),
        (
            {"gan_equalized_lr": True},
            "--gan_equalized_lr=true: FLAG has false; use --gan_equalized_lr=false",
        ),
    ],
)
def test_networks_that_do_not_fit(cache, parent, options, line):
    assert refusal(cache, parent.path, **options) == line


def test_a_width_that_cannot_be_halved(cache, tmp_path):
    for width in (9, 6):  # half of 6 is less than the least width
        parent = make_parent(tmp_path / str(width), cache, gan_width=width)
        assert refusal(cache, parent.path, resolution=64) == (
            f"--gan_width=4: FLAG has {width} at 32 px; no width fits at 64 px; use --resolution=32"
        )


def test_an_architecture_that_cannot_grow(cache, tmp_path):
    parent = make_parent(tmp_path / "run", cache, gan_arch="residual", gan_width=8)
    assert refusal(cache, parent.path, gan_arch="residual", **GROWN) == (
        "--resolution=64: FLAG has 32 px; --gan_arch=residual cannot grow; use --resolution=32"
    )


def test_folders_of_another_kind(cache, parent, tmp_path):
    line = (
        "FLAG: not a run folder; give the --run_dir of a training (a SavedModel or a TFLite file "
        "has no discriminator)"
    )
    saved_model, empty = tmp_path / "saved_model", tmp_path / "empty"
    for folder in (saved_model, empty):
        folder.mkdir()
    (saved_model / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    for path in (saved_model, empty, tmp_path / "model.tflite", parent.path / "gan/model"):
        assert refusal(cache, path) == line
    assert refusal(cache, tmp_path / "absent") == (
        "FLAG: no such folder; give the --run_dir of a training"
    )


def test_the_run_itself(cache, parent):
    own = parent.path / ".." / parent.path.name
    assert refusal(cache, parent.path, own, restarted=("gan",)) == (
        "FLAG: is --run_dir itself; give the folder of another training"
    )


@pytest.fixture
def copy(parent, tmp_path):
    """A copy of `parent` that a test may damage."""
    shutil.copytree(parent.path, tmp_path / "copy")
    return RunFolder(tmp_path / "copy")


def test_an_unfinished_gan_stage(cache, copy):
    metadata = copy.stage("gan").path / "metadata.json"
    write_text(metadata, json.dumps(json.loads(metadata.read_text()) | {"ended": None}))
    line = "FLAG: its gan stage has not finished; run cgan train --stage=gan --run_dir=RUN"
    assert refusal(cache, copy.path, gan_width=8) == line
    shutil.rmtree(copy.stage("gan").path)
    assert refusal(cache, copy.path, gan_width=8) == line


@pytest.mark.parametrize("number", [1, 99])
def test_a_run_folder_of_another_format(cache, copy, number):
    path = copy.path / "config.json"
    write_text(path, json.dumps(json.loads(path.read_text()) | {"format": number}))
    assert re.fullmatch(
        f"FLAG: a run folder of format {number}, but this version reads format 2; use another "
        r"--init_from, or the version that made it \(.*\)",
        refusal(cache, copy.path, gan_width=8),
    )


@pytest.mark.parametrize(
    "name, line",
    [
        ("config.json", "RUN/config.json is damaged; restore it, or use another --init_from"),
        ("gan/metadata.json", "FLAG: RUN/gan/metadata.json is damaged; --stage=gan --restart .*"),
        *(
            (f"{folder}/{file}", f"FLAG: RUN/{folder}: damaged model .*; --stage=gan --restart .*")
            for folder in NETWORKS[:2]
            for file in ("config.json", "weights.h5")
        ),
    ],
)
def test_damaged_files(cache, copy, name, line):
    path = copy.path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert re.fullmatch(line, refusal(cache, copy.path, gan_width=8))


def test_a_missing_discriminator(cache, copy):
    shutil.rmtree(copy.path / "gan/discriminator")
    assert refusal(cache, copy.path, gan_width=8) == (
        "FLAG: RUN/gan/discriminator: no model there; --stage=gan --restart trains it again"
    )


@pytest.mark.parametrize("name", ["regressor", "inversion"])
def test_damaged_networks_of_later_stages(name, cache, chain, slim_vgg, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(chain.folder.path, path)
    (path / name / "model/weights.h5").write_bytes(b"")
    config = tiny.make_config(cache, init_from=str(path))
    own = RunFolder(tmp_path / "own")
    line = message(init_from.check, config, own, init_from.STAGES, ())
    assert line.startswith(f"--init_from={path}: {path}/{name}/model: damaged model (")
    # Stages that are not trained need no networks.
    init_from.check(config, own, [stage for stage in init_from.STAGES if stage != name], ())


def test_weights_of_other_shapes_than_the_options_say(cache, faces, copy, tmp_path):
    small = models.build_generator(tiny.make_config(cache, gan_width=4))
    artifact.save_model(small, copy.stage("gan").model)
    config, folder = make_child(tmp_path / "run", copy, cache, faces, gan_width=8)
    assert message(started, config, folder) == (
        f"--init_from={copy.path}: has weights of shape (8, 256) instead of (8, 512); give a run "
        "of the same networks"
    )
    assert not checkpoint.restore_checkpoint(folder.stage("gan").checkpoints, {})
