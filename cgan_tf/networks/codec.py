"""Encoder and generator as a pair: photo to code, and code to image, with or without an edit."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from cgan_tf.networks.detail_features import DetailFeatures
from cgan_tf.networks.encoder import Encoder
from cgan_tf.networks.generators import AnyGenerator

# Scope of the operators that move latents. `export` finds them by it: they must not be quantized.
EDIT = "edit"
State = Sequence[tf.Tensor]


class Code(NamedTuple):
    """What the encoder finds in N photos."""

    latent: tf.Tensor  # float32 [N, *latent_shape]
    features: tf.Tensor  # float32 [N, *features_shape]


class Codec:
    """Encodes photos, and generates images from codes that are moved by offsets of the latent.

    `encode` and `generate` are made of the steps below them, which a training shares: a state is
    what the coarse half of the generator makes of a latent, its maps first.

    Args:
        encoder: E.
        generator: G, in the encoder's latent space.
        features: predicts and edits the detail features; None for a code of the latent alone, whose
            features have the shape `[N, 0]`.
    """

    def __init__(
        self, encoder: Encoder, generator: AnyGenerator, features: DetailFeatures | None = None
    ) -> None:
        self.encoder = encoder
        self.generator = generator
        self.features = features
        if features is not None:
            self.coarse, self._fine = generator.halves(features.side)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent."""
        return self.generator.latent_shape

    @property
    def features_shape(self) -> tuple[int, ...]:
        """Shape of the detail features of one photo; (0,) without them."""
        return (0,) if self.features is None else self.features.shape

    def encode(self, image: tf.Tensor) -> Code:
        """The code of images float32 `[N, R, R, 3]` in [-1, 1]."""
        image = tf.convert_to_tensor(image)
        latent = self.encoder(image, training=False)
        if self.features is None:
            return Code(latent, tf.zeros((tf.shape(image)[0], 0)))
        return Code(latent, self.predict(image, self.coarse(latent)))

    def generate(self, code: Code, offset: tf.Tensor | None = None) -> tf.Tensor:
        """The images float32 `[N, R, R, 3]` of codes.

        Args:
            code: of the photos.
            offset: added to the latents, float32 `[N, *latent_shape]`; None reconstructs the
                photos, and so does 0, up to rounding.
        """
        with tf.name_scope(EDIT):
            moved = code.latent if offset is None else code.latent + offset
        if self.features is None:
            return self.generator(moved, training=False)
        state = self.coarse(code.latent)
        if offset is None:
            return self.render(state, code.features)
        return self.render_edited(state, code.features, self.coarse(moved))

    def predict(self, image: tf.Tensor, state: State) -> tf.Tensor:
        """The detail features of images whose latents have the state."""
        return self.features.predict_features(image, self._fine(state), maps_of(state))

    def render(self, state: State, features: tf.Tensor) -> tf.Tensor:
        """The images of a state, with detail features added to its maps."""
        return self._fine([maps_of(state) + features, *state[1:]])

    def render_edited(self, state: State, features: tf.Tensor, moved: State) -> tf.Tensor:
        """The images of the state `moved`, with the detail features of `state` edited likewise."""
        maps = maps_of(state)
        return self.render(moved, self.features.edit(features, maps, maps_of(moved) - maps))


def maps_of(state: State) -> tf.Tensor:
    """The maps of a state, float32 `[N, side, side, C]`."""
    return tf.cast(state[0], tf.float32)
