"""framing.json: written by `cgan align`, read by the data set, recorded by the run."""

import numpy as np
import pytest
import refusal
from PIL import Image

from cgan_tf import data
from cgan_tf.core.config import Config
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import framing
from cgan_tf.editing import description


@pytest.fixture
def photos(tmp_path):
    """A folder of four gray squares."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for level in range(4):
        Image.new("RGB", (40, 40), (50 * level,) * 3).save(folder / f"{level}.png")
    return folder


def open_data(photos):
    """The data set, and the lines that it said."""
    said = []
    config = Config(
        data="folder", data_dir=str(photos), cache_dir=str(photos.parent / "cache"), resolution=32
    )
    return data.open_data(config, said.append), said


def test_the_data_set_has_the_framing_of_its_folder(photos):
    plain, said = open_data(photos)
    assert plain.framing == "" and not any("framing" in line for line in said)
    framing.write_framing(photos)
    marked, said = open_data(photos)
    assert marked.framing == framing.CELEBA
    line = "its faces have CelebA's framing, so the model finds faces in photos"
    assert f"data: framing.json: {line}" in said
    np.testing.assert_array_equal(marked.read(range(4)), plain.read(range(4)))
    assert marked.digest != plain.digest, "a run does not resume if its framing has changed"
    (photos / framing.FRAMING).unlink()
    assert open_data(photos)[0].digest == plain.digest


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"framing": "ffhq"}'])
def test_another_framing_is_refused(photos, content):
    (photos / framing.FRAMING).write_bytes(content)
    message = refusal.message(open_data, photos)
    assert message.startswith(f"{photos / framing.FRAMING} is not as cgan align writes it; align")
    (photos / framing.FRAMING).unlink()
    (photos / framing.FRAMING).mkdir()
    message = refusal.message(open_data, photos)
    assert message.endswith("cannot be read (Is a directory); change its permissions, or delete it")


@pytest.mark.parametrize(
    "source, facts, crop",
    [
        ("folder", {"framing": "celeba"}, description.CELEBA_CROP),
        ("folder", {"framing": ""}, description.SQUARE_CROP),
        ("folder", {}, description.SQUARE_CROP),  # a run of an earlier version
        ("synthetic", {"framing": ""}, description.SQUARE_CROP),
        ("celeba_dir", {"framing": ""}, description.CELEBA_CROP),
        ("celeba", {}, description.CELEBA_CROP),
    ],
)
def test_the_crop_of_a_run(tmp_path, source, facts, crop):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.save_config(Config(data=source, data_dir="photos"), facts | {"digest": "d"})
    assert description.training_crop(run) == crop
