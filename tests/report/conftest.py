"""A finished run folder, shared by the tests of the report."""

import json
import shutil

import pytest
from report_folder import (
    NAMES,
    add_stage,
    evaluation,
    export_report,
    make_directions,
    make_folder,
    save_png,
)

from cgan_tf.core import run_folder
from cgan_tf.core.files import write_json, write_text
from cgan_tf.report import page


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run and the contents of its images by their path in it; not to be changed."""
    folder = make_folder(tmp_path_factory.mktemp("finished") / "run")
    add_stage(
        folder,
        "gan",
        "09:00:00",
        "09:41:00",
        50,
        g_loss=2.0,
        d_loss=1.5,
        d_real=0.6,
        d_fake=0.4,
        r1=1.0,
    )
    add_stage(folder, "regressor", "09:41:00", "09:50:30", 20, loss=0.5, accuracy=0.9, odd_one=1.0)
    add_stage(
        folder,
        "inversion",
        "09:50:30",
        "09:56:40",
        20,
        resumed=["x"],
        photo=1.0,
        sample=0.5,
        latent=0.2,
        pixel=0.1,
        loss=1.8,
    )
    add_stage(
        folder,
        "features",
        "09:56:40",
        "10:00:00",
        20,
        reconstruction=2.0,
        attribute=0.5,
        preservation=0.1,
        adversarial=0.1,
        content=0.1,
        undo=0.3,
        loss=3.1,
        d_loss=1.5,
    )
    add_stage(
        folder,
        "directions",
        "10:00:00",
        "10:05:00",
        10,
        content=1.0,
        adversarial=0.1,
        attribute=2.0,
        hold=0.2,
        loss=3.3,
    )
    add_stage(folder, "evaluate", "10:05:00", "10:15:00", 90, loss=0.2, accuracy=0.9)
    add_stage(folder, "export", "10:15:00", "10:15:40", 0)
    shapes = {"gan/reals.png": (8, 8), "evaluate/reconstructions.png": (8, 4)}
    shapes["directions/edits.png"] = (6, 4)
    shapes |= {f"gan/fakes{kimg:06d}.png": (8, 8) for kimg in range(0, 51, 10)}
    shapes |= {f"evaluate/edits_{name}.png": (6, 8) for name in NAMES}
    pictures = {
        name: save_png(folder.path / name, *shape, seed)
        for seed, (name, shape) in enumerate(shapes.items())
    }
    make_directions(folder)
    text = json.dumps(evaluation())  # with its NaN
    write_text(folder.stage("evaluate").path / "report.json", text)
    write_json(folder.stage("export").path / "report.json", export_report())
    return folder, pictures


@pytest.fixture
def full(finished, tmp_path):
    """A copy of `finished` that a test may change."""
    folder, pictures = finished
    shutil.copytree(folder.path, tmp_path / "run")
    return run_folder.RunFolder(tmp_path / "run"), pictures


@pytest.fixture(scope="module")
def finished_page(finished):
    """The page of `finished`."""
    return page.render(finished[0])
