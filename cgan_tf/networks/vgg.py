"""VGG16 (Simonyan & Zisserman 2014) as attribute regressor and as perceptual distance.

The perceptual features of the inversion and directions stages are the regressor's convolutional
features, or those of VGG16 trained on ImageNet.
"""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from cgan_tf.core import replicas
from cgan_tf.core.errors import UserError

# relu1_2, relu2_2, relu3_3, relu4_3: Keras's convolutions include the ReLU.
FEATURE_LAYERS = ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3")
IMAGENET_BGR_MEAN = (103.939, 116.779, 123.68)  # of keras.applications' "caffe" preprocessing
# He's initializer expects inputs of unit variance; VGG's inputs have a standard deviation of 64.
SCRATCH_INPUT_SCALE = 1 / 64
WIDTH, NARROW_WIDTH = 64, 16  # channels of the first block: VGG16's, and of one for small models
FROM_SCRATCH = ("none", "narrow")  # --regressor_vgg_weights without initial weights
# The head's input: relu3_3 and relu4_3, averaged to this side, and the mean of the last pooling.
# In aligned faces position matters, and the short paths train without any normalization.
HEAD_SIDE = 4  # px
HEAD_SCALE = 1 / 8  # of relu3_3 and relu4_3: Adam moves all weights alike, and theirs are many
EPSILON = 1e-8
# What the flags that request weights accept besides a file; the last one needs no weights.
OTHER_CHOICES = {
    "--regressor_vgg_weights": ("auto", "imagenet", "narrow", "none"),
    "--inversion_perceptual": ("imagenet", "regressor"),
}


def preprocess(images: tf.Tensor) -> tf.Tensor:
    """RGB in [-1, 1] to VGG16's input: BGR in [0, 255] minus ImageNet's mean."""
    return (images[..., ::-1] + 1.0) * 127.5 - tf.constant(IMAGENET_BGR_MEAN)


def build_backbone(dtype: str = "float32", width: int = WIDTH) -> keras.Model:
    """VGG16 without its head: preprocessed images `[N, H, W, 3]` to five maps.

    The maps are those of `FEATURE_LAYERS`, then the last pooling's `[N, H/32, W/32, 8 * width]`.
    The initializer is He's (2015). With Glorot's, Keras's default, the signal shrinks from layer to
    layer, and thirteen convolutions with ReLU hardly train.

    Args:
        dtype: dtype policy of the computation.
        width: channels of the first block; those of the other blocks keep VGG16's ratios.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        vgg = keras.applications.VGG16(include_top=False, weights=None, input_shape=(None, None, 3))
        if width != WIDTH or replicas.on_gpu():
            vgg = keras.models.clone_model(vgg, clone_function=lambda layer: _adapted(layer, width))
    finally:
        keras.config.set_dtype_policy(policy)
    seed = keras.random.SeedGenerator(int(np.random.randint(2**31)))
    initializer = keras.initializers.HeNormal(seed=seed)
    for layer in vgg.layers:
        if isinstance(layer, layers.Conv2D):
            layer.kernel.assign(initializer(layer.kernel.shape))
    outputs = [vgg.get_layer(name).output for name in FEATURE_LAYERS]
    return keras.Model(vgg.input, [*outputs, vgg.output], name="vgg16")


class SlicedMaxPooling(layers.MaxPooling2D):
    """Max pooling of 2 x 2 px as the maximum of four slices.

    On a GPU, XLA has no deterministic gradient of the built-in one. On a CPU this one's is slow.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        rows = tf.maximum(inputs[:, :-1:2], inputs[:, 1::2])
        return tf.maximum(rows[:, :, :-1:2], rows[:, :, 1::2])


def _adapted(layer: layers.Layer, width: int) -> layers.Layer:
    """A copy of VGG16's layer for the width, and for a GPU if there is one."""
    options, kind = layer.get_config(), type(layer)
    if isinstance(layer, layers.Conv2D):
        options["filters"] = options["filters"] * width // WIDTH
    elif isinstance(layer, layers.MaxPooling2D) and replicas.on_gpu():
        kind = SlicedMaxPooling
    return kind.from_config(options)


def width_of(weights: str) -> int:
    """Channels of the first block of the VGG16 that --regressor_vgg_weights stands for."""
    return NARROW_WIDTH if weights == "narrow" else WIDTH


def load_weights(backbone: keras.Model, source: str, flag: str) -> None:
    """Loads trained weights of VGG16 into the backbone.

    Args:
        backbone: a result of `build_backbone`.
        source: "imagenet", or the path of a Keras file of VGG16's weights without its head.
        flag: the flag that requests them, for the error message.

    Raises:
        UserError: ImageNet's are not on this machine and cannot be downloaded, or the path is not
            such a file.
    """
    if source == "imagenet":
        try:
            trained = keras.applications.VGG16(include_top=False, weights="imagenet")
        except Exception as error:  # keras.utils.get_file raises a bare Exception without a network
            raise UserError(
                f"{flag}=imagenet: the weights are not available ({_shortened(error)}); connect to "
                f"the network once, or give a file, or {OTHER_CHOICES[flag][-1]}"
            ) from None
    else:
        try:
            trained = keras.applications.VGG16(include_top=False, weights=None)
            trained.load_weights(source)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{flag}={source}: not a file of VGG16 weights without top ({_shortened(error)}); "
                f"give such a file, or {', '.join(OTHER_CHOICES[flag][:-1])} or "
                f"{OTHER_CHOICES[flag][-1]}"
            ) from None
    backbone.set_weights(trained.get_weights())


def _shortened(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


class Regressor(keras.Model):
    """VGG16 with one sigmoid per attribute, on the last three blocks.

    Args:
        attribute_names: all attributes of the data set, in order.
        resolution: side of the images in px.
        vgg_resolution: side of VGG16's input in px; images are averaged down to it.
        input_scale: factor after VGG's preprocessing, 1 for ImageNet's weights.
        offsets: one per attribute, subtracted from the logits: corrects for the weight of rare
            positives in the loss, so that the predictions are probabilities.
        width: channels of VGG16's first block.
        dtype: dtype policy of the computation.

    Call arguments:
        images: float32 `[N, resolution, resolution, 3]` in [-1, 1].

    Returns:
        float32 `[N, K]` probabilities.
    """

    def __init__(
        self,
        attribute_names: Sequence[str],
        resolution: int,
        vgg_resolution: int,
        input_scale: float = 1.0,
        offsets: Sequence[float] | None = None,
        width: int = WIDTH,
        dtype: str = "float32",
        name: str = "regressor",
    ) -> None:
        super().__init__(name=name)
        self.attribute_names = tuple(attribute_names)
        self.resolution = resolution
        self.vgg_resolution = vgg_resolution
        self.input_scale = input_scale
        self.offsets = list(offsets) if offsets is not None else [0.0] * len(self.attribute_names)
        self.width = width
        self.backbone = build_backbone(dtype, width)
        self.dropout = layers.Dropout(0.5, dtype="float32")
        self.head = layers.Dense(len(self.attribute_names), dtype="float32", name="head")
        self.head.build((None, (4 + 8) * width * HEAD_SIDE**2 + 8 * width))
        self.built = True

    def backbone_input(self, images: tf.Tensor) -> tf.Tensor:
        """VGG16's input for images or crops `[N, H, W, 3]`: averaged down and preprocessed."""
        factor = self.resolution // self.vgg_resolution
        if factor > 1:
            images = tf.nn.avg_pool2d(images, factor, factor, "VALID")
        return preprocess(images) * self.input_scale

    def features_and_pooled(
        self, images: tf.Tensor, training: bool = False
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """The four perceptual maps (not normalized), and the head's input, float32 `[N, D]`."""
        *maps, pooled = self.backbone(self.backbone_input(images), training=training)
        parts = [tf.cast(tf.reduce_mean(pooled, axis=(1, 2)), tf.float32)]  # [N, 8 * width]
        for features in maps[2:]:  # [N, h, w, 4 or 8 * width]
            window = features.shape[1] // HEAD_SIDE
            grid = tf.nn.avg_pool2d(tf.cast(features, tf.float32), window, window, "VALID")
            parts.append(HEAD_SCALE * tf.reshape(grid, (-1, HEAD_SIDE**2 * grid.shape[-1])))
        return maps, tf.concat(parts, axis=1)

    def features_and_logits(
        self, images: tf.Tensor, training: bool = False
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """The four perceptual maps (not normalized) and the logits `[N, K]`, in one pass."""
        maps, pooled = self.features_and_pooled(images, training)
        logits = self.head(self._drop(pooled, training))
        return maps, logits - tf.constant(self.offsets, tf.float32)

    def _drop(self, features: tf.Tensor, training: bool) -> tf.Tensor:
        """Dropout; replicas share one mask for the global batch."""
        if not training or replicas.count() == 1:
            return self.dropout(features, training=training)
        count = features.shape[0] * replicas.count()
        mask = self.dropout(tf.ones((count, features.shape[1])), training=True)
        return features * replicas.own_rows(mask)

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Raw logits, float32 `[N, K]`."""
        return self.features_and_logits(images, training)[1]

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        return tf.sigmoid(self.logits(images, training))

    def get_config(self) -> dict:
        return {
            "attribute_names": list(self.attribute_names),
            "resolution": self.resolution,
            "vgg_resolution": self.vgg_resolution,
            "input_scale": self.input_scale,
            "offsets": self.offsets,
            "width": self.width,
        }


def widened(
    regressor: Regressor, heads: Mapping[str, tuple[np.ndarray, float]], dtype: str = "float32"
) -> Regressor:
    """A copy of the regressor with more attributes, after the existing ones.

    Args:
        regressor: a built regressor, not changed.
        heads: by attribute, the weights `[D]` on the head's input, and the bias.
        dtype: dtype policy of the computation.
    """
    wide = Regressor(
        (*regressor.attribute_names, *heads),
        regressor.resolution,
        regressor.vgg_resolution,
        regressor.input_scale,
        [*regressor.offsets, *[0.0] * len(heads)],
        regressor.width,
        dtype,
    )
    wide.backbone.set_weights(regressor.backbone.get_weights())
    kernel, bias = regressor.head.get_weights()
    kernels = [kernel, *(weights[:, None] for weights, _ in heads.values())]
    biases = [bias, *([offset] for _, offset in heads.values())]
    wide.head.set_weights([np.concatenate(kernels, axis=1), np.concatenate(biases)])
    return wide


class Perceptual:
    """Distance of images in VGG16's features: LPIPS (Zhang et al. 2018) without learned weights.

    d(x, y) = sum over layers l of the mean over positions of |f_l(x) - f_l(y)|^2, where the
    channels of f_l are normalized to unit length at each position.

    Args:
        regressor: provides the preprocessing and the backbone, unless `backbone` is given.
        backbone: another result of `build_backbone`, with trained weights.
    """

    def __init__(
        self,
        regressor: Regressor,
        backbone: keras.Model | None = None,
    ) -> None:
        self.regressor = regressor
        self.backbone = backbone
        # Without the last block, which no map needs.
        network = backbone or regressor.backbone
        self.network = keras.Model(network.input, network.outputs[:-1])

    def normalize(self, maps: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Maps with channel vectors of unit length; their distance is the squared L2 distance."""
        normalized = []
        for features in maps:
            features = tf.cast(features, tf.float32)
            norm = tf.sqrt(tf.reduce_sum(tf.square(features), axis=-1, keepdims=True) + EPSILON)
            normalized.append(features / norm)
        return normalized

    def features(self, images: tf.Tensor) -> list[tf.Tensor]:
        """The normalized maps of images float32 `[N, H, W, 3]` in [-1, 1]."""
        if self.backbone is not None:
            return self.normalize(self.network(preprocess(images), training=False))
        return self.normalize(self.network(self.regressor.backbone_input(images), training=False))

    def between(self, x: Sequence[tf.Tensor], y: Sequence[tf.Tensor]) -> tf.Tensor:
        """Distances `[N]` between two lists of normalized maps."""
        return tf.add_n(
            [
                tf.reduce_mean(tf.reduce_sum(tf.square(a - b), axis=-1), axis=(1, 2))
                for a, b in zip(x, y, strict=True)
            ]
        )

    def __call__(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Distances `[N]` between images x and y, float32 `[N, H, W, 3]` in [-1, 1]."""
        return self.between(self.features(x), self.features(y))
