"""What generators share: the interface of all, and the sampling of those whose space is z."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

# A generator in two halves at the maps of a side: latent -> what the finer levels need, the maps
# [N, side, side, C] first; and from there to the image.
Halves = tuple[
    Callable[[tf.Tensor], Sequence[tf.Tensor]], Callable[[Sequence[tf.Tensor]], tf.Tensor]
]


class AnyGenerator(Protocol):
    """A Keras model from a latent to an image, whatever `--gan_arch`.

    Attributes:
        resolution: side of the images in px.
        z_dim: size of z.
        space: latent space that the model takes: "z", "w" or "ws".
        trainable: Keras's switch.
        weights: Keras's list of variables.
    """

    resolution: int
    z_dim: int
    space: str
    trainable: bool
    weights: list

    def __call__(self, latent: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Images float32 `[N, resolution, resolution, 3]` in [-1, 1] of latents of the space."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent of the space."""

    def sample_prior(self, count: int, seed: keras.random.SeedGenerator | int) -> tf.Tensor:
        """z float32 `[count, z_dim]` from the prior."""

    def sample_latent(self, count: int, seed: keras.random.SeedGenerator | int) -> tf.Tensor:
        """Latents float32 `[count, *latent_shape]` of the space, from z of the prior."""

    def to_space(self, z: tf.Tensor) -> tf.Tensor:
        """The latents `[N, *latent_shape]` of z `[N, z_dim]`."""

    def from_prior(self, z: tf.Tensor) -> tf.Tensor:
        """Images of z `[N, z_dim]`, whatever the space."""

    def sample_inputs(self, count: int, seed: keras.random.SeedGenerator) -> Any:
        """Random inputs of `training_images`: z, and what else is random in a training image."""

    def training_images(self, inputs: Any) -> tf.Tensor:
        """Images for a training step, float32 `[N, resolution, resolution, 3]`."""

    def halves(self, side: int) -> Halves:
        """The model for inference, cut at the maps of a side from 8 px to resolution / 2."""

    def channels_at(self, side: int) -> int:
        """Channels of the maps where `halves` cuts."""


class ZGenerator(keras.Model):
    """Base class of the generators whose only latent space is z.

    Attributes:
        space: "z".
        resolution: side of the images in px.
        z_dim: size of z.
        width: channels at half the resolution.
        prior: distribution of z, "normal" N(0, I) or "uniform" U(-1, 1).
        norm: the normalization.
        cuts: by side of the maps, all tensors that the finer levels read, the maps first.
    """

    space = "z"
    resolution: int
    z_dim: int
    width: int
    prior: str
    norm: str
    cuts: dict[int, list[keras.KerasTensor]]

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent of the space, z."""
        return (self.z_dim,)

    def sample_prior(self, count: int, seed: keras.random.SeedGenerator | int) -> tf.Tensor:
        """z float32 `[count, z_dim]` from the prior."""
        if self.prior == "uniform":
            return keras.random.uniform((count, self.z_dim), -1.0, 1.0, seed=seed)
        return keras.random.normal((count, self.z_dim), seed=seed)

    def sample_latent(self, count: int, seed: keras.random.SeedGenerator | int) -> tf.Tensor:
        """The same as `sample_prior`: the space is z."""
        return self.sample_prior(count, seed)

    def to_space(self, z: tf.Tensor) -> tf.Tensor:
        """z itself: the space is z."""
        return z

    def from_prior(self, z: tf.Tensor) -> tf.Tensor:
        """Images float32 `[N, R, R, 3]` of z `[N, z_dim]`."""
        return self(z, training=False)

    def sample_inputs(self, count: int, seed: keras.random.SeedGenerator) -> tf.Tensor:
        """Random inputs of `training_images`: z `[count, z_dim]`."""
        return self.sample_prior(count, seed)

    def training_images(self, inputs: tf.Tensor) -> tf.Tensor:
        """Images float32 `[N, R, R, 3]` of `sample_inputs`; batch norm uses the batch's moments."""
        return self(inputs, training=True)

    def halves(self, side: int) -> Halves:
        """See `AnyGenerator.halves`."""
        return halves_of(self.input, self.cuts[side], self.output)

    def channels_at(self, side: int) -> int:
        """Channels of the maps of a side."""
        return self.cuts[side][0].shape[-1]

    def get_config(self) -> dict:
        """The arguments that all of these generators have."""
        return {
            "resolution": self.resolution,
            "z_dim": self.z_dim,
            "width": self.width,
            "prior": self.prior,
            "norm": self.norm,
        }


def halves_of(
    latent: keras.KerasTensor, cut: Sequence[keras.KerasTensor], image: keras.KerasTensor
) -> Halves:
    """The halves of a functional model, by its symbolic tensors."""
    coarse, fine = keras.Model(latent, list(cut)), keras.Model(list(cut), image)
    return (
        lambda latent: tf.nest.flatten(coarse(latent, training=False)),
        lambda state: fine(list(state), training=False),
    )
