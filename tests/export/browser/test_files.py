"""The files of the page, and the packages that its runtime is made of."""

import json
import re

import pytest
import tiny
from page_tab import FILES
from programs import find

from cgan_tf.export import browser


def test_the_folder_contains_exactly_these_files(site, model):
    content, described = model
    assert tiny.listing(site) == FILES
    assert (site / "model.tflite").read_bytes() == content
    assert json.loads((site / "model.json").read_text()) == described | {"variant": "none"}
    assert "Apache License" in (site / "litert/LICENSE.txt").read_text()
    imports = re.findall(r'^import .* from "(.*)";$', (site / "litert/index.js").read_text(), re.M)
    assert imports == ["./wasm-utils.js"]


def test_the_version_depends_on_every_file(site):
    text = (site / "offline.js").read_text()
    version = re.search(r'^const VERSION = "([0-9a-f]{64})";', text, re.M)[1]
    content = {name: (site / name).read_bytes() for name in FILES if name != "offline.js"}
    assert browser.digest(content) == version
    for name in content:
        assert browser.digest(content | {name: content[name] + b" "}) != version


def test_an_example_is_part_of_the_page(model):
    content, described = model
    files = browser.files(content, described, "none", b"a face")
    assert sorted(files) == sorted([*FILES, "face.png"]) and files["face.png"] == b"a face"
    assert json.loads(files["model.json"])["example"] == "face.png"


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


def test_continuous_integration_does_not_skip(monkeypatch):
    monkeypatch.setenv("CI", "false")
    with pytest.raises(pytest.skip.Exception, match="^needs no-such-program, which is not"):
        find("no-such-program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="^needs no-such-program, which is not"):
        find("no-such-program")
    assert find("no-such-program", "sh").endswith("/sh")
