"""Which image files are read: their endings, Pillow's decoders, and photos that are not read."""

import functools
import importlib.util
from collections.abc import Iterable

from PIL import features

# The formats of photos. Pillow's other decoders are not used: some start external programs, and few
# are well tested.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

_HEIF = importlib.util.find_spec("pillow_heif") is not None
_AVIF = bool(features.check("avif"))

IMAGE_SUFFIXES = (
    *_SUFFIXES,
    *((".avif",) if _AVIF else ()),
    *((".heic", ".heif") if _HEIF else ()),
)
# The endings of photos that are not read here, and what reads them.
NEEDED = {".avif": "a Pillow with AVIF", ".heic": "pillow-heif", ".heif": "pillow-heif"}


@functools.cache
def formats() -> tuple[str, ...]:
    """The names of Pillow's decoders; registers that of pillow-heif if it is installed."""
    found = [*_FORMATS]
    if _AVIF:
        found.append("AVIF")
    if _HEIF:
        import pillow_heif

        pillow_heif.register_heif_opener()
        found.append("HEIF")
    return tuple(found)


def unreadable(names: Iterable[str]) -> str:
    """What to say about the photos among the names that are not read; "" if there are none.

    `2 files skipped: a.heic (needs pillow-heif), ...`, with at most three names.
    """
    found = []
    for name in sorted(names):
        ending = next((end for end in NEEDED if name.lower().endswith(end)), None)
        if ending is not None and ending not in IMAGE_SUFFIXES:
            found.append(f"{name} (needs {NEEDED[ending]})")
    if not found:
        return ""
    count = "1 file" if len(found) == 1 else f"{len(found):,} files"
    return f"{count} skipped: {', '.join(found[:3])}{', ...' if len(found) > 3 else ''}"
