"""The page as an app: manifest, icons, any sub-folder, offline."""

import io
import json
import re

import numpy as np
import pytest
from page_tab import PHOTO, Server, Tab
from PIL import Image

from cgan_tf.export.browser import SOURCES

MANIFEST = json.loads((SOURCES / "manifest.webmanifest").read_text())
BLUE = (0, 90, 156)  # #005a9c
SAFE = 0.4  # radius of the circle that no platform cuts off a maskable icon, fraction of its side


def icon(name):
    return Image.open(SOURCES / "icons" / name).convert("RGBA")


def on_gray(image):
    return Image.alpha_composite(Image.new("RGBA", image.size, "gray"), image).convert("RGB")


def test_the_manifest_has_what_browsers_ask_for():
    assert MANIFEST["name"] == "Attribute editor" and MANIFEST["display"] == "standalone"
    assert MANIFEST["start_url"] == MANIFEST["scope"] == "./"
    pictures = [entry for entry in MANIFEST["icons"] if entry["type"] == "image/png"]
    assert [(entry["sizes"], entry["purpose"]) for entry in pictures] == [
        ("192x192", "any"),
        ("512x512", "any"),
        ("512x512", "maskable"),
    ]
    for entry in pictures:
        with Image.open(SOURCES / entry["src"]) as image:
            assert image.format == "PNG" and entry["sizes"] == "{}x{}".format(*image.size)


def test_the_colors_of_the_browsers_bars_are_the_pages():
    style = (SOURCES / "style.css").read_text()
    light, dark = re.findall(r"--ground: (#\w+);", style)
    head = (SOURCES / "index.html").read_text()
    bars = re.findall(r'name="theme-color" media="\(.*: (\w+)\)" content="(#\w+)"', head)
    assert bars == [("light", light), ("dark", dark)]
    assert MANIFEST["background_color"] == light


def test_a_maskable_icon_fills_its_square_and_keeps_its_picture_inside_the_safe_circle():
    pixels = np.asarray(icon("maskable-512.png"))
    assert (pixels[..., 3] == 255).all()
    rows, columns = np.mgrid[:512, :512] - 255.5
    outside = np.hypot(rows, columns) > SAFE * 512
    assert (pixels[outside] == (*BLUE, 255)).all()
    assert (pixels[~outside] == 255).all(axis=-1).mean() > 0.1, "white lines inside"


@pytest.mark.slow
@pytest.mark.parametrize("side", [192, 512])
def test_the_icons_are_drawings_of_the_vector_icon(chromium, side):
    page = chromium.new_page(viewport={"width": side, "height": side})
    style = f"<style>body {{ margin: 0 }} svg {{ display: block; width: {side}px }}</style>"
    page.set_content(style + (SOURCES / "icon.svg").read_text())
    shot = Image.open(io.BytesIO(page.screenshot(omit_background=True))).convert("RGBA")
    page.close()
    drawn, kept = (np.int16(on_gray(image)) for image in (shot, icon(f"any-{side}.png")))
    assert np.abs(drawn - kept).mean() < 0.5 and drawn.std() > 20


@pytest.mark.slow
def test_chromium_accepts_the_manifest_in_a_sub_folder_and_the_app_works_offline(
    chromium, site, tmp_path
):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "editor").symlink_to(site)
    server = Server(tmp_path)
    url = f"{server.url}deep/editor/"
    tab = Tab(chromium, url).ready()
    devtools = tab.context.new_cdp_session(tab.page)
    found = devtools.send("Page.getAppManifest")
    assert found["errors"] == [] and found["url"] == f"{url}manifest.webmanifest"
    assert found["manifest"]["scope"] == found["manifest"]["startUrl"] == url
    hurdles = devtools.send("Page.getInstallabilityErrors")["installabilityErrors"]
    assert [each["errorId"] for each in hurdles] == ["in-incognito"]  # as all tabs of the tests
    assert tab.page.evaluate("navigator.serviceWorker.ready.then(({ scope }) => scope)") == url
    tab.page.evaluate("window.gone = true")
    server.close()
    tab.page.goto(url)
    tab.ready()
    assert tab.page.evaluate("window.gone") is None
    tab.upload(PHOTO)
    before = tab.canvas("after")
    tab.move("Smiling", 1.0)
    assert not np.array_equal(tab.canvas("after"), before)
    sizes = """(names) => Promise.all(names.map(async (name) => {
        const kept = await caches.match(name);
        return kept ? (await kept.blob()).size : name;
    }))"""
    names = ["manifest.webmanifest", *(entry["src"] for entry in MANIFEST["icons"])]
    assert tab.page.evaluate(sizes, names) == [(site / name).stat().st_size for name in names]
    tab.context.close()
    assert tab.errors == []
