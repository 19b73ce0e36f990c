"""What a user does in the page: frame, sliders, files, camera, downloads."""

import fake_run
import numpy as np
import pytest
from page_tab import PHOTO, PIXELS, SIDE, close, encoded, generate_in_python, make_photo
from PIL import Image

from cgan_tf.data import images
from cgan_tf.editing.editor import load_editor

pytestmark = pytest.mark.slow
ATTRIBUTES = list(fake_run.ATTRIBUTES)


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


@pytest.mark.parametrize("detail", [False, True])
def test_the_download_is_the_complete_photo(tab, model, tmp_path, detail):
    tab.page.set_checked("#detail", detail)
    tab.move("Smiling", -1.0)
    with tab.page.expect_download() as started:
        tab.page.click("#download")
    assert started.value.suggested_filename == "edited.png"
    pixels = np.asarray(Image.open(started.value.path()).convert("RGB"))
    (tmp_path / "model.tflite").write_bytes(model[0])
    editor = load_editor(tmp_path / "model.tflite")
    expected = editor.edit(PIXELS, Smiling=-1.0, keep_detail=detail)
    assert close(pixels, expected, 2) and not close(pixels, PIXELS, 8)
    assert np.array_equal(pixels[:, :20], PIXELS[:, :20]), "beside the frame"


def test_the_download_of_a_random_face_is_the_canvas(tab):
    tab.page.click("#surprise")
    tab.idle()
    tab.move("Smiling", -1.0)
    with tab.page.expect_download() as started:
        tab.page.click("#download")
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
    tab.page.click("#view-frame")
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


def test_a_camera_without_a_picture_yet_takes_no_photo(tab):
    photo = tab.canvas("photo")
    tab.page.click("#camera")
    tab.wait_until("document.getElementById('camera-dialog').open")
    tab.page.evaluate("document.getElementById('video').srcObject = new MediaStream()")
    tab.wait_until("document.getElementById('video').videoWidth === 0")
    tab.page.click("#shutter")
    assert tab.page.is_visible("#camera-dialog")
    tab.page.keyboard.press("Escape")
    assert np.array_equal(tab.canvas("photo"), photo)


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
