"""The archive of the page's runtime: its content, its hash, and the npm packages it is made of."""

import hashlib
import lzma

import pytest
import refusal
from programs import find

from cgan_tf.export import litert


def test_the_runtime_is_complete_and_imports_its_own_files():
    files = litert.files()
    builds = ("litert_wasm_internal", "litert_wasm_compat_internal")
    assert sorted(files) == sorted(
        ["NOTICE.txt", "index.js", "wasm-utils.js"]
        + [f"{build}.{suffix}" for build in builds for suffix in ("js", "wasm")]
    )
    for build in builds:
        assert files[f"{build}.wasm"][:4] == b"\0asm"
    assert b'from "./wasm-utils.js"' in files["index.js"]
    assert b'from "@litertjs' not in files["index.js"]


def test_a_damaged_archive_is_one_clear_line(tmp_path, monkeypatch):
    archive = tmp_path / "runtime.tar.xz"
    monkeypatch.setattr(litert, "ARCHIVE", archive)
    line = f"{archive}: missing or damaged; install cgan_tf again"
    assert refusal.message(litert.files) == line
    for content in (b"", b"not xz", lzma.compress(b"another file")):
        archive.write_bytes(content)
        assert refusal.message(litert.files) == line


def test_a_python_without_lzma_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lzma", None)
    assert refusal.message(litert.files).startswith("the device page needs Python's module lzma")


@pytest.mark.slow
def test_the_archive_is_what_npm_installs(tmp_path):
    find("npm")
    content = litert.pack(litert.install(tmp_path))
    assert hashlib.sha256(content).hexdigest() == litert.CONTENT_HASH
