"""`open_data` with synthetic faces: their pixels, seeds, digest and rendering in processes."""

import pathlib
import shutil

import numpy as np
import pytest

from cgan_tf import data
from cgan_tf.core.config import Config
from cgan_tf.data import synthetic
from cgan_tf.data.synthetic import source as synthetic_source


def silent(line):
    pass


def synthetic_config(cache_dir, **options):
    options = {"synthetic_size": 100, "resolution": 32} | options
    return Config(data="synthetic", cache_dir=str(cache_dir), **options)


@pytest.fixture(scope="module")
def synthetic_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("synthetic")


@pytest.fixture(scope="module")
def synthetic_data(synthetic_cache):
    """100 synthetic faces at 32 px, opened with seed 1."""
    return data.open_data(synthetic_config(synthetic_cache, seed=1), say=silent)


def test_synthetic_data_are_the_rendered_faces(synthetic_data):
    assert synthetic_data.name == "synthetic"
    assert synthetic_data.attribute_names == synthetic.ATTRIBUTES
    assert len(synthetic_data.files) == 100 and len(set(synthetic_data.files)) == 100
    assert [len(part) for part in synthetic_data.splits.values()] == [80, 10, 10]
    for index in (0, 57, 99):
        face = synthetic.dataset_face(index)
        pixels = synthetic_data.read([index])[0]
        np.testing.assert_array_equal(pixels, synthetic.render(face, 32))
        np.testing.assert_array_equal(synthetic_data.labels[index], synthetic.labels(face))


def test_synthetic_data_do_not_depend_on_the_seed_of_the_run(synthetic_data, synthetic_cache):
    before = sorted(synthetic_cache.glob("*.npy"))
    other = data.open_data(synthetic_config(synthetic_cache, seed=2), say=silent)
    assert synthetic_data.digest == other.digest
    assert sorted(synthetic_cache.glob("*.npy")) == before != []


def test_larger_synthetic_data_begin_with_the_same_faces(synthetic_data, synthetic_cache):
    more = data.open_data(synthetic_config(synthetic_cache, synthetic_size=120), say=silent)
    assert synthetic_data.digest != more.digest
    np.testing.assert_array_equal(synthetic_data.read(range(100)), more.read(range(100)))


def test_the_synthetic_digest_depends_on_the_renderer(synthetic_data, tmp_path, monkeypatch):
    render_many = synthetic.render_many

    def darker(faces, resolution, processes=1):
        return render_many(faces, resolution, processes) // 2

    monkeypatch.setattr(synthetic_source.workers, "render_many", darker)
    other = data.open_data(synthetic_config(tmp_path), say=silent)
    assert synthetic_data.digest != other.digest
    np.testing.assert_array_equal(other.read([4]), synthetic_data.read([4]) // 2)


def test_the_version_of_the_renderer_covers_all_of_its_files(tmp_path, monkeypatch):
    place = pathlib.Path(synthetic_source.__file__).parent
    shutil.copytree(place, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(synthetic_source, "__file__", str(tmp_path / "copy" / "source.py"))
    versions = {synthetic_source._code_version()}
    names = sorted(path.name for path in (tmp_path / "copy").iterdir())
    assert {"canvas.py", "drawing.py", "face.py", "features.py", "hair.py"} <= set(names)
    for count, name in enumerate(names, 2):
        with open(tmp_path / "copy" / name, "a") as file:
            file.write("# changed\n")
        versions.add(synthetic_source._code_version())
        assert len(versions) == count, name


def test_synthetic_data_rendered_in_processes_are_the_same(synthetic_data, tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_source, "_FEW", 10)
    monkeypatch.setattr(synthetic_source, "_CHUNK_BYTES", 70 * 32 * 32 * 3)
    monkeypatch.setattr(synthetic_source.os, "cpu_count", lambda: 2)
    together = data.open_data(synthetic_config(tmp_path), say=silent)
    np.testing.assert_array_equal(together.read(range(100)), synthetic_data.read(range(100)))
