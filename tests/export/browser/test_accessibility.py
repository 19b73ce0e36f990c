"""The page for everyone: axe, small screens, the keyboard."""

import fake_run
import pytest
from programs import find

from cgan_tf.export import litert

pytestmark = pytest.mark.slow
ATTRIBUTES = list(fake_run.ATTRIBUTES)
WIDTHS = ((1280, 900), (390, 844))


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The script of the accessibility check."""
    find("npm")
    packages = litert.install(tmp_path_factory.mktemp("axe"))
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
