"""A discriminator with an attribute classifier on the same trunk (Odena et al. 2017, AC-GAN)."""

import keras
from keras import layers

from cgan_tf.networks.dcgan import LOWEST


class AttributeDiscriminator(keras.Model):
    """A discriminator, and one logit per attribute from its coarsest maps.

    Args:
        discriminator: a DCGAN or residual discriminator; its layers are shared.
        count: number of attributes.
        dtype: dtype policy of the computation; all logits are float32.

    Call arguments:
        images: float32 `[N, R, R, 3]` in [-1, 1].

    Returns:
        Raw logits, float32 `[N, 1]`, and attribute logits, float32 `[N, count]`.
    """

    def __init__(
        self,
        discriminator: keras.Model,
        count: int,
        dtype: str = "float32",
        name: str = "attribute_discriminator",
    ) -> None:
        maps = discriminator.maps[LOWEST]
        x = layers.Flatten(dtype=dtype)(maps)
        attributes = layers.Dense(count, dtype="float32", name="attributes")(x)
        super().__init__(discriminator.input, [discriminator.output, attributes], name=name)
