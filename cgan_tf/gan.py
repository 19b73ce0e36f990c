"""Stage 1: the adversarial game. Leaves gan/model (averaged G) and gan/discriminator (D)."""

import math

import keras
import numpy as np
import tensorflow as tf

from cgan_tf import artifact, augment, data, losses, metrics, optimizers, training
from cgan_tf import config as config_module
from cgan_tf.config import Config
from cgan_tf.data import images, pipeline
from cgan_tf.errors import UserError
from cgan_tf.networks.dcgan import Discriminator, Generator
from cgan_tf.run import RunFolder

GRID = 64  # pictures in a sample grid, 8 x 8
COLLAPSE_KIMG = 20  # before that, an undecided generator paints all samples alike
CLIP_VALUE = 0.01  # of WGAN, Arjovsky et al. 2017, algorithm 1


class GAN(training.Trainer):
    """G and D with one of the `losses.OBJECTIVES`, lazy penalties and an averaged G.

    With one D step for one G step, one pass of G and one of D over the fakes serve both updates, so
    both players move at once. With more, each D step and then G's has fresh noise, as Goodfellow et
    al. 2014 state the algorithm.

    Args:
        config: the resolved options.
        policy: dtype policy of the computation.
    """

    remedy = "lower --g_lr and --d_lr, or raise the penalty's weight (--r1_gamma)"

    def __init__(self, config: Config, policy: str) -> None:
        super().__init__(name="gan")
        self.config = config
        self.objective = losses.OBJECTIVES[config.objective]
        self.penalty = config_module.penalty(config)
        self.penalty_interval = config_module.penalty_interval(config)
        # After so many steps D has made a whole number of intervals.
        if self.penalty:
            self.period = self.penalty_interval // math.gcd(self.penalty_interval, config.d_steps)
        generator = (
            config.resolution, config.z_dim, config.width, config.prior, config.g_norm,
            config.equalized_lr,
        )  # fmt: skip
        self.generator = Generator(*generator, dtype=policy)
        self.discriminator = Discriminator(
            config.resolution, config.width, config.d_norm, config.minibatch_std,
            config.equalized_lr, dtype=policy,
        )  # fmt: skip
        self.average = Generator(*generator, name="average")  # float32: it is what others use
        for mean, value in zip(self.average.variables, self.generator.variables, strict=True):
            mean.assign(value)
        self.g_optimizer = optimizers.Adam(config.g_lr, config.beta1, config.beta2)
        self.d_optimizer = optimizers.Adam(config.d_lr, config.beta1, config.beta2)
        self.g_optimizer.build(self.generator.trainable_variables)
        self.d_optimizer.build(self.discriminator.trainable_variables)
        self.seed_generator = keras.random.SeedGenerator(config.seed)
        # Of ada: the probability of each change, and the running mean of sign(D(reals)).
        self.augment_p = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="augment_p"
        )
        self.real_sign = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="real_sign"
        )
        self.built = True

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

    def train_step(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        """One update of G and `d_steps` of D on reals float32 `[d_steps * N, R, R, 3]`."""
        steps = self.config.d_steps
        if steps == 1:
            logs = self._joint_step(data)
        else:
            passes = [self._d_step(reals) for reals in tf.split(data, steps)]
            logs = {name: tf.add_n([p[name] for p in passes]) / steps for name in passes[0]}
            logs = {"g_loss": self._g_step(data[: self.config.batch_size]), **logs}
        self._update_average()
        return logs

    def _joint_step(self, reals: tf.Tensor) -> dict[str, tf.Tensor]:
        """Both players' update from one pass of G, and one of D on reals and on fakes."""
        generator, discriminator = self.generator, self.discriminator
        latent = generator.sample_prior(self.config.batch_size, self.seed_generator)
        with tf.GradientTape(persistent=True) as tape:
            fakes = generator(latent, training=True)
            real_logits = self._discriminate(reals)
            fake_logits = self._discriminate(fakes)
            d_loss = self._d_loss(real_logits, fake_logits)
            g_loss = self.objective.generator(fake_logits, real_logits)
        g_gradients = tape.gradient(g_loss, generator.trainable_variables)
        d_gradients = tape.gradient(d_loss, discriminator.trainable_variables)
        logs = {"g_loss": g_loss, **self._d_logs(d_loss, real_logits, fake_logits)}
        d_gradients = self._add_penalty(d_gradients, reals, fakes, logs)
        self.g_optimizer.apply(g_gradients, generator.trainable_variables)
        self._apply_d(d_gradients)
        return logs

    def _d_step(self, reals: tf.Tensor) -> dict[str, tf.Tensor]:
        """One update of D alone, on fresh fakes."""
        discriminator = self.discriminator
        latent = self.generator.sample_prior(self.config.batch_size, self.seed_generator)
        fakes = self.generator(latent, training=True)
        with tf.GradientTape() as tape:
            real_logits = self._discriminate(reals)
            fake_logits = self._discriminate(fakes)
            d_loss = self._d_loss(real_logits, fake_logits)
        gradients = tape.gradient(d_loss, discriminator.trainable_variables)
        logs = self._d_logs(d_loss, real_logits, fake_logits)
        self._apply_d(self._add_penalty(gradients, reals, fakes, logs))
        return logs

    def _g_step(self, reals: tf.Tensor) -> tf.Tensor:
        """One update of G alone, on fresh noise; only the relativistic games look at the reals."""
        generator = self.generator
        latent = generator.sample_prior(self.config.batch_size, self.seed_generator)
        real_logits = None
        if self.config.objective in losses.RELATIVISTIC:
            real_logits = self._discriminate(reals)
        with tf.GradientTape() as tape:
            fake_logits = self._discriminate(generator(latent, training=True))
            g_loss = self.objective.generator(fake_logits, real_logits)
        gradients = tape.gradient(g_loss, generator.trainable_variables)
        self.g_optimizer.apply(gradients, generator.trainable_variables)
        return g_loss

    def _discriminate(self, images: tf.Tensor) -> tf.Tensor:
        """D's logits `[N, 1]` of what the augmentation makes of the images."""
        config = self.config
        if config.augment != "none":
            probability = self.augment_p if config.augment == "ada" else 1.0
            images = augment.diff_augment(
                images, config.augment_ops, probability, self.seed_generator
            )
        return self.discriminator(images, training=True)

    def _d_logs(
        self, d_loss: tf.Tensor, real_logits: tf.Tensor, fake_logits: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        logs = {"d_loss": d_loss}
        if self.config.objective in losses.PROBABILITIES:
            logs["d_real"] = tf.reduce_mean(tf.sigmoid(real_logits))
            logs["d_fake"] = tf.reduce_mean(tf.sigmoid(fake_logits))
        else:
            logs["real_logits"] = tf.reduce_mean(real_logits)
            logs["fake_logits"] = tf.reduce_mean(fake_logits)
        if self.config.augment == "ada":
            self._steer(real_logits)
            logs["augment_p"] = tf.convert_to_tensor(self.augment_p)
        return logs

    def _steer(self, real_logits: tf.Tensor) -> None:
        """Moves ada's probability by the sign of D on reals (Karras et al. 2020, section 3)."""
        config = self.config
        memory = augment.ADA_MEMORY**config.batch_size
        sign = tf.reduce_mean(tf.sign(real_logits))
        self.real_sign.assign(memory * self.real_sign + (1.0 - memory) * sign)
        step = config.batch_size / (1000 * config.ada_kimg)
        moved = self.augment_p + step * tf.sign(self.real_sign - config.ada_target)
        self.augment_p.assign(tf.clip_by_value(moved, 0.0, 1.0))

    def _d_loss(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        if self.config.real_label < 1:
            return self.objective.discriminator(real_logits, fake_logits, self.config.real_label)
        return self.objective.discriminator(real_logits, fake_logits)

    def _apply_d(self, gradients: list[tf.Tensor]) -> None:
        """D's update, and after it the clipping of WGAN (Arjovsky et al. 2017, algorithm 1)."""
        variables = self.discriminator.trainable_variables
        self.d_optimizer.apply(gradients, variables)
        if self.config.objective == "wgan":
            limit = self.config.clip_value or CLIP_VALUE
            for variable in variables:
                variable.assign(tf.clip_by_value(variable.value, -limit, limit))

    def _update_average(self) -> None:
        """Moves the average by one step of `ema_kimg`'s half-life (Karras et al. 2020, ramp-up)."""
        config = self.config
        a_step = config.batch_size * config.d_steps / 1000  # kimg
        half_life = tf.constant(config.ema_kimg)
        if config.ema_rampup:
            seen = a_step * tf.cast(self.g_optimizer.iterations, tf.float32)
            half_life = tf.minimum(half_life, config.ema_rampup * seen)
        decay = tf.pow(0.5, a_step / half_life) if config.ema_kimg else 0.0
        for mean, value in zip(self.average.variables, self.generator.variables, strict=True):
            mean.assign(value + decay * (mean - value))

    def _add_penalty(
        self,
        gradients: list[tf.Tensor],
        reals: tf.Tensor,
        fakes: tf.Tensor,
        logs: dict[str, tf.Tensor],
    ) -> list[tf.Tensor]:
        """D's gradients with the penalties', every `penalty_interval` D steps; logs each penalty.

        The weight is multiplied by the interval (lazy regularization, Karras et al. 2020).
        """
        if not self.penalty:
            return gradients
        interval = self.penalty_interval
        penalties, extra = tf.cond(
            self.d_optimizer.iterations % interval == 0,
            lambda: self._penalties(reals, tf.stop_gradient(fakes)),
            lambda: (
                [tf.zeros(()) for _ in self.penalty],
                [tf.zeros(g.shape, g.dtype) for g in gradients],
            ),
        )
        for name, value in zip(self.penalty, penalties, strict=True):
            logs[name] = value * interval  # so that the tick's mean is the penalty's
        return [g + p for g, p in zip(gradients, extra, strict=True)]

    def _penalties(
        self, reals: tf.Tensor, fakes: tf.Tensor
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Each penalty without its weight, and the gradients of their weighted sum."""
        config = self.config
        variables = [variable.value for variable in self.discriminator.trainable_variables]

        values, loss = [], 0.0
        with tf.GradientTape() as tape:
            for name in self.penalty:
                if name == "r1":
                    value = losses.gradient_square_penalty(self._discriminate, reals)
                    loss += 0.5 * config.r1_gamma * value
                elif name == "r2":
                    value = losses.gradient_square_penalty(self._discriminate, fakes)
                    loss += 0.5 * config.r2_gamma * value
                else:
                    alpha = keras.random.uniform(
                        (config.batch_size, 1, 1, 1), 0.0, 1.0, seed=self.seed_generator
                    )
                    points = losses.interpolate(reals, fakes, alpha)
                    value = losses.gradient_norm_penalty(self._discriminate, points)
                    loss += config.gp_weight * value
                values.append(value)
            loss *= self.penalty_interval
        # The last bias has no part in the gradient: zeros, not None.
        return values, tape.gradient(
            loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )


def mean_distance(images: np.ndarray) -> float:
    """Root mean square difference of two images, the mean over all pairs of `[N, H, W, 3]`."""
    rows = np.asarray(images, np.float64).reshape(len(images), -1)
    squares = metrics.squared_distances(rows, rows) / rows.shape[1]
    return float(np.sqrt(squares[np.triu_indices(len(rows), 1)]).mean())


def run(config: Config, folder: RunFolder, dataset: data.ImageData) -> None:
    """Trains G and D in `folder`/gan, or goes on, or says that it has finished.

    Args:
        config: the resolved options.
        folder: the run.
        dataset: its train split is what D calls real.
    """
    stage = folder.stage("gan")
    if not stage.begin(config, dataset.digest):
        return
    training.seed_everything(config)
    trainer = GAN(config, training.compute_policy(config))
    fixed = trainer.generator.sample_prior(GRID, seed=config.seed)

    reals = dataset.read(dataset.splits["train"][:GRID])
    spread = config.collapse_ratio * mean_distance(images.to_float(reals))

    def picture(seen: int) -> None:
        fakes = trainer.average(fixed, training=False).numpy()
        images.save_png(
            stage.path / f"fakes{round(seen / 1000):06d}.png",
            images.grid(images.to_uint8(fakes), 8),
        )
        if seen >= 1000 * COLLAPSE_KIMG and mean_distance(fakes) < spread:
            raise UserError(
                f"gan: collapsed at {seen / 1000:.2f} kimg: {GRID} samples differ by "
                f"{mean_distance(fakes):.3g} on average, less than --collapse_ratio="
                f"{config.collapse_ratio:g} of what photos do; the last checkpoint is kept; "
                f"{trainer.remedy}, with --restart"
            )

    images.save_png(stage.path / "reals.png", images.grid(np.asarray(reals), 8))
    reals_a_step = config.batch_size * config.d_steps  # kimg counts what D has seen
    training.train(
        trainer,
        lambda step: pipeline.training_batches(
            dataset, "train", reals_a_step, config.seed, start_step=step, flip=config.flip
        ),
        config.kimg,
        reals_a_step,
        stage,
        config,
        picture=picture,
        picture_kimg=config.grid_kimg,
    )
    artifact.save_model(trainer.discriminator, stage.path / "discriminator")
    artifact.save_model(trainer.average, stage.model)
    stage.finish(kimg=config.kimg)
