"""Fixtures of the page's tests: the model, the page's folder, its server, and a browser."""

import json

import fake_run
import pytest
from page_tab import PHOTO, Server, Tab
from programs import find

from cgan_tf.export import browser, litert


@pytest.fixture(scope="session")
def model():
    """The tiny model's .tflite file and its description."""
    export = fake_run.shared_export()
    description = json.loads((export / "model.json").read_text())
    return (export / "translator_float32.tflite").read_bytes(), description


@pytest.fixture(scope="session")
def site(tmp_path_factory, model):
    """The page's folder; tests must not write to it."""
    folder = tmp_path_factory.mktemp("site")
    browser.write(browser.files(*model, "none"), folder)
    return folder


@pytest.fixture(scope="module")
def server(site):
    running = Server(site)
    yield running
    running.close()


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium with a fake camera and without access to other hosts."""
    program = find("chromium", "chromium-browser", "google-chrome")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=[
                "--no-sandbox",
                "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shared_tab(chromium, server):
    tab = Tab(chromium, server.url).ready()
    yield tab
    tab.context.close()


@pytest.fixture
def tab(shared_tab):
    """The page with `PHOTO` and no edit. The test must not cause errors in the page."""
    shared_tab.page.set_viewport_size({"width": 1280, "height": 900})
    shared_tab.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    shared_tab.upload(PHOTO)
    shared_tab.page.uncheck("#detail")
    shared_tab.page.click("#reset")
    shared_tab.idle()
    yield shared_tab
    assert shared_tab.errors == []


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """The script of the accessibility check."""
    find("npm")
    packages = litert.install(tmp_path_factory.mktemp("axe"))
    return (packages / "axe-core" / "axe.min.js").read_text()
