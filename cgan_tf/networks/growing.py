"""Progressive growing: both networks at 8 px, 16 px, ... up to their own side (Karras et al. 2018).

Below its final resolution, a DCGAN generator needs an output layer (toRGB) at each level, and a
discriminator an input layer (fromRGB). The classes here add these layers to the finished networks.
They are trained and kept in checkpoints but not part of the finished models, which are ordinary
ones. While a level fades in, G's image is blended with the upsampled image of the previous level,
and D's maps with those of the downsampled image, both by an alpha that goes from 0 to 1.
"""

import keras
import tensorflow as tf
from keras import layers

from cgan_tf.networks import dcgan
from cgan_tf.networks.dcgan import Discriminator, Generator
from cgan_tf.networks.stylegan import StyleGenerator, upsample

FIRST = 8  # px, side of the first level


def sides(resolution: int) -> list[int]:
    """The sides of all levels: 8 px, 16 px, ... resolution."""
    found = [FIRST]
    while found[-1] < resolution:
        found.append(2 * found[-1])
    return found


def downsample(images: tf.Tensor, side: int) -> tf.Tensor:
    """Images `[N, R, R, 3]` downsampled to `[N, side, side, 3]` by averaging."""
    factor = images.shape[1] // side
    return images if factor == 1 else tf.nn.avg_pool2d(images, factor, factor, "VALID")


def blend(old: tf.Tensor, new: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """`old` at alpha 0, `new` at 1."""
    return old + tf.cast(alpha, new.dtype) * (new - old)


def fade_reals(images: tf.Tensor, side: int, alpha: tf.Tensor | None) -> tf.Tensor:
    """Photos `[N, R, R, 3]` at a level `[N, side, side, 3]`, blended as the fakes are."""
    images = downsample(images, side)
    if alpha is None:
        return images
    return blend(upsample(downsample(images, side // 2)), images, alpha)


class GrowingGenerator:
    """A DCGAN generator with a toRGB layer at each lower level.

    Args:
        generator: the network of the last level.
        dtype: dtype policy of the computation.
    """

    def __init__(self, generator: Generator, dtype: str = "float32") -> None:
        self.generator = generator
        make = dcgan.generator_layers(generator.equalized_lr, dtype)
        self._images_at = {generator.resolution: generator.output}
        self._to_rgb = []
        for side in sides(generator.resolution)[:-1]:
            layer = make.transposed(3)
            image = layer(generator.maps[side // 2])
            self._images_at[side] = layers.Activation("tanh", dtype="float32")(image)
            self._to_rgb.append(layer)
        self._models: dict[tuple[int, bool], keras.Model] = {}

    @property
    def variables(self) -> list:
        """Those of the generator, then those of the toRGB layers."""
        return self.generator.variables + [v for layer in self._to_rgb for v in layer.variables]

    @property
    def trainable_variables(self) -> list:
        """Those of the generator, then those of the toRGB layers."""
        added = [v for layer in self._to_rgb for v in layer.trainable_variables]
        return self.generator.trainable_variables + added

    def trainable_at(self, side: int, fading: bool) -> list:
        """The trainable variables that the level's images depend on."""
        return self._model(side, fading).trainable_variables

    def weights_at(self, side: int) -> list:
        """The weights of the level without fading, in the order of a generator of that side."""
        return self._model(side, False).weights

    def training_images(self, inputs: tf.Tensor, side: int, alpha: tf.Tensor | None) -> tf.Tensor:
        """Images of `Generator.sample_inputs`; with alpha the level fades in."""
        return self._images(inputs, side, alpha, training=True)

    def from_prior(self, z: tf.Tensor, side: int, alpha: tf.Tensor | None) -> tf.Tensor:
        """Images `[N, side, side, 3]` of z `[N, z_dim]`; with alpha the level fades in."""
        return self._images(z, side, alpha, training=False)

    def _images(
        self, z: tf.Tensor, side: int, alpha: tf.Tensor | None, training: bool
    ) -> tf.Tensor:
        images = self._model(side, alpha is not None)(z, training=training)
        return images if alpha is None else blend(upsample(images[0]), images[1], alpha)

    def _model(self, side: int, fading: bool) -> keras.Model:
        if (side, fading) not in self._models:
            image = self._images_at[side]
            outputs = [self._images_at[side // 2], image] if fading else image
            self._models[side, fading] = keras.Model(self.generator.input, outputs)
        return self._models[side, fading]


class GrowingStyleGenerator:
    """A StyleGAN generator. Its image is a sum over the levels, so it needs no further layers.

    Args:
        generator: the network of the last level.
    """

    def __init__(self, generator: StyleGenerator) -> None:
        self.generator = generator

    @property
    def variables(self) -> list:
        """The generator's."""
        return self.generator.variables

    @property
    def trainable_variables(self) -> list:
        """The generator's."""
        return self.generator.trainable_variables

    def trainable_at(self, side: int, fading: bool) -> list:
        """The trainable variables that the level's images depend on."""
        return self.generator.trainable_at(side)

    def weights_at(self, side: int) -> list:
        """The weights of the level without fading, in the order of a generator of that side."""
        return self.generator.weights_at(side)

    def training_images(
        self, inputs: dict[str, tf.Tensor], side: int, alpha: tf.Tensor | None
    ) -> tf.Tensor:
        """Images of `StyleGenerator.sample_inputs`; with alpha the level fades in."""
        return self.generator.training_images(inputs, side, alpha)

    def from_prior(self, z: tf.Tensor, side: int, alpha: tf.Tensor | None) -> tf.Tensor:
        """Images `[N, side, side, 3]` of z `[N, z_dim]`; with alpha the level fades in."""
        return self.generator.from_prior(z, 1.0, side, alpha)


def grow(
    generator: Generator | StyleGenerator, dtype: str = "float32"
) -> GrowingGenerator | GrowingStyleGenerator:
    """The generator with what it needs at its lower levels."""
    if isinstance(generator, StyleGenerator):
        return GrowingStyleGenerator(generator)
    return GrowingGenerator(generator, dtype)


class GrowingDiscriminator:
    """A discriminator with a fromRGB layer at each lower level.

    Args:
        discriminator: the network of the last level.
        dtype: dtype policy of the computation.
    """

    def __init__(self, discriminator: Discriminator, dtype: str = "float32") -> None:
        self.discriminator = discriminator
        maps = discriminator.maps
        self._from_rgb = {}
        for side in sides(discriminator.resolution)[:-1]:
            image = keras.Input((side, side, 3))
            features = dcgan.from_rgb(
                image,
                maps[side // 2].shape[-1],
                discriminator.norm,
                discriminator.equalized_lr,
                dtype,
            )
            self._from_rgb[side] = keras.Model(image, features)
        self._models: dict[tuple[int, bool], list[keras.Model]] = {}

    @property
    def variables(self) -> list:
        """Those of the discriminator, then those of the fromRGB layers."""
        added = [v for model in self._from_rgb.values() for v in model.variables]
        return self.discriminator.variables + added

    @property
    def trainable_variables(self) -> list:
        """Those of the discriminator, then those of the fromRGB layers."""
        added = [v for model in self._from_rgb.values() for v in model.trainable_variables]
        return self.discriminator.trainable_variables + added

    def trainable_at(self, side: int, fading: bool) -> list:
        """The trainable variables that the logits of a level's images depend on."""
        return [v for model in self._parts(side, fading) for v in model.trainable_variables]

    def weights_at(self, side: int) -> list:
        """The weights of the level without fading, in the order of a discriminator of that side."""
        return [weight for model in self._parts(side, False) for weight in model.weights]

    def __call__(
        self, images: tf.Tensor, side: int, alpha: tf.Tensor | None, training: bool
    ) -> tf.Tensor:
        """Logits `[N, 1]` of images `[N, side, side, 3]`; with alpha the level fades in."""
        parts = self._parts(side, alpha is not None)
        if alpha is None:
            return parts[1](parts[0](images, training=training), training=training)
        from_rgb, block, previous_from_rgb, rest = parts
        new = block(from_rgb(images, training=training), training=training)
        old = previous_from_rgb(downsample(images, side // 2), training=training)
        return rest(blend(old, new, alpha), training=training)

    def _parts(self, side: int, fading: bool) -> list[keras.Model]:
        """The models that make up a level, in order; they share no variables."""
        if (side, fading) not in self._models:
            network, maps = self.discriminator, self.discriminator.maps
            from_rgb = self._from_rgb.get(side) or keras.Model(network.input, maps[side // 2])
            parts = [from_rgb, keras.Model(maps[side // 2], network.output)]
            if fading:
                parts = [
                    from_rgb,
                    keras.Model(maps[side // 2], maps[side // 4]),
                    self._from_rgb[side // 2],
                    keras.Model(maps[side // 4], network.output),
                ]
            self._models[side, fading] = parts
        return self._models[side, fading]
