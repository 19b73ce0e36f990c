"""Invalid photos and models: one clear line each."""

import functools
import io
import json
import re

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from page_tab import PHOTO, SIDE, Tab, close, make_photo
from PIL import Image

from cgan_tf.data import images
from cgan_tf.export import tflite

pytestmark = pytest.mark.slow


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


# ---- invalid models ----------------------------------------------------------------------------


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
        ({"model.json": None}, r"model\.json cannot be loaded \(404\); serve the complete folder"),
        (
            {"litert/litert_wasm_internal.wasm": None},
            r"litert/litert_wasm_internal\.wasm cannot be loaded \(404\); "
            r"serve the complete folder",
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
