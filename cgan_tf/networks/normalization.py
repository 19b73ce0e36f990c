"""Batch normalization over the global batch, whatever the number of replicas."""

from typing import Any

import keras
import tensorflow as tf

from cgan_tf import distribution


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer (Ioffe & Szegedy 2015) with moments of the global batch, of any derivative.

    Keras takes the variance around a mean that it holds constant. That is right in the first
    derivative, where the mean's part is zero, but not in the second, which a penalty on D's
    gradient needs. Between replicas it takes E x^2 - (E x)^2, which cancels digits.
    """

    def _moments(self, inputs: tf.Tensor, mask: None) -> tuple[tf.Tensor, tf.Tensor]:
        axes = self._reduction_axes
        mean = distribution.batch_mean(tf.reduce_mean(inputs, axes))
        squares = tf.math.squared_difference(inputs, mean)
        return mean, distribution.batch_mean(tf.reduce_mean(squares, axes))


def batch_normalization(penalized: bool = False, **options: Any) -> keras.layers.Layer:
    """Keras's layer where that is enough: on one replica and for first derivatives.

    Args:
        penalized: a penalty may be put on the network's gradient.
        options: of the layer.
    """
    several = distribution.replicas() > 1
    layer = BatchNormalization if penalized or several else keras.layers.BatchNormalization
    return layer(**options)
