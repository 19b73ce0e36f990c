"""Faces in photos: found, framed, edited one by one, and pasted back as `cgan translate` does."""

import numpy as np
import pytest
from face_pictures import photo_with_faces
from page_tab import PHOTO, PIXELS, SIDE, Server, Tab, close, encoded
from PIL import Image

from cgan_tf.data import face_crop, face_detection, images
from cgan_tf.editing import tflite_file
from cgan_tf.editing.editor import load_editor
from cgan_tf.export import browser

pytestmark = pytest.mark.slow

PLACES = [(1, 200, 250, 220, 0), (5, 620, 380, 320, 0), (4, 300, 550, 200, 10)]
STRENGTHS = {"Smiling": 1.0, "Blond_Hair": -0.5}


@pytest.fixture(scope="module")
def photo():
    """Three faces, uint8 `[700, 900, 3]`."""
    return photo_with_faces(*PLACES)


@pytest.fixture(scope="module")
def aligned_model(model):
    """The tiny model as one of faces in CelebA's framing."""
    content, description = model
    square, celeba = b'"crop": "center_square"', b'"crop": "celeba"'
    assert content.count(square) == 1
    body = content[: content.rindex(b"cgan_tf sha-256")].replace(square, celeba.ljust(len(square)))
    return tflite_file.sealed(body), description | {"crop": "celeba"}


@pytest.fixture(scope="module")
def faces_tab(chromium, tmp_path_factory, aligned_model):
    folder = tmp_path_factory.mktemp("faces")
    browser.write(browser.files(*aligned_model, "none"), folder)
    server = Server(folder)
    tab = Tab(chromium, server.url).ready()
    yield tab
    assert tab.errors == []
    assert {url for url in tab.requests if not url.startswith(("blob:", server.url))} == set()
    tab.context.close()
    server.close()


def places(tab):
    """The frames as the page shows them: {number: [x, y, side, angle]} in px of the photo."""
    return tab.page.evaluate("""() => {
        const { width, height } = document.getElementById("photo");
        const share = (text) => parseFloat(text) / 100;
        const frames = [...document.querySelectorAll(".other"), document.getElementById("frame")];
        return Object.fromEntries(frames.map((frame) => {
            const { left, top, width: wide, height: high, rotate } = frame.style;
            const center = [
                (share(left) + share(wide) / 2) * width, (share(top) + share(high) / 2) * height,
            ];
            const number = frame.querySelector(".number").textContent;
            return [number, [...center, share(wide) * width, parseFloat(rotate)]];
        }));
    }""")


def select(tab, number):
    tab.page.click("#view-frame")
    tab.page.click(f'[aria-label="Edit face {number}"]')


def downloaded(tab):
    with tab.page.expect_download() as started:
        tab.page.click("#download")
    return np.asarray(Image.open(started.value.path()).convert("RGB"))


def region(face, pixels):
    """Where a face's square may change a photo, bool `[H, W]`."""
    white = np.ones((SIDE, SIDE, 3), np.float32)
    return (face_crop.paste_face(np.zeros_like(pixels), white, face, -white) > 0).any(axis=-1)


def test_the_faces_are_found_and_framed(faces_tab, photo):
    tab = faces_tab
    tab.upload(encoded(photo))
    assert tab.status() == "3 faces found. Tap one, then move its sliders."
    found = face_detection.find_faces(photo)
    shown = places(tab)
    assert sorted(shown) == ["1", "2", "3"]
    for number, face in enumerate(found, 1):
        expected = [face.x, face.y, face.side, face.angle]
        assert shown[str(number)] == pytest.approx(expected, abs=0.01)
    assert tab.page.inner_text("#edit-title") == "Face 1 of 3"
    for number in (3, 2, 1):
        select(tab, number)
        tab.idle()
        assert tab.page.inner_text("#edit-title") == f"Face {number} of 3"
        assert tab.page.evaluate("document.activeElement.id") == "frame"
        crop = face_crop.crop_face(photo, found[number - 1], SIDE)
        assert close(images.to_uint8(tab.input()), crop)


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)])
def test_axe_finds_no_violations_with_several_faces(faces_tab, axe, photo, size):
    tab = faces_tab
    before = tab.page.viewport_size
    tab.page.emulate_media(reduced_motion="reduce")  # colors do not fade
    tab.page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    tab.upload(encoded(photo))
    tab.page.evaluate(axe)
    for view in ("#view-frame", "#view-whole", "#view-result"):
        tab.page.click(view)
        tab.idle()
        result = tab.page.evaluate("axe.run()")
        found = [(entry["id"], entry["nodes"][0]["html"]) for entry in result["violations"]]
        assert found == [] and len(result["passes"]) > 15
    assert tab.page.evaluate("document.documentElement.scrollWidth") == size[0]
    tab.page.set_viewport_size(before)


@pytest.mark.parametrize("detail", [False, True])
def test_three_edited_faces_are_pasted_back_as_translate_does(
    faces_tab, photo, aligned_model, tmp_path, detail
):
    tab = faces_tab
    tab.upload(encoded(photo))
    tab.page.set_checked("#detail", detail)
    for number in (1, 2, 3):
        if number > 1:
            select(tab, number)
        for name, strength in STRENGTHS.items():
            tab.move(name, strength)
    result = downloaded(tab)
    (tmp_path / "model.tflite").write_bytes(aligned_model[0])
    editor = load_editor(tmp_path / "model.tflite")
    expected = editor.edit(photo, strengths=STRENGTHS, keep_detail=detail)
    outside = np.ones(photo.shape[:2], bool)
    for face in face_detection.find_faces(photo):
        inside = region(face, photo)
        outside &= ~inside
        assert np.abs(np.int16(expected) - photo)[inside].mean() > 4
        assert np.abs(np.int16(result) - expected)[inside].mean() <= 1
    assert outside.any() and np.array_equal(result[outside], photo[outside])
    tab.page.click("#view-whole")
    tab.idle()
    assert np.array_equal(tab.canvas("after")[..., :3], result)
    assert np.array_equal(tab.canvas("before")[..., :3], photo)
    edit = "Smiling +1.00, Blond hair −0.50"
    words = "; ".join(f"face {number}: {edit}" for number in (1, 2, 3))
    assert tab.page.get_attribute("#after", "aria-label") == f"After: {words}"
    tab.page.click("#view-result")
    tab.idle()


def test_each_face_has_its_own_sliders_and_undo_follows_the_face(faces_tab, photo):
    tab = faces_tab
    tab.upload(encoded(photo))
    tab.page.check("#detail")
    first, second, third = (region(face, photo) for face in face_detection.find_faces(photo))
    select(tab, 2)
    tab.move("Smiling", 1.5)
    changed = (downloaded(tab) != photo).any(axis=-1)
    assert changed.any() and not changed[first | third].any()
    select(tab, 3)
    assert tab.page.input_value("#strength-Smiling") == "0"
    tab.move("Smiling", -1.0)
    assert (downloaded(tab) != photo).any(axis=-1)[third].any()
    select(tab, 1)
    tab.page.click("#undo")
    tab.idle()
    assert tab.page.inner_text("#edit-title") == "Face 3 of 3"
    assert np.array_equal((downloaded(tab) != photo).any(axis=-1), changed)
    tab.page.click("#undo")
    tab.idle()
    assert tab.page.inner_text("#edit-title") == "Face 2 of 3"
    assert np.array_equal(downloaded(tab), photo)


def test_a_found_frame_is_corrected_and_keeps_its_tilt(faces_tab):
    tab = faces_tab
    pixels = photo_with_faces((5, 500, 330, 350, 15))
    tab.upload(encoded(pixels))
    assert tab.status() == "One face found. Move the sliders, or correct its frame."
    (face,) = face_detection.find_faces(pixels)
    tab.page.focus("#frame")
    tab.page.keyboard.press("ArrowRight")
    tab.page.keyboard.press("-")
    tab.idle()
    ((x, y, side, angle),) = places(tab).values()
    assert [x, y, side] == pytest.approx([face.x + 7, face.y, face.side / 1.04], abs=0.01)
    assert angle == pytest.approx(face.angle, abs=0.01) and abs(angle) > 10
    crop = face_crop.crop_face(pixels, face_crop.FaceBox(x, y, side, angle), SIDE)
    assert close(images.to_uint8(tab.input()), crop)


def test_a_photo_without_a_face_keeps_the_frame(faces_tab):
    tab = faces_tab
    tab.upload(PHOTO)
    assert tab.status() == "No face found. Move the frame over the face, then move the sliders."
    assert tab.frame() == pytest.approx([20, 0, 110], abs=1e-3)
    assert close(images.to_uint8(tab.input()), images.center_square_resize(PIXELS, SIDE))


def test_an_aligned_photo_is_not_searched(faces_tab):
    tab = faces_tab
    pixels = photo_with_faces((5, 150, 170, 240, 0), size=(436, 356))
    assert len(face_detection.find_faces(pixels)) == 1
    tab.upload(encoded(pixels))
    assert tab.status() == "Frame the face, then move the sliders."
    assert close(images.to_uint8(tab.input()), images.celeba_crop_resize(pixels, SIDE))


def test_a_large_photo_is_downloaded_in_its_own_size(faces_tab):
    tab = faces_tab
    small = photo_with_faces((5, 450, 350, 300, 0))
    pixels = np.asarray(Image.fromarray(small).resize((2700, 2100), Image.Resampling.BICUBIC))
    tab.upload(encoded(pixels))
    assert tab.page.evaluate("document.getElementById('photo').width") == 2048
    tab.move("Smiling", 1.0)
    result = downloaded(tab)
    assert result.shape == pixels.shape
    (face,) = face_detection.find_faces(pixels)
    changed = (result != pixels).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert abs(columns.mean() - face.x) < 20 and abs(rows.mean() - face.y) < 20
    assert changed[region(face, pixels)].mean() > 0.5


def test_the_cascades_are_stored_for_offline_use(faces_tab):
    assert faces_tab.page.evaluate("caches.match('cascades.json').then(Boolean)")


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ({"status": 404}, "cascades.json cannot be loaded (404); serve the complete folder"),
        ({"body": "{"}, "cascades.json is damaged; export the page again with cgan export"),
    ],
)
def test_missing_or_damaged_cascades_are_one_clear_line(chromium, faces_tab, answer, line):
    def prepare(page):
        page.route("**/cascades.json", lambda route: route.fulfill(**answer))

    url = faces_tab.page.url
    tab = Tab(chromium, url, prepare, service_workers="block")
    tab.wait_until("document.getElementById('status').classList.contains('error')")
    assert tab.status() == f"Error: {line}"
    tab.context.close()


def test_a_failed_search_leaves_the_frame(faces_tab, photo):
    tab = faces_tab
    tab.page.evaluate("""async () => {
        const { FaceFinder } = await import("./face_finder.js");
        window.find = FaceFinder.prototype.find;
        FaceFinder.prototype.find = async () => { throw new Error("the search failed"); };
    }""")
    tab.upload(encoded(photo))
    assert tab.status() == "Error: the search failed"
    tab.move("Smiling", 1.0)
    assert not np.array_equal(downloaded(tab), photo)
    tab.page.evaluate("""async () => {
        const { FaceFinder } = await import("./face_finder.js");
        FaceFinder.prototype.find = window.find;
    }""")


def test_a_model_of_center_squares_finds_no_faces(tab, photo):
    tab.upload(encoded(photo))
    assert tab.status() == "Frame the face, then move the sliders."
    assert tab.frame() == pytest.approx([100, 0, 700], abs=1e-3)
    tab.upload(PHOTO)
