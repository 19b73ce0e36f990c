"""Progressive growing: both networks at 8 px, 16 px, ... up to their own side (Karras et al. 2018).

At a side below its own, a DCGAN's generator needs a layer that paints its coarser maps, and every
discriminator one that reads the smaller image. They live here, beside the networks, are trained and
kept in checkpoints, and are left behind in the end: the finished models are ordinary ones. While a
level fades in, its image is blended with the enlarged one of the level before, and D's maps with
what D reads in the image of half the side, both by an alpha that goes from 0 to 1.
"""

import keras
import tensorflow as tf
from keras import layers

from cgan_tf.networks import dcgan
from cgan_tf.networks.dcgan import Discriminator, Generator
from cgan_tf.networks.stylegan import StyleGenerator, doubled

FIRST = 8  # px, the side that growing begins with


def sides(resolution: int) -> list[int]:
    """The sides of all levels: 8 px, 16 px, ... resolution."""
    found = [FIRST]
    while found[-1] < resolution:
        found.append(2 * found[-1])
    return found


def halved(images: tf.Tensor, side: int) -> tf.Tensor:
    """Images `[N, R, R, 3]` averaged down to `[N, side, side, 3]`."""
    factor = images.shape[1] // side
    return images if factor == 1 else tf.nn.avg_pool2d(images, factor, factor, "VALID")


def blend(old: tf.Tensor, new: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """`old` at alpha 0, `new` at 1."""
    return old + tf.cast(alpha, new.dtype) * (new - old)


def fading_reals(images: tf.Tensor, side: int, alpha: tf.Tensor | None) -> tf.Tensor:
    """Photos `[N, R, R, 3]` as D is to see them at a level: as sharp as the fakes can be."""
    images = halved(images, side)
    if alpha is None:
        return images
    return blend(doubled(halved(images, side // 2)), images, alpha)


class GrowingGenerator:
    """A DCGAN's generator, and what paints its coarser maps.

    Args:
        generator: of the last level.
        dtype: dtype policy of the computation.
    """

    def __init__(self, generator: Generator, dtype: str = "float32") -> None:
        self.generator = generator
        make = dcgan.generator_layers(generator.equalized_lr, dtype)
        self._painted = {generator.resolution: generator.output}
        self._painters = []
        for side in sides(generator.resolution)[:-1]:
            painter = make.transposed(3)
            image = painter(generator.maps[side // 2])
            self._painted[side] = layers.Activation("tanh", dtype="float32")(image)
            self._painters.append(painter)
        self._models: dict[tuple[int, bool], keras.Model] = {}

    @property
    def variables(self) -> list:
        """Those of the generator, then the painters'."""
        return self.generator.variables + [v for p in self._painters for v in p.variables]

    @property
    def trainable_variables(self) -> list:
        """Those of the generator, then the painters'."""
        added = [v for p in self._painters for v in p.trainable_variables]
        return self.generator.trainable_variables + added

    def trainable_at(self, side: int, fading: bool) -> list:
        """The trainable variables that have a part in images of the level."""
        return self._model(side, fading).trainable_variables

    def training_images(self, drawn: tf.Tensor, side: int, alpha: tf.Tensor | None) -> tf.Tensor:
        """Images `[N, side, side, 3]` of `Generator.draw`; with alpha the level fades in."""
        return self._images(drawn, side, alpha, training=True)

    def from_prior(self, z: tf.Tensor, side: int, alpha: tf.Tensor | None) -> tf.Tensor:
        """Images `[N, side, side, 3]` of z `[N, z_dim]`; with alpha the level fades in."""
        return self._images(z, side, alpha, training=False)

    def _images(
        self, z: tf.Tensor, side: int, alpha: tf.Tensor | None, training: bool
    ) -> tf.Tensor:
        images = self._model(side, alpha is not None)(z, training=training)
        return images if alpha is None else blend(doubled(images[0]), images[1], alpha)

    def _model(self, side: int, fading: bool) -> keras.Model:
        if (side, fading) not in self._models:
            image = self._painted[side]
            outputs = [self._painted[side // 2], image] if fading else image
            self._models[side, fading] = keras.Model(self.generator.input, outputs)
        return self._models[side, fading]


class GrowingStyleGenerator:
    """A StyleGAN's generator, whose image is a sum over the levels anyway: nothing to add.

    Args:
        generator: of the last level.
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
        """The trainable variables that have a part in images of the level."""
        return self.generator.trainable_at(side)

    def training_images(
        self, drawn: dict[str, tf.Tensor], side: int, alpha: tf.Tensor | None
    ) -> tf.Tensor:
        """Images `[N, side, side, 3]` of `StyleGenerator.draw`; with alpha the level fades in."""
        return self.generator.training_images(drawn, side, alpha)

    def from_prior(self, z: tf.Tensor, side: int, alpha: tf.Tensor | None) -> tf.Tensor:
        """Images `[N, side, side, 3]` of z `[N, z_dim]`; with alpha the level fades in."""
        return self.generator.from_prior(z, 1.0, side, alpha)


def grow(
    generator: Generator | StyleGenerator, dtype: str = "float32"
) -> GrowingGenerator | GrowingStyleGenerator:
    """The generator at all its levels."""
    if isinstance(generator, StyleGenerator):
        return GrowingStyleGenerator(generator)
    return GrowingGenerator(generator, dtype)


class GrowingDiscriminator:
    """A discriminator, and what reads images of less than its side.

    Args:
        discriminator: of the last level.
        dtype: dtype policy of the computation.
    """

    def __init__(self, discriminator: Discriminator, dtype: str = "float32") -> None:
        self.discriminator = discriminator
        maps = discriminator.maps
        self._readers = {}
        for side in sides(discriminator.resolution)[:-1]:
            image = keras.Input((side, side, 3))
            read = dcgan.read_image(
                image, maps[side // 2].shape[-1], discriminator.norm,
                discriminator.equalized_lr, dtype,
            )  # fmt: skip
            self._readers[side] = keras.Model(image, read)
        self._models: dict[tuple[int, bool], list[keras.Model]] = {}

    @property
    def variables(self) -> list:
        """Those of the discriminator, then the readers'."""
        added = [v for reader in self._readers.values() for v in reader.variables]
        return self.discriminator.variables + added

    @property
    def trainable_variables(self) -> list:
        """Those of the discriminator, then the readers'."""
        added = [v for reader in self._readers.values() for v in reader.trainable_variables]
        return self.discriminator.trainable_variables + added

    def trainable_at(self, side: int, fading: bool) -> list:
        """The trainable variables that have a part in the logits of a level's images."""
        return [v for model in self._parts(side, fading) for v in model.trainable_variables]

    def __call__(
        self, images: tf.Tensor, side: int, alpha: tf.Tensor | None, training: bool
    ) -> tf.Tensor:
        """Logits `[N, 1]` of images `[N, side, side, 3]`; with alpha the level fades in."""
        parts = self._parts(side, alpha is not None)
        if alpha is None:
            return parts[1](parts[0](images, training=training), training=training)
        read, narrow, read_half, judge = parts
        new = narrow(read(images, training=training), training=training)
        old = read_half(halved(images, side // 2), training=training)
        return judge(blend(old, new, alpha), training=training)

    def _parts(self, side: int, fading: bool) -> list[keras.Model]:
        """The models of a level, one after the other, that share no variables."""
        if (side, fading) not in self._models:
            network, maps = self.discriminator, self.discriminator.maps
            read = self._readers.get(side) or keras.Model(network.input, maps[side // 2])
            parts = [read, keras.Model(maps[side // 2], network.output)]
            if fading:
                parts = [
                    read,
                    keras.Model(maps[side // 2], maps[side // 4]),
                    self._readers[side // 2],
                    keras.Model(maps[side // 4], network.output),
                ]
            self._models[side, fading] = parts
        return self._models[side, fading]
