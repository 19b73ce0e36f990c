"""core.files: a file is written completely or not at all."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand, file_hash, move_aside, write_bytes, write_json, write_text

ROOT = Path(__file__).parents[2]


def test_a_home_is_expanded_or_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~/a", "--output") == tmp_path / "a" and expand("b", "--output") == Path("b")
    with pytest.raises(UserError) as refusal:
        expand("~no_such_user/a", "--output")
    assert str(refusal.value) == (
        "--output=~no_such_user/a: the home folder that ~ stands for is unknown; give the complete "
        "path"
    )


def test_paths_that_no_file_can_have_are_refused(tmp_path):
    with pytest.raises(UserError) as refusal:
        expand("x" * 300, "--output")
    assert str(refusal.value) == (f"--output={'x' * 100}...: File name too long; give another path")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="Too many levels of symbolic links; give another path"):
        expand(tmp_path / "loop" / "a", "--output")
    with pytest.raises(UserError, match="cannot contain a zero byte; give another path"):
        expand("a\0b", "--output")


def test_devices_and_pipes_are_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for path in (pipe, tmp_path / "link"):
        with pytest.raises(UserError, match=f"{path} is no ordinary file; choose another name"):
            write_bytes(path, b"x")
    assert pipe.is_fifo() and (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


def test_writes_replace_the_file_and_leave_nothing_else(tmp_path):
    path = tmp_path / "new" / "file"
    for content in (b"first", b"second, longer", b""):
        write_bytes(path, content)
        assert path.read_bytes() == content
    write_text(path, "é")
    assert path.read_bytes() == "é".encode()
    write_json(path, {"a": [1, 2.5], "b": None})
    assert path.read_text() == '{\n  "a": [\n    1,\n    2.5\n  ],\n  "b": null\n}\n'
    assert tiny.listing(tmp_path) == ["new/file"]


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"fd": float("nan")})
    assert path.read_text() == "old" and tiny.listing(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    write_text(path, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, call, full)
        write_text(path, "new")
    assert path.read_text() == "old" and tiny.listing(tmp_path) == ["file"]


def test_the_content_is_synced_before_the_rename(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        calls.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def record_replace(source, target):
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write_text(tmp_path / "file", "content")
    assert calls == [str(tmp_path / ".file.tmp"), "rename", str(tmp_path)]


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    script = (
        "import os, signal, sys, pathlib\n"
        "from cgan_tf.core import files\n"
        "files.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_text(pathlib.Path(sys.argv[1]), 'new')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT)
    assert done.returncode == -9
    assert path.read_text() == "old" and tiny.listing(tmp_path) == [".file.tmp", "file"]
    write_text(path, "new")  # the leftover does not matter
    assert path.read_text() == "new" and tiny.listing(tmp_path) == ["file"]


def test_file_hash(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert file_hash(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_move_aside_takes_the_first_free_number(tmp_path):
    names = []
    for content in "abc":
        write_text(tmp_path / "gan" / "file", content)
        names.append(move_aside(tmp_path / "gan").name)
    assert names == ["gan.old-001", "gan.old-002", "gan.old-003"]
    assert tiny.listing(tmp_path) == [f"{name}/file" for name in names]
    assert [(tmp_path / name / "file").read_text() for name in names] == list("abc")


def test_clean_up_does_not_hide_the_error_of_a_write(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "file", "new")
