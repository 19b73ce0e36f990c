"""Damaged exports: they edit, or are refused; the process of the caller never crashes."""

import contextlib
import json
import random
import shutil

import fuzzing
import mutation
import numpy as np

from cgan_tf.core.errors import UserError
from cgan_tf.editing import backends, description, tflite_file
from cgan_tf.export.serving import model as served

IMAGE = np.zeros((1, 32, 32, 3), np.float32)
SEAL = len(tflite_file.sealed(b""))


def edit(backend):
    """Runs every signature that an editor needs."""
    strengths = np.ones((1, len(backend.attributes)), np.float32)
    assert backend.translate(IMAGE, strengths).shape == IMAGE.shape
    assert backend.generate(backend.encode(IMAGE), strengths).shape == IMAGE.shape


@fuzzing.budget(6, 100)
def test_no_damage_to_a_tflite_file_reaches_the_runtime(count, slim_forms, tmp_path, monkeypatch):
    """Whatever damage the trial would not notice: the checksum does."""
    content = slim_forms["float16"].read_bytes()
    path = tmp_path / "model.tflite"
    tried = []
    monkeypatch.setattr(tflite_file, "_try", lambda path, content: tried.append(content))

    def check(seed):
        damaged = mutation.damaged(random.Random(seed), content)
        if damaged == content:
            return
        tried.clear()
        with contextlib.suppress(UserError):
            tflite_file.check(path, damaged)
            assert tried == [damaged], "loaded without a trial, although damaged"

    fuzzing.run(check, count)


@fuzzing.budget(0, 20)
def test_a_damaged_tflite_file_of_an_earlier_version(count, slim_forms, tmp_path):
    """Without a checksum: it is tried in another process, and then edits here."""
    content = slim_forms["float16"].read_bytes()[:-SEAL]
    path = tmp_path / "model.tflite"
    shutil.copy(slim_forms["float16"].with_suffix(".json"), path.with_suffix(".json"))

    def check(seed):
        path.write_bytes(mutation.damaged(random.Random(seed), content))
        with contextlib.suppress(UserError):
            edit(backends.open_backend(path))

    fuzzing.run(check, count)


@fuzzing.budget(0, 24)
def test_a_damaged_saved_model_edits_or_is_refused(count, slim_forms, tmp_path):
    """By the editor, and by the service that loads it."""

    def check(seed):
        draw = random.Random(seed)
        folder = tmp_path / "model"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(slim_forms["saved_model"] / "1", folder)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        path = draw.choice(files)
        if path.suffix == ".json":
            path.write_bytes(mutation.json_text(draw, json.loads(path.read_bytes())))
        elif draw.random() < 0.1:
            path.unlink()
        else:
            path.write_bytes(mutation.damaged(draw, path.read_bytes()))
        with contextlib.suppress(UserError):
            if draw.random() < 0.5:
                edit(backends.open_backend(folder))
            else:
                served.ServedModel(folder, "translator", 1, 32)

    fuzzing.run(check, count)


@fuzzing.budget(8, 200)
def test_a_changed_description_is_read_or_refused(count, slim_forms, tmp_path):
    """model.json: of the page, of a SavedModel, next to a .tflite file."""
    path = tmp_path / description.DESCRIPTION_NAME
    good = json.loads(slim_forms["float16"].with_suffix(".json").read_bytes())

    def check(seed):
        path.write_bytes(mutation.json_text(random.Random(seed), good))
        with contextlib.suppress(UserError):
            facts = description.facts(description.read_description(path, path), path)
            assert all(isinstance(name, str) for name in facts.attributes) and facts.attributes
            assert type(facts.resolution) is int and 0 < facts.resolution <= 2**12
            assert facts.psnr_p5 is None or np.isfinite(facts.psnr_p5)

    fuzzing.run(check, count)


@fuzzing.budget(0, 25)
def test_an_export_with_a_changed_description_edits_or_is_refused(count, slim_forms, tmp_path):
    """A SavedModel and a .tflite file without a description of its own."""
    folder = tmp_path / "model"
    shutil.copytree(slim_forms["saved_model"] / "1", folder)
    place = folder / description.ASSETS / description.DESCRIPTION_NAME
    good = json.loads(place.read_bytes())

    def check(seed):
        place.write_bytes(mutation.json_text(random.Random(seed), good))
        with contextlib.suppress(UserError):
            edit(backends.open_backend(folder))

    fuzzing.run(check, count)
