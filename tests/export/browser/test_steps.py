"""Undo and redo."""

import fake_run
import numpy as np
import pytest
from page_tab import PHOTO, encoded, make_photo

pytestmark = pytest.mark.slow
ATTRIBUTES = list(fake_run.ATTRIBUTES)


def strengths(tab):
    values = tab.page.locator(".attribute input").evaluate_all("all => all.map((x) => +x.value)")
    labels = tab.page.locator(".attribute input").evaluate_all("all => all.map((x) => x.id)")
    found = dict(zip(labels, values, strict=True))
    return [found[f"strength-{name}"] for name in ATTRIBUTES]


def possible(tab):
    """Whether undo and redo are."""
    return [tab.page.get_attribute(f"#{name}", "aria-disabled") == "false" for name in STEPS]


STEPS = ("undo", "redo")


def test_undo_and_redo_go_back_and_forth_through_the_edits(tab):
    images = [tab.canvas("after")]
    values = [[0, 0, 0]]
    assert possible(tab) == [False, False]
    for index, strength in ((0, 1.0), (2, -0.5), (0, 0.25)):
        tab.move(ATTRIBUTES[index], strength)
        images.append(tab.canvas("after"))
        values.append([*values[-1]])
        values[-1][index] = strength
    assert possible(tab) == [True, False]

    def check(expected, press):
        press()
        tab.idle()
        assert strengths(tab) == values[expected]
        assert np.array_equal(tab.canvas("after"), images[expected])

    keyboard = tab.page.keyboard
    check(2, lambda: tab.page.click("#undo"))
    assert tab.status() == "Undone." and possible(tab) == [True, True]
    check(1, lambda: keyboard.press("Control+z"))
    check(0, lambda: keyboard.press("Meta+z"))
    check(0, lambda: keyboard.press("Control+z"))  # nothing is left to undo
    assert possible(tab) == [False, True]
    check(1, lambda: keyboard.press("Control+Shift+Z"))
    check(2, lambda: keyboard.press("Control+y"))
    check(3, lambda: tab.page.click("#redo"))
    assert tab.status() == "Redone." and possible(tab) == [True, False]
    check(3, lambda: tab.page.click("#redo", force=True))  # nothing is left to redo
    check(2, lambda: keyboard.press("Control+z"))
    tab.move("Blond_Hair", 1.5)  # another edit takes the place of the undone one
    assert possible(tab) == [True, False] and strengths(tab) == [1, 1.5, -0.5]
    check(2, lambda: keyboard.press("Control+z"))


def test_a_run_of_keys_is_one_step_and_so_is_a_drag(tab):
    tab.page.focus("#strength-Smiling")
    for _ in range(4):
        tab.page.keyboard.press("ArrowRight")
    tab.page.focus("#strength-Blond_Hair")
    tab.page.keyboard.press("ArrowLeft")
    assert strengths(tab) == [0.2, -0.05, 0]
    ends = []
    for place in (0.7, 0.9):  # of the slider's width
        bounds = tab.page.locator("#strength-Blond_Hair").bounding_box()
        y = bounds["y"] + bounds["height"] / 2
        tab.page.mouse.move(bounds["x"] + 0.55 * bounds["width"], y)
        tab.page.mouse.down()
        tab.page.mouse.move(bounds["x"] + place * bounds["width"], y, steps=5)
        tab.page.mouse.up()
        ends.append(strengths(tab)[1])
    assert 0.5 < ends[0] < 1 < ends[1] < 2
    for expected in ([0.2, ends[0], 0], [0.2, -0.05, 0], [0.2, 0, 0], [0, 0, 0]):
        tab.page.keyboard.press("Control+z")
        assert strengths(tab) == expected
    assert possible(tab) == [False, True]
    tab.idle()


def test_reset_is_a_step_and_needs_something_to_reset(tab):
    tab.page.click("#reset")
    assert possible(tab) == [False, False]
    tab.move("Smiling", 1.0)
    tab.page.click("#reset")
    tab.page.keyboard.press("Control+z")
    assert strengths(tab) == [1, 0, 0]
    tab.page.click("[aria-label='Reset Smiling']")
    tab.page.click("[aria-label='Reset Smiling']")
    tab.page.keyboard.press("Control+z")
    assert strengths(tab) == [1, 0, 0]
    tab.idle()


def test_the_frame_is_part_of_a_step(tab):
    start, image, after = tab.frame(), tab.input(), tab.canvas("after")
    tab.page.focus("#frame")
    for _ in range(5):
        tab.page.keyboard.press("-")
    tab.idle()
    moved, other = tab.frame(), tab.input()
    assert not np.array_equal(image, other)
    tab.move("Smiling", 1.0)
    edited = tab.canvas("after")
    tab.page.keyboard.press("Control+z")
    tab.idle()
    assert tab.frame() == moved and tab.page.is_visible("#compare")
    tab.page.keyboard.press("Control+z")
    tab.idle()
    assert tab.frame() == start and tab.page.is_visible("#stage"), "the photo shows the frame"
    assert np.array_equal(tab.input(), image) and np.array_equal(tab.canvas("after"), after)
    for _ in STEPS:
        tab.page.keyboard.press("Control+y")
    tab.idle()
    assert np.array_equal(tab.input(), other) and np.array_equal(tab.canvas("after"), edited)


def test_another_photo_starts_without_edits_and_undo_does_not_go_behind_it(tab):
    tab.move("Smiling", 1.0)
    tab.upload(encoded(make_photo(60, 80, seed=3)))
    assert possible(tab) == [False, False] and strengths(tab) == [0, 0, 0]
    tab.page.keyboard.press("Control+z")
    tab.idle()
    assert tab.page.evaluate("document.getElementById('photo').width") == 60


def test_only_the_last_hundred_states_are_kept(tab):
    script = """async () => {
        const { History } = await import("./history.js");
        const history = new History(0);
        for (let k = 1; k <= 250; k++) history.record(k);
        let steps = 0;
        while (history.canUndo) { history.undo(); steps++; }
        return [steps, history.undo()];
    }"""
    assert tab.page.evaluate(script) == [99, 151]
    tab.upload(PHOTO)
