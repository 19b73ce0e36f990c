"""Fixtures of the commands' tests."""

import fake_run
import pytest
import tiny
from photos import save_photo
from train_command import Command, finish

from cgan_tf.core.run_folder import RunFolder
from cgan_tf.report import page


@pytest.fixture
def command(capsys, monkeypatch, slim_vgg):
    """`cgan train` in this process, with a narrow VGG16 and without rendering the report."""
    monkeypatch.setattr(page, "write", lambda run: run.path / "report.html")
    return Command(capsys)


@pytest.fixture
def finished(tmp_path, cache, faces):
    """A run whose stages up to directions look finished; it has no networks."""
    run = RunFolder(tmp_path / "run")
    options = tiny.make_config(cache, devices=("CPU:0",))
    tiny.save_config(run, options, faces)
    for name in tiny.STAGES:
        finish(run, name, options, faces)
    return run


@pytest.fixture(scope="module")
def forms(slim):
    """The same model as run folder, SavedModel and TFLite."""
    return fake_run.slim_forms()


@pytest.fixture
def photo(tmp_path):
    """A photo of 60 x 40 px."""
    path = tmp_path / "photos" / "face.jpg"
    path.parent.mkdir()
    save_photo(path, 60, 40)
    return path
