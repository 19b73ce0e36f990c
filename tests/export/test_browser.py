"""The device page: the files that `export.browser` writes, and the page in headless Chromium."""

import functools
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import fake_run
import numpy as np
import pytest
import tensorflow as tf
import tiny
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from page_tab import SIDE, Server, Tab, from_text, to_text
from PIL import Image
from programs import find

from cgan_tf.core.errors import UserError
from cgan_tf.data import face_crop, images
from cgan_tf.editing import description
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.export import browser, saved_model, tflite

ROOT = Path(__file__).parents[2]
ATTRIBUTES = list(fake_run.ATTRIBUTES)
FILES = [
    "app.js",
    "frame.js",
    "icon.svg",
    "index.html",
    "litert/LICENSE.txt",
    "litert/NOTICE.txt",
    "litert/index.js",
    "litert/litert_wasm_compat_internal.js",
    "litert/litert_wasm_compat_internal.wasm",
    "litert/litert_wasm_internal.js",
    "litert/litert_wasm_internal.wasm",
    "litert/wasm-utils.js",
    "model.js",
    "model.json",
    "model.tflite",
    "offline.js",
    "photo.js",
    "pixels.js",
    "style.css",
    "worker.js",
]
# Files that Chromium, which has relaxed SIMD, does not load.
UNUSED = {"litert/NOTICE.txt"} | {name for name in FILES if "_compat_" in name}
WIDTHS = ((1280, 900), (390, 844))


# ---- the model, the folder, the server, the browser --------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The tiny model's .tflite file and its description."""
    run = fake_run.shared_run()
    translator = EditingNetwork.from_run(run.path, scores=True)
    described = description.describe(run, run.load_config(), translator)
    folder = tmp_path_factory.mktemp("model") / "batch1"
    saved_model.write(translator, folder, saved_model.DEVICE_SIGNATURES, batch=1)
    return tflite.convert(folder, "none", json.dumps(described)), described


@pytest.fixture(scope="module")
def site(tmp_path_factory, model):
    """The page's folder; tests must not write to it."""
    find("npm")
    folder = tmp_path_factory.mktemp("site")
    browser.write(folder, *model, "none")
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
    shared_tab.page.emulate_media(color_scheme="light")
    shared_tab.upload(PHOTO)
    shared_tab.page.uncheck("#detail")
    shared_tab.page.click("#reset")
    shared_tab.idle()
    yield shared_tab
    assert shared_tab.errors == []


def encoded(pixels, **options):
    """A PNG file of uint8 pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", **options)
    return file.getvalue()


def make_photo(width, height, seed=0):
    """A smooth color photo that differs everywhere: uint8 `[height, width, 3]`."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 256, (9, 9, 3), np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


PIXELS = make_photo(150, 110)
PHOTO = encoded(PIXELS)


# ---- the folder --------------------------------------------------------------------------------


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


# ---- loading -----------------------------------------------------------------------------------


def test_it_loads_only_from_its_own_folder(chromium, site):
    server = Server(site)
    tab = Tab(chromium, server.url).ready()
    assert tab.status() == "Ready. Choose a photo."
    tab.upload(PHOTO)
    tab.move("Smiling", 1.0)
    assert "Trained on synthetic faces that cgan_tf renders" in tab.page.inner_text("#about")
    assert "Model: float32, 0.9 MB, 32 px." in tab.page.inner_text("#about")
    requested = set(server.requests)
    tab.context.close()
    server.close()
    assert tab.errors == []
    assert {url for url in tab.requests if not url.startswith(("blob:", server.url))} == set()
    assert {(method, code) for method, _, code in requested} <= {("GET", 200), ("GET", 304)}
    assert {path for _, path, _ in requested} == {"", *FILES} - UNUSED - {"index.html"}


def test_the_page_and_its_worker_cannot_connect(tab, server, tmp_path):
    other = Server(tmp_path)
    (tmp_path / "there").write_text("it is")
    (worker,) = tab.page.workers
    before = len(server.requests)
    for url in (f"{other.url}there", f"{server.url}model.json"):
        fetch = f"fetch('{url}', {{mode: 'no-cors'}}).then(() => 'sent', () => 'refused')"
        assert [tab.page.evaluate(fetch), worker.evaluate(fetch)] == ["refused", "refused"], url
    image = f"""new Promise((resolve) => {{
        const image = new Image();
        [image.onload, image.onerror] = [() => resolve("sent"), () => resolve("refused")];
        image.src = "{other.url}there";
    }})"""
    assert tab.page.evaluate(image) == "refused"
    other.close()
    assert other.requests == [] and len(server.requests) == before
    refusals = [error for error in tab.errors if "Content Security Policy" in error]
    assert len(refusals) >= 5
    tab.errors.clear()


def test_it_works_offline(chromium, site):
    server = Server(site)
    tab = Tab(chromium, server.url).ready()
    kept = "The page is stored on this device and works offline."
    assert tab.page.inner_text("#offline") == kept
    server.close()
    tab.requests.clear()
    for address in (server.url, server.url + "index.html"):
        tab.page.goto(address)
        tab.ready()
        tab.upload(PHOTO)
        before = tab.canvas("after")
        tab.move("Eyeglasses", 1.0)
        assert not np.array_equal(tab.canvas("after"), before)
    assert tab.errors == []
    tab.page.goto(server.url + "litert/LICENSE.txt")
    assert "Apache License" in tab.page.inner_text("body")
    tab.context.close()


def test_another_export_takes_over_when_the_old_page_is_closed(chromium, site, tmp_path):
    for path in site.iterdir():
        (tmp_path / path.name).symlink_to(path)

    def replace(name, old, new):
        text = (site / name).read_text()
        assert text.count(old) == 1
        (tmp_path / name).unlink()
        (tmp_path / name).write_text(text.replace(old, new))

    server = Server(tmp_path)
    tab = Tab(chromium, server.url).ready()
    (old,) = tab.page.evaluate("caches.keys()")
    replace("index.html", "<title>Attribute editor</title>", "<title>Newer</title>")
    replace("offline.js", old.split()[1], "0123")
    tab.page.reload()
    tab.wait_until("(await navigator.serviceWorker.ready).waiting")
    assert tab.ready().page.title() == "Attribute editor"
    held = """async () => {
        await new Promise((resolve) => setTimeout(resolve, 500));
        const { waiting } = await navigator.serviceWorker.ready;
        return [Boolean(waiting), (await caches.keys()).length];
    }"""
    assert tab.page.evaluate(held) == [
        True,
        2,
    ]  # the old page keeps its own files until it is closed
    tab.page.close()
    tab.page = tab.context.new_page()
    tab.page.goto(server.url)
    tab.ready()
    assert tab.page.title() == "Newer"
    tab.wait_until("(await caches.keys()).length === 1")
    assert tab.page.evaluate("caches.keys()") == [f"{server.url} 0123"]
    tab.context.close()
    server.close()
    assert tab.errors == []


# ---- the numbers -------------------------------------------------------------------------------


def runner(content, signature):
    interpreter = Interpreter(model_content=content)
    return interpreter.get_signature_runner(signature)


def test_the_browser_and_python_agree(tab, model):
    content, described = model
    draw = np.random.default_rng(5)
    inputs = {
        "image": draw.uniform(-1, 1, (1, SIDE, SIDE, 3)).astype(np.float32),
        "latent": draw.standard_normal((1, *described["latent_shape"])).astype(np.float32),
        "strengths": draw.uniform(-2, 2, (1, 3)).astype(np.float32),
    }
    for signature, names in (
        ("translate", ["image", "strengths"]),
        ("encode", ["image"]),
        ("generate", ["latent", "strengths"]),
    ):
        given = {name: inputs[name] for name in names}
        (expected,) = runner(content, signature)(**given).values()
        assert np.std(expected) > 0.05
        np.testing.assert_allclose(tab.run(signature, **given), expected.ravel(), 0, 1e-4)


def generate_in_python(content, image, strengths):
    """The edited image of Python's interpreter for an image `[R, R, 3]`: float32 `[R, R, 3]`."""
    (latent,) = runner(content, "encode")(image=image[None]).values()
    values = np.float32([strengths])
    (image,) = runner(content, "generate")(latent=latent, strengths=values).values()
    return image[0]


def close(one, two, levels=1):
    return np.abs(np.int16(one) - np.int16(two)).max() <= levels


def test_each_slider_shows_the_image_that_python_generates(tab, model):
    content, _ = model
    assert tab.page.locator(".attribute label").all_inner_texts() == [
        "Smiling",
        "Blond hair",
        "Eyeglasses",
    ]
    image = tab.input()
    assert close(tab.canvas("before")[..., :3], images.to_uint8(image), 0)
    unedited = images.to_uint8(generate_in_python(content, image, [0, 0, 0]))
    assert close(tab.canvas("after")[..., :3], unedited)
    for index, name in enumerate(ATTRIBUTES):
        slider = tab.page.locator(f"#strength-{name}")
        slider.focus()
        for _ in range(10):
            slider.press("ArrowRight")
        tab.idle()
        assert slider.input_value() == "0.5"
        strengths = np.eye(3)[index] * 0.5
        expected = images.to_uint8(generate_in_python(content, image, strengths))
        assert not close(expected, unedited, 8)
        assert close(tab.canvas("after")[..., :3], expected)
        row = tab.page.locator(".attribute").nth(index)
        assert row.locator("output").inner_text() == "+0.50"
        # The tiny run's calibration only has +0.5 at strength 1.
        assert row.locator(".measured").inner_text() == "+0.25 on average"
        assert slider.get_attribute("aria-valuetext") == "+0.50, +0.25 on average"
        row.locator("button").click()  # reset
        tab.idle()
        assert close(tab.canvas("after")[..., :3], unedited)
        assert row.locator("output").inner_text() == "0.00"


def test_a_strength_outside_the_table_is_not_measured(tab):
    for strength, words in ((1, "+0.50 on average"), (1.05, "not measured"), (-1, "not measured")):
        tab.move("Smiling", strength)
        assert tab.page.locator(".measured").first.inner_text() == words


def test_the_crop_equals_pillows(tab):
    expected = images.center_square_resize(PIXELS, SIDE)
    assert close(np.rint((tab.input() + 1) * 127.5), expected)
    assert close(tab.canvas("before")[..., :3], expected)


@pytest.mark.parametrize("size", [(178, 218), (89, 109), (200, 218)])
def test_the_initial_frame_is_the_training_crop(tab, size):
    pixels = make_photo(*size, seed=1)
    cut = images.celeba_crop_resize if size != (200, 218) else images.center_square_resize
    script = """async ([width, height, text]) => {
        const { initialFrame } = await import("./frame.js");
        const { cutSquare } = await import("./pixels.js");
        const photo = { width, height, data: Uint8Array.fromBase64(text) };
        return new Uint8Array(cutSquare(photo, initialFrame(photo, "celeba"), 32)).toBase64();
    }"""
    rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    square = from_text(tab.page.evaluate(script, [*size, to_text(rgba)]), np.uint8)
    assert close(square.reshape(SIDE, SIDE, 3), cut(pixels, SIDE))


def test_a_photo_is_upright_and_on_white(tab):
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees clockwise
    tab.upload(encoded(PIXELS, exif=turned))
    expected = images.center_square_resize(np.rot90(PIXELS, -1), SIDE)
    assert close(np.rint((tab.input() + 1) * 127.5), expected)
    clear = np.zeros((40, 40, 4), np.uint8)
    tab.upload(encoded(clear))
    assert (tab.input() == 1).all()


def test_keeping_detail_adds_only_the_difference(tab, model):
    content, _ = model
    pixels = make_photo(SIDE, SIDE, seed=2)  # one photo pixel per model pixel
    tab.upload(encoded(pixels))
    tab.page.check("#detail")
    tab.idle()
    assert np.array_equal(tab.canvas("before")[..., :3], pixels)
    assert np.array_equal(tab.canvas("after")[..., :3], pixels)
    tab.move("Blond_Hair", 0.6)
    image = tab.input()
    rebuilt = generate_in_python(content, image, [0, 0, 0])
    edited = generate_in_python(content, image, [0, 0.6 * 1.5, 0])  # 1.5: the tiny run's factor
    acts = np.rint(fake_run.footprint("Blond_Hair") * 255)[..., None] / 255
    edited = rebuilt + np.float32(acts) * (edited - rebuilt)
    kept = face_crop.add_difference(images.to_float(pixels)[None], edited[None], rebuilt[None])[0]
    assert not close(images.to_uint8(kept), pixels, 8)
    assert close(tab.canvas("after")[..., :3], images.to_uint8(kept))


def test_kept_detail_has_the_photos_resolution(tab):
    tab.page.check("#detail")
    tab.move("Smiling", 1.0)
    after, before = tab.canvas("after"), tab.canvas("before")
    assert after.shape == before.shape == (110, 110, 4)
    assert np.array_equal(before[..., :3], PIXELS[:, 20:130])
    assert not close(after, before, 8)
    assert close(after[0], before[0], 3) and close(
        after[:, -1], before[:, -1], 3
    )  # the soft border


# ---- user actions ------------------------------------------------------------------------------


def check_frame(tab, before):
    """The frame has changed, and the model's input equals Pillow's crop there."""
    tab.idle()
    left, top, side = frame = tab.frame()
    assert frame != before
    box = (left, top, left + side, top + side)
    cut = Image.fromarray(PIXELS).resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=box)
    assert close(np.rint((tab.input() + 1) * 127.5), np.asarray(cut))
    return frame


def test_the_frame_is_moved_and_scaled_by_mouse(tab):
    start = tab.frame()
    assert start == pytest.approx([20, 0, 110], abs=1e-3)
    bounds = tab.page.locator("#frame").bounding_box()
    scale = 110 / bounds["width"]
    right, bottom = bounds["x"] + bounds["width"], bounds["y"] + bounds["height"]
    mouse = tab.page.mouse
    mouse.move(right - 6, bottom - 6)  # the corner
    mouse.down()
    mouse.move(right - 6 - 20 / scale, bottom - 6 - 20 / scale, steps=4)
    mouse.up()
    left, top, side = check_frame(tab, start)
    assert side == pytest.approx(70, abs=6) and left == pytest.approx(20 + (110 - side) / 2, abs=1)
    middle = (bounds["x"] + bounds["width"] / 2, bounds["y"] + bounds["height"] / 2)
    mouse.move(*middle)
    mouse.down()
    mouse.move(middle[0] + 10 / scale, middle[1] - 7 / scale, steps=4)
    mouse.up()
    moved = check_frame(tab, [left, top, side])
    assert moved == pytest.approx([left + 10, top - 7, side], abs=1.5)
    mouse.wheel(0, -100)
    assert check_frame(tab, moved)[2] == pytest.approx(side / 1.04, rel=1e-3)


def test_the_frame_is_moved_and_scaled_by_keys(tab):
    frame = tab.frame()
    tab.page.focus("#frame")
    for key, expected in (
        (
            "-",
            lambda x, y, side: (
                x + (side - side / 1.04) / 2,
                y + (side - side / 1.04) / 2,
                side / 1.04,
            ),
        ),
        ("ArrowRight", lambda x, y, side: (x + 1.1, y, side)),
        ("Shift+ArrowLeft", lambda x, y, side: (x - 5.5, y, side)),
        ("ArrowDown", lambda x, y, side: (x, y + 1.1, side)),
        ("ArrowUp", lambda x, y, side: (x, y - 1.1, side)),
        ("+", lambda x, y, side: (x - (side * 1.04 - side) / 2, 0, side * 1.04)),
    ):
        tab.page.keyboard.press(key)
        frame, before = check_frame(tab, frame), frame
        assert frame == pytest.approx(expected(*before), abs=0.05), key
    tab.page.keyboard.press("ArrowUp")  # already at the edge
    assert tab.frame() == frame


def test_the_frame_is_scaled_by_the_slider_and_by_two_fingers(tab):
    start = tab.frame()
    tab.page.locator("#zoom").fill("50")
    frame = check_frame(tab, start)
    assert frame[2] == pytest.approx(55, abs=0.01)
    bounds = tab.page.locator("#frame").bounding_box()
    x, y = bounds["x"] + bounds["width"] / 2, bounds["y"] + bounds["height"] / 2
    devtools = tab.context.new_cdp_session(tab.page)
    for kind, distance in (("touchStart", 20), ("touchMove", 30), ("touchEnd", None)):
        points = (
            []
            if distance is None
            else [
                {"x": x - distance, "y": y, "id": 0},
                {"x": x + distance, "y": y, "id": 1},
            ]
        )
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert check_frame(tab, frame)[2] == pytest.approx(55 * 1.5, rel=0.02)
    assert tab.page.locator("#zoom").input_value() == "75"


def test_a_photo_is_dropped_or_pasted(tab):
    pixels = make_photo(60, 60, seed=4)
    for kind, event, key in (
        ("drop", "DragEvent", "dataTransfer"),
        ("paste", "ClipboardEvent", "clipboardData"),
    ):
        tab.upload(PHOTO)
        tab.page.evaluate(
            """async ([kind, event, key, bytes]) => {
                const file = new File([Uint8Array.from(bytes)], "it.png", { type: "image/png" });
                const data = new DataTransfer();
                data.items.add(file);
                document.dispatchEvent(new window[event](kind, { [key]: data, bubbles: true }));
            }""",
            [kind, event, key, list(encoded(pixels))],
        )
        tab.wait_until("document.getElementById('photo').width === 60")
        tab.idle()
        expected = images.center_square_resize(pixels, SIDE)
        assert close(np.rint((tab.input() + 1) * 127.5), expected), kind


def test_reset_all_sets_every_slider_to_0(tab):
    unedited = tab.canvas("after")
    for name in ATTRIBUTES:
        tab.move(name, 1.5)
    assert not close(tab.canvas("after"), unedited, 8)
    tab.page.click("#reset")
    tab.idle()
    assert np.array_equal(tab.canvas("after"), unedited)
    values = tab.page.locator(".attribute input").evaluate_all("all => all.map((x) => x.value)")
    assert values == ["0", "0", "0"]


def test_the_download_is_the_canvas(tab):
    for detail in (False, True):
        tab.page.set_checked("#detail", detail)
        tab.move("Smiling", -1.0)
        with tab.page.expect_download() as started:
            tab.page.click("#download")
        assert started.value.suggested_filename == "edited.png"
        pixels = np.asarray(Image.open(started.value.path()).convert("RGBA"))
        assert np.array_equal(pixels, tab.canvas("after"))


def test_the_strip_shows_the_attribute_used_last(tab, model):
    content, _ = model
    assert tab.page.is_disabled("#download-strip")
    tab.move("Smiling", 0.5)
    tab.page.focus("#strength-Eyeglasses")
    assert tab.page.inner_text("#row-name") == "Eyeglasses"
    tab.page.click("#draw-strip")
    tab.page.wait_for_selector("#strip:visible")
    strip = tab.canvas("strip")
    assert strip.shape == (128 + 22, 5 * 128, 4)
    image = tab.input()
    expected = [
        images.to_uint8(generate_in_python(content, image, [0.5, 0, strength])).ravel()
        for strength in (-2, -1, 0, 1, 2)
    ]
    # The tiles are enlarged by 4.
    tiles = strip[:128, :, :3].reshape(SIDE, 4, 5, SIDE, 4, 3).mean(axis=(1, 4))
    tiles = tiles.transpose(1, 0, 2, 3).reshape(5, -1)
    likeness = np.corrcoef(tiles, expected)[:5, 5:]
    assert (likeness.diagonal() > 0.9).all()
    assert (likeness.argmax(axis=1) == np.arange(5)).all()
    with tab.page.expect_download() as started:
        tab.page.click("#download-strip")
    assert np.array_equal(np.asarray(Image.open(started.value.path()).convert("RGBA")), strip)
    tab.page.focus("#frame")
    tab.page.keyboard.press("-")  # another square, so the strip is outdated
    tab.idle()
    assert tab.page.is_hidden("#strip") and tab.page.is_disabled("#download-strip")


def test_a_photo_is_encoded_once_and_only_the_latest_move_is_drawn(tab):
    tab.page.evaluate("""() => {
        window.sent = [];
        const post = Worker.prototype.postMessage;
        Worker.prototype.postMessage = function (message, ...rest) {
            sent.push(message.signature);
            return post.call(this, message, ...rest);
        };
    }""")
    tab.upload(PHOTO)
    tab.page.evaluate("""async () => {
        const slider = document.getElementById("strength-Smiling");
        for (let k = 1; k <= 40; k++) {
            slider.value = k / 20;
            slider.dispatchEvent(new Event("input"));
        }
        await editor.idle();
    }""")
    sent = tab.page.evaluate("sent")
    assert sent[:3] == ["encode", "generate", "generate"]  # the unedited face, then the edited one
    assert sent.count("encode") == 1 and sent.count("generate") <= 5
    burst = tab.canvas("after")
    tab.move("Smiling", 0)
    tab.move("Smiling", 2.0)
    assert np.array_equal(tab.canvas("after"), burst)


def test_the_camera_takes_a_photo_and_is_switched_off(tab):
    tab.page.click("#camera")
    tab.wait_until("document.getElementById('video').videoWidth > 0")
    assert tab.page.is_visible("#camera-dialog")
    tab.page.evaluate("window.tracks = document.getElementById('video').srcObject.getTracks()")
    tab.page.click("#shutter")
    tab.idle()
    assert tab.page.is_hidden("#camera-dialog")
    assert tab.page.evaluate("tracks.map(({ readyState }) => readyState)") == ["ended"]
    assert tab.page.evaluate("document.getElementById('photo').width") >= 640
    assert not close(np.rint((tab.input() + 1) * 127.5), images.center_square_resize(PIXELS, SIDE))
    tab.page.click("#camera")
    tab.wait_until("document.getElementById('video').videoWidth > 0")
    tab.page.evaluate("window.tracks = document.getElementById('video').srcObject.getTracks()")
    tab.page.keyboard.press("Escape")
    tab.wait_until("tracks[0].readyState === 'ended'")


def test_a_refused_camera_is_one_clear_line(tab):
    tab.page.evaluate("""() => {
        navigator.mediaDevices.getUserMedia = async () => {
            throw new DOMException("no", "NotAllowedError");
        };
    }""")
    tab.page.click("#camera")
    assert tab.status() == (
        "Error: the camera is not allowed: allow it in the browser's settings, or choose a photo"
    )
    tab.page.evaluate("delete navigator.mediaDevices.getUserMedia")


# ---- for app makers ----------------------------------------------------------------------------


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
    script = """async ([text, side, latentShape]) => {
        const { encode, generate } = await import("./guide.js");
        const image = new Float32Array(Uint8Array.fromBase64(text).buffer);
        const latent = await encode(image, side);
        const edited = await generate(latent, latentShape, Float32Array.of(1, 0, 0));
        return new Uint8Array(edited.buffer).toBase64();
    }"""
    text = page.evaluate(script, [to_text(image), SIDE, described["latent_shape"]])
    context.close()
    server.close()
    expected = generate_in_python(content, image, [1, 0, 0])
    np.testing.assert_allclose(from_text(text, np.float32), expected.ravel(), 0, 1e-4)


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


# ---- bad photos --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        (
            "a.jpg",
            b"not an image",
            "a.jpg is not an image that this browser can read; choose another photo",
        ),
        ("b.png", b"", "b.png is empty; choose another photo"),
        (
            "c.png",
            PHOTO[:60],
            "c.png is damaged, or too large for this device; choose another photo",
        ),
    ],
)
def test_a_bad_photo_is_one_clear_line_and_the_old_one_stays(tab, name, content, line):
    tab.move("Smiling", 1.0)
    shown = tab.canvas("after")
    tab.upload(content, name)
    assert tab.status() == f"Error: {line}"
    assert np.array_equal(tab.canvas("after"), shown)
    tab.upload(PHOTO)
    assert tab.status() == "Frame the face, then move the sliders."


def plain_png(width, height):
    """A one-bit image with a black left half; even a huge one is created quickly."""
    image = Image.new("1", (width, height), 1)
    image.paste(0, (0, 0, width // 2, height))
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def test_fifty_megapixels_work_and_more_than_the_limit_is_one_clear_line(tab):
    tab.upload(plain_png(10000, 5000), "huge.png")
    assert tab.status() == "Frame the face, then move the sliders."
    assert tab.page.evaluate("document.getElementById('photo').width") == 2048
    image = tab.input()
    assert (image[:, : SIDE // 2 - 2] < -0.97).all() and (image[:, SIDE // 2 + 2 :] > 0.97).all()
    tab.upload(plain_png(10000, 6500), "larger.png")
    assert tab.status() == (
        "Error: larger.png: 10000 x 6500 px is more than the limit of 64 million pixels; reduce it "
        "first"
    )


def test_a_huge_photo_is_rotated_upright(tab):
    pixels = make_photo(2100, 1050)
    turned = Image.Exif()
    turned[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=95, exif=turned)
    tab.upload(file.getvalue(), "turned.jpg")
    assert tab.page.evaluate("document.getElementById('photo').height") == 2048
    expected = images.center_square_resize(np.rot90(pixels, -1), SIDE)
    assert close(np.rint((tab.input() + 1) * 127.5), expected, 4)  # the browser reduces it first


# ---- bad models --------------------------------------------------------------------------------


def other_tool():
    """A valid .tflite file with none of the signatures."""
    function = tf.function(lambda x: x * 2.0)
    spec = tf.TensorSpec((1, 4), tf.float32)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function(spec)], function
    )
    return converter.convert()


def renamed(content):
    """The model with another name for the latent of generate."""
    changed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for signature in changed.signatureDefs:
        for tensor in signature.inputs:
            if tensor.name == b"latent":
                tensor.name = b"code"
    return tflite.pack(changed)


def fulfill(answer, route):
    route.fulfill(**answer)


REMEDY = "; export the page again with cgan export --formats=page"


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (
            {"model.tflite": lambda content, _: other_tool()},
            rf"model\.tflite has no signature translate{REMEDY}",
        ),
        (
            {"model.tflite": lambda content, _: renamed(content)},
            r"model\.tflite does not fit model\.json: generate's latent is missing instead of "
            rf"\[1,24\] float32{REMEDY}",
        ),
        (
            {"model.json": lambda _, described: json.dumps(described | {"resolution": 64})},
            r"model\.tflite does not fit model\.json: translate's image is \[1,32,32,3\] float32 "
            rf"instead of \[1,64,64,3\] float32{REMEDY}",
        ),
        (
            {"model.tflite": lambda content, _: content[: len(content) // 2]},
            r"model\.tflite is damaged or not a TFLite model .*",
        ),
        (
            {"model.tflite": lambda content, _: b"<html>not found</html>"},
            r"model\.tflite is damaged or not a TFLite model; export the page again with "
            r"cgan export",
        ),
        (
            {"model.json": lambda _, described: json.dumps(described)[:-20]},
            r"model\.json is damaged; export the page again with cgan export",
        ),
        ({"model.json": None}, r"model\.json cannot be loaded \(404\); serve the whole folder"),
        (
            {"litert/litert_wasm_internal.wasm": None},
            r"litert/litert_wasm_internal\.wasm cannot be loaded \(404\); serve the whole folder",
        ),
        ({"litert/litert_wasm_internal.js": None}, r"this browser cannot run the model \(.*\)"),
        (
            {"model.json": lambda *_: '{"attributes": 3}'},
            r"model\.json is damaged; export the page again with cgan export",
        ),
    ],
    ids=[
        "other tool",
        "other name",
        "other shape",
        "truncated",
        "text",
        "damaged description",
        "no description",
        "no runtime",
        "no loader",
        "other description",
    ],
)
def test_a_bad_model_is_one_clear_line(chromium, server, model, files, line):
    def prepare(page):
        for name, make in files.items():
            answer = {"status": 404} if make is None else {"body": make(*model)}
            page.context.route(f"**/{name}", functools.partial(fulfill, answer))

    tab = Tab(chromium, server.url, prepare, service_workers="block")
    tab.page.wait_for_selector("#status.error")
    status = tab.status()
    disabled = tab.page.is_disabled("#file")
    tab.context.close()
    assert re.fullmatch(f"Error: {line}", status), status
    assert disabled
    allowed = (
        r".*responded with a status of 404.*|ERROR: .*"  # messages of the browser and of LiteRT
    )
    assert [error for error in tab.errors if not re.fullmatch(allowed, error)] == []


def test_without_webassembly_there_is_one_clear_line(chromium, server):
    tab = Tab(
        chromium,
        server.url,
        lambda page: page.add_init_script("delete window.WebAssembly"),
        service_workers="block",
    )
    tab.page.wait_for_selector("#status.error")
    assert tab.status() == (
        "Error: this browser has no WebAssembly, which the model needs; use a newer one"
    )
    tab.context.close()
    assert tab.errors == []


# ---- accessibility -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The script of the accessibility check."""
    find("npm")
    packages = browser.install(tmp_path_factory.mktemp("axe"), tests=True)
    return (packages / "axe-core" / "axe.min.js").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", WIDTHS)
def test_axe_finds_no_violations(tab, axe, size, scheme):
    tab.page.emulate_media(color_scheme=scheme)
    tab.page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    tab.move("Smiling", 1.0)
    tab.page.click("#draw-strip")
    tab.page.wait_for_selector("#strip:visible")
    tab.page.evaluate(axe)
    for opened in (False, True):
        if opened:
            tab.page.click("#camera")
            tab.page.wait_for_selector("#camera-dialog:visible")
        result = tab.page.evaluate("axe.run()")
        assert len(result["passes"]) > 15
        found = [(entry["id"], entry["nodes"][0]["html"]) for entry in result["violations"]]
        assert found == []
    tab.page.keyboard.press("Escape")


@pytest.mark.parametrize("size", WIDTHS)
def test_nothing_is_wider_than_the_screen(tab, size):
    tab.page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    assert tab.page.evaluate("document.documentElement.scrollWidth") == size[0]
    small = tab.page.evaluate("""[...document.querySelectorAll("button, .button")]
        .filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 44)
        .map(({ textContent }) => textContent)""")
    assert small == []


def test_everything_is_reachable_by_keyboard(tab):
    tab.page.focus("#file")
    reached = ["file"]
    for _ in range(30):
        tab.page.keyboard.press("Tab")
        reached.append(tab.page.evaluate("document.activeElement.id"))
    expected = ["file", "camera", "frame", "zoom", "download", "reset", "detail", "draw-strip"]
    expected += [f"strength-{name}" for name in ATTRIBUTES]
    assert set(expected) <= set(reached)
