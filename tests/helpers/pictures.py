"""Pictures as files: the formats, depths and metadata that Pillow does not write itself."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encode(image, form, **options):
    """A PIL image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def oriented(orientation):
    """EXIF with an orientation, for `save`."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def chunk(kind, body):
    """A PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(samples, bits, color, extra=b"", after=b"", interlaced=False):
    """A PNG of integer samples [H, W, C].

    Args:
        samples: the levels, or indices, as they are stored.
        bits: of a sample, 1 to 16.
        color: PNG's color type, 0 (gray), 2 (RGB), 3 (palette), 4 (gray, alpha) or 6 (RGBA).
        extra: chunks before the pixels.
        after: chunks behind them.
        interlaced: with Adam7.
    """
    height, width = samples.shape[:2]
    passes = [(0, 0, 1, 1)]  # x, y, step in x, step in y
    if interlaced:
        passes = [
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        ]
    rows = b""
    for x, y, step_x, step_y in passes:
        part = samples[y::step_y, x::step_x]
        for row in part if part.size else ():
            values = row.reshape(-1, 1).astype(np.int64)
            unpacked = values >> np.arange(bits - 1, -1, -1) & 1
            rows += b"\0" + np.packbits(unpacked.astype(np.uint8)).tobytes()
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + after
        + chunk(b"IEND", b"")
    )


def display_p3():
    """The ICC profile of Display P3: its primaries, adapted to D50, and the curve of sRGB."""

    def fixed(*values):
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    def text(kind, words):
        words = words.encode("utf-16-be")
        return b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(words), 28) + words

    curve = b"para" + struct.pack(">IHH", 0, 3, 0)
    curve += fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    tags = {
        b"desc": text(b"desc", "Display P3"),
        b"cprt": text(b"cprt", "none"),
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.96420, 1.0, 0.82491),
        b"rXYZ": b"XYZ \0\0\0\0" + fixed(0.51512, 0.24120, -0.00105),
        b"gXYZ": b"XYZ \0\0\0\0" + fixed(0.29198, 0.69225, 0.04189),
        b"bXYZ": b"XYZ \0\0\0\0" + fixed(0.15710, 0.06657, 0.78407),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    place, table, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        body += b"\0" * (-len(body) % 4)
        table += name + struct.pack(">II", place + len(data), len(body))
        data += body
    header = struct.pack(">I4sI4s4s4s", place + len(data), b"\0" * 4, 0x04000000, *HEADER)
    header += b"\0" * 12 + b"acsp" + b"\0" * 28 + fixed(0.96420, 1.0, 0.82491)
    return header.ljust(128, b"\0") + table + data


HEADER = (b"mntr", b"RGB ", b"XYZ ")
