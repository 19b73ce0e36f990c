"""From photos of any framing to edits in such photos: align, train on the squares, translate."""

import csv
import json
import shutil

import command_flags
import evaluated_run
import numpy as np
import pytest
import tiny
from face_pictures import DETECTABLE, photo_with_faces
from train_command import tiny_flags

from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import images
from cgan_tf.editing import description
from cgan_tf.report import page

PHOTOS = 30
PLACES = ((130, 150, 150), (310, 260, 170))  # center x, y and side of the two faces, px


def draw_photos(folder, count):
    """Photos with one face each, and their labels."""
    labels = ["file,Smiling"]
    for index in range(count):
        face = (DETECTABLE[index % 3], 170 + index, 160, 180, 0)
        images.save_png(folder / f"{index:02d}.png", photo_with_faces(face, size=(320, 400)))
        labels.append(f"{index:02d}.png,{1 if index % 2 else -1}")
    (folder / "labels.csv").write_text("\n".join(labels))


@pytest.mark.slow
def test_a_model_of_aligned_photos_finds_the_faces_in_others(command, tmp_path, cache):
    photos, squares, run = tmp_path / "photos", tmp_path / "squares", tmp_path / "run"
    draw_photos(photos, PHOTOS)
    code = command_flags.run_line("align", f"--image={photos}", f"--output={squares}")
    assert code == 0 and len(list(squares.glob("*.png"))) == PHOTOS

    data = {"data": "folder", "data_dir": str(squares), "attributes": ("Smiling",)}
    flags = tiny_flags(cache, **data)
    for stage in tiny.STAGES:
        code, _, error = command(f"--stage={stage}", f"--run_dir={run}", *flags)
        assert code == 0, error

    pixels = photo_with_faces(*((1, *place, 0) for place in PLACES), size=(400, 440))
    shutil.rmtree(photos)
    images.save_png(photos / "two.png", pixels)
    arguments = [f"--model={run}", f"--image={photos}", f"--output={tmp_path / 'out'}"]
    assert command_flags.run_line("translate", *arguments, "--edit=Smiling=+1") == 0
    with open(tmp_path / "out" / "translate.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["edited", "edited"]
    outside = np.ones(pixels.shape[:2], bool)
    changed = np.any(images.decode_file(tmp_path / "out" / "two.png") != pixels, axis=-1)
    found = sorted((float(row["x"]), float(row["y"]), float(row["side"])) for row in rows)
    for (x, y, side), (center_x, center_y, drawn) in zip(found, PLACES, strict=True):
        assert abs(x - center_x) < drawn / 8 and abs(y - center_y) < drawn / 6
        assert 0.7 < side / drawn < 1.4
        top, left = round(y - side / 2), round(x - side / 2)
        part = (slice(max(top, 0), round(y + side / 2) + 1),)
        part += (slice(max(left, 0), round(x + side / 2) + 1),)
        assert changed[part].mean() > 0.3
        outside[part] = False
    assert not changed[outside].any()
    check_figures(command, run, flags)


@pytest.mark.slow
def test_training_aligns_photos_and_resumes_without_its_cache(command, tmp_path):
    photos, run, kept = tmp_path / "photos", RunFolder(tmp_path / "run"), tmp_path / "cache"
    draw_photos(photos, 12)
    data = {"data": "photos", "data_dir": str(photos), "attributes": ("Smiling",)}
    line = [f"--run_dir={run.path}", *tiny_flags(kept, **data)]
    for stage in ("gan", "regressor"):
        code, out, error = command(f"--stage={stage}", *line)
        assert code == 0, error
        assert "12 faces aligned in 12 photos, 0 photos skipped" in out
        assert "data: aligning the faces in 12 photos (" in out
        shutil.rmtree(kept)
    assert description.training_crop(run) == description.CELEBA_CROP
    photos.rename(tmp_path / "moved")
    code, _, error = command("--stage=gan", f"--run_dir={run.path}")
    assert code == 2 and error == (
        f"error: --data_dir={photos} is not a folder; give the one with the images"
    )
    moved = [f"--run_dir={run.path}", f"--data_dir={tmp_path / 'moved'}"]
    code, out, _ = command("--stage=gan", *moved)
    assert code == 0 and "gan: finished at" in out
    images.save_png(tmp_path / "moved" / "00.png", photo_with_faces((1, 160, 160, 170, 0)))
    code, _, error = command("--stage=gan", *moved)
    assert code == 2 and "--data_dir (its photos or labels have changed)" in error


def check_figures(command, run, flags):
    """With a single attribute there is no leakage: None in both reports, and a page that shows it.

    JSON has no NaN, so `json.loads` refuses one here.
    """
    measured = [f"--{name}={value}" for name, value in evaluated_run.OPTIONS.items()]
    with evaluated_run.small_networks():
        for stage in ("evaluate", "export"):
            more = [*measured, "--export_formats=tflite", "--export_quantize=none"]
            code, _, error = command(f"--stage={stage}", f"--run_dir={run}", *flags, *more)
            assert code == 0, error

    def refuse(constant):
        raise AssertionError(f"{constant} in a report")

    reports = {
        stage: json.loads((run / stage / "report.json").read_text(), parse_constant=refuse)
        for stage in ("evaluate", "export")
    }
    assert reports["evaluate"]["edits"]["learned"]["Smiling"]["leakage"] is None
    exported = reports["export"]["variants"]["translator_float32"]
    assert exported["passed"] and exported["edits"]["attributes"]["Smiling"]["leakage"] is None
    assert "Smiling" in page.render(RunFolder(run))
