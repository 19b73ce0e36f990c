"""Image files in the graph: the model gets the same input as with Python's decoder and crop."""

import contextlib
import functools
import io
import struct
import zlib

import fake_run
import numpy as np
import pictures
import pytest
import tensorflow as tf
from PIL import Image, ImageCms

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
        ((356, 436), description.CELEBA_CROP, 64),
        ((89, 109), description.CELEBA_CROP, 64),  # enlarged
        ((218, 178), description.CELEBA_CROP, 64),  # landscape: the largest square
        ((89, 109), description.SQUARE_CROP, 32),
        ((151, 100), description.SQUARE_CROP, 32),
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
    smooth = noise((5, 7), "RGB").resize(size, Image.Resampling.BICUBIC)
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


def png_file(bits, color, extra, interlaced):
    """A PNG of noise; `extra` is tRNS, or nothing."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    draw = np.random.default_rng(bits * 10 + color)
    samples = draw.integers(0, 1 << bits, (29, 17, channels))
    samples[0, 0] = (1 << bits) - 1
    chunks = b""
    if color == 3:
        palette = draw.integers(0, 256, (1 << bits, 3), np.uint8)
        chunks += pictures.chunk(b"PLTE", palette.tobytes())
    if extra:
        first = struct.pack(f">{channels}H", *samples[3, 3])
        opacity = draw.integers(0, 256, 1 << bits, np.uint8).tobytes()
        chunks += pictures.chunk(b"tRNS", opacity if color == 3 else first)
    return pictures.png(samples, bits, color, chunks, interlaced=interlaced)


def matrix():
    """Files of every format, depth, mode and orientation, by name."""
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    files = {
        f"png color {color}, {bits} bits, tRNS {extra}, interlaced {laced}": png_file(
            bits, color, extra, laced
        )
        for color, several in depths.items()
        for bits in several
        for extra in ((False, True) if color < 4 else (False,))
        for laced in (False, True)
    }
    for bits in (10, 12):
        samples = np.random.default_rng(bits).integers(0, 1 << bits, (29, 17, 3))
        files[f"png gray, {bits} of 16 bits"] = pictures.png(samples[..., :1], 16, 0)
        files[f"png color, {bits} of 16 bits"] = pictures.png(samples, 16, 2)
    photo, small = (
        noise(TALL, "RGBA"),
        noise((5, 7), "RGB").resize((64, 48), Image.Resampling.BICUBIC),
    )
    for form in ("BMP", "GIF", "JPEG"):
        for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr"):
            with contextlib.suppress(OSError, ValueError):  # a mode that the format does not have
                image = photo if mode == "RGBA" else photo.convert("RGB").convert(mode)
                files[f"{form} {mode}"] = encode(image, form)
    clear = photo.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    files["GIF transparent"] = encode(clear, "GIF", transparency=1)
    # Where color has half the resolution, the decoders enlarge it in the same way.
    for sampling in (0, 1, 2):
        for progressive in (False, True):
            name = f"JPEG sampling {sampling}, progressive {progressive}"
            files[name] = encode(small, "JPEG", subsampling=sampling, progressive=progressive)
    for turn in range(1, 9):
        exif = pictures.oriented(turn)
        files[f"JPEG orientation {turn}"] = encode(small, "JPEG", exif=exif)
        files[f"png orientation {turn}"] = encode(photo, "PNG", exif=exif)
        behind = pictures.chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        data = pictures.png(np.asarray(photo), 8, 6, after=behind)
        files[f"png orientation {turn}, behind the pixels"] = data
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for form in ("PNG", "JPEG"):
        for name, profile in {"sRGB": srgb, "Display P3": pictures.display_p3()}.items():
            files[f"{form} {name}"] = encode(small, form, icc_profile=profile)
    return files


REFUSED = {
    "png color, 10 of 16 bits": "16-bit color with no level above 4095",
    "png color, 12 of 16 bits": "16-bit color with no level above 4095",
    "png color 2, 16 bits, tRNS True, interlaced False": "16-bit color with one transparent",
    "png color 2, 16 bits, tRNS True, interlaced True": "16-bit color with one transparent",
    "JPEG CMYK": "a CMYK JPEG",
    "BMP 1": "a BMP must have 24 bits",
    "BMP P": "a BMP must have 24 bits",
    "BMP RGBA": "a BMP must have 24 bits",
    "GIF RGBA": "a GIF with transparency",
    "GIF transparent": "a GIF with transparency",
    "PNG Display P3": "a color profile other than sRGB",
    "JPEG Display P3": "a color profile other than sRGB",
}


def test_every_picture_is_decoded_as_in_python_or_refused():
    decode = tf.function(image_bytes.decode, input_signature=[tf.TensorSpec((), tf.string)])
    wrong, refused = {}, {}
    for name, data in matrix().items():
        try:
            pixels = decode(tf.constant(data)).numpy()
        except tf.errors.InvalidArgumentError as error:
            refused[name] = str(error)
            continue
        expected = images.decode_bytes(data, name)
        if pixels.shape != expected.shape:
            wrong[name] = pixels.shape
        elif (largest := np.abs(np.int16(pixels) - expected).max()) > 1:
            wrong[name] = largest
    assert wrong == {}
    assert refused.keys() == REFUSED.keys()
    for name, message in refused.items():
        assert f"image_bytes: {REFUSED[name]}" in message, name


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
