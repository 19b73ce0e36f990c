"""The data sources `celeba_dir` and `celeba`."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from cgan_tf import data
from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.data import celeba, images

NAMES = ("Smiling", "Male", "Young")


def silent(line):
    pass


def values(index):
    """The labels of photo `index`: its binary digits."""
    return [index >> bit & 1 for bit in range(3)]


def photo(index, size):
    """A photo whose brightness gives its index."""
    return Image.new("RGB", size, (20 * index, 20 * index, 20 * index))


def make_folder(
    folder, count=12, size=(178, 218), newline="\n", count_line=True, partition=True, padded=True
):
    """The official layout; the last two photos are for validation, the two before them for test."""
    (folder / "img_align_celeba").mkdir(parents=True)
    files = [f"{index + 1:06d}.jpg" for index in range(count)]
    for index, file in enumerate(files):
        photo(index, size).save(folder / "img_align_celeba" / file, quality=95)
    lines = [str(count)] if count_line else []
    lines.append(" ".join(NAMES) + (" " if padded else ""))
    for index, file in enumerate(files):
        cells = [" 1" if value else "-1" for value in values(index)]
        lines.append(f"{file} {' '.join(cells)}")
    write(folder / "list_attr_celeba.txt", lines, newline)
    if partition:
        parts = [0] * (count - 4) + [2, 2, 1, 1]
        rows = [f"{file} {part}" for file, part in zip(files, parts, strict=True)]
        write(folder / "list_eval_partition.txt", rows, newline)
    return folder


def write(path, lines, newline="\n"):
    path.write_bytes((newline.join(lines) + newline).encode())


def edit(path, change):
    write(path, change(path.read_text().splitlines()))


def open_data(folder, cache=None, say=silent, **options):
    config = Config(
        data="celeba_dir",
        data_dir=str(folder),
        cache_dir=str(cache or folder.parent / "cache"),
        resolution=32,
        **options,
    )
    return data.open_data(config, say=say)


# ---- the official files ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(178, 218), (89, 109)])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("count_line", [True, False])
def test_every_official_layout_reads_the_same(tmp_path, size, newline, count_line):
    folder = make_folder(tmp_path / "celeba", size=size, newline=newline, count_line=count_line)
    opened = open_data(folder)
    assert opened.name == "celeba_dir" and opened.resolution == 32
    assert opened.attribute_names == NAMES
    assert opened.files == tuple(f"{index + 1:06d}.jpg" for index in range(12))
    assert opened.labels.dtype == np.float32
    np.testing.assert_array_equal(opened.labels, [values(index) for index in range(12)])
    np.testing.assert_array_equal(opened.splits["train"], range(8))
    np.testing.assert_array_equal(opened.splits["test"], [8, 9])
    np.testing.assert_array_equal(opened.splits["validation"], [10, 11])
    pixels = opened.read([7, 0])
    assert pixels.shape == (2, 32, 32, 3) and pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[0], 140, rtol=0, atol=2)
    np.testing.assert_allclose(pixels[1], 0, rtol=0, atol=2)


def test_photos_are_cropped_as_documented(tmp_path):
    folder = make_folder(tmp_path / "celeba")
    frame = np.zeros((218, 178, 3), np.uint8)
    frame[35:183, 15:163] = 255
    Image.fromarray(frame).save(folder / "img_align_celeba" / "000003.jpg", quality=95)
    pixels = open_data(folder).read([2])[0]
    assert pixels[2:-2, 2:-2].min() > 250  # without the black frame
    np.testing.assert_array_equal(
        pixels,
        images.celeba_crop_resize(
            images.decode_file(folder / "img_align_celeba" / "000003.jpg"), 32
        ),
    )


def test_without_a_partition_the_fixed_split_is_reported(tmp_path):
    said = []
    folder = make_folder(tmp_path / "celeba", count=40, size=(89, 109), partition=False)
    opened = open_data(folder, say=said.append)
    sizes = {name: len(indices) for name, indices in opened.splits.items()}
    assert sizes == {"train": 32, "validation": 4, "test": 4}
    together = np.sort(np.concatenate(list(opened.splits.values())))
    np.testing.assert_array_equal(together, np.arange(40))
    line = "data: no list_eval_partition.txt; a fixed random split is used: "
    assert line + "32 train, 4 validation, 4 test" in said
    again = open_data(folder, seed=99)  # the split does not depend on the seed of the run
    for name in sizes:
        np.testing.assert_array_equal(again.splits[name], opened.splits[name])


def test_with_a_partition_file_nothing_is_reported(tmp_path):
    said = []
    open_data(make_folder(tmp_path / "celeba"), say=said.append)
    assert not [line for line in said if "split" in line]


def test_rows_can_have_another_order_than_the_files(tmp_path):
    folder = make_folder(tmp_path / "celeba")
    edit(folder / "list_attr_celeba.txt", lambda lines: lines[:2] + lines[:1:-1])
    opened = open_data(folder)
    assert opened.files[0] == "000012.jpg"
    np.testing.assert_array_equal(opened.labels[0], values(11))
    np.testing.assert_array_equal(opened.splits["train"], range(4, 12))
    np.testing.assert_allclose(opened.read([0]), 220, rtol=0, atol=2)


def replace_line(number, text):
    return lambda lines: lines[:number] + [text] + lines[number + 1 :]


def drop_line(number):
    return lambda lines: lines[:number] + lines[number + 1 :]


@pytest.mark.parametrize(
    "file, change, message",
    [
        ("list_attr_celeba.txt", drop_line(0), None),
        ("list_attr_celeba.txt", drop_line(5), "announces 12 rows and has 11"),
        ("list_attr_celeba.txt", drop_line(1), "no line of attribute names"),
        ("list_attr_celeba.txt", lambda lines: [], "no line of attribute names"),
        ("list_attr_celeba.txt", lambda lines: lines[2:], "no line of attribute names"),
        ("list_attr_celeba.txt", replace_line(4, "000003.jpg 1 -1"), "line 5: .* got 2 value"),
        ("list_attr_celeba.txt", replace_line(4, "000003.jpg 1 -1 2"), "line 5: expected"),
        ("list_attr_celeba.txt", replace_line(4, "000002.jpg 1 1 1"), "000002.jpg more than once"),
        ("list_eval_partition.txt", replace_line(2, "000003.jpg 3"), "line 3: expected"),
        ("list_eval_partition.txt", replace_line(2, "000003.jpg"), "line 3: expected"),
        ("list_eval_partition.txt", replace_line(2, "000002.jpg 0"), "000002.jpg more than once"),
        (
            "list_eval_partition.txt",
            drop_line(2),
            "list_eval_partition.txt does not match list_attr_celeba.txt: 1 image without a "
            r"row \(first: 000003.jpg\)",
        ),
        (
            "list_eval_partition.txt",
            lambda lines: [line[:-1] + "0" for line in lines],
            "leaves the validation split empty; delete the file",
        ),
    ],
)
def test_malformed_tables(tmp_path, file, change, message):
    folder = make_folder(tmp_path / "celeba", size=(89, 109))
    edit(folder / file, change)
    if message is None:
        assert len(open_data(folder).files) == 12
    else:
        with pytest.raises(UserError, match=message):
            open_data(folder)


def test_a_binary_table_is_refused(tmp_path):
    folder = make_folder(tmp_path / "celeba")
    (folder / "list_attr_celeba.txt").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match="list_attr_celeba.txt is not a text file"):
        open_data(folder)


def test_unmatched_photos_and_rows_are_counted_and_named(tmp_path):
    folder = make_folder(tmp_path / "celeba")
    for file in ("000004.jpg", "000009.jpg"):
        (folder / "img_align_celeba" / file).unlink()
    photo(1, (178, 218)).save(folder / "img_align_celeba" / "zz.jpg")
    with pytest.raises(UserError) as caught:
        open_data(folder)
    assert str(caught.value) == (
        "list_attr_celeba.txt does not match img_align_celeba/: 2 rows without an image (first: "
        "000004.jpg) and 1 image without a row (first: zz.jpg); delete those rows or images, "
        "or add the missing ones"
    )


def test_missing_parts_are_reported(tmp_path):
    with pytest.raises(UserError, match="--data=celeba_dir reads a folder; .*--data_dir=DIR"):
        celeba.open_folder(None, 32, silent)
    with pytest.raises(UserError, match="--data_dir=.*nowhere is not a folder"):
        open_data(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no folder img_align_celeba/"):
        open_data(tmp_path)
    folder = make_folder(tmp_path / "celeba")
    (folder / "list_attr_celeba.txt").unlink()
    with pytest.raises(UserError, match="has no labels; put list_attr_celeba.txt there"):
        open_data(folder)
    for file in (folder / "img_align_celeba").iterdir():
        file.unlink()
    (folder / "list_attr_celeba.txt").touch()
    with pytest.raises(UserError, match="img_align_celeba contains no images"):
        open_data(folder)


# ---- the download ------------------------------------------------------------------------------


def make_download(folder):
    """Moves the files into the folders of the download."""
    for name, place in (
        ("img_align_celeba", "Img"),
        ("list_attr_celeba.txt", "Anno"),
        ("list_eval_partition.txt", "Eval"),
    ):
        (folder / place).mkdir()
        (folder / name).rename(folder / place / name)
    return folder


def test_the_download_is_the_same_data_set(tmp_path):
    official = open_data(make_folder(tmp_path / "official"))
    said = []
    opened = open_data(make_download(make_folder(tmp_path / "CelebA")), say=said.append)
    assert opened.attribute_names == NAMES and opened.files == official.files
    np.testing.assert_array_equal(opened.labels, official.labels)
    for name, indices in official.splits.items():
        np.testing.assert_array_equal(opened.splits[name], indices)
    np.testing.assert_array_equal(opened.read(range(12)), official.read(range(12)))
    assert opened.digest == official.digest, "a run may change from one to the other"
    assert opened.notes == () and not any("Kaggle" in line for line in said)


def test_a_download_that_is_not_unpacked_or_unpacked_twice(tmp_path):
    folder = make_download(make_folder(tmp_path / "CelebA"))
    (folder / "img_align_celeba").mkdir()
    with pytest.raises(UserError, match="has .*/img_align_celeba/ and .*/Img/img_align_celeba/; k"):
        open_data(folder)
    (folder / "img_align_celeba").rmdir()
    (folder / "Img" / "img_align_celeba").rename(tmp_path / "elsewhere")
    (folder / "Img" / "img_align_celeba.zip").touch()
    with pytest.raises(UserError, match="Img/img_align_celeba.zip is not unpacked; unpack it th"):
        open_data(folder)


def test_a_second_table_of_a_download_must_agree(tmp_path):
    folder = make_download(make_folder(tmp_path / "CelebA"))
    lines = (folder / "Eval" / "list_eval_partition.txt").read_text().splitlines()
    write(folder / "list_eval_partition.txt", lines)
    assert len(open_data(folder).files) == 12
    edit(folder / "list_eval_partition.txt", replace_line(3, "000004.jpg 1"))
    with pytest.raises(UserError, match="Eval/list_eval_partition.txt and .* differ; keep only"):
        open_data(folder)


# ---- Kaggle's copy -----------------------------------------------------------------------------


def make_kaggle(folder, tables=("list_attr_celeba", "list_eval_partition"), nested=True):
    """Rewrites the official layout: tables as CSV, the folder of photos within another."""
    for name in tables:
        lines = (folder / f"{name}.txt").read_text().splitlines()
        header = [f"image_id,{','.join(NAMES)}"] if "attr" in name else ["image_id,partition"]
        rows = [",".join(line.split()) for line in lines[2 if "attr" in name else 0 :]]
        write(folder / f"{name}.csv", [*header, *rows])
        (folder / f"{name}.txt").unlink()
    if nested:
        photos = folder / "img_align_celeba"
        photos.rename(folder / "photos")
        photos.mkdir()
        (folder / "photos").rename(photos / "img_align_celeba")
    return folder


BOTH = ("list_attr_celeba", "list_eval_partition")


@pytest.mark.parametrize(
    "tables, nested, partition",
    [
        (BOTH, True, True),
        (BOTH, False, True),
        ((), True, True),
        (BOTH[:1], False, True),
        (BOTH[1:], True, True),
        (BOTH[:1], True, False),
    ],
)
def test_kaggles_copy_is_the_same_data_set(tmp_path, tables, nested, partition):
    official = open_data(make_folder(tmp_path / "official", partition=partition))
    said = []
    folder = make_kaggle(make_folder(tmp_path / "kaggle", partition=partition), tables, nested)
    opened = open_data(folder, say=said.append)
    assert opened.attribute_names == NAMES and opened.files == official.files
    np.testing.assert_array_equal(opened.labels, [values(index) for index in range(12)])
    for name, indices in official.splits.items():
        np.testing.assert_array_equal(opened.splits[name], indices)
    np.testing.assert_array_equal(opened.read(range(12)), official.read(range(12)))
    assert opened.digest == official.digest, "a run may change from one to the other"
    read = [f"{name}.csv" for name in tables] + ["img_align_celeba/img_align_celeba/"] * nested
    assert opened.notes == (f"{', '.join(read)}: read as Kaggle's copy of CelebA",)
    assert f"data: {opened.notes[0]}" in said and official.notes == ()


def test_both_tables_must_agree(tmp_path):
    folder = make_folder(tmp_path / "celeba")
    texts = {name: (folder / f"{name}.txt").read_text() for name in BOTH}
    make_kaggle(folder)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    opened = open_data(folder)
    assert opened.notes == ("img_align_celeba/img_align_celeba/: read as Kaggle's copy of CelebA",)
    edit(folder / "list_eval_partition.csv", replace_line(3, "000003.jpg,1"))
    with pytest.raises(UserError, match="eval_partition.csv and .*partition.txt differ; k"):
        open_data(folder)
    edit(folder / "list_attr_celeba.csv", replace_line(3, "000003.jpg,1,1,1"))
    with pytest.raises(UserError, match="attr_celeba.csv and .*list_attr_celeba.txt differ; keep"):
        open_data(folder)


def test_photos_in_both_places_are_refused(tmp_path):
    folder = make_kaggle(make_folder(tmp_path / "celeba"))
    photo(1, (178, 218)).save(folder / "img_align_celeba" / "000001.jpg")
    with pytest.raises(UserError, match="contains 1 photos besides the 12 of its folder img_align"):
        open_data(folder)


@pytest.mark.parametrize(
    "file, change, message",
    [
        ("list_attr_celeba.csv", lambda lines: lines[1:], "does not begin with file,Attr1"),
        ("list_attr_celeba.csv", replace_line(3, "000003.jpg,1,-1"), "line 4: expected 3 value"),
        ("list_attr_celeba.csv", replace_line(3, "000003.jpg,1,-1,2"), "line 4: values are"),
        (
            "list_attr_celeba.csv",
            drop_line(3),
            "list_attr_celeba.csv does not match img_align_celeba/img_align_celeba/: 1 image with",
        ),
        ("list_eval_partition.csv", replace_line(3, "000003.jpg,3"), "line 4: expected a file"),
        ("list_eval_partition.csv", replace_line(3, "000003.jpg;0"), "line 4: expected a file"),
        (
            "list_eval_partition.csv",
            drop_line(3),
            "list_eval_partition.csv does not match list_attr_celeba.csv: 1 image",
        ),
    ],
)
def test_malformed_tables_of_kaggles_copy(tmp_path, file, change, message):
    folder = make_kaggle(make_folder(tmp_path / "celeba"))
    edit(folder / file, change)
    with pytest.raises(UserError, match=message):
        open_data(folder)


def test_fewer_photos_than_rows_of_kaggles_copy(tmp_path):
    folder = make_kaggle(make_folder(tmp_path / "celeba"))
    (folder / "img_align_celeba" / "img_align_celeba" / "000004.jpg").unlink()
    with pytest.raises(UserError, match="1 row without an image .first: 000004.jpg.; delete"):
        open_data(folder)


# ---- TensorFlow Datasets -----------------------------------------------------------------------


def tfds_config(tmp_path, **options):
    options = {"resolution": 32, "cache_dir": str(tmp_path / "cache")} | options
    return Config(data="celeba", data_dir=str(tmp_path / "tfds"), **options)


@pytest.fixture
def tfds():
    return pytest.importorskip("tensorflow_datasets")


def test_tfds_features_with_its_mock_data(tmp_path, tfds):
    with tfds.testing.mock_data(num_examples=5):
        opened = data.open_data(tfds_config(tmp_path), say=silent)
    assert opened.name == "celeba"
    assert len(opened.attribute_names) == 40
    assert {"Smiling", "Blond_Hair", "Eyeglasses", "Male"} <= set(opened.attribute_names)
    assert opened.labels.shape == (15, 40) and opened.labels.dtype == np.float32
    assert set(np.unique(opened.labels)) == {0.0, 1.0}
    assert {name: list(indices) for name, indices in opened.splits.items()} == {
        "train": [0, 1, 2, 3, 4],
        "validation": [5, 6, 7, 8, 9],
        "test": [10, 11, 12, 13, 14],
    }
    assert opened.files[5] == "validation/000000"
    assert opened.read([14, 0]).shape == (2, 32, 32, 3)


def test_tfds_photos_labels_and_splits_match(tmp_path, tfds, monkeypatch):
    """Runs TFDS' own builder on its own files; only the download is replaced."""
    folder = make_folder(tmp_path / "celeba", size=(178, 218))
    builder = tfds.builder("celeb_a", data_dir=str(tmp_path / "tfds"))
    names = list(builder.info.features["attributes"].keys())
    files = [f"{index + 1:06d}.jpg" for index in range(12)]
    rows = ["12", " ".join(names)]
    for index, file in enumerate(files):
        bits = [index >> (column % 4) & 1 for column in range(40)]
        rows.append(f"{file} {' '.join('1' if bit else '-1' for bit in bits)}")
    write(tmp_path / "attributes", rows)
    points = list(builder.info.features["landmarks"].keys())
    write(
        tmp_path / "landmarks", ["12", " ".join(points)] + [f"{file}{' 9' * 10}" for file in files]
    )
    write(tmp_path / "identity", [f"{file} 1" for file in files])
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for file in files:
            archive.write(folder / "img_align_celeba" / file, f"img_align_celeba/{file}")
    downloaded = {
        "img_align_celeba": tmp_path / "photos.zip",
        "list_eval_partition": folder / "list_eval_partition.txt",
        "list_attr_celeba": tmp_path / "attributes",
        "landmarks_celeba": tmp_path / "landmarks",
        "identity_celeba": tmp_path / "identity",
    }
    monkeypatch.setattr(tfds.download.DownloadManager, "download", lambda self, urls: downloaded)
    monkeypatch.setattr(celeba, "_check_network", lambda: None)
    opened = data.open_data(tfds_config(tmp_path), say=silent)
    assert {name: len(indices) for name, indices in opened.splits.items()} == {
        "train": 8,
        "validation": 2,
        "test": 2,
    }
    pixels = opened.read(np.arange(12))
    which = np.rint(pixels.mean(axis=(1, 2, 3)) / 20).astype(int)
    assert set(which[:8]) == set(range(8))
    assert set(which[8:10]) == {10, 11} and set(which[10:]) == {8, 9}
    for column in range(40):
        bits = which >> (column % 4) & 1
        np.testing.assert_array_equal(
            opened.labels[:, opened.attribute_names.index(names[column])], bits
        )
    official = open_data(folder)  # both sources give the same pixels
    np.testing.assert_array_equal(pixels, official.read(which))
    again = data.open_data(tfds_config(tmp_path), say=silent)  # from TFDS' files and the cache
    assert again.digest == opened.digest
    np.testing.assert_array_equal(again.read(np.arange(12)), pixels)


def test_a_failed_download_explains_how_to_provide_the_files(tmp_path, tfds, monkeypatch):
    def fail(self, *args, **kwargs):
        raise OSError("HTTP 429\nquota exceeded")

    monkeypatch.setattr(celeba, "_check_network", lambda: None)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(UserError) as caught:
        data.open_data(tfds_config(tmp_path), say=silent)
    assert str(caught.value) == (
        "--data=celeba: the download failed (HTTP 429 quota exceeded); put img_align_celeba/, "
        "list_attr_celeba.txt and list_eval_partition.txt from CelebA's website into a folder DIR "
        "and use --data=celeba_dir --data_dir=DIR"
    )


def test_a_missing_network_is_noticed_before_tfds_retries_for_minutes(tmp_path, tfds, monkeypatch):
    requests = pytest.importorskip("requests")

    def unreachable(url, **kwargs):
        raise requests.ConnectionError("a long text")

    def must_not_run(self, *args, **kwargs):
        raise AssertionError("the download was tried")

    monkeypatch.setattr(requests, "head", unreachable)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", must_not_run)
    with pytest.raises(UserError, match=r"\(https://drive.google.com cannot be reached\); put"):
        data.open_data(tfds_config(tmp_path), say=silent)


def test_tfds_needs_the_cache(tmp_path, tfds):
    with tfds.testing.mock_data(num_examples=5):
        with pytest.raises(UserError, match="--cache_gib=0: --data=celeba can only be read"):
            data.open_data(tfds_config(tmp_path, cache_gib=0.0), say=silent)
