"""The GAN's training step: objectives, lazy penalties, augmentation, and the average of G."""

import math
from typing import Any

import keras
import tensorflow as tf

from cgan_tf.core import config as config_module
from cgan_tf.core import replicas
from cgan_tf.core.config import Config
from cgan_tf.editing import models
from cgan_tf.training import augment, loop, losses, optimizers

CLIP_VALUE = 0.01  # WGAN's weight clipping (Arjovsky et al. 2017, algorithm 1)
GP_WEIGHT = 10.0  # lambda of WGAN-GP (Gulrajani et al. 2017)
ADA_TARGET = 0.6  # target of the mean sign of D on reals (Karras et al. 2020a, section 3.1)
ADA_KIMG = 100.0  # in which ADA's probability can rise from 0 to 1; the paper: 500 of 25,000
EMA_RAMPUP = 0.05  # the half-life is at most this share of the images seen, as in StyleGAN2-ADA


class GAN(loop.Trainer):
    """G and D with one of `losses.OBJECTIVES`, lazy penalties and an average of G.

    With one D step per G step, both updates share one pass of G, and of D on the fakes: the players
    move simultaneously. With more, each D step and then the G step has fresh latents (Goodfellow et
    al. 2014, algorithm 1).

    Args:
        config: the resolved options.
        policy: dtype policy of the computation.
    """

    remedy = "lower --gan_g_lr and --gan_d_lr, or raise the weight of the penalty (--gan_gamma)"

    def __init__(self, config: Config, policy: str) -> None:
        super().__init__(name="gan")
        self.config = config
        self.objective = losses.OBJECTIVES[config.gan.objective]
        self.penalties = config_module.penalty_terms(config)
        # After this many steps, the D steps are a whole number of penalty intervals.
        if self.penalties:
            interval = config.gan.penalty_interval
            self.period = interval // math.gcd(interval, config.gan.d_steps)
        self._add_networks(policy)
        self.reset_average()
        self.g_optimizer = optimizers.Adam(config.gan.g_lr, *config.gan.betas)
        self.d_optimizer = optimizers.Adam(config.gan.d_lr, *config.gan.betas)
        g_variables, d_variables = self._all_variables()
        self.g_optimizer.build(g_variables)
        self.d_optimizer.build(d_variables)
        self.seed_generator = keras.random.SeedGenerator(config.seed)
        # Of ADA: the probability of each augmentation, and the moving average of sign(D(reals)).
        self.augment_p = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="augment_p"
        )
        self.real_sign = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="real_sign"
        )
        self.built = True

    def _add_networks(self, policy: str) -> None:
        config = self.config
        self.generator = models.build_generator(config, policy)
        self.discriminator = models.build_discriminator(config, policy)
        self.average = models.build_generator(config, name="average")  # float32, for later stages

    def checkpoint_parts(self) -> dict:
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "g_optimizer": self.g_optimizer,
            "d_optimizer": self.d_optimizer,
            "seed_generator": self.seed_generator,
            "ada": [self.augment_p, self.real_sign],
        }

    def samples(self, z: tf.Tensor) -> tf.Tensor:
        """Images of the averaged generator, float32 `[N, side, side, 3]`, from z `[N, z_dim]`."""
        return self.average.from_prior(z)

    def reset_average(self) -> None:
        """The average starts as G."""
        for mean, value in self._average_pairs():
            mean.assign(value)

    def weights_at(self, side: int) -> tuple[list, list]:
        """The weights of G and of D for images of a side, each in its network's order."""
        return self.generator.weights, self.discriminator.weights

    # Progressive growing overrides these: its networks have fewer levels at first.

    @property
    def g_variables(self) -> list:
        """The variables that a G step updates."""
        return self.generator.trainable_variables

    @property
    def d_variables(self) -> list:
        """The variables that a D step updates."""
        return self.discriminator.trainable_variables

    def _all_variables(self) -> tuple[list, list]:
        """All variables that some G step, and some D step, updates."""
        return self.g_variables, self.d_variables

    def _average_pairs(self) -> list[tuple]:
        """Each variable of the average, with G's."""
        return list(zip(self.average.variables, self.generator.variables, strict=True))

    def _preprocess_reals(self, reals: tf.Tensor) -> tf.Tensor:
        """The photos as input of D."""
        return reals

    def _generate(self, inputs: Any) -> tf.Tensor:
        """G's images from `_sample_inputs`."""
        return self.generator.training_images(inputs)

    def _discriminate(self, images: tf.Tensor) -> tf.Tensor:
        """D's logits `[N, 1]`."""
        return self.discriminator(images, training=True)

    # The training step.

    def variant(self, step: int) -> tuple[tuple[bool, ...]]:
        """Which of the step's D steps are penalized; see `train_step`."""
        d_steps, interval = self.config.gan.d_steps, self.config.gan.penalty_interval
        first = step * d_steps
        due = ((first + index) % interval == 0 for index in range(d_steps))
        return (tuple(bool(self.penalties) and is_due for is_due in due),)

    def train_step(self, data: tf.Tensor, penalized: tuple[bool, ...]) -> dict[str, tf.Tensor]:
        """One update of G and `d_steps` of D.

        Args:
            data: reals, float32 `[d_steps * N, R, R, 3]`.
            penalized: for each D step, whether the gradient penalties are part of it.
        """
        data = self._preprocess_reals(data)
        steps = self.config.gan.d_steps
        if steps == 1:
            logs = self._joint_step(data, penalized[0])
        else:
            parts = tf.split(data, steps)
            passes = [self._d_step(*part) for part in zip(parts, penalized, strict=True)]
            logs = {name: tf.add_n([p[name] for p in passes]) / steps for name in passes[0]}
            logs = {"g_loss": self._g_step(parts[0]), **logs}
        self._update_average()
        return logs

    def _joint_step(self, reals: tf.Tensor, penalized: bool) -> dict[str, tf.Tensor]:
        """Both players' updates from one pass of G, and one of D on reals and on fakes."""
        with tf.GradientTape(persistent=True) as tape:
            fakes = self._generate(self._sample_inputs())
            real_logits, fake_logits = self._logits(reals), self._logits(fakes)
            d_loss = self._d_loss(real_logits, fake_logits)
            g_loss = self.objective.generator(fake_logits, real_logits)
        g_gradients = tape.gradient(g_loss, self.g_variables)
        d_gradients = tape.gradient(d_loss, self.d_variables)
        self._update_augment_p(real_logits)
        logs = {"g_loss": g_loss, **self._d_logs(d_loss, real_logits, fake_logits)}
        d_gradients = self._add_penalties(d_gradients, reals, fakes, logs, penalized)
        self.g_optimizer.apply(g_gradients, self.g_variables)
        self._update_discriminator(d_gradients)
        return logs

    def _d_step(self, reals: tf.Tensor, penalized: bool) -> dict[str, tf.Tensor]:
        """One update of D alone, on fresh fakes."""
        fakes = self._generate(self._sample_inputs())
        with tf.GradientTape() as tape:
            real_logits, fake_logits = self._logits(reals), self._logits(fakes)
            d_loss = self._d_loss(real_logits, fake_logits)
        gradients = tape.gradient(d_loss, self.d_variables)
        self._update_augment_p(real_logits)
        logs = self._d_logs(d_loss, real_logits, fake_logits)
        gradients = self._add_penalties(gradients, reals, fakes, logs, penalized)
        self._update_discriminator(gradients)
        return logs

    def _g_step(self, reals: tf.Tensor) -> tf.Tensor:
        """One update of G alone, on fresh latents; only relativistic objectives use the reals."""
        real_logits = None
        if self.config.gan.objective in losses.RELATIVISTIC:
            real_logits = self._logits(reals)
        with tf.GradientTape() as tape:
            fake_logits = self._logits(self._generate(self._sample_inputs()))
            g_loss = self.objective.generator(fake_logits, real_logits)
        self.g_optimizer.apply(tape.gradient(g_loss, self.g_variables), self.g_variables)
        return g_loss

    def _sample_inputs(self) -> Any:
        """Fresh latents and noise for a batch of fakes: this replica's rows."""
        inputs = self.generator.sample_inputs(self.config.gan.batch_size, self.seed_generator)
        return tf.nest.map_structure(replicas.own_rows, inputs)

    def _logits(self, images: tf.Tensor) -> tf.Tensor:
        """D's logits `[N, 1]` of the augmented images."""
        gan = self.config.gan
        if gan.augment != "none":
            probability = self.augment_p if gan.augment == "ada" else 1.0
            images = augment.diff_augment(images, probability, self.seed_generator)
        return self._discriminate(images)

    def _d_loss(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        if self.config.gan.real_label < 1:
            return self.objective.discriminator(
                real_logits, fake_logits, self.config.gan.real_label
            )
        return self.objective.discriminator(real_logits, fake_logits)

    def _d_logs(
        self, d_loss: tf.Tensor, real_logits: tf.Tensor, fake_logits: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        logs = {"d_loss": d_loss}
        if self.config.gan.objective in losses.PROBABILITIES:
            logs["d_real"] = tf.reduce_mean(tf.sigmoid(real_logits))
            logs["d_fake"] = tf.reduce_mean(tf.sigmoid(fake_logits))
        else:
            logs["real_logits"] = tf.reduce_mean(real_logits)
            logs["fake_logits"] = tf.reduce_mean(fake_logits)
        if self.config.gan.augment == "ada":
            logs["augment_p"] = tf.convert_to_tensor(self.augment_p)
        return logs

    def _update_augment_p(self, real_logits: tf.Tensor) -> None:
        """Moves ADA's probability by the sign of D on reals (Karras et al. 2020a, section 3)."""
        if self.config.gan.augment != "ada":
            return
        batch_size = self.config.gan.batch_size
        decay = augment.ADA_DECAY**batch_size
        sign = replicas.batch_mean(tf.reduce_mean(tf.sign(real_logits)))
        self.real_sign.assign(decay * self.real_sign + (1.0 - decay) * sign)
        step = batch_size / (1000 * ADA_KIMG)
        moved = self.augment_p + step * tf.sign(self.real_sign - ADA_TARGET)
        self.augment_p.assign(tf.clip_by_value(moved, 0.0, 1.0))

    def _update_discriminator(self, gradients: list[tf.Tensor]) -> None:
        """D's update, followed by WGAN's weight clipping (Arjovsky et al. 2017, algorithm 1)."""
        variables = self.d_variables
        self.d_optimizer.apply(gradients, variables)
        if self.config.gan.objective == "wgan":
            for variable in variables:
                variable.assign(tf.clip_by_value(variable.value, -CLIP_VALUE, CLIP_VALUE))

    def _update_average(self) -> None:
        """One step of the moving average with the half-life `ema_kimg` (as in StyleGAN2-ADA)."""
        gan = self.config.gan
        kimg_per_step = gan.batch_size * gan.d_steps / 1000
        half_life = tf.constant(gan.ema_kimg)
        seen = kimg_per_step * tf.cast(self.g_optimizer.iterations, tf.float32)
        half_life = tf.minimum(half_life, EMA_RAMPUP * seen)
        decay = tf.pow(0.5, kimg_per_step / half_life) if gan.ema_kimg else 0.0
        for mean, value in self._average_pairs():
            mean.assign(value + decay * (mean - value))

    def _add_penalties(
        self,
        gradients: list[tf.Tensor],
        reals: tf.Tensor,
        fakes: tf.Tensor,
        logs: dict[str, tf.Tensor],
        penalized: bool,
    ) -> list[tf.Tensor]:
        """Adds the penalties' gradients to D's, if this is a penalized step; logs the penalties.

        A penalty is weighted by the interval (lazy regularization, Karras et al. 2020). It is
        logged times the interval, and as 0 in the other steps, so that its mean over a number of
        intervals is the mean penalty.
        """
        if not penalized:
            logs.update({name: tf.zeros(()) for name in self.penalties})
            return gradients
        values, penalty_gradients = self._penalty_gradients(reals, tf.stop_gradient(fakes))
        for name, value in zip(self.penalties, values, strict=True):
            logs[name] = value * self.config.gan.penalty_interval
        return [g + p for g, p in zip(gradients, penalty_gradients, strict=True)]

    def _penalty_gradients(
        self, reals: tf.Tensor, fakes: tf.Tensor
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Each penalty without its weight, and the gradients of their weighted sum."""
        gan = self.config.gan
        variables = [variable.value for variable in self.d_variables]

        values, loss = [], 0.0
        with tf.GradientTape() as tape:
            for name in self.penalties:
                if name == "r1":
                    value = losses.gradient_square_penalty(self._logits, reals)
                    loss += 0.5 * gan.gamma * value
                elif name == "r2":
                    value = losses.gradient_square_penalty(self._logits, fakes)
                    loss += 0.5 * gan.gamma * value
                else:
                    alpha = keras.random.uniform(
                        (gan.batch_size, 1, 1, 1), 0.0, 1.0, seed=self.seed_generator
                    )
                    points = losses.interpolate(reals, fakes, replicas.own_rows(alpha))
                    value = losses.gradient_norm_penalty(self._logits, points)
                    loss += GP_WEIGHT * value
                values.append(value)
            loss *= gan.penalty_interval
        # The input gradient does not depend on the last bias: zeros, not None.
        return values, tape.gradient(
            loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
