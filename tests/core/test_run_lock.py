"""core.run_folder: one process at a time, and folders that cannot be used."""

import subprocess
import sys
from pathlib import Path

import tiny
from refusal import message

from cgan_tf.core.run_folder import RunFolder

ROOT = Path(__file__).parents[2]


def test_a_second_process_is_kept_out_until_the_first_has_ended(tmp_path):
    path = tmp_path / "run"
    script = (
        "import sys\n"
        "from cgan_tf.core.run_folder import RunFolder\n"
        "folder = RunFolder(sys.argv[1])\n"
        "folder.lock()\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "locked\n"
    assert message(RunFolder(path).lock) == (
        f"--run_dir={path}: another process is working in it; wait for it, or use another folder"
    )
    other.kill()
    other.wait()
    mine = RunFolder(path)
    mine.lock()
    assert "another process" in message(RunFolder(path).lock)
    assert tiny.listing(path) == [".lock"]
    other.stdin.close()
    other.stdout.close()


def test_a_file_instead_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        line = message(RunFolder(path).lock)
        assert line.startswith(f"--run_dir={path}: ") and line.endswith("; use another folder")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_is_one_line(tmp_path):
    line = message(RunFolder, tmp_path / ("x" * 300))
    assert line.startswith("--run_dir=") and line.endswith("File name too long; give another path")
    line = message(RunFolder("/proc/none/x").lock)
    assert line.startswith("--run_dir=") and line.endswith("; use another folder")
