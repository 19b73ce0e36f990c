"""Image files in a SavedModel's graph: JPEG, PNG, GIF or BMP in, PNG out.

For the signature `translate_bytes` of `export.saved_model`, whose clients send files and need not
crop and resize. Does in TensorFlow operators what `data.images` and `data.portraits.crop_photo` do
in Python; the results agree to one or two of 255 levels. A graph cannot do two things: read the
EXIF orientation of a photo, which the client must apply before sending it, and composite the
transparency of formats other than PNG. An invalid file is an InvalidArgument error of the request.
"""

import tensorflow as tf

from cgan_tf.data.images import CELEBA_HEIGHT, CELEBA_SQUARE, CELEBA_WIDTH, MAX_PIXELS
from cgan_tf.editing.description import CELEBA_CROP

_HEADER = 32  # bytes, which contain the size in all of these formats except JPEG
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
        _GIF: (lambda: _numbers(header, 6, 4, tf.uint16, little=True), _decode_other),
        _BMP: (lambda: _numbers(header, 18, 8, tf.int32, little=True), _decode_other),
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


def _decode_png(encoded: tf.Tensor) -> tf.Tensor:
    """Composites transparency on white."""
    pixels = tf.io.decode_png(encoded, channels=4)
    color, alpha = pixels[..., :3], pixels[..., 3:]

    def composite() -> tf.Tensor:
        # At most 255 * 255 + 127, which 16 bits hold.
        wide, share = tf.cast(color, tf.uint16), tf.cast(alpha, tf.uint16)
        return tf.cast((wide * share + 255 * (255 - share) + 127) // 255, tf.uint8)

    return tf.cond(tf.reduce_all(tf.equal(alpha, 255)), lambda: color, composite)


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    return tf.image.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_other(encoded: tf.Tensor) -> tf.Tensor:
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
