"""The data source `folder`."""

import os
import unicodedata

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
        (["file,A", "{0},1", "{0},0"], "line 3: .* twice, with other values in line 2; delete"),
        (["file,A", "{0},1", "{1},0", "{2},-1"], r"mixes 0 \(line 3\) and -1 \(line 4\)"),
        (
            ["file,A", "{1},1", "{2},1", "other.png,1", "more.png,0"],
            r"labels.csv does not match .*photos: 2 rows without an image \(first: more.png\) "
            r"and 1 image without a row \(first: deep/er/image00.png\); delete",
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
    with pytest.raises(UserError, match="--data_dir: 2 images cannot be split"):
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


# ---- tables that almost fit --------------------------------------------------------------------


def label_table(path, text, encoding="utf-8"):
    """Writes the table beside three images, and returns the data set and what it said."""
    make_images(path / "photos", 3)
    (path / "photos" / "labels.csv").write_bytes(text.format(*NAMES).encode(encoding))
    said = []
    return open_data(path / "photos", said.append), said


NAMES = ("deep/er/image00.png", "image01.bmp", "image02.png")


@pytest.mark.parametrize(
    "lines, note",
    [
        (["file;A;B", "{0};1;0", "{1};0;1", "{2};0;0"], "semicolons separate its columns"),
        (["file\tA\tB", "{0}\t1\t0", "{1}\t0\t1", "{2}\t0\t0"], "tabs separate its columns"),
        (["file;A;B", "{0};1,0;0,0", "{1};0,0;1,0", "{2};0,0;0,0"], "semicolons"),
        (["sep=;", "file;A;B", "{0};1;0", "{1};0;1", "{2};0;0"], "semicolons"),
        (
            [",file,A,B", "0,{0},1,0", "1,{1},0,1", "2,{2},0,0"],
            "its first column, an index, is left out",
        ),
        (["Unnamed: 0,file,A,B", "7,{0},1,0", "2,{1},0,1", "5,{2},0,0"], "an index, is left out"),
        (
            ["file,A,B,", "{0},1,0,", "{1},0,1,", "{2},0,0,"],
            "its empty last column is left out",
        ),
        (["file,A,B", "{0},1,0,", "{1},0,1", "{2},0,0,,"], "its empty last column is left out"),
        (["file,A,B,,", "{0},1,0", ",,,,", "{1},0,1", "{2},0,0"], "its empty last column"),
        (["file,A,B", "{0},true,FALSE", "{1},0,True", "{2},false,0"], "true and false are 1 and 0"),
        (["file,A,B", "{0},1.0,0.0", "{1},0.0,+1", "{2},-0.0,0.00"], None),
        (["file,A,B", "{0},1.0,-1.0", "{1},\u22121,1", "{2},-1,-1.00"], None),
        (['"file","A","B"', '"{0}","1","0"', '"{1}","0","1"', '"{2}","0","0"'], None),
        (["  file , A , B ", " {0} , 1 , 0 ", " {1} ,0, 1", ' "{2}" , 0 ,0'], None),
        (["image_id,A,B", "{0},1,0", "{1},0,1", "{2},0,0"], "column image_id names the files"),
        (["File,A,B", "{0},1,0", "{1},0,1", "{2},0,0"], "column File names the files"),
        (["file,A,B", "{0},1,0", "{1},0,1", "{0},1,0", "{2},0,0"], "1 repeated row"),
        (
            ["file,A,B", "./{0},1,0", ".\\{1},0,1", "deep/../{2},0,0"],
            "3 names written in another way (./deep/er/image00.png is deep/er/image00.png)",
        ),
        (["file,A,B", "deep\\er\\image00.png,1,0", "{1},0,1", "{2},0,0"], "1 name written"),
        (["file,A,B", "{0},1,0", "{1},0,1", "Image02.PNG,0,0"], "Image02.PNG is image02.png"),
        (["file,A,B", "{0},1,0", "./{1},0,1", "{1},0,1", "{2},0,0"], "1 name written"),
        (["file,A,B", "photos/{0},1,0", "{1},0,1", "{2},0,0"], "(photos/deep/er/image00.png is d"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_tables_in_other_forms_are_read_and_described(tmp_path, lines, note, newline):
    opened, said = label_table(tmp_path, newline.join([*lines, ""]))
    assert opened.files == NAMES and opened.attribute_names == ("A", "B")
    np.testing.assert_array_equal(opened.labels, [[1, 0], [0, 1], [0, 0]])
    if note is None:
        assert opened.notes == () and len([line for line in said if "labels" in line]) == 0
    else:
        assert opened.notes[0].startswith("labels.csv: ") and note in opened.notes[0]
        assert f"data: {opened.notes[0]}" in said


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_tables_with_a_byte_order_mark(tmp_path, encoding):
    text = "file\tGesch\u00e4ft\n{0}\t1\n{1}\t0\n{2}\t0\n"
    if encoding == "utf-16-le":  # Excel's "Unicode text" begins with the mark; this does not
        with pytest.raises(UserError, match="its header is not UTF-8"):
            label_table(tmp_path, text, encoding)
        return
    opened, _ = label_table(tmp_path, text, encoding)
    assert opened.attribute_names == ("Gesch\u00e4ft",)
    np.testing.assert_array_equal(opened.labels[:, 0], [1, 0, 0])


@pytest.mark.parametrize(
    "lines, message",
    [
        ([",file,A", "0,{0},1", "0,{1},0", "2,{2},0"], "line 3: the first column .* '0' is no ind"),
        ([",file,A", "1,{0},1", "-1,{1},0", "x,{2},0"], "line 3: the first column has no name"),
        ([",file", "0,{0}", "1,{1}", "2,{2}"], "does not begin with file,Attr1"),
        (["file;A,B", "{0};1,0"], "'A,B' cannot be an attribute's name"),
        (["file,A,", "{0},1,", "{1},0,1", "{2},0,"], "a column has no name"),
        (["file,A", "{0},1", "{1},0,1", "{2},0"], "line 3: expected 1 value.s., got 2"),
        (["file,A,B", "{0},1,", "{1},0,", "{2},0,"], "line 2: values are .* not ''"),
        (
            ["file,A", "{0},true", "{1},-1", "{2},1"],
            r"mixes true or false \(line 2\) and -1 \(line",
        ),
        (["file,A", "{0},0.91", "{1},0.2", "{2},1"], "are these scores.* --binary writes labels"),
        (
            ["file,A", "{0},2", "{1},0", "{2},1"],
            "line 2: values are -1 and 1, or 0 and 1, not '2'$",
        ),
        (["file,A", "{0},nan", "{1},0", "{2},1"], "not 'nan'$"),
        (["file,A", "{0},1", ",0", "{2},1"], "line 3: the file has no name"),
        ([",file,A", "0,{0},1", "1", "2,{2},0"], "line 3: the file has no name"),
        (["file,A", "x\0,1", "{1},1", "{2},0"], "name contains a zero byte|line contains NUL"),
        (["file,A", "{0},1", "{1},1", "./{1},0", "{2},0"], "image01.bmp and ./image01.bmp are one"),
        (
            ["file,A", "{0},1", "{1},1", "/x/{2},0"],
            "labels.csv: /x/image02.png is outside .*photos",
        ),
        (
            ["file,A", "{0},1", "{1},1", "../{2},0"],
            "labels.csv: ../image02.png is outside .*photos",
        ),
        (["file,A", "{0},1", "{1},1", "C:\\x\\{2},0"], r"labels.csv: C:.x.image02.png is outside"),
    ],
)
def test_tables_that_may_mean_something_else_are_refused(tmp_path, lines, message):
    with pytest.raises(UserError, match=message) as caught:
        label_table(tmp_path, "\n".join(lines))
    assert "\n" not in str(caught.value)


def test_absolute_paths_inside_the_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    text = f"file,A\n{tmp_path}/photos/{{0}},1\n{tmp_path}/link/{{1}},0\n../photos/{{2}},0\n"
    opened, _ = label_table(tmp_path, text)
    np.testing.assert_array_equal(opened.labels[:, 0], [1, 0, 0])
    assert opened.notes[0].startswith("labels.csv: 3 names written in another way (")
    np.testing.assert_array_equal(open_data(tmp_path / "link").labels, opened.labels)


@pytest.mark.parametrize("on_disk, in_table", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_in_another_normal_form(tmp_path, on_disk, in_table):
    make_images(tmp_path, 2)
    name = "caf\u00e9.png"
    Image.new("RGB", (32, 32)).save(tmp_path / unicodedata.normalize(on_disk, name))
    rows = [
        "file,A",
        f"{unicodedata.normalize(in_table, name)},1",
        f"{NAMES[0]},0",
        f"{NAMES[1]},0",
    ]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    opened = open_data(tmp_path)
    assert opened.files[0] == unicodedata.normalize(on_disk, name)
    np.testing.assert_array_equal(opened.labels[:, 0], [1, 0, 0])
    Image.new("RGB", (32, 32)).save(tmp_path / unicodedata.normalize(in_table, name))
    rows.append(f"{unicodedata.normalize(on_disk, name)},0")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert open_data(tmp_path).labels[:2].sum() == 1, "each of two such files has its own row"


def test_a_note_on_a_name_that_is_not_utf8_can_be_printed(tmp_path):
    make_images(tmp_path, 2)
    Image.new("RGB", (32, 32)).save(tmp_path / os.fsdecode(b"caf\xe9.png"))
    rows = b"file,A\n./caf\xe9.png,1\n%b,0\n%b,0\n" % tuple(name.encode() for name in NAMES[:2])
    (tmp_path / "labels.csv").write_bytes(rows)
    opened = open_data(tmp_path)
    np.testing.assert_array_equal(opened.labels[:, 0], [1, 0, 0])
    assert "(./caf\\udce9.png is caf\\udce9.png)" in opened.notes[0] and opened.notes[0].encode()


def test_a_name_that_fits_two_files_is_refused(tmp_path):
    make_images(tmp_path / "photos", 2)
    for name in ("X.png", "x.png"):
        Image.new("RGB", (32, 32)).save(tmp_path / "photos" / name)
    if len(os.listdir(tmp_path / "photos")) < 4:
        pytest.skip("the file system ignores case")
    (tmp_path / "photos" / "labels.csv").write_text("file,A\nX.PNG,1\n")
    with pytest.raises(UserError, match=r"labels.csv: X.PNG may be X.png or x.png; write"):
        open_data(tmp_path / "photos")


def test_a_back_slash_may_belong_to_a_name(tmp_path):
    make_images(tmp_path, 2)
    Image.new("RGB", (32, 32)).save(tmp_path / "a\\b.png")
    (tmp_path / "labels.csv").write_text(f"file,A\na\\b.png,1\n{NAMES[0]},0\n{NAMES[1]},0\n")
    opened = open_data(tmp_path)
    assert opened.files[0] == "a\\b.png" and opened.notes == ()
    np.testing.assert_array_equal(opened.labels[:, 0], [1, 0, 0])


@pytest.mark.parametrize("name", ["Labels.csv", "labels.CSV", "LABELS.CSV"])
def test_the_name_of_the_table_in_another_case(tmp_path, name):
    make_images(tmp_path, 3)
    (tmp_path / name).write_text("file,A\n" + "".join(f"{file},1\n" for file in NAMES))
    assert open_data(tmp_path).labels.sum() == 3
    (tmp_path / "labels.csv").write_text((tmp_path / name).read_text())
    if len([file for file in os.listdir(tmp_path) if file.lower() == "labels.csv"]) == 2:
        with pytest.raises(UserError, match=f"contains {name} and labels.csv; keep only one"):
            open_data(tmp_path)


# ---- sub-folders as classes --------------------------------------------------------------------


def class_folders(path, *names):
    """Two images in each sub-folder, at two depths."""
    for index, name in enumerate(names):
        for file in ("a.png", "deep/b.png"):
            (path / name / file).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (20 * index,) * 3).save(path / name / file)
    return path


@pytest.mark.parametrize(
    "folders, names, labels",
    [
        (("neutral", "smiling"), ("neutral", "smiling"), [[1, 0], [1, 0], [0, 1], [0, 1]]),
        (("Smiling", "not_smiling"), ("Smiling",), [[1], [1], [0], [0]]),
        (("No Hat", "hat"), ("hat",), [[0], [0], [1], [1]]),
        (("cafe\u0301", "tea"), ("caf\u00e9", "tea"), [[1, 0], [1, 0], [0, 1], [0, 1]]),
        (
            ("a", "b", "c1"),
            ("a", "b", "c1"),
            [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]],
        ),
    ],
)
def test_sub_folders_are_classes(tmp_path, folders, names, labels):
    said = []
    (tmp_path / "empty").mkdir()
    opened = open_data(class_folders(tmp_path, *folders), said.append)
    assert opened.attribute_names == names and opened.files[0] == f"{folders[0]}/a.png"
    np.testing.assert_array_equal(opened.labels, labels)
    assert f"data: {opened.notes[0]}" in said
    assert opened.notes[0].startswith(f"no labels.csv in {tmp_path}; ")
    if len(names) == 1:
        assert f"the attribute is {names[0]}: 1 in sub-folder {names[0]}, 0 in " in opened.notes[0]
    else:
        assert f"each of {len(names)} sub-folders is an attribute (" in opened.notes[0]


@pytest.mark.parametrize(
    "folders, reason",
    [
        (("all/smiling", "all/neutral"), None),
        (("train", "other"), "sub-folder train is part of a split, no class"),
        (("00000", "01000"), "sub-folders such as 00000 are numbered, no classes"),
        (("2023-01", "2023-02"), "sub-folders such as 2023-01 are numbered, no classes"),
        (tuple(f"p{n:02d}" for n in range(41)), "41 sub-folders are more than 40, no classes"),
    ],
)
def test_sub_folders_that_are_no_classes(tmp_path, folders, reason):
    said = []
    opened = open_data(class_folders(tmp_path, *folders), said.append)
    assert opened.attribute_names == () and len(opened.files) == 2 * len(folders)
    missing = f"data: no labels.csv in {tmp_path}"
    assert f"{missing}{'; ' + reason if reason else ''}: the images have no labels" in said


def test_a_table_is_read_instead_of_sub_folders(tmp_path):
    class_folders(tmp_path, "neutral", "smiling")
    rows = [
        f"{name}/{file},1" for name in ("neutral", "smiling") for file in ("a.png", "deep/b.png")
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["file,A", *rows]))
    assert open_data(tmp_path).attribute_names == ("A",)


def test_sub_folders_that_may_mean_something_else_are_refused(tmp_path):
    without = "for images without labels move all of them into a single sub-folder"
    three = class_folders(tmp_path / "three", "smiling", "no-smiling", "hat")
    with pytest.raises(
        UserError, match=f"smiling and no-smiling do not say .* labels.csv, or {without}"
    ):
        open_data(three)
    answers = class_folders(tmp_path / "answers", "Yes", "no")
    with pytest.raises(UserError, match=f"Yes, no do not name .* NAME and not_NAME, or {without}"):
        open_data(answers)
    odd = class_folders(tmp_path / "odd", "a=b", "c")
    with pytest.raises(UserError, match=f"--data_dir=.*{without}: 'a=b' cannot be an attribute's"):
        open_data(odd)
    beside = class_folders(tmp_path / "beside", "neutral", "smiling")
    Image.new("RGB", (32, 32)).save(beside / "x.png")
    with pytest.raises(UserError) as caught:
        open_data(beside)
    assert str(caught.value) == (
        f"--data_dir={beside}: x.png is beside the sub-folders neutral, smiling, so its class is "
        f"not known; move it into one of them, or {without}"
    )
    moved = tmp_path / "moved"
    moved.mkdir()
    beside.rename(moved / "all")  # the remedy
    assert open_data(moved).attribute_names == ()


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    make_images(tmp_path, 3)
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(
        UserError, match="cannot read the folder .*deep .Permission denied.; change"
    ):
        open_data(tmp_path)
