"""The snippets of GUIDE.md, and the benchmark that drives the page."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from page_tab import PHOTO, PIXELS, SIDE, Server, close, from_text, generate_in_python, to_text
from programs import find

from cgan_tf.data import images
from cgan_tf.export import browser

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def guide(tmp_path_factory, site, model):
    """A folder with the files that the guide's snippets use, and the snippets by language."""
    text = (browser.SOURCES.parent / "GUIDE.md").read_text()
    snippets = dict(re.findall(r"```(\w+)\n(.*?)```", text, re.S))
    content, described = model
    folder = tmp_path_factory.mktemp("guide")
    (folder / "translator_float16.tflite").write_bytes(content)
    (folder / "translator_float16.json").write_text(json.dumps(described))
    (folder / "face.jpg").write_bytes(PHOTO)
    (folder / "litert").symlink_to(site / "litert")
    return folder, snippets


def test_the_guide_has_a_snippet_for_each_language(guide):
    assert list(guide[1]) == ["python", "js", "kotlin", "swift"]


def test_the_guides_python_edits_a_photo(guide, model, monkeypatch):
    folder, snippets = guide
    monkeypatch.chdir(folder)
    exec(compile(snippets["python"], "GUIDE.md", "exec"), {})
    image = images.to_float(images.center_square_resize(PIXELS, SIDE))
    expected = images.to_uint8(generate_in_python(model[0], image, [1, 0, 0]))
    assert close(images.decode_file("edited.png"), expected, 3)  # Pillow crops to integer px


@pytest.mark.slow
def test_the_guides_javascript_edits_a_photo(guide, model, chromium):
    folder, snippets = guide
    content, described = model
    packages = {"@litertjs/core": "./litert/index.js"}
    head = f'<script type="importmap">{json.dumps({"imports": packages})}</script>'
    (folder / "index.html").write_text(f"<!doctype html><link rel=icon href=data:,>{head}")
    (folder / "guide.js").write_text(snippets["js"].replace('"litert/wasm/"', '"litert/"'))
    server = Server(folder)
    context = chromium.new_context()
    page = context.new_page()
    page.goto(server.url)
    image = images.to_float(images.center_square_resize(PIXELS, SIDE))
    script = """async ([text, side, about]) => {
        const { encode, generate } = await import("./guide.js");
        const image = new Float32Array(Uint8Array.fromBase64(text).buffer);
        const code = await encode(image, side);
        const edited = await generate(code, about, Float32Array.of(1, 0, 0));
        return new Uint8Array(edited.buffer).toBase64();
    }"""
    text = page.evaluate(script, [to_text(image), SIDE, described])
    context.close()
    server.close()
    expected = generate_in_python(content, image, [1, 0, 0])
    np.testing.assert_allclose(from_text(text, np.float32), expected.ravel(), 0, 1e-4)


@pytest.mark.slow
def test_the_benchmark_times_slider_moves(site, tmp_path):
    find("chromium", "google-chrome")
    (tmp_path / "page").symlink_to(site)

    def run(export):
        command = [sys.executable, "-m", "benchmarks.browser", f"--export={export}", "--moves=6"]
        return subprocess.run(
            [*command, f"--output={tmp_path}/times.json"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )

    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    times = json.loads((tmp_path / "times.json").read_text())
    assert times["moves"] == 6 and 0 < times["median_ms"] <= times["p95_ms"]
    done = run(site)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: --export: no page in {site}/page; run cgan export --formats=page\n"
    )
