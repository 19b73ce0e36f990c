"""The label command: its table, what it refuses, and that both forms of a model agree."""

import csv
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import command_flags
import fake_run
import keras
import numpy as np
import pytest
from face_pictures import photo_with_faces
from photos import save_photo

from cgan_tf.commands import label
from cgan_tf.core import artifact, cli
from cgan_tf.core import config as config_module
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import folder, images, synthetic
from cgan_tf.data.portraits import choose_face
from cgan_tf.editing import models
from cgan_tf.networks.vgg import Regressor

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("slim")


@pytest.fixture(scope="module")
def forms():
    """The same model as run folder and as SavedModel."""
    return {name: fake_run.slim_forms()[name] for name in ("run", "saved_model")}


@pytest.fixture
def photos(tmp_path):
    """Three photos that are not written in the order of their names."""
    path = tmp_path / "photos"
    path.mkdir()
    for seed, name in enumerate(("c.png", 'a,"b".jpg', "b.webp")):
        save_photo(path / name, seed=seed)
    return path


def command(**options):
    """Runs the command in this process."""
    arguments = [f"--{name}={value}" for name, value in options.items()]
    return command_flags.run(label.define_flags, label.main, arguments)


def read(path):
    """The table's header, file names, and cells as float64 `[N, K]`."""
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    return header, [row[0] for row in rows], np.float64([row[1:] for row in rows])


def expected(paths):
    """The scores of the run's regressor for the photos, one by one."""
    model = artifact.load_model(Regressor, fake_run.slim_run().stage("regressor").model)
    crops = [images.center_square_resize(images.decode_file(path), 32) for path in paths]
    return np.concatenate([model(images.to_float(crop[None])).numpy() for crop in crops])


# ---- photos ------------------------------------------------------------------------------------


def test_the_scores_of_a_folder(forms, photos, tmp_path, capsys):
    tables = {}
    for name, model in forms.items():
        output = tmp_path / f"{name}.csv"
        assert command(model=model, image=photos, output=output) == 0
        assert capsys.readouterr() == (f"{output}: 3 scored, 0 skipped\n", "")
        header, files, tables[name] = read(output)
        assert header == ["file", *synthetic.ATTRIBUTES]
        assert files == ['a,"b".jpg', "b.webp", "c.png"]
    assert np.ptp(tables["run"], axis=0).max() > 0.01, "equal scores would show nothing"
    scores = expected([photos / file for file in files])
    assert np.abs(tables["run"] - scores).max() <= 0.5e-4 + 1e-5
    assert np.abs(tables["saved_model"] - tables["run"]).max() <= 1e-4 + 1e-9
    text = (tmp_path / "run.csv").read_text()
    assert all(len(cell.partition(".")[2]) == 4 for cell in text.splitlines()[2].split(",")[1:])


def test_the_scores_of_one_photo(forms, photos, tmp_path):
    command(model=forms["run"], image=photos, output=tmp_path / "all.csv")
    command(model=forms["run"], image=photos / "b.webp", output=tmp_path / "one.csv")
    lines = (tmp_path / "all.csv").read_text().splitlines()
    assert (tmp_path / "one.csv").read_text().splitlines() == [lines[0], lines[2]]


def test_a_tree_of_folders(forms, photos, tmp_path, capsys):
    """Named relative to the folder, with the scores that the photos have in one folder."""
    output = tmp_path / "flat.csv"
    command(model=forms["run"], image=photos, output=output)
    flat = read(output)[2]
    for name, place in (("b.webp", "sub/deeper/b.webp"), ("c.png", "sub/c.png")):
        (photos / place).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).rename(photos / place)
    (photos / ".hidden").mkdir()
    save_photo(photos / ".hidden" / "d.png")
    capsys.readouterr()
    output = tmp_path / "tree.csv"
    assert command(model=forms["run"], image=f"{photos}/", output=output) == 0
    counted = f"--image={photos}/: 3 photos in 3 folders\n"
    assert capsys.readouterr().out == f"{counted}{output}: 3 scored, 0 skipped\n"
    _, files, tree = read(output)
    assert files == ['a,"b".jpg', "sub/c.png", "sub/deeper/b.webp"]
    np.testing.assert_array_equal(tree, flat[[0, 2, 1]])
    command(model=forms["run"], image=photos, output=photos / "labels.csv", binary="true")
    source = folder.open_folder(str(photos), 32, say=lambda line: None)
    np.testing.assert_array_equal(source.labels, tree > 0.5)


def test_a_photo_scores_the_same_among_others(forms, photos, tmp_path, monkeypatch):
    """Also in another batch, and at another position in it."""
    command(model=forms["run"], image=photos, output=tmp_path / "few.csv")
    for index in range(31):
        save_photo(photos / f"Z{index:02d}.png", seed=index)  # sorted before the others
    command(model=forms["run"], image=photos, output=tmp_path / "many.csv")
    few, many = (read(tmp_path / f"{name}.csv") for name in ("few", "many"))
    assert many[1][31:] == few[1] and len(many[1]) == 34
    np.testing.assert_array_equal(many[2][31:], few[2])
    monkeypatch.setattr(label, "BATCH", 5)
    command(model=forms["run"], image=photos, output=tmp_path / "fives.csv")
    assert np.abs(read(tmp_path / "fives.csv")[2] - many[2]).max() <= 1e-4 + 1e-9


def test_the_model_sees_only_full_batches():
    """Smaller ones round differently, though four decimals seldom show it."""
    sizes = []

    def run(signature, image):
        sizes.append(len(image))
        return image[:, 0, 0, :1]

    named_images = [(str(i), np.full((8, 8, 3), i, np.uint8)) for i in range(40)]
    file = io.BytesIO()
    labeler = label.Labeler(("A",), 8, False, "normal", 8, run)
    assert label.label(labeler, named_images, file) == (40, 0) and sizes == [32, 32]
    rows = [line.split(",") for line in file.getvalue().decode().splitlines()[1:]]
    assert [(name, float(score)) for name, score in rows] == [
        (str(i), pytest.approx(i / 127.5 - 1, abs=0.6e-4)) for i in range(40)
    ]


def test_broken_photos_are_skipped_and_counted(forms, photos, tmp_path, capsys):
    broken = photos / "b.webp"
    broken.write_bytes(broken.read_bytes()[:30])
    output = tmp_path / "scores.csv"
    assert command(model=forms["run"], image=photos, output=output) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{output}: 2 scored, 1 skipped\n"
    assert printed.err.startswith(f"skipped: cannot read image {broken}: ")
    assert printed.err.count("\n") == 1
    assert read(output)[1] == ['a,"b".jpg', "c.png"]
    for path in photos.iterdir():
        path.write_text("no photo")
    before = output.read_bytes()
    with pytest.raises(UserError, match="none of its 3 photos could be scored"):
        command(model=forms["run"], image=photos, output=output, overwrite="true")
    assert output.read_bytes() == before and len(os.listdir(tmp_path)) == 2
    with pytest.raises(UserError, match="--image: cannot read image .*c.png.*another photo"):
        command(model="nowhere", image=photos / "c.png", output=tmp_path / "new.csv")


def test_celebas_photos_get_their_crop(forms, photos, tmp_path):
    """If the model was trained on them; as in translate."""
    pixels = np.random.default_rng(0).integers(0, 256, (109, 89, 3), np.uint8)
    seen = []

    def run(signature, image):
        seen.append(image)
        return np.zeros((len(image), 1), np.float32)

    images.save_png(photos / "only" / "aligned.png", pixels)
    for aligned, crop in ((True, images.celeba_crop_resize), (False, images.center_square_resize)):
        labeler = label.Labeler(("A",), 32, aligned, "normal", 8, run)
        which = choose_face(None, aligned)
        named_images = label.read_photos(labeler, [photos / "only" / "aligned.png"], which)
        assert label.label(labeler, named_images, io.BytesIO()) == (1, 0)
        np.testing.assert_array_equal(seen.pop()[0], images.to_float(crop(pixels, 32)))


def test_the_largest_face_of_a_photo_is_scored(tmp_path, capsys):
    """Or the one that --face gives; a photo without a face has no row."""
    small, large = (4, 650, 300, 160, 0), (1, 250, 350, 300, 0)
    images.save_png(tmp_path / "one.png", photo_with_faces(large))
    images.save_png(tmp_path / "two.png", photo_with_faces(small, large))
    images.save_png(tmp_path / "z.png", np.full((300, 400, 3), 128, np.uint8))
    paths = sorted(tmp_path.glob("*.png"))
    labeler = label.Labeler(("A",), 64, True, "normal", 8, None)
    one, two, none = (pixels for _, pixels in label.read_photos(labeler, paths, "all"))
    assert np.abs(one.astype(int) - two).mean() < 4, "the same face, alone and next to another"
    assert "z.png: no face found" in str(none)
    _, second, _ = (pixels for _, pixels in label.read_photos(labeler, paths, 2))
    assert np.abs(two.astype(int) - second).mean() > 20
    *_, center = (pixels for _, pixels in label.read_photos(labeler, paths, "center"))
    np.testing.assert_array_equal(center, np.full((64, 64, 3), 128))


# ---- samples -----------------------------------------------------------------------------------


def test_samples_and_their_images(forms, tmp_path, capsys):
    tables = {}
    for name, model in forms.items():
        output, folder = tmp_path / f"{name}.csv", tmp_path / name
        command(model=model, samples=3, seed=5, output=output, samples_dir=folder)
        assert capsys.readouterr() == (f"{output}: 3 scored, 0 skipped\n", "")
        _, files, tables[name] = read(output)
        assert files == sorted(os.listdir(folder)) == [f"sample00000{i}.png" for i in range(3)]
    assert np.ptp(tables["run"], axis=0).max() > 0.001
    # The last bits of the generators may round a pixel to another level.
    assert np.abs(tables["saved_model"] - tables["run"]).max() <= 5e-4
    difference = [
        np.int16(images.decode_file(tmp_path / "saved_model" / file))
        - images.decode_file(tmp_path / "run" / file)
        for file in files
    ]
    assert np.abs(difference).max() <= 1
    command(model=forms["run"], image=tmp_path / "run", output=tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "run.csv").read_bytes()


def test_a_sample_depends_only_on_seed_and_number(forms, tmp_path):
    few, many, other = (tmp_path / f"{name}.csv" for name in ("few", "many", "other"))
    command(model=forms["run"], samples=3, output=few)
    command(model=forms["run"], samples=35, output=many)
    command(model=forms["run"], samples=3, seed=2, output=other)
    lines = many.read_text().splitlines()
    assert few.read_text().splitlines() == lines[:4] and len(lines) == 36
    assert lines[1].startswith("sample000000,") and lines[35].startswith("sample000034,")
    assert len({line.partition(",")[2] for line in lines}) == 36, "all samples differ"
    assert other.read_text().splitlines()[1] != lines[1]


def test_z_is_drawn_from_the_prior():
    sampled = []

    def run(signature, z):
        sampled.append(z)
        return np.zeros((len(z), 8, 8, 3), np.float32)

    for prior in ("normal", "uniform"):
        list(label.generate_samples(label.Labeler((), 8, False, prior, 500, run), 40, seed=1))
    z = np.concatenate(sampled[:2])
    assert z.dtype == np.float32 and abs(z.std() - 1) < 0.03 and np.abs(z).max() > 3
    z = np.concatenate(sampled[2:])
    assert 0.99 < np.abs(z).max() <= 1 and abs(z.std() - 3**-0.5) < 0.02


# ---- labels to train on ------------------------------------------------------------------------


def test_the_folder_source_reads_what_binary_writes(forms, photos, tmp_path):
    command(model=forms["run"], image=photos, output=tmp_path / "scores.csv")
    command(model=forms["run"], image=photos, output=photos / "labels.csv", binary="true")
    _, files, scores = read(tmp_path / "scores.csv")
    assert (scores > 0.5).any() and (scores < 0.5).any()
    source = folder.open_folder(str(photos), 32, say=lambda line: None)
    assert source.attribute_names == synthetic.ATTRIBUTES
    assert source.files == tuple(files)
    np.testing.assert_array_equal(source.labels, scores > 0.5)


def test_labeled_samples_are_a_data_set(forms, tmp_path):
    faces = tmp_path / "new" / "faces"
    output = faces / "labels.csv"
    command(model=forms["run"], samples=4, samples_dir=faces, output=output, binary="true")
    source = folder.open_folder(str(faces), 32, say=lambda line: None)
    assert source.files == tuple(f"sample00000{index}.png" for index in range(4))
    assert set(np.unique(source.labels)) == {0, 1}


def test_a_file_name_that_is_not_utf8(tmp_path):
    """Its bytes are written as they are."""
    labeler = label.Labeler(("A",), 8, False, "normal", 8, lambda _, image: np.full((32, 1), 0.25))
    file = io.BytesIO()
    label.label(labeler, [(os.fsdecode(b"caf\xe9.jpg"), np.zeros((8, 8, 3), np.uint8))], file)
    assert file.getvalue() == b"file,A\ncaf\xe9.jpg,0.2500\n"


# ---- the parts of a model ----------------------------------------------------------------------


def test_photos_need_only_the_regressor(forms, photos, tmp_path):
    complete = fake_run.slim_run().path
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(complete / "config.json", alone)
    command_line = {"model": alone, "image": photos, "output": tmp_path / "alone.csv"}
    with pytest.raises(UserError, match="the regressor stage has not finished; run python train_m"):
        command(**command_line)
    shutil.copytree(complete / "regressor", alone / "regressor")
    command(**command_line)
    command(model=complete, image=photos, output=tmp_path / "complete.csv")
    assert (tmp_path / "alone.csv").read_bytes() == (tmp_path / "complete.csv").read_bytes()
    with pytest.raises(UserError, match="the gan stage has not finished; run python train_main.py"):
        command(model=alone, samples=1, output=tmp_path / "samples.csv")
    assert not (tmp_path / "samples.csv").exists()


def test_samples_of_a_stylegan_are_truncated(tmp_path):
    """As by the signature `sample`."""
    config = fake_run.make_config(tmp_path / "cache", gan_arch="stylegan", export_truncation=0.0)
    run, complete = RunFolder(tmp_path / "run"), fake_run.slim_run()
    for stage in ("regressor", "gan"):  # with the metadata of finished stages
        shutil.copytree(complete.stage(stage).path, run.stage(stage).path)
    generator = models.build_generator(config)
    for layer in generator.to_image:  # its initial images are gray
        layer.kernel.assign(keras.random.normal(layer.kernel.shape, seed=1))
    artifact.save_model(generator, run.stage("gan").model)

    def two_samples():
        labeler = label.open_labeler(str(run.path), samples=True)
        return [np.int16(pixels) for _, pixels in label.generate_samples(labeler, 2, seed=1)]

    run.save_config(config, {})
    np.testing.assert_array_equal(*two_samples())  # psi 0: only the mean of w
    run.save_config(config_module.replace(config, export_truncation=1.0), {})
    assert np.abs(np.subtract(*two_samples())).max() > 5


def test_a_saved_model_that_cannot_label(forms, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(forms["saved_model"] / "1", copy)
    path = copy / "assets.extra" / "model.json"
    path.write_text(path.read_text().replace('"scores":', '"scored":', 1))
    with pytest.raises(UserError, match="lacks 'scores'; export it with cgan export"):
        label.open_labeler(str(copy), samples=False)


@pytest.mark.parametrize(
    "answer, message",
    [
        (np.zeros((32, 2)), "it names 1 attributes, but returns 2 scores"),
        (np.full((32, 1), np.nan), "a score is not finite"),
    ],
)
def test_invalid_scores(answer, message):
    labeler = label.Labeler(("A",), 8, False, "normal", 8, lambda _, image: answer)
    with pytest.raises(UserError, match=message):
        labeler.score(np.zeros((3, 8, 8, 3), np.uint8))


def test_samples_that_are_not_finite():
    labeler = label.Labeler((), 8, False, "normal", 8, lambda _, z: np.full((32, 8, 8, 3), np.inf))
    with pytest.raises(UserError, match="a sample is not finite"):
        next(label.generate_samples(labeler, 1, seed=1))


# ---- what is refused before any work -----------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"model": ""}, "--model: not given"),
        ({"output": ""}, "--output: not given"),
        ({"image": ""}, "--image, --samples: give one of the two"),
        ({"samples": 4}, "--image, --samples: give one of the two"),
        ({"samples_dir": "x"}, "--samples_dir: only with --samples"),
        ({"image": "", "samples": 4, "face": "1"}, "--face: only with --image; leave it out"),
        ({"face": "all"}, "--face=all: a photo has one row; give center, or a number"),
        ({"face": "left"}, "--face=left: give all, center, or a number"),
        ({"face": "2"}, "--face=2: this model was trained on the center squares"),
        ({"image": "gone"}, "--image=gone: no such file or folder"),
        ({"output": "scores.txt"}, "--output=scores.txt: give a name that ends in .csv"),
        (
            {"output": "gone/s.csv"},
            "--output=gone/s.csv: the folder gone does not exist; create it",
        ),
        ({"output": "taken/s.csv"}, "--output=taken/s.csv: taken is a file; choose another"),
        ({"output": "there.csv"}, "--output=there.csv: exists; --overwrite replaces it"),
        ({"output": "folder.csv"}, "--output=folder.csv: is a folder; choose another name"),
        ({"model": "gone"}, "--model=gone: no such file or folder"),
        ({"model": "empty"}, "--model=empty: not a model; it contains neither config.json"),
        (
            {"image": "", "samples": 3, "samples_dir": "images"},
            "--samples_dir=images: images/sample000002.png exists; --overwrite replaces it",
        ),
        (
            {"image": "", "samples": 3, "samples_dir": "taken"},
            "--samples_dir=taken: taken is a file; choose another folder",
        ),
    ],
)
def test_refused(photos, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "folder.csv", "images"):
        os.mkdir(name)
    for name in ("taken", "there.csv", "images/sample000002.png"):
        Path(name).touch()
    before = sorted(Path().rglob("*"))
    given = {"model": fake_run.slim_run().path, "image": photos, "output": "new.csv"} | options
    with pytest.raises(UserError) as caught:
        command(**given)
    assert str(caught.value).startswith(message)
    assert sorted(Path().rglob("*")) == before


def test_a_folder_that_may_not_be_written_to(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(
        UserError, match=f"no permission to write in {tmp_path}; choose another folder"
    ):
        label.plan_output(str(tmp_path / "scores.csv"), overwrite=False)
    with pytest.raises(UserError, match="--samples_dir=.*no permission to write in"):
        label.plan_samples(str(tmp_path / "new"), 3, overwrite=False)


def test_overwrite_replaces(forms, tmp_path):
    folder, output = tmp_path / "images", tmp_path / "scores.csv"
    folder.mkdir()
    for path in (output, folder / "sample000000.png"):
        path.write_text("old")
    command(model=forms["run"], samples=1, output=output, samples_dir=folder, overwrite="true")
    assert read(output)[1] == ["sample000000.png"]
    assert images.decode_file(folder / "sample000000.png").shape == (32, 32, 3)


# ---- the command line --------------------------------------------------------------------------


@pytest.mark.slow
def test_only_the_summary_is_printed(forms, photos, tmp_path):
    """In a process of its own, where TensorFlow would print its start-up messages."""
    output = tmp_path / "scores.csv"
    given = [f"--model={forms['saved_model']}", f"--image={photos}", f"--output={output}"]
    done = subprocess.run(
        [sys.executable, "-m", "cgan_tf", "label", *given],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    printed = (done.returncode, done.stdout, done.stderr)
    assert printed == (0, f"{output}: 3 scored, 0 skipped\n", "")


def test_mistakes_end_in_one_line(forms, photos, tmp_path, capsys):
    output = tmp_path / "scores.csv"
    output.touch()
    given = [f"--model={forms['saved_model']}", f"--image={photos}", f"--output={output}"]
    tflite = fake_run.slim_forms()["float32"]
    for wrong, line in (
        ([*given, "--samples=0"], "--samples=0: 0 is not a positive integer (see --help)"),
        ([*given, "--samples=some"], "--samples=some: "),
        (given, f"--output={output}: exists; --overwrite replaces it"),
        (
            [f"--model={tflite}", given[1], f"--output={tmp_path / 'never.csv'}"],
            f"--model={tflite}: a .tflite file has no attribute scores; give the run folder or "
            "the SavedModel",
        ),
    ):
        code = command_flags.run_line("label", *wrong)
        printed = capsys.readouterr()
        assert code == cli.USER_ERROR_CODE and printed.out == ""
        assert printed.err.startswith(f"error: {line}") and printed.err.count("\n") == 1


def test_runs_are_only_read(forms, photos, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in forms["run"].rglob("*")}
    command(model=forms["run"], image=photos, output=tmp_path / "scores.csv")
    assert {path: path.stat().st_mtime_ns for path in RunFolder(forms["run"]).path.rglob("*")} == (
        before
    )
