"""The data source `folder`."""

import os

import numpy as np
import pytest
from PIL import Image

from cgan_tf import data
from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.data import folder


def make_images(path, count=10):
    """Images of many sizes, suffixes and depths; image i has brightness 20 * i."""
    names = []
    for index in range(count):
        name = f"{'deep/er/' if index % 3 == 0 else ''}image{index:02d}.{('png', 'bmp')[index % 2]}"
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + 9 * index, 60 - 3 * index), (20 * index,) * 3).save(path / name)
        names.append(name)
    return sorted(names)


def brightness(name):
    return 20 * int(name.rsplit("image", 1)[1][:2])


def open_data(path, say=lambda line: None):
    config = Config(
        data="folder",
        data_dir=str(path),
        cache_dir=str(path.parent / "cache"),
        resolution=32,
    )
    return data.open_data(config, say=say)


def test_images_of_any_size_and_depth_without_labels(tmp_path):
    names = make_images(tmp_path / "photos")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / "._image00.png").write_bytes(b"created by macOS")
    (tmp_path / "photos" / ".thumbnails").mkdir()
    (tmp_path / "photos" / ".thumbnails" / "small.png").write_bytes(b"hidden")
    said = []
    opened = open_data(tmp_path / "photos", say=said.append)
    assert opened.name == "folder"
    assert opened.files == tuple(names)
    assert opened.attribute_names == () and opened.labels.shape == (10, 0)
    for name, pixels in zip(names, opened.read(range(10)), strict=True):
        np.testing.assert_array_equal(pixels, np.full((32, 32, 3), brightness(name)))
    assert {name: len(indices) for name, indices in opened.splits.items()} == {
        "train": 8,
        "validation": 1,
        "test": 1,
    }
    np.testing.assert_array_equal(
        np.sort(np.concatenate(list(opened.splits.values()))), np.arange(10)
    )
    assert f"data: no labels.csv in {tmp_path / 'photos'}: the images have no labels" in said
    assert "data: a fixed random split is used: 8 train, 1 validation, 1 test" in said


def test_images_are_cropped_to_the_centered_square(tmp_path):
    make_images(tmp_path / "photos", 3)
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 250
    Image.fromarray(wide).save(tmp_path / "photos" / "a.png")
    opened = open_data(tmp_path / "photos")
    np.testing.assert_array_equal(
        opened.read([opened.files.index("a.png")])[0], np.full((32, 32, 3), 250)
    )


@pytest.mark.parametrize("absent", ["-1", "0"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_labels(tmp_path, absent, newline, mark):
    names = make_images(tmp_path / "photos")
    rows = [f"{name}, {'1' if i % 2 else absent},{absent}" for i, name in enumerate(names)]
    text = mark + newline.join(["file,Smiling, Old Hat", *reversed(rows), ""])
    (tmp_path / "photos" / "labels.csv").write_bytes(text.encode())
    opened = open_data(tmp_path / "photos")
    assert opened.attribute_names == ("Smiling", "Old Hat")
    assert opened.labels.dtype == np.float32
    np.testing.assert_array_equal(opened.labels, [[i % 2, 0] for i in range(10)])


@pytest.mark.parametrize(
    "lines, message",
    [
        (["name,Smiling", "{0},1"], "does not begin with file,Attr1"),
        (["file", "{0}"], "does not begin with file,Attr1"),
        ([], "does not begin with file,Attr1"),
        (["file,A,A", "{0},1,1"], "two have the same"),
        (["file,A,", "{0},1,1"], "has no name"),
        (["file,A,B", "{0},1"], "line 2: expected 2 value"),
        (["file,A", "{0},1,1"], "line 2: expected 1 value"),
        (["file,A", "{0},yes"], "line 2: values are -1 and 1, or 0 and 1"),
        (["file,A", "{0},"], "line 2: values are -1 and 1, or 0 and 1"),
        (["file,Glasses/Sun", "{0},1", "{1},0", "{2},0"], "'Glasses/Sun' cannot be an attribute"),
        (["file,..", "{0},1", "{1},0", "{2},0"], r"'\.\.' cannot be an attribute's name"),
        (["file,A\x07", "{0},1", "{1},0", "{2},0"], r"'A\\x07' cannot be an attribute's name"),
        (["file," + "A" * 101, "{0},1", "{1},0", "{2},0"], "has 101 bytes; shorten it to 100"),
        (["file,Hat,hat", "{0},1,1", "{1},0,1", "{2},0,0"], "Hat and hat differ only in case"),
        (
            ["file,Caf\u00e9,Cafe\u0301", "{0},1,1", "{1},0,1", "{2},0,0"],
            "differ only in case",
        ),
        (["file,A", "{0},1", "{0},1"], "line 3: .* twice"),
        (["file,A", "{0},1", "{1},0", "{2},-1"], r"mixes 0 \(line 3\) and -1 \(line 4\)"),
        (
            ["file,A", "{1},1", "{2},1", "other.png,1", "more.png,0"],
            r"labels.csv does not match .*photos: 2 row\(s\) without an image \(first: more.png\) "
            r"and 1 image\(s\) without a row \(first: deep/er/image00.png\); delete",
        ),
    ],
)
def test_malformed_labels(tmp_path, lines, message):
    names = make_images(tmp_path / "photos", 3)
    text = "\n".join(lines).format(*names)
    (tmp_path / "photos" / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        open_data(tmp_path / "photos")
    assert "\n" not in str(caught.value)


def test_labels_in_a_binary_file(tmp_path):
    make_images(tmp_path / "photos", 3)
    (tmp_path / "photos" / "labels.csv").write_bytes(b"\xff\xfe\x00file")
    with pytest.raises(UserError, match="labels.csv is not a CSV file"):
        open_data(tmp_path / "photos")


def test_missing_empty_and_tiny_folders(tmp_path):
    with pytest.raises(UserError, match="--data=folder reads a folder; .*--data_dir=DIR"):
        folder.open_folder(None, 32, print)
    with pytest.raises(UserError, match="--data_dir=.*nowhere is not a folder"):
        open_data(tmp_path / "nowhere")
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="--data_dir=.*photos contains no images"):
        open_data(tmp_path / "photos")
    make_images(tmp_path / "photos", 2)
    with pytest.raises(UserError, match=r"2 image\(s\) cannot be split"):
        open_data(tmp_path / "photos")
    make_images(tmp_path / "photos", 3)
    assert [len(part) for part in open_data(tmp_path / "photos").splits.values()] == [1, 1, 1]


def test_circular_and_broken_links(tmp_path):
    names = make_images(tmp_path / "photos", 3)
    (tmp_path / "photos" / "deep" / "again").symlink_to(tmp_path / "photos")
    assert open_data(tmp_path / "photos").files == tuple(names)
    (tmp_path / "photos" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    said = []
    open_data(tmp_path / "photos", said.append)
    assert any("gone.png: No such" in line for line in said)


def test_file_names_that_are_not_utf8(tmp_path):
    names = make_images(tmp_path / "photos", 4)
    odd = os.fsdecode(b"caf\xe9.png")
    Image.new("RGB", (32, 32), (7, 7, 7)).save(tmp_path / "photos" / odd)
    rows = [f"{name},{int(name == odd)}" for name in [*names, odd]]
    text = "\n".join(["file,Caf\u00e9", *rows])
    (tmp_path / "photos" / "labels.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    opened = open_data(tmp_path / "photos")
    row = opened.files.index(odd)
    assert opened.attribute_names == ("Caf\u00e9",) and opened.labels.sum() == 1
    assert opened.labels[row, 0] == 1 and opened.read([row])[0, 0, 0, 0] == 7
    assert len(opened.digest) == 64


@pytest.mark.parametrize("form", ["./{}", "deep/../{}", ".\\{}"])
def test_names_and_numbers_in_other_forms(tmp_path, form):
    names = make_images(tmp_path / "photos", 4)
    rows = [form.format(name) + f",{float(index == 0)}" for index, name in enumerate(names)]
    rows = [row.replace("/", "\\") if "\\" in form else row for row in rows]
    (tmp_path / "photos" / "labels.csv").write_text("\n".join(["file,A", *rows]))
    np.testing.assert_array_equal(open_data(tmp_path / "photos").labels[:, 0], [1, 0, 0, 0])
