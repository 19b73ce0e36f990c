"""The names of the images that `cgan translate` writes."""

import os
import random
import time
import unicodedata
from pathlib import Path

import pytest

from cgan_tf.commands.output_files import plan_outputs, unique_names
from cgan_tf.core.errors import UserError


def plan(names, is_folder, output, overwrite=False):
    photos = [Path(name) for name in names]
    folder = photos[0].parent if is_folder else None
    return plan_outputs(photos, folder, str(output), overwrite)


@pytest.mark.parametrize(
    "photos, outputs",
    [
        (["a.jpg", "b.gif"], ["a.png", "b.png"]),
        (["a.jpg", "a.gif"], ["a.jpg.png", "a.gif.png"]),
        (["a.jpg", "a.jpg.gif", "a.png"], ["a.jpg.png", "a.jpg.gif.png", "a.png.png"]),
        (["a.jpg", "a.jpg.png", "a.png"], ["a.jpg.png", "a.jpg.png.png", "a.png.png"]),
        (["a.jpg", "a.jpg.png"], ["a.png", "a.jpg.png.png"]),
        (["A.jpg", "a.png", "b.PNG"], ["A.jpg.png", "a.png.png", "b.png"]),
        (["A.JPG", "a.jpg"], ["A.JPG.png", "a.jpg.2.png"]),
        (
            ["A.jpg", "a.JPG", "a.jpg", "a.jpg.2.gif"],
            ["A.jpg.png", "a.JPG.3.png", "a.jpg.4.png", "a.jpg.2.png"],
        ),
        (
            ["a.gif", "a.jpg", "a.jpg.gif", "a.jpg.gif.tif"],
            ["a.gif.png", "a.jpg.png", "a.jpg.gif.png", "a.jpg.gif.tif.png"],
        ),
    ],
)
def test_every_photo_has_an_output_of_its_own(photos, outputs):
    assert unique_names(photos) == outputs
    assert len({name.casefold() for name in outputs}) == len(outputs)


def test_normal_forms_of_unicode_are_one_name():
    names = unique_names([unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD")])
    assert len({unicodedata.normalize("NFC", name) for name in names}) == 2


def test_names_do_not_depend_on_the_order_of_the_photos():
    photos = ["a.jpg", "a.jpg.png", "a.png", "b.jpg", "b.jpg.gif", "c.gif"]
    names = dict(zip(photos, unique_names(photos), strict=True))
    random.Random(1).shuffle(photos)
    assert dict(zip(photos, unique_names(photos), strict=True)) == names


def test_any_names_are_unique():
    draw = random.Random(2)
    for _ in range(2000):
        photos = {
            "".join(draw.choices(["a", "A", ".jpg", ".JPG", ".png", ".2"], k=draw.randint(1, 4)))
            for _ in range(8)
        }
        photos = sorted(f"{photo}.jpg" for photo in photos)
        outputs = unique_names(photos)
        assert len({name.casefold() for name in outputs}) == len(photos), photos


def test_many_photos_take_no_time():
    distinct = [f"{index:05d}.jpg" for index in range(20_000)]
    pairs = [f"{index // 2:05d}.{('jpg', 'png')[index % 2]}" for index in range(20_000)]
    letters = "abcdefghijklmno"
    cases = [
        "".join(c.upper() if index >> bit & 1 else c for bit, c in enumerate(letters)) + ".jpg"
        for index in range(20_000)
    ]
    start = time.process_time()
    for photos in (distinct, pairs, cases):
        assert len({name.casefold() for name in unique_names(photos)}) == 20_000
    assert time.process_time() - start < 3


def test_plan_outputs(tmp_path):
    out = tmp_path / "out"
    assert plan(["x/a.jpg"], False, out / "b.png") == [out / "b.png"]
    assert plan(["x/a.jpg"], False, f"{out}/") == [out / "a.png"]
    assert plan(["x/a.jpg"], False, tmp_path) == [tmp_path / "a.png"]
    assert plan(["x/a.jpg", "x/b.gif"], True, out) == [out / "a.png", out / "b.png"]
    assert plan(["x/a.jpg", "x/a.gif"], True, out) == [out / "a.jpg.png", out / "a.gif.png"]
    assert not out.exists(), "planning writes nothing"


def test_plan_outputs_refuses(tmp_path, monkeypatch):
    taken = tmp_path / "a.png"
    taken.write_text("mine")
    with pytest.raises(UserError, match="a name that ends in .png, or a folder"):
        plan(["x/a.jpg"], False, tmp_path / "b.jpg")
    with pytest.raises(UserError, match=r"a.png exists; --overwrite replaces it"):
        plan(["x/a.jpg"], False, taken)
    with pytest.raises(UserError, match=r"a.png exists; --overwrite replaces it"):
        plan(["x/b.jpg", "x/a.jpg"], True, tmp_path)
    assert plan(["x/a.jpg"], False, taken, overwrite=True) == [taken]
    with pytest.raises(UserError, match="a.png is the photo itself"):
        plan([taken], False, taken, overwrite=True)
    with pytest.raises(UserError, match="--image is a folder, so give a folder here"):
        plan(["x/a.jpg", "x/b.jpg"], True, taken)
    with pytest.raises(UserError, match="a.png is a file; choose another folder"):
        plan(["x/a.jpg"], False, taken / "deep" / "b.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match="folder.png is a folder; choose another name"):
        plan(["x/folder.jpg"], True, tmp_path, overwrite=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="no permission to write in"):
        plan(["x/a.jpg"], False, tmp_path / "new" / "b.png")


def test_no_photo_of_the_folder_is_overwritten(tmp_path):
    photos = [tmp_path / name for name in ("a.gif", "a.jpg", "a.jpg.png")]
    for photo in photos:
        photo.touch()
    with pytest.raises(UserError, match="a.jpg.png is one of the photos; choose another name"):
        plan(photos, True, tmp_path, overwrite=True)


def test_results_are_in_a_tree_of_the_same_names(tmp_path):
    photos = [Path("x", name) for name in ("a.jpg", "s/a.jpg", "s/a.gif", "s/t/a.jpg")]
    targets = plan_outputs(photos, Path("x"), str(tmp_path), overwrite=False)
    names = ["a.png", "s/a.jpg.png", "s/a.gif.png", "s/t/a.png"]
    assert targets == [tmp_path / name for name in names]
    with pytest.raises(UserError, match="s/a.jpg.png exists; --overwrite replaces it"):
        (tmp_path / "s").mkdir()
        (tmp_path / "s" / "a.jpg.png").touch()
        plan_outputs(photos, Path("x"), str(tmp_path), overwrite=False)
    with pytest.raises(UserError, match="s/a.jpg.png is a file; choose another folder"):
        photos = [Path("x/a.jpg"), Path("x/s/a.jpg.png/b.jpg")]
        plan_outputs(photos, Path("x"), str(tmp_path), overwrite=True)


def test_folders_that_differ_only_in_case_have_results_of_their_own(tmp_path):
    photos = [Path("x", name) for name in ("S/a.jpg", "s/a.jpg")]
    targets = plan_outputs(photos, Path("x"), str(tmp_path), overwrite=False)
    assert targets == [tmp_path / name for name in ("S/a.jpg.png", "s/a.jpg.2.png")]


def test_a_result_with_the_name_of_a_folder_is_refused(tmp_path):
    photos = [Path("x/S.jpg"), Path("x/s.png/a.jpg")]
    with pytest.raises(UserError, match="--image=x: the result of x/S.jpg would be .*S.png, wh"):
        plan_outputs(photos, Path("x"), str(tmp_path), overwrite=False)
