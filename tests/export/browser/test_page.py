"""The page in a headless Chromium: what it loads, and that it edits photos as Python does."""

import fake_run
import numpy as np
import pytest
from page_tab import (
    FILES,
    PHOTO,
    PIXELS,
    SIDE,
    Server,
    Tab,
    close,
    encoded,
    from_text,
    generate_in_python,
    make_photo,
    runner,
    to_text,
)
from PIL import Image

from cgan_tf.data import face_crop, images

ATTRIBUTES = list(fake_run.ATTRIBUTES)
# Files that Chromium, which has relaxed SIMD, does not load.
UNUSED = {"litert/NOTICE.txt"} | {name for name in FILES if "_compat_" in name}


# ---- loading -----------------------------------------------------------------------------------


def test_it_loads_only_from_its_own_folder(chromium, site):
    server = Server(site)
    tab = Tab(chromium, server.url).ready()
    assert tab.status() == "Ready. Edit this random face, or choose a photo."
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    # The old page keeps its own files until it is closed.
    assert tab.page.evaluate(held) == [True, 2]
    for _ in range(20):  # a browser may notice a little later that the last page was closed
        tab.page.close()
        tab.page = tab.context.new_page()
        tab.page.goto(server.url)
        if tab.ready().page.title() == "Newer":
            break
    assert tab.page.title() == "Newer"
    tab.wait_until("(await caches.keys()).length === 1")
    assert tab.page.evaluate("caches.keys()") == [f"{server.url} 0123"]
    tab.context.close()
    server.close()
    assert tab.errors == []


# ---- the same images as in Python --------------------------------------------------------------


def test_the_browser_and_python_agree(tab, model):
    content, described = model
    draw = np.random.default_rng(5)
    inputs = {
        "image": draw.uniform(-1, 1, (1, SIDE, SIDE, 3)).astype(np.float32),
        "latent": draw.standard_normal((1, *described["latent_shape"])).astype(np.float32),
        "features": draw.standard_normal((1, *described["features_shape"])).astype(np.float32),
        "strengths": draw.uniform(-2, 2, (1, 3)).astype(np.float32),
    }
    for signature, names in (
        ("translate", ["image", "strengths"]),
        ("encode", ["image"]),
        ("generate", ["latent", "features", "strengths"]),
    ):
        given = {name: inputs[name] for name in names}
        expected, found = runner(content, signature)(**given), tab.run(signature, **given)
        assert sorted(found) == sorted(expected)
        for name, value in expected.items():
            assert np.std(value) > 0.05
            np.testing.assert_allclose(found[name], value.ravel(), 0, 1e-4)


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


def test_the_page_keeps_detail_as_python_does(tab, model):
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
    edited = generate_in_python(content, image, [0, 0.6, 0])
    shares = face_crop.replaced_share(edited[None], rebuilt[None])
    assert shares.min() < 0.1 and shares.max() > 0.9, "both kinds of places"
    kept = face_crop.keep_detail(images.to_float(pixels)[None], edited[None], rebuilt[None])[0]
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
