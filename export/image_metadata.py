"""What an image file says about itself, read in a SavedModel's graph: orientation, color profile.

TensorFlow's decoders ignore both. `Metadata.exif` and `profile` are the bytes of a JPEG's APP1 and
APP2 segments, or of a PNG's chunks eXIf and iCCP. Formats: https://www.w3.org/TR/png-3/#11Chunks,
ITU-T T.81 annex B, Exif 2.32 section 4.6.
"""

from typing import NamedTuple

import tensorflow as tf

_PIECE = 64  # bytes that are read at a place of a file; beyond its end they are 0
_ORIENTATION = 0x0112
_MAX_ENTRIES = 200  # of EXIF's first directory


class Metadata(NamedTuple):
    """Scalars of one file."""

    exif: tf.Tensor  # string, from the byte order on; empty without EXIF
    profile: tf.Tensor  # string, the ICC profile or its first part; empty without one
    transparent: tf.Tensor  # bool: a PNG's chunk tRNS


def none() -> Metadata:
    """Of a file without metadata."""
    return Metadata(tf.constant(b""), tf.constant(b""), tf.constant(False))


def of_jpeg(encoded: tf.Tensor) -> Metadata:
    """The metadata before the first scan of a JPEG."""

    def step(place, found):
        piece, raw = _at(encoded, place)
        size = raw[2] * 256 + raw[3]
        body, length = place + 4, tf.maximum(size - 2, 0)
        is_exif = (raw[1] == 0xE1) & (tf.strings.substr(piece, 4, 6) == b"Exif\0\0")
        is_profile = (raw[1] == 0xE2) & (tf.strings.substr(piece, 4, 12) == b"ICC_PROFILE\0")
        # Several parts of a profile: the first has its description.
        found = Metadata(
            _first(found.exif, is_exif, encoded, body + 6, length - 6),
            _first(found.profile, is_profile, encoded, body + 14, length - 14),
            found.transparent,
        )
        return place + tf.where(raw[1] == 0xFF, 1, size + 2), found

    def more(place, found):
        _, raw = _at(encoded, place)
        return (raw[0] == 0xFF) & (raw[1] != 0xDA) & (raw[1] != 0xD9)

    return tf.while_loop(more, step, (tf.constant(2), none()))[1]


def of_png(encoded: tf.Tensor) -> Metadata:
    """The metadata of a PNG, also behind its pixels."""

    def step(place, found):
        piece, raw = _at(encoded, place)
        kind, length = tf.strings.substr(piece, 4, 4), _big(raw[:4])
        body = place + 8
        name = tf.argmax(tf.cast(raw[8:] == 0, tf.int32), output_type=tf.int32)
        found = Metadata(
            _first(found.exif, kind == b"eXIf", encoded, body, length),
            _first(found.profile, kind == b"iCCP", encoded, body + name + 2, length - name - 2),
            found.transparent | (kind == b"tRNS"),
        )
        return place + 12 + tf.clip_by_value(length, 0, 2**30), found

    def more(place, found):
        return (place >= 0) & (place + 8 < tf.strings.length(encoded))

    found = tf.while_loop(more, step, (tf.constant(8), none()))[1]
    profile = tf.cond(
        found.profile == b"",
        lambda: found.profile,
        lambda: tf.io.decode_compressed(found.profile, "ZLIB"),
    )
    return found._replace(profile=profile)


def of_gif(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether the first frame is transparent, and its left, top, width, height: int32 `[4]`."""
    flags = _at(encoded, tf.constant(10))[1][0]
    table = tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def step(place, transparent):
        _, raw = _at(encoded, place)
        transparent |= (raw[1] == 0xF9) & (raw[3] % 2 == 1)
        place = tf.while_loop(
            lambda place: _at(encoded, place)[1][0] > 0,
            lambda place: (place + 1 + _at(encoded, place)[1][0],),
            (place + 2,),
        )[0]
        return place + 1, transparent

    place, transparent = tf.while_loop(
        lambda place, transparent: _at(encoded, place)[1][0] == 0x21,
        step,
        (13 + table, tf.constant(False)),
    )
    _, raw = _at(encoded, place)
    return transparent, raw[1:9:2] + 256 * raw[2:10:2]


def is_srgb(profile: tf.Tensor) -> tf.Tensor:
    r"""As `data.color_profile.is_srgb`; true without a profile. `\C` is any byte in RE2."""
    named = tf.strings.regex_full_match(profile, r"\C*(sRGB|s\x00R\x00G\x00B)\C*")
    linear = tf.strings.regex_full_match(profile, r"\C*inear\C*")
    return (profile == b"") | (named & ~linear)


def orientation(exif: tf.Tensor) -> tf.Tensor:
    """EXIF's orientation, 1 to 8; 1 if there is none, or the metadata is damaged."""
    raw = _bytes(tf.strings.substr(exif, 0, 1 << 16), 8)
    little = raw[0] == ord("I")

    def number(values: tf.Tensor) -> tf.Tensor:
        return _big(tf.where(little, tf.reverse(values, [-1]), values))

    start = tf.clip_by_value(number(tf.slice(raw, [4], [4])), 0, 1 << 16)
    # Padded, so that a directory may be cut off anywhere.
    raw = tf.concat([raw, tf.zeros([(1 << 16) + 2 + 12 * _MAX_ENTRIES], tf.int32)], 0)
    count = number(tf.slice(raw, [start], [2]))
    entries = tf.reshape(tf.slice(raw, [start + 2], [12 * _MAX_ENTRIES]), (_MAX_ENTRIES, 12))
    tags, kinds = number(entries[:, :2]), number(entries[:, 2:4])
    values = tf.where(kinds == 3, number(entries[:, 8:10]), number(entries[:, 8:12]))
    found = (tags == _ORIENTATION) & (tf.range(_MAX_ENTRIES) < count)
    value = tf.reduce_max(tf.where(found, values, 1))
    return tf.where((value >= 1) & (value <= 8), value, 1)


def upright(pixels: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Pixels `[H, W, C]` as a viewer shows them, by EXIF's orientation."""

    def when(values: list[int], change, pixels: tf.Tensor) -> tf.Tensor:
        return tf.cond(tf.reduce_any(turn == values), lambda: change(pixels), lambda: pixels)

    pixels = when([5, 6, 7, 8], lambda it: tf.transpose(it, (1, 0, 2)), pixels)
    pixels = when([2, 3, 6, 7], lambda it: tf.reverse(it, [1]), pixels)
    return when([3, 4, 7, 8], lambda it: tf.reverse(it, [0]), pixels)


# ---- bytes -------------------------------------------------------------------------------------


def _at(encoded: tf.Tensor, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The bytes at a place, as a string and as int32 `[_PIECE]`."""
    place = tf.clip_by_value(place, 0, tf.strings.length(encoded))
    piece = tf.strings.join([tf.strings.substr(encoded, place, _PIECE), b"\0" * _PIECE])
    piece = tf.strings.substr(piece, 0, _PIECE)
    raw = tf.io.decode_raw(piece, tf.uint8)
    return piece, tf.ensure_shape(tf.cast(raw, tf.int32), (_PIECE,))


def _bytes(text: tf.Tensor, least: int) -> tf.Tensor:
    """The bytes of a string, int32, with zeros at its end."""
    return tf.cast(tf.io.decode_raw(tf.strings.join([text, b"\0" * least]), tf.uint8), tf.int32)


def _big(values: tf.Tensor) -> tf.Tensor:
    """Big-endian numbers int32 `[...]` of bytes `[..., 2 or 4]`."""
    total = values[..., 0]
    for index in range(1, values.shape[-1]):
        total = total * 256 + values[..., index]
    return total


def _first(
    known: tf.Tensor, here: tf.Tensor, encoded: tf.Tensor, place: tf.Tensor, length: tf.Tensor
) -> tf.Tensor:
    """What is known already, else the part of the file if it is here, else empty."""
    take = here & (known == b"") & (place < tf.strings.length(encoded)) & (length > 0)
    return tf.cond(take, lambda: tf.strings.substr(encoded, place, length), lambda: known)
