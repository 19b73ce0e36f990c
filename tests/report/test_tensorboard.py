"""TensorBoard events: scalars and images by step, and one value per step after a resume."""

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from cgan_tf.report.tensorboard import TensorBoardWriter


def curves(folder):
    """(step, value) of each curve, in the order of the event files."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    found = {}
    for name in events.Tags()["tensors"]:
        if events.SummaryMetadata(name).plugin_data.plugin_name == "scalars":
            points = events.Tensors(name)
            found[name] = [
                (p.step, float(tensor_util.make_ndarray(p.tensor_proto))) for p in points
            ]
    return found, events


def write(folder, steps, value, resume_step=0):
    writer = TensorBoardWriter(folder, resume_step)
    for step in steps:
        writer.scalars(step, {"g_loss": value, "d_loss": -value})
    writer.close()


def test_scalars_and_images_are_read_back(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)
    writer = TensorBoardWriter(tmp_path)
    writer.scalars(64, {"g_loss": 1.5})
    writer.image(64, "fakes", image)
    writer.close()
    found, events = curves(tmp_path)
    assert found == {"g_loss": [(64, 1.5)]}
    (point,) = events.Tensors("fakes")
    width, height, content = tensor_util.make_ndarray(point.tensor_proto)
    import tensorflow as tf

    assert point.step == 64 and (int(width), int(height)) == (4, 6)
    np.testing.assert_array_equal(tf.image.decode_png(content), image)


def test_a_resumed_stage_has_one_value_per_step(tmp_path):
    write(tmp_path, (0, 10, 20, 30), 1.0)
    write(tmp_path, (30, 40), 2.0, resume_step=20)
    found, _ = curves(tmp_path)
    assert found["g_loss"] == [(0, 1.0), (10, 1.0), (20, 1.0), (30, 2.0), (40, 2.0)]
    assert found["d_loss"] == [(0, -1.0), (10, -1.0), (20, -1.0), (30, -2.0), (40, -2.0)]
    write(tmp_path, (0, 10), 3.0)
    assert curves(tmp_path)[0]["g_loss"] == [(0, 3.0), (10, 3.0)]


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_torn_event_file_is_resumed(tmp_path, kept):
    write(tmp_path, range(0, 100, 10), 1.0)
    (file,) = (tmp_path / "tensorboard").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    write(tmp_path, (20, 30), 2.0, resume_step=10)
    assert curves(tmp_path)[0]["g_loss"] == [(0, 1.0), (10, 1.0), (20, 2.0), (30, 2.0)]
    assert not any("tmp" in path.name for path in (tmp_path / "tensorboard").iterdir())
