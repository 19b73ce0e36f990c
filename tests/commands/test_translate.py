"""The translate command: what it reads, what it refuses, and that every model form agrees."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import command_flags
import fake_run
import numpy as np
import pytest
from face_pictures import photo_with_faces
from PIL import Image

from cgan_tf.commands import translate
from cgan_tf.core.errors import UserError
from cgan_tf.data import face_crop, images, portraits
from cgan_tf.editing import backends, description, projection, strengths

ROOT = Path(__file__).parents[2]
NAMES = ("Smiling", "Blond_Hair", "Eyeglasses")


@pytest.fixture
def photo(tmp_path):
    """A 60 x 40 px photo with something in it."""
    path = tmp_path / "photos" / "face.jpg"
    path.parent.mkdir()
    save_photo(path, 60, 40)
    return path


def save_photo(path, width, height, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)


def command(model, image, edit, output, *more):
    """Runs the command in this process."""
    arguments = [f"--model={model}", f"--image={image}", f"--edit={edit}", f"--output={output}"]
    return command_flags.run(translate.define_flags, translate.main, [*arguments, *more])


@pytest.fixture(scope="module")
def forms():
    """The same model as run folder, SavedModel and TFLite."""
    exported = fake_run.shared_export()
    return {
        "run": fake_run.shared_run().path,
        "saved_model": exported / "saved_model",
        "float32": exported / "translator_float32.tflite",
        "float16": exported / "translator_float16.tflite",
    }


# ---- where the pictures go -----------------------------------------------------------------------


def plan(names, folder, output, overwrite=False):
    return translate.plan_outputs([Path(name) for name in names], folder, str(output), overwrite)


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
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="may not write in"):
        plan(["x/a.jpg"], False, tmp_path / "new" / "b.png")


# ---- one face ----------------------------------------------------------------------------------


class Shift(backends.Editor):
    """Adds the first strength to the latent, which is the image."""

    def __init__(self, crop=description.SQUARE_CROP, psnr_p5=None):
        super().__init__(("Light",), 32, crop, psnr_p5)

    def run(self, signature, **inputs):
        if signature == "encode":
            return inputs["image"] * np.float32(0.9)
        assert signature == "generate"
        return inputs["latent"] + inputs["strengths"][:, 0, None, None, None]


def gray(value, *shape):
    return np.full((*shape, 3), value, np.uint8)


def one_portrait(pixels, **options):
    (portrait,) = portraits.portraits(pixels, 32, aligned=False, which=portraits.CENTER)
    drawer = translate.Drawer(Shift(), **options)
    latent = images.to_float(portrait.crop)
    return drawer.add(pixels, portrait, latent, np.float32([20 / 127.5]))


def test_an_edit_alone_and_its_strip():
    pixels = gray(100, 50, 50)
    np.testing.assert_array_equal(one_portrait(pixels, crop=True), gray(120, 32, 32))
    strip = one_portrait(pixels, strip=True)
    assert strip.shape == (32 + 16, 6 * 32, 3)
    assert strip[16, 16::32, 0].tolist() == [100, 80, 90, 100, 110, 120]
    labels = strip[32:]
    assert all(labels[:, start : start + 32].min() < 128 for start in range(0, 192, 32))


def test_a_face_is_pasted_into_the_whole_photo():
    pixels = gray(100, 40, 60)
    whole = one_portrait(pixels)
    assert whole.shape == pixels.shape
    assert (whole[15:25, 25:35] == 120).all(), "the middle is the edit"
    assert (whole[:, :10] == 100).all() and (whole[:, -10:] == 100).all(), "outside the square"
    assert (np.diff(np.int16(whole[20, 10:31, 0])) >= 0).all(), "the border is soft"
    assert (pixels == 100).all(), "the photo itself stays"


@pytest.mark.parametrize("alone", [False, True])
def test_only_what_the_edit_changes_reaches_the_photo(alone):
    # The latent is not what the photo is: the model's picture is darker.
    pixels = np.random.default_rng(1).integers(60, 180, (32, 32, 3), np.uint8)
    (portrait,) = portraits.portraits(pixels, 32, aligned=False, which=portraits.CENTER)
    drawer = translate.Drawer(Shift(), keep_detail=True, crop=alone)
    dark = np.full((32, 32, 3), -0.9, np.float32)
    edited = drawer.add(pixels, portrait, dark, np.float32([30 / 127.5]))
    np.testing.assert_array_equal(edited[14:18, 14:18], pixels[14:18, 14:18] + 30)
    assert np.abs(np.int16(edited[0]) - pixels[0]).max() <= 4, "the border all but stays"


def test_strengths_beyond_the_model_are_refused():
    crop = np.zeros((32, 32, 3), np.float32)
    with pytest.raises(UserError, match="not finite: lower them"):
        translate.Drawer(Shift()).draw(crop, np.float32([np.inf]))


# ---- whose faces -------------------------------------------------------------------------------


def edit_folder(folder, editor, which="all", **options):
    """Rows and pictures of `folder`'s photos, all strengths +20 levels."""
    paths = portraits.find_photos(str(folder))
    targets = [folder / "out" / f"{path.stem}.png" for path in paths]
    table = translate.Table(folder / "out" / translate.TABLE)
    inverter = translate.Inverter(editor, "encoder", None)
    drawer = translate.Drawer(editor, **options)
    wish = strengths.parse(f"Light={20 / 127.5}", None)
    readable = translate.read_photos(paths, targets, editor, which, table)
    for group in translate.grouped(readable, 1):
        translate.edit_group(group, inverter, drawer, wish, table)
    table.write()
    with open(table.path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_face_of_a_folder_is_accounted_for(tmp_path, capsys):
    Image.fromarray(photo_with_faces((1, 200, 250, 220, 0), (5, 620, 380, 320, 10))).save(tmp_path / "a.png")
    Image.fromarray(photo_with_faces((1, 30, 250, 220, 0))).save(tmp_path / "b.png")
    save_photo(tmp_path / "c.png", 300, 200)
    (tmp_path / "d.png").touch()
    rows = edit_folder(tmp_path, Shift(description.CELEBA_CROP))
    said = capsys.readouterr()
    assert [(row["file"], row["status"], row["face"], row["faces"]) for row in rows] == [
        ("a.png", "edited", "1", "2"),
        ("a.png", "edited", "2", "2"),
        ("b.png", "edited", "1", "1"),
        ("c.png", "skipped", "", ""),
        ("d.png", "skipped", "", ""),
    ]
    large, small, cut = rows[:3]
    assert abs(float(large["x"]) - 620) < 20 and abs(float(large["angle"]) - 10) < 8
    assert abs(float(small["x"]) - 200) < 20 and "face 2 of 2" in small["note"]
    assert 0.5 < float(cut["in_photo"]) < 0.8 and "cut: " in cut["note"]
    assert "no face found; --face=center" in rows[3]["note"] and "not an image" in rows[4]["note"]
    assert said.err.count("skipped: ") == 2 and said.out.count(" -> ") == 3
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "b.png", "translate.csv"]
    before, after = (
        np.int16(images.decode_file(tmp_path / name)) for name in ("a.png", "out/a.png")
    )
    changed = np.abs(after - before).max(axis=-1) > 4
    assert changed[330:430, 570:670].mean() > 0.5, "the large face's middle"
    assert changed[220:280, 170:230].mean() > 0.5, "the small face's"
    assert not changed[:, :40].any() and not changed[:100, 400:].any(), "elsewhere nothing"


def test_one_face_of_several(tmp_path):
    both = photo_with_faces((1, 200, 250, 220, 0), (5, 620, 380, 320, 0))
    Image.fromarray(both).save(tmp_path / "a.png")
    rows = edit_folder(tmp_path, Shift(description.CELEBA_CROP), which=2)
    assert len(rows) == 1 and rows[0]["faces"] == "1" and abs(float(rows[0]["x"]) - 200) < 20
    rows = edit_folder(tmp_path, Shift(description.CELEBA_CROP), which=3)
    assert [row["status"] for row in rows] == ["skipped"]
    assert rows[0]["note"].endswith("--face=3: only 2 faces were found")


def test_of_an_animation_the_first_picture_is_taken_and_said(tmp_path, capsys):
    first, *others = (Image.fromarray(gray(level, 40, 40)) for level in (50, 100, 200))
    first.save(tmp_path / "a.gif", save_all=True, append_images=others)
    edit_folder(tmp_path, Shift(), which="center")
    assert capsys.readouterr().err == f"{tmp_path / 'a.gif'}: the first of its 3 pictures\n"
    edited = images.decode_file(tmp_path / "out" / "a.png")
    assert abs(int(edited[20, 20, 0]) - (20 + 127.5 + 0.9 * (50 - 127.5))) < 2


def test_a_photo_without_color_gets_none(tmp_path):
    Image.fromarray(gray(100, 40, 40)).save(tmp_path / "a.png")

    class Red(Shift):
        def run(self, signature, **inputs):
            return super().run(signature, **inputs) * np.float32([1, 0, 0])

    edit_folder(tmp_path, Red(), which="center")
    edited = images.decode_file(tmp_path / "out" / "a.png")
    assert np.ptp(edited) > 4 and (edited == edited[..., :1]).all()


def test_a_photo_unlike_the_training_photos_is_said(tmp_path, capsys):
    save_photo(tmp_path / "a.png", 40, 40)
    # The reconstruction is 0.9 times the photo: its PSNR has a closed form.
    crop = images.to_float(images.center_square_resize(images.decode_file(tmp_path / "a.png"), 32))
    exact = 10 * np.log10(4 / np.mean(np.square(0.1 * crop)))
    rows = edit_folder(tmp_path, Shift(psnr_p5=exact - 0.1), which="center")
    assert abs(float(rows[0]["psnr"]) - exact) < 0.01 and "unlike" not in rows[0]["note"]
    assert capsys.readouterr().err == ""
    rows = edit_folder(tmp_path, Shift(psnr_p5=exact + 0.1), which="center")
    words = f"unlike the training photos: drawn at {exact:.1f} dB, nearly all of them at"
    assert words in rows[0]["note"] and words in capsys.readouterr().err


# ---- the forms of a model ----------------------------------------------------------------------


def test_every_form_gives_the_same_picture(forms, photo, tmp_path, capsys):
    edit = "Smiling=+0.5,Eyeglasses=-0.25"
    pictures = {}
    for name, model in forms.items():
        assert command(model, photo, edit, tmp_path / f"{name}.png", "--crop") == 0
        pictures[name] = np.int16(Image.open(tmp_path / f"{name}.png"))
        said = f"{photo} (60x40, center square of 40 px) -> {tmp_path / name}.png: "
        assert capsys.readouterr() == (f"{said}Smiling +0.5, Eyeglasses -0.25\n", "")
    assert pictures["run"].shape == (32, 32, 3)
    assert pictures["run"].std() > 20, "a gray picture shows nothing"
    assert np.abs(pictures["saved_model"] - pictures["run"]).max() <= 1
    assert np.abs(pictures["float32"] - pictures["run"]).max() <= 1
    assert np.abs(pictures["float16"] - pictures["run"]).max() <= 4
    command(forms["run"], photo, "Smiling=0", tmp_path / "none.png", "--crop")
    unedited = np.int16(Image.open(tmp_path / "none.png"))
    assert np.abs(unedited - pictures["run"]).mean() > 1, "the edit must show"


def test_every_form_keeps_the_detail_alike(forms, photo, tmp_path):
    pictures = {}
    for name, model in forms.items():
        command(model, photo, "Smiling=0.5", tmp_path / f"{name}.png", "--keep_detail")
        pictures[name] = np.int16(images.decode_file(tmp_path / f"{name}.png"))
    for name in ("saved_model", "float32"):
        assert np.abs(pictures[name] - pictures["run"]).max() <= 1
    assert np.abs(pictures["float16"] - pictures["run"]).max() <= 4
    # The direction's factor, 1.5, has made the step longer.
    editor = backends.open_editor(str(forms["run"]))
    np.testing.assert_array_equal(editor.keep_detail.factors, np.float32([1.5, 1.5, 1.5]))
    pixels = images.decode_file(photo)
    (portrait,) = portraits.portraits(pixels, 32, False, portraits.CENTER)
    latent = editor.run("encode", image=images.to_float(portrait.crop[None]))
    before, after = (
        editor.run("generate", latent=latent, strengths=np.float32([[strength, 0, 0]]))[0]
        for strength in (0, 0.75)
    )
    acts = np.rint(fake_run.footprint("Smiling") * 255)[..., None] / 255
    after = before + np.float32(acts) * (after - before)
    pasted = face_crop.paste_face(pixels, after, portrait.face, before)
    assert np.abs(pictures["run"] - pasted).max() <= 1


def test_a_model_without_factors_says_so(photo, tmp_path, capsys):
    shutil.copytree(fake_run.shared_run().path, tmp_path / "run")
    for path in (tmp_path / "run" / "directions" / "model").glob("*.json"):
        entry = json.loads(path.read_text())
        del entry["keep_detail"]
        path.write_text(json.dumps(entry))
    command(tmp_path / "run", photo, "Smiling=1", tmp_path / "out.png", "--keep_detail")
    assert capsys.readouterr().out.startswith("--keep_detail: this model, of an older version, ")


def test_the_same_command_gives_the_same_bytes(forms, photo, tmp_path):
    for name, model in forms.items():
        command(model, photo, "Smiling=1", tmp_path / f"{name}.png")
        first = (tmp_path / f"{name}.png").read_bytes()
        command(model, photo, "Smiling=1", tmp_path / f"{name}.png", "--overwrite")
        assert (tmp_path / f"{name}.png").read_bytes() == first


def test_the_strip_ends_in_the_edit(forms, photo, tmp_path):
    command(forms["float32"], photo, "Smiling=1", tmp_path / "one.png", "--crop")
    command(forms["float32"], photo, "Smiling=1", tmp_path / "strip.png", "--strip")
    strip = np.asarray(Image.open(tmp_path / "strip.png"))
    assert strip.shape == (48, 192, 3)
    np.testing.assert_array_equal(strip[:32, 160:], np.asarray(Image.open(tmp_path / "one.png")))
    crop = images.center_square_resize(images.decode_file(photo), 32)
    np.testing.assert_array_equal(strip[:32, :32], crop)


def test_a_folder_with_a_bad_photo_among_them(forms, photo, tmp_path, capsys):
    (photo.parent / "broken.jpg").write_text("no photo")
    save_photo(photo.parent / "other.png", 33, 90, seed=1)
    assert command(forms["float32"], photo.parent, "Smiling=1", tmp_path / "out") == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["face.png", "other.png", "translate.csv"]
    said = capsys.readouterr()
    broken = photo.parent / "broken.jpg"
    assert said.err == f"skipped: cannot read image {broken}: not an image file\n"
    assert said.out.count("\n") == 3 and said.out.endswith(" s a face\n")
    photo.unlink()
    (photo.parent / "other.png").unlink()
    with pytest.raises(UserError, match="none of its 1 photos could be edited"):
        command(forms["float32"], photo.parent, "Smiling=1", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_bad_photo_alone(forms, photo, tmp_path):
    photo.write_bytes(photo.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot read image .*face.jpg"):
        command(forms["float32"], photo, "Smiling=1", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_an_existing_picture_is_kept(forms, photo, tmp_path):
    (tmp_path / "out.png").write_text("mine")
    with pytest.raises(UserError, match="out.png exists; --overwrite replaces it"):
        command(forms["float32"], photo, "Smiling=1", tmp_path / "out.png")
    assert (tmp_path / "out.png").read_text() == "mine"


@pytest.mark.parametrize("missing", ["model", "image", "output"])
def test_a_missing_flag_is_named(photo, tmp_path, missing):
    values = {"model": "m", "image": photo, "edit": "A=1", "output": "o.png"} | {missing: ""}
    with pytest.raises(UserError, match=f"--{missing}: not given"):
        command(*values.values())


# ---- a value instead of a strength --------------------------------------------------------------


def set_command(model, image, values, output, *more):
    """As `command`, with --set in the place of --edit."""
    arguments = [f"--model={model}", f"--image={image}", f"--set={values}", f"--output={output}"]
    return command_flags.run(translate.define_flags, translate.main, [*arguments, *more])


def generate(editor):
    return lambda latents, steps: editor.run("generate", latent=latents, strengths=steps)


def test_a_value_is_searched_alike_in_a_run_and_its_export(forms, photo, tmp_path, capsys):
    editor = backends.open_editor(str(forms["run"]), scores=True)
    crop, _ = portraits.crop_photo(images.decode_file(photo), 32, aligned=False)
    latent = editor.run("encode", image=images.to_float(crop[None]))
    predict = strengths.predictor(editor, NAMES, generate(editor))

    def value(name, strength):
        steps = np.zeros((1, 3), np.float32)
        steps[0, NAMES.index(name)] = strength
        return float(predict(latent, steps)[0, NAMES.index(name)])

    # The directions are untrained too: that which goes most the way that it says.
    ways = {(name, sign): sign * (value(name, 2.0 * sign) - value(name, 0.0))
            for name in NAMES for sign in (1, -1)}  # fmt: skip
    name, sign = max(ways, key=ways.__getitem__)
    assert ways[name, sign] > 4 * strengths.TOLERANCE, "nothing to search for"
    asked = (value(name, 0.0) + value(name, 2.0 * sign)) / 2
    for form in ("run", "saved_model"):
        out = tmp_path / f"{form}.png"
        assert set_command(forms[form], photo, f"{name}={asked}", out) == 0
        (line,) = capsys.readouterr().out.splitlines()
        found = re.fullmatch(rf".*{form}.png: {name} (\S+) \(strength (\S+)\)", line)
        reached, strength = map(float, found.groups())
        slack = strengths.TOLERANCE + 0.005  # the line's two decimals
        assert reached == pytest.approx(asked, abs=1.01 * slack)
        assert value(name, strength) == pytest.approx(asked, abs=1.5 * slack)
        assert 0 < sign * strength <= 2
    first, second = (np.int16(Image.open(tmp_path / f"{form}.png"))
                     for form in ("run", "saved_model"))  # fmt: skip
    assert np.abs(first - second).max() <= 1
    command(forms["run"], photo, f"{name}={strength}", tmp_path / "edit.png")
    assert np.abs(np.int16(Image.open(tmp_path / "edit.png")) - first).mean() < 1


def test_with_keep_detail_the_value_is_that_of_the_photo(forms, photo, tmp_path, capsys):
    editor = backends.open_editor(str(forms["run"]), scores=True)
    name = editor.attributes[0]
    column = editor.score_names.index(name)
    crop = images.center_square_resize(images.decode_file(photo), 32)

    def score(image):
        return float(editor.run("attributes", image=images.to_float(image)[None])[0, column])

    options = ["--keep_detail", "--crop"]
    command(forms["run"], photo, f"{name}=1", tmp_path / "one.png", *options)
    asked = (score(crop) + score(images.decode_file(tmp_path / "one.png"))) / 2
    capsys.readouterr()
    set_command(forms["run"], photo, f"{name}={asked}", tmp_path / "set.png", *options)
    found = re.search(rf"{name} (\S+) \(strength", capsys.readouterr().out)
    assert float(found[1]) == pytest.approx(asked, abs=strengths.TOLERANCE + 0.006)
    assert score(images.decode_file(tmp_path / "set.png")) == pytest.approx(asked, abs=0.02)


def test_an_edit_and_a_value_together(forms, photo, tmp_path, capsys):
    """A value that is asked for where the edit already leads needs no strength of its own."""
    editor = backends.open_editor(str(forms["run"]), scores=True)
    crop, _ = portraits.crop_photo(images.decode_file(photo), 32, aligned=False)
    latent = editor.run("encode", image=images.to_float(crop[None]))
    predict = strengths.predictor(editor, NAMES, generate(editor))
    there = predict(latent, np.float32([[1.5, 0, 0]]))[0, 2]
    assert set_command(forms["run"], photo, f"Eyeglasses={there}", tmp_path / "both.png",
                       "--edit=Smiling=1.5") == 0  # fmt: skip
    said = f"Smiling +1.5, Eyeglasses {there:.2f} (strength +0.00)"
    assert capsys.readouterr().out.endswith(f"both.png: {said}\n")
    command(forms["run"], photo, "Smiling=1.5", tmp_path / "edit.png")
    assert (tmp_path / "both.png").read_bytes() == (tmp_path / "edit.png").read_bytes()


def test_a_value_out_of_reach_is_said(forms, photo, tmp_path, capsys):
    """An untrained regressor is never sure of anything."""
    assert set_command(forms["run"], photo, "Smiling=1", tmp_path / "out.png", "--strip") == 0
    line = capsys.readouterr().out
    assert re.search(r": Smiling 0\.\d\d, the nearest to 1\.00 \(strength [+-]\d\.\d\d\)$", line)
    assert images.decode_file(tmp_path / "out.png").shape == (48, 6 * 32, 3)


def test_a_tflite_file_has_no_regressor_to_search_by(forms, photo, tmp_path):
    with pytest.raises(UserError) as caught:
        set_command(forms["float32"], photo, "Smiling=0.8", tmp_path / "out.png")
    assert str(caught.value) == (
        f"--model={forms['float32']}: a .tflite file has no regressor, by which --set is "
        "measured; give the run folder or the SavedModel, or strengths by --edit"
    )


@pytest.mark.parametrize(
    "values, more, message",
    [
        ("Smiling=2", [], "--set=Smiling=2: Smiling's value is 2; give one from 0"),
        ("Smiling=0.8", ["--edit=Smiling=1"], "they contradict each other; give Smiling in one"),
        ("", [], "--edit, --set: give one of them, or both"),
    ],
)
def test_values_that_make_no_sense_need_no_model(photo, tmp_path, values, more, message):
    with pytest.raises(UserError, match=re.escape(message)):
        set_command("nowhere", photo, values, tmp_path / "out.png", *more)


# ---- what is no model --------------------------------------------------------------------------


def test_no_model(tmp_path):
    with pytest.raises(UserError, match="--model=.*gone: no such file or folder"):
        backends.open_editor(str(tmp_path / "gone"))
    with pytest.raises(UserError, match="holds neither config.json .* nor saved_model.pb"):
        backends.open_editor(str(tmp_path))
    (tmp_path / "model.h5").touch()
    with pytest.raises(UserError, match="a file must be a .tflite"):
        backends.open_editor(str(tmp_path / "model.h5"))


def test_the_export_folder_is_nearly_a_model(forms):
    folder = forms["saved_model"].parent
    with pytest.raises(UserError, match=f"did you mean {folder / 'saved_model'}"):
        backends.open_editor(str(folder))


def test_the_highest_version_is_opened(tmp_path):
    base = tmp_path / "export" / "saved_model"
    for name in ("2", "10", "9", "new"):
        (base / name).mkdir(parents=True)
        (base / name / "saved_model.pb").touch()
    (base / "11").mkdir()  # as one that is being written
    assert backends.find_model(str(base)) == ("saved_model", base / "10")
    assert backends.find_model(str(base / "9")) == ("saved_model", base / "9")
    with pytest.raises(UserError, match=f"did you mean {base}\\?$"):
        backends.find_model(str(base.parent))
    old = tmp_path / "old" / "saved_model"  # of before there were versions
    old.mkdir(parents=True)
    (old / "saved_model.pb").touch()
    assert backends.find_model(str(old)) == ("saved_model", old)
    with pytest.raises(UserError, match=f"did you mean {old}\\?$"):
        backends.find_model(str(old.parent))


@pytest.mark.parametrize("content", [b"", b"no model at all", None])
def test_a_damaged_tflite_file(forms, tmp_path, content):
    path = tmp_path / "broken.tflite"
    path.write_bytes(forms["float32"].read_bytes()[:9000] if content is None else content)
    with pytest.raises(UserError, match="broken.tflite: damaged or no TFLite model") as caught:
        backends.open_editor(str(path))
    assert "\n" not in str(caught.value)


def without_metadata(path):
    from ai_edge_litert import schema_py_generated as schema

    from cgan_tf.export import tflite

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    model.metadata = None
    return tflite.pack(model)


def test_a_tflite_file_reads_the_json_beside_it(forms, tmp_path):
    path = tmp_path / "plain.tflite"
    path.write_bytes(without_metadata(forms["float32"]))
    with pytest.raises(UserError, match=r"no attribute names \(.*plain.json is missing\)"):
        backends.open_editor(str(path))
    shutil.copy(forms["float32"].with_suffix(".json"), tmp_path / "plain.json")
    assert backends.open_editor(str(path)).attributes == NAMES


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "plain.json: damaged description"),
        ("[]", "plain.json: damaged description"),
        ('{"format": 2}', "description of format 2, this version reads 1"),
        ('{"format": 1, "attributes": ["A"], "resolution": 32}', "lacks 'crop'"),
        (
            '{"format": 1, "attributes": [], "resolution": 32, "crop": "celeba"}',
            "damaged description",
        ),
        (
            '{"format": 1, "attributes": ["A"], "resolution": 32, "crop": "celeba"}',
            "its attribute names are those of another model",
        ),
    ],
)
def test_a_bad_description(forms, tmp_path, content, message):
    path = tmp_path / "plain.tflite"
    path.write_bytes(without_metadata(forms["float32"]))
    (tmp_path / "plain.json").write_text(content)
    with pytest.raises(UserError, match=message):
        backends.open_editor(str(path))


def test_a_damaged_saved_model(forms, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(forms["saved_model"] / "1", copy)
    graph = (copy / "saved_model.pb").read_bytes()
    (copy / "saved_model.pb").write_bytes(graph[: len(graph) // 2])
    with pytest.raises(UserError, match="damaged SavedModel") as caught:
        backends.open_editor(str(copy))
    assert "\n" not in str(caught.value)
    (copy / "assets.extra" / "model.json").unlink()
    with pytest.raises(UserError, match=r"no attribute names \(.*model.json is missing\)"):
        backends.open_editor(str(copy))


# ---- inversion by descent ----------------------------------------------------------------------


def test_a_folder_is_inverted_in_batches(forms, photo, tmp_path, monkeypatch, capsys):
    folder = photo.parent
    for index in (1, 2):
        save_photo(folder / f"face{index}.jpg", 40, 40, seed=index)
    (folder / "broken.jpg").write_bytes(b"no photo")
    monkeypatch.setattr(projection, "BATCH", 2)
    sizes = []
    project = projection.Projector.project

    def counted(self, photos, starts):
        sizes.append((len(photos), len(starts), self.settings.steps))
        return project(self, photos, starts)

    monkeypatch.setattr(projection.Projector, "project", counted)
    assert command(forms["run"], folder, "Smiling=0", tmp_path / "out", "--inversion=hybrid",
                   "--steps=2", "--crop") == 0  # fmt: skip
    assert sizes == [(2, 1, 2), (1, 1, 2)]
    printed = capsys.readouterr()
    assert "skipped: " in printed.err and "broken.jpg" in printed.err
    lines = printed.out.splitlines()
    assert images.decode_file(tmp_path / "out" / "face.png").shape == (32, 32, 3)
    assert [line.split(" ")[0] for line in lines[:3]] == [
        str(folder / name) for name in ("face.jpg", "face1.jpg", "face2.jpg")
    ]
    done = "3 faces edited in 3 photos, 1 photo skipped; "
    assert lines[3].startswith(f"{tmp_path / 'out' / 'translate.csv'}: {done}")
    # Each picture is what its own latent gives: nearer to the photo than the encoder's answer.
    command(forms["run"], folder, "Smiling=0", tmp_path / "encoder", "--crop")
    projector = projection.of_run(
        forms["run"], backends.open_editor(str(forms["run"])).translator, steps=2
    )
    for name in ("face", "face1", "face2"):
        crop, _ = portraits.crop_photo(images.decode_file(folder / f"{name}.jpg"), 32, False)
        outputs = [images.decode_file(tmp_path / place / f"{name}.png")
                   for place in ("encoder", "out")]  # fmt: skip
        crop, *outputs = (images.to_float(pixels[None]) for pixels in (crop, *outputs))
        before, after = (
            float(np.square(output - crop).mean() + projector.perceptual(output, crop)[0])
            for output in outputs
        )
        assert after < before


def test_optimize_with_a_mask_that_is_resized(forms, photo, tmp_path, capsys):
    mask = tmp_path / "mask.png"
    Image.fromarray(np.full((48, 48), 255, np.uint8)).save(mask)
    assert command(forms["run"], photo, "Smiling=1", tmp_path / "out.png", "--strip",
                   "--inversion=optimize", "--steps=1", f"--mask={mask}") == 0  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "--mask: resized from 48 to 32 px"
    assert lines[-1].startswith("1 face edited in 1 photo, 0 photos skipped; ")
    assert images.decode_file(tmp_path / "out.png").shape == (48, 6 * 32, 3)


@pytest.mark.parametrize("form", ["saved_model", "float32"])
def test_exported_models_have_no_gradients(forms, photo, tmp_path, form):
    with pytest.raises(UserError) as caught:
        command(forms[form], photo, "Smiling=1", tmp_path / "out.png", "--inversion=hybrid")
    assert str(caught.value) == (
        f"--model={forms[form]}: an exported model has no gradients for --inversion=hybrid; "
        "give the run folder"
    )


@pytest.mark.parametrize("flag", ["--steps=5", "--mask=ellipse"])
def test_the_encoder_has_neither_steps_nor_mask(photo, tmp_path, flag):
    with pytest.raises(UserError) as caught:
        command("nowhere", photo, "Smiling=1", tmp_path / "out.png", flag)
    assert str(caught.value) == (
        f"{flag}: the encoder has none; give --inversion=hybrid or optimize too"
    )


# ---- the command itself ------------------------------------------------------------------------


def shell(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "cgan_tf", "translate", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["run", "saved_model", "float32"])
def test_nothing_but_the_line_reaches_the_user(forms, photo, tmp_path, form):
    done = shell(f"--model={forms[form]}", f"--image={photo}", "--edit=Smiling=-1",
                 f"--output={tmp_path / 'out.png'}", "--strip")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1 and done.stdout.endswith("out.png: Smiling -1\n")


def test_mistakes_end_in_one_line(forms, photo, tmp_path):
    good = {"model": forms["float32"], "image": photo, "edit": "Smiling=1",
            "output": tmp_path / "out.png"}  # fmt: skip
    for changes, message in (
        ({"edit": "Smile=1"}, "--edit=Smile: unknown attribute (did you mean Smiling?); the model"),
        ({"model": "nowhere"}, "--model=nowhere: no such file or folder"),
        ({"edit": "Smiling=x"}, "--edit=Smiling=x: the strength of Smiling is 'x'"),
        ({"imagge": "x"}, "--imagge: unknown flag; did you mean --image? (see --help)"),
    ):
        done = shell(*(f"--{name}={value}" for name, value in (good | changes).items()))
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
    assert not (tmp_path / "out.png").exists()
