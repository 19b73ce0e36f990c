"""Where the images go that `cgan translate` and `cgan align` write."""

import os
from pathlib import Path

import pytest

from cgan_tf.commands.output_files import plan_outputs
from cgan_tf.core.errors import UserError

ALL = (".jpg", ".png", ".webp")


def plan(names, is_folder, output, overwrite=False, endings=ALL):
    photos = [Path(name) for name in names]
    folder = photos[0].parent if is_folder else None
    return plan_outputs(photos, folder, str(output), overwrite, endings)


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
