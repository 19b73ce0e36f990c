"""The align command: where the faces land, their names, labels and framing, and what it refuses."""

import csv
import os
import signal
from pathlib import Path

import command_flags
import numpy as np
import pytest
from face_pictures import photo_with_faces
from PIL import Image

from cgan_tf import data
from cgan_tf.commands import align
from cgan_tf.core import cli
from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.data import alignment, images, portraits
from cgan_tf.data.face_crop import FaceBox, crop_face

ONE = (1, 450, 350, 300, 0)  # index, center x, y, side and clockwise tilt of a drawn face
TILTED = (1, 450, 350, 300, 20)
TWO = ((1, 200, 250, 220, 0), (5, 620, 380, 320, 0))


@pytest.fixture
def photos(tmp_path):
    """A folder of photos; `add` draws one."""
    return Folder(tmp_path / "photos")


class Folder:
    def __init__(self, path):
        self.path = path
        path.mkdir()

    def add(self, name, *places, **options):
        """A photo with drawn faces; without places, one without a face."""
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo_with_faces(*places, **options)).save(self.path / name)

    def write(self, name, text):
        (self.path / name).write_text(text)


def command(image, output, *more):
    """Runs the command in this process."""
    arguments = [f"--image={getattr(image, 'path', image)}", f"--output={output}", *more]
    return command_flags.run(align.define_flags, align.main, arguments)


def table(path):
    """The rows of a CSV file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def listing(folder):
    """All files below a folder."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def mean_difference(one, other):
    """Mean difference of two squares in levels, in the middle half of their sides."""
    part = (slice(len(one) // 4, -len(one) // 4),) * 2
    return float(np.mean(np.abs(np.float32(one[part]) - np.float32(other[part]))))


# ---- where the faces land ----------------------------------------------------------------------


def test_a_face_lands_where_translate_crops_it(photos, tmp_path, capsys):
    photos.add("a.png", ONE)
    assert command(photos, tmp_path / "out", "--size=64") == 0
    printed = capsys.readouterr()
    pixels = images.decode_file(photos.path / "a.png")
    (portrait,) = portraits.portraits(pixels, 64, aligned=True, which=portraits.ALL)
    np.testing.assert_array_equal(images.decode_file(tmp_path / "out" / "a.png"), portrait.crop)
    (row,) = table(tmp_path / "out" / "align.csv")
    assert list(row) == list(alignment.COLUMNS)
    assert (row["file"], row["status"], row["output"]) == ("a.png", "aligned", "a.png")
    assert (row["face"], row["faces"], row["note"]) == ("1", "1", "")
    for name in ("x", "y", "side", "angle"):
        assert abs(float(row[name]) - getattr(portrait.face, name)) <= 0.05, name
    # The drawn face is framed as CelebA's crop is.
    assert abs(float(row["x"]) - 450) < 10 and abs(float(row["y"]) - 350) < 15
    assert abs(float(row["side"]) - 300) < 30 and abs(float(row["angle"])) < 6
    assert row["in_photo"] == "1.000"
    line = f"{tmp_path / 'out' / 'align.csv'}: 1 face aligned in 1 photo, 0 photos skipped\n"
    assert (printed.out, printed.err) == (line, "")


def test_a_tilted_face_becomes_upright(photos, tmp_path):
    photos.add("a.png", ONE)
    photos.add("b.png", TILTED)
    command(photos, tmp_path / "out", "--size=128")
    straight, tilted = table(tmp_path / "out" / "align.csv")
    assert abs(float(tilted["angle"]) - float(straight["angle"]) - 20) < 3
    expected, aligned = (images.decode_file(tmp_path / "out" / f"{name}.png") for name in "ab")
    pixels = images.decode_file(photos.path / "b.png")
    box = FaceBox(*(float(tilted[name]) for name in ("x", "y", "side")))  # not turned
    askew = crop_face(pixels, box, 128)
    assert mean_difference(aligned, expected) < 0.5 * mean_difference(askew, expected)


def test_a_square_has_the_size_of_its_face(photos, tmp_path, capsys):
    photos.add("a.png", ONE)
    photos.add("b.png", (1, 450, 350, 150, 0))
    photos.add("c.png", (1, 400, 400, 780, 0), size=(800, 800))
    command(photos, tmp_path / "own")
    rows = table(tmp_path / "own" / "align.csv")
    sizes = [Image.open(tmp_path / "own" / row["output"]).size for row in rows]
    for size, row in zip(sizes[:2], rows[:2], strict=True):
        assert size[0] == size[1] and 0 <= size[0] - float(row["side"]) <= 1.05
    assert sizes[2] == (512, 512) and float(rows[2]["side"]) > 600
    assert not any("enlarged" in row["note"] for row in rows)
    capsys.readouterr()
    command(photos, tmp_path / "fixed", "--size=256")
    rows = table(tmp_path / "fixed" / "align.csv")
    assert {Image.open(tmp_path / "fixed" / row["output"]).size for row in rows} == {(256, 256)}
    notes = [row["note"] for row in rows]
    assert notes == ["", f"enlarged from {float(rows[1]['side']):.0f} px", notes[2]]
    assert "enlarged" not in notes[2]
    assert capsys.readouterr().out.endswith("; 1 face enlarged to --size=256\n")


def test_a_face_at_the_edge_is_noted(photos, tmp_path):
    photos.add("a.png", (1, 30, 250, 220, 0))
    command(photos, tmp_path / "out")
    (row,) = table(tmp_path / "out" / "align.csv")
    assert 0.5 < float(row["in_photo"]) < 0.8
    assert row["note"].startswith("cut: only ") and "whose edge is repeated" in row["note"]


# ---- names, labels, faces ----------------------------------------------------------------------


def test_a_tree_keeps_its_names_and_labels(photos, tmp_path, capsys):
    photos.add("ann/a.jpg", ONE)
    photos.add("ann/b.jpg")
    photos.add("bob/a.jpg", TILTED)
    photos.add("bob/a.png", ONE)
    photos.write("bob/broken.jpg", "no photo")
    rows = [
        "bob/a.jpg,0,1",
        "ann/a.jpg,1,0",
        "ann/b.jpg,1,1",
        "bob/a.png,0,0",
        "bob/broken.jpg,1,1",
    ]
    photos.write("labels.csv", "\n".join(["file,Smiling,Old Hat", *rows]))
    assert command(photos, tmp_path / "out") == 0
    printed = capsys.readouterr()
    out = tmp_path / "out"
    results = ["ann/a.png", "bob/a.jpg.png", "bob/a.png"]
    assert listing(out) == sorted([*results, "align.csv", "framing.json", "labels.csv"])
    assert (out / "labels.csv").read_text().splitlines() == [
        "file,Smiling,Old Hat",
        "bob/a.jpg.png,-1,1",
        "ann/a.png,1,-1",
        "bob/a.png,-1,-1",
    ]
    made = [(row["file"], row["status"], row["output"]) for row in table(out / "align.csv")]
    assert made == [
        ("ann/a.jpg", "aligned", "ann/a.png"),
        ("ann/b.jpg", "skipped", ""),
        ("bob/a.jpg", "aligned", "bob/a.jpg.png"),
        ("bob/a.png", "aligned", "bob/a.png"),
        ("bob/broken.jpg", "skipped", ""),
    ]
    assert f"skipped: {photos.path / 'ann/b.jpg'}: no face found\n" in printed.err
    assert "broken.jpg: not an image file\n" in printed.err and printed.err.count("\n") == 2
    assert printed.out.endswith(
        "3 faces aligned in 3 photos, 2 photos skipped; labels.csv: 3 rows carried over, 2 rows "
        "without a face left out\n"
    )


def test_the_results_are_a_data_set_of_known_framing(photos, tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        photos.add(name, ONE)
    photos.add("d.png")
    photos.write("labels.csv", "file;Smiling\na.png;1\n./b.png;0\nC.png;1\nd.png;0\n")
    out = tmp_path / "out"
    command(photos, out, "--size=32")
    config = Config(
        data="folder", data_dir=str(out), cache_dir=str(tmp_path / "cache"), resolution=32
    )
    opened = data.open_data(config, say=lambda line: None)
    assert opened.files == ("a.png", "b.png", "c.png") and opened.framing == "celeba"
    assert opened.attribute_names == ("Smiling",) and opened.labels.tolist() == [[1], [0], [1]]
    # The data set's crop keeps the complete squares.
    np.testing.assert_array_equal(opened.read([0])[0], images.decode_file(out / "a.png"))


def test_the_largest_face_one_of_them_or_all(photos, tmp_path, capsys):
    photos.add("a.jpg", *TWO)
    photos.add("a.2.png", ONE)
    for options, expected in (
        ([], [("a.2.png", "1", 450), ("a.png", "1", 620)]),
        (["--face=2"], [("a.png", "2", 200)]),
        (["--face=all"], [("a.2.png", "1", 450), ("a.png", "1", 620), ("a.3.png", "2", 200)]),
    ):
        out = tmp_path / f"out{len(options)}{''.join(options)}"
        assert command(photos, out, *options) == 0
        rows = table(out / "align.csv")
        made = [(row["output"], row["face"]) for row in rows if row["status"] == "aligned"]
        assert made == [(name, face) for name, face, _ in expected]
        assert [row["faces"] for row in rows if row["file"] == "a.jpg"] == ["2"] * (
            1 + (options == ["--face=all"])
        )
        for row, (_, _, x) in zip(
            [row for row in rows if row["status"] == "aligned"], expected, strict=True
        ):
            assert abs(float(row["x"]) - x) < 20
        names = [name for name, _, _ in expected]
        assert listing(out) == sorted([*names, "align.csv", "framing.json"])
    assert "a.2.png: --face=2: only 1 face was found" in capsys.readouterr().err


# ---- refusals ----------------------------------------------------------------------------------


def test_refused(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos.add("a.jpg", ONE)
    photos.add("sub/b.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "mine" / "me.png")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "framing.json").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    own = "contains the photos of --image; give a folder of its own"
    for options, line in (
        ({"image": "nowhere"}, "--image=nowhere: no such file or folder; give"),
        ({"image": "photos/a.jpg"}, "--image=photos/a.jpg: is a file; give the folder of the"),
        ({"image": "empty"}, "--image=empty: no photos in this folder; their names end in"),
        ({"image": "photos/sub"}, "--image=photos/sub: none of its 1 photos could be aligned"),
        ({"image": ""}, "--image: not given; see --help"),
        ({"output": ""}, "--output: not given; see --help"),
        ({"output": "photos"}, f"--output=photos: {own}"),
        ({"output": "."}, f"--output=.: {own}"),
        ({"output": "file"}, "--output=file: file is a file; choose another folder"),
        ({"output": "out.png"}, "--output=out.png: --image is a folder, so give a folder here"),
        (
            {"output": "mine"},
            "--output=mine: contains 1 image (such as me.png) that would be trained on; "
            "--overwrite replaces the results of an earlier run; or give another folder",
        ),
        (
            {"output": "mine", "overwrite": "true"},
            "--output=mine: contains 1 image (such as me.png) that would be trained on; delete",
        ),
        (
            {"output": "notes"},
            "--output=notes: notes/framing.json exists; --overwrite replaces it",
        ),
        ({"face": "center"}, "--face=center: give all, or a number (1 is the largest face)"),
        ({"face": "0"}, "--face=0: give all, or a number (1 is the largest face)"),
        ({"size": "31"}, "--size=31: 31 is not an integer in the range [32, 2048] (see --help)"),
        ({"sise": "31"}, "--sise: unknown flag; did you mean --size? (see --help)"),
    ):
        given = {"image": "photos", "output": "out"} | options
        code = command_flags.run_line("align", *(f"--{n}={v}" for n, v in given.items()))
        printed = capsys.readouterr()
        *skipped, error = printed.err.splitlines()
        assert (code, printed.out) == (cli.USER_ERROR_CODE, ""), options
        assert error.startswith(f"error: {line}"), options
        assert all(other.startswith("skipped: ") for other in skipped)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize(
    "rows, options, message",
    [
        ("a.png,1", ["--face=all"], "--face=all: .*labels.csv has one row per photo, not one per"),
        ("b.png,1", [], "labels.csv does not match --image=.*: 1 row without an image"),
        ("a.png,2", [], "labels.csv, line 2: values are -1 and 1, or 0 and 1"),
    ],
)
def test_labels_that_do_not_fit_are_refused(photos, tmp_path, rows, options, message):
    photos.add("a.png", ONE)
    photos.write("labels.csv", f"file,Smiling\n{rows}\n")
    with pytest.raises(UserError, match=message):
        command(photos, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_overwrite_replaces_an_earlier_run_and_names_what_is_left(photos, tmp_path, capsys):
    photos.add("a.png", *TWO)
    out = tmp_path / "out"
    command(photos, out, "--face=all")
    assert listing(out) == ["a.2.png", "a.png", "align.csv", "framing.json"]
    (out / "a.png").write_bytes(b"old")
    capsys.readouterr()
    with pytest.raises(UserError, match="a.png exists; --overwrite replaces it"):
        command(photos, out)
    assert (out / "a.png").read_bytes() == b"old"
    assert command(photos, out, "--overwrite") == 0
    assert images.decode_file(out / "a.png").ndim == 3
    assert capsys.readouterr().err == (
        f"note: 1 image of an earlier run left in {out} (such as a.2.png); delete them before a "
        "training\n"
    )


def test_the_output_may_be_within_the_folder(photos):
    photos.add("a.png", ONE)
    out = photos.path / "aligned"
    for _ in range(2):  # the second time its results are no photos
        assert command(photos, out, "--overwrite") == 0
        assert [row["file"] for row in table(out / "align.csv")] == ["a.png"]


def test_ctrl_c_leaves_the_table_but_no_framing(photos, tmp_path, monkeypatch, capsys):
    for name in ("a.png", "b.png"):
        photos.add(name, ONE)
    save = images.save_png

    def interrupted(path, pixels):
        if Path(path).name == "b.png":
            raise KeyboardInterrupt
        save(path, pixels)

    monkeypatch.setattr(images, "save_png", interrupted)
    out = tmp_path / "out"
    code = command_flags.run_line("align", f"--image={photos.path}", f"--output={out}")
    assert code == 128 + signal.SIGINT and capsys.readouterr().err == "error: interrupted\n"
    assert sorted(os.listdir(out)) == ["a.png", "align.csv"]
    assert [row["file"] for row in table(out / "align.csv")] == ["a.png"]
