"""The Python interface: cgan_tf.load_editor and Editor."""

import os
import subprocess
import sys
from pathlib import Path

import command_flags
import fake_run
import numpy as np
import pictures
import pytest
from face_pictures import photo_with_faces
from photos import gray, random_photo, save_photo
from PIL import Image
from shift_backend import ShiftBackend

import cgan_tf
from cgan_tf.commands import label, translate
from cgan_tf.core.errors import UserError
from cgan_tf.data import images
from cgan_tf.editing import description

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("slim")


@pytest.fixture(scope="module")
def editors(slim):
    """The same model in its three forms."""
    forms = fake_run.slim_forms()
    return {name: cgan_tf.load_editor(forms[name]) for name in ("run", "saved_model", "float32")}


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """The path of a photo of 60 x 40 px."""
    path = tmp_path_factory.mktemp("photo") / "me.png"
    save_photo(path, 60, 40)
    return path


# ---- the package -------------------------------------------------------------------------------


def test_the_import_is_quick_quiet_and_without_tensorflow():
    code = (
        "import sys, time; start = time.perf_counter(); import cgan_tf; "
        "assert time.perf_counter() - start < 1; "
        "assert {'Editor', 'EditorError', 'load_editor'} <= set(dir(cgan_tf)); "
        "cgan_tf.Editor, cgan_tf.EditorError, cgan_tf.load_editor, cgan_tf.__version__; "
        "assert not {'tensorflow', 'keras', 'cv2', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_public_names():
    assert sorted(cgan_tf.__all__) == ["Editor", "EditorError", "__version__", "load_editor"]
    assert issubclass(cgan_tf.EditorError, UserError)
    assert (Path(cgan_tf.__file__).parent / "py.typed").exists()
    with pytest.raises(AttributeError, match="has no attribute 'load_model'"):
        cgan_tf.load_model  # noqa: B018


# ---- the forms of a model ----------------------------------------------------------------------


def test_all_forms_give_the_same_image(editors, photo):
    results = {}
    for name, editor in editors.items():
        assert editor.attributes == fake_run.ATTRIBUTES and editor.resolution == 32
        results[name] = editor.edit(photo, Smiling=0.5, Eyeglasses=-0.25)
        assert isinstance(results[name], Image.Image) and results[name].size == (60, 40)
    difference = np.int16(results["run"]) - images.decode_file(photo)
    assert np.abs(difference).mean() > 1, "the edit must show"
    for name in ("saved_model", "float32"):
        assert np.abs(np.int16(results[name]) - np.int16(results["run"])).max() <= 1
    assert repr(editors["run"]) == "Editor(32 px; Smiling, Blond_Hair, Eyeglasses)"


def test_the_command_gives_the_same_image(editors, photo, tmp_path):
    for name, flags, arguments in (
        ("edit", ["--edit=Smiling=0.5"], {"Smiling": 0.5}),
        ("detail", ["--edit=Smiling=1", "--keep_detail"], {"Smiling": 1, "keep_detail": True}),
        ("set", ["--set=Smiling=0.45"], {"target": {"Smiling": 0.45}}),
        ("center", ["--edit=Smiling=1", "--face=center"], {"Smiling": 1, "face": "center"}),
    ):
        output = tmp_path / f"{name}.png"
        places = [f"--model={fake_run.slim_run().path}", f"--image={photo}", f"--output={output}"]
        assert command_flags.run(translate.define_flags, translate.main, places + flags) == 0
        edited = editors["run"].edit(photo, **arguments)
        np.testing.assert_array_equal(np.asarray(edited), images.decode_file(output), name)


def test_scores_are_those_of_the_command(editors, photo, tmp_path):
    output = tmp_path / "scores.csv"
    flags = [f"--model={fake_run.slim_run().path}", f"--image={photo}", f"--output={output}"]
    assert command_flags.run(label.define_flags, label.main, flags) == 0
    header, row = (line.split(",") for line in output.read_text().splitlines())
    for name in ("run", "saved_model"):
        scores = editors[name].scores(photo)
        assert tuple(scores) == editors[name].score_names == tuple(header[1:])
        np.testing.assert_allclose(list(scores.values()), np.float64(row[1:]), atol=1.1e-4)


# ---- the forms of a photo ----------------------------------------------------------------------


def test_paths_images_and_arrays_give_the_same_edit(editors, photo):
    editor, pixels = editors["float32"], images.decode_file(photo)
    edited = np.asarray(editor.edit(photo, Smiling=1))
    np.testing.assert_array_equal(editor.edit(str(photo), Smiling=1), edited)
    np.testing.assert_array_equal(editor.edit(Image.open(photo), Smiling=1), edited)
    result = editor.edit(pixels, Smiling=1)
    assert isinstance(result, np.ndarray) and result.dtype == np.uint8
    np.testing.assert_array_equal(result, edited)
    for dtype in (np.float16, np.float32, np.float64):
        result = editor.edit(images.to_float(pixels).astype(dtype), Smiling=1)
        assert result.dtype == dtype and result.shape == pixels.shape
        assert np.abs(result - images.to_float(edited)).max() <= 2 / 127.5


def test_what_the_edit_does_not_change_stays_exactly(editors):
    photo = np.random.default_rng(0).uniform(-1, 1, (40, 60, 3))
    edited = editors["float32"].edit(photo, Smiling=1)
    np.testing.assert_array_equal(edited[:, :10], photo[:, :10])
    assert np.abs(edited - photo).max() > 0.1


def test_the_orientation_of_an_image_is_applied(editors, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    random_photo(60, 40).save(tmp_path / "turned.jpg", exif=exif)
    by_path = editors["float32"].edit(tmp_path / "turned.jpg", Smiling=1)
    assert by_path.size == (40, 60)
    by_image = editors["float32"].edit(Image.open(tmp_path / "turned.jpg"), Smiling=1)
    np.testing.assert_array_equal(by_image, by_path)


@pytest.mark.parametrize(
    "mode, result", [("L", "L"), ("RGBA", "RGBA"), ("CMYK", "RGB"), ("P", "RGB")]
)
def test_images_of_other_modes(editors, mode, result):
    edited = editors["float32"].edit(random_photo(60, 40).convert(mode), Smiling=1)
    assert edited.size == (60, 40) and edited.mode == result


def test_an_edited_image_has_the_colors_and_metadata_of_the_photo(editors, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    photo = random_photo(60, 40)
    photo.save(tmp_path / "p3.png", icc_profile=pictures.display_p3(), exif=exif)
    edited = editors["float32"].edit(tmp_path / "p3.png", Smiling=1)
    np.testing.assert_array_equal(np.asarray(edited)[:, :10], np.asarray(photo)[:, :10])
    edited.save(tmp_path / "out.jpg", **edited.info)
    with Image.open(tmp_path / "out.jpg") as saved:
        assert saved.info["icc_profile"] == pictures.display_p3()
        assert saved.getexif()[0x010F] == "Maker"


def test_strengths_can_be_a_mapping(editors, photo):
    editor = editors["float32"]
    both = editor.edit(photo, strengths={"Smiling": 1}, Eyeglasses=np.float32(0.5))
    np.testing.assert_array_equal(both, editor.edit(photo, Smiling=1, Eyeglasses=0.5))


def test_a_warning_for_a_photo_unlike_the_training_photos(photo):
    with pytest.warns(UserWarning, match=r"me.png \(60x40.*\): unlike the training photos"):
        cgan_tf.Editor(ShiftBackend(psnr_p5=99.0)).edit(photo, Light=0.1)


# ---- faces -------------------------------------------------------------------------------------


def test_faces_are_found_if_the_model_was_trained_on_them():
    editor = cgan_tf.Editor(ShiftBackend(description.CELEBA_CROP))
    photo = photo_with_faces((1, 200, 250, 220, 0), (5, 620, 380, 320, 0))

    def changed(**options):
        edited = editor.edit(photo, Light=0.5, **options)
        return np.abs(np.int16(edited) - photo).max(axis=-1) > 4

    assert changed()[250, 200] and changed()[380, 620]
    np.testing.assert_array_equal(changed(), changed(face="all"))
    assert not changed(face=1)[250, 200] and changed(face=1)[380, 620]
    assert changed(face=2)[250, 200] and not changed(face=2)[380, 620]
    assert changed(face="center")[350, 450]
    with pytest.raises(cgan_tf.EditorError) as caught:
        editor.edit(photo, Light=1, face=3)
    assert str(caught.value) == "photo: face=3: only 2 faces were found"
    with pytest.raises(cgan_tf.EditorError) as caught:
        editor.edit(gray(128, 300, 400), Light=1)
    assert str(caught.value) == "photo: no face found; face=center takes the center"


# ---- wrong input -------------------------------------------------------------------------------


def test_what_is_no_editor(tmp_path):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "broken.tflite").write_bytes(b"no model")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{")
    for name, message in (
        ("gone", "gone: no such file or folder; give a run folder, a SavedModel folder, a"),
        ("", ": not a model; it contains neither config.json (a run folder) nor saved_model.pb"),
        ("notes.txt", "notes.txt: not a model; a file must be a .tflite"),
        ("broken.tflite", "broken.tflite: damaged, or not a TFLite model"),
        ("half", "half"),
    ):
        with pytest.raises(cgan_tf.EditorError) as caught:
            cgan_tf.load_editor(tmp_path / name)
        assert message in str(caught.value) and "--model" not in str(caught.value)
        assert caught.value.argument == "model" and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "no attribute to edit; give a strength, as Smiling=+1"),
        ({"Smile": 1}, "Smile: unknown attribute (did you mean Smiling?); the model has Smiling, "),
        ({"target": {"Smile": 1}}, "Smile: unknown attribute (did you mean Smiling?)"),
        ({"Smiling": float("nan")}, "Smiling=nan: the strength must be finite"),
        ({"Smiling": "1"}, "Smiling='1': the strength is no number; give one, as Smiling=1"),
        ({"strengths": {"Smiling": 1}, "Smiling": 1}, "Smiling: given twice; give it once"),
        ({"target": {"Smiling": 2}}, "Smiling=2: Smiling's value is 2; give one from 0"),
        ({"Smiling": 1, "face": "left"}, "face=left: give all, center, or a number"),
        ({"Smiling": 1, "face": 2}, "face=2: this model was trained on the center squares"),
    ],
)
def test_wrong_arguments(editors, photo, arguments, message):
    with pytest.raises(cgan_tf.EditorError) as caught:
        editors["run"].edit(photo, **arguments)
    assert str(caught.value).startswith(message)
    assert "--" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_tflite_file_has_no_scores(editors, photo):
    editor = editors["float32"]
    assert editor.score_names == ()
    reason = "this model has no regressor; load the run folder or the SavedModel"
    with pytest.raises(cgan_tf.EditorError, match=f"^{reason}"):
        editor.scores(photo)
    with pytest.raises(cgan_tf.EditorError, match=f"^no prediction of Smiling: {reason}"):
        editor.edit(photo, target={"Smiling": 0.8})


@pytest.mark.parametrize(
    "photo, message",
    [
        (np.zeros((40, 60)), "photo: an array of shape (40, 60); give [H, W, 3]"),
        (np.zeros((40, 60, 4), np.uint8), "photo: an array of shape (40, 60, 4); give [H, W, 3]"),
        (np.zeros((0, 60, 3), np.uint8), "photo: an array of shape (0, 60, 3); give [H, W, 3]"),
        (np.zeros((4, 6, 3), np.int64), "photo: an array of int64; give uint8, or floats in [-1"),
        (np.full((4, 6, 3), 255.0), "photo: an array of values from 255 to 255; give floats in"),
        (np.full((4, 6, 3), np.nan), "photo: an array of values from nan to nan; give floats in"),
        (7, "photo: a int; give a path, a PIL image or an array"),
        (Image.new("F", (40, 40)), "photo: pixel format F has no defined range"),
    ],
)
def test_wrong_photos(editors, photo, message):
    for call in (
        lambda: editors["run"].edit(photo, Smiling=1),
        lambda: editors["run"].scores(photo),
    ):
        with pytest.raises(cgan_tf.EditorError) as caught:
            call()
        assert str(caught.value).startswith(message) and caught.value.argument == "photo"


def test_wrong_files(editors, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("broken.jpg").write_text("no image")
    os.mkdir("folder")
    for name, message in (
        ("me.jpg", "me.jpg: no such file"),
        ("folder", "folder: a folder; give one photo"),
        ("broken.jpg", "broken.jpg: not an image file"),
    ):
        with pytest.raises(cgan_tf.EditorError) as caught:
            editors["float32"].edit(name, Smiling=1)
        assert str(caught.value) == message
