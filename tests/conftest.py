"""Fixtures that the tests share: a tiny data set, and a tiny run of the four training stages."""

import keras
import pytest
import tiny

from cgan_tf import data


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """The folder of decoded images."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def faces(cache):
    """100 drawn faces at 32 px: 80 to train on, 10 to validate, 10 to test."""
    return data.open_data(tiny.make_config(cache), say=lambda line: None)


@pytest.fixture(scope="session")
def chain(tmp_path_factory, cache, faces):
    """A finished run that no test may write to; see `tiny.Chain`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.applications, "VGG16", tiny.slim_vgg16)
        path = tmp_path_factory.mktemp("chain") / "run"
        return tiny.make_chain(path, tiny.make_config(cache), faces)


@pytest.fixture
def slim_vgg(monkeypatch):
    """Puts `tiny.slim_vgg16` in the place of VGG16: the real one costs seconds a step."""
    monkeypatch.setattr(keras.applications, "VGG16", tiny.slim_vgg16)
