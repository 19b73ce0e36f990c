"""Damaged run folders: what they say is used, or refused; the folder itself is never changed."""

import contextlib
import json
import os
import random
import shutil

import fake_run
import fuzzing
import mutation
import numpy as np
import pytest
import report_folder
import tiny

from cgan_tf.commands import evaluate, label
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.editing import backends, description, models
from cgan_tf.report import page


def linked(source, target):
    """A copy of a folder that costs nothing; its files must be replaced, not written to."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=os.link)
    return target


def replace(path, content):
    """Gives a file of a `linked` folder another content."""
    path.unlink()
    path.write_bytes(content)


def damage_json(draw, folder, pattern="*.json"):
    """Changes one of the JSON files of a folder, or deletes it."""
    path = draw.choice(sorted(folder.rglob(pattern)))
    if draw.random() < 0.1:
        path.unlink()
    else:
        replace(path, mutation.json_text(draw, json.loads(path.read_bytes())))


@fuzzing.budget(6, 160)
def test_what_a_run_says_of_itself_is_read_or_refused(count, slim_forms, tmp_path):
    def check(seed):
        folder = linked(slim_forms["run"], tmp_path / "run")
        damage_json(random.Random(seed), folder)
        before = tiny.snapshot(folder)
        run = RunFolder(folder)
        for read in (
            run.load_config,
            run.custom_attributes,
            run.custom_attributes_hash,
            lambda: description.training_crop(run),
            lambda: description.psnr_p5(run),
            lambda: models.read_directions(run, (24,), custom=True),
            lambda: [run.stage(name).finished() for name in tiny.STAGES],
            lambda: [run.stage(name).changed_options(run.load_config()) for name in tiny.STAGES],
        ):
            with contextlib.suppress(UserError):
                read()
        assert tiny.snapshot(folder) == before

    fuzzing.run(check, count)


@fuzzing.budget(0, 40)
def test_a_damaged_report_is_shown_or_refused(count, tmp_path):
    """The page shows what it can read; `cgan evaluate` prints it."""
    source = report_folder.make_finished(tmp_path / "source")[0].path

    def check(seed):
        draw = random.Random(seed)
        folder = linked(source, tmp_path / "run")
        damage_json(draw, folder)
        if draw.random() < 0.3:
            path = draw.choice(sorted(folder.rglob("*.jsonl")))
            replace(path, mutation.damaged(draw, path.read_bytes()))
        for read in (lambda: page.render(RunFolder(folder)), lambda: evaluate.summary(folder)):
            with contextlib.suppress(UserError):
                assert read()

    fuzzing.run(check, count)


@fuzzing.budget(0, 40)
def test_a_run_with_damaged_models_edits_or_is_refused(count, slim_forms, tmp_path):
    """Weights and options of networks: damaged, missing, or those of another stage."""
    image = np.zeros((1, 32, 32, 3), np.float32)

    def check(seed):
        draw = random.Random(seed)
        folder = linked(slim_forms["run"], tmp_path / "run")
        files = sorted(folder.glob("*/model/weights.h5")) + sorted(folder.glob("*/model/c*.json"))
        path, other = draw.choice(files), draw.choice(files)
        kind = draw.randrange(4)
        if kind == 0:
            replace(path, other.read_bytes())
        elif kind == 1 and path.suffix == ".json":
            replace(path, mutation.json_text(draw, json.loads(path.read_bytes())))
        elif kind == 2:
            path.unlink()
        else:
            replace(path, mutation.damaged(draw, path.read_bytes()))
        with contextlib.suppress(UserError):
            backend = backends.open_backend(folder)
            strengths = np.ones((1, len(backend.attributes)), np.float32)
            assert backend.translate(image, strengths).shape == image.shape
        with contextlib.suppress(UserError):
            labeler = label.open_labeler(str(folder), samples=draw.random() < 0.5)
            labeler.score(np.zeros((1, 32, 32, 3), np.uint8))

    fuzzing.run(check, count)


@pytest.fixture(autouse=True)
def slim_networks():
    with fake_run.slim():
        yield
