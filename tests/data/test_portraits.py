"""Portraits: which files are photos, and which squares of them a model sees."""

import numpy as np
import pytest
from face_pictures import photo_with_faces

from cgan_tf.core.errors import UserError
from cgan_tf.data import images, portraits


def test_find_photos(tmp_path):
    for name in ("b.PNG", "a.jpeg", ".hidden.png", "notes.txt", "c.webp"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = portraits.find_photos(str(tmp_path))
    assert [path.name for path in found] == ["a.jpeg", "b.PNG", "c.webp"]
    assert portraits.find_photos(str(tmp_path / "notes.txt")) == [tmp_path / "notes.txt"]
    with pytest.raises(UserError, match="no photos in this folder"):
        portraits.find_photos(str(tmp_path / "folder.png"))
    with pytest.raises(UserError, match="gone.png: no such file or folder"):
        portraits.find_photos(str(tmp_path / "gone.png"))


def test_photos_of_a_tree_without_hidden_folders_and_the_results(tmp_path):
    names = ("b.png", "s/a.JPG", "s/t/c.png", "out/b.png", ".hidden/x.png", "s/.x.png", "s/n.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "s" / "again").symlink_to(tmp_path)
    found = portraits.find_photos(str(tmp_path), leave_out=tmp_path / "s" / ".." / "out")
    assert [portraits.photo_name(path, tmp_path) for path in found] == list(names[:3])
    assert portraits.describe_folders(found) == "3 photos in 3 folders"
    assert portraits.describe_folders(found[:1]) == ""
    everything = portraits.find_photos(str(tmp_path), leave_out=tmp_path)
    assert len(everything) == 4, "results next to the photos are photos, as before"


TREE = ("a.png", "edited/a.png", "edited/s/b.png", "faces/a.png", "mine/c.png", "new/d.png")


@pytest.fixture
def tree(tmp_path):
    """Photos, what `cgan translate` and `cgan align` made of some, and a table of the user's."""
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "edited" / "translate.csv").write_text("file,status,output,face\na.png,edited,")
    (tmp_path / "faces" / "align.csv").write_text("file,status,face,faces\n")
    (tmp_path / "mine" / "translate.csv").write_text("word,Wort\n")
    return tmp_path


def listed(found, folder):
    return [portraits.photo_name(path, folder) for path in found]


def test_the_results_of_earlier_commands_are_no_photos(tree, capsys):
    found = portraits.find_photos(str(tree), leave_out=tree / "new")
    assert listed(found, tree) == ["a.png", "mine/c.png"]
    assert capsys.readouterr().err.splitlines() == [
        f"note: 2 photos in {tree}/edited left out: results of an earlier command (translate.csv); "
        "name this folder to read them",
        f"note: 1 photo in {tree}/faces left out: results of an earlier command (align.csv); name "
        "this folder to read them",
        f"note: 1 photo in {tree}/new left out: it is the folder of the results",
    ]


def test_results_are_read_where_they_are_named(tree, capsys):
    for place, names in (("edited", ["a.png", "s/b.png"]), ("faces", ["a.png"])):
        assert listed(portraits.find_photos(str(tree / place)), tree / place) == names
    for name in ("a.png", "mine/c.png", "new/d.png"):
        (tree / name).unlink()
    assert listed(portraits.find_photos(str(tree)), tree) == list(TREE[1:4])
    assert capsys.readouterr().err == ""


def test_crop_photo():
    draw = np.random.default_rng(0)
    wide = draw.integers(0, 256, (40, 60, 3), np.uint8)
    crop, words = portraits.crop_photo(wide, 32, aligned=True)
    np.testing.assert_array_equal(crop, images.center_square_resize(wide, 32))
    assert words == "60x40, center square of 40 px"
    aligned = draw.integers(0, 256, (109, 89, 3), np.uint8)
    crop, words = portraits.crop_photo(aligned, 32, aligned=True)
    np.testing.assert_array_equal(crop, images.celeba_crop_resize(aligned, 32))
    assert words == "89x109, CelebA's crop"
    crop, words = portraits.crop_photo(aligned, 32, aligned=False)
    np.testing.assert_array_equal(crop, images.center_square_resize(aligned, 32))
    assert words == "89x109, center square of 89 px"


def test_parse_face():
    for text, value in {"all": "all", "center": "center", "1": 1, "12": 12}.items():
        assert portraits.parse_face(text) == value
    for text in ("0", "-1", "first", "1.5", ""):
        with pytest.raises(UserError, match=f"^--face={text}: give all, center, or a number"):
            portraits.parse_face(text)


def test_choose_face():
    assert portraits.choose_face(None, aligned=True) == "all"
    assert portraits.choose_face(None, aligned=False) == "center"
    assert portraits.choose_face("2", aligned=True) == 2
    assert portraits.choose_face("center", aligned=True) == "center"
    with pytest.raises(UserError, match="--face=1: this model was trained on the center"):
        portraits.choose_face("1", aligned=False)


def test_an_aligned_photo_is_not_searched_for_faces():
    draw = np.random.default_rng(0)
    aligned = draw.integers(0, 256, (218, 178, 3), np.uint8)
    (portrait,) = portraits.portraits(aligned, 64, aligned=True, which=portraits.ALL)
    np.testing.assert_array_equal(portrait.crop, images.celeba_crop_resize(aligned, 64))
    assert (portrait.face.x, portrait.face.y, portrait.face.side) == (89.0, 109.0, 148.0)
    (portrait,) = portraits.portraits(aligned, 64, aligned=False, which=portraits.CENTER)
    assert (portrait.face.x, portrait.face.y, portrait.face.side) == (89.0, 109.0, 178.0)
    with pytest.raises(UserError, match="no face found; --face=center takes the center"):
        portraits.portraits(aligned, 64, aligned=True, which=1)


def test_tiny_cut_and_tilted_faces_are_reported():
    (portrait,) = portraits.portraits(
        photo_with_faces((1, 450, 350, 300, 20)), 512, True, portraits.ALL
    )
    assert "tiny: smaller than the model's 512 px" in portrait.words
    assert "tilted +2" in portrait.words or "tilted +1" in portrait.words
    assert portrait.words.startswith("900x700, face of ") and "cut" not in portrait.words
    (portrait,) = portraits.portraits(
        photo_with_faces((1, 30, 250, 220, 0)), 32, True, portraits.ALL
    )
    assert "cut: " in portrait.words and "tiny" not in portrait.words
