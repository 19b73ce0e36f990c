"""Stage 1: the adversarial game. Leaves gan/model (averaged G) and gan/discriminator (D)."""

import keras
import numpy as np
import tensorflow as tf

from cgan_tf import artifact, data, losses, training
from cgan_tf.config import Config
from cgan_tf.data import images, pipeline
from cgan_tf.networks.dcgan import Discriminator, Generator
from cgan_tf.run import RunFolder

GRID = 64  # pictures in a sample grid, 8 x 8


class GAN(training.Trainer):
    """G and D with the non-saturating game, lazy R1 and an averaged G.

    One pass of G and one of D over the fakes serve both updates, so both players move at once.

    Args:
        config: the resolved options.
        policy: dtype policy of the computation.
    """

    remedy = "lower --g_lr and --d_lr, or raise --r1_gamma"

    def __init__(self, config: Config, policy: str) -> None:
        super().__init__(name="gan")
        self.config = config
        self.period = config.r1_interval if config.r1_gamma else 1
        generator = (config.resolution, config.z_dim, config.width, config.prior)
        self.generator = Generator(*generator, dtype=policy)
        self.discriminator = Discriminator(
            config.resolution, config.width, config.d_norm, config.minibatch_std, dtype=policy
        )
        self.average = Generator(*generator, name="average")  # float32: it is what others use
        for mean, value in zip(self.average.variables, self.generator.variables, strict=True):
            mean.assign(value)
        self.g_optimizer = keras.optimizers.Adam(config.g_lr, config.beta1, config.beta2)
        self.d_optimizer = keras.optimizers.Adam(config.d_lr, config.beta1, config.beta2)
        self.g_optimizer.build(self.generator.trainable_variables)
        self.d_optimizer.build(self.discriminator.trainable_variables)
        self.seed_generator = keras.random.SeedGenerator(config.seed)
        self.built = True

    def checkpoint_parts(self) -> dict:
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "g_optimizer": self.g_optimizer,
            "d_optimizer": self.d_optimizer,
            "seed_generator": self.seed_generator,
        }

    def train_step(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        """One update of both players on reals float32 `[N, R, R, 3]`."""
        config, generator, discriminator = self.config, self.generator, self.discriminator
        latent = generator.sample_prior(config.batch_size, self.seed_generator)
        with tf.GradientTape(persistent=True) as tape:
            fakes = generator(latent, training=True)
            real_logits = discriminator(data, training=True)
            fake_logits = discriminator(fakes, training=True)
            d_loss = losses.non_saturating_discriminator_loss(
                real_logits, fake_logits, config.real_label
            )
            g_loss = losses.non_saturating_generator_loss(fake_logits)
        g_gradients = tape.gradient(g_loss, generator.trainable_variables)
        d_gradients = tape.gradient(d_loss, discriminator.trainable_variables)
        logs = {
            "g_loss": g_loss,
            "d_loss": d_loss,
            "d_real": tf.reduce_mean(tf.sigmoid(real_logits)),
            "d_fake": tf.reduce_mean(tf.sigmoid(fake_logits)),
        }
        if config.r1_gamma:
            penalty, penalty_gradients = tf.cond(
                self.d_optimizer.iterations % config.r1_interval == 0,
                lambda: self._r1(data),
                lambda: (tf.zeros(()), [tf.zeros(g.shape, g.dtype) for g in d_gradients]),
            )
            d_gradients = [g + p for g, p in zip(d_gradients, penalty_gradients, strict=True)]
            logs["r1"] = penalty * config.r1_interval  # so that the tick's mean is the penalty's
        self.g_optimizer.apply(g_gradients, generator.trainable_variables)
        self.d_optimizer.apply(d_gradients, discriminator.trainable_variables)
        decay = 0.5 ** (config.batch_size / (1000 * config.ema_kimg)) if config.ema_kimg else 0.0
        for mean, value in zip(self.average.variables, generator.variables, strict=True):
            mean.assign(value + decay * (mean - value))
        return logs

    def _r1(self, reals: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The penalty and its gradients, weighted for being computed every `r1_interval` steps."""
        variables = [variable.value for variable in self.discriminator.trainable_variables]
        with tf.GradientTape() as tape:
            penalty = losses.r1_penalty(lambda x: self.discriminator(x, training=True), reals)
            loss = 0.5 * self.config.r1_gamma * self.config.r1_interval * penalty
        # The last bias has no part in the gradient: zeros, not None.
        return penalty, tape.gradient(
            loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )


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

    def picture(seen: int) -> None:
        fakes = trainer.average(fixed, training=False).numpy()
        images.save_png(
            stage.path / f"fakes{round(seen / 1000):06d}.png",
            images.grid(images.to_uint8(fakes), 8),
        )

    reals = dataset.read(dataset.splits["train"][:GRID])
    images.save_png(stage.path / "reals.png", images.grid(np.asarray(reals), 8))
    training.train(
        trainer,
        lambda step: pipeline.training_batches(
            dataset, "train", config.batch_size, config.seed, start_step=step, flip=config.flip
        ),
        config.kimg,
        config.batch_size,
        stage,
        config,
        picture=picture,
        picture_kimg=config.grid_kimg,
    )
    artifact.save_model(trainer.discriminator, stage.path / "discriminator")
    artifact.save_model(trainer.average, stage.model)
    stage.finish(kimg=config.kimg)
