"""Stage 1: the adversarial game. Leaves gan/model (averaged G) and gan/discriminator (D)."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cgan_tf import data
from cgan_tf.core import artifact, replicas
from cgan_tf.core import config as config_module
from cgan_tf.core.config import Config
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import images, pipeline
from cgan_tf.editing import models
from cgan_tf.evaluation import metrics
from cgan_tf.networks.dcgan import Discriminator
from cgan_tf.networks.stylegan import StyleGenerator
from cgan_tf.training import augment, loop, losses, optimizers, precision

GRID = 64  # pictures in a sample grid, 8 x 8
TRUNCATIONS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
COARSE = 8  # px: what layers up to here decide on is coarse
COLLAPSE_KIMG = 20  # before that, an undecided generator paints all samples alike
COLLAPSE_RATIO = 0.1  # mean distance between samples, relative to photos, that counts as collapse
GRIDS = 20  # sample grids per training
CLIP_VALUE = 0.01  # WGAN's weight clipping (Arjovsky et al. 2017, algorithm 1)
GP_WEIGHT = 10.0  # lambda of WGAN-GP (Gulrajani et al. 2017)
ADA_TARGET = 0.6  # mean sign of D on reals that ADA aims at (Karras et al. 2020a, section 3.1)
ADA_KIMG = 100.0  # in which ADA's probability can go from 0 to 1; the paper takes 500 of 25,000
EMA_RAMPUP = 0.05  # the half-life is at most this fraction of the images seen, as in StyleGAN2-ADA


class GAN(loop.Trainer):
    """G and D with one of the `losses.OBJECTIVES`, lazy penalties and an averaged G.

    With one D step for one G step, one pass of G and one of D over the fakes serve both updates, so
    both players move at once. With more, each D step and then G's has fresh noise, as Goodfellow et
    al. 2014 state the algorithm.

    Args:
        config: the resolved options.
        policy: dtype policy of the computation.
    """

    remedy = "lower --gan_g_lr and --gan_d_lr, or raise the penalty's weight (--gan_gamma)"

    def __init__(self, config: Config, policy: str) -> None:
        super().__init__(name="gan")
        self.config = config
        self.objective = losses.OBJECTIVES[config.gan.objective]
        self.penalty = config_module.penalty_terms(config)
        self.penalty_interval = config.gan.penalty_interval
        # After so many steps D has made a whole number of intervals.
        if self.penalty:
            self.period = self.penalty_interval // math.gcd(self.penalty_interval, config.gan.d_steps)
        self.batch_size = config.gan.batch_size
        self._add_networks(policy)
        for mean, value in self._averaged():
            mean.assign(value)
        self.g_optimizer = optimizers.Adam(config.gan.g_lr, *config.gan.betas)
        self.d_optimizer = optimizers.Adam(config.gan.d_lr, *config.gan.betas)
        every = self._all_variables()
        self.g_optimizer.build(every[0])
        self.d_optimizer.build(every[1])
        self.seed_generator = keras.random.SeedGenerator(config.seed)
        # Of ada: the probability of each change, and the running mean of sign(D(reals)).
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
        self.discriminator = Discriminator(
            config.resolution, config.gan.width, config.gan.d_norm, config.gan.minibatch_std,
            config.gan.equalized_lr, dtype=policy,
        )  # fmt: skip
        self.average = models.build_generator(config, name="average")  # float32: others use it

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
        """Images of the averaged generator, float32 `[N, side, side, 3]`, of z `[N, z_dim]`."""
        return self.average.from_prior(z)

    # What an update takes part in; progressive growing has less of it at first.

    @property
    def g_variables(self) -> list:
        """What an update of G moves."""
        return self.generator.trainable_variables

    @property
    def d_variables(self) -> list:
        """What an update of D moves."""
        return self.discriminator.trainable_variables

    def _all_variables(self) -> tuple[list, list]:
        """All that G's updates, and D's, ever move."""
        return self.g_variables, self.d_variables

    def _averaged(self) -> list[tuple]:
        """Each variable of the average with G's own."""
        return list(zip(self.average.variables, self.generator.variables, strict=True))

    def _photos(self, reals: tf.Tensor) -> tf.Tensor:
        """The photos as D sees them."""
        return reals

    def _paint(self, drawn: Any) -> tf.Tensor:
        """G's images of `_draw`."""
        return self.generator.training_images(drawn)

    def _judge(self, images: tf.Tensor) -> tf.Tensor:
        """D's logits `[N, 1]`."""
        return self.discriminator(images, training=True)

    def distributed_step(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        """See `training.Trainer`.

        With batch norm in D, replicas exchange statistics in the penalties too. They cannot do so
        inside of `_add_penalty`'s tf.cond, so the choice is made around the step.
        """
        interval, steps = self.penalty_interval, self.config.gan.d_steps
        alone = self.distribute_strategy.num_replicas_in_sync == 1
        if alone or not self.penalty or self.config.gan.d_norm != "batch":
            return super().distributed_step(data)
        # By D's iterations modulo the interval: which of the step's D steps are penalized.
        due = [
            tuple((first + index) % interval == 0 for index in range(steps))
            for first in range(interval)
        ]
        kinds = sorted(set(due))
        kind = tf.gather(
            [kinds.index(which) for which in due], self.d_optimizer.iterations % interval
        )
        step = super().distributed_step
        return tf.switch_case(kind, [lambda which=which: step(data, which) for which in kinds])

    def train_step(
        self, data: tf.Tensor, due: Sequence[bool] | None = None
    ) -> dict[str, tf.Tensor]:
        """One update of G and `d_steps` of D on reals float32 `[d_steps * N, R, R, 3]`.

        Args:
            data: the reals.
            due: which of the D steps are penalized, where that is known beforehand.
        """
        data = self._photos(data)
        steps = self.config.gan.d_steps
        due = due or [None] * steps
        if steps == 1:
            logs = self._joint_step(data, due[0])
        else:
            parts = tf.split(data, steps)
            passes = [self._d_step(*part) for part in zip(parts, due, strict=True)]
            logs = {name: tf.add_n([p[name] for p in passes]) / steps for name in passes[0]}
            logs = {"g_loss": self._g_step(parts[0]), **logs}
        self._update_average()
        return logs

    def _joint_step(self, reals: tf.Tensor, due: bool | None) -> dict[str, tf.Tensor]:
        """Both players' update from one pass of G, and one of D on reals and on fakes."""
        with tf.GradientTape(persistent=True) as tape:
            fakes = self._paint(self._draw())
            real_logits = self._discriminate(reals)
            fake_logits = self._discriminate(fakes)
            d_loss = self._d_loss(real_logits, fake_logits)
            g_loss = self.objective.generator(fake_logits, real_logits)
        g_gradients = tape.gradient(g_loss, self.g_variables)
        d_gradients = tape.gradient(d_loss, self.d_variables)
        logs = {"g_loss": g_loss, **self._d_logs(d_loss, real_logits, fake_logits)}
        d_gradients = self._add_penalty(d_gradients, reals, fakes, logs, due)
        self.g_optimizer.apply(g_gradients, self.g_variables)
        self._apply_d(d_gradients)
        return logs

    def _d_step(self, reals: tf.Tensor, due: bool | None) -> dict[str, tf.Tensor]:
        """One update of D alone, on fresh fakes."""
        fakes = self._paint(self._draw())
        with tf.GradientTape() as tape:
            real_logits = self._discriminate(reals)
            fake_logits = self._discriminate(fakes)
            d_loss = self._d_loss(real_logits, fake_logits)
        gradients = tape.gradient(d_loss, self.d_variables)
        logs = self._d_logs(d_loss, real_logits, fake_logits)
        self._apply_d(self._add_penalty(gradients, reals, fakes, logs, due))
        return logs

    def _g_step(self, reals: tf.Tensor) -> tf.Tensor:
        """One update of G alone, on fresh noise; only the relativistic games look at the reals."""
        real_logits = None
        if self.config.gan.objective in losses.RELATIVISTIC:
            real_logits = self._discriminate(reals)
        with tf.GradientTape() as tape:
            fake_logits = self._discriminate(self._paint(self._draw()))
            g_loss = self.objective.generator(fake_logits, real_logits)
        self.g_optimizer.apply(tape.gradient(g_loss, self.g_variables), self.g_variables)
        return g_loss

    def _draw(self) -> Any:
        """Fresh latents and noise of a batch of fakes: this replica's rows."""
        drawn = self.generator.draw(self.batch_size, self.seed_generator)
        return tf.nest.map_structure(replicas.own_rows, drawn)

    def _discriminate(self, images: tf.Tensor) -> tf.Tensor:
        """D's logits `[N, 1]` of what the augmentation makes of the images."""
        config = self.config
        if config.gan.augment != "none":
            probability = self.augment_p if config.gan.augment == "ada" else 1.0
            images = augment.diff_augment(
                images, config.gan.augment_ops, probability, self.seed_generator
            )
        return self._judge(images)

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
            self._steer(real_logits)
            logs["augment_p"] = tf.convert_to_tensor(self.augment_p)
        return logs

    def _steer(self, real_logits: tf.Tensor) -> None:
        """Moves ada's probability by the sign of D on reals (Karras et al. 2020, section 3)."""
        memory = augment.ADA_MEMORY**self.batch_size
        sign = replicas.batch_mean(tf.reduce_mean(tf.sign(real_logits)))
        self.real_sign.assign(memory * self.real_sign + (1.0 - memory) * sign)
        step = self.batch_size / (1000 * ADA_KIMG)
        moved = self.augment_p + step * tf.sign(self.real_sign - ADA_TARGET)
        self.augment_p.assign(tf.clip_by_value(moved, 0.0, 1.0))

    def _d_loss(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        if self.config.gan.real_label < 1:
            return self.objective.discriminator(real_logits, fake_logits, self.config.gan.real_label)
        return self.objective.discriminator(real_logits, fake_logits)

    def _apply_d(self, gradients: list[tf.Tensor]) -> None:
        """D's update, and after it the clipping of WGAN (Arjovsky et al. 2017, algorithm 1)."""
        variables = self.d_variables
        self.d_optimizer.apply(gradients, variables)
        if self.config.gan.objective == "wgan":
            limit = CLIP_VALUE
            for variable in variables:
                variable.assign(tf.clip_by_value(variable.value, -limit, limit))

    def _update_average(self) -> None:
        """Moves the average by one step of `ema_kimg`'s half-life (Karras et al. 2020, ramp-up)."""
        config = self.config
        a_step = self.batch_size * config.gan.d_steps / 1000  # kimg
        half_life = tf.constant(config.gan.ema_kimg)
        seen = a_step * tf.cast(self.g_optimizer.iterations, tf.float32)
        half_life = tf.minimum(half_life, EMA_RAMPUP * seen)
        decay = tf.pow(0.5, a_step / half_life) if config.gan.ema_kimg else 0.0
        for mean, value in self._averaged():
            mean.assign(value + decay * (mean - value))

    def _add_penalty(
        self,
        gradients: list[tf.Tensor],
        reals: tf.Tensor,
        fakes: tf.Tensor,
        logs: dict[str, tf.Tensor],
        due: bool | None,
    ) -> list[tf.Tensor]:
        """D's gradients with the penalties', every `penalty_interval` D steps; logs each penalty.

        The weight is multiplied by the interval (lazy regularization, Karras et al. 2020). `due`
        says whether it is this step, None leaves that to the graph.
        """
        if not self.penalty:
            return gradients
        interval = self.penalty_interval
        decide = tf.cond if due is None else lambda due, yes, no: yes() if due else no()
        penalties, extra = decide(
            self.d_optimizer.iterations % interval == 0 if due is None else due,
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
        variables = [variable.value for variable in self.d_variables]

        values, loss = [], 0.0
        with tf.GradientTape() as tape:
            for name in self.penalty:
                if name == "r1":
                    value = losses.gradient_square_penalty(self._discriminate, reals)
                    loss += 0.5 * config.gan.gamma * value
                elif name == "r2":
                    value = losses.gradient_square_penalty(self._discriminate, fakes)
                    loss += 0.5 * config.gan.gamma * value
                else:
                    alpha = keras.random.uniform(
                        (self.batch_size, 1, 1, 1), 0.0, 1.0, seed=self.seed_generator
                    )
                    alpha = replicas.own_rows(alpha)
                    points = losses.interpolate(reals, fakes, alpha)
                    value = losses.gradient_norm_penalty(self._discriminate, points)
                    loss += GP_WEIGHT * value
                values.append(value)
            loss *= self.penalty_interval
        # The last bias has no part in the gradient: zeros, not None.
        return values, tape.gradient(
            loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )


def draw_truncation(generator: StyleGenerator, z: tf.Tensor) -> np.ndarray:
    """A column per z `[N, z_dim]`, a row per psi of `TRUNCATIONS`, as one uint8 picture."""
    rows = [generator.from_prior(z, psi).numpy() for psi in TRUNCATIONS]
    return images.grid(images.to_uint8(np.concatenate(rows)), len(z))


def draw_mixing(generator: StyleGenerator, z: tf.Tensor) -> np.ndarray:
    """The faces of the second half of z `[2N, z_dim]` on top, those of the first half to the left.

    The other cells take their coarse layers, up to 8 px, from the left, the others from the top.
    """
    w = generator.mapping(z)  # [2N, w_dim]
    faces = generator.from_prior(z).numpy()
    left, top = np.split(faces, 2)
    coarse = tf.constant([side <= COARSE for side in generator.sides])[None, :, None]
    rows = [np.concatenate([np.ones_like(top[:1]), top])]
    for index, face in enumerate(left):
        ws = tf.where(coarse, w[None, index : index + 1], w[len(left) :, None, :])
        rows.append(np.concatenate([face[None], generator.synthesize(ws, generator.noise)]))
    return images.grid(images.to_uint8(np.concatenate(rows)), len(top) + 1)


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
    precision.seed_everything(config)
    from cgan_tf.stages import progressive  # it stands on this module

    with replicas.scope():
        trainer = progressive.make(config, precision.compute_policy(config))
    fixed = trainer.generator.sample_prior(GRID, seed=config.seed)

    reals = dataset.read(dataset.splits["train"][:GRID])
    spread = COLLAPSE_RATIO * mean_distance(images.to_float(reals))

    def picture(seen: int) -> str | None:
        fakes = trainer.samples(fixed).numpy()
        fakes = fakes.repeat(config.resolution // fakes.shape[1], axis=1)  # while it grows
        fakes = fakes.repeat(config.resolution // fakes.shape[2], axis=2)
        images.save_png(
            stage.path / f"fakes{round(seen / 1000):06d}.png",
            images.grid(images.to_uint8(fakes), 8),
        )
        if seen >= 1000 * COLLAPSE_KIMG and mean_distance(fakes) < spread:
            return (
                f"collapsed ({GRID} samples differ by {mean_distance(fakes):.3g} on average, less "
                f"than {COLLAPSE_RATIO:g} of what photos do)"
            )
        return None

    if folder.writes:
        images.save_png(stage.path / "reals.png", images.grid(np.asarray(reals), 8))
    reals_a_step = config.gan.batch_size * config.gan.d_steps  # kimg counts what D has seen
    loop.train(
        trainer,
        lambda seen, size: pipeline.training_batches(
            dataset, "train", size, config.seed, start=seen, flip=config.flip,
            passes=config.gan.d_steps,
        ),  # fmt: skip
        config.gan.kimg,
        reals_a_step,
        stage,
        config,
        picture=picture,
        picture_kimg=config.gan.kimg / GRIDS,
    )
    artifact.save_model(trainer.discriminator, stage.path / "discriminator")
    artifact.save_model(trainer.average, stage.model)
    if config.gan.arch == "stylegan":
        images.save_png(stage.path / "truncation.png", draw_truncation(trainer.average, fixed[:8]))
        images.save_png(stage.path / "mixing.png", draw_mixing(trainer.average, fixed[:14]))
    stage.finish(kimg=config.gan.kimg)
