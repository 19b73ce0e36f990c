"""Shared fixtures: a tiny data set, and a tiny run of the five training stages.

The fixtures import what needs TensorFlow: the process that only starts the workers does without.
"""

import gc
import os

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread per process, before TensorFlow starts
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = "1"

import pytest
import shared

import cgan_tf  # noqa: F401  Before TensorFlow, whose environment it sets: as the commands do.


def pytest_configure(config):
    """The workers inherit the place of the shared folders."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        config.add_cleanup(shared.start().cleanup)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Imports the tests without looking for garbage, then or later, among what they import."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """The cache folder of decoded images."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def faces(cache):
    """100 synthetic faces at 32 px: 80 for training, 10 for validation, 10 for the test."""
    import tiny

    from cgan_tf import data

    return data.open_data(tiny.make_config(cache), say=lambda line: None)


@pytest.fixture(scope="session")
def chain(cache, faces):
    """A finished, read-only run; see `tiny.Chain`."""
    import fake_run
    import tiny

    with fake_run.slim():
        return tiny.shared_chain(tiny.make_config(cache), faces)


@pytest.fixture
def slim_vgg(monkeypatch):
    """Replaces VGG16 by `tiny.slim_vgg16`: the real one takes seconds per step."""
    import keras
    import tiny

    monkeypatch.setattr(keras.applications, "VGG16", tiny.slim_vgg16)


@pytest.fixture(scope="module")
def slim():
    """The slim VGG16 in the place of the real one."""
    import fake_run

    with fake_run.slim():
        yield
