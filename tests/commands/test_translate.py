"""The translate command: what it edits, what it refuses, and that all forms of a model agree."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import command_flags
import fake_run
import numpy as np
import pictures
import pytest
from evaluated_run import evaluated_run, small_networks
from face_pictures import photo_with_faces
from photos import gray, save_photo
from PIL import Image
from shift_backend import ShiftBackend
from tiny_onnx import write_recognizer
from translate_command import command

from cgan_tf.commands import edit_flags, translate
from cgan_tf.commands.output_files import TABLE
from cgan_tf.core import cli
from cgan_tf.core.errors import UserError
from cgan_tf.data import face_crop, images, portraits
from cgan_tf.editing import backends, description, faces

ROOT = Path(__file__).parents[2]
NAMES = fake_run.ATTRIBUTES


pytestmark = pytest.mark.usefixtures("slim")


# ---- faces -------------------------------------------------------------------------------------


def edit_folder(folder, backend, which="all", **options):
    """The rows of a folder whose faces are edited by +20 levels."""
    paths = portraits.find_photos(str(folder), leave_out=folder / "out")
    targets = [folder / "out" / f"{path.stem}.png" for path in paths]
    table = translate.Table(folder / "out" / TABLE)
    request = edit_flags.parse(f"Light={20 / 127.5}", None)
    renderer = faces.FaceRenderer(backend, **options)
    editor = faces.FaceEditor(request, renderer, faces.Inverter(backend))
    readable = translate.read_photos(paths, targets, backend, which, table)
    for group in translate.grouped(readable, 1):
        translate.edit_group(group, editor, table)
    table.write()
    with open(table.path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_face_of_a_folder_is_accounted_for(tmp_path, capsys):
    two = photo_with_faces((1, 200, 250, 220, 0), (5, 620, 380, 320, 10))
    images.save_png(tmp_path / "a.png", two)
    images.save_png(tmp_path / "b.png", photo_with_faces((1, 30, 250, 220, 0)))
    save_photo(tmp_path / "c.png", 300, 200)
    (tmp_path / "d.png").touch()
    rows = edit_folder(tmp_path, ShiftBackend(description.CELEBA_CROP))
    printed = capsys.readouterr()
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
    assert printed.err.count("skipped: ") == 2 and printed.out.count(" -> ") == 3
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "b.png", "translate.csv"]
    before, after = (
        np.int16(images.decode_file(tmp_path / name)) for name in ("a.png", "out/a.png")
    )
    changed = np.abs(after - before).max(axis=-1) > 4
    assert changed[330:430, 570:670].mean() > 0.5, "the center of the large face"
    assert changed[220:280, 170:230].mean() > 0.5, "the center of the small face"
    assert not changed[:, :40].any() and not changed[:100, 400:].any(), "nothing elsewhere"


def test_one_face_of_several(tmp_path):
    both = photo_with_faces((1, 200, 250, 220, 0), (5, 620, 380, 320, 0))
    Image.fromarray(both).save(tmp_path / "a.png")
    rows = edit_folder(tmp_path, ShiftBackend(description.CELEBA_CROP), which=2)
    assert len(rows) == 1 and rows[0]["faces"] == "1" and abs(float(rows[0]["x"]) - 200) < 20
    rows = edit_folder(tmp_path, ShiftBackend(description.CELEBA_CROP), which=3)
    assert [row["status"] for row in rows] == ["skipped"]
    assert rows[0]["note"].endswith("--face=3: only 2 faces were found")


def test_the_first_frame_of_an_animation_is_edited(tmp_path, capsys):
    first, *others = (Image.fromarray(gray(level, 40, 40)) for level in (50, 100, 200))
    first.save(tmp_path / "a.gif", save_all=True, append_images=others)
    edit_folder(tmp_path, ShiftBackend(), which="center")
    note = "the first of its 3 frames; GIF is not written, so the result is PNG"
    assert capsys.readouterr().err == f"{tmp_path / 'a.gif'}: {note}\n"
    edited = images.decode_file(tmp_path / "out" / "a.png")
    assert abs(int(edited[20, 20, 0]) - (20 + 127.5 + 0.9 * (50 - 127.5))) < 2


def test_a_photo_unlike_the_training_photos_is_reported(tmp_path, capsys):
    save_photo(tmp_path / "a.png", 40, 40)
    rows = edit_folder(tmp_path, ShiftBackend(psnr_p5=1.0), which="center")
    assert float(rows[0]["psnr"]) > 1 and "unlike" not in rows[0]["note"]
    assert capsys.readouterr().err == ""
    rows = edit_folder(tmp_path, ShiftBackend(psnr_p5=99.0), which="center")
    words = f"unlike the training photos: reconstructed at {float(rows[0]['psnr']):.1f} dB, 95 %"
    assert words in rows[0]["note"] and words in capsys.readouterr().err


# ---- the forms of a model ----------------------------------------------------------------------


def test_all_forms_give_the_same_image(forms, photo, tmp_path, capsys):
    edit = "Smiling=+0.5,Eyeglasses=-0.25"
    results = {}
    for name, model in forms.items():
        assert command(model, photo, edit, tmp_path / f"{name}.png", "--crop") == 0
        results[name] = np.int16(Image.open(tmp_path / f"{name}.png"))
        printed = f"{photo} (60x40, center square of 40 px) -> {tmp_path / name}.png: "
        assert capsys.readouterr() == (f"{printed}Smiling +0.5, Eyeglasses -0.25\n", "")
    assert results["run"].shape == (32, 32, 3)
    assert results["run"].std() > 20, "a gray image would show nothing"
    assert np.abs(results["saved_model"] - results["run"]).max() <= 1
    assert np.abs(results["float32"] - results["run"]).max() <= 1
    assert np.abs(results["float16"] - results["run"]).max() <= 4
    command(forms["run"], photo, "Smiling=0", tmp_path / "none.png", "--crop")
    unedited = np.int16(Image.open(tmp_path / "none.png"))
    assert np.abs(unedited - results["run"]).mean() > 1, "the edit must show"


def test_keep_detail_is_the_same_in_all_forms(forms, photo, tmp_path):
    results = {}
    for name, model in forms.items():
        command(model, photo, "Smiling=0.5", tmp_path / f"{name}.png", "--keep_detail")
        results[name] = np.int16(images.decode_file(tmp_path / f"{name}.png"))
    for name in ("saved_model", "float32"):
        assert np.abs(results[name] - results["run"]).max() <= 1
    assert np.abs(results["float16"] - results["run"]).max() <= 4
    editor = backends.open_backend(str(forms["run"]))
    pixels = images.decode_file(photo)
    (portrait,) = portraits.portraits(pixels, 32, False, portraits.CENTER)
    code = editor.encode(images.to_float(portrait.crop[None]))
    before, after = (
        editor.generate(code, np.float32([[strength, 0, 0]]))[0] for strength in (0, 0.5)
    )
    pasted = face_crop.paste_face(pixels, after, portrait.face, before)
    assert np.abs(results["run"] - pasted).max() <= 1


def test_the_same_command_gives_the_same_bytes(forms, photo, tmp_path):
    for name, model in forms.items():
        command(model, photo, "Smiling=1", tmp_path / f"{name}.png")
        first = (tmp_path / f"{name}.png").read_bytes()
        command(model, photo, "Smiling=1", tmp_path / f"{name}.png", "--overwrite")
        assert (tmp_path / f"{name}.png").read_bytes() == first


def test_the_last_tile_of_a_strip_is_the_edit(forms, photo, tmp_path):
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
    assert sorted(os.listdir(tmp_path / "out")) == ["face.jpg", "other.png", "translate.csv"]
    printed = capsys.readouterr()
    broken = photo.parent / "broken.jpg"
    assert printed.err == f"skipped: cannot read image {broken}: not an image file\n"
    assert printed.out.count("\n") == 3 and printed.out.endswith(" s a face\n")
    photo.unlink()
    (photo.parent / "other.png").unlink()
    with pytest.raises(UserError, match="none of its 1 photos could be edited"):
        command(forms["float32"], photo.parent, "Smiling=1", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_photo_that_its_format_cannot_hold_is_skipped(tmp_path, capsys):
    """A PNG whose name ends in .webp; the photo after it is edited."""
    photo = Image.fromarray(gray(90, 8, 16_400))
    photo.save(tmp_path / "a.webp", "PNG")
    save_photo(tmp_path / "b.png")
    out = tmp_path / "out"
    backend = ShiftBackend()
    targets = [out / "a.webp", out / "b.png"]
    table = translate.Table(out / TABLE)
    request = edit_flags.parse("Light=0.1", None)
    editor = faces.FaceEditor(request, faces.FaceRenderer(backend), faces.Inverter(backend))
    paths = [tmp_path / "a.webp", tmp_path / "b.png"]
    for group in translate.grouped(
        translate.read_photos(paths, targets, backend, "center", table), 1
    ):
        translate.edit_group(group, editor, table)
    assert [row["status"] for row in table.rows] == ["skipped", "edited"]
    assert f"skipped: {out / 'a.webp'}: WEBP cannot hold this photo" in capsys.readouterr().err
    assert os.listdir(out) == ["b.png"]
    table = translate.Table(None)  # a single photo
    (group,) = translate.read_photos(paths[:1], targets[:1], backend, "center", table)
    with pytest.raises(UserError, match="a.webp: WEBP cannot hold this photo"):
        translate.edit_group([group], editor, table)


def rows_of(path):
    """The rows of a CSV file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_recognizer_gives_the_distance_of_each_face(forms, photo, tmp_path, capsys):
    """The distance of mean colors, in levels, whatever the result shows."""
    model, folder = write_recognizer(tmp_path / "colors.onnx"), photo.parent
    out, given = tmp_path / "out", f"--identity_model={model}"
    command(forms["float32"], folder, "Smiling=1", out, given, "--crop")
    (row,) = rows_of(out / TABLE)
    before = images.center_square_resize(images.decode_file(photo), 32)
    faces_ = np.float64([before, images.decode_file(out / row["output"])])
    distance = np.linalg.norm(np.subtract(*faces_.mean(axis=(1, 2))))
    assert distance > 1 and float(row["distance"]) == pytest.approx(distance, abs=1e-3)
    assert row["same_person"] == ""  # an exported model has no evaluation
    assert f"Smiling +1; distance {row['distance']}\n" in capsys.readouterr().out
    for more in ("--strip", "--overwrite"):
        command(forms["float32"], folder, "Smiling=1", tmp_path / more, given, more)
        assert rows_of(tmp_path / more / TABLE)[0]["distance"] == row["distance"]
    command(forms["float32"], folder, "Smiling=1", tmp_path / "none")
    assert rows_of(tmp_path / "none" / TABLE)[0]["distance"] == ""


def test_the_thresholds_are_those_of_the_runs_evaluation(photo, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(evaluated_run().folder.path, run)
    path = run / "evaluate" / "report.json"
    report = json.loads(path.read_text())
    model = evaluated_run().config.evaluate.identity_model

    def same_person(strict, loose, model=model):
        limits = {"same_person_at_0.1": strict, "same_person_at_1": loose}
        report["identity"]["thresholds"] = limits
        path.write_text(json.dumps(report))
        out = tmp_path / "out"
        with small_networks():
            command(run, photo.parent, "Smiling=1", out, f"--identity_model={model}", "--overwrite")
        (row,) = rows_of(out / TABLE)
        return row["same_person"], float(row["distance"])

    nothing, distance = same_person(None, None)
    assert nothing == "" and distance > 1
    assert same_person(distance + 1, distance + 2) == ("0.1 %", distance)
    assert same_person(distance - 1, distance + 1) == ("1 %", distance)
    assert same_person(None, distance + 1) == ("1 %", distance)
    assert same_person(distance - 2, distance - 1) == ("no", distance)
    other = write_recognizer(tmp_path / "other.onnx", scale=2.0)  # not the evaluation's
    assert same_person(distance + 1, distance + 2, other)[0] == ""


def test_a_photo_of_a_phone_stays_one(forms, photo, tmp_path, capsys):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    Image.open(photo).save(
        photo, icc_profile=pictures.display_p3(), exif=exif, quality=80, subsampling=2
    )
    assert command(forms["float32"], photo, "Smiling=1", tmp_path / "out.jpg") == 0
    with Image.open(photo) as before, Image.open(tmp_path / "out.jpg") as after:
        assert after.format == "JPEG" and after.quantization == before.quantization
        assert after.info["icc_profile"] == pictures.display_p3()
        assert dict(after.getexif()) == {0x010F: "Maker"}
        assert after.size == before.size[::-1]
        change = np.abs(np.int16(after) - np.int16(before.transpose(Image.Transpose.ROTATE_270)))
    assert 4 * change[:8].mean() < change[20:40].mean(), "only the center is edited"
    assert command(forms["float32"], photo, "Smiling=1", tmp_path / "out.png", "--strip") == 0
    assert "icc_profile" not in Image.open(tmp_path / "out.png").info
    assert capsys.readouterr().err == ""


def test_photos_of_one_stem_have_results_of_their_own(forms, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed, name in enumerate(("a.gif", "a.jpg", "a.png")):
        save_photo(photos / name, 40, 40, seed)
    assert command(forms["float32"], photos, "Smiling=1", tmp_path / "out") == 0
    names = ["a.gif.png", "a.jpg", "a.png"]
    assert sorted(os.listdir(tmp_path / "out")) == [*names, TABLE]
    assert len({(tmp_path / "out" / name).read_bytes() for name in names}) == 3
    with open(tmp_path / "out" / TABLE, newline="") as file:
        outputs = {row["file"]: row["output"] for row in csv.DictReader(file)}
    assert outputs == dict(zip(("a.gif", "a.jpg", "a.png"), names, strict=True))


def test_a_name_that_is_not_utf_8(forms, tmp_path, capsys):
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    name = os.fsdecode(b"a\xff.png")
    save_photo(folder / name, 40, 40)
    arguments = [f"--model={forms['float32']}", f"--image={folder}", f"--output={out}"]
    assert command_flags.run_line("translate", "--edit=Smiling=1", *arguments) == 0
    assert sorted(os.listdir(os.fsencode(out))) == [b"a\xff.png", TABLE.encode()]
    with open(out / TABLE, newline="", errors="surrogateescape") as file:
        assert [row["file"] for row in csv.DictReader(file)] == [name]
    assert "a\\udcff.png" in capsys.readouterr().out


def test_a_tree_of_folders_with_the_results_inside(forms, tmp_path, capsys):
    """A second command reads the same photos, not the results of the first."""
    photos = tmp_path / "photos"
    names = ("a.jpg", "s/a.jpg", "s/t/b.png", ".hidden/x.jpg")
    for seed, name in enumerate(names):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        save_photo(photos / name, 40, 40, seed)
    (photos / "s" / "broken.jpg").write_text("no photo")
    out = photos / "s" / "out"
    listings = []
    for _ in range(2):
        assert command(forms["float32"], photos, "Smiling=1", out, "--overwrite") == 0
        assert f"--image={photos}: 4 photos in 3 folders\n" in capsys.readouterr().out
        listings.append(sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()))
    assert listings[0] == listings[1] == ["a.jpg", "s/a.jpg", "s/t/b.png", TABLE]
    assert (out / "a.jpg").read_bytes() != (out / "s" / "a.jpg").read_bytes()
    with open(out / TABLE, newline="") as file:
        rows = [(row["file"], row["status"], row["output"]) for row in csv.DictReader(file)]
    assert sorted(rows) == [
        ("a.jpg", "edited", "a.jpg"),
        ("s/a.jpg", "edited", "s/a.jpg"),
        ("s/broken.jpg", "skipped", ""),
        ("s/t/b.png", "edited", "s/t/b.png"),
    ]


def test_a_bad_photo_alone(forms, photo, tmp_path):
    photo.write_bytes(photo.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot read image .*face.jpg"):
        command(forms["float32"], photo, "Smiling=1", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_an_existing_image_is_kept(forms, photo, tmp_path):
    (tmp_path / "out.png").write_text("mine")
    with pytest.raises(UserError, match="out.png exists; --overwrite replaces it"):
        command(forms["float32"], photo, "Smiling=1", tmp_path / "out.png")
    assert (tmp_path / "out.png").read_text() == "mine"


@pytest.mark.parametrize("missing", ["model", "image", "output"])
def test_a_missing_flag_is_named(photo, tmp_path, missing):
    values = {"model": "m", "image": photo, "edit": "A=1", "output": "o.png"} | {missing: ""}
    with pytest.raises(UserError, match=f"--{missing}: not given"):
        command(*values.values())


# ---- the command line --------------------------------------------------------------------------


def test_only_the_result_is_printed(forms, photo, tmp_path):
    """In a process of its own, where TensorFlow would print its start-up messages."""
    arguments = {"model": forms["float32"], "image": photo, "output": tmp_path / "out.png"}
    done = subprocess.run(
        [sys.executable, "-m", "cgan_tf", "translate", "--edit=Smiling=-1", "--strip"]
        + [f"--{name}={value}" for name, value in arguments.items()],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1 and done.stdout.endswith("out.png: Smiling -1\n")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["run", "saved_model"])
def test_only_the_result_is_printed_for_other_forms(photo, tmp_path, form):
    models = {"run": fake_run.shared_run().path, "saved_model": fake_run.slim_forms()[form]}
    arguments = {"model": models[form], "image": photo, "output": tmp_path / "out.png"}
    done = subprocess.run(
        [sys.executable, "-m", "cgan_tf", "translate", "--edit=Smiling=-1", "--strip"]
        + [f"--{name}={value}" for name, value in arguments.items()],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1 and done.stdout.endswith("out.png: Smiling -1\n")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"edit": "Smile=1"}, "--edit=Smile: unknown attribute (did you mean Smiling?); the model"),
        ({"model": "nowhere"}, "--model=nowhere: no such file or folder"),
        ({"image": "nowhere.jpg"}, "--image=nowhere.jpg: no such file or folder"),
        ({"edit": "Smiling=x"}, "--edit=Smiling=x: the strength of Smiling is 'x'"),
        ({"identity_model": "no.onnx"}, "--identity_model=no.onnx: no such file; give a face"),
        (
            {"output": "out.gif"},
            "--output=out.gif: give a folder, or a name that ends in .jpg .jpeg",
        ),
        ({"imagge": "x"}, "--imagge: unknown flag; did you mean --image? (see --help)"),
    ],
)
def test_mistakes_end_in_one_line(forms, photo, tmp_path, capsys, changes, message):
    values = {
        "model": forms["float32"],
        "image": photo,
        "edit": "Smiling=1",
        "output": tmp_path / "out.png",
    } | changes
    code = command_flags.run_line("translate", *(f"--{n}={v}" for n, v in values.items()))
    printed = capsys.readouterr()
    assert code == cli.USER_ERROR_CODE and printed.out == ""
    assert printed.err.startswith(f"error: {message}") and printed.err.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


def test_ctrl_c_leaves_the_table_of_what_was_edited(forms, photo, tmp_path, monkeypatch, capsys):
    for index in (1, 2):
        save_photo(photo.parent / f"face{index}.jpg", 40, 40, seed=index)
    edit_group = translate.edit_group

    def interrupted(group, *rest):
        if group[0].number == 3:
            raise KeyboardInterrupt
        edit_group(group, *rest)

    monkeypatch.setattr(translate, "edit_group", interrupted)
    values = [f"--model={forms['float32']}", f"--image={photo.parent}", "--edit=Smiling=1"]
    code = command_flags.run_line("translate", *values, f"--output={tmp_path / 'out'}")
    assert code == 128 + signal.SIGINT and capsys.readouterr().err == "error: interrupted\n"
    with open(tmp_path / "out" / TABLE, newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["face.jpg", "face1.jpg"]


def test_a_table_that_cannot_be_written_does_not_hide_what_ended_the_edits(
    forms, photo, tmp_path, monkeypatch, capsys
):
    save_photo(photo.parent / "face1.jpg", 40, 40, seed=1)
    edit_group = translate.edit_group

    def interrupted(group, *rest):
        if group[0].number == 2:
            raise KeyboardInterrupt
        edit_group(group, *rest)

    def full(table):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(translate, "edit_group", interrupted)
    monkeypatch.setattr(translate.Table, "write", full)
    values = [f"--model={forms['float32']}", f"--image={photo.parent}", "--edit=Smiling=1"]
    code = command_flags.run_line("translate", *values, f"--output={tmp_path / 'out'}")
    assert code == 128 + signal.SIGINT and capsys.readouterr().err == "error: interrupted\n"
