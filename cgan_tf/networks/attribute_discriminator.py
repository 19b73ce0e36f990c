"""A discriminator with an attribute classifier on the same trunk (Odena et al. 2017, AC-GAN)."""

import keras
from keras import layers

from cgan_tf.networks.dcgan import LOWEST


class AttributeDiscriminator(keras.Model):
    """One logit, and one logit per attribute, from the coarsest maps of a discriminator.

    The discriminator's own head is replaced: its minibatch statistic compares samples with each
    other, and would set the size of the batches.

    Args:
        discriminator: a DCGAN or residual discriminator; the layers of its trunk are shared.
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
        maps = layers.Flatten(dtype=dtype)(discriminator.maps[LOWEST])
        logits = layers.Dense(1, dtype="float32", name="logits")(maps)
        attributes = layers.Dense(count, dtype="float32", name="attributes")(maps)
        super().__init__(discriminator.input, [logits, attributes], name=name)
