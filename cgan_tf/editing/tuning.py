"""Pivotal tuning (Roich et al. 2022): adapts the generator to one photo.

The photo's code, the pivot, is fixed, and the generator's weights are trained for a few steps to
reconstruct the photo from it. `projection` is the opposite: it optimizes the code of a fixed
generator. `cgan translate --tune` tunes its copy in memory; the model on disk does not change.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from cgan_tf.editing.projection import Projector, Settings
from cgan_tf.networks.codec import Code, Codec
from cgan_tf.networks.vgg import Perceptual
from cgan_tf.training import optimizers

LEARNING_RATE = 1e-4  # of Adam
NEIGHBORS = 16  # number of latents near the pivot whose images must not change
NEAR = 0.5  # their place on the way from the pivot to a sample of the prior, as a fraction
LOCALITY_WEIGHT = 0.3  # of the change of their images


class Tuner:
    """Trains the generator of a codec on one photo at a time.

    The loss is distance(G(pivot), photo) + LOCALITY_WEIGHT * distance(G(u), G0(u)), where G0 is the
    original generator and u a latent near the pivot's (equations 2 and 5 of the paper, where u has
    a fixed distance from the pivot), with the pivot's detail features, if there are any. The
    distance is pixel_weight * mean squared error + feature_weight * perceptual distance.

    Args:
        codec: after each photo its generator's weights are reset.
        perceptual: the perceptual distance.
        settings: gives the two weights and the seed.
    """

    def __init__(self, codec: Codec, perceptual: Perceptual, settings: Settings) -> None:
        self.codec = codec
        self.generator = generator = codec.generator
        self.perceptual = perceptual
        self.settings = settings
        self._neighbors = generator.sample_latent(NEIGHBORS, seed=settings.seed)
        self.variables = self._synthesis_variables()
        self.optimizer = optimizers.Adam(LEARNING_RATE, beta_2=0.99)
        self.optimizer.build(self.variables)
        self._state = [*self.variables, *self.optimizer.variables]
        self._initial = [variable.numpy() for variable in self._state]
        self._advance = tf.function(self._step, autograph=False)
        image = tf.TensorSpec((None, generator.resolution, generator.resolution, 3), tf.float32)
        self._extract = tf.function(perceptual.features, input_signature=[image], autograph=False)

    def _synthesis_variables(self) -> list:
        """The variables between latent and image: in w without StyleGAN's mapping network."""
        variables = self.generator.trainable_variables
        with tf.GradientTape() as tape:
            image = self.generator(self._neighbors[:1], training=False)
        gradients = tape.gradient(image, variables)
        return [one for one, slope in zip(variables, gradients, strict=True) if slope is not None]

    @classmethod
    def of(cls, projector: Projector) -> "Tuner":
        """With the codec, distance and settings of a projector, but always with features."""
        settings = dataclasses.replace(projector.settings, feature_weight=Settings.feature_weight)
        return cls(projector.codec, projector.perceptual, settings)

    @contextlib.contextmanager
    def tuned(
        self, photo: np.ndarray, code: Mapping[str, np.ndarray], steps: int
    ) -> Iterator[None]:
        """Within the context the generator is tuned to the photo; afterwards it is reset.

        Args:
            photo: float32 `[R, R, 3]` in [-1, 1].
            code: the pivot: `latent`, and `features` if the model has them.
            steps: number of Adam steps.
        """
        pivot = tf.constant(code["latent"][None], tf.float32)
        near = pivot + NEAR * (self._neighbors - pivot)  # [NEIGHBORS, *latent_shape]
        detail = code.get("features", np.zeros(self.codec.features_shape, np.float32))[None]
        originals = self._generate(near, detail)
        targets = tf.concat([tf.constant(photo[None], tf.float32), originals], axis=0)
        latents = tf.concat([pivot, near], axis=0)
        features = self._extract(targets) if self.settings.feature_weight else []
        try:
            for step in range(steps):
                rows = tf.constant([0, 1 + step % NEIGHBORS])
                self._advance(
                    *(tf.gather(part, rows) for part in (latents, targets)),
                    [tf.gather(part, rows) for part in features],
                    tf.constant(detail),
                )
            yield
        finally:
            for variable, value in zip(self._state, self._initial, strict=True):
                variable.assign(value)

    def _generate(self, latents: tf.Tensor, detail: tf.Tensor) -> tf.Tensor:
        """The images of latents `[N, *latent_shape]`, all with the same detail features."""
        return self.codec.generate(Code(latents, tf.repeat(detail, latents.shape[0], axis=0)))

    def _step(
        self, latents: tf.Tensor, targets: tf.Tensor, features: list[tf.Tensor], detail: tf.Tensor
    ) -> None:
        """One update on the pivot and one neighbor, `[2, ...]` each.

        Args:
            latents: of both.
            targets: their images.
            features: the perceptual features of the targets.
            detail: the detail features `[1, *features_shape]` of the pivot.
        """
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in self.variables])
            outputs = self._generate(latents, detail)
            distances = self.settings.pixel_weight * tf.reduce_mean(
                tf.square(outputs - targets), axis=(1, 2, 3)
            )
            if self.settings.feature_weight:
                distances += self.settings.feature_weight * self.perceptual.between(
                    self.perceptual.features(outputs), features
                )
            loss = distances[0] + LOCALITY_WEIGHT * distances[1]
        self.optimizer.apply(tape.gradient(loss, self.variables), self.variables)
