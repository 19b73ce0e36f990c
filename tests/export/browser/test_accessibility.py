"""The page for everyone: axe, small screens, the keyboard."""

import fake_run
import numpy as np
import pytest
from page_tab import PHOTO, Tab
from PIL import Image

pytestmark = pytest.mark.slow
ATTRIBUTES = list(fake_run.ATTRIBUTES)
WIDTHS = ((1280, 900), (390, 844))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", WIDTHS)
def test_axe_finds_no_violations(tab, axe, size, scheme):
    tab.page.emulate_media(color_scheme=scheme)
    tab.page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    tab.page.evaluate(axe)

    def check():
        result = tab.page.evaluate("axe.run()")
        assert len(result["passes"]) > 15
        found = [(entry["id"], entry["nodes"][0]["html"]) for entry in result["violations"]]
        assert found == []

    assert tab.page.is_visible("#stage")
    check()
    tab.move("Smiling", 1.0)
    tab.page.click("#draw-strip")
    tab.page.wait_for_selector("#strip:visible")
    assert tab.page.is_visible("#compare")
    check()
    tab.page.click("#camera")
    tab.page.wait_for_selector("#camera-dialog:visible")
    check()
    tab.page.keyboard.press("Escape")
    tab.page.click("#surprise")
    tab.idle()
    check()


@pytest.mark.parametrize("size", [*WIDTHS, (320, 568), (844, 390)])
def test_nothing_is_wider_than_the_screen(tab, size):
    tab.page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    assert tab.page.evaluate("document.documentElement.scrollWidth") == size[0]
    small = tab.page.evaluate("""[...document.querySelectorAll("button, .button")]
        .filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 44)
        .map(({ textContent }) => textContent)""")
    assert small == []


def test_fingers_have_room(chromium, server):
    size = {"width": 390, "height": 844}
    tab = Tab(chromium, server.url, viewport=size, has_touch=True, is_mobile=True).ready()
    tab.upload(PHOTO)
    sizes = tab.page.evaluate("""[...document.querySelectorAll("button, .button, .check, input")]
        .filter((each) => each.checkVisibility() && !each.matches(".visually-hidden, .check input"))
        .map((each) => [each.id || each.textContent, each.getBoundingClientRect().height])""")
    assert len(sizes) > 15
    assert [name for name, height in sizes if height < 44] == []
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
    tab.context.close()
    assert tab.errors == []


def test_nothing_moves_by_itself_where_people_do_not_want_it(tab):
    duration = "getComputedStyle(document.getElementById('camera')).transitionDuration"
    for motion, expected in (("reduce", {"0s"}), ("no-preference", {"0.15s"})):
        tab.page.emulate_media(reduced_motion=motion)
        assert set(tab.page.evaluate(duration).split(", ")) == expected
    assert tab.page.evaluate("document.getAnimations().length") == 0


# What shows the focus of an element: itself, or what stands for it.
RING = """() => {
    const { activeElement: active } = document;
    const marks = { file: active.parentElement, divider: document.querySelector("#grip svg") };
    const { outlineStyle, outlineWidth } = getComputedStyle(marks[active.id] ?? active);
    return [active.id || active.className, outlineStyle, parseFloat(outlineWidth)];
}"""


def tab_through(tab, count):
    """Presses Tab; returns [id or class, style and width of the outline] of what gets the focus."""
    reached = []
    for _ in range(count):
        tab.page.keyboard.press("Tab")
        reached.append(tab.page.evaluate(RING))
    return reached


def test_everything_is_reachable_by_keyboard_and_shows_its_focus(tab):
    views = {"#view-frame": ["frame", "zoom"], "#view-result": ["divider"]}
    everywhere = ["view-frame", "view-result", "undo", "redo", "file", "camera", "surprise"]
    everywhere += [f"strength-{name}" for name in ATTRIBUTES]
    everywhere += ["detail", "download", "reset", "scroll", "draw-strip"]
    for view, own in views.items():
        tab.page.click(view)
        tab.page.evaluate("document.activeElement.blur()")
        tab.page.evaluate("document.querySelector('header').scrollIntoView()")
        tab.page.mouse.click(2, 2)  # the order starts at the top again
        reached = tab_through(tab, 30)
        assert {*everywhere, *own} <= {name for name, _, _ in reached}
        shown = [each for each in reached if each[0] not in ("", "BODY")]
        assert [each for each in shown if each[1] != "solid" or each[2] < 3] == []


def test_a_face_is_edited_undone_compared_and_saved_with_keys_only(chromium, server):
    tab = Tab(chromium, server.url).ready()
    press = tab.page.keyboard.press

    def go_to(name):
        for _ in range(40):
            if tab.page.evaluate("document.activeElement.id") == name:
                return
            press("Tab")
        raise AssertionError(f"{name} cannot be reached")

    go_to("surprise")
    press("Enter")
    tab.idle()
    face = tab.canvas("after")
    go_to("strength-Smiling")
    for _ in range(3):
        press("PageUp")  # a tenth of the range
    tab.idle()
    edited = tab.canvas("after")
    assert tab.page.locator("#strength-Smiling").input_value() == "1.2"
    assert not np.array_equal(edited, face)
    press("Control+z")
    tab.idle()
    assert np.array_equal(tab.canvas("after"), face)
    press("Control+Shift+Z")
    tab.idle()
    assert np.array_equal(tab.canvas("after"), edited)
    go_to("divider")
    press("Home")
    assert tab.page.get_attribute("#divider", "aria-valuetext") == "0 % before, 100 % after"
    go_to("download")
    with tab.page.expect_download() as started:
        press("Enter")
    pixels = np.asarray(Image.open(started.value.path()).convert("RGBA"))
    assert np.array_equal(pixels, edited)
    tab.context.close()
    assert tab.errors == []
