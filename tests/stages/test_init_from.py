"""cgan_tf.stages.init_from: what is copied, what grows, and resuming without the other run."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from other_run import GROWN, NETWORKS, make_child, make_parent, networks_of, started

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

# What is copied.


@pytest.mark.parametrize(
    "arch",
    ["dcgan", *(pytest.param(arch, marks=pytest.mark.slow) for arch in ("stylegan", "residual"))],
)
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


@pytest.mark.parametrize("old, new", [("celeba", ""), ("", "celeba"), ("celeba", "celeba")])
def test_photos_that_are_framed_in_another_way_are_noted(old, new, cache, faces, tmp_path, capsys):
    parent = make_parent(tmp_path / "parent", cache)
    parent.save_config(parent.load_config(), {"framing": old})
    config, folder = make_child(tmp_path / "run", parent, cache, faces)
    folder.save_config(config, {"framing": new})
    stage = folder.stage("gan")
    assert stage.begin(config, "photos")
    init_from.begin(config, stage)
    first, *notes = capsys.readouterr().out.splitlines()
    assert first == f"gan: starts from the networks of {parent.path}"
    assert notes == {
        ("celeba", ""): [
            f"note: --init_from={parent.path} has faces in CelebA's framing, --data=synthetic has "
            "not; --data=photos aligns photos of faces"
        ],
        ("", "celeba"): [
            "note: --data=synthetic has faces in CelebA's framing, "
            f"--init_from={parent.path} has not; --data=folder takes the center squares of photos"
        ],
    }.get((old, new), [])
    assert folder.read()["substitutions"] == {}


@pytest.fixture(scope="module")
def child(tmp_path_factory, chain):
    """All stages of the tiny run, started from `chain`, which is not changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.applications, "VGG16", tiny.slim_vgg16)
        path = tmp_path_factory.mktemp("child") / "run"
        config, folder = make_child(
            path, chain.folder, chain.config.cache_dir, chain.faces, gan_penalty="none"
        )
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
        write_text(
            stage.path / "metadata.json",
            json.dumps({key: kind() for key, kind in METADATA.items()}),
        )
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


def test_a_regressor_of_another_width_is_not_copied(slim_vgg, chain, tmp_path):
    config, _ = make_child(
        tmp_path / "run",
        chain.folder,
        chain.config.cache_dir,
        chain.faces,
        regressor_vgg_weights="narrow",
    )
    start = init_from._read_regressor(config, chain.folder, chain.faces.attribute_names)
    flag = f"--init_from={chain.folder.path}"
    assert not start.networks
    assert start.note == f"the regressor does not start from {flag}, whose is not narrow"


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


@pytest.fixture(scope="module")
def faces_64(cache):
    return data.open_data(tiny.make_config(cache, resolution=64), say=lambda line: None)


@pytest.mark.parametrize(
    "options",
    [
        {"gan_d_norm": "none"},
        {"gan_d_norm": "spectral", "gan_g_norm": "pixel"},
        pytest.param({"gan_arch": "stylegan", "gan_d_norm": "batch"}, marks=pytest.mark.slow),
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


@pytest.mark.slow
def test_killed_in_the_fade_it_resumes_without_the_other_run(cache, faces_64, tmp_path):
    parent = make_parent(tmp_path / "parent", cache, gan_width=8)
    state = []
    for path in (tmp_path / "whole", tmp_path / "resumed"):
        config, folder = make_child(path, parent, cache, faces_64, **GROWN, gan_penalty="none")
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
