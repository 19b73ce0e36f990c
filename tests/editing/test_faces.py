"""The edit of single faces, on a backend whose edits are known exactly."""

import numpy as np
import pytest
from photos import gray, random_photo
from shift_backend import ShiftBackend

from cgan_tf.core.errors import UserError
from cgan_tf.data import images, portraits
from cgan_tf.editing import faces
from cgan_tf.editing.request import EditRequest


def render(pixels, **options):
    """The photo with its center square edited by +20 levels."""
    (portrait,) = portraits.portraits(pixels, 32, aligned=False, which=portraits.CENTER)
    renderer = faces.FaceRenderer(ShiftBackend(), **options)
    code = {"latent": images.to_float(portrait.crop)}
    return renderer.render(pixels, portrait, code, np.float32([20 / 127.5]))


def test_a_face_alone_and_its_strip():
    pixels = gray(100, 50, 50)
    np.testing.assert_array_equal(render(pixels, crop=True), gray(120, 32, 32))
    strip = render(pixels, strip=True)
    assert strip.shape == (32 + 16, 6 * 32, 3)
    assert strip[16, 16::32, 0].tolist() == [100, 80, 90, 100, 110, 120]
    labels = strip[32:]
    assert all(labels[:, start : start + 32].min() < 128 for start in range(0, 192, 32))


def test_a_face_is_pasted_into_the_photo():
    pixels = gray(100, 40, 60)
    edited = render(pixels)
    assert edited.shape == pixels.shape
    assert (edited[15:25, 25:35] == 120).all(), "the center is edited"
    assert (edited[:, :10] == 100).all() and (edited[:, -10:] == 100).all(), "outside the square"
    assert (np.diff(np.int16(edited[20, 10:31, 0])) >= 0).all(), "the border is soft"
    assert (pixels == 100).all(), "the photo itself is not changed"


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("levels", [3, 30])
def test_keep_detail_adds_a_small_difference_and_lets_a_large_one_replace_the_photo(levels, alone):
    # The latent does not reconstruct the photo: the generated image is darker.
    pixels = np.random.default_rng(1).integers(60, 180, (32, 32, 3), np.uint8)
    (portrait,) = portraits.portraits(pixels, 32, aligned=False, which=portraits.CENTER)
    renderer = faces.FaceRenderer(ShiftBackend(), keep_detail=True, crop=alone)
    dark = {"latent": np.full((32, 32, 3), -0.9, np.float32)}
    edited = renderer.render(pixels, portrait, dark, np.float32([levels / 127.5]))
    expected = pixels[14:18, 14:18] + 3 if levels == 3 else np.full((4, 4, 3), 12.75 + 30)
    assert np.abs(edited[14:18, 14:18] - np.float32(expected)).max() <= 0.5
    np.testing.assert_array_equal(edited[0, 0], pixels[0, 0])


def test_strengths_beyond_the_range_of_the_model_are_refused():
    code = {"latent": np.zeros((32, 32, 3), np.float32)}
    with pytest.raises(UserError, match="not finite; lower them"):
        faces.FaceRenderer(ShiftBackend()).generate(code, np.float32([np.inf]))


def edit(pixels, backend):
    """The photo with its center square edited by +20 levels, and what was done."""
    found = portraits.portraits(pixels, 32, aligned=False, which=portraits.CENTER)
    editor = faces.FaceEditor(
        EditRequest({"Light": 20 / 127.5}), faces.FaceRenderer(backend), faces.Inverter(backend)
    )
    ((edited, done),) = editor.edit([(pixels, found)])
    (face,) = done
    return edited, face


def test_a_photo_without_color_gets_none():
    class Red(ShiftBackend):
        def run(self, signature, **inputs):
            outputs = super().run(signature, **inputs)
            return {name: value * np.float32([1, 0, 0]) for name, value in outputs.items()}

    edited, _ = edit(gray(100, 40, 40), Red())
    assert np.ptp(edited) > 4 and (edited == edited[..., :1]).all()


def test_a_photo_unlike_the_training_photos_gets_a_warning():
    pixels = np.asarray(random_photo(40, 40))
    # The reconstruction is 0.9 times the photo: its PSNR has a closed form.
    crop = images.to_float(images.center_square_resize(pixels, 32))
    exact = 10 * np.log10(4 / np.mean(np.square(0.1 * crop)))
    _, face = edit(pixels, ShiftBackend(psnr_p5=exact - 0.1))
    assert face.psnr == pytest.approx(exact, abs=0.01) and face.warning == ""
    _, face = edit(pixels, ShiftBackend(psnr_p5=exact + 0.1))
    assert face.warning.startswith(
        f"unlike the training photos: reconstructed at {exact:.1f} dB, 95 % of the validation "
    )
