"""The divider between the image before and the image after: mouse, touch and keys."""

import io

import pytest
from PIL import Image

pytestmark = pytest.mark.slow
RED, BLUE = (255, 0, 0), (0, 0, 255)


def at(tab):
    return tab.page.evaluate("Number(document.getElementById('divider').value)")


def spot(tab, across, down=0.3):
    """A point of the picture, as fractions of its width and height."""
    bounds = tab.page.locator("#compare").bounding_box()
    return bounds["x"] + across * bounds["width"], bounds["y"] + down * bounds["height"]


def colors(tab, *places):
    """Colors of the picture as drawn, at fractions of its width, above the handle and words."""
    shot = Image.open(io.BytesIO(tab.page.locator("#compare").screenshot())).convert("RGB")
    return [shot.getpixel((int(place * shot.width), int(0.2 * shot.height))) for place in places]


@pytest.fixture
def edited(tab):
    """The page with a red image before an edit and a blue one after it."""
    tab.move("Smiling", 2.0)
    tab.page.evaluate("""() => {
        for (const [name, color] of [["before", "#ff0000"], ["after", "#0000ff"]]) {
            const context = document.getElementById(name).getContext("2d");
            context.fillStyle = color;
            context.fillRect(0, 0, 1000, 1000);
        }
    }""")
    tab.page.locator("#divider").fill("50")
    return tab


def test_the_mouse_moves_the_divider(edited):
    mouse = edited.page.mouse
    mouse.move(*spot(edited, 0.5))
    mouse.down()
    assert at(edited) == 50
    mouse.move(*spot(edited, 0.25), steps=3)
    assert at(edited) == 25
    mouse.move(*spot(edited, -0.2), steps=3)  # beyond the picture
    assert at(edited) == 0
    mouse.move(*spot(edited, 0.8), steps=3)
    mouse.up()
    mouse.move(*spot(edited, 0.1))  # not held any more
    assert at(edited) == 80
    words = edited.page.get_attribute("#divider", "aria-valuetext")
    assert words == "80 % before, 20 % after"
    assert edited.page.evaluate("document.activeElement.id") == "divider"


def test_the_image_before_is_on_its_left_and_the_image_after_on_its_right(edited):
    for percent, expected in ((30, "rbb"), (50, "rrb"), (70, "rrr"), (0, "bbb")):
        edited.page.locator("#divider").fill(str(percent))
        found = colors(edited, 0.2, 0.45, 0.65)
        assert found == [{"r": RED, "b": BLUE}[letter] for letter in expected], percent
    edited.page.locator("#divider").fill("30")
    near = colors(edited, 0.28, 0.3, 0.32)  # 1 % is 5 px, and the line is 3 px wide
    assert near == [RED, (255, 255, 255), BLUE]


def test_a_finger_moves_the_divider_and_scrolls_the_page(edited):
    devtools = edited.context.new_cdp_session(edited.page)

    def touch(kind, *point):
        points = [{"x": point[0], "y": point[1], "id": 0}] if point else []
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", *spot(edited, 0.4))
    touch("touchMove", *spot(edited, 0.5))
    touch("touchMove", *spot(edited, 0.9))
    touch("touchEnd")
    edited.wait_until("document.getElementById('divider').value === '90'")
    edited.page.set_viewport_size({"width": 390, "height": 500})
    touch("touchStart", *spot(edited, 0.3, 0.9))
    for down in (0.8, 0.6, 0.4, 0.2):
        touch("touchMove", *spot(edited, 0.3, down))
    touch("touchEnd")
    edited.wait_until("scrollY > 20")
    assert at(edited) == 90


def test_keys_move_the_divider(edited):
    edited.page.focus("#divider")
    for key, expected in (
        ("ArrowRight", 51),
        ("ArrowLeft", 50),
        ("ArrowLeft", 49),
        ("Home", 0),
        ("End", 100),
    ):
        edited.page.keyboard.press(key)
        assert at(edited) == expected
    assert colors(edited, 0.05, 0.95) == [RED, RED]
