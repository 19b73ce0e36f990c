"""Detail features: a spatial map beside the latent, for what the latent cannot hold.

A latent of a hundred numbers describes the kind of a face, not the face. As in StyleRes (Pehlivan
et al. 2023) and StyleFeatureEditor (Bobkov et al. 2024), a second network therefore sees the photo
and its reconstruction from the latent, and predicts what to add to the maps of one level of the
generator; and when the latent moves, a third one transforms that addition.
"""

import keras
import tensorflow as tf
from keras import layers

from cgan_tf.networks.dcgan import SLOPE

BLOCKS = 2  # residual 3 px convolutions of either network
FULL_EDIT = 0.1  # change of the maps, as a share of their size, that gives half of the correction
_LEAST = 1e-6  # keeps the gradient of a square root finite


class DetailFeatures(keras.Model):
    """Predicts the detail features of a photo, and edits them along with the latent.

    Args:
        resolution: side of the images in px.
        side: side of the features, and of the generator's maps that they are added to.
        channels: of both.
        width: channels within the networks.
        dtype: dtype policy of the computation; features are always float32.
    """

    def __init__(
        self,
        resolution: int,
        side: int,
        channels: int,
        width: int,
        dtype: str = "float32",
        name: str = "detail_features",
    ) -> None:
        super().__init__(name=name)
        self.resolution = resolution
        self.side = side
        self.channels = channels
        self.width = width
        self.predictor = _predictor(resolution, side, channels, width, dtype)
        self.editor = _editor(side, channels, width, dtype)
        self.built = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the features of one photo."""
        return (self.side, self.side, self.channels)

    def predict_features(
        self, image: tf.Tensor, reconstruction: tf.Tensor, maps: tf.Tensor
    ) -> tf.Tensor:
        """The features float32 `[N, side, side, C]` of photos.

        Args:
            image: the photos, float32 `[N, R, R, 3]` in [-1, 1].
            reconstruction: the generator's images of their latents.
            maps: the generator's maps of these, `[N, side, side, C]`.
        """
        return self.predictor([image, reconstruction, maps], training=False)

    def edit(self, features: tf.Tensor, maps: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
        """The features after an edit, float32 `[N, side, side, C]`.

        features + r * ((gate - 1) * features + addition), with gate and addition predicted from all
        three arguments, and r in [0, 1) from 0 at no change to 1: without an edit the features stay
        as they are.

        Args:
            features: of the photo, `[N, side, side, C]`.
            maps: the generator's maps before the edit.
            change: by how much the edit of the latent changes them.
        """
        gate, addition = self.editor([features, maps, change], training=False)
        size = _magnitude(change)
        share = size / (size + FULL_EDIT * _magnitude(maps))
        return features + share * ((2.0 * tf.sigmoid(gate) - 1.0) * features + addition)

    def get_config(self) -> dict:
        return {
            "resolution": self.resolution,
            "side": self.side,
            "channels": self.channels,
            "width": self.width,
        }


def _predictor(resolution: int, side: int, channels: int, width: int, dtype: str) -> keras.Model:
    """(photo, reconstruction, maps) to features; starts with features of 0."""
    image, reconstruction = (keras.Input((resolution, resolution, 3)) for _ in range(2))
    maps = keras.Input((side, side, channels))
    difference = layers.Subtract(dtype=dtype)([image, reconstruction])
    x = layers.Concatenate(dtype=dtype)([image, difference])
    widening = width // 2
    while x.shape[1] > side:
        x = _convolution(x, widening, 4, dtype, strides=2)
        widening = width
    x = layers.Concatenate(dtype=dtype)([x, _convolution(maps, width, 1, dtype)])
    x = _convolution(x, width, 3, dtype)
    x = _residuals(x, width, dtype)
    features = _last(x, channels)
    return keras.Model([image, reconstruction, maps], features, name="predictor")


def _editor(side: int, channels: int, width: int, dtype: str) -> keras.Model:
    """(features, maps, change) to gate and addition; starts with the features unchanged."""
    inputs = [keras.Input((side, side, channels)) for _ in range(3)]
    x = _convolution(layers.Concatenate(dtype=dtype)(inputs), width, 1, dtype)
    x = _residuals(x, width, dtype)
    return keras.Model(inputs, [_last(x, channels), _last(x, channels)], name="editor")


def _residuals(x: keras.KerasTensor, width: int, dtype: str) -> keras.KerasTensor:
    for _ in range(BLOCKS):
        x = layers.Add(dtype=dtype)([x, _convolution(x, width, 3, dtype)])
    return x


def _convolution(
    x: keras.KerasTensor, channels: int, side: int, dtype: str, strides: int = 1
) -> keras.KerasTensor:
    x = layers.Conv2D(channels, side, strides, "same", kernel_initializer="he_normal", dtype=dtype)(
        x
    )
    return layers.LeakyReLU(SLOPE, dtype=dtype)(x)


def _last(x: keras.KerasTensor, channels: int) -> keras.KerasTensor:
    """A 1 px convolution in float32 that starts at 0."""
    return layers.Conv2D(channels, 1, kernel_initializer="zeros", dtype="float32")(x)


def _magnitude(maps: tf.Tensor) -> tf.Tensor:
    """The root mean square of each image's maps, `[N, 1, 1, 1]`."""
    squares = tf.reduce_mean(maps * maps, axis=(1, 2, 3), keepdims=True)
    return tf.sqrt(squares + _LEAST**2)
