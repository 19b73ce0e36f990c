"""What all fuzz tests share."""

import os

import fake_run
import pytest


@pytest.fixture(autouse=True)
def no_sync(monkeypatch):
    """Files are written without waiting for the disk: thousands of cases write some."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def slim_forms():
    """The same model as run folder, SavedModel and TFLite; its regressor is slim."""
    with fake_run.slim():
        yield fake_run.slim_forms()
