"""The judge: a small residual attribute classifier for the evaluation only.

The evaluate stage trains it (`stages.judge`) and measures with it: the Frechet distance and the
retrieval compare its pooled features, its probabilities show what an edit has changed. No
stage trains against it. It shares neither architecture nor seed with the regressor, which the
directions are learned with.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import layers

from cgan_tf.networks.normalization import BatchNormalization

WIDTHS = (48, 96, 192)  # channels at 16, 8 and 4 px
BLOCKS = (2, 1, 1)  # residual blocks at each side; the first one halves the side
STEM_WIDTH = 24
STEM_SIDE = 32  # px after the first convolution, whatever the resolution
LARGEST = 128  # px; larger images are averaged down, since the stem's kernel grows with its stride
FEATURES = WIDTHS[-1]


class Judge(keras.Model):
    """Residual network (He et al. 2016) of nine convolutions with batch norm; 37 MMAC at 64 px.

    Args:
        attribute_names: all attributes of the data set, in order.
        resolution: side of the images in px; from 64 px on, the stride of the first convolution
            grows with it, so that the cost stays almost the same. Above `LARGEST` the images are
            averaged down to it: finer detail has no influence on any figure.
        dtype: dtype policy of the computation; the outputs are always float32.

    Call arguments:
        images: float32 `[N, resolution, resolution, 3]` in [-1, 1].

    Returns:
        float32 `[N, K]` probabilities.
    """

    def __init__(
        self,
        attribute_names: Sequence[str],
        resolution: int,
        dtype: str = "float32",
        name: str = "judge",
    ) -> None:
        side = min(resolution, LARGEST)
        stride = max(1, side // STEM_SIDE)
        images = keras.Input((resolution, resolution, 3), name="images")
        x = images
        if resolution > side:
            x = layers.AveragePooling2D(resolution // side, dtype=dtype)(x)
        x = _convolution(x, STEM_WIDTH, 2 * stride + 1, stride, dtype)
        for width, blocks in zip(WIDTHS, BLOCKS, strict=True):
            for block in range(blocks):
                x = _residual(x, width, 2 if block == 0 else 1, dtype)
        x = layers.Activation("linear", dtype="float32")(x)
        backbone = keras.Model(images, layers.GlobalAveragePooling2D(dtype="float32")(x))
        head = layers.Dense(len(attribute_names), dtype="float32", name="head")
        logits = head(backbone(images))
        super().__init__(images, keras.ops.sigmoid(logits), name=name)

        self.attribute_names = tuple(attribute_names)
        self.resolution = resolution
        self.backbone = backbone
        self.head = head

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """Pooled features, float32 `[N, 192]`, at least 0."""
        return self.backbone(images, training=False)

    def features_and_probabilities(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`features` `[N, 192]` and probabilities `[N, K]` in one pass."""
        features = self.features(images)
        return features, tf.sigmoid(self.head(features))

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Raw logits, float32 `[N, K]`."""
        return self.head(self.backbone(images, training=training))

    def get_config(self) -> dict:
        return {"attribute_names": list(self.attribute_names), "resolution": self.resolution}


def _convolution(
    x: keras.KerasTensor, width: int, side: int, stride: int, dtype: str, activate: bool = True
) -> keras.KerasTensor:
    x = layers.Conv2D(
        width,
        side,
        stride,
        "same",
        use_bias=False,
        kernel_initializer="he_normal",
        dtype=dtype,
    )(x)
    x = BatchNormalization(momentum=0.95, dtype=dtype)(x)
    return layers.ReLU(dtype=dtype)(x) if activate else x


def _residual(x: keras.KerasTensor, width: int, stride: int, dtype: str) -> keras.KerasTensor:
    """Two 3 x 3 convolutions and a shortcut, which is average-pooled where the side halves."""
    y = _convolution(x, width, 3, stride, dtype)
    y = _convolution(y, width, 3, 1, dtype, activate=False)
    if stride > 1:
        x = layers.AveragePooling2D(stride, padding="same", dtype=dtype)(x)
        x = layers.Conv2D(width, 1, kernel_initializer="he_normal", dtype=dtype)(x)
    return layers.ReLU(dtype=dtype)(layers.Add(dtype=dtype)([x, y]))
