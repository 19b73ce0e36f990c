"""StyleGAN's generator: a mapping z -> w, and a synthesis network whose layers are styled by w.

Mapping, constant input, AdaIN, noise, style mixing and truncation are those of Karras et al. 2019.
The image is a sum over the resolutions (skip connections) as in Karras et al. 2020, whose modulated
convolution is the other style layer. As in `networks.dcgan`, the maps end at half the resolution
and a transposed convolution makes the image: maps at full resolution would cost as much as all
others together. All layers have an equalized learning rate.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import layers

from cgan_tf.core import replicas
from cgan_tf.networks import equalized
from cgan_tf.networks.dcgan import LOWEST, SLOPE, level_widths
from cgan_tf.networks.generators import Halves

MAPPING_LAYERS = 4
MAPPING_LR = 0.01  # learning rate of the mapping, relative to the other layers
MIXING = 0.9  # probability of style mixing
# Initial standard deviation of the styles. Because of the mapping's leaky ReLUs, half of the mean
# square of w is the same for all z: with a gain of 1, the styles would depend too little on z.
STYLE_GAIN = 2.0
IMAGE_GAIN = 4.0  # of the toRGB layers; their weights start at zero, so it only sets their speed
W_DECAY = 0.995  # per step, of the moving average of w


class StyleConv(layers.Layer):
    """A convolution styled by w, then noise, bias and a leaky ReLU.

    "modulated" scales the input channels by the style, and demodulates the output channels to the
    unit variance that inputs of unit variance would give (Karras et al. 2020, equations 1 and 3).
    It scales the maps instead of the kernel, so that one convolution serves the entire batch.
    "adain" normalizes each channel of each image last, then scales and shifts it by the style
    (Karras et al. 2019, equation 1).

    Args:
        filters: channels of the output.
        style: "modulated" or "adain".
        up: upsample by two first.

    Call arguments:
        x: `[N, H, W, C]`.
        w: float32 `[N, w_dim]`.
        noise: float32 `[N or 1, H, W, 1]`, of the output's height and width.
    """

    def __init__(self, filters: int, style: str, up: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.style = style
        options = {"use_bias": False, "dtype": self.dtype_policy, "name": "convolution"}
        self.convolution = (
            equalized.UpsampledConv2D(filters, gain=1.0, **options)
            if up
            else equalized.Conv2D(filters, 3, gain=1.0, **options)
        )

    def build(self, x_shape: tuple, w_shape: tuple, noise_shape: tuple) -> None:
        self.convolution.build(x_shape)
        channels = x_shape[-1] if self.style == "modulated" else 2 * self.filters
        self.affine = equalized.Dense(channels, gain=STYLE_GAIN, dtype="float32", name="affine")
        self.affine.build(w_shape)
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")
        self.noise_scale = self.add_weight(shape=(), initializer="zeros", name="noise_scale")

    def call(self, x: tf.Tensor, w: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        style = self.affine(w)  # float32, [N, C] or [N, 2 * filters]
        shift = self.noise_scale * tf.cast(noise, x.dtype) + self.bias
        if self.style == "modulated":
            style += 1.0
            x = self.convolution(x * _per_channel(style, x.dtype))
            x *= _per_channel(equalized.HE * self._demodulation(style), x.dtype)
            return tf.nn.leaky_relu(x + shift, SLOPE)
        x = tf.nn.leaky_relu(self.convolution(x) + shift, SLOPE)
        scale, offset = tf.split(style, 2, axis=1)
        mean, variance = tf.nn.moments(tf.cast(x, tf.float32), (1, 2))  # [N, filters]
        scale = (scale + 1.0) * tf.math.rsqrt(variance + 1e-8)
        return x * _per_channel(scale, x.dtype) + _per_channel(offset - mean * scale, x.dtype)

    def _demodulation(self, style: tf.Tensor) -> tf.Tensor:
        """The factors that give the output channels unit variance, float32 `[N, filters]`."""
        kernel = tf.cast(self.convolution.scaled_kernel(), tf.float32)
        squares = tf.reduce_sum(tf.square(kernel), axis=(0, 1))
        if self.convolution.stride == 2:  # a pixel sums over a quarter of the positions
            squares = tf.transpose(squares) / 4.0
        return tf.math.rsqrt(tf.matmul(tf.square(style), squares) + 1e-8)


def _per_channel(values: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """`[N, C]` as `[N, 1, 1, C]` of the dtype."""
    return tf.cast(values, dtype)[:, None, None, :]


class StyleGenerator(keras.Model):
    """Latent to image through w: one style per layer, and noise for stochastic detail.

    Args:
        resolution: side of the image in px, a power of two from 8.
        z_dim: size of z and of w.
        width: channels at half the resolution; doubles per level.
        style: style layer, "modulated" or "adain"; see `StyleConv`.
        dtype: dtype policy of the synthesis; the mapping and the image are always float32.

    Attributes:
        space: space of the latents that `call` takes: "z", "w", or "ws", one w per layer.

    Call arguments:
        latent: float32 `[N, *latent_shape]`. The noise is part of the model, the same each time.

    Returns:
        float32 `[N, resolution, resolution, 3]` in [-1, 1].
    """

    def __init__(
        self,
        resolution: int,
        z_dim: int,
        width: int,
        style: str = "modulated",
        dtype: str = "float32",
        name: str = "generator",
    ) -> None:
        super().__init__(name=name)
        self.resolution = resolution
        self.z_dim = z_dim
        self.width = width
        self.style = style
        self.space = "z"
        self.prior = "normal"

        z = keras.Input((z_dim,), name="z")
        w = equalized.PixelNorm(dtype="float32")(z)
        for _ in range(MAPPING_LAYERS):
            w = layers.LeakyReLU(SLOPE)(equalized.Dense(z_dim, lr=MAPPING_LR, dtype="float32")(w))
        self.mapping = keras.Model(z, w, name="mapping")

        widths = level_widths(resolution, width)
        self.convolutions = [StyleConv(widths[0], style, dtype=dtype)]
        for channels in widths[1:]:
            self.convolutions += [
                StyleConv(channels, style, up=True, dtype=dtype),
                StyleConv(channels, style, dtype=dtype),
            ]
        self.num_layers = len(self.convolutions)
        # The image is a sum over the levels.
        self.to_image = [
            equalized.Conv2DTranspose(3, 4, 2, gain=IMAGE_GAIN, dtype=dtype) for _ in widths
        ]
        # The first images are gray: initial noise would take long to disappear.
        for layer, channels in zip(self.to_image, widths, strict=True):
            layer.build((None, None, None, channels))
            layer.kernel.assign(tf.zeros(layer.kernel.shape))
        self.constant = self.add_weight(
            shape=(1, LOWEST, LOWEST, widths[0]), initializer="random_normal", name="constant"
        )
        self.constant.assign(keras.random.normal(self.constant.shape))
        self.w_mean = self.add_weight(
            shape=(z_dim,), initializer="zeros", trainable=False, name="w_mean"
        )
        self.noise = [
            self.add_weight(
                shape=(1, side, side, 1),
                initializer=keras.initializers.RandomNormal(stddev=1.0),
                trainable=False,
                name=f"noise_{index}",
            )
            for index, side in enumerate(self.sides)
        ]
        self(tf.zeros((1, *self.latent_shape)))  # builds the layers

    @property
    def sides(self) -> list[int]:
        """Side of each layer's maps, in px."""
        return [LOWEST * 2 ** ((index + 1) // 2) for index in range(self.num_layers)]

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent of the space."""
        return (self.num_layers, self.z_dim) if self.space == "ws" else (self.z_dim,)

    @property
    def derived_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the constants that an export precomputes: folded kernels and their squares."""
        shapes = []
        for layer in self.convolutions:
            places = 4 * 4 - 3 * 3 if layer.convolution.stride == 2 else 0
            places += layer.style == "modulated"
            shapes.append((places, *layer.convolution.kernel.shape[2:]))
        return shapes

    @property
    def absent_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the weights that an export does not need.

        These are the mapping's where the latent is w; and with "adain", whose first convolution of
        the constant is precomputed, that layer's kernel and the constant.
        """
        absent = [] if self.space == "z" else self.mapping.weights
        if self.style == "adain":
            absent = [*absent, self.constant, self.convolutions[0].convolution.kernel]
        return [tuple(weight.shape) for weight in absent]

    def sample_prior(self, count: int, seed: keras.random.SeedGenerator | int) -> tf.Tensor:
        """z float32 `[count, z_dim]` from N(0, I)."""
        return keras.random.normal((count, self.z_dim), seed=seed)

    def sample_latent(self, count: int, seed: keras.random.SeedGenerator | int) -> tf.Tensor:
        """Latents float32 `[count, *latent_shape]` of the space, from z of the prior."""
        return self.to_space(self.sample_prior(count, seed))

    def to_space(self, z: tf.Tensor) -> tf.Tensor:
        """The latents `[N, *latent_shape]` of z `[N, z_dim]`."""
        if self.space == "z":
            return z
        w = self.mapping(z)
        return self._per_layer(w) if self.space == "ws" else w

    def truncate(self, w: tf.Tensor, psi: float) -> tf.Tensor:
        """Moves w or ws towards the mean of w; psi 1 keeps it, 0 is the mean (2019, appendix B)."""
        mean = tf.convert_to_tensor(self.w_mean)
        return mean + psi * (w - mean)

    def from_prior(
        self,
        z: tf.Tensor,
        psi: float = 1.0,
        side: int | None = None,
        alpha: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Images `[N, R, R, 3]` of z `[N, z_dim]`, truncated by psi.

        `side` and `alpha`: see `synthesize`.
        """
        ws = self._per_layer(self.truncate(self.mapping(z), psi))
        return self.synthesize(ws, self.noise, side, alpha)

    def call(self, latent: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.synthesize(self._styles(latent), self.noise)

    def _styles(self, latent: tf.Tensor) -> tf.Tensor:
        """One w per layer, `[N, num_layers, w_dim]`, of latents of the space."""
        w = self.mapping(latent) if self.space == "z" else latent
        return w if self.space == "ws" else self._per_layer(w)

    def sample_inputs(self, count: int, seed: keras.random.SeedGenerator) -> dict[str, tf.Tensor]:
        """Random inputs of `training_images`: latents, style mixing and noise, `[count, ...]`."""
        return {
            "first": self.sample_prior(count, seed),
            "second": self.sample_prior(count, seed),
            "mixing": keras.random.uniform((count, 2), seed=seed),
            "noise": keras.random.normal((count, sum(s * s for s in self.sides)), seed=seed),
        }

    def training_images(
        self,
        inputs: dict[str, tf.Tensor],
        side: int | None = None,
        alpha: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Images of `sample_inputs`, with style mixing and fresh noise; updates `w_mean`.

        From a random layer on, the styles come from a second latent (2019, section 3.1).

        Args:
            inputs: see `sample_inputs`.
            side: see `synthesize`.
            alpha: see `synthesize`.
        """
        first, second = (self.mapping(inputs[name]) for name in ("first", "second"))
        mean = replicas.batch_mean(tf.reduce_mean(tf.stop_gradient(first), axis=0))
        self.w_mean.assign(mean + W_DECAY * (self.w_mean - mean))
        count = self._layers_to(side)
        chosen, place = tf.split(inputs["mixing"], 2, axis=1)
        crossover = 1 + tf.floor(place * (count - 1))  # [N, 1] in 1 ... count - 1
        crossover = tf.where(chosen < MIXING, crossover, float(count))
        from_first = tf.range(self.num_layers, dtype=tf.float32) < crossover  # [N, layers]
        ws = tf.where(from_first[..., None], first[:, None, :], second[:, None, :])
        noise = tf.split(inputs["noise"], [s * s for s in self.sides], axis=1)
        noise = [tf.reshape(n, (-1, s, s, 1)) for n, s in zip(noise, self.sides, strict=True)]
        return self.synthesize(ws, noise, side, alpha)

    def synthesize(
        self,
        ws: tf.Tensor,
        noise: list[tf.Tensor],
        side: int | None = None,
        alpha: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Images in [-1, 1].

        Args:
            ws: one w per layer, float32 `[N, num_layers, w_dim]`.
            noise: one per layer, float32 `[N or 1, side, side, 1]`.
            side: side of the images; None for the full resolution, less for an earlier level.
            alpha: weight of the last level while it fades in.
        """
        count = self._layers_to(side)
        _, image = self._run_layers(self._constant(ws), None, ws, noise, range(count), alpha)
        return tf.tanh(image)

    def halves(self, side: int) -> Halves:
        """See `AnyGenerator.halves`; the maps are those after the last layer of their level."""
        cut = self.sides.index(side) + 2  # both layers of the level
        lower, upper = range(cut), range(cut, self.num_layers)

        def coarse(latent: tf.Tensor) -> tuple[tf.Tensor, ...]:
            ws = self._styles(latent)
            x = self._constant(ws)
            # The level's own image is made of the maps, after what is added to them.
            x, image = self._run_layers(x, None, ws, self.noise, lower, last_image=False)
            return x, image, ws

        def fine(state: Sequence[tf.Tensor]) -> tf.Tensor:
            x, image, ws = state
            image = upsample(image) + self._level_image(x, cut - 1)
            _, image = self._run_layers(x, image, ws, self.noise, upper)
            return tf.tanh(image)

        return coarse, fine

    def channels_at(self, side: int) -> int:
        """Channels of the maps of a side."""
        return self.convolutions[self.sides.index(side)].filters

    def _constant(self, ws: tf.Tensor) -> tf.Tensor:
        """The first maps, one for each row of `ws`."""
        return tf.tile(self.constant, (tf.shape(ws)[0], 1, 1, 1))

    def _level_image(self, x: tf.Tensor, index: int) -> tf.Tensor:
        """The image of the maps after layer `index`, the last of its level."""
        return tf.cast(self.to_image[index // 2](x), tf.float32)

    def _run_layers(
        self,
        x: tf.Tensor,
        image: tf.Tensor | None,
        ws: tf.Tensor,
        noise: list[tf.Tensor],
        indices: range,
        alpha: tf.Tensor | None = None,
        last_image: bool = True,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The maps after some of the layers, and the image so far.

        Args:
            x: maps before them.
            image: image before them; None before the first layer.
            ws: see `synthesize`.
            noise: see `synthesize`.
            indices: of the layers.
            alpha: weight of the last level.
            last_image: whether the image has the last level's part.
        """
        for index in indices:
            x = self.convolutions[index](x, ws[:, index], noise[index])
            last = index == indices[-1]
            if index % 2 == 0 and (last_image or not last):  # the last layer of its level
                level = self._level_image(x, index)
                if alpha is not None and last:
                    level *= alpha
                image = level if image is None else upsample(image) + level
        return x, image

    def trainable_at(self, side: int) -> list:
        """The trainable variables that images of this side depend on."""
        count = self._layers_to(side)
        parts = [self.mapping, *self.convolutions[:count], *self.to_image[: (count + 1) // 2]]
        used = [self.constant, *(v for part in parts for v in part.trainable_variables)]
        return [v for v in self.trainable_variables if any(v is u for u in used)]

    def weights_at(self, side: int) -> list:
        """The weights that images of this side depend on, in the order of a generator of it."""
        count = self._layers_to(side)
        finer = [*self.convolutions[count:], *self.to_image[(count + 1) // 2 :]]
        unused = [*self.noise[count:], *(weight for layer in finer for weight in layer.weights)]
        return [w for w in self.weights if not any(w is u for u in unused)]

    def _layers_to(self, side: int | None) -> int:
        """Number of layers that make images of this side."""
        return self.num_layers if side is None else sum(2 * s <= side for s in self.sides)

    def _per_layer(self, w: tf.Tensor) -> tf.Tensor:
        return tf.tile(w[:, None, :], (1, self.num_layers, 1))

    def get_config(self) -> dict:
        return {
            "resolution": self.resolution,
            "z_dim": self.z_dim,
            "width": self.width,
            "style": self.style,
        }


def upsample(image: tf.Tensor) -> tf.Tensor:
    """Images `[N, H, W, 3]` at twice the side, by bilinear interpolation."""
    height, width = image.shape[1], image.shape[2]
    return tf.image.resize(image, (2 * height, 2 * width), "bilinear")
