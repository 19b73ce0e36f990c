"""The interface that all generators share, whatever `--gan_arch`."""

from typing import Any, Protocol

import keras
import tensorflow as tf


class AnyGenerator(Protocol):
    """A Keras model from a latent to an image: `dcgan.Generator` or `stylegan.StyleGenerator`.

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
