"""`cgan page`, from the command to changed pixels in a headless Chromium."""

import contextlib
import signal
import subprocess
import sys

import named_folder
import numpy as np
import pytest
from page_tab import PHOTO, PIXELS, SIDE, Tab, close, generate_in_python

from cgan_tf.data import images

pytestmark = pytest.mark.slow


def make_folder(place, model, face):
    """The folder of a named model with an example."""
    content, described = model
    contents = {"model.tflite": content, "scores.tflite": b"scores", "face.png": face}
    return named_folder.make(place / "face", contents, **described)


@contextlib.contextmanager
def served(folder):
    """The command as a process, and the address that it prints."""
    arguments = [sys.executable, "-m", "cgan_tf", "page", f"--model={folder}", "--port=0"]
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, such as these tests may be, ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        words = process.stdout.readline().split()
        assert words[:4] == ["the", "page", "is", "at"], process.stderr.read()
        # The only host that this Chromium may reach.
        yield process, words[4]
    finally:
        process.kill()
        process.communicate()


def test_an_example_is_edited_until_a_photo_is_chosen(chromium, tmp_path, model):
    with served(make_folder(tmp_path, model, PHOTO)) as (process, url):
        tab = Tab(chromium, url).ready()
        tab.idle()
        assert tab.status() == "This is an example: move the sliders, or choose a photo."
        tab.page.uncheck("#detail")
        tab.idle()
        face = images.center_square_resize(PIXELS, SIDE)
        assert close(np.rint((tab.input() + 1) * 127.5), face)
        unedited = tab.canvas("after")[..., :3]
        tab.move("Eyeglasses", 1.0)
        expected = images.to_uint8(generate_in_python(model[0], tab.input(), [0, 0, 1]))
        assert not close(expected, unedited, 8)
        assert close(tab.canvas("after")[..., :3], expected)
        host = url.split("/")[2]
        assert {each.split("/")[2] for each in tab.requests if "blob:" not in each} == {host}
        tab.upload(PHOTO)
        assert tab.status() == "Frame the face, then move the sliders."
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
        assert (process.returncode, out, error) == (0, "stopped\n", "")
        tab.page.reload()  # now without its server
        tab.ready().idle()
        before = tab.canvas("after")
        tab.move("Eyeglasses", 1.0)
        assert not np.array_equal(tab.canvas("after"), before)
        assert tab.errors == []
        tab.context.close()


def test_a_damaged_example_is_left_out(chromium, tmp_path, model):
    with served(make_folder(tmp_path, model, b"no picture")) as (_, url):
        tab = Tab(chromium, url).ready()
        assert tab.status() == "Ready. Edit this random face, or choose a photo."
        tab.context.close()
