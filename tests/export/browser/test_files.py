"""The files of the page, and npm, which fetches its runtime."""

import json
import re

import pytest
import tiny
from page_tab import FILES
from programs import find

from cgan_tf.core.errors import UserError
from cgan_tf.export import browser


def test_the_folder_contains_exactly_these_files(site, model):
    content, described = model
    assert tiny.listing(site) == FILES
    assert (site / "model.tflite").read_bytes() == content
    assert json.loads((site / "model.json").read_text()) == described | {"variant": "none"}
    assert "Apache License" in (site / "litert/LICENSE.txt").read_text()
    imports = re.findall(r'^import .* from "(.*)";$', (site / "litert/index.js").read_text(), re.M)
    assert imports == ["./wasm-utils.js"]


def test_the_version_depends_on_every_file(site, tmp_path):
    version = re.search(
        r'^const VERSION = "([0-9a-f]{64})";', (site / "offline.js").read_text(), re.M
    )[1]
    for name in FILES:
        if name != "offline.js":
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).symlink_to(site / name)
    assert browser._digest(tmp_path) == version
    (tmp_path / "style.css").unlink()
    (tmp_path / "style.css").write_bytes(b"")
    assert browser._digest(tmp_path) != version


def test_the_service_worker_stores_every_small_file(site):
    script = (site / "offline.js").read_text()
    small = set(re.findall(r'"([^"]+)"', script.split("const SMALL = [")[1].split("]")[0]))
    later = {name for name in FILES if re.search(r"litert/[^L]|tflite|offline", name)}
    assert small == {"./", *FILES} - {"index.html"} - later


def test_the_lock_file_pins_content_and_names_no_host():
    package = json.loads((browser.SOURCES / "package.json").read_text())
    text = (browser.SOURCES / "package-lock.json").read_text()
    assert "://" not in text
    packages = json.loads(text)["packages"]
    root = packages.pop("")
    assert sorted(packages) == [
        "node_modules/@litertjs/core",
        "node_modules/@litertjs/wasm-utils",
        "node_modules/axe-core",
    ]
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    for kind in ("dependencies", "devDependencies"):
        assert root[kind] == package[kind]
        for name, version in package[kind].items():
            assert version == packages[f"node_modules/{name}"]["version"]


def test_without_npm_there_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError) as caught:
        browser.install(tmp_path)
    assert str(caught.value) == (
        "--formats=page: npm, which fetches the page's runtime, is missing; install Node.js, or "
        "leave page out of --formats"
    )


def test_when_npm_fails_its_reason_is_in_one_clear_line(tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text(
        "#!/bin/sh\necho 'npm error code ENOTCACHED\nnpm error request failed:  it\n"
        "npm error A complete log of this run' >&2\nexit 1\n"
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(UserError) as caught:
        browser.install(tmp_path)
    assert str(caught.value) == (
        "--formats=page: npm cannot fetch the page's runtime (request failed: it); it needs a "
        "network connection once and its cache afterwards: connect, or leave page out of --formats"
    )


def test_continuous_integration_does_not_skip(monkeypatch):
    monkeypatch.setenv("CI", "false")
    with pytest.raises(pytest.skip.Exception, match="^needs no-such-program, which is not"):
        find("no-such-program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="^needs no-such-program, which is not"):
        find("no-such-program")
    assert find("no-such-program", "sh").endswith("/sh")
