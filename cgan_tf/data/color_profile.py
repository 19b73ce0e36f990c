"""ICC profiles: the colors of a photo as sRGB, which the models know, and back.

Phones write photos in Display P3: read as sRGB, its colors are paler than they were.
"""

import functools
import io
import sys

from PIL import Image, ImageCms

# The color spaces of profiles that describe the modes.
_SPACES = {"L": "GRAY", "LA": "GRAY", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}
_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
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
        transform = _to_srgb(profile, image.mode)
        if transform is not None:
            alpha = image.getchannel("A") if wanted == "RGBA" else None
            result = ImageCms.applyTransform(image.convert(transform.input_mode), transform)
            if alpha is not None:
                result.putalpha(alpha)
            return result
        _note(profile, name)
    return image.convert(wanted)


def is_usable(profile: bytes, mode: str) -> bool:
    """Whether `to_srgb` uses the profile for images of this mode."""
    return is_srgb(profile) or _to_srgb(profile, mode) is not None


def is_reversible(profile: bytes) -> bool:
    """Whether `from_srgb` can be used; many profiles of scanners and cameras lead only to sRGB."""
    return is_srgb(profile) or _from_srgb(profile) is not None


def from_srgb(image: Image.Image, profile: bytes | None, mode: str) -> Image.Image:
    """An RGB image in sRGB in the colors of a photo.

    Args:
        image: mode RGB.
        profile: the photo's ICC profile, which `is_usable` and `is_reversible`; None is sRGB.
        mode: the photo's, L or RGB.
    """
    if profile and not is_srgb(profile):
        image = ImageCms.applyTransform(image, _from_srgb(profile))
    return image.convert(mode)


def _space(profile: bytes) -> str:
    """The color space in the header: `RGB`, `GRAY`, `CMYK`, ..."""
    return profile[16:20].decode("latin-1").strip()


@functools.lru_cache(maxsize=32)  # a folder of photos has few, and each takes milliseconds
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile's colors to RGB; None if it is damaged or of other channels."""
    space = _space(profile)
    # Gray with a profile of colors was made gray by a program that kept the profile.
    if space != _SPACES[mode] and (space, _SPACES[mode]) != ("RGB", "GRAY"):
        return None
    return _transform(profile, "sRGB", _MODES[space], "RGB")


@functools.lru_cache(maxsize=32)
def _from_srgb(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """The transform from RGB to a profile's colors; None if there is none."""
    return _transform("sRGB", profile, "RGB", _MODES[_space(profile)])


def _transform(
    start: bytes | str, end: bytes | str, start_mode: str, end_mode: str
) -> ImageCms.ImageCmsTransform | None:
    """A transform between profiles, each given as a file's bytes or the name of one of Pillow's."""
    try:
        profiles = [
            ImageCms.createProfile(one)
            if isinstance(one, str)
            else ImageCms.ImageCmsProfile(io.BytesIO(one))
            for one in (start, end)
        ]
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        return ImageCms.buildTransform(*profiles, start_mode, end_mode, intent)
    except Exception:  # LittleCMS and Pillow raise several kinds of errors
        return None


def _note(profile: bytes, name: str) -> None:
    if profile not in _noted:
        _noted.add(profile)
        print(
            f"note: {name}: unusable color profile; photos with it are read as sRGB",
            file=sys.stderr,
        )
