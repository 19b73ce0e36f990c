"""cgan_tf.stages.init_from: which runs are refused, in one line each."""

import json
import re
import shutil

import pytest
import tiny
from other_run import GROWN, NETWORKS, make_child, make_parent, started
from refusal import message

from cgan_tf.core import artifact
from cgan_tf.core.files import write_text
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.editing import models
from cgan_tf.stages import init_from
from cgan_tf.training import checkpoint


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
