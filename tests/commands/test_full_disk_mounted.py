"""A disk that is really full, under each stage and command: one line, and nothing is lost.

Needs the right to mount; `tests/core/test_full_disk.py` tests the writers without it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fake_run
import numpy as np
import pytest
import tiny
from face_pictures import photo_with_faces

from cgan_tf.core import artifact
from cgan_tf.core.files import file_hash
from cgan_tf.data import images
from cgan_tf.networks.dcgan import Discriminator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LEFT = 40_000  # bytes that are free at the start: enough for a table, not for a model or a photo
STAGES = ("gan", "regressor", "inversion", "features", "directions", "evaluate", "export")


@pytest.fixture
def disk(tmp_path):
    """The folder of a file system of its own, of 600 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"mounting is not allowed: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def run(disk, cache, faces):
    """An untrained run on the disk, whose stages up to directions look finished."""
    made = fake_run.make_run(disk / "run", tiny.make_config(cache))
    artifact.save_model(Discriminator(32, 4), made.stage("gan").path / "discriminator")
    return made.path


def fill(disk, left):
    """Writes a file that leaves so many bytes free."""
    state = os.statvfs(disk)
    free = state.f_bavail * state.f_frsize - left
    with open(disk / "filler", "wb") as file:
        while free > 0:
            free -= file.write(bytes(min(free, 2**24)))


def contents(disk):
    """The hash of each file that a command must not lose: `--restart` only moves them.

    A train command writes the run's config.json again.
    """
    files = [path for path in disk.rglob("[!.]*") if path.is_file()]
    return {file_hash(path) for path in files if path.name != "config.json"}


def cgan(*arguments):
    """Exit code, and what was written to stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "cgan_tf", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return done.returncode, done.stderr


def check(disk, left, *arguments):
    """The command fails in one line that names a path on the disk, and every old file is kept."""
    fill(disk, left)
    before = contents(disk)
    code, error = cgan(*arguments)
    assert code == 2, error
    errors = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in error, error
    found = re.fullmatch(
        r"error: the disk is full \((.+)\): free some space and run the same command again",
        errors[0],
    )
    assert found and found[1].startswith(str(disk)) and "/." not in found[1], errors[0]
    assert before <= contents(disk)
    assert not [path for path in disk.rglob(".*") if path.name != ".lock"]
    (disk / "filler").unlink()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage(disk, run, stage):
    check(disk, LEFT, "train", f"--stage={stage}", f"--run_dir={run}", "--restart")


def test_export_to_a_folder(disk, run):
    (disk / "out.old").mkdir()
    shutil.copy(run / "config.json", disk / "out.old")
    check(disk, LEFT, "export", f"--run_dir={run}", f"--output={disk / 'out'}")
    assert not (disk / "out").exists()


@pytest.fixture
def photos(tmp_path):
    """Three photos with a face; noise, which no format makes small."""
    folder = tmp_path / "photos"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(3):
        pixels = photo_with_faces((1, 450, 350, 300, 0)).astype(int)
        pixels += draw.integers(-8, 9, pixels.shape)
        images.save_png(folder / f"{number}.png", pixels.clip(0, 255).astype(np.uint8))
    return folder


def test_translate(disk, photos, run):
    size = [f"--model={run}", f"--image={photos}", "--edit=Smiling=+1", f"--output={disk / 'out'}"]
    assert cgan("translate", *size)[0] == 0
    (disk / "out" / "1.png").write_bytes(b"the user's")
    check(disk, LEFT, "translate", *size, "--overwrite")


def test_label(disk, photos, run):
    table = disk / "labels.csv"
    table.write_text("old")
    arguments = [f"--model={run}", f"--image={photos}", f"--output={table}", "--overwrite"]
    check(disk, 0, "label", *arguments)
    assert table.read_text() == "old"
    assert cgan("label", *arguments)[0] == 0 and table.read_text() != "old"


def test_align(disk, photos):
    (disk / "old.png").write_bytes(b"old")
    check(disk, LEFT, "align", f"--image={photos}", f"--output={disk / 'out'}")


def test_attribute(disk, tmp_path, run, faces):
    bright = faces.read(np.arange(len(faces.files))).mean(axis=(1, 2, 3))
    order = np.argsort(bright)
    rows = [
        f"{faces.files[row]},{-1 if place < 30 else 1}"
        for place, row in enumerate([*order[:30], *order[-30:]])
    ]
    (tmp_path / "bright.csv").write_text("\n".join(["file,Bright", *rows]))
    before = (run / "config.json").read_bytes()
    check(disk, LEFT, "attribute", f"--run_dir={run}", f"--labels={tmp_path / 'bright.csv'}")
    assert (run / "config.json").read_bytes() == before
