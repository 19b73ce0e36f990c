"""Photos with what their files hold besides pixels, so that an edit changes nothing else.

A model sees a photo as sRGB. The result of an edit has the photo's own colors and channels, in
which all pixels that the edit has not changed are those of the file.
"""

import dataclasses
import io
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_bytes
from cgan_tf.data import color_profile, images

# The endings of the files that are written, and Pillow's names of their formats.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
QUALITY = 95  # of JPEG and WebP, for photos whose own is unknown

_LONGEST_EXIF, _LONGEST_XMP = 65533, 65504  # bytes in a JPEG
_EXIF_HEADER = b"Exif\0\0"
# A TIFF holds EXIF among the tags that describe its own samples. These describe the photo.
_PHOTO_TAGS = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Rating,
    ExifTags.Base.Copyright,
    ExifTags.Base.XPTitle,
    ExifTags.Base.XPComment,
    ExifTags.Base.XPAuthor,
    ExifTags.Base.XPKeywords,
    ExifTags.Base.XPSubject,
)


@dataclasses.dataclass(frozen=True)
class PhotoFile:
    """A photo in its own colors and as the models see it.

    Attributes:
        image: upright, 8 bits a sample: L, LA, RGB or RGBA. Its `info` has what is known of
            icc_profile, exif, xmp and dpi, as Pillow's `save` takes them.
        pixels: as sRGB on white, uint8 `[H, W, 3]`.
        form: Pillow's name of the file's format; "" for an image that is from no file.
        quality: options for Pillow's encoder of the same format.
        notes: what a result cannot have of the photo, for the user.
    """

    image: Image.Image
    pixels: np.ndarray
    form: str
    quality: dict[str, object]
    notes: tuple[str, ...]

    def edited(self, pixels: np.ndarray) -> Image.Image:
        """The photo with the change of an edit, in its own mode and colors, with its `info`.

        Only the edit's difference is converted and added. So pixels that it has not changed stay
        to the bit, and colors beyond sRGB do not turn into those of sRGB at the face's border.

        Args:
            pixels: `self.pixels` after the edit, uint8 `[H, W, 3]`.
        """
        result = self.image.copy()
        changed = np.any(pixels != self.pixels, axis=-1)
        if not changed.any():
            return result
        rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        mode = self.image.mode.removesuffix("A")
        before, after = (
            np.int16(
                color_profile.from_srgb(
                    Image.fromarray(values[top:bottom, left:right]),
                    self.image.info.get("icc_profile"),
                    mode,
                )
            )
            for values in (self.pixels, pixels)
        )
        part = self.image.crop((left, top, right, bottom))
        own = np.int16(part.convert(mode))
        shown = changed[top:bottom, left:right]
        if part.mode.endswith("A"):  # the color behind a clear pixel was not edited
            shown = shown & (np.asarray(part.getchannel("A")) > 0)
        shown = shown if mode == "L" else shown[..., None]
        color = Image.fromarray(
            np.where(shown, np.clip(own + after - before, 0, 255), own).astype(np.uint8)
        )
        if part.mode.endswith("A"):
            color.putalpha(part.getchannel("A"))
        result.paste(color, (int(left), int(top)))
        return result

    def save(self, path: Path, image: Image.Image) -> list[str]:
        """Writes a result of `edited` in the format of the ending, atomically.

        Args:
            path: of the file; its ending is one of `FORMATS`.
            image: the edited photo.

        Returns:
            What the file does not have of the photo, for the user.

        Raises:
            UserError: the format cannot hold the image.
        """
        form = FORMATS[path.suffix.lower()]
        with images.quiet:
            encoded, notes = self._encode(path, image, form)
        write_bytes(path, encoded)
        if self.form not in FORMATS.values():
            notes.insert(0, f"{self.form} is not written, so the result is {form}")
        return [*self.notes, *notes]

    def _encode(self, path: Path, image: Image.Image, form: str) -> tuple[bytes, list[str]]:
        """The bytes of the file that `save` writes, and what they do not have of the photo."""
        image, options, notes = _fit(image, form)
        if form == "TIFF":
            exif = _photo_tags(_exif(options.pop("exif", b"")))
            if xmp := options.pop("xmp", None):
                exif[ExifTags.Base.XMLPacket] = xmp
            # Pillow writes the tags of cameras only without compression.
            options |= {"exif": exif.tobytes()} if len(exif) else {"compression": "tiff_lzw"}
        elif form == "PNG" and (xmp := options.pop("xmp", None)):
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
        elif form in ("JPEG", "WEBP"):
            options |= self.quality if form == self.form else {"quality": QUALITY}
        encoded = io.BytesIO()
        try:
            image.save(encoded, form, **options)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise UserError(f"{path}: {form} cannot hold this photo ({reason})") from None
        return encoded.getvalue(), notes


def read_file(path: str | os.PathLike) -> PhotoFile:
    """The photo in a file, its first frame.

    Raises:
        UserError: as `images.decode_file`.
    """
    return images.read_file(path, _read)


def read(image: BinaryIO | Image.Image, name: str) -> PhotoFile:
    """As read_file, of an open binary file or a PIL image; the UserError has only the reason."""
    return images.read_image(image, name, _read)


def _read(image: Image.Image, name: str) -> PhotoFile:
    form = {"MPO": "JPEG"}.get(image.format, image.format or "")
    notes = ["its 16-bit samples became 8-bit"] if images.has_16_bits(image) else []
    # Pillow turns a TIFF, and pillow-heif a HEIC, before its EXIF can be asked for.
    turned = getattr(image, "tag_v2", {}).get(ExifTags.Base.Orientation, 1) != 1
    turned |= (image.info.get("original_orientation") or 1) != 1
    quality = _quality(image, form)
    own = images.upright(image)
    turned |= images.orientation(image) not in (None, 1)

    profile = image.info.get("icc_profile")
    srgb = color_profile.to_srgb(own, profile, name)
    if profile and not color_profile.is_usable(profile, own.mode):
        profile = None
    if own.mode == "CMYK":
        notes.append("its CMYK became RGB")
        own, profile, quality = srgb, None, {"quality": QUALITY}
    elif profile and not color_profile.is_reversible(profile):
        notes.append("its color profile leads only to sRGB, so the result is sRGB")
        own, profile = srgb, None

    dpi = image.info.get("dpi")
    metadata = {
        "icc_profile": profile,
        "exif": _exif_of(image, form),
        "xmp": _xmp_of(image, turned),
        "dpi": dpi if dpi != (1, 1) else None,  # of a TIFF that does not state it
    }
    own = own.copy() if own is image else own
    own.info = {key: value for key, value in metadata.items() if value}
    return PhotoFile(own, images.on_white(srgb), form, quality, tuple(notes))


def _quality(image: Image.Image, form: str) -> dict[str, object]:
    """The options that make Pillow's encoder lose as little as the one that wrote the file.

    Args:
        image: an image of which only the header has been read.
        form: its format.
    """
    if form == "JPEG" and getattr(image, "quantization", None):
        options: dict[str, object] = {"qtables": image.quantization}
        sampling = JpegImagePlugin.get_sampling(image)
        options |= {"subsampling": sampling} if sampling >= 0 else {}
        return options | {"progressive": bool(image.info.get("progressive"))}
    if form == "WEBP" and _is_lossless_webp(image):
        return {"lossless": True, "exact": True}  # exact: also the colors behind clear pixels
    return {"quality": QUALITY}


def _is_lossless_webp(image: Image.Image) -> bool:
    file = getattr(image, "fp", None)
    if file is None:
        return False
    place = file.tell()
    try:
        file.seek(12)  # behind RIFF, the size and WEBP
        while len(head := file.read(8)) == 8:
            if head[:4] in (b"VP8L", b"VP8 ", b"ANMF"):
                return head[:4] == b"VP8L"
            size = int.from_bytes(head[4:], "little")
            file.seek(size + size % 2, os.SEEK_CUR)
        return False
    finally:
        file.seek(place)


# ---- metadata ----------------------------------------------------------------------------------


def _exif(encoded: bytes) -> Image.Exif:
    exif = Image.Exif()
    if encoded:
        exif.load(encoded)
    return exif


def _exif_of(image: Image.Image, form: str) -> bytes | None:
    """The EXIF data of a loaded image, without orientation and thumbnail; None if there are none.

    Data without either stay to the bit. Damaged data are left out.
    """
    try:
        encoded = image.info.get("exif")
        if form == "TIFF":
            exif = _photo_tags(image.getexif())
        elif encoded:
            exif = _exif(encoded)
            if exif.get(ExifTags.Base.Orientation, 1) == 1 and not exif.get_ifd(ExifTags.IFD.IFD1):
                return _EXIF_HEADER + encoded.removeprefix(_EXIF_HEADER)
            exif = _exif(encoded)  # Pillow writes the first directory and those below it
            exif.pop(ExifTags.Base.Orientation, None)
        else:
            return None
        return exif.tobytes() if len(exif) else None
    except Exception:  # the pixels are intact
        return None


def _photo_tags(exif: Image.Exif) -> Image.Exif:
    """The tags that describe the photo, not the samples of a TIFF."""
    result = Image.Exif()
    for tag in _PHOTO_TAGS:
        if tag in exif:
            result[tag] = exif[tag]
    for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if directory := exif.get_ifd(tag):
            result[tag] = directory
    return result


def _xmp_of(image: Image.Image, turned: bool) -> bytes | None:
    """The XMP packet; None for one that could turn the photo again, or show the unedited face."""
    xmp = image.info.get("xmp")
    if not isinstance(xmp, bytes) or turned or b"xmp:Thumbnails" in xmp:
        return None
    return xmp


# ---- formats -----------------------------------------------------------------------------------


def _fit(image: Image.Image, form: str) -> tuple[Image.Image, dict[str, object], list[str]]:
    """The image as a format can hold it, its `info` in that format, and what it lost."""
    info, notes = dict(image.info), []
    if form == "JPEG":
        if image.mode.endswith("A"):
            white = Image.new(image.mode, image.size, "white")
            image = Image.alpha_composite(white.convert("RGBA"), image.convert("RGBA")).convert(
                image.mode.removesuffix("A")
            )
            notes.append("JPEG has no alpha, so the photo is on white")
        for name, longest in (("exif", _LONGEST_EXIF), ("xmp", _LONGEST_XMP)):
            if len(info.get(name, b"")) > longest:
                del info[name]
                notes.append(f"its {name.upper()} data are too long for a JPEG and left out")
    elif form == "WEBP" and image.mode in ("L", "LA"):  # WebP has no gray, so no profile of gray
        image = color_profile.to_srgb(image, info.pop("icc_profile", None), "")
    return image, info, notes
