"""`cgan page`: its folder, its browser, and the whole way to changed pixels."""

import webbrowser
from pathlib import Path

import command_flags
import pytest
import refusal
import tiny

from cgan_tf.commands import page

FILES = {"index.html": b"<p>", "litert/a.wasm": b"\0asm"}


def test_the_page_is_written_completely(tmp_path):
    output = tmp_path / "new" / "page"
    page.write(FILES, output)
    assert tiny.listing(tmp_path) == ["new/page/index.html", "new/page/litert/a.wasm"]
    assert (output / "litert/a.wasm").read_bytes() == b"\0asm"
    assert output.stat().st_mode & 0o777 == 0o755
    page.write(FILES, output)  # the same page again


def test_an_empty_folder_is_filled_by_any_of_its_names(tmp_path, monkeypatch):
    for name, given in (("here", "."), ("behind", str(tmp_path / "link"))):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(tmp_path / name)
        page.write(FILES, Path(given))
        assert tiny.listing(tmp_path / name) == sorted(FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["behind", "here", "link"]


def test_nothing_of_the_users_is_overwritten(tmp_path):
    output = tmp_path / "page"
    refused = f"--output={output}: contains another page or other files; choose another folder"
    page.write(FILES, output)
    (output / "index.html").write_text("mine")
    assert refusal.message(page.write, FILES, output) == refused
    (output / "index.html").write_bytes(FILES["index.html"])
    (output / "litert" / "mine").touch()
    assert refusal.message(page.write, FILES, output) == refused
    (output / "litert" / "mine").rename(output / "mine")
    assert refusal.message(page.write, FILES, output) == refused
    assert tiny.listing(tmp_path) == ["page/index.html", "page/litert/a.wasm", "page/mine"]
    file = tmp_path / "file"
    file.touch()
    assert refusal.message(page.write, FILES, file) == f"--output={file}: is a file; give a folder"
    below = file / "page"
    assert "choose another folder" in refusal.message(page.write, FILES, below)


def test_a_second_process_that_writes_the_page_is_refused(tmp_path, monkeypatch):
    output, refusals, write = tmp_path / "page", [], page.browser.write

    def meanwhile(content, folder):
        refusals.append(refusal.message(page.write, FILES, output))
        write(content, folder)

    monkeypatch.setattr(page.browser, "write", meanwhile)
    page.write(FILES, output)
    assert refusals == [
        f"--output={output}: another process is writing to it; wait for it, or choose another "
        "folder"
    ]
    assert tiny.listing(tmp_path) == ["page/index.html", "page/litert/a.wasm"]


def test_an_unknown_model_is_one_line(tmp_path, capsys):
    assert command_flags.run_line("page", f"--model={tmp_path}/none", "--port=0") == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith(
        f"error: --model={tmp_path}/none: No such file or directory"
    )
    assert len(error.splitlines()) == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page.device_files, "find", lambda model: model)
    monkeypatch.setattr(page.device_files, "page_files", lambda model: FILES)
    output = tmp_path / "file" / "page"
    output.parent.write_text("mine")
    assert command_flags.run_line("page", "--model=m", "--port=0", f"--output={output}") == 2
    line = f"error: --output={output}: {output.parent} is a file; choose another folder\n"
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("display, opened", [({}, []), ({"DISPLAY": ":0"}, ["url"])])
def test_a_browser_is_opened_where_there_is_a_display(monkeypatch, display, opened):
    addresses = []

    def fail(url):
        addresses.append(url)
        raise webbrowser.Error

    monkeypatch.setattr(page.sys, "platform", "linux")
    monkeypatch.setattr(page.webbrowser, "open", fail)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in display.items():
        monkeypatch.setenv(name, value)
    page.open_browser("url")
    assert addresses == opened
