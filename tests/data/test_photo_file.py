"""What an edited file keeps of its photo: pixels, colors, alpha, metadata and format."""

import io

import numpy as np
import pictures
import pytest
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, PngImagePlugin

from cgan_tf.core.errors import UserError
from cgan_tf.data import color_profile, images, photo_file

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><note/></x:xmpmeta>'
FACE = np.s_[8:16, 10:20]  # what the edit changes of a photo of 40 x 24 px


def random_image(mode, width=40, height=24):
    """Random levels of every channel."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    levels = np.random.default_rng(3).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(levels.squeeze(), mode)


def edited(path, output, shift=20, face=FACE):
    """Edits a file as an edit would, brightening the face; returns it, saved, and the notes."""
    photo = photo_file.read_file(path)
    pixels = photo.pixels.copy()
    pixels[face] = np.clip(np.int16(pixels[face]) + shift, 0, 255)
    notes = photo.save(output, photo.edited(pixels))
    with Image.open(output) as image:
        image.load()
    return image, notes


def outside(image):
    """The samples outside of the face."""
    levels = np.array(image)
    levels[FACE] = 0
    return levels


def camera_exif(orientation=None, thumbnail=False):
    """EXIF of a camera, with GPS, an orientation, and a thumbnail if wanted."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.ExposureTime: 0.25}
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    if orientation:
        exif[ExifTags.Base.Orientation] = orientation
    encoded = bytearray(exif.tobytes())
    if thumbnail:  # a second directory with a JPEG
        jpeg = pictures.encode(Image.new("RGB", (8, 8), "red"), "JPEG")
        tiff = encoded[6:]
        first = int.from_bytes(tiff[4:8], "big")
        after = first + 2 + 12 * int.from_bytes(tiff[first : first + 2], "big")
        place = len(tiff)
        tiff[after : after + 4] = place.to_bytes(4, "big")
        entries = [(0x0103, 3, 6 << 16), (0x0201, 4, place + 42), (0x0202, 4, len(jpeg))]
        tiff += len(entries).to_bytes(2, "big")
        for tag, kind, value in entries:
            tiff += tag.to_bytes(2, "big") + kind.to_bytes(2, "big")
            tiff += (1).to_bytes(4, "big") + value.to_bytes(4, "big")
        encoded = encoded[:6] + tiff + bytes(4) + jpeg
    return bytes(encoded)


# ---- pixels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "tiff", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_samples_outside_of_the_face_and_alpha_stay_to_the_bit(tmp_path, mode, ending):
    if ending == "webp" and mode in ("L", "LA"):
        pytest.skip("WebP has no gray")
    source, output = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    image = random_image(mode)
    image.save(source, lossless=True, exact=True)
    result, notes = edited(source, output)
    assert (result.mode, result.size, notes) == (mode, image.size, [])
    np.testing.assert_array_equal(outside(result), outside(image))
    if mode.endswith("A"):
        np.testing.assert_array_equal(result.getchannel("A"), image.getchannel("A"))
    before, after = (np.int16(one.convert(mode.removesuffix("A")))[FACE] for one in (image, result))
    assert np.all(after >= before) and (after - before).mean() > 5


def test_colors_of_a_profile_stay(tmp_path):
    profile = pictures.display_p3()
    image = Image.new("RGB", (40, 24), (180, 60, 60))
    image.putpixel((0, 0), (255, 0, 0))  # beyond sRGB
    image.save(tmp_path / "a.png", icc_profile=profile)
    result, _ = edited(tmp_path / "a.png", tmp_path / "b.png", shift=(-60, 60, 0))
    assert result.info["icc_profile"] == profile
    np.testing.assert_array_equal(outside(result), outside(image))
    # (180, 60, 60) is (196, 47, 54) in sRGB, edited to (136, 107, 54), and back.
    linear = np.array([136, 107, 54]) / 255
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    p3 = [[0.8225, 0.1774, 0], [0.0332, 0.9669, 0], [0.0171, 0.0724, 0.9108]] @ linear
    wanted = 255 * (1.055 * p3 ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(result.getpixel((15, 12)), wanted, atol=3)
    assert np.abs(wanted - (120, 120, 60)).max() > 10, "the same shift would be another color"
    seen = images.decode_file(tmp_path / "b.png")
    np.testing.assert_allclose(seen[12, 15], (136, 107, 54), atol=3)


def test_colors_beyond_srgb_keep_their_distance_under_a_small_change(tmp_path):
    Image.new("RGB", (40, 24), (250, 40, 40)).save(
        tmp_path / "a.png", icc_profile=pictures.display_p3()
    )
    result, _ = edited(tmp_path / "a.png", tmp_path / "b.png", shift=1)
    np.testing.assert_allclose(result.getpixel((15, 12)), (250, 40, 40), atol=3)


def test_a_profile_that_leads_only_to_srgb_is_replaced_by_srgb(tmp_path, monkeypatch):
    monkeypatch.setattr(color_profile, "_from_srgb", lambda profile: None)
    image = Image.new("RGB", (40, 24), (180, 60, 60))
    image.save(tmp_path / "a.png", icc_profile=pictures.display_p3())
    result, notes = edited(tmp_path / "a.png", tmp_path / "b.png")
    assert notes == ["its color profile leads only to sRGB, so the result is sRGB"]
    assert "icc_profile" not in result.info
    np.testing.assert_allclose(result.getpixel((0, 0)), (196, 47, 54), atol=2)


def test_an_unusable_profile_is_left_out(tmp_path):
    random_image("L").save(tmp_path / "a.png", icc_profile=b"no profile at all")
    result, _ = edited(tmp_path / "a.png", tmp_path / "b.png")
    assert result.mode == "L" and "icc_profile" not in result.info


def test_a_palette_becomes_colors(tmp_path):
    image = random_image("RGB").quantize(16)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "clear.png", transparency=3)
    result, notes = edited(tmp_path / "a.png", tmp_path / "b.png")
    assert result.mode == "RGB" and not notes
    np.testing.assert_array_equal(outside(result), outside(image.convert("RGB")))
    result, _ = edited(tmp_path / "clear.png", tmp_path / "b.png")
    assert result.mode == "RGBA"
    np.testing.assert_array_equal(
        np.asarray(result.getchannel("A")), np.where(np.asarray(image) == 3, 0, 255)
    )


def test_the_color_behind_a_clear_pixel_is_not_edited(tmp_path):
    Image.new("RGBA", (40, 24), (10, 20, 30, 0)).save(tmp_path / "a.png")
    result, _ = edited(tmp_path / "a.png", tmp_path / "b.png", shift=-50)
    assert result.getcolors() == [(40 * 24, (10, 20, 30, 0))]


def test_16_bits_become_8_and_that_is_said(tmp_path):
    levels = np.random.default_rng(4).integers(0, 65536, (24, 40, 1))
    levels[0, 0] = 65535
    (tmp_path / "a.png").write_bytes(pictures.png(levels, 16, 0))
    result, notes = edited(tmp_path / "a.png", tmp_path / "b.png")
    assert result.mode == "L" and notes == ["its 16-bit samples became 8-bit"]
    (tmp_path / "a.png").write_bytes(pictures.png(np.tile(levels, 3), 16, 2))
    result, notes = edited(tmp_path / "a.png", tmp_path / "b.png")
    assert result.mode == "RGB" and notes == ["its 16-bit samples became 8-bit"]


# ---- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("quality, subsampling", [(60, 0), (90, 2)])
def test_a_jpeg_has_the_quantization_of_its_photo(tmp_path, mode, quality, subsampling):
    image = random_image("RGB").convert(mode)
    image.save(tmp_path / "a.jpg", quality=quality, subsampling=subsampling)
    result, notes = edited(tmp_path / "a.jpg", tmp_path / "b.jpg")
    with Image.open(tmp_path / "a.jpg") as source:
        assert (result.format, result.mode, notes) == ("JPEG", mode, [])
        assert result.quantization == source.quantization
        assert JpegImagePlugin.get_sampling(result) == JpegImagePlugin.get_sampling(source)
        if mode == "L":  # without the rounding of another color space
            assert np.abs(np.int16(outside(result)) - outside(source))[:8].max() <= 2


def test_a_progressive_jpeg_stays_progressive(tmp_path):
    random_image("RGB").save(tmp_path / "a.jpg", progressive=True)
    assert edited(tmp_path / "a.jpg", tmp_path / "b.jpg")[0].info.get("progressive")


def test_a_jpeg_with_more_pictures_is_a_jpeg(tmp_path):
    first = random_image("RGB")
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[first], quality=60)
    result, notes = edited(tmp_path / "a.jpg", tmp_path / "b.jpg")
    with Image.open(tmp_path / "a.jpg") as source:
        assert source.format == "MPO" and result.quantization == source.quantization
    assert result.format == "JPEG" and not notes


def test_a_jpeg_of_another_photo_has_quality_95(tmp_path):
    random_image("RGB").save(tmp_path / "a.png")
    random_image("RGB").save(tmp_path / "95.jpg", quality=95)
    result, _ = edited(tmp_path / "a.png", tmp_path / "b.jpg")
    with Image.open(tmp_path / "95.jpg") as wanted:
        assert result.quantization == wanted.quantization


def test_a_lossy_webp_stays_lossy(tmp_path):
    random_image("RGB").save(tmp_path / "a.webp", quality=80)
    edited(tmp_path / "a.webp", tmp_path / "b.webp")
    assert (tmp_path / "b.webp").read_bytes()[12:16] == b"VP8 "


def test_alpha_in_a_jpeg_is_on_white_and_that_is_said(tmp_path):
    for mode, white in (("RGBA", (255, 255, 255)), ("LA", 255)):
        Image.new(mode, (40, 24)).save(tmp_path / "a.png")
        result, notes = edited(tmp_path / "a.png", tmp_path / "b.jpg", shift=0)
        assert notes == ["JPEG has no alpha, so the photo is on white"]
        assert result.mode == mode.removesuffix("A") and result.getpixel((0, 0)) == white


def test_gray_with_a_profile_of_gray_in_a_webp_is_srgb(tmp_path):
    photo = photo_file.read(Image.new("L", (40, 24), 100), "a photo")
    photo.image.info["icc_profile"] = pictures.display_p3()  # stands for one of gray
    photo.save(tmp_path / "b.webp", photo.image)
    with Image.open(tmp_path / "b.webp") as result:
        assert result.mode == "RGB" and "icc_profile" not in result.info


def test_cmyk_becomes_rgb_and_that_is_said(tmp_path):
    random_image("CMYK").save(tmp_path / "a.jpg")
    seen = images.decode_file(tmp_path / "a.jpg")
    result, notes = edited(tmp_path / "a.jpg", tmp_path / "b.png")
    assert result.mode == "RGB" and notes == ["its CMYK became RGB"]
    np.testing.assert_array_equal(outside(result), outside(seen))
    assert edited(tmp_path / "a.jpg", tmp_path / "b.jpg")[0].mode == "RGB"


def test_a_format_that_is_not_written_is_said(tmp_path):
    random_image("RGB").save(tmp_path / "a.bmp")
    result, notes = edited(tmp_path / "a.bmp", tmp_path / "b.png")
    assert result.format == "PNG" and notes == ["BMP is not written, so the result is PNG"]


def test_a_photo_that_a_format_cannot_hold(tmp_path):
    photo = photo_file.read(Image.new("RGB", (16_500, 2)), "a photo")
    with pytest.raises(UserError, match="b.webp: WEBP cannot hold this photo"):
        photo.save(tmp_path / "b.webp", photo.image)
    assert not list(tmp_path.iterdir())


# ---- metadata ----------------------------------------------------------------------------------

FORMS = ["jpg", "png", "tiff", "webp"]


@pytest.mark.parametrize("source", FORMS)
@pytest.mark.parametrize("target", FORMS)
def test_exif_is_kept_but_for_orientation_and_thumbnail(tmp_path, source, target):
    image = random_image("RGB")
    image.save(
        tmp_path / f"a.{source}", exif=camera_exif(6, thumbnail=source != "tiff"), dpi=(72, 72)
    )
    result, _ = edited(tmp_path / f"a.{source}", tmp_path / f"b.{target}")
    exif = result.getexif()
    assert exif[ExifTags.Base.Make] == "Maker" and ExifTags.Base.Orientation not in exif
    assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] == 0.25
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    assert result.size == (24, 40), "upright"
    assert b"\xff\xd8\xff\xe0" not in (tmp_path / f"b.{target}").read_bytes()[4:], "thumbnail"
    if "webp" not in (source, target):  # Pillow writes no resolution there
        assert round(float(result.info["dpi"][0])) == 72


def test_exif_with_nothing_to_remove_stays_to_the_bit(tmp_path):
    exif = camera_exif() + b"something of the camera"
    random_image("RGB").save(tmp_path / "a.jpg", exif=exif)
    result, _ = edited(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert result.info["exif"] == exif


def test_a_thumbnail_goes_from_an_upright_photo_too(tmp_path):
    random_image("RGB").save(tmp_path / "a.jpg", exif=camera_exif(thumbnail=True))
    with Image.open(tmp_path / "a.jpg") as source:
        assert source.getexif().get_ifd(ExifTags.IFD.IFD1)
    exif = edited(tmp_path / "a.jpg", tmp_path / "b.jpg")[0].getexif()
    assert exif[ExifTags.Base.Make] == "Maker" and not exif.get_ifd(ExifTags.IFD.IFD1)


def test_a_tiff_without_a_resolution_gives_none(tmp_path):
    random_image("RGB").save(tmp_path / "a.tiff")
    assert "dpi" not in edited(tmp_path / "a.tiff", tmp_path / "b.png")[0].info


def test_the_size_in_exif_is_not_that_of_a_tiff(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.ImageWidth], exif[ExifTags.Base.Make] = 4000, "Maker"
    random_image("RGB").save(tmp_path / "a.jpg", exif=exif)
    result, _ = edited(tmp_path / "a.jpg", tmp_path / "b.tiff")
    assert result.size == (40, 24) and result.getexif()[ExifTags.Base.Make] == "Maker"


def test_damaged_exif_is_left_out(tmp_path):
    random_image("RGB").save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0")
    result, _ = edited(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert "exif" not in result.info


def test_nothing_is_printed_about_damaged_exif(tmp_path, recwarn):
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "a maker of cameras"
    random_image("RGB").save(tmp_path / "a.jpg", exif=exif.tobytes()[:-9])
    edited(tmp_path / "a.jpg", tmp_path / "b.tif")
    assert [str(warning.message) for warning in recwarn] == []


def test_metadata_too_long_for_a_jpeg_are_left_out_and_that_is_said(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 70_000
    random_image("RGB").save(tmp_path / "a.png", exif=exif)
    _, notes = edited(tmp_path / "a.png", tmp_path / "b.jpg")
    assert notes == ["its EXIF data are too long for a JPEG and left out"]


def save_with_xmp(path, xmp, **options):
    """Writes a photo with an XMP packet."""
    if path.suffix == ".png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    elif path.suffix == ".tiff":
        options.setdefault("exif", Image.Exif())[ExifTags.Base.XMLPacket] = xmp
    else:
        options["xmp"] = xmp
    random_image("RGB").save(path, **options)


@pytest.mark.parametrize("form", FORMS)
def test_xmp_is_kept_unless_the_photo_was_turned(tmp_path, form):
    source, output = tmp_path / f"a.{form}", tmp_path / f"b.{form}"
    save_with_xmp(source, XMP)
    assert edited(source, output)[0].info["xmp"] == XMP
    save_with_xmp(source, XMP, exif=pictures.oriented(3))
    assert "xmp" not in edited(source, output)[0].info
    save_with_xmp(source, XMP.replace(b"<note/>", b"<xmp:Thumbnails/>"))
    assert "xmp" not in edited(source, output)[0].info


def test_xmp_of_a_photo_that_its_decoder_turned_is_left_out():
    """As pillow-heif does."""
    image = random_image("RGB")
    image.info = {"xmp": XMP, "original_orientation": 6}
    assert "xmp" not in photo_file.read(image, "a photo").image.info
    assert image.info["xmp"] == XMP, "the caller's image stays"


def test_an_orientation_in_xmp_turns_once(tmp_path):
    save_with_xmp(tmp_path / "a.jpg", XMP.replace(b"<note/>", b'<d tiff:Orientation="6"/>'))
    result, _ = edited(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert result.size == (24, 40) and "xmp" not in result.info
    assert ExifTags.Base.Orientation not in result.getexif()


def test_an_srgb_profile_is_kept(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    random_image("L").save(tmp_path / "a.png", icc_profile=profile)
    result, _ = edited(tmp_path / "a.png", tmp_path / "b.png")
    assert result.mode == "L" and result.info["icc_profile"] == profile


def test_an_open_file_and_an_image_are_the_same_photo():
    encoded = pictures.encode(random_image("RGBA"), "PNG", icc_profile=pictures.display_p3())
    by_file = photo_file.read(io.BytesIO(encoded), "a photo")
    by_image = photo_file.read(Image.open(io.BytesIO(encoded)), "a photo")
    np.testing.assert_array_equal(by_file.pixels, by_image.pixels)
    assert by_file.image == by_image.image and by_file.image.info == by_image.image.info
