"""A conditional discriminator with an attribute classifier on the same trunk.

The classifier is AC-GAN's (Odena et al. 2017). The condition is an inner product with the coarsest
maps (Miyato and Koyama 2018, "cGANs with Projection Discriminator"), of one attribute at a time.
"""

import keras
from keras import layers

from cgan_tf.networks.dcgan import LOWEST


class AttributeDiscriminator(keras.Model):
    """Logits of realism, and of each attribute, from the coarsest maps of a discriminator.

    The discriminator's own head is replaced: its minibatch statistic compares samples with each
    other, and would set the size of the batches.

    Args:
        discriminator: a DCGAN or residual discriminator; the layers of its trunk are shared.
        count: number of attributes.
        dtype: dtype policy of the computation; all logits are float32.

    Call arguments:
        images: float32 `[N, R, R, 3]` in [-1, 1].

    Returns:
        Raw logits, float32 `[N, 1]`, attribute logits, float32 `[N, count]`, and conditions,
        `[N, count]`, which start at 0: the logit of a real image with attribute k is logit +
        condition k, of one without it logit - condition k.
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
        conditions = layers.Dense(
            count, use_bias=False, kernel_initializer="zeros", dtype="float32", name="conditions"
        )(maps)
        super().__init__(discriminator.input, [logits, attributes, conditions], name=name)
