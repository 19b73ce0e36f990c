"""A finished run folder, shared by the tests of the report."""

import shutil

import pytest
from report_folder import make_finished

from cgan_tf.core import run_folder
from cgan_tf.report import page


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run and the contents of its images by their path in it; not to be changed."""
    return make_finished(tmp_path_factory.mktemp("finished") / "run")


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
