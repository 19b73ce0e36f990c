"""Image files in the graph: the model gets the same input as with Python's decoder and crop."""

import functools
import io
import struct
import zlib

import fake_run
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cgan_tf.data import images, portraits
from cgan_tf.editing import description
from cgan_tf.export import image_bytes

WIDE, TALL = (30, 20), (17, 29)  # width, height
RED = (200, 30, 60)


def noise(size, mode="RGB"):
    width, height = size
    levels = np.random.default_rng(width).integers(0, 256, (height, width, 4), np.uint8)
    return Image.fromarray(levels, "RGBA").convert(mode)


def encode(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@functools.cache
def reader(resolution, crop):
    """`image_bytes.read_squares` as a graph, as it is exported."""
    return tf.function(
        lambda data: image_bytes.read_squares(data, resolution, crop),
        input_signature=[tf.TensorSpec((None,), tf.string)],
    )


def read(data, resolution=16, crop=description.SQUARE_CROP):
    return reader(resolution, crop)(tf.constant(data, tf.string)).numpy()


# ---- crop and resize ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size, crop, resolution",
    [
        ((178, 218), description.CELEBA_CROP, 64),
        ((89, 109), description.CELEBA_CROP, 32),
        ((89, 109), description.CELEBA_CROP, 128),  # enlarged
        ((89, 109), description.SQUARE_CROP, 32),
        ((218, 178), description.CELEBA_CROP, 64),  # landscape: the largest square
        ((301, 200), description.SQUARE_CROP, 64),
        ((50, 37), description.SQUARE_CROP, 32),
        ((32, 32), description.SQUARE_CROP, 32),
        ((5, 1), description.SQUARE_CROP, 8),
    ],
)
def test_the_input_equals_pythons(size, crop, resolution):
    """On noise, the hardest case: at most one level of difference, where sums round differently."""
    png = encode(noise(size), "PNG")
    given = read([png], resolution, crop)
    pixels = images.decode_bytes(png, "it")
    expected, _ = portraits.crop_photo(pixels, resolution, crop == description.CELEBA_CROP)
    levels = (given[0] + 1) * 127.5
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    difference = np.abs(np.rint(levels) - expected)
    assert difference.max() <= 1 and difference.mean() <= 0.005
    assert given.dtype == np.float32 and given.shape == (1, resolution, resolution, 3)


@pytest.mark.parametrize("size", [(37, 50), (100, 137), (17, 29)])
def test_tall_images_where_pillow_swaps_the_passes(size):
    """The values clipped between the passes then differ."""
    smooth = noise((5, 7)).resize(size, Image.Resampling.BICUBIC)
    given = read([encode(smooth, "PNG")])
    expected = images.center_square_resize(np.asarray(smooth), 16)
    assert np.abs((given[0] + 1) * 127.5 - expected).max() <= 2.01


def test_images_of_different_sizes_in_one_batch():
    pngs = [encode(noise(size), "PNG") for size in (WIDE, TALL, (8, 8))]
    together = read(pngs)
    for png, row in zip(pngs, together, strict=True):
        np.testing.assert_array_equal(read([png])[0], row)
    assert read([]).shape == (0, 16, 16, 3)


# ---- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode, form, bound",
    [
        ("RGB", "PNG", 0),
        ("L", "PNG", 0),
        ("P", "PNG", 0),
        ("LA", "PNG", 1),
        ("RGBA", "PNG", 1),  # composited on white
        ("RGB", "BMP", 0),
        ("L", "BMP", 0),
        ("P", "GIF", 0),
        ("RGB", "JPEG", 1),
        ("L", "JPEG", 1),
    ],
)
def test_formats_are_decoded_as_in_python(mode, form, bound):
    data = encode(noise(TALL, mode), form)
    pixels = image_bytes.decode(tf.constant(data)).numpy()
    expected = images.decode_bytes(data, "it")
    assert pixels.dtype == np.uint8 and pixels.shape == expected.shape
    assert np.abs(np.int16(pixels) - expected).max() <= bound


def test_the_first_frame_of_a_gif():
    frames = [Image.new("RGB", WIDE, color) for color in (RED, (0, 0, 255))]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    pixels = image_bytes.decode(tf.constant(data)).numpy()
    assert pixels.shape == (20, 30, 3)
    assert np.abs(np.int16(pixels) - RED).max() <= 8  # error of the palette


def test_pngs_are_encoded_as_in_python():
    draw = np.random.default_rng(0).uniform(-1.2, 1.2, (2, 8, 8, 3)).astype(np.float32)
    for row, png in zip(draw, image_bytes.write_pngs(tf.constant(draw)).numpy(), strict=True):
        assert png.startswith(b"\x89PNG")
        np.testing.assert_array_equal(images.decode_bytes(png, "it"), images.to_uint8(row))


# ---- invalid files -----------------------------------------------------------------------------


def png_header(width, height):
    """A PNG that ends after its size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
    )


def jpeg_of(width, height):
    """A JPEG whose header gives a wrong size."""
    data = bytearray(encode(noise(WIDE), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


LARGE = "image_bytes: an image must have 1 to"
OTHER = "image_bytes: no JPEG, PNG, GIF or BMP"


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", OTHER),
        (b"hello", OTHER),
        (b"\x89PN", OTHER),
        (encode(noise(WIDE), "WEBP"), OTHER),  # a format that is not supported
        (b"\x89PNG\r\n\x1a\n", None),
        (b"\xff\xd8\xff", None),
        (b"GIF89a", None),
        (b"BM", None),
        (encode(noise(WIDE), "PNG")[:300], None),
        (encode(noise(WIDE), "JPEG")[:400], None),
        (png_header(20_000, 20_000), LARGE),
        (png_header(2**31 - 1, 2**31 - 1), LARGE),
        (png_header(0, 5), LARGE),
        (jpeg_of(65_000, 65_000), LARGE),
        (b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(20), LARGE),
        (b"BM" + bytes(16) + struct.pack("<ii", 50_000, -50_000) + bytes(40), LARGE),
    ],
)
def test_an_invalid_file_fails_the_request(data, message):
    good = encode(noise(WIDE), "PNG")
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        read([good, data])


def test_the_maximum_number_of_pixels(monkeypatch):
    monkeypatch.setattr(image_bytes, "MAX_PIXELS", 600)
    assert image_bytes.decode(tf.constant(encode(noise((30, 20)), "PNG"))).shape == (20, 30, 3)
    for size in ((31, 20), (30, 21)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=LARGE):
            image_bytes.decode(tf.constant(encode(noise(size), "PNG")))


# ---- the signature -----------------------------------------------------------------------------


def test_translate_bytes_equals_translate():
    model = tf.saved_model.load(str(fake_run.shared_export() / "saved_model" / "1"))
    gray = noise(TALL, "L")
    data = [encode(noise(WIDE), "PNG"), encode(noise(TALL), "JPEG"), encode(gray, "BMP")]
    strengths = np.float32([[0.5, 0, -1], [0, 0, 0], [0, 2, 0]])
    edited = model.signatures["translate_bytes"](
        image_bytes=tf.constant(data), strengths=tf.constant(strengths)
    )["image_bytes"].numpy()
    image = tf.constant(read(data, 32))
    expected = model.signatures["translate"](image=image, strengths=tf.constant(strengths))["image"]
    for png, row in zip(edited, expected.numpy(), strict=True):
        pixels = images.decode_bytes(png, "it")
        assert np.abs(np.int16(pixels) - images.to_uint8(row)).max() <= 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="no JPEG, PNG, GIF or BMP"):
        model.signatures["translate_bytes"](
            image_bytes=tf.constant([b"text"]), strengths=tf.zeros((1, 3))
        )
