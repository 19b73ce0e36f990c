"""Image files and pixel arrays: decoding, cropping, saving, and conversion between uint8 and float.

Outside of the library images are uint8, inside float32 in [-1, 1]; this is the only module that
converts between the two.
"""

import contextlib
import io
import os
import pathlib
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_bytes
from cgan_tf.data.color_profile import to_srgb
from cgan_tf.data.image_formats import formats

# 64 million pixels (8,000 x 8,000) are more than any portrait needs and take 192 MB as RGB. The
# check reads only the header, so a file of 20,000 x 20,000 px takes no memory.
MAX_PIXELS = 64_000_000

# CelebA's aligned photos have 178 x 218 px; the centered square of 148 px contains the face.
CELEBA_WIDTH, CELEBA_HEIGHT, CELEBA_SQUARE = 178, 218, 148

# Pillow scales the support of Lanczos with the ratio, so it is antialiased. Of the common filters
# it keeps the most detail, and it suits the ratios here (148 -> 64, 74 -> 64, 74 -> 128), for which
# a box filter weights neighboring pixels unevenly or enlarges them to blocks.
_FILTER = Image.Resampling.LANCZOS

_EXIF_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Modes whose range is not defined, so the level of white is unknown.
_UNBOUNDED_MODES = ("I", "F")


class _Quiet:
    """Silences warnings while at least one thread is inside.

    Pillow warns about unusual files (huge ones, damaged metadata). Here these are errors with the
    file's name, or irrelevant. The filters belong to the process, and several threads decode: the
    first thread to enter sets them, the last one to leave restores them, and none has to wait.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(*error)


quiet = _Quiet()
_T = TypeVar("_T")


# ---- uint8 <-> float ---------------------------------------------------------------------------


def to_float(pixels: np.ndarray) -> np.ndarray:
    """uint8 in 0..255 -> float32 in [-1, 1] (x / 127.5 - 1), any shape."""
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8:
        raise ValueError(f"to_float takes uint8 pixels, not {pixels.dtype}")
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1.0)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Float in [-1, 1] -> uint8, rounded to the nearest level; values outside are clipped.

    Raises:
        ValueError: NaN or infinity. A broken model must not produce a gray image.
    """
    image = np.asarray(image, np.float32)
    if not np.isfinite(image).all():
        raise ValueError("the image contains NaN or infinite values")
    return np.rint(np.clip((image + 1.0) * 127.5, 0.0, 255.0)).astype(np.uint8)


# ---- files -> arrays ---------------------------------------------------------------------------


def decode_file(path: str | os.PathLike) -> np.ndarray:
    """The upright RGB image in a file: uint8 [H, W, 3].

    Gray, palette, CMYK and 16-bit samples become 8-bit RGB; an ICC profile's colors become sRGB;
    transparency is composited on white; the EXIF orientation is applied.

    The white of 16-bit gray is that of the fewest bits of 8, 10, 12 and 16 that hold every level:
    cameras and scanners store 10 or 12 bits as they are, which would be nearly black. (PNG's sBIT
    cannot tell: it describes samples that have been scaled.) A TIFF of 12-bit samples says so.
    Of 16-bit color Pillow keeps the upper bytes; if no level is above 4095, it is refused.

    Raises:
        UserError: the file is missing, not an image, damaged, or has more than MAX_PIXELS.
    """
    return read_file(path, _pixels)


def read_file(path: str | os.PathLike, read: Callable[[Image.Image, str], _T]) -> _T:
    """What a function reads from the image in a file; it is called with the image and its name.

    Raises:
        UserError: as `decode_file`.
    """
    try:
        with open(path, "rb") as file:
            return read_image(file, os.fspath(path), read)
    except OSError as error:
        reason = error.strerror or str(error)
    except UserError as error:
        reason = str(error)
    raise UserError(f"cannot read image {os.fspath(path)}: {reason}")


def read_image(
    image: BinaryIO | Image.Image, name: str, read: Callable[[Image.Image, str], _T]
) -> _T:
    """As read_file, for an open binary file or a PIL image; the UserError has only the reason."""
    with quiet, _decoding_errors():
        if isinstance(image, Image.Image):
            return read(image, name)
        with Image.open(image, formats=formats()) as opened:
            return read(opened, name)


def frame_count(path: str | os.PathLike) -> int:
    """Number of frames in a file that `decode_file` reads; 1 if those behind it are damaged."""
    try:
        with quiet, Image.open(path, formats=formats()) as image:
            return getattr(image, "n_frames", 1)
    except Exception:  # the plugins raise all kinds of errors
        return 1


def decode_bytes(encoded: bytes, name: str) -> np.ndarray:
    """As decode_file, for an encoded image in memory; errors mention `name`."""
    try:
        return decode(io.BytesIO(encoded), name)
    except UserError as error:
        raise UserError(f"cannot read image {name}: {error}") from None


def decode(file: BinaryIO, name: str = "a photo") -> np.ndarray:
    """As decode_file, for an open binary file; the UserError contains only the reason."""
    return read_image(file, name, _pixels)


def _pixels(image: Image.Image, name: str) -> np.ndarray:
    profile = image.info.get("icc_profile")
    return on_white(to_srgb(upright(image), profile, name))


def on_white(image: Image.Image) -> np.ndarray:
    """The pixels of an RGB or RGBA image, composited on white: uint8 [H, W, 3]."""
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image).convert("RGB")
    return np.asarray(image)


def upright(image: Image.Image) -> Image.Image:
    """The first frame, 8-bit and upright, in its own colors: L, LA, RGB, RGBA or CMYK."""
    width, height = image.size  # of a file only the header has been read so far
    if width * height > MAX_PIXELS:
        raise UserError(_too_large(f"{width} x {height} px"))
    raw = _raw_mode(image)
    image.load()
    # What remains to be done: Pillow turns some formats (TIFF) itself when it loads them.
    turn = _TRANSPOSE.get(orientation(image))
    image = _simple_mode(image, raw)
    return image if turn is None else image.transpose(turn)


@contextlib.contextmanager
def _decoding_errors() -> Iterator[None]:
    """Turns what Pillow raises on damaged files into a UserError that contains the reason."""
    try:
        yield
    except UserError:
        raise
    except Image.UnidentifiedImageError:
        raise UserError("not an image file") from None
    except Image.DecompressionBombError:
        raise UserError(_too_large("it")) from None
    except Exception as error:  # the plugins raise all kinds of errors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"damaged or unsupported ({reason})") from None


def orientation(image: Image.Image) -> int | None:
    """The EXIF orientation, 1 to 8, by which a loaded image is still to be turned."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # damaged metadata is no reason to refuse intact pixels
        return None


def _too_large(what: str) -> str:
    return f"{what} is more than the {MAX_PIXELS // 1_000_000} million pixels that are accepted"


def _raw_mode(image: Image.Image) -> str:
    """How a file stores its samples, such as `RGB;16B`; "" if it is loaded, or says nothing."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    arguments = tiles[0][3]
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""


def has_16_bits(image: Image.Image) -> bool:
    """Whether a file, of which only the header has been read, has more than 8 bits a sample."""
    return image.mode.startswith("I;16") or ";16" in _raw_mode(image)


def _simple_mode(image: Image.Image, raw: str) -> Image.Image:
    """A loaded image as L, LA, RGB, RGBA or CMYK, 8-bit.

    Args:
        image: the image.
        raw: its `_raw_mode`.
    """
    if image.mode in _UNBOUNDED_MODES:
        raise UserError(f"pixel format {image.mode} has no defined range; save it as 8-bit RGB")
    if image.mode.startswith("I;16"):
        return _from_16_bits(image, 12 if raw.endswith(";12") else None)
    if image.mode in ("1", "L") and image.has_transparency_data:
        return _with_transparent_gray(image, raw)
    if ";16" in raw and max(high for _, high in _color_extrema(image)) < 16:
        raise UserError("16-bit color with no level above 4095; save it as 8-bit RGB")
    if ";16" in raw and image.mode == "RGB" and image.has_transparency_data:
        # Pillow would look for the 16-bit color among its 8-bit pixels.
        raise UserError("16-bit color with one transparent color; save it with alpha")
    if image.mode == "1":
        return image.convert("L")
    if image.has_transparency_data:
        return image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")


def _color_extrema(image: Image.Image) -> list[tuple[int, int]]:
    """The smallest and largest level of each channel but alpha."""
    bands = zip(image.getbands(), image.split(), strict=True)
    return [band.getextrema() for name, band in bands if name not in ("A", "a")]


def _from_16_bits(image: Image.Image, bits: int | None) -> Image.Image:
    """16-bit gray as L, or LA if a level is transparent; see `decode_file`."""
    levels = np.asarray(image, np.uint16)
    if bits is None:
        bits = next(bits for bits in (8, 10, 12, 16) if levels.max() < 1 << bits)
    white = (1 << bits) - 1
    gray = Image.fromarray((levels.astype(np.uint32) * 255 // white).astype(np.uint8))
    clear = image.info.get("transparency")
    if clear is None:
        return gray
    alpha = Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8))
    return Image.merge("LA", (gray, alpha))


def _with_transparent_gray(image: Image.Image, raw: str) -> Image.Image:
    """Gray with one transparent level, as LA."""
    clear = image.info.get("transparency")
    if raw in ("L;2", "L;4"):  # Pillow scales the samples, and leaves this level as it is
        clear = clear * 255 // ((1 << int(raw[-1])) - 1)
    gray = image.convert("L")
    alpha = gray.point([0 if level == clear else 255 for level in range(256)])
    return Image.merge("LA", (gray, alpha))


# ---- crop and resize ---------------------------------------------------------------------------


def center_square_resize(pixels: np.ndarray, resolution: int) -> np.ndarray:
    """The largest centered square of a uint8 [H, W, 3] image, as uint8 [R, R, 3]."""
    height, width = pixels.shape[:2]
    return _resize_square(pixels, float(min(height, width)), resolution)


def celeba_crop_resize(pixels: np.ndarray, resolution: int) -> np.ndarray:
    """The centered 148 px square of a 178 x 218 px aligned photo, as uint8 [R, R, 3].

    Scaled in proportion at other sizes: 74 px of 89 x 109. The edges may lie within a pixel.
    """
    height, width = pixels.shape[:2]
    return _resize_square(pixels, celeba_side(width, height), resolution)


def celeba_side(width: int, height: int) -> float:
    """Side in px of the square that `celeba_crop_resize` takes from a photo."""
    return CELEBA_SQUARE * min(width / CELEBA_WIDTH, height / CELEBA_HEIGHT)


def note_enlarged(
    paths: Sequence[str],
    side: Callable[[int, int], float],
    resolution: int,
    say: Callable[[str], None],
) -> None:
    """Says if squares of the first photos are smaller than the resolution.

    Args:
        paths: the photos; the headers of at most 100 are read, without those that are no images.
        side: of the square in px that is taken from a photo, of its width and height.
        resolution: in px, to which the squares are resized.
        say: receives the line for the user.
    """
    sides = []
    for path in paths[:100]:
        with contextlib.suppress(OSError, UserError), open(path, "rb") as file:
            with quiet, _decoding_errors(), Image.open(file, formats=formats()) as image:
                sides.append(side(*image.size))
    small = [value for value in sides if value < resolution]
    if small:
        say(
            f"data: {len(small)} of the first {len(sides)} photos have squares of less than "
            f"{resolution} px (the smallest: {min(small):.0f} px); enlarged photos have no more "
            "detail, a lower --resolution trains faster"
        )


def _resize_square(pixels: np.ndarray, side: float, resolution: int) -> np.ndarray:
    """The centered square of `side` px, resampled to `resolution` in one step, antialiased."""
    height, width = pixels.shape[:2]
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    image = Image.fromarray(pixels).resize((resolution, resolution), _FILTER, box=box)
    return np.asarray(image)


# ---- arrays -> files ---------------------------------------------------------------------------


def save_png(path: str | os.PathLike, pixels: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] as PNG, atomically; creates the folder if it is missing."""
    encoded = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(encoded, format="PNG")
    write_bytes(pathlib.Path(path), encoded.getvalue())


def columns(resolution: int) -> int:
    """Images in a row of a grid of samples: 8, or as many as fit into 2048 px."""
    return min(8, 2048 // resolution)


def examples(resolution: int, count: int) -> int:
    """Photos whose edits are shown in rows: `count`, or as many as fit into 1024 px."""
    return max(1, min(count, 1024 // resolution))


def grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Tiles [N, H, W, 3] (uint8, or float in [-1, 1]) row by row: uint8 [rows * H, columns * W, 3].

    The last row is padded with white.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not len(images) or columns < 1:
        raise ValueError(
            f"a grid needs [N, H, W, 3] images and at least one column, not {images.shape}"
        )
    if images.dtype != np.uint8:
        images = to_uint8(images)
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    cells = np.full((rows * columns, height, width, channels), 255, np.uint8)
    cells[:count] = images
    cells = cells.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return cells.reshape(rows * height, columns * width, channels)
