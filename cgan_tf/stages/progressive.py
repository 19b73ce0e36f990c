"""Stage 1 with --gan_progressive: the GAN, grown level by level from 8 px (Karras et al. 2018).

Each level but the first fades in, then trains in full. Its optimizers start from scratch, because
new layers join, and so does the ramp-up of the average. The last phase is the ordinary training, of
ordinary networks. With --init_from a run of half the resolution, only the last level is grown.
"""

import math
from typing import Any, NamedTuple

import tensorflow as tf

from cgan_tf.core.config import Config
from cgan_tf.networks import growing
from cgan_tf.stages import gan_trainer

GROWTH = 0.45  # share of the training for the levels below the last


class Level(NamedTuple):
    """A phase of the training: one side in px, either fading in or in full."""

    side: int
    fading: bool
    steps: int


def schedule(config: Config, trained: int | None = None) -> list[Level]:
    """The phases of a progressive training.

    The levels below the last share `GROWTH` of the training evenly; the last level gets the rest.
    Half of a lower level's length is its fade, and the last level fades in for as long. Lengths are
    rounded up to complete steps.

    Args:
        config: the resolved options.
        trained: half the resolution, if the networks of that level are trained already. Then the
            last level has the entire training, and fades in during half of `GROWTH`.
    """
    if trained:
        fade = GROWTH / 2 * config.gan.kimg
        return _levels(config, {config.resolution: (fade, config.gan.kimg - fade)})
    sides = growing.sides(config.resolution)
    lower = GROWTH * config.gan.kimg / max(1, len(sides) - 1)
    last = config.gan.kimg - lower * (len(sides) - 1)
    lengths = {}
    for side in sides:
        length = lower if side < config.resolution else last
        fade = lower / 2 if side > sides[0] else 0.0
        lengths[side] = fade, length - fade
    return _levels(config, lengths)


def _levels(config: Config, lengths: dict[int, tuple[float, float]]) -> list[Level]:
    """The phases of these sides, from the kimg of each fade and of the rest of its level."""
    batch_size = config.gan.batch_size * config.gan.d_steps
    return [
        Level(side, fading, math.ceil(kimg * 1000 / batch_size))
        for side, parts in lengths.items()
        for fading, kimg in zip((True, False), parts, strict=True)
        if kimg > 0
    ]


def make_trainer(config: Config, policy: str, trained: int | None = None) -> gan_trainer.GAN:
    """The trainer that the options request, progressive or not.

    Args:
        config: the resolved options.
        policy: dtype policy of the computation.
        trained: resolution of the networks that the training starts from; None for fresh ones.
    """
    if trained and trained < config.resolution:
        return ProgressiveGAN(config, policy, trained)
    return (ProgressiveGAN if config.gan.progressive else gan_trainer.GAN)(config, policy)


class ProgressiveGAN(gan_trainer.GAN):
    """`GAN` with networks that grow from 8 px to their resolution.

    Args:
        config: the resolved options.
        policy: dtype policy of the computation.
        trained: see `schedule`.
    """

    def __init__(self, config: Config, policy: str, trained: int | None = None) -> None:
        self.levels = schedule(config, trained)
        self.level = self.levels[0]
        self.level_start = 0  # the step at which the optimizers were fresh
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

    def phases(self, kimg: float, batch_size: int) -> list[int]:
        """One for each of `levels`."""
        return [level.steps for level in self.levels]

    def begin_phase(self, index: int, fresh: bool) -> None:
        """Moves to a level; its optimizers start from scratch when its first phase does."""
        self.level = self.levels[index]
        first = next(n for n, level in enumerate(self.levels) if level.side == self.level.side)
        self.level_start = sum(level.steps for level in self.levels[:first])
        if fresh and index == first:
            for optimizer in (self.g_optimizer, self.d_optimizer):
                for variable in optimizer.variables:
                    if variable is not optimizer.learning_rate:
                        variable.assign(tf.zeros_like(variable.value))

    def variant(self, step: int) -> tuple[tuple[bool, ...]]:
        """As D's optimizer, the penalty interval starts over with each level."""
        return super().variant(step - self.level_start)

    def weights_at(self, side: int) -> tuple[list, list]:
        """The weights of both networks at a level without fading, in the order of ordinary ones."""
        return self.grown.weights_at(side), self.grown_discriminator.weights_at(side)

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

    def _average_pairs(self) -> list[tuple]:
        return list(zip(self.grown_average.variables, self.grown.variables, strict=True))

    def _alpha(self) -> tf.Tensor | None:
        """The weight of the level while it fades in, 0 to 1; None afterwards."""
        if not self.level.fading:
            return None
        return tf.cast(self.g_optimizer.iterations, tf.float32) / self.level.steps

    def _preprocess_reals(self, reals: tf.Tensor) -> tf.Tensor:
        return growing.fade_reals(reals, self.level.side, self._alpha())

    def _generate(self, inputs: Any) -> tf.Tensor:
        return self.grown.training_images(inputs, self.level.side, self._alpha())

    def _discriminate(self, images: tf.Tensor) -> tf.Tensor:
        return self.grown_discriminator(images, self.level.side, self._alpha(), training=True)
