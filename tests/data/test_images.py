"""Image files and pixel arrays."""

import io
import struct
import threading
import tracemalloc
import warnings
import zlib

import numpy as np
import pictures
import pytest
from PIL import Image, ImageCms

from cgan_tf.core.errors import UserError
from cgan_tf.data import image_formats, images, portraits, source

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def save(path, image, **options):
    image.save(path, **options)
    return path


def corners(width, height):
    """An image with red, green, blue and white quarters, row by row from the top left."""
    pixels = np.zeros((height, width, 3), np.uint8)
    half_h, half_w = height // 2, width // 2
    pixels[:half_h, :half_w], pixels[:half_h, half_w:] = RED, GREEN
    pixels[half_h:, :half_w], pixels[half_h:, half_w:] = BLUE, WHITE
    return pixels


def huge_png(side):
    """A PNG with a valid header for side x side pixels, but only a few bytes of data."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 100)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


# ---- uint8 <-> float ---------------------------------------------------------------------------


def test_to_float_maps_to_minus_one_to_one():
    result = images.to_float(np.array([0, 51, 127, 128, 255], np.uint8))
    assert result.dtype == np.float32
    expected = [-1.0, -0.6, -1 / 255, 1 / 255, 1.0]
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-7)


def test_every_level_survives_the_round_trip():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(images.to_uint8(images.to_float(levels)), levels)


def test_to_uint8_rounds_and_clips():
    values = np.array([-2.0, -1.0, 0.0, 0.0 + 0.6 / 127.5, 1.0, 7.0])
    np.testing.assert_array_equal(images.to_uint8(values), [0, 0, 128, 128, 255, 255])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_to_uint8_refuses_nan_and_infinity(bad):
    with pytest.raises(ValueError, match="NaN or infinite"):
        images.to_uint8(np.array([0.0, bad]))


def test_to_float_refuses_floats():
    with pytest.raises(ValueError, match="uint8"):
        images.to_float(np.zeros(3, np.float32))


# ---- files -> arrays ---------------------------------------------------------------------------


def test_png_is_decoded_exactly(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    decoded = images.decode_file(save(tmp_path / "a.png", Image.fromarray(pixels)))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, pixels)


def test_jpeg_is_decoded_approximately(tmp_path):
    pixels = corners(32, 48)
    decoded = images.decode_file(save(tmp_path / "a.jpg", Image.fromarray(pixels), quality=95))
    assert decoded.shape == (48, 32, 3)
    assert np.abs(decoded.astype(int) - pixels).mean() < 4


@pytest.mark.parametrize(
    "mode, value, expected",
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
        ("RGBA", (255, 0, 0, 51), (255, 204, 204)),
        ("LA", (0, 51), (204, 204, 204)),
    ],
)
def test_gray_and_alpha_become_rgb_on_white(tmp_path, mode, value, expected):
    decoded = images.decode_file(save(tmp_path / "a.png", Image.new(mode, (3, 2), value)))
    assert decoded.shape == (2, 3, 3)
    np.testing.assert_allclose(decoded, np.broadcast_to(expected, (2, 3, 3)), rtol=0, atol=1)


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.fromarray(corners(4, 4)).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    plain = images.decode_file(save(tmp_path / "a.png", image))
    np.testing.assert_array_equal(plain, corners(4, 4))
    index = image.getpixel((0, 0))  # red becomes transparent
    opacity = bytes(0 if i == index else 255 for i in range(4))
    clear = images.decode_file(save(tmp_path / "b.png", image, transparency=opacity))
    expected = corners(4, 4)
    expected[:2, :2] = WHITE
    np.testing.assert_array_equal(clear, expected)


def test_cmyk_and_16_bit_gray(tmp_path):
    cmyk = images.decode_file(save(tmp_path / "a.tif", Image.new("CMYK", (2, 2), (0, 255, 255, 0))))
    np.testing.assert_array_equal(cmyk, np.broadcast_to(RED, (2, 2, 3)))
    levels = np.array([[0, 257, 65535]], np.uint16)
    deep = images.decode_file(save(tmp_path / "b.png", Image.fromarray(levels)))
    np.testing.assert_array_equal(deep[0, :, 0], [0, 1, 255])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = corners(6, 4)
    # The stored pixels of a camera in this orientation: the inverse of what a viewer applies.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(images.decode_file(path), upright)


def test_damaged_exif_does_not_prevent_decoding(tmp_path):
    path = save(tmp_path / "a.jpg", Image.new("RGB", (8, 8), RED), exif=b"Exif\0\0garbage")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert images.decode_file(path).shape == (8, 8, 3)


def bad_files():
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        buffer, "JPEG"
    )
    jpeg = buffer.getvalue()
    return {
        "empty": (b"", "not an image file"),
        "text": (b"Dear diary,\n" * 50, "not an image file"),
        "truncated": (jpeg[: len(jpeg) // 2], "damaged or unsupported .*truncated"),
        "header_only": (jpeg[:30], "."),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image file"),
        "20000": (huge_png(20_000), "more than the 64 million pixels"),
        "10000": (huge_png(10_000), "10000 x 10000 px is more than the 64 million pixels"),
        "9000": (huge_png(9_000), "9000 x 9000 px is more than the 64 million pixels"),
    }


@pytest.mark.parametrize("kind", bad_files())
def test_bad_files_give_a_one_line_error_with_their_name(tmp_path, kind):
    content, reason = bad_files()[kind]
    path = tmp_path / f"{kind}.jpg"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError, match=reason) as caught:
            images.decode_file(path)
    assert str(caught.value).startswith(f"cannot read image {path}: ")
    assert "\n" not in str(caught.value)


def test_a_huge_image_is_refused_before_its_pixels_are_allocated(tmp_path):
    path = tmp_path / "huge.png"
    path.write_bytes(huge_png(20_000))
    tracemalloc.start()
    with pytest.raises(UserError):
        images.decode_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match=r"cannot read image .*gone\.png: No such file"):
        images.decode_file(tmp_path / "gone.png")
    with pytest.raises(UserError, match="Is a directory"):
        images.decode_file(tmp_path)


def test_float_tiff_is_refused(tmp_path):
    path = save(tmp_path / "a.tif", Image.fromarray(np.ones((2, 2), np.float32)))
    with pytest.raises(UserError, match="pixel format F has no defined range"):
        images.decode_file(path)


def test_bytes_are_decoded_like_files():
    buffer = io.BytesIO()
    Image.fromarray(corners(4, 4)).save(buffer, "PNG")
    np.testing.assert_array_equal(images.decode_bytes(buffer.getvalue(), "x"), corners(4, 4))
    with pytest.raises(UserError, match="cannot read image photo 7: not an image file"):
        images.decode_bytes(b"nothing", "photo 7")


def test_decoding_in_threads_restores_the_warning_filters(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(corners(64, 64)))
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [images.decode_file(path) for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


@pytest.mark.parametrize("form", ["tiff", "webp", "jpeg", "png", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_format_is_turned_once(tmp_path, form, orientation):
    """Pillow turns some formats itself."""
    stored = corners(64, 32)  # 8 x 8 blocks are flat, so JPEG keeps them
    path = tmp_path / f"a.{form}"
    Image.fromarray(stored).save(path, form, exif=pictures.oriented(orientation), quality=95)
    turned = stored.transpose(1, 0, 2) if orientation >= 5 else stored
    turned = turned[:, ::-1] if orientation in (2, 3, 6, 7) else turned
    turned = turned[::-1] if orientation in (3, 4, 7, 8) else turned
    decoded = images.decode_file(path)
    assert decoded.shape == turned.shape
    assert np.abs(np.int16(decoded) - turned).mean() < 5  # wrongly turned: above 80


@pytest.mark.parametrize("form", ["png", "tiff"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_the_white_of_16_bit_gray_is_that_of_its_bits(tmp_path, form, bits):
    """As cameras store their 10 or 12 bits; before, 12 bits were levels 0 to 15."""
    white = (1 << bits) - 1
    levels = np.array([[0, white // 2, white]], np.uint16)
    path = save(tmp_path / f"a.{form}", Image.fromarray(levels))
    np.testing.assert_array_equal(images.decode_file(path)[0, :, 1], [0, 127, 255])


def test_a_tiff_of_12_bit_samples_says_so(tmp_path):
    """Also where no level is above 1023: two samples in three bytes, 0x200 and 0x3FF."""
    entries = [
        (256, 3, 2),
        (257, 3, 1),
        (258, 3, 12),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, 1),
        (279, 4, 3),
    ]
    data = b"II*\0" + struct.pack("<I", 12) + bytes([0x20, 0x03, 0xFF, 0])
    data += struct.pack("<H", len(entries))
    data += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    decoded = images.decode_bytes(data + bytes(4), "a.tif")
    np.testing.assert_array_equal(decoded[0, :, 0], [0x200 * 255 // 4095, 0x3FF * 255 // 4095])


def test_12_bit_color_in_16_bits_is_refused():
    samples = np.random.default_rng(0).integers(0, 4096, (4, 4, 3))
    with pytest.raises(UserError, match="16-bit color with no level above 4095; save it as 8-bit"):
        images.decode_bytes(pictures.png(samples, 16, 2), "a.png")
    bright = images.decode_bytes(pictures.png(samples * 16, 16, 2), "a.png")
    np.testing.assert_array_equal(bright, samples >> 4)


def test_a_transparent_16_bit_color_is_refused():
    samples = np.full((2, 2, 3), 30_000)
    data = pictures.png(samples, 16, 2, pictures.chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)))
    with pytest.raises(UserError, match="16-bit color with one transparent color"):
        images.decode_bytes(data, "a.png")


# ---- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jfif", "a.avif", "A.HEIC"])
def test_photos_of_phones_and_browsers_are_read(tmp_path, name):
    image_formats.formats()  # registers the encoder too
    form = {"a.jfif": "JPEG", "a.avif": "AVIF", "A.HEIC": "HEIF"}[name]
    Image.new("RGB", (64, 48), P3).save(tmp_path / name, form)
    assert list(source.list_images(tmp_path)) == [name]
    assert portraits.find_photos(str(tmp_path)) == [tmp_path / name]
    decoded = images.decode_file(tmp_path / name)
    np.testing.assert_allclose(decoded, np.broadcast_to(P3, (48, 64, 3)), rtol=0, atol=4)


@pytest.mark.parametrize(
    "listed", [source.list_images, lambda path: portraits.find_photos(str(path))]
)
def test_photos_that_are_not_read_are_named(tmp_path, capsys, monkeypatch, listed):
    readable = (".avif", ".jpg")
    for module in (image_formats, source, portraits):
        monkeypatch.setattr(module, "IMAGE_SUFFIXES", readable)
    for name in ("a.heic", "b.HEIF", "c.jpg", "d.avif", "labels.csv", ".e.heic"):
        (tmp_path / name).touch()
    assert len(listed(tmp_path)) == 2
    said = "2 files skipped: a.heic (needs pillow-heif), b.HEIF (needs pillow-heif)\n"
    assert capsys.readouterr().err == said


# ---- color profiles ----------------------------------------------------------------------------

P3 = (180, 60, 60)  # in Display P3
# In sRGB: to linear light, by the matrices of both spaces (D65), and back. See
# https://www.w3.org/TR/css-color-4/#color-conversion-code.
P3_AS_SRGB = (196, 47, 54)


@pytest.mark.parametrize("form", ["png", "jpeg", "tiff", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colors_of_a_profile_become_srgb(tmp_path, form, mode):
    if (mode, form) in {("RGBA", "jpeg"), ("P", "jpeg"), ("P", "webp")}:
        mode = "RGB"
    image = Image.new("RGB", (16, 16), P3).convert(mode, palette=Image.Palette.ADAPTIVE)
    path = tmp_path / f"a.{form}"
    image.save(path, form, icc_profile=pictures.display_p3(), quality=100, lossless=True)
    decoded = images.decode_file(path)
    np.testing.assert_allclose(decoded, np.broadcast_to(P3_AS_SRGB, (16, 16, 3)), rtol=0, atol=2)


def test_srgb_profiles_change_nothing(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = save(tmp_path / "a.png", Image.fromarray(pixels), icc_profile=profile)
    np.testing.assert_array_equal(images.decode_file(path), pixels)


def test_gray_with_a_profile_of_colors_stays_gray(tmp_path):
    path = tmp_path / "a.png"
    Image.new("LA", (2, 2), (100, 255)).save(path, icc_profile=pictures.display_p3())
    np.testing.assert_allclose(images.decode_file(path), np.full((2, 2, 3), 100), rtol=0, atol=1)


@pytest.mark.parametrize(
    "profile", [b"no profile", pictures.display_p3()[:300], pictures.display_p3()[:16] + b"CMYK"]
)
def test_an_unusable_profile_is_reported_once(tmp_path, capsys, profile):
    for name in ("a.png", "b.png"):
        path = save(tmp_path / name, Image.new("RGB", (2, 2), P3), icc_profile=profile)
        np.testing.assert_array_equal(images.decode_file(path)[0, 0], P3)
    said = capsys.readouterr().err
    assert said == (
        f"note: {tmp_path / 'a.png'}: unusable color profile; photos with it are read as sRGB\n"
    )


# ---- crop and resize ---------------------------------------------------------------------------


def test_center_square_keeps_the_middle():
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 200
    np.testing.assert_array_equal(images.center_square_resize(wide, 4), np.full((4, 4, 3), 200))
    tall = wide.transpose(1, 0, 2)
    np.testing.assert_array_equal(images.center_square_resize(tall, 4), np.full((4, 4, 3), 200))


@pytest.mark.parametrize("scale", [1, 2])
def test_celeba_crop_is_the_centered_148_px_square(scale):
    photo = np.zeros((218 * scale, 178 * scale, 3), np.uint8)
    photo[35 * scale : 183 * scale, 15 * scale : 163 * scale] = corners(148 * scale, 148 * scale)
    result = images.celeba_crop_resize(photo, 148)
    if scale == 1:  # the resampling is the identity
        np.testing.assert_array_equal(result, corners(148, 148))
    place = np.abs(np.arange(148) - 73.5)
    far = (place > 6) & (place < 67)  # the resampling filter blurs the edges
    np.testing.assert_array_equal(result[np.ix_(far, far)], corners(148, 148)[np.ix_(far, far)])


def test_celeba_crop_at_half_size_is_in_proportion():
    photo = np.zeros((109, 89, 3), np.uint8)
    photo[17:92, 7:82] = 255  # the 74 px square begins at (17.5, 7.5)
    result = images.celeba_crop_resize(photo, 74)
    np.testing.assert_array_equal(result[2:-2, 2:-2], np.full((70, 70, 3), 255))
    # A shifted crop would contain the border of the photo.
    assert images.celeba_crop_resize(np.roll(photo, 2, axis=1), 74)[:, 0].max() < 128


def test_downsampling_is_antialiased():
    checker = np.indices((128, 128)).sum(axis=0) % 2 * 255
    fine = np.repeat(checker[:, :, None], 3, axis=2).astype(np.uint8)
    result = images.center_square_resize(fine, 32)
    assert result.min() > 120 and result.max() < 135


def test_resizing_does_not_shift_the_image():
    ramp = np.broadcast_to(np.arange(0, 256, 2, dtype=np.uint8)[None, :, None], (128, 128, 3))
    result = images.center_square_resize(np.ascontiguousarray(ramp), 32)
    expected = np.arange(32) * 8 + 3
    np.testing.assert_allclose(result[16, 2:-2, 0], expected[2:-2], rtol=0, atol=1)


# ---- arrays -> files ---------------------------------------------------------------------------


def test_damaged_frames_behind_the_first_are_not_counted(tmp_path):
    """Pillow reads the size of each frame of a TIFF when it counts them."""
    frame = Image.new("RGB", (5, 4), (9, 9, 9))
    path = tmp_path / "frames.tif"
    frame.save(path, save_all=True, append_images=[frame])
    assert images.frame_count(path) == 2
    content = bytearray(path.read_bytes())
    width = content.rindex(b"\x00\x01\x04\x00\x01\x00\x00\x00\x05")  # the tag of the last
    content[width + 1] = 0x80
    path.write_bytes(content)
    assert images.frame_count(path) == 1
    assert images.decode_file(path).shape == (4, 5, 3)


def test_save_png_round_trip_leaves_no_other_files(tmp_path):
    path = tmp_path / "a.png"
    images.save_png(path, corners(8, 6))
    images.save_png(path, corners(4, 4))
    np.testing.assert_array_equal(images.decode_file(path), corners(4, 4))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_grid_arranges_tiles_row_by_row_and_pads_with_white():
    tiles = np.stack([np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30)])
    result = images.grid(tiles, 2)
    expected = np.full((4, 6, 3), 255, np.uint8)
    expected[:2, :3], expected[:2, 3:], expected[2:, :3] = 10, 20, 30
    np.testing.assert_array_equal(result, expected)


def test_grid_accepts_floats():
    result = images.grid(np.full((1, 2, 2, 3), -1.0, np.float32), 1)
    np.testing.assert_array_equal(result, np.zeros((2, 2, 3)))


@pytest.mark.parametrize("shape, columns", [((0, 2, 2, 3), 2), ((2, 2, 3), 2), ((1, 2, 2, 3), 0)])
def test_grid_refuses_invalid_arguments(shape, columns):
    with pytest.raises(ValueError, match="grid needs"):
        images.grid(np.zeros(shape, np.uint8), columns)


def test_how_many_images_are_shown():
    sides = (32, 64, 128, 256, 512)
    assert [images.columns(side) for side in sides] == [8, 8, 8, 8, 4]
    assert [images.examples(side, 6) for side in sides] == [6, 6, 6, 4, 2]


def test_photos_that_are_enlarged_are_counted(tmp_path):
    paths = []
    for index, size in enumerate([(178, 218), (89, 109), (356, 436)]):
        paths.append(str(tmp_path / f"{index}.png"))
        images.save_png(paths[-1], np.zeros((size[1], size[0], 3), np.uint8))
    (tmp_path / "text.png").write_text("no image")
    said = []
    images.note_enlarged([*paths, str(tmp_path / "text.png")], min, 100, said.append)
    assert said.pop().startswith(
        "data: 1 of the first 3 photos have squares of less than 100 px (the smallest: 89 px); "
    )
    images.note_enlarged(paths, images.celeba_side, 256, said.append)
    assert said.pop().startswith(
        "data: 2 of the first 3 photos have squares of less than 256 px (the smallest: 74 px); "
    )
    images.note_enlarged(paths, min, 89, said.append)
    assert said == []
