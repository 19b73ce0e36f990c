"""The folders of images that other networks judge."""

import command_flags
import fake_run
import numpy as np
import pytest

from cgan_tf import data
from cgan_tf.core.errors import UserError
from cgan_tf.data.images import decode_file, to_float, to_uint8
from cgan_tf.editing import backends
from cgan_tf.evaluation.batching import choose

pytestmark = pytest.mark.usefixtures("slim")


@pytest.fixture(scope="module")
def outside():
    return command_flags.benchmark("outside")


@pytest.fixture
def run():
    return fake_run.shared_run()


def contents(folder):
    """The image names by folder."""
    return {path.name: {file.name for file in path.iterdir()} for path in folder.iterdir()}


def test_edits_have_the_names_of_their_photos(outside, run, tmp_path):
    output = tmp_path / "new" / "faces"
    written = outside.write_images(run, "validation", 6, 3, output)
    found = contents(output)
    assert written == {name: len(files) for name, files in found.items()}
    dataset = data.open_data(run.load_config(), say=lambda line: None)
    rows = choose(dataset.splits["validation"], 6, 3)
    names = [f"{row:06d}.png" for row in rows]
    assert found["original"] == found["reconstruction"] == set(names)
    for attribute in fake_run.ATTRIBUTES:
        has = dataset.labels[rows, dataset.attribute_names.index(attribute)] > 0.5
        added, removed = (found.get(f"{attribute}{sign}", set()) for sign in ("+1", "-1"))
        assert added == {name for name, one in zip(names, has, strict=True) if not one}
        assert removed == {name for name, one in zip(names, has, strict=True) if one}
    allowed = {f"{name}{sign}" for name in fake_run.ATTRIBUTES for sign in ("+1", "-1")}
    assert {"original", "reconstruction"} < set(found) <= {"original", "reconstruction"} | allowed
    # An edit is the image of the code at that strength; the original the crop itself.
    backend = backends.open_backend(run.path)
    for folder in set(found) & {"Smiling+1", "Smiling-1", "reconstruction"}:
        name = min(found[folder])
        photo = decode_file(output / "original" / name)
        np.testing.assert_array_equal(photo, dataset.read(rows[[names.index(name)]])[0])
        strength = {"+": 1.0, "-": -1.0}.get(folder[-2], 0.0)
        strengths = np.float32([[strength, 0, 0]])
        expected = backend.generate(backend.encode(to_float(photo[None])), strengths)[0]
        image = decode_file(output / folder / name)
        assert image.shape == (32, 32, 3)
        np.testing.assert_allclose(image, to_uint8(expected).astype(int), atol=1)


def test_the_choice_of_the_photos_is_seeded(outside, run, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        outside.write_images(run, "test", 4, seed, tmp_path / name)
    first, again, other = (contents(tmp_path / name)["original"] for name in "abc")
    assert first == again != other and len(other) == 4


def test_a_folder_in_use_is_refused(outside, run, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for output in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(UserError, match="exists and is not empty; give a new folder"):
            outside.write_images(run, "validation", 2, 1, output)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert outside.write_images(run, "validation", 2, 1, tmp_path / "empty")["original"] == 2
