"""Stage 1 with --gan_progressive: the game of `gan`, level by level from 8 px (Karras et al. 2018).

Each level but the first fades in, and is then trained as it is. A level's optimizers and average
begin anew, since new layers join. The last stretch is the ordinary game and leaves ordinary models.
"""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from cgan_tf.core.config import Config
from cgan_tf.networks import growing
from cgan_tf.stages import gan
from cgan_tf.training import loop

GROWTH = 0.45  # share of the training for the levels below the last


class Level(NamedTuple):
    """A stretch of the training at one side, all of it fading in or none."""

    side: int
    fading: bool
    batch_size: int
    steps: int


def schedule(config: Config) -> list[Level]:
    """The stretches of a progressive training.

    The levels below the last share `GROWTH` of the training evenly; the last level gets the rest. Half
    of a lower level's length is its fade, and as much fades the last level in. Lengths are rounded
    up to whole steps.
    """
    levels = growing.sides(config.resolution)
    size = config.gan.batch_size
    lower = GROWTH * config.gan.kimg / max(1, len(levels) - 1)
    last = config.gan.kimg - lower * (len(levels) - 1)
    stretches = []
    for side in levels:
        length = lower if side < config.resolution else last
        fade = lower / 2 if side > levels[0] else 0.0
        for fading, kimg in ((True, fade), (False, length - fade)):
            if kimg > 0:
                steps = math.ceil(kimg * 1000 / (size * config.gan.d_steps))
                stretches.append(Level(side, fading, size, steps))
    return stretches


def make(config: Config, policy: str) -> gan.GAN:
    """The game that the options ask for, grown or not."""
    return (ProgressiveGAN if config.gan.progressive else gan.GAN)(config, policy)


class ProgressiveGAN(gan.GAN):
    """`gan.GAN`, its networks grown from 8 px to their side.

    Args:
        config: the resolved options.
        policy: dtype policy of the computation.
    """

    def __init__(self, config: Config, policy: str) -> None:
        self.levels = schedule(config)
        self.level = self.levels[0]
        super().__init__(config, policy)

    def _add_networks(self, policy: str) -> None:
        super()._add_networks(policy)
        self.grown = growing.grow(self.generator, policy)
        self.grown_average = growing.grow(self.average)
        self.grown_discriminator = growing.GrowingDiscriminator(self.discriminator, policy)

    def checkpoint_parts(self) -> dict:
        return super().checkpoint_parts() | {
            "generator": self.grown,
            "discriminator": self.grown_discriminator,
            "average": self.grown_average,
        }

    def stretches(self, kimg: float, batch_size: int) -> list[loop.Stretch]:
        """One for each of `levels`."""
        d_steps = self.config.gan.d_steps
        return [loop.Stretch(at.steps, at.batch_size * d_steps) for at in self.levels]

    def enter(self, index: int, anew: bool) -> None:
        """Goes to a level; its optimizers begin anew with it, not with its second stretch."""
        before = self.levels[index - 1].side if index else None
        self.level = self.levels[index]
        self.batch_size = self.level.batch_size
        if anew and before != self.level.side:
            for optimizer in (self.g_optimizer, self.d_optimizer):
                for variable in optimizer.variables:
                    if variable is not optimizer.learning_rate:
                        variable.assign(tf.zeros_like(variable.value))

    def samples(self, z: tf.Tensor) -> tf.Tensor:
        """Images of the averaged generator, at the level's side."""
        return self.grown_average.from_prior(z, self.level.side, self._alpha())

    @property
    def g_variables(self) -> list:
        return self.grown.trainable_at(self.level.side, self.level.fading)

    @property
    def d_variables(self) -> list:
        return self.grown_discriminator.trainable_at(self.level.side, self.level.fading)

    def _all_variables(self) -> tuple[list, list]:
        return self.grown.trainable_variables, self.grown_discriminator.trainable_variables

    def _averaged(self) -> list[tuple]:
        return list(zip(self.grown_average.variables, self.grown.variables, strict=True))

    def _alpha(self) -> tf.Tensor | None:
        """How far the level has come in, 0 to 1; None where it is all there."""
        if not self.level.fading:
            return None
        return tf.cast(self.g_optimizer.iterations, tf.float32) / self.level.steps

    def _photos(self, reals: tf.Tensor) -> tf.Tensor:
        return growing.fading_reals(reals, self.level.side, self._alpha())

    def _paint(self, drawn: Any) -> tf.Tensor:
        return self.grown.training_images(drawn, self.level.side, self._alpha())

    def _judge(self, images: tf.Tensor) -> tf.Tensor:
        return self.grown_discriminator(images, self.level.side, self._alpha(), training=True)
