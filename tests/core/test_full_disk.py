"""A full disk: every writer of files names the path, and leaves what was there.

The disk is full at the first fsync; for a file that is only appended to, it is /dev/full.
"""

import errno
import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny
from PIL import Image

from cgan_tf.core import artifact, files
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import images, photo_file, result_files
from cgan_tf.report import tensorboard
from cgan_tf.stages import directions
from cgan_tf.training import checkpoint


def model(value):
    made = keras.Sequential([keras.layers.Dense(1, use_bias=False)])
    made.build((None, 1))
    made.set_weights([np.float32([[value]])])
    return made


def photo(folder, value):
    source = folder.parent / "photo.png"
    Image.new("RGB", (4, 4), (value,) * 3).save(source)
    file = photo_file.read_file(source)
    file.save(folder / "edited.png", file.edited(file.pixels))


# What each writes, and how it writes something for a value.
WRITERS = {
    "file": lambda path, value: files.write_text(path / "file", str(value)),
    "file.json": lambda path, value: files.write_json(path / "file.json", value),
    "image.png": lambda path, value: images.save_png(
        path / "image.png", np.full((2, 2, 3), value, np.uint8)
    ),
    "edited.png": photo,
    "table.csv": lambda path, value: result_files.write_table(
        path / "table.csv", ["a"], [{"a": value}]
    ),
    "model": lambda path, value: artifact.save_model(model(value), path / "model"),
    "directions": lambda path, value: directions.save_directions(
        path / "directions", {"Smiling": {"value": value}}
    ),
    "step-000000007.npz": lambda path, value: checkpoint.save_checkpoint(
        path, {"weight": [keras.Variable(float(value))]}, {"step": 7}
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_path_is_named_and_the_old_content_stays(tmp_path, monkeypatch, name):
    folder = tmp_path / "results"
    folder.mkdir()
    WRITERS[name](folder, 1)
    before = tiny.snapshot(folder)
    assert before

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError) as error:
        patch.setattr(os, "fsync", full)
        WRITERS[name](folder, 2)
    assert (error.value.errno, Path(error.value.filename)) == (errno.ENOSPC, folder / name)
    assert tiny.snapshot(folder) == before
    WRITERS[name](folder, 2)
    assert tiny.snapshot(folder) != before


def test_the_statistics_name_their_path(tmp_path):
    stage = RunFolder(tmp_path).stage("gan")
    stage.path.mkdir()
    (stage.path / "stats.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError) as error:
        stage.append_stats({"kimg": 1})
    assert error.value.filename == str(stage.path / "stats.jsonl")


def test_other_exceptions_that_say_so_are_named_too(tmp_path):
    """As TensorFlow's and HDF5's, which have no errno."""
    with pytest.raises(OSError) as error, files.names_full_disk(tmp_path / "model"):
        raise RuntimeError("Unable to flush file (error message = 'No space left on device')")
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "model"))
    with pytest.raises(RuntimeError, match="^another$"), files.names_full_disk(tmp_path):
        raise RuntimeError("another")


def test_a_path_elsewhere_is_kept(tmp_path):
    """The disk of the temporary files may be the full one."""
    with pytest.raises(OSError) as error, files.names_full_disk(tmp_path / "export"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/elsewhere/file")
    assert error.value.filename == "/elsewhere/file"
    with pytest.raises(OSError) as error, files.names_full_disk(tmp_path / "export"):
        hidden = str(tmp_path / ".export.building-x" / "file")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), hidden)
    assert error.value.filename == str(tmp_path / "export")


def test_tensorboard_names_its_folder(tmp_path, monkeypatch):
    writer = tensorboard.TensorBoardWriter(tmp_path)

    def full():
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(writer._writer, "flush", full)
    with pytest.raises(OSError) as error:
        writer.scalars(0, {"loss": 1.0})
    assert error.value.filename == str(tmp_path / "tensorboard")


def test_what_a_killed_process_has_left_is_deleted(tmp_path):
    run = RunFolder(tmp_path / "run")
    kept = ["run/config.json", "run/gan/model/weights.h5", "run/notes.tmp"]
    left = ["run/.config.json.tmp", "run/gan/.model.tmp/new/weights.h5"]
    left += ["run/gan/.model.tmp/old/a", "run/gan/.model.tmp/lock"]
    left.append("run/gan/model/.config.json.tmp")
    for name in kept + left:
        files.write_text(tmp_path / name, "content")
    run.lock()
    assert tiny.listing(tmp_path) == sorted([*kept, "run/.lock"])
