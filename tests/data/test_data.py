"""`open_data`: reading, the cache, undecodable files, the digest, and splits."""

import errno
import json
import os
import shutil
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from cgan_tf import data
from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.data import cache, folder, images, source


def silent(line):
    pass


def make_config(path, **options):
    options = {"data": "folder", "data_dir": str(path), "resolution": 32} | options
    return Config(**({"cache_dir": str(path.parent / "cache")} | options))


@pytest.fixture
def photos(tmp_path):
    """A folder of 120 photos; photo i has brightness i."""
    path = tmp_path / "photos"
    path.mkdir()
    for index in range(120):
        Image.new("RGB", (32, 32), (index,) * 3).save(path / f"{index:03d}.png")
    return path


def count_decoding(monkeypatch):
    """A list that receives the name of each decoded file."""
    names = []
    decode = images.decode_file

    def counted(path):
        names.append(os.path.basename(path))
        return decode(path)

    monkeypatch.setattr(folder.images, "decode_file", counted)
    return names


# ---- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cache_gib", [16.0, 0.0])
def test_read_in_any_order_with_repetitions(photos, cache_gib):
    opened = data.open_data(make_config(photos, cache_gib=cache_gib), say=silent)
    indices = [5, 119, 0, 5]
    pixels = opened.read(indices)
    assert pixels.dtype == np.uint8 and pixels.shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(pixels[:, 31, 0, 2], indices)
    np.testing.assert_array_equal(pixels, np.broadcast_to(pixels[:, :1, :1, :1], pixels.shape))
    assert opened.read([]).shape == (0, 32, 32, 3)


def test_what_was_read_can_be_modified(photos):
    opened = data.open_data(make_config(photos), say=silent)
    opened.read([7])[...] = 0
    assert opened.read([7])[0, 0, 0, 0] == 7


@pytest.mark.parametrize("indices", [[-1], [120], [0, 1000]])
def test_indices_out_of_range(photos, indices):
    opened = data.open_data(make_config(photos), say=silent)
    with pytest.raises(IndexError, match="0 to 119"):
        opened.read(indices)


@pytest.mark.parametrize("indices", [[0.5], [[1, 2]], 3, [True]])
def test_invalid_indices(photos, indices):
    opened = data.open_data(make_config(photos), say=silent)
    with pytest.raises(ValueError, match="whole numbers"):
        opened.read(indices)


def test_repr_is_one_short_line(photos):
    opened = data.open_data(make_config(photos), say=silent)
    assert repr(opened) == (
        "ImageData(folder: 120 images, 32 px, 0 attributes; 96 train, 12 validation, 12 test)"
    )


def test_unknown_source(tmp_path):
    with pytest.raises(UserError, match="--data=imagenet: give synthetic, .*, folder or photos"):
        data.open_data(make_config(tmp_path, data="imagenet"), say=silent)


# ---- the cache ---------------------------------------------------------------------------------


def test_images_are_decoded_once(photos, monkeypatch):
    decoded = count_decoding(monkeypatch)
    said = []
    first = data.open_data(make_config(photos), say=said.append)
    assert sorted(decoded) == [f"{index:03d}.png" for index in range(120)]
    assert f"data: caching 120 images at 32 px ({photos.parent / 'cache'})" in said
    again = data.open_data(make_config(photos), say=silent)
    np.testing.assert_array_equal(again.read(range(120)), first.read(range(120)))
    assert len(decoded) == 120
    (kept,) = (photos.parent / "cache").glob("*.npy")
    np.testing.assert_array_equal(np.load(kept), first.read(range(120)))
    assert sorted(path.suffix for path in kept.parent.iterdir()) == [".json", ".npy"]


def test_each_resolution_has_its_own_cache(photos):
    for resolution in (32, 64):
        opened = data.open_data(make_config(photos, resolution=resolution), say=silent)
        assert opened.read([0]).shape == (1, resolution, resolution, 3)
    assert len(list((photos.parent / "cache").glob("*.npy"))) == 2


def test_a_changed_photo_is_decoded_again(photos):
    data.open_data(make_config(photos), say=silent)
    Image.new("RGB", (32, 32), (250,) * 3).save(photos / "003.png")
    os.utime(photos / "003.png", ns=(1, 1))
    assert data.open_data(make_config(photos), say=silent).read([3])[0, 0, 0, 0] == 250


def swap_names(first, second):
    first.rename(first.with_suffix(".moving"))
    second.rename(first)
    first.with_suffix(".moving").rename(second)


def test_photos_that_swap_their_names_are_decoded_again(photos):
    """Sizes, dates and names stay as they were; only what belongs to which name changes."""
    for index in (3, 4):
        path = photos / f"{index:03d}.png"
        Image.new("RGB", (32, 32), (index,) * 3).save(path, compress_level=0)
        os.utime(path, ns=(1, 1))
    assert (photos / "003.png").stat().st_size == (photos / "004.png").stat().st_size
    first = data.open_data(make_config(photos), say=silent)
    swap_names(photos / "003.png", photos / "004.png")
    second = data.open_data(make_config(photos), say=silent)
    np.testing.assert_array_equal(first.read([3, 4, 5])[:, 0, 0, 0], [3, 4, 5])
    np.testing.assert_array_equal(second.read([3, 4, 5])[:, 0, 0, 0], [4, 3, 5])
    assert first.digest != second.digest


def test_another_folder_with_equal_names_and_sizes_has_its_own_cache(photos):
    other = photos.parent / "other"
    shutil.copytree(photos, other)
    for index in range(120):
        status = (photos / f"{index:03d}.png").stat()
        Image.new("RGB", (32, 32), (255 - index,) * 3).save(other / f"{index:03d}.png")
        os.utime(other / f"{index:03d}.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    data.open_data(make_config(photos), say=silent)
    assert data.open_data(make_config(other), say=silent).read([3])[0, 0, 0, 0] == 252


def test_over_the_budget_images_are_decoded_at_each_read(photos, monkeypatch):
    decoded = count_decoding(monkeypatch)
    budget = 120 * 32 * 32 * 3 / 2**30
    config = make_config(photos, cache_gib=budget * 0.99)
    said = []
    opened = data.open_data(config, say=said.append)
    assert f"data: checking 120 images at 32 px ({photos.parent / 'cache'})" in said
    assert not list((photos.parent / "cache").glob("*.npy"))
    assert len(decoded) == 120  # every image is checked
    opened.read([3, 4])
    assert decoded[120:] == ["003.png", "004.png"]
    data.open_data(config, say=silent)  # the result of the check is cached
    assert len(decoded) == 122
    data.open_data(make_config(photos, cache_gib=budget * 1.01), say=silent)
    assert len(list((photos.parent / "cache").glob("*.npy"))) == 1


def test_without_a_cache_dir_a_temporary_folder_is_used_and_removed(photos, monkeypatch):
    made = []
    make = cache.tempfile.mkdtemp

    def recorded(*args, **kwargs):
        made.append(make(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(cache.tempfile, "mkdtemp", recorded)
    opened = data.open_data(make_config(photos, cache_dir=None), say=silent)
    assert opened.read([9])[0, 0, 0, 0] == 9
    assert os.path.isdir(made[0])
    del opened
    assert not os.path.exists(made[0])


def test_an_interrupted_build_leaves_no_cache_behind(photos, monkeypatch):
    stream = source.load_all

    def interrupted(load, items):
        for number, image in enumerate(stream(load, items)):
            if number == 50:
                raise KeyboardInterrupt
            yield image

    monkeypatch.setattr(folder, "load_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.open_data(make_config(photos), say=silent)
    assert not list((photos.parent / "cache").glob("*"))
    monkeypatch.undo()
    opened = data.open_data(make_config(photos), say=silent)
    assert opened.read([119])[0, 0, 0, 0] == 119


def test_pixels_without_their_report_are_built_again(photos, monkeypatch):
    """A process that is killed between the two renames leaves such a cache."""
    data.open_data(make_config(photos), say=silent)
    (report,) = (photos.parent / "cache").glob("*.json")
    report.unlink()
    decoded = count_decoding(monkeypatch)
    data.open_data(make_config(photos), say=silent)
    assert len(decoded) == 120 and report.exists()


@pytest.mark.parametrize("damage", ["truncated", "garbage", "other"])
def test_damaged_cache_is_refused(photos, damage):
    data.open_data(make_config(photos), say=silent)
    (path,) = (photos.parent / "cache").glob("*.npy")
    content = path.read_bytes()
    if damage == "other":
        np.save(path, np.zeros((5, 32, 32, 3), np.uint8))
    else:
        path.write_bytes(content[:-1] if damage == "truncated" else b"garbage")
    with pytest.raises(UserError, match=r"the image cache .*\.npy is damaged; delete it"):
        data.open_data(make_config(photos), say=silent)


def test_damaged_report_is_refused(photos):
    data.open_data(make_config(photos), say=silent)
    (path,) = (photos.parent / "cache").glob("*.json")
    path.write_text("[")
    with pytest.raises(UserError, match=r"the image cache .*\.json is damaged; delete it"):
        data.open_data(make_config(photos), say=silent)


def test_full_disk_while_writing(photos, monkeypatch):
    class FullDisk:
        def __init__(self, file):
            self._file, self._written = file, 0

        def write(self, content):
            self._written += memoryview(content).nbytes
            if self._written > 50_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self._file.write(content)

        def __getattr__(self, name):
            return getattr(self._file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self._file.close()

    def open_on_full_disk(path, mode="r"):
        return FullDisk(open(path, mode)) if mode == "wb" else open(path, mode)

    monkeypatch.setattr(cache, "open", open_on_full_disk, raising=False)
    with pytest.raises(UserError, match="--cache_dir=.*cache: No space left on device; give a"):
        data.open_data(make_config(photos), say=silent)
    assert not list((photos.parent / "cache").iterdir())


def test_too_little_disk_space_is_noticed_in_advance(photos, monkeypatch):
    usage = shutil.disk_usage(photos)._replace(free=1000)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage)
    said = []
    opened = data.open_data(make_config(photos), say=said.append)
    assert any(
        "has 0.00 GiB free" in line and "decoded again at every read" in line for line in said
    )
    assert opened.read([9])[0, 0, 0, 0] == 9
    assert not list((photos.parent / "cache").glob("*.npy"))


def test_a_cache_dir_that_is_a_file(photos):
    (photos.parent / "cache").write_text("no folder")
    with pytest.raises(UserError, match="--cache_dir=.*cache: .*; give a writable folder"):
        data.open_data(make_config(photos), say=silent)


def test_the_data_set_is_not_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(source.os, "cpu_count", lambda: 2)
    path = tmp_path / "photos"
    path.mkdir()
    for index in range(1200):
        Image.new("RGB", (8, 8), (index % 256,) * 3).save(path / f"{index:04d}.bmp")
    size = 1200 * 64 * 64 * 3
    data.open_data(make_config(path, resolution=32), say=silent)  # imports what decoding needs
    tracemalloc.start()
    opened = data.open_data(make_config(path, resolution=64), say=silent)
    for start in range(0, 1200, 8):
        opened.read(range(start, start + 8))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 3


# ---- undecodable files -------------------------------------------------------------------------


def damage(path, kind):
    if kind == "text":
        path.write_text("not an image at all")
    elif kind == "truncated":
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize("kind", ["text", "truncated", "empty"])
@pytest.mark.parametrize("cache_gib", [16.0, 0.0])
def test_one_bad_file_of_120_is_reported_and_skipped(photos, kind, cache_gib):
    damage(photos / "040.png", kind)
    for _ in range(2):  # reported every time, also from the cache
        said = []
        opened = data.open_data(make_config(photos, cache_gib=cache_gib), say=said.append)
        assert "data: 1 of 120 images cannot be decoded and are skipped:" in said
        (named,) = [line for line in said if line.startswith(f"  cannot read image {photos}")]
        assert "040.png: " in named
        assert len(opened.files) == 120
        together = np.sort(np.concatenate(list(opened.splits.values())))
        np.testing.assert_array_equal(together, [index for index in range(120) if index != 40])
        np.testing.assert_array_equal(opened.read([39, 41])[:, 0, 0, 0], [39, 41])
        with pytest.raises(UserError, match=r"cannot read image .*040\.png"):
            opened.read([39, 40])


def test_more_than_three_and_one_percent_of_bad_files_is_an_error(photos):
    for name in ("040", "030", "050", "060"):
        damage(photos / f"{name}.png", "text")
    with pytest.raises(UserError) as caught:
        data.open_data(make_config(photos), say=silent)
    assert str(caught.value) == (
        "4 of 120 images cannot be decoded, more than 3 and 1% (first: cannot read image "
        f"{photos / '030.png'}: not an image file); repair or remove them"
    )
    assert not list((photos.parent / "cache").glob("*"))


@pytest.mark.parametrize("count, accepted", [(60, 3), (300, 3), (400, 4), (1000, 10)])
def test_as_many_bad_files_are_accepted(count, accepted):
    files = ("x",) * count
    cache._check_undecodable(dict.fromkeys(range(accepted), "bad"), files)
    with pytest.raises(UserError, match=f"{accepted + 1} of {count:,} images cannot be decoded"):
        cache._check_undecodable(dict.fromkeys(range(accepted + 1), "bad"), files)


def test_three_bad_photos_of_sixty_are_named_and_skipped(photos):
    for index in range(60, 120):
        (photos / f"{index:03d}.png").unlink()
    for index in range(3):
        damage(photos / f"{index:03d}.png", "text")
    said = []
    opened = data.open_data(make_config(photos), say=said.append)
    assert "data: 3 of 60 images cannot be decoded and are skipped:" in said
    assert sum(len(rows) for rows in opened.splits.values()) == 57


def test_of_many_bad_files_only_some_are_listed(monkeypatch):
    said = []
    undecodable = {index: f"cannot read image {index}" for index in range(25)}
    cache._report_undecodable(undecodable, ("x",) * 3000, said.append, "report.json")
    assert said[0] == "data: 25 of 3,000 images cannot be decoded and are skipped:"
    assert said[1:21] == [f"  cannot read image {index}" for index in range(20)]
    assert said[21:] == ["  and 5 more, listed in report.json"]


def test_the_report_contains_the_reasons(photos):
    damage(photos / "040.png", "empty")
    data.open_data(make_config(photos), say=silent)
    (report,) = (photos.parent / "cache").glob("*.json")
    assert json.loads(report.read_text())["undecodable"] == {
        "40": f"cannot read image {photos / '040.png'}: not an image file"
    }


# ---- the digest --------------------------------------------------------------------------------


def test_the_digest_does_not_depend_on_paths_and_dates(photos):
    first = data.open_data(make_config(photos), say=silent).digest
    assert len(first) == 64 and int(first, 16) >= 0
    moved = photos.parent / "moved"
    photos.rename(moved)
    os.utime(moved / "003.png", ns=(1, 1))
    assert data.open_data(make_config(moved), say=silent).digest == first
    assert data.open_data(make_config(moved, cache_gib=0.0, seed=5), say=silent).digest == first


def test_the_digest_depends_on_resolution_names_sizes_and_labels(photos):
    seen = {data.open_data(make_config(photos), say=silent).digest}

    def is_new(**options):
        digest = data.open_data(make_config(photos, **options), say=silent).digest
        fresh = digest not in seen
        seen.add(digest)
        return fresh

    assert is_new(resolution=64)
    (photos / "000.png").rename(photos / "zero.png")
    assert is_new()
    Image.new("RGB", (9, 9), (3, 2, 1)).save(photos / "001.png")
    assert is_new()
    names = [path.name for path in photos.iterdir()]
    rows = [f"{name},1" for name in names]
    (photos / "labels.csv").write_text("\n".join(["file,A", *rows]))
    assert is_new()
    (photos / "labels.csv").write_text("\n".join(["file,B", *rows]))
    assert is_new()
    rows[0] = f"{names[0]},0"
    (photos / "labels.csv").write_text("\n".join(["file,B", *rows]))
    assert is_new()


# ---- splits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count, held_out", [(3, 1), (10, 1), (19, 1), (20, 2), (1000, 100)])
def test_seeded_split_is_an_80_10_10_partition(count, held_out):
    splits = source.seeded_split(count)
    assert list(splits) == ["train", "validation", "test"]
    assert len(splits["validation"]) == len(splits["test"]) == held_out
    for indices in splits.values():
        assert indices.dtype == np.int64 and (np.diff(indices) > 0).all()
    np.testing.assert_array_equal(np.sort(np.concatenate(list(splits.values()))), np.arange(count))


def test_seeded_split_is_pinned_and_shuffled():
    """With another split, existing runs would have been trained on test photos."""
    splits = source.seeded_split(20)
    assert splits["validation"].tolist() == [4, 19]
    assert splits["test"].tolist() == [2, 6]
    large = source.seeded_split(10_000)
    assert 4600 < large["test"].mean() < 5400
