"""Damaged pictures of every format: read and edited, or refused, and never changed."""

import contextlib
import faulthandler
import random

import fuzzing
import mutation
import numpy as np
import pytest
import tensorflow as tf
from pictures import display_p3, encode, oriented, png
from PIL import Image

from cgan_tf.core.errors import UserError
from cgan_tf.data import image_formats, images, photo_file

LONGEST_S = 30  # a decoder that takes longer hangs


@pytest.fixture(scope="module")
def pictures():
    """A picture of every format and kind, as the bytes of a file, by name."""
    draw = np.random.default_rng(0)
    color = Image.fromarray(draw.integers(0, 256, (20, 24, 3), np.uint8))
    gray = color.convert("L")
    clear = color.copy()
    clear.putalpha(gray)
    found = {
        "alpha.png": encode(clear, "PNG"),
        "alpha.webp": encode(clear, "WEBP", lossless=True),
        "palette.gif": encode(color.convert("P"), "GIF"),
        "animation.gif": encode(color, "GIF", save_all=True, append_images=[clear.convert("RGB")]),
        "cmyk.jpg": encode(color.convert("CMYK"), "JPEG"),
        "progressive.jpg": encode(color, "JPEG", progressive=True),
        "16.png": encode(Image.fromarray(draw.integers(0, 2**16, (20, 24), np.uint16)), "PNG"),
        "1.png": png(draw.integers(0, 2, (9, 9, 1)), 1, 0),
        "interlaced.png": png(draw.integers(0, 16, (9, 9, 1)), 4, 0, interlaced=True),
    }
    for kind in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        found[f"{kind}.tif"] = encode(color, "TIFF", compression=kind)
    found["group4.tif"] = encode(gray.convert("1"), "TIFF", compression="group4")
    metadata = {"exif": oriented(6).tobytes(), "icc_profile": display_p3()}
    for form in image_formats.formats():
        options = {"speed": 10} if form == "AVIF" else {}
        found[f"plain.{form}"] = encode(color, form, **options)
        if form in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF"):
            found[f"metadata.{form}"] = encode(color, form, **metadata, **options)
    return found


@fuzzing.budget(24, 500)
def test_a_damaged_picture_is_edited_or_refused(count, pictures, tmp_path):
    def check(seed):
        draw = random.Random(seed)
        content = mutation.damaged(draw, pictures[draw.choice(sorted(pictures))])
        path = tmp_path / f"photo{draw.choice(image_formats.IMAGE_SUFFIXES)}"
        path.write_bytes(content)
        with contextlib.suppress(UserError), stopped():
            photo = photo_file.read_file(path)
            np.testing.assert_array_equal(photo.pixels, images.decode_file(path))
            assert photo.pixels.dtype == np.uint8 and images.frame_count(path) >= 1
            assert photo.edited(photo.pixels).tobytes() == photo.image.tobytes()
            edited = photo.pixels.copy()
            edited[: len(edited) // 2] ^= 64
            target = tmp_path / f"edited{draw.choice(sorted(photo_file.FORMATS))}"
            photo.save(target, photo.edited(edited))
            assert images.decode_file(target).shape == edited.shape
        assert path.read_bytes() == content

    fuzzing.run(check, count)


@contextlib.contextmanager
def stopped():
    """Ends the test process with a stack trace if the block hangs in a decoder."""
    faulthandler.dump_traceback_later(LONGEST_S, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@fuzzing.budget(0, 150)
def test_the_graph_decodes_a_damaged_picture_or_refuses_it(count, pictures):
    """What the service does with the bytes of a request."""
    from cgan_tf.export import image_bytes

    decode = tf.function(image_bytes.decode, input_signature=[tf.TensorSpec((), tf.string)])
    names = [name for name in sorted(pictures) if not name.endswith((".tif", "TIFF"))]

    def check(seed):
        draw = random.Random(seed)
        content = mutation.damaged(draw, pictures[draw.choice(names)])
        # DataLossError: a compressed profile that cannot be decompressed.
        with contextlib.suppress(tf.errors.InvalidArgumentError, tf.errors.DataLossError):
            assert decode(content).shape[-1] == 3

    fuzzing.run(check, count)
