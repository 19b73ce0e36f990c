"""ICC profiles: the colors of a photo as sRGB, which the models know.

Phones write photos in Display P3: read as sRGB, its colors are paler than they were.
"""

import functools
import io
import sys

from PIL import Image, ImageCms

# The color spaces of profiles that describe the modes.
_SPACES = {"L": "GRAY", "LA": "GRAY", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}
_noted: set[bytes] = set()  # unusable profiles that have been reported


def is_srgb(profile: bytes) -> bool:
    """Whether a profile calls itself sRGB; then the pixels are used as they are, to the bit.

    Its description is ASCII or UTF-16. The graph of `export.image_bytes` has the same rule.
    """
    names = (b"sRGB", "sRGB".encode("utf-16-be"))
    return any(name in profile for name in names) and b"inear" not in profile


def to_srgb(image: Image.Image, profile: bytes | None, name: str) -> Image.Image:
    """The image as sRGB: RGB, or RGBA if it has alpha.

    A profile that is damaged, or that describes other channels, is reported once and ignored.

    Args:
        image: mode L, LA, RGB, RGBA or CMYK.
        profile: the file's ICC profile.
        name: the file, for the report.
    """
    wanted = "RGBA" if image.mode in ("LA", "RGBA") else "RGB"
    if profile and not is_srgb(profile):
        space = _space(profile)
        if space == "RGB" and image.mode in ("L", "LA"):  # made gray by a program that kept it
            image = image.convert(wanted)
        if space == _SPACES[image.mode]:
            alpha = image.getchannel("A") if wanted == "RGBA" else None
            color = image.convert(image.mode.removesuffix("A"))
            transform = _transform(profile, color.mode)
            if transform is not None:
                result = ImageCms.applyTransform(color, transform)
                if alpha is not None:
                    result.putalpha(alpha)
                return result
        _note(profile, name)
    return image.convert(wanted)


def _space(profile: bytes) -> str:
    """The color space in the header: `RGB`, `GRAY`, `CMYK`, ..."""
    return profile[16:20].decode("latin-1").strip()


@functools.lru_cache(maxsize=32)  # a folder of photos has few, and each takes milliseconds
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile's `mode` to sRGB; None for a damaged profile."""
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        return ImageCms.buildTransform(own, srgb, mode, "RGB", intent)
    except Exception:  # LittleCMS and Pillow raise several kinds of errors
        return None


def _note(profile: bytes, name: str) -> None:
    if profile not in _noted:
        _noted.add(profile)
        print(
            f"note: {name}: unusable color profile; photos with it are read as sRGB",
            file=sys.stderr,
        )
