"""Shared fixtures: a tiny data set, and a tiny run of the five training stages."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread per process, before TensorFlow starts
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = "1"

import fake_run
import keras
import pytest
import tiny

from cgan_tf import data


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """The cache folder of decoded images."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def faces(cache):
    """100 synthetic faces at 32 px: 80 for training, 10 for validation, 10 for the test."""
    return data.open_data(tiny.make_config(cache), say=lambda line: None)


@pytest.fixture(scope="session")
def chain(tmp_path_factory, cache, faces):
    """A finished, read-only run; see `tiny.Chain`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.applications, "VGG16", tiny.slim_vgg16)
        path = tmp_path_factory.mktemp("chain") / "run"
        return tiny.make_chain(path, tiny.make_config(cache), faces)


@pytest.fixture
def slim_vgg(monkeypatch):
    """Replaces VGG16 by `tiny.slim_vgg16`: the real one takes seconds per step."""
    monkeypatch.setattr(keras.applications, "VGG16", tiny.slim_vgg16)


@pytest.fixture(scope="module")
def slim():
    """The slim VGG16 in the place of the real one."""
    with fake_run.slim():
        yield
