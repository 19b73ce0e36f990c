"""The page in another browser: Firefox, if it is installed."""

import firefox_tab
import numpy as np
import pytest
from page_tab import PHOTO, PIXELS, SIDE, Server, close, generate_in_python

from cgan_tf.data import images

pytestmark = pytest.mark.slow


def edited(tab):
    """The image before and after Smiling +1."""
    before = tab.canvas("after")[..., :3]
    tab.evaluate("editor.move('Smiling', 1)")
    return before, tab.canvas("after")[..., :3]


def test_firefox_edits_a_photo_as_python_does_and_works_offline(site, model, tmp_path):
    server = Server(site)
    (tmp_path / "profile").mkdir()
    (tmp_path / "photo.png").write_bytes(PHOTO)
    with firefox_tab.opened(tmp_path / "profile") as tab:
        tab.goto(server.url)
        tab.ready()
        tab.upload(tmp_path / "photo.png")
        tab.evaluate("document.getElementById('detail').click()")
        tab.evaluate("editor.idle()")
        before, after = edited(tab)
        square = images.center_square_resize(PIXELS, SIDE)
        assert close(tab.canvas("before")[..., :3], square)
        expected = images.to_uint8(generate_in_python(model[0], images.to_float(square), [1, 0, 0]))
        assert not close(before, expected, 8) and close(after, expected, 2)
        server.close()
        tab.goto(server.url)
        tab.ready()
        assert not np.array_equal(*edited(tab))
        assert {url for url in tab.requests if not url.startswith(("blob:", server.url))} == set()
        assert tab.errors == []
        fetch = f"fetch('{server.url}model.json')"  # which is stored
        assert tab.evaluate(f"{fetch}.then(() => 'sent', () => 'refused')") == "refused"


def test_a_browser_that_hides_pixels_is_told_so(site, tmp_path):
    server = Server(site)
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "prefs.js").write_text('user_pref("privacy.resistFingerprinting", true);\n')
    with firefox_tab.opened(profile) as tab:
        tab.goto(server.url)
        failed = "editor.ready.then(() => undefined, ({ message }) => message)"
        assert tab.evaluate(failed).startswith("this browser does not let pages read pixels")
        assert tab.evaluate("document.getElementById('file').disabled")
    server.close()
