"""The names of the images that `cgan translate` writes."""

import os
import random
import time
import unicodedata
from pathlib import Path

import pytest

from cgan_tf.commands.output_files import (
    finally_written,
    further_target,
    path_key,
    plan_outputs,
    unique_names,
)
from cgan_tf.core.errors import UserError

ALL = (".jpg", ".png", ".webp")


def plan(names, is_folder, output, overwrite=False, endings=ALL):
    photos = [Path(name) for name in names]
    folder = photos[0].parent if is_folder else None
    return plan_outputs(photos, folder, str(output), overwrite, endings)


@pytest.mark.parametrize(
    "photos, outputs",
    [
        (["a.jpg", "b.gif", "c.PNG"], ["a.jpg", "b.png", "c.PNG"]),
        (["a.jpg", "a.gif"], ["a.jpg", "a.png"]),
        (["a.gif", "a.png"], ["a.gif.png", "a.png"]),
        (["a.bmp", "a.gif", "a.jpg"], ["a.bmp.png", "a.gif.png", "a.jpg"]),
        (["a.gif", "a.gif.png", "a.png"], ["a.gif.2.png", "a.gif.png", "a.png"]),
        (["A.gif", "a.png", "b.PNG"], ["A.gif.png", "a.png", "b.PNG"]),
        (["A.JPG", "a.jpg"], ["A.JPG", "a.2.jpg"]),
        (["A.GIF", "a.gif"], ["A.GIF.png", "a.gif.2.png"]),
        (["A.jpg", "a.2.jpg", "a.JPG", "a.jpg"], ["A.jpg", "a.2.jpg", "a.3.JPG", "a.4.jpg"]),
    ],
)
def test_every_photo_has_an_output_of_its_own(photos, outputs):
    assert unique_names(photos, ALL) == outputs
    assert len({name.casefold() for name in outputs}) == len(outputs)


def test_faces_alone_are_png():
    names = unique_names(["a.jpg", "a.png", "b.jpg", "b.webp", "c.jpg"], (".png",))
    assert names == ["a.jpg.png", "a.png", "b.jpg.png", "b.webp.png", "c.png"]


def test_normal_forms_of_unicode_are_one_name():
    names = unique_names([unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD")], ALL)
    assert len({unicodedata.normalize("NFC", name) for name in names}) == 2


def test_names_do_not_depend_on_the_order_of_the_photos():
    photos = ["a.gif", "a.gif.png", "a.png", "b.bmp", "b.gif", "c.gif"]
    names = dict(zip(photos, unique_names(photos, ALL), strict=True))
    random.Random(1).shuffle(photos)
    assert dict(zip(photos, unique_names(photos, ALL), strict=True)) == names


def test_any_names_are_unique():
    draw = random.Random(2)
    for _ in range(2000):
        photos = {
            "".join(draw.choices(["a", "A", ".jpg", ".JPG", ".gif", ".2"], k=draw.randint(1, 4)))
            for _ in range(8)
        }
        photos = sorted(photo + draw.choice([".jpg", ".gif", ".png"]) for photo in photos)
        outputs = unique_names(photos, ALL)
        assert len({name.casefold() for name in outputs}) == len(photos), photos


def test_many_photos_take_no_time():
    distinct = [f"{index:05d}.jpg" for index in range(20_000)]
    pairs = [f"{index // 2:05d}.{('gif', 'png')[index % 2]}" for index in range(20_000)]
    letters = "abcdefghijklmno"
    cases = [
        "".join(c.upper() if index >> bit & 1 else c for bit, c in enumerate(letters)) + ".jpg"
        for index in range(20_000)
    ]
    start = time.process_time()
    for photos in (distinct, pairs, cases):
        assert len({name.casefold() for name in unique_names(photos, ALL)}) == 20_000
    assert time.process_time() - start < 3


def test_plan_outputs(tmp_path):
    out = tmp_path / "out"
    for name in ("b.png", "b.jpg", "b.WebP"):
        assert plan(["x/a.jpg"], False, out / name) == [out / name]
    assert plan(["x/a.jpg"], False, f"{out}/") == [out / "a.jpg"]
    assert plan(["x/a.gif"], False, tmp_path) == [tmp_path / "a.png"]
    assert plan(["x/a.jpg", "x/b.gif"], True, out) == [out / "a.jpg", out / "b.png"]
    assert plan(["x/a.jpg"], True, out, endings=(".png",)) == [out / "a.png"]
    assert not out.exists(), "planning writes nothing"


def test_plan_outputs_refuses(tmp_path, monkeypatch):
    taken = tmp_path / "a.png"
    taken.write_text("mine")
    for name in ("b.gif", "b"):
        with pytest.raises(UserError, match="a folder, or a name that ends in .jpg .png .webp$"):
            plan(["x/a.jpg"], False, tmp_path / name)
    with pytest.raises(UserError, match="a folder, or a name that ends in .png$"):
        plan(["x/a.jpg"], False, tmp_path / "b.jpg", endings=(".png",))
    with pytest.raises(UserError, match=r"a.png exists; --overwrite replaces it"):
        plan(["x/a.jpg"], False, taken)
    with pytest.raises(UserError, match=r"a.png exists; --overwrite replaces it"):
        plan(["x/b.jpg", "x/a.png"], True, tmp_path)
    assert plan(["x/a.jpg"], False, taken, overwrite=True) == [taken]
    with pytest.raises(UserError, match="a.png is the photo itself"):
        plan([taken], False, taken, overwrite=True)
    with pytest.raises(UserError, match="--image is a folder, so give a folder here"):
        plan(["x/a.jpg", "x/b.jpg"], True, taken)
    with pytest.raises(UserError, match="a.png is a file; choose another folder"):
        plan(["x/a.jpg"], False, taken / "deep" / "b.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match="folder.png is a folder; choose another name"):
        plan(["x/folder.gif"], True, tmp_path, overwrite=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="no permission to write in"):
        plan(["x/a.jpg"], False, tmp_path / "new" / "b.png")


def test_no_photo_of_the_folder_is_overwritten(tmp_path):
    photos = [tmp_path / name for name in ("a.gif", "b.jpg")]
    for photo in photos:
        photo.touch()
    with pytest.raises(UserError, match="b.jpg is one of the photos; choose another name"):
        plan(photos, True, tmp_path, overwrite=True)


def test_results_are_in_a_tree_of_the_same_names(tmp_path):
    photos = [Path("x", name) for name in ("a.jpg", "s/a.jpg", "s/a.gif", "s/t/a.jpg")]
    targets = plan_outputs(photos, Path("x"), str(tmp_path), False, ALL)
    names = ["a.jpg", "s/a.jpg", "s/a.png", "s/t/a.jpg"]
    assert targets == [tmp_path / name for name in names]
    with pytest.raises(UserError, match="s/a.png exists; --overwrite replaces it"):
        (tmp_path / "s").mkdir()
        (tmp_path / "s" / "a.png").touch()
        plan_outputs(photos, Path("x"), str(tmp_path), False, ALL)
    with pytest.raises(UserError, match="s/a.png is a file; choose another folder"):
        photos = [Path("x/a.jpg"), Path("x/s/a.png/b.jpg")]
        plan_outputs(photos, Path("x"), str(tmp_path), True, ALL)


def test_folders_that_differ_only_in_case_have_results_of_their_own(tmp_path):
    photos = [Path("x", name) for name in ("S/a.jpg", "s/a.jpg")]
    targets = plan_outputs(photos, Path("x"), str(tmp_path), False, ALL)
    assert targets == [tmp_path / name for name in ("S/a.jpg", "s/a.2.jpg")]


def test_a_result_with_the_name_of_a_folder_is_refused(tmp_path):
    photos = [Path("x/S.gif"), Path("x/s.png/a.jpg")]
    with pytest.raises(UserError, match="--image=x: the result of x/S.gif would be .*S.png, wh"):
        plan_outputs(photos, Path("x"), str(tmp_path), False, ALL)


def test_further_results_of_a_photo_have_names_of_their_own():
    taken = {path_key(Path(name)) for name in ("s/a.png", "s/b.png", "s/B.2.PNG")}
    names = [further_target(Path("s/a.png"), number, taken).as_posix() for number in (2, 3)]
    assert names == ["s/a.2.png", "s/a.3.png"]
    names = [further_target(Path("s/b.png"), number, taken).as_posix() for number in (2, 3)]
    assert names == ["s/b.3.png", "s/b.4.png"]


def test_the_files_beside_the_results_are_not_overwritten(tmp_path):
    (tmp_path / "labels.csv").write_text("mine")
    (tmp_path / "marker").mkdir()
    photos = [Path("x/a.jpg")]
    for beside, overwrite, message in (
        (("labels.csv",), False, "labels.csv exists; --overwrite replaces it"),
        (("marker",), True, "marker is a folder; choose another folder"),
    ):
        with pytest.raises(UserError, match=message):
            plan_outputs(photos, Path("x"), str(tmp_path), overwrite, ALL, beside)
    for beside, overwrite in ((("labels.csv",), True), ((), False)):
        planned = plan_outputs(photos, Path("x"), str(tmp_path), overwrite, ALL, beside)
        assert planned == [tmp_path / "a.jpg"]


def test_a_table_is_written_after_an_error_too():
    written = []

    def fail():
        written.append(2)
        raise OSError

    with finally_written(lambda: written.append(1)):
        pass
    with pytest.raises(KeyboardInterrupt), finally_written(fail):
        raise KeyboardInterrupt
    assert written == [1, 2]
    with pytest.raises(OSError), finally_written(fail):
        pass
