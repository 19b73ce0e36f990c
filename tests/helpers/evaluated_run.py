"""An untrained run that the evaluate stage has measured, with a slim VGG16; tests share it.

Its face recognizer takes mean colors for people.
"""

import contextlib
import functools
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fake_run
import keras
import pytest
import shared
import tiny
from tiny_onnx import write_recognizer

from cgan_tf import data
from cgan_tf.core import artifact
from cgan_tf.core.config import Config
from cgan_tf.core.files import write_text
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.editing import projection, recognizer
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.evaluation import comparison, inversion
from cgan_tf.evaluation.evaluated import EvaluatedModels, TestPhotos
from cgan_tf.networks.judge import Judge
from cgan_tf.stages import evaluate, judge

OPTIONS = {
    "evaluate_judge_kimg": 0.256,
    "evaluate_samples": 120,
    "evaluate_photos": 10,
    "evaluate_projections": 3,
    "precision": "float32",
}


class EvaluatedRun(NamedTuple):
    """A finished evaluate stage, and what it measured with."""

    config: Config
    folder: RunFolder
    dataset: data.ImageData
    report: dict[str, Any]
    models: EvaluatedModels
    photos: TestPhotos
    printed: list[str]  # the lines of the stage


@contextlib.contextmanager
def small_networks() -> Iterator[None]:
    """A slim VGG16, few random samples and directions, and few steps of projections."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.applications, "VGG16", tiny.slim_vgg16)
        encoder = functools.partial(inversion.measure_encoder, samples=50)
        patch.setattr(inversion, "measure_encoder", encoder)
        families = functools.partial(comparison.measure_families, draws=2)
        patch.setattr(comparison, "measure_families", families)
        patch.setattr(projection, "OPTIMIZE_STEPS", 3)
        patch.setattr(projection, "HYBRID_STEPS", 2)
        yield


def _evaluate(place: Path) -> None:
    """Makes the run `place`/run; the lines of its evaluate stage are in `place`/printed."""
    model = write_recognizer(place / "colors.onnx")
    options = OPTIONS | {"evaluate_identity_model": str(model)}
    config = fake_run.make_config(place / "cache", **options)
    folder = fake_run.make_run(place / "run", config)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        evaluate.run(config, folder, data.open_data(config, say=lambda line: None))
    write_text(place / "printed", printed.getvalue())


@functools.cache
def evaluated_run() -> EvaluatedRun:
    """One run for all tests; they must not write to it."""
    with small_networks():
        place = shared.folder("evaluated", _evaluate)
        folder = RunFolder(place / "run")
        network = EditingNetwork.from_run(folder.path, scores=True)
    config = folder.load_config()
    dataset = data.open_data(config, say=lambda line: None)
    report = json.loads((folder.path / "evaluate" / "report.json").read_text())
    model = artifact.load_model(Judge, folder.path / "evaluate" / judge.FOLDER)
    models = EvaluatedModels(network, model, dict.fromkeys(fake_run.ATTRIBUTES, 0.5))
    known = recognizer.load(config.evaluate.identity_model, "evaluate_identity_model")
    photos = TestPhotos(models, dataset, 10, config.seed, recognizer=known)
    lines = (place / "printed").read_text().splitlines()
    return EvaluatedRun(config, folder, dataset, report, models, photos, lines)
