"""Stage 4: the detail features, which carry what the latent cannot. Writes features/model.

Two networks learn at the same time (see `networks.detail_features`): one predicts a photo's
features, the other transforms them when the latent moves. Encoder and generator stay as they are.
The edits of the training move photos along the class differences of the labelled attributes; the
directions are learned afterwards, with the features in place.
"""

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from cgan_tf.core import artifact, replicas
from cgan_tf.core.config import FEATURES_BATCH_SIZE, Config, features_side
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import ImageData, images, pipeline
from cgan_tf.editing import models
from cgan_tf.networks.attribute_discriminator import AttributeDiscriminator
from cgan_tf.networks.codec import Codec
from cgan_tf.networks.detail_features import DetailFeatures
from cgan_tf.stages import tensorboard
from cgan_tf.stages.class_differences import class_differences
from cgan_tf.stages.inversion import PERCENTILE, psnr_p5
from cgan_tf.training import augment, loop, losses, optimizers, precision

WIDTH = 64  # channels within both networks
LEARNING_RATE, D_LEARNING_RATE = 1e-3, 3e-4  # Adam's peak; of the discriminator
WARMUP = 0.02  # of the training: the learning rate rises linearly
RECONSTRUCTION = 0.4  # share of the training before the edits begin
# Weights of the losses; see `FeaturesTrainer`.
RECONSTRUCTION_WEIGHT = 10.0
PRESERVATION_WEIGHT = 20.0
ADVERSARIAL_WEIGHT = 2.0
ATTRIBUTE_WEIGHT = 3.0
CONTENT_WEIGHT = 6.0
UNDO_WEIGHT = 3.0
GRADIENT_WEIGHT = 3.0  # of the pixel differences' gradients in the content's distance
CLASSIFICATION_WEIGHT = 4.0  # of the discriminator's attribute loss
R1_GAMMA, PENALTY_INTERVAL = 0.1, 16
SHIFT = 1 / 16  # maximum shift of what the discriminator sees, as a fraction of the side
# Edits. A step of 1 is so many class differences: about as far as a calibrated direction.
STEP = 1.2
LARGEST_STRENGTH = 1.3
EDITED_SHARE = 0.75  # of the edits along --attributes; the others along any attribute
LEAST_PHOTOS = 5  # of them with an attribute, and without, for its class difference
SHOWN = 6  # photos in a grid of edits


class FeaturesTrainer(loop.Trainer):
    """Trains the detail features on reconstructions, then on edits against a discriminator, too.

    With a photo x, its label a of a random attribute k, and a random strength u, the edit moves the
    latent so that the attribute changes sides. y is the reconstruction, x' the edited image:

    loss = reconstruction * d(x, y) + attribute * BCE(C_k(x'), (1 - u) C_k(x) + u (1 - a))
         + preservation * mean_j!=k KL(C_j(x) | C_j(x')) + content * c(x, x') + undo * d(x, undone)
         + adversarial * softplus(D(y, a) - D(x', a'))

    d and c are L1 distances, see `distance` and `content_distance`; u is at most 1 in the target,
    and in a' = (1 - u) a + u (1 - a); `undone`, for every other photo, is the opposite edit of the
    code of x'. D and the classifier C share their layers (`AttributeDiscriminator`). C learns from
    photos alone, also before the edits begin. D tells edited images from reconstructions, which
    have the same fine texture, so that it sees the edits and nothing else, and compares them with
    those whose label is like theirs: added glasses with glasses. A D that is not trained along
    would be fooled.

    Args:
        codec: its detail features learn; encoder and generator are frozen.
        discriminator: D and C; starts as the GAN's discriminator.
        steps: offset of the latent for strength 1 of each attribute, `[K, *latent_shape]`.
        rows: those of `steps` whose attributes have a class difference.
        edited: those of `rows` that are to be edited, see `EDITED_SHARE`.
        config: the resolved options.
    """

    remedy = "try another --seed"
    period = PENALTY_INTERVAL

    def __init__(
        self,
        codec: Codec,
        discriminator: AttributeDiscriminator,
        steps: np.ndarray,
        rows: Sequence[int],
        edited: Sequence[int],
        config: Config,
    ) -> None:
        super().__init__(name="features_trainer")
        self.config = config
        self.codec = codec
        self.features = codec.features
        self.discriminator = discriminator
        codec.encoder.trainable = codec.generator.trainable = False
        self.steps = tf.constant(steps, tf.float32)
        self.rows = tf.constant(rows, tf.int32)
        self.edited = tf.constant(edited or rows, tf.int32)
        phases = self.phases(config.features.kimg, FEATURES_BATCH_SIZE)
        self.first_edits = phases[0]  # number of steps before them
        schedule = optimizers.warmup_cosine(LEARNING_RATE, sum(phases), WARMUP)
        self.optimizer = optimizers.Adam(schedule, 0.5, 0.99)
        self.d_optimizer = optimizers.Adam(D_LEARNING_RATE, 0.0, 0.99)
        self.optimizer.build(self.features.trainable_variables)
        self.d_optimizer.build(discriminator.trainable_variables)
        self.seed_generator = keras.random.SeedGenerator(config.seed)
        self.built = True

    def checkpoint_parts(self) -> dict:
        return {
            "features": self.features,
            "discriminator": self.discriminator,
            "optimizer": self.optimizer,
            "d_optimizer": self.d_optimizer,
            "seed_generator": self.seed_generator,
        }

    def phases(self, kimg: float, batch_size: int) -> list[int]:
        """Reconstructions alone, then edits as well."""
        total = math.ceil(kimg * 1000 / batch_size)
        first = round(RECONSTRUCTION * total)
        return [first, total - first]

    def variant(self, step: int) -> tuple[bool, bool]:
        """Whether the step has edits, and whether D is penalized in it."""
        edits = step >= self.first_edits
        return edits, edits and step % PENALTY_INTERVAL == 0

    def train_step(
        self, data: tuple[tf.Tensor, tf.Tensor], edits: bool, penalized: bool
    ) -> dict[str, tf.Tensor]:
        """One update on photos float32 `[N, R, R, 3]` and labels float32 `[N, K]`."""
        photos, labels = data
        if not edits:
            return self._reconstruction_step(photos, labels)
        codec, d = self.codec, self.discriminator
        latent = codec.encoder(photos, training=False)
        state = codec.coarse(latent)
        chosen, strength = self._sample_edits(photos.shape[0])
        value = tf.gather(labels, chosen, axis=1, batch_dims=1)  # [N], the label that changes
        own = 2.0 * value - 1.0  # the conditions of D are labels of -1 and 1
        reached = own * (1.0 - 2.0 * tf.minimum(strength, 1.0))
        offset = _scaled(-strength * own, tf.gather(self.steps, chosen))
        moved = codec.coarse(latent + offset)
        place = self._sample_shift()
        with tf.GradientTape(persistent=True) as tape:
            features = codec.predict(photos, state)
            reconstructed = codec.render(state, features)
            edited = codec.render_edited(state, features, moved)
            undone = self._edit(edited[::2], -offset[::2])
            _, attributes, _ = d(self._shift(photos, place), training=True)
            reals = self._shift(reconstructed, place)
            logits, _ = self._discriminate(reals, chosen, own)
            edited_logits, edited_attributes = self._discriminate(
                self._shift(edited, place), chosen, reached
            )
            terms = self._attribute_losses(
                attributes, edited_attributes, chosen, value, strength
            ) | {
                "reconstruction": RECONSTRUCTION_WEIGHT * distance(photos, reconstructed),
                "adversarial": ADVERSARIAL_WEIGHT
                * losses.rpgan_generator_loss(edited_logits, tf.stop_gradient(logits)),
                "content": CONTENT_WEIGHT * content_distance(photos, edited),
                "undo": UNDO_WEIGHT * distance(photos[::2], undone),
            }
            loss = tf.add_n(list(terms.values()))
            d_loss = losses.rpgan_discriminator_loss(logits, edited_logits)
            d_loss += CLASSIFICATION_WEIGHT * tf.reduce_mean(_cross_entropy(labels, attributes))
        variables, d_variables = self.features.trainable_variables, d.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        gradients = tape.gradient(d_loss, d_variables)
        if penalized:
            gradients = self._add_penalty(gradients, reals, chosen, own)
        self.d_optimizer.apply(gradients, d_variables)
        return terms | {"d_loss": d_loss, "loss": loss}

    def _reconstruction_step(self, photos: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """One update of the predictor and of C alone; the losses of the edits are 0."""
        state = self.codec.coarse(self.codec.encoder(photos, training=False))
        place = self._sample_shift()
        with tf.GradientTape(persistent=True) as tape:
            reconstructed = self.codec.render(state, self.codec.predict(photos, state))
            loss = RECONSTRUCTION_WEIGHT * distance(photos, reconstructed)
            _, attributes, _ = self.discriminator(self._shift(photos, place), training=True)
            d_loss = CLASSIFICATION_WEIGHT * tf.reduce_mean(_cross_entropy(labels, attributes))
        for optimizer, target, network in (
            (self.optimizer, loss, self.features),
            (self.d_optimizer, d_loss, self.discriminator),
        ):
            variables = network.trainable_variables
            optimizer.apply(_gradients(tape, target, variables), variables)
        names = ("attribute", "preservation", "adversarial", "content", "undo")
        zeros = dict.fromkeys(names, tf.zeros(()))
        return {"reconstruction": loss, "loss": loss, "d_loss": d_loss} | zeros

    def _discriminate(
        self, batch: tf.Tensor, chosen: tf.Tensor, label: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """D's logits `[N, 1]` and the attributes' `[N, K]` of images with a label `[N]` in [-1, 1].

        The label is that of the attribute `chosen`, int32 `[N]`.
        """
        logits, attributes, conditions = self.discriminator(batch, training=True)
        condition = tf.gather(conditions, chosen, axis=1, batch_dims=1)
        return logits + (label * condition)[:, tf.newaxis], attributes

    def _edit(self, photos: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
        """The images of the photos' codes, moved by the offset."""
        latent = self.codec.encoder(photos, training=False)
        state = self.codec.coarse(latent)
        features = self.codec.predict(photos, state)
        return self.codec.render_edited(state, features, self.codec.coarse(latent + offset))

    def _sample_edits(self, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """An attribute int32 `[N]` and a strength `[N]` for each of this replica's photos."""
        total, seed = count * replicas.count(), self.seed_generator
        every = keras.random.randint((total,), 0, len(self.rows), seed=seed)
        common = keras.random.randint((total,), 0, len(self.edited), seed=seed)
        wanted = keras.random.uniform((total,), seed=seed) < EDITED_SHARE
        chosen = tf.where(wanted, tf.gather(self.edited, common), tf.gather(self.rows, every))
        strength = keras.random.uniform((total,), 0.0, LARGEST_STRENGTH, seed=seed)
        return replicas.own_rows(chosen), replicas.own_rows(strength)

    def _sample_shift(self) -> tf.Tensor:
        """Where the discriminator's view of all images of this step begins, int32 `[2]`."""
        limit = 2 * round(self.config.resolution * SHIFT) + 1
        return keras.random.randint((2,), 0, limit, seed=self.seed_generator)

    def _shift(self, batch: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
        """Images of the same size, shifted by whole pixels: a moving target is hard to fool."""
        side, pad = self.config.resolution, round(self.config.resolution * SHIFT)
        padded = tf.pad(batch, [[0, 0], [pad, pad], [pad, pad], [0, 0]], "REFLECT")
        return augment.crop(padded, place, side)

    def _attribute_losses(
        self,
        logits: tf.Tensor,
        edited_logits: tf.Tensor,
        chosen: tf.Tensor,
        value: tf.Tensor,
        strength: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The losses of C on the edited images, see the class.

        Args:
            logits: of the photos, `[N, K]`.
            edited_logits: of the edited images, `[N, K]`.
            chosen: the attribute that changes, int32 `[N]`.
            value: its label before, `[N]`.
            strength: of the edit, `[N]`.
        """
        count = logits.shape[1]
        mask = tf.cast(chosen[:, None] == tf.range(count), tf.float32)  # [N, K]
        logits = tf.stop_gradient(logits)
        before = tf.sigmoid(logits)
        share = tf.minimum(strength, 1.0)[:, None]
        target = (1.0 - share) * before + share * (1.0 - value)[:, None]
        attribute = tf.reduce_sum(mask * _cross_entropy(target, edited_logits), axis=1)
        divergence = _cross_entropy(before, edited_logits) - _cross_entropy(before, logits)
        others = tf.reduce_sum((1.0 - mask) * divergence, axis=1) / max(1, count - 1)
        return {
            "attribute": ATTRIBUTE_WEIGHT * tf.reduce_mean(attribute),
            "preservation": PRESERVATION_WEIGHT * tf.reduce_mean(others),
        }

    def _add_penalty(
        self, gradients: list[tf.Tensor], batch: tf.Tensor, chosen: tf.Tensor, label: tf.Tensor
    ) -> list[tf.Tensor]:
        """The gradients of D with those of the lazy R1 penalty on reconstructions.

        Args:
            gradients: of the discriminator's variables.
            batch: the reconstructions.
            chosen: see `_discriminate`.
            label: likewise.
        """
        batch = tf.stop_gradient(batch)
        with tf.GradientTape() as tape:
            penalty = losses.gradient_square_penalty(
                lambda inputs: self._discriminate(inputs, chosen, label)[0], batch
            )
            loss = PENALTY_INTERVAL * 0.5 * R1_GAMMA * penalty
        added = _gradients(tape, loss, self.discriminator.trainable_variables)
        return [gradient + more for gradient, more in zip(gradients, added, strict=True)]


def _gradients(
    tape: tf.GradientTape, loss: tf.Tensor, variables: Sequence[keras.Variable]
) -> list[tf.Tensor]:
    """The gradients of a loss; 0 where it does not depend on the variable."""
    values = [variable.value for variable in variables]
    return tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def distance(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """L1 distance of two batches of images: pixels, their gradients, and averages of 2 x 2.

    Args:
        x: float32 `[N, H, W, 3]`.
        y: of the same shape.
    """
    difference = x - y
    pooled = tf.nn.avg_pool2d(difference, 2, 2, "VALID")
    return _mean_absolute(difference, *_edges(difference), pooled)


def content_distance(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """L1 distance of photos and edited images, of which edges count more than colors.

    An edit may change the color of an area; the drawing of the face is the person.

    Args:
        x: float32 `[N, H, W, 3]`.
        y: of the same shape.
    """
    difference = x - y
    return _mean_absolute(difference) + GRADIENT_WEIGHT * _mean_absolute(*_edges(difference))


def _edges(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The differences between neighboring pixels, down and across."""
    return images[:, 1:] - images[:, :-1], images[:, :, 1:] - images[:, :, :-1]


def _mean_absolute(*parts: tf.Tensor) -> tf.Tensor:
    """The sum of the parts' mean absolute values."""
    return tf.add_n([tf.reduce_mean(tf.abs(part)) for part in parts])


def _cross_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)


def _scaled(strength: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """Steps `[N, *latent_shape]` times strengths `[N]`."""
    return tf.reshape(strength, (-1, *[1] * (len(steps.shape) - 1))) * steps


def run(config: Config, folder: RunFolder, dataset: ImageData) -> None:
    """Trains the detail features in `folder`/features; resumes if it was interrupted."""
    stage = folder.stage("features")
    if not stage.begin(config, dataset.digest):
        return
    side = features_side(config)
    if side is None:
        if replicas.is_chief():
            stage.model.mkdir(exist_ok=True)
            psnr = folder.stage("inversion").read_metadata().get("psnr_p5")
            stage.finish(kimg=0, psnr_p5=psnr)
            print("features: none (--features_side=none)")
        return
    precision.seed_everything(config)
    trainer = build(config, folder, dataset, side)
    grid_photos = dataset.read(dataset.splits["validation"][:SHOWN])

    def snapshot(seen: int) -> loop.Snapshot:
        grid = edits_grid(trainer, grid_photos)
        images.save_png(stage.path / f"edits{round(seen / 1000):06d}.png", grid)
        return loop.Snapshot("edits", grid)

    loop.train(
        trainer,
        pipeline.training_feed(dataset, config, FEATURES_BATCH_SIZE, labels=True),
        config.features.kimg,
        FEATURES_BATCH_SIZE,
        stage,
        config,
        writer=tensorboard.events(config, stage),
        snapshot=snapshot,
        snapshot_kimg=config.features.kimg / 10,
    )
    artifact.save_model(trainer.features, stage.model)
    psnr = psnr_p5(models.load_codec(folder, config), dataset)
    print(
        f"features: {1 - PERCENTILE:.0%} of the validation photos are reconstructed at a PSNR of "
        f"{psnr:.1f} dB or more"
    )
    stage.finish(kimg=config.features.kimg, psnr_p5=psnr)


def build(config: Config, folder: RunFolder, dataset: ImageData, side: int) -> FeaturesTrainer:
    """The trainer with fresh detail features, and a copy of the GAN's discriminator.

    Raises:
        UserError: the generator has no maps of that side, or no attribute has enough photos.
    """
    policy = precision.compute_policy(config)
    with replicas.scope():
        codec = new_codec(models.load_codec(folder, config, policy, features=False), side, policy)
        discriminator = AttributeDiscriminator(
            models.load_discriminator(folder.stage("gan").path / "discriminator", policy),
            len(dataset.attribute_names),
            dtype=policy,
        )
    differences, least = class_differences(codec.encoder, dataset)
    usable = np.flatnonzero(least >= LEAST_PHOTOS).tolist()
    if not usable:
        raise UserError(
            f"--data_dir={config.data_dir}: no attribute has {LEAST_PHOTOS} training photos with "
            f"it and {LEAST_PHOTOS} without; give more photos, or --features_side=none"
        )
    edited = [dataset.attribute_names.index(name) for name in config.attributes]
    with replicas.scope():
        return FeaturesTrainer(
            codec,
            discriminator,
            STEP * differences,
            usable,
            [i for i in edited if i in usable],
            config,
        )


def new_codec(codec: Codec, side: int, dtype: str) -> Codec:
    """The codec with fresh detail features.

    Args:
        codec: gives encoder and generator.
        side: of the features, in px.
        dtype: dtype policy of the computation.
    """
    generator = codec.generator
    network = DetailFeatures(
        generator.resolution, side, generator.channels_at(side), WIDTH, dtype=dtype
    )
    return Codec(codec.encoder, generator, network)


def edits_grid(trainer: FeaturesTrainer, photos: np.ndarray) -> np.ndarray:
    """A grid, uint8, with a row per photo: photo | reconstruction | +1 and -1 of each attribute.

    Args:
        trainer: its edited attributes are shown.
        photos: uint8 `[N, R, R, 3]`.
    """
    code = trainer.codec.encode(images.to_float(photos))
    columns = [photos, images.to_uint8(trainer.codec.generate(code).numpy())]
    for row in trainer.edited.numpy():
        for sign in (1.0, -1.0):
            offset = sign * tf.gather(trainer.steps, [row] * len(photos))
            columns.append(images.to_uint8(trainer.codec.generate(code, offset).numpy()))
    cells = np.stack(columns, axis=1).reshape(-1, *photos.shape[1:])
    return images.grid(cells, len(columns))
