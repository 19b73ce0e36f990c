"""A stage folder, and an uninterrupted training of the toy model."""

import pytest
import tiny
from toy_training import train

from cgan_tf.core.run_folder import RunFolder


@pytest.fixture
def stage(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.stage("gan").path.mkdir(parents=True)
    return folder.stage("gan")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The last checkpoint and the weight of an uninterrupted training."""
    folder = RunFolder(tmp_path_factory.mktemp("reference"))
    folder.stage("gan").path.mkdir(parents=True)
    trainer = train(folder.stage("gan"))
    return tiny.final_state(folder.stage("gan")), trainer.weight.numpy()
