"""Encoded pictures in a SavedModel's graph: JPEG, PNG, GIF or BMP in, PNG out.

The inner half of the signature `translate_bytes` (`export.saved_model`), for clients that cannot
crop and resize: what `cgan_tf.data.images` and `cgan_tf.photos.crop_photo` do in Python, in
TensorFlow's operators, and to a level or two of 255 with the same result. Two things a graph cannot
do: read a photo's EXIF orientation, which must be applied before it is sent, and composite the
transparency of other files than PNGs. What is wrong with a picture is an InvalidArgument error of
the request.
"""

import tensorflow as tf

from cgan_tf.data.images import CELEBA_HEIGHT, CELEBA_SQUARE, CELEBA_WIDTH, MAX_PIXELS
from cgan_tf.editors import CELEBA_CROP

_PNG, _JPEG, _GIF, _BMP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM"


def read(encoded: tf.Tensor, resolution: int, crop: str) -> tf.Tensor:
    """What the model sees of encoded pictures: float32 `[N, R, R, 3]` in [-1, 1].

    Args:
        encoded: string `[N]`, pictures of any sizes up to `MAX_PIXELS`.
        resolution: R.
        crop: of `cgan_tf.editors`: which square of a picture the model has learned from.
    """
    spec = tf.TensorSpec((resolution, resolution, 3), tf.float32)
    # One by one: as many pictures as are decoded at a time, so many times the largest one's memory.
    levels = tf.map_fn(
        lambda one: _square(decode(one), resolution, crop),
        encoded,
        fn_output_signature=spec,
        parallel_iterations=1,
    )
    return levels / 127.5 - 1.0


def write(image: tf.Tensor) -> tf.Tensor:
    """PNGs, string `[N]`, of images `[N, R, R, 3]` in [-1, 1]; levels as `images.to_uint8`'s."""
    levels = tf.round(tf.clip_by_value((image + 1.0) * 127.5, 0.0, 255.0))
    return tf.io.encode_png(tf.cast(levels, tf.uint8))


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """RGB uint8 `[H, W, 3]` of one encoded picture, the first frame of a GIF.

    The header alone decides on the size, so a picture beyond `MAX_PIXELS` costs no memory.
    """
    formats = {
        _PNG: (_png_size, _decode_png),
        _JPEG: (_jpeg_size, _decode_jpeg),
        _GIF: (_gif_size, _decode_other),
        _BMP: (_bmp_size, _decode_other),
    }
    cases = [(_starts_with(encoded, magic), parts) for magic, parts in formats.items()]
    known = tf.debugging.Assert(
        tf.reduce_any([found for found, _ in cases]), ["image_bytes: no JPEG, PNG, GIF or BMP"]
    )
    with tf.control_dependencies([known]):
        size = tf.case([(found, lambda f=parts[0]: f(encoded)) for found, parts in cases])
    size = tf.cast(size, tf.int64)
    fits = tf.debugging.Assert(
        tf.reduce_all(size > 0) & (size[0] <= MAX_PIXELS // tf.maximum(size[1], 1)),
        [f"image_bytes: pixels of a picture; 1 to {MAX_PIXELS // 1_000_000} million, not", size],
    )
    with tf.control_dependencies([fits]):
        pixels = tf.case([(found, lambda f=parts[1]: f(encoded)) for found, parts in cases])
    return tf.ensure_shape(pixels, (None, None, 3))


# ---- formats -----------------------------------------------------------------------------------


def _starts_with(encoded: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.equal(tf.strings.substr(encoded, 0, len(magic)), magic)


def _numbers(encoded: tf.Tensor, place: int, size: int, dtype: tf.DType, little: bool) -> tf.Tensor:
    """Two whole numbers of a header."""
    return tf.io.decode_raw(tf.strings.substr(encoded, place, size), dtype, little_endian=little)


def _png_size(encoded: tf.Tensor) -> tf.Tensor:
    return _numbers(encoded, 16, 8, tf.int32, little=False)


def _jpeg_size(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.extract_jpeg_shape(encoded)[:2]


def _gif_size(encoded: tf.Tensor) -> tf.Tensor:
    return tf.cast(_numbers(encoded, 6, 4, tf.uint16, little=True), tf.int32)


def _bmp_size(encoded: tf.Tensor) -> tf.Tensor:
    # A height below zero says that the rows go down.
    return tf.abs(_numbers(encoded, 18, 8, tf.int32, little=True))


def _decode_png(encoded: tf.Tensor) -> tf.Tensor:
    """Transparency is composited on white."""
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
    """The model's square of a picture uint8 `[H, W, 3]`: levels 0 to 255, float32 `[R, R, 3]`."""
    shape = tf.shape(pixels)
    height, width = tf.cast(shape[0], tf.float32), tf.cast(shape[1], tf.float32)
    side = tf.minimum(height, width)
    if crop == CELEBA_CROP:
        # As `photos.crop_photo`: only pictures of exactly the aligned photos' proportions.
        aligned = tf.equal(shape[1] * CELEBA_HEIGHT, shape[0] * CELEBA_WIDTH)
        side = tf.where(aligned, CELEBA_SQUARE * width / CELEBA_WIDTH, side)
    scale = resolution / side
    left, top = (width - side) / 2.0, (height - side) / 2.0
    # In two steps, rounded between them, as Pillow does it: to one level, on noise too. For some
    # tall pictures it takes them in the other order, which a photo shows by a level or two.
    rows = _resample(pixels, (shape[0], resolution), (1.0, scale), (0.0, left * scale))
    return _resample(rows, (resolution, resolution), (scale, 1.0), (top * scale, 0.0))


def _resample(pixels: tf.Tensor, size: tuple, scale: tuple, start: tuple) -> tf.Tensor:
    """Lanczos, antialiased: whole levels, float32 `[size[0], size[1], 3]`."""
    result = tf.raw_ops.ScaleAndTranslate(
        images=pixels[None],
        size=tf.stack(size),
        scale=tf.stack(scale),
        translation=tf.negative(tf.stack(start)),
        kernel_type="lanczos3",
        antialias=True,
    )[0]
    return tf.clip_by_value(tf.floor(result + 0.5), 0.0, 255.0)
