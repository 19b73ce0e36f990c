"""Random faces."""

import functools
import json
import math

import numpy as np
import pytest
from page_tab import SIDE, Tab, close, runner

from cgan_tf.data import images

pytestmark = pytest.mark.slow

# Numbers in [0, 1) that are the same in the page and here.
_FACTOR, _ADDEND, _MODULUS = 1103515245, 12345, 2**31
RANDOM = f"""() => {{
    let state = 7n;
    Math.random = () => {{
        state = (state * {_FACTOR}n + {_ADDEND}n) % {_MODULUS}n;
        return Number(state) / {_MODULUS};
    }};
}}"""


def uniforms():
    state = 7
    while True:
        state = (state * _FACTOR + _ADDEND) % _MODULUS
        yield state / _MODULUS


def normals(count):
    """N(0, 1) from `uniforms` by the Box-Muller transform: float32 `[count]`."""
    draw = uniforms()
    values = []
    for _ in range(count):
        radius = math.sqrt(-2 * math.log(1 - next(draw)))
        values.append(radius * math.cos(2 * math.pi * next(draw)))
    return np.float32(values)


def generate(model, latent, strengths):
    """Python's image for a latent without detail features, uint8 `[R, R, 3]`."""
    content, described = model
    inputs = {
        "latent": latent.reshape(1, *described["latent_shape"]),
        "features": np.zeros((1, *described["features_shape"]), np.float32),
        "strengths": np.float32([strengths]),
    }
    return images.to_uint8(runner(content, "generate")(**inputs)["image"][0])


def surprise(tab):
    tab.page.click("#surprise")
    tab.idle()


def test_a_random_face_is_sampled_from_the_prior_and_can_be_edited(tab, model):
    photo = tab.canvas("before")
    tab.page.evaluate(RANDOM)
    surprise(tab)
    assert model[1]["prior"] == "normal" and 0 not in model[1]["features_shape"]
    latent = normals(np.prod(model[1]["latent_shape"]))
    face = generate(model, latent, [0, 0, 0])
    assert face.std() > 10
    assert close(tab.canvas("before")[..., :3], face) and close(tab.canvas("after")[..., :3], face)
    assert not close(tab.canvas("before"), photo, 8)
    assert np.isfinite(tab.input()).all()
    assert tab.status() == "A random face, which nobody has. Move the sliders."
    tab.move("Smiling", 1.0)
    edited = generate(model, latent, [1, 0, 0])
    assert not close(edited, face, 8)
    assert close(tab.canvas("after")[..., :3], edited)
    assert close(tab.canvas("before")[..., :3], face)
    assert tab.page.is_hidden("#views") and tab.page.is_hidden("#frame")
    tab.page.check("#detail")
    tab.idle()
    assert tab.canvas("after").shape == (SIDE, SIDE, 4)
    assert close(tab.canvas("before")[..., :3], face)


def test_undo_brings_back_the_face_before(tab):
    before = tab.canvas("before")
    faces = []
    for _ in range(2):
        surprise(tab)
        faces.append(tab.canvas("before"))
    assert not close(*faces, 8)
    for expected in (faces[0], before):
        tab.page.keyboard.press("Control+z")
        tab.idle()
        assert np.array_equal(tab.canvas("before"), expected)
    assert tab.page.is_visible("#views")
    tab.page.keyboard.press("Control+y")
    tab.idle()
    assert np.array_equal(tab.canvas("before"), faces[0])


def test_codes_have_the_prior_and_the_shapes_of_the_description(tab):
    script = """async (description) => {
        const { canSample, sampleCode } = await import("./sample.js");
        const { latent, features } = sampleCode(description);
        return [canSample(description), [...latent], features && [...features]];
    }"""
    tab.page.evaluate(RANDOM)

    def sample(prior, features):
        shapes = {"latent_shape": [2, 5000], "features_shape": features}
        return tab.page.evaluate(script, {"prior": prior, "space": "z", **shapes})

    possible, latent, features = sample("normal", [2, 2, 3])
    assert possible and len(latent) == 10_000 and features == [0] * 12
    assert np.mean(latent) == pytest.approx(0, abs=0.03)
    assert np.std(latent) == pytest.approx(1, abs=0.03)
    assert np.mean(np.abs(latent) < 1) == pytest.approx(0.683, abs=0.02)
    _, latent, features = sample("uniform", [0])
    assert features is None and -1 <= min(latent) < -0.99 and 0.99 < max(latent) < 1
    assert np.std(latent) == pytest.approx(3**-0.5, abs=0.02)
    tab.page.reload()
    tab.ready()


def test_a_model_whose_prior_is_not_in_its_space_asks_for_a_photo(chromium, server, model):
    def prepare(page):
        body = json.dumps(model[1] | {"space": "w"})
        page.context.route("**/model.json", functools.partial(_answer, body))

    tab = Tab(chromium, server.url, prepare, service_workers="block").ready()
    assert tab.status() == "Ready. Choose a photo."
    assert tab.page.is_hidden("#surprise") and tab.page.is_visible("#empty")
    assert tab.page.is_hidden("#compare") and tab.page.is_disabled("#download")
    tab.context.close()
    assert tab.errors == []


def _answer(body, route):
    route.fulfill(body=body)


def test_the_page_starts_with_a_random_face(chromium, server, model):
    tab = Tab(chromium, server.url, lambda page: page.add_init_script(f"({RANDOM})()")).ready()
    face = generate(model, normals(np.prod(model[1]["latent_shape"])), [0, 0, 0])
    assert close(tab.canvas("after")[..., :3], face)
    assert tab.page.is_enabled("#strength-Smiling") and tab.page.is_hidden("#empty")
    tab.context.close()
    assert tab.errors == []
