"""Stage 3: an encoder that inverts the generator. Writes inversion/model."""

import keras
import numpy as np
import tensorflow as tf

from cgan_tf.core import artifact, replicas
from cgan_tf.core.config import Config
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import ImageData, images, pipeline
from cgan_tf.editing import models
from cgan_tf.evaluation import metrics
from cgan_tf.networks.codec import Codec
from cgan_tf.networks.encoder import Encoder
from cgan_tf.networks.generators import AnyGenerator
from cgan_tf.networks.vgg import Perceptual, Regressor
from cgan_tf.stages import init_from, tensorboard
from cgan_tf.training import augment, loop, optimizers, precision

PIXEL_WEIGHT = 5.0  # of the pixel L2 loss; perceptual distances have a weight of 1
LEARNING_RATE = 1e-3  # Adam's peak
WARMUP = 0.05  # of the training: the learning rate rises linearly
SHOWN = 16  # photos in a reconstruction grid
MEAN_SAMPLES = 10_000  # latents for the mean latent
PERCENTILE = 0.05  # share of the validation photos that are reconstructed worst
PERCENTILE_PHOTOS, PERCENTILE_BATCH = 1000, 50  # validation photos for `psnr_p5`


class InversionTrainer(loop.Trainer):
    """Trains on photos, and on samples whose latents are known, in one pass.

    Photos x contribute perceptual(x, G(E(x))). Samples x = G(latent) contribute
    perceptual(x, G(E(x))) and L2(latent, E(x)). Both contribute a pixel L2. Only the encoder
    learns.

    Args:
        encoder: the trained network.
        generator: the moving average, frozen, in the latent space that the encoder predicts.
        perceptual: the distance; its networks are frozen.
        config: the resolved options.
    """

    remedy = "try another --seed"

    def __init__(
        self, encoder: Encoder, generator: AnyGenerator, perceptual: Perceptual, config: Config
    ) -> None:
        super().__init__(name="inversion_trainer")
        self.config = config
        self.encoder = encoder
        self.generator = generator
        generator.trainable = False
        self.perceptual = perceptual
        perceptual.regressor.trainable = False
        steps = int(np.ceil(config.inversion.kimg * 1000 / config.inversion.batch_size))
        schedule = optimizers.warmup_cosine(LEARNING_RATE, steps, WARMUP)
        self.optimizer = optimizers.Adam(schedule, beta_2=0.99, global_clipnorm=10.0)
        self.optimizer.build(encoder.trainable_variables)
        self.seed_generator = keras.random.SeedGenerator(config.seed)
        self.built = True

    def checkpoint_parts(self) -> dict:
        return {
            "encoder": self.encoder,
            "optimizer": self.optimizer,
            "seed_generator": self.seed_generator,
        }

    def train_step(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        """One update on photos float32 `[N, R, R, 3]` and the same number of samples."""
        batch_size = self.config.inversion.batch_size
        latent = replicas.own_rows(self.generator.sample_latent(batch_size, self.seed_generator))
        samples = self.generator(latent, training=False)
        targets = tf.concat([data, samples], axis=0)  # [2N, R, R, 3]
        offset = self._crop_offset()
        target_features = self.perceptual.features(self._crop(targets, offset))
        with tf.GradientTape() as tape:
            losses = self.losses(targets, target_features, latent, offset)
            loss = tf.add_n(list(losses.values()))
        gradients = tape.gradient(loss, self.encoder.trainable_variables)
        self.optimizer.apply(gradients, self.encoder.trainable_variables)
        return losses | {"loss": loss}

    def losses(
        self, targets: tf.Tensor, target_features: list, latent: tf.Tensor, offset: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The weighted terms of the loss.

        Args:
            targets: N photos and N samples, float32 `[2N, R, R, 3]`.
            target_features: perceptual features of their crops.
            latent: of the samples, float32 `[N, *latent_shape]`.
            offset: of the crops.
        """
        count = latent.shape[0]
        predicted = self.encoder(targets, training=True)  # [2N, *latent_shape]
        outputs = self.generator(predicted, training=False)
        features = self.perceptual.features(self._crop(outputs, offset))
        distances = self.perceptual.between(features, target_features)  # [2N]
        pixel = tf.reduce_mean(tf.square(outputs - targets))
        return {
            "sample": tf.reduce_mean(distances[count:]),
            "latent": tf.reduce_mean(tf.square(predicted[count:] - latent)),
            "pixel": PIXEL_WEIGHT * pixel,
            "photo": tf.reduce_mean(distances[:count]),
        }

    def _crop_offset(self) -> tf.Tensor:
        """The corner of this step's random crop, int32 `[2]`."""
        side = self.config.inversion.perceptual_crop
        return keras.random.randint(
            (2,), 0, self.config.resolution - side + 1, seed=self.seed_generator
        )

    def _crop(self, images: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
        side = self.config.inversion.perceptual_crop
        if side == self.config.resolution:
            return images
        return augment.crop(images, offset, side)


def run(config: Config, folder: RunFolder, dataset: ImageData) -> None:
    """Trains the encoder in `folder`/inversion; resumes if it was interrupted."""
    stage = folder.stage("inversion")
    if not stage.begin(config, dataset.digest):
        return
    precision.seed_everything(config)
    start = init_from.begin(config, stage)
    policy = precision.compute_policy(config)
    space = config.inversion.space
    with replicas.scope():
        generator = models.load_generator(folder.stage("gan").model, space, policy)
        regressor = artifact.load_model(Regressor, folder.stage("regressor").model, policy)
        encoder = Encoder(
            config.resolution,
            generator.latent_shape,
            config.inversion.width,
            policy,
        )
        perceptual = models.load_perceptual(config, regressor)
        trainer = InversionTrainer(encoder, generator, perceptual, config)
    init_from.copy_encoder(encoder, start)
    # Also for a copied encoder, whose generator had another mean.
    mean = tf.reduce_mean(generator.sample_latent(MEAN_SAMPLES, seed=config.seed), axis=0)
    encoder.add_mean.mean.assign(mean)
    columns = images.columns(config.resolution)
    shown = dataset.read(dataset.splits["validation"][: min(SHOWN, columns**2 // 2)])

    def snapshot(seen: int) -> loop.Snapshot:
        outputs = generator(encoder(images.to_float(shown), training=False), training=False)
        pairs = np.stack([shown, images.to_uint8(outputs.numpy())], axis=1)  # input | output
        grid = images.grid(pairs.reshape(-1, *shown.shape[1:]), columns)
        images.save_png(stage.path / f"reconstructions{round(seen / 1000):06d}.png", grid)
        return loop.Snapshot("reconstructions", grid)

    loop.train(
        trainer,
        pipeline.training_feed(dataset, config, config.inversion.batch_size),
        config.inversion.kimg,
        config.inversion.batch_size,
        stage,
        config,
        writer=tensorboard.events(config, stage),
        snapshot=snapshot,
        snapshot_kimg=config.inversion.kimg / 10,
    )
    artifact.save_model(encoder, stage.model)
    psnr = psnr_p5(Codec(encoder, generator), dataset)
    print(
        f"inversion: {1 - PERCENTILE:.0%} of the validation photos are reconstructed at a PSNR of "
        f"{psnr:.1f} dB or more"
    )
    stage.finish(kimg=config.inversion.kimg, psnr_p5=psnr)


def psnr_p5(codec: Codec, dataset: ImageData) -> float:
    """The 5th percentile of the PSNR of the validation photos' reconstructions, in dB.

    A photo with a lower PSNR is unlike the training photos; `cgan translate` warns about it.
    """
    rows = dataset.splits["validation"][:PERCENTILE_PHOTOS]
    found = [
        metrics.psnr(codec.generate(codec.encode(photos)).numpy(), photos)
        for photos in pipeline.sequential_batches(dataset, rows, PERCENTILE_BATCH)
    ]
    return float(np.quantile(np.concatenate(found), PERCENTILE))
