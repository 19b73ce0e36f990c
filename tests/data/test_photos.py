"""The data source `photos`: the squares of `cgan align` in the cache, with the photos' labels.

A finder of gray squares takes the place of the cascades, which take seconds for these photos.
"""

import errno
import os
import shutil

import command_flags
import numpy as np
import pytest
from PIL import Image
from refusal import message

from cgan_tf import data
from cgan_tf.commands import align
from cgan_tf.core.config import Config
from cgan_tf.data import face_crop, framing, images, portraits
from cgan_tf.data.face_crop import FaceBox

LABELS = "file;Smiling;Hat\n" + "".join(
    f"{name};{index % 2};{index // 2 % 2}\n"
    for index, name in enumerate(
        ["a.jpg.png", "a.png", "b/c.bmp", "b/d.png", "e.png", "f.png", "broken.png", "empty.png"]
    )
)


def find_squares(pixels):
    """A finder of faces: each gray level but 0 is a square, largest first."""
    found = []
    for level in np.unique(pixels[pixels > 0]):
        rows, columns = np.nonzero(pixels[..., 0] == level)
        x, y = columns.mean() + 0.5, rows.mean() + 0.5
        found.append(FaceBox(x, y, float(np.ptp(rows) + 1), 10.0))
    return sorted(found, key=lambda face: -face.side)


def save(path, *faces):
    """A photo with gray squares: (level, left, top, side) each."""
    pixels = np.zeros((70, 90, 3), np.uint8)
    for level, left, top, side in faces:
        pixels[top : top + side, left : left + side] = level
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of 6 photos with faces, an empty and a broken one, and their labels."""
    monkeypatch.setattr(portraits, "find_faces", find_squares)
    folder = tmp_path / "photos"
    save(folder / "a.jpg.png", (30, 5, 8, 44))
    save(folder / "a.png", (60, 20, 9, 50))
    save(folder / "b/c.bmp", (90, 4, 4, 20), (99, 40, 10, 40))
    save(folder / "b/d.png", (120, 30, 20, 36))
    save(folder / "e.png", (150, 12, 7, 24))
    save(folder / "f.png", (200, 60, 30, 38))
    save(folder / "empty.png")
    (folder / "broken.png").write_text("no photo")
    (folder / "labels.csv").write_text(LABELS)
    return folder


def config(photos, **options):
    given = {"data": "photos", "data_dir": str(photos), "resolution": 32}
    return Config(**(given | {"cache_dir": str(photos.parent / "cache")} | options))


def open_data(photos, say=lambda line: None, **options):
    return data.open_data(config(photos, **options), say=say)


def refusal(photos, **options):
    return message(open_data, photos, **options)


def squares(photos):
    """The folder of the squares in the cache."""
    (found,) = [path for path in (photos.parent / "cache").iterdir() if path.is_dir()]
    return found


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_data_are_those_of_cgan_align_and_a_folder(photos, tmp_path):
    opened = open_data(photos)
    made = tmp_path / "made"
    arguments = [f"--image={photos}", f"--output={made}", "--size=32"]
    assert command_flags.run(align.define_flags, align.main, arguments) == 0
    expected = open_data(made, data="folder")
    assert expected.files == ("a.jpg.png", "a.png", "b/c.png", "b/d.png", "e.png", "f.png")
    assert opened.files == ("a.jpg.png", "a.png", "b/c.bmp", "b/d.png", "e.png", "f.png")
    assert opened.folder == f"{photos}/" and opened.name == "photos"
    assert opened.framing == expected.framing == framing.CELEBA
    assert opened.attribute_names == expected.attribute_names == ("Smiling", "Hat")
    np.testing.assert_array_equal(opened.labels, expected.labels)
    np.testing.assert_array_equal(opened.read(range(6)), expected.read(range(6)))
    assert {name: list(rows) for name, rows in opened.splits.items()} == {
        name: list(rows) for name, rows in expected.splits.items()
    }
    # The larger of two faces, turned upright: its corners are of the background.
    pixels = opened.read([2])[0, ..., 0]
    assert pixels[16, 16] == 99 and pixels[0, 0] < 10 < pixels[0, 16]
    own, theirs = contents(squares(photos)), contents(made)
    assert theirs.pop("labels.csv") and own == theirs


def test_what_was_found_is_said_at_each_opening(photos, capsys):
    said = []
    open_data(photos, say=said.append)
    place = squares(photos)
    assert capsys.readouterr().err.splitlines() == [
        f"skipped: cannot read image {photos}/broken.png: not an image file",
        f"skipped: {photos}/empty.png: no face found",
    ]
    understood = [
        "data: labels.csv: semicolons separate its columns",
        f"data: {place}/align.csv: 6 faces aligned in 6 photos (1 with several faces), 2 photos "
        "skipped",
        "data: of several faces in a photo the largest is taken, and the photo's labels are about "
        "it",
        "data: 1 face enlarged to 32 px; enlarged faces have no more detail, a lower --resolution "
        "trains faster",
        "data: labels.csv: 6 rows carried over, 2 rows without a face left out",
        "data: a fixed random split is used: 4 train, 1 validation, 1 test",
    ]
    aligning = f"data: aligning the faces in 8 photos ({place})"
    assert said[:-1] == [understood[0], aligning, *understood[1:]]
    said.clear()
    open_data(photos, say=said.append)
    assert said == understood and capsys.readouterr().err == ""


def test_squares_are_made_once_and_again_when_the_cache_is_gone(photos, tmp_path, monkeypatch):
    first = open_data(photos)
    pixels, made = first.read(range(6)), contents(squares(photos))
    assert made.pop("align.csv")  # its notes name the folder of the photos
    monkeypatch.setattr(portraits, "find_faces", None)
    assert open_data(photos).digest == first.digest
    monkeypatch.setattr(portraits, "find_faces", find_squares)
    shutil.rmtree(tmp_path / "cache")
    moved = tmp_path / "moved"
    photos.rename(moved)
    again = open_data(moved)
    assert again.digest == first.digest
    np.testing.assert_array_equal(again.read(range(6)), pixels)
    assert {name: contents(squares(moved))[name] for name in made} == made
    # Over the budget of the cache, the squares are decoded at each read.
    np.testing.assert_array_equal(open_data(moved, cache_gib=0.0).read(range(6)), pixels)


def test_other_labels_or_photos_are_other_data(photos, monkeypatch):
    first = open_data(photos).digest
    (photos / "labels.csv").write_text(LABELS.replace("a.png;1;0", "a.png;0;0"))
    monkeypatch.setattr(portraits, "find_faces", None)
    relabelled = open_data(photos).digest  # without a new search
    monkeypatch.setattr(portraits, "find_faces", find_squares)
    save(photos / "e.png", (151, 12, 7, 24))
    changed = open_data(photos).digest
    assert len({first, relabelled, changed}) == 3


def test_what_decides_on_the_pixels_is_in_the_key(photos, tmp_path, monkeypatch):
    open_data(photos)
    open_data(photos, resolution=64)
    monkeypatch.setattr(face_crop.opencv(), "__version__", "0")
    open_data(photos)
    names = [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert sorted(name.rsplit("-", 1)[0] for name in names) == [
        "photos-32",
        "photos-32",
        "photos-64",
    ]


def test_sub_folders_are_classes(photos):
    (photos / "labels.csv").unlink()
    for name in ("a.jpg.png", "a.png", "e.png", "f.png", "empty.png", "broken.png"):
        (photos / "no_b").mkdir(exist_ok=True)
        (photos / name).rename(photos / "no_b" / name)
    opened = open_data(photos)
    assert opened.attribute_names == ("b",) and opened.labels.sum() == 2
    assert [file for file, (label,) in zip(opened.files, opened.labels, strict=True) if label] == [
        "b/c.bmp",
        "b/d.png",
    ]


def test_what_commands_wrote_in_the_folder_are_no_photos(photos, capsys):
    (photos / "labels.csv").unlink()
    arguments = [f"--image={photos}", f"--output={photos / 'made'}"]
    assert command_flags.run(align.define_flags, align.main, arguments) == 0
    inside = str(photos / "cache")
    for _ in range(2):
        assert len(open_data(photos, cache_dir=inside).files) == 6
    said = capsys.readouterr().err
    assert f"6 photos in {photos}/made left out: results of an earlier" in said
    assert inside not in said


def test_refused(photos, tmp_path):
    cache = tmp_path / "cache"
    assert refusal(photos, cache_dir=None) == (
        "--cache_dir: --data=photos keeps the aligned faces there; give a folder"
    )
    framing.write_framing(photos)
    assert refusal(photos) == (
        f"--data=photos: {photos}/framing.json says that its faces are aligned; use --data=folder"
    )
    (photos / "framing.json").unlink()
    with open(photos / "labels.csv", "a") as file:
        file.write("more.png;1;1\n")
    assert "labels.csv does not match" in refusal(photos)
    (photos / "labels.csv").unlink()
    for name in ("a.jpg.png", "a.png", "b", "e.png", "f.png"):
        path = photos / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    assert refusal(photos) == (
        f"--data_dir={photos}: none of its 2 photos could be aligned; --data=photos needs photos "
        "of faces"
    )
    assert list(cache.iterdir()) == []
    (photos / "broken.png").unlink()
    (photos / "empty.png").unlink()
    assert refusal(photos) == (
        f"--data_dir={photos} contains no photos (.jpg, .png, ...); give the folder with the photos"
    )


@pytest.mark.parametrize("lost", ["a.png", "align.csv"])
def test_a_cache_that_lacks_something(photos, lost):
    open_data(photos)
    (squares(photos) / lost).unlink()
    assert refusal(photos) == (
        f"the image cache {squares(photos)} is damaged; delete it, and it is built again"
    )


def test_a_full_disk_leaves_nothing(photos, tmp_path, monkeypatch):
    save_png, calls = images.save_png, []

    def full(path, pixels):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save_png(path, pixels)

    monkeypatch.setattr(images, "save_png", full)
    assert refusal(photos) == (
        f"--cache_dir={tmp_path}/cache: No space left on device; give a writable folder with 0.00 "
        "GiB of free space"
    )
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(open_data(photos).files) == 6


def test_of_two_that_align_at_once_the_first_one_counts(photos, monkeypatch):
    rename = os.rename

    def overtaken(source, target):
        shutil.copytree(source, target)
        (target / "of_the_first").touch()
        rename(source, target)

    monkeypatch.setattr(os, "rename", overtaken)
    assert len(open_data(photos).files) == 6
    assert (squares(photos) / "of_the_first").exists()
