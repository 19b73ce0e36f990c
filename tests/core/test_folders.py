"""core.folders: a folder replaces another completely, by one process at a time."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiny
from refusal import message

from cgan_tf.core import files
from cgan_tf.core.files import replacing, write_text
from cgan_tf.core.folders import building, remove_leftovers, replacing_folder

ROOT = Path(__file__).parents[2]
BUSY = "another process is writing to it; wait for it, or choose another"


def fill(folder, text, overwrite=False):
    with replacing_folder(folder, f"--output={folder}", overwrite) as new:
        write_text(new / "file", text)


def test_a_folder_is_made_with_its_parents_and_nothing_else(tmp_path):
    fill(tmp_path / "deep" / "out", "first")
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "empty", "second")
    assert tiny.listing(tmp_path) == ["deep/out/file", "empty/file"]
    fill(tmp_path / "empty", "third", overwrite=True)
    assert (tmp_path / "empty" / "file").read_text() == "third"
    assert sorted(os.listdir(tmp_path)) == ["deep", "empty"]


def test_content_stays_unless_it_may_be_overwritten(tmp_path):
    for name, old in (("out", tmp_path / "out" / "mine"), ("file", tmp_path / "file")):
        write_text(old, "old")
        assert message(fill, tmp_path / name, "new") == (
            f"--output={tmp_path / name}: something else has been written there meanwhile; choose "
            "another folder"
        )
    assert tiny.listing(tmp_path) == ["file", "out/mine"]
    assert sorted(os.listdir(tmp_path)) == ["file", "out"]


@pytest.mark.parametrize("failing", ["block", "second rename"])
def test_an_error_leaves_the_old_folder(tmp_path, monkeypatch, failing):
    folder = tmp_path / "out"
    fill(folder, "old")
    replace = os.replace

    def fail(source, target):
        if Path(target) == folder and Path(source).name == "new":
            raise OSError("refused")
        replace(source, target)

    with pytest.raises(OSError, match="refused"):
        with replacing_folder(folder, "", overwrite=True) as new:
            write_text(new / "file", "new")
            if failing == "block":
                raise OSError("refused")
            monkeypatch.setattr(os, "replace", fail)
    assert (folder / "file").read_text() == "old" and os.listdir(tmp_path) == ["out"]


def test_places_that_cannot_be_written_to_are_one_line(tmp_path, monkeypatch):
    write_text(tmp_path / "file", "mine")
    below = tmp_path / "file" / "out"
    line = message(fill, below, "new")
    assert line.startswith(f"--output={below}: ") and line.endswith("; choose another folder")
    (tmp_path / "elsewhere").mkdir()
    write_text(tmp_path / "elsewhere" / "file", "mine")
    (tmp_path / ".link.tmp").symlink_to(tmp_path / "elsewhere")
    assert message(fill, tmp_path / "link", "new") == (
        f"--output={tmp_path / 'link'}: File exists; choose another folder"
    )
    (tmp_path / ".note.tmp").symlink_to(tmp_path / "gone")
    remove_leftovers(tmp_path)
    assert (tmp_path / "elsewhere" / "file").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == [".link.tmp", ".note.tmp", "elsewhere", "file"]
    monkeypatch.setattr(Path, "is_mount", lambda path: True)
    assert message(fill, tmp_path / "out", "new") == (
        f"--output={tmp_path / 'out'}: is a mount point; choose a folder in it"
    )


# In each folder a process that replaces it is killed: while it builds, between the two renames, and
# after them.
KILLED = """
import os, signal, sys
from pathlib import Path
from cgan_tf.core import folders

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

for name in ("building", "moved", "replaced"):
    folder = Path(sys.argv[1], name)
    if os.fork():
        print(os.wait()[1], flush=True)
        continue
    replace = os.replace
    def killed(source, target):
        replace(source, target)
        if name == "replaced" and Path(target) == folder:
            die()
        if name == "moved" and Path(source) == folder:
            die()
    os.replace = killed
    with folders.replacing_folder(folder, "", overwrite=True) as new:
        (new / "file").write_text("new")
        if name == "building":
            die()
"""


@pytest.mark.parametrize("next_run", ["building", "remove_leftovers"])
def test_after_a_kill_the_folder_is_whole_and_nothing_else_is_left(tmp_path, next_run):
    states = {"building": "old", "moved": "old", "replaced": "new"}
    for name in states:
        fill(tmp_path / name, "old")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split() == ["9", "9", "9"], done.stderr
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {".building.tmp", ".moved.tmp", ".replaced.tmp", "building", "replaced"}
    if next_run == "remove_leftovers":
        remove_leftovers(tmp_path)
    else:
        for name in states:
            with building(tmp_path / name, "") as new:
                assert not any(new.iterdir())
    assert {path.name: (path / "file").read_text() for path in tmp_path.iterdir()} == states


def test_what_a_living_process_builds_is_not_touched(tmp_path):
    script = (
        "import sys, pathlib\n"
        "from cgan_tf.core.folders import replacing_folder\n"
        "with replacing_folder(pathlib.Path(sys.argv[1]), '') as new:\n"
        "    (new / 'file').write_text('from the other')\n"
        "    print('building', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    folder = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "building\n"
        assert message(fill, folder, "mine") == f"--output={folder}: {BUSY} folder"
        remove_leftovers(tmp_path)
        assert tiny.listing(tmp_path) == [".out.tmp/lock", ".out.tmp/new/file"]
    assert other.returncode == 0
    assert tiny.listing(tmp_path) == ["out/file"]
    assert (folder / "file").read_text() == "from the other"


def test_a_lock_that_its_owner_deletes_is_not_taken(tmp_path, monkeypatch):
    """The other process finishes after this one has opened the file, before it locks it."""
    folder, lock = tmp_path / "out", files._lock
    first = building(folder, "")
    first.__enter__()

    def finish(file, operation):
        monkeypatch.setattr(files, "_lock", lock)
        first.__exit__(None, None, None)
        lock(file, operation)

    monkeypatch.setattr(files, "_lock", finish)
    with building(folder, "--output=out") as second:
        assert second.is_dir()
        assert message(fill, folder, "third") == f"--output={folder}: {BUSY} folder"
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_being_written_is_no_leftover(tmp_path):
    path = tmp_path / "report.html"
    for name in (".old.html.tmp", ".report.html.tmp"):
        write_text(tmp_path / name, "longer, but not complete")
    with replacing(path) as file:
        file.write(b"complete")
        file.flush()
        remove_leftovers(tmp_path)
        assert sorted(os.listdir(tmp_path)) == [".report.html.tmp"]
        with pytest.raises(files.UserError) as refusal, replacing(path):
            pass
        assert str(refusal.value) == f"{path}: {BUSY} name"
    assert path.read_text() == "complete" and os.listdir(tmp_path) == ["report.html"]


def test_a_second_writer_of_a_file_waits_for_the_first(tmp_path, monkeypatch):
    path, waits, lock = tmp_path / "report.html", threading.Event(), files._lock

    def record(file, operation):
        if threading.current_thread() is second:
            waits.set()
        lock(file, operation)

    monkeypatch.setattr(files, "_lock", record)
    second = threading.Thread(target=write_text, args=(path, "second"))
    with replacing(path) as file:
        file.write(b"the longer first")
        second.start()
        assert waits.wait(60)
    second.join()
    assert path.read_text() == "second" and os.listdir(tmp_path) == ["report.html"]


def test_a_file_system_without_locks_is_written_to(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(files.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    write_text(tmp_path / "file", "content")
    fill(tmp_path / "out", "content")
    assert tiny.listing(tmp_path) == ["file", "out/file"]
