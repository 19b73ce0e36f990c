"""Image files in a SavedModel's graph: JPEG, PNG, GIF or BMP in, PNG out.

For the signature `translate_bytes` of `export.saved_model`, whose clients send files and need not
crop and resize. Does in TensorFlow operators what `data.images` and `data.portraits.crop_photo` do
in Python; the results agree to one or two of 255 levels. What TensorFlow decodes otherwise than
Python is refused: color profiles other than sRGB, transparent GIFs, CMYK, most kinds of BMP. An
invalid or refused file is an InvalidArgument error of the request.
"""

import tensorflow as tf

from cgan_tf.data.images import CELEBA_HEIGHT, CELEBA_SQUARE, CELEBA_WIDTH, MAX_PIXELS
from cgan_tf.editing.description import CELEBA_CROP
from cgan_tf.export import image_metadata

_HEADER = 1100  # bytes: the size in all formats except JPEG, and the palette of a BMP
_PNG, _JPEG, _GIF, _BMP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM"


def read_squares(encoded: tf.Tensor, resolution: int, crop: str) -> tf.Tensor:
    """The model's input for image files: float32 `[N, R, R, 3]` in [-1, 1].

    Args:
        encoded: string `[N]`, images of any sizes up to `MAX_PIXELS`.
        resolution: R.
        crop: the square of a photo that the model was trained on, a constant of
            `editing.description`.
    """
    spec = tf.TensorSpec((resolution, resolution, 3), tf.float32)
    # One at a time: decoding in parallel would multiply the memory of the largest image.
    levels = tf.map_fn(
        lambda one: _square(decode(one), resolution, crop),
        encoded,
        fn_output_signature=spec,
        parallel_iterations=1,
    )
    return levels / 127.5 - 1.0


def write_pngs(image: tf.Tensor) -> tf.Tensor:
    """PNG files, string `[N]`, of images `[N, R, R, 3]` in [-1, 1]; rounds as `images.to_uint8`."""
    levels = tf.round(tf.clip_by_value((image + 1.0) * 127.5, 0.0, 255.0))
    return tf.io.encode_png(tf.cast(levels, tf.uint8))


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """RGB uint8 `[H, W, 3]` of one image file; the first frame of a GIF.

    The size is read from the header alone, so an image beyond `MAX_PIXELS` takes no memory.
    """
    # Padded: TensorFlow's error for a string that is too short would quote the file's bytes.
    header = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER), b"\0" * _HEADER])
    formats = {
        _PNG: (lambda: _numbers(header, 16, 8, tf.int32, little=False), _decode_png),
        _JPEG: (lambda: tf.io.extract_jpeg_shape(encoded)[:2], _decode_jpeg),
        _GIF: (lambda: _numbers(header, 6, 4, tf.uint16, little=True), _decode_gif),
        _BMP: (lambda: _numbers(header, 18, 8, tf.int32, little=True), _decode_bmp),
    }
    found = [tf.equal(tf.strings.substr(header, 0, len(magic)), magic) for magic in formats]
    sizes, decoders = zip(*formats.values(), strict=True)
    known = tf.debugging.Assert(tf.reduce_any(found), ["image_bytes: no JPEG, PNG, GIF or BMP"])
    with tf.control_dependencies([known]):
        size = tf.case(list(zip(found, sizes, strict=True)))
    # A negative height means that a BMP stores its rows from top to bottom.
    size = tf.abs(tf.cast(size, tf.int64))
    fits = tf.debugging.Assert(
        tf.reduce_all(size > 0) & (size[0] <= MAX_PIXELS // tf.maximum(size[1], 1)),
        [
            f"image_bytes: an image must have 1 to {MAX_PIXELS // 1_000_000} million pixels, not",
            size,
        ],
    )
    with tf.control_dependencies([fits]):
        pixels = tf.case(
            [(one, lambda f=f: f(encoded)) for one, f in zip(found, decoders, strict=True)]
        )
    return tf.ensure_shape(pixels, (None, None, 3))


# ---- formats -----------------------------------------------------------------------------------


def _numbers(header: tf.Tensor, place: int, size: int, dtype: tf.DType, little: bool) -> tf.Tensor:
    """Two integers in `size` bytes of the header at a place, int32 `[2]`."""
    part = tf.strings.substr(header, place, size)
    return tf.cast(tf.io.decode_raw(part, dtype, little_endian=little), tf.int32)


def _check(condition: tf.Tensor, message: str) -> tf.Operation:
    return tf.debugging.Assert(condition, [f"image_bytes: {message}"])


def _turned(pixels: tf.Tensor, metadata: image_metadata.Metadata) -> tf.Tensor:
    """The pixels upright; refuses a color profile."""
    srgb = _check(
        image_metadata.is_srgb(metadata.profile),
        "a color profile other than sRGB; convert the image to sRGB",
    )
    with tf.control_dependencies([srgb]):
        turn = image_metadata.orientation(metadata.exif)
    return image_metadata.upright(pixels, turn)


def _decode_png(encoded: tf.Tensor) -> tf.Tensor:
    """Composites transparency on white; the white of 16-bit gray is as in `images.decode_file`."""
    metadata = image_metadata.of_png(encoded)
    kind = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 24, 2), tf.uint8), tf.int32)
    bits, color = kind[0], kind[1]
    known = _check(
        (bits < 16) | (color != 2) | ~metadata.transparent,
        "16-bit color with one transparent color; save it with alpha",
    )
    with tf.control_dependencies([known]):
        alpha = metadata.transparent | (color >= 4)

    def decoded(dtype: tf.DType) -> tf.Tensor:
        # Only where there is alpha: TensorFlow fills it wrongly below 8 bits.
        opaque = tf.constant(dtype.max, dtype)
        return tf.cond(
            alpha,
            lambda: tf.io.decode_png(encoded, channels=4, dtype=dtype),
            lambda: tf.pad(
                tf.io.decode_png(encoded, channels=3, dtype=dtype),
                [[0, 0], [0, 0], [0, 1]],
                constant_values=opaque,
            ),
        )

    pixels = tf.cond(
        bits == 16, lambda: _from_16_bits(decoded(tf.uint16), color), lambda: decoded(tf.uint8)
    )
    return _turned(_on_white(pixels), metadata)


def _from_16_bits(samples: tf.Tensor, color: tf.Tensor) -> tf.Tensor:
    """uint8 RGBA of uint16 RGBA; PNG's color type tells gray (0)."""
    samples = tf.cast(samples, tf.int32)
    largest = tf.reduce_max(samples[..., :3])
    limits = tf.constant([255, 1023, 4095, 65535])
    white = tf.reduce_min(tf.boolean_mask(limits, largest <= limits))
    bright = _check(
        (color == 0) | (largest > 4095),
        "16-bit color with no level above 4095; save it as 8-bit RGB",
    )
    with tf.control_dependencies([bright]):
        high = samples // 256
    rgb = tf.where(color == 0, samples[..., :3] * 255 // white, high[..., :3])
    return tf.cast(tf.concat([rgb, high[..., 3:]], -1), tf.uint8)


def _on_white(pixels: tf.Tensor) -> tf.Tensor:
    color, alpha = pixels[..., :3], pixels[..., 3:]

    def composite() -> tf.Tensor:
        # At most 255 * 255 + 127, which 16 bits hold.
        wide, share = tf.cast(color, tf.uint16), tf.cast(alpha, tf.uint16)
        return tf.cast((wide * share + 255 * (255 - share) + 127) // 255, tf.uint8)

    return tf.cond(tf.reduce_all(tf.equal(alpha, 255)), lambda: color, composite)


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    cmyk = _check(
        tf.io.extract_jpeg_shape(encoded)[2] < 4, "a CMYK JPEG; convert the image to sRGB"
    )
    with tf.control_dependencies([cmyk]):
        pixels = tf.image.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    return _turned(pixels, image_metadata.of_jpeg(encoded))


def _decode_gif(encoded: tf.Tensor) -> tf.Tensor:
    """The first frame. Where it is transparent, or smaller than the image, decoders differ."""
    transparent, frame = image_metadata.of_gif(encoded)
    size = _numbers(tf.strings.substr(encoded, 6, 4), 0, 4, tf.uint16, little=True)
    whole = tf.reduce_all(frame == tf.concat([[0, 0], size], 0))
    known = _check(whole & ~transparent, "a GIF with transparency; send a PNG")
    with tf.control_dependencies([known]):
        return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def _decode_bmp(encoded: tf.Tensor) -> tf.Tensor:
    """24 bits, or 8 with a palette of all grays, uncompressed; TensorFlow ignores the palette."""
    header = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER), b"\0" * _HEADER])
    raw = tf.cast(tf.io.decode_raw(tf.strings.substr(header, 0, _HEADER), tf.uint8), tf.int32)
    palette = tf.reshape(raw[54 : 54 + 1024], (256, 4))[:, :3]
    gray = tf.reduce_all(palette == tf.range(256)[:, None])
    plain = tf.reduce_all(raw[30:34] == 0) & (raw[14] == 40) & (raw[29] == 0)
    known = _check(
        plain & ((raw[28] == 24) | ((raw[28] == 8) & gray)),
        "a BMP must have 24 bits, or 8 of gray, uncompressed; send a PNG",
    )
    with tf.control_dependencies([known]):
        return tf.io.decode_image(encoded, channels=3, expand_animations=False)


# ---- crop and resize ---------------------------------------------------------------------------


def _square(pixels: tf.Tensor, resolution: int, crop: str) -> tf.Tensor:
    """The square that the model uses of uint8 `[H, W, 3]`: levels 0 to 255, float32 `[R, R, 3]`."""
    shape = tf.shape(pixels)
    height, width = tf.cast(shape[0], tf.float32), tf.cast(shape[1], tf.float32)
    side = tf.minimum(height, width)
    if crop == CELEBA_CROP:
        # As in `portraits.crop_photo`: only images in exactly the proportions of aligned photos.
        aligned = tf.equal(shape[1] * CELEBA_HEIGHT, shape[0] * CELEBA_WIDTH)
        side = tf.where(aligned, CELEBA_SQUARE * width / CELEBA_WIDTH, side)
    scale = resolution / side
    left, top = (width - side) / 2.0, (height - side) / 2.0
    # In two passes with rounding between them, as in Pillow: within one level, even on noise. For
    # some tall images Pillow swaps the passes; on photos that makes a level or two of difference.
    rows = _resample(pixels, (shape[0], resolution), (1.0, scale), (0.0, left * scale))
    return _resample(rows, (resolution, resolution), (scale, 1.0), (top * scale, 0.0))


def _resample(pixels: tf.Tensor, size: tuple, scale: tuple, start: tuple) -> tf.Tensor:
    """Antialiased Lanczos resampling, rounded to levels: float32 `[size[0], size[1], 3]`."""
    result = tf.raw_ops.ScaleAndTranslate(
        images=pixels[None],
        size=tf.stack(size),
        scale=tf.stack(scale),
        translation=tf.negative(tf.stack(start)),
        kernel_type="lanczos3",
        antialias=True,
    )[0]
    return tf.clip_by_value(tf.floor(result + 0.5), 0.0, 255.0)
