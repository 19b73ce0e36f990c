"""Stage 5: one calibrated latent direction per attribute. Writes directions/model/NAME.json.

`--directions_family=learned` follows "Enjoy Your Editing" (Zhuang et al. 2021): a step eps * d_k
should change R's prediction of the target attribute by eps, and preserve the other attributes, the
content and the realism. The other families are in `families`. Directions of all families are
projected (`--directions_condition`) and calibrated in the same way.
"""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cgan_tf.core import artifact, replicas, rules
from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.folders import replacing_folder
from cgan_tf.core.run_folder import RunFolder, StageFolder
from cgan_tf.data import ImageData, images, pipeline
from cgan_tf.editing import models
from cgan_tf.editing.models import load_perceptual
from cgan_tf.evaluation.hyperplane import find_hyperplane, project_out
from cgan_tf.evaluation.scores import label_samples
from cgan_tf.networks.codec import Codec
from cgan_tf.networks.vgg import Perceptual, Regressor
from cgan_tf.stages import families, tensorboard
from cgan_tf.stages.calibration import CALIBRATION_PHOTOS, Calibration, calibrate
from cgan_tf.stages.class_differences import PHOTOS, class_differences
from cgan_tf.training import cluster, loop, losses, optimizers, precision

LEARNING_RATE = 2e-2  # Adam's peak
CONTENT_WEIGHT = 0.5  # of the perceptual distance to the photo
ADVERSARIAL_WEIGHT = 0.02  # of the non-saturating loss of the edited image
ATTRIBUTE_WEIGHT = 10.0  # of |alpha + eps - alpha'| of the target attribute
STARTING_CHANGE = 0.85  # of R's mean prediction by +1 along the initial direction, if reached
STARTING_CALIBRATION = 50  # training photos that decide on its length, per direction
DEFAULTS = {
    "synthetic": ("Eyeglasses", "Pale_Skin", "Bangs", "Bushy_Eyebrows", "Wearing_Lipstick"),
    "celeba": ("Smiling", "Blond_Hair", "Black_Hair", "Eyeglasses", "Male"),
    "celeba_dir": ("Smiling", "Blond_Hair", "Black_Hair", "Eyeglasses", "Male"),
}
SHOWN = 6  # photos in edits.png
SHOWN_STRENGTHS = (-1.0, -0.5, 0.0, 0.5, 1.0)


def choose_attributes(config: Config, dataset: ImageData) -> tuple[str, ...]:
    """The attributes to edit: --attributes, or the defaults of the data set.

    Raises:
        UserError: --attributes is not given, and the data set has no defaults.
    """
    chosen = config.attributes or DEFAULTS.get(dataset.name, ())
    if not chosen:
        raise UserError(
            "--attributes: name the attributes to edit; the data has "
            f"{', '.join(dataset.attribute_names) or 'none: add its CSV'}"
        )
    return chosen


def check(config: Config, dataset: ImageData) -> None:
    """Checks the labels of the attributes to edit, before any stage starts.

    Args:
        config: the resolved options.
        dataset: the photos.

    Raises:
        UserError: all training or validation photos have an attribute, or none of them.
    """
    for name in config.attributes if dataset.attribute_names else ():
        labels = dataset.labels[:, dataset.attribute_names.index(name)] > 0.5
        for part, rows in compared_photos(dataset).items():
            if labels[rows].any() and not labels[rows].all():
                continue
            missing = "lacks" if labels[rows].any() else "has"
            raise UserError(
                f"--attributes={name}: none of the {len(rows):,} {part} photos {missing} it (of "
                f"all {len(labels):,} photos, {int(labels.sum()):,} have it); give more photos, or "
                "leave it out"
            )


def compared_photos(dataset: ImageData) -> dict[str, np.ndarray]:
    """The rows of the photos that must be of both classes, by part of the data.

    Directions start at the class differences of the first, and are calibrated on the second.
    """
    return {
        "training": dataset.splits["train"][:PHOTOS],
        "validation": dataset.splits["validation"],
    }


class DirectionsTrainer(loop.Trainer):
    """Trains all directions at once, with one attribute per photo and step; nothing else learns.

    loss = content * perceptual(x, x') + adversarial * softplus(-D(x'))
         + attribute * |clip(alpha_k + eps) - alpha'_k|
         + preservation * mean_j!=k |alpha_j - alpha'_j|

    with x the photo, x' = G(E(x) + eps * d_k), alpha R's prediction for the reconstruction G(E(x)),
    and alpha' its prediction for x'; detail features, where there are any, are part of both images.
    In the paper, x is a sample and its own reconstruction. With predictions for the photo itself,
    the directions would learn to undo the error of the inversion.

    A direction changes its angle but keeps its initial length; the calibration sets the final one.
    With a free length it can shrink to nothing, which preserves the other attributes perfectly.

    Args:
        attributes: the K edited attributes.
        codec: E and G, with detail features if the run has them; frozen like all networks here.
        discriminator: D.
        perceptual: the distance, with R as its `regressor`.
        config: the resolved options.
    """

    remedy = "try another --seed"

    def __init__(
        self,
        attributes: Sequence[str],
        codec: Codec,
        discriminator: keras.Model,
        perceptual: Perceptual,
        config: Config,
    ) -> None:
        super().__init__(name="directions_trainer")
        self.config = config
        self.codec = codec
        self.generator = codec.generator
        self.discriminator = discriminator
        self.perceptual = perceptual
        networks = (codec.encoder, codec.generator, codec.features, discriminator)
        for network in (*networks, perceptual.regressor):
            if network is not None:
                network.trainable = False
        names = perceptual.regressor.attribute_names
        self.columns = tf.constant([names.index(name) for name in attributes])
        self.directions = self.add_weight(
            shape=(len(attributes), *codec.latent_shape),
            initializer="zeros",
            name="directions",
        )
        steps = int(np.ceil(config.directions.kimg * 1000 / config.directions.batch_size))
        schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps, alpha=0.01)
        self.optimizer = optimizers.Adam(schedule, beta_2=0.99)
        self.optimizer.build([self.directions])
        self.seed_generator = keras.random.SeedGenerator(config.seed)
        self.built = True

    def checkpoint_parts(self) -> dict:
        return {
            "directions": [self.directions],
            "optimizer": self.optimizer,
            "seed_generator": self.seed_generator,
        }

    def train_step(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        """One update on photos float32 `[N, R, R, 3]`."""
        config, regressor = self.config, self.perceptual.regressor
        count = config.directions.batch_size
        chosen = keras.random.randint((count,), 0, len(self.columns), seed=self.seed_generator)
        eps = keras.random.uniform((count, 1), -1.0, 1.0, seed=self.seed_generator)  # [N, 1]
        chosen, eps = replicas.own_rows(chosen), replicas.own_rows(eps)
        target = tf.one_hot(tf.gather(self.columns, chosen), len(regressor.attribute_names))
        code = self.codec.encode(data)
        maps, _ = regressor.features_and_logits(data)
        alpha = regressor(self.codec.generate(code), training=False)  # [N, all]
        with tf.GradientTape() as tape:
            step = tf.gather(tf.convert_to_tensor(self.directions), chosen)  # [N, *latent_shape]
            size = tf.reshape(eps, (-1, *[1] * (len(step.shape) - 1)))
            edited = self.codec.generate(code, size * step)
            edited_maps, edited_logits = regressor.features_and_logits(edited)
            edited_alpha = tf.sigmoid(edited_logits)
            error = tf.abs(tf.clip_by_value(alpha + eps * target, 0.0, 1.0) - edited_alpha)
            others = tf.reduce_sum(error * (1.0 - target), axis=1) / max(1, error.shape[1] - 1)
            parts = {
                "content": CONTENT_WEIGHT
                * tf.reduce_mean(self._perceptual(data, maps, edited, edited_maps)),
                "adversarial": ADVERSARIAL_WEIGHT
                * losses.non_saturating_generator_loss(self.discriminator(edited, training=False)),
                "attribute": ATTRIBUTE_WEIGHT
                * tf.reduce_mean(tf.reduce_sum(error * target, axis=1)),
                "hold": config.directions.preservation_weight * tf.reduce_mean(others),
            }
            loss = tf.add_n(list(parts.values()))
        self._rotate(tape.gradient(loss, self.directions))
        return parts | {"loss": loss}

    def _rotate(self, gradient: tf.Tensor) -> None:
        """One step of the optimizer that keeps the lengths of the directions.

        The component of the gradient `[K, *latent_shape]` along each direction is removed before
        Adam: Adam scales each coordinate, so that this component would rotate the direction too.
        """
        shape = self.directions.shape

        def rows(values: tf.Tensor) -> tf.Tensor:  # one direction per row
            return tf.reshape(values, (shape[0], -1))

        old, gradient = rows(self.directions), rows(gradient)
        unit, length = tf.math.l2_normalize(old, axis=1), tf.norm(old, axis=1, keepdims=True)
        gradient -= tf.reduce_sum(gradient * unit, axis=1, keepdims=True) * unit
        self.optimizer.apply([tf.reshape(gradient, shape)], [self.directions])
        rotated = tf.math.l2_normalize(rows(self.directions), axis=1)
        self.directions.assign(tf.reshape(rotated * length, shape))

    def _perceptual(
        self, photos: tf.Tensor, maps: list, edited: tf.Tensor, edited_maps: list
    ) -> tf.Tensor:
        """Distances `[N]`, from the given feature maps if they are those of the distance."""
        if self.perceptual.backbone is not None:
            return self.perceptual(photos, edited)
        normalize = self.perceptual.normalize
        return self.perceptual.between(normalize(edited_maps), normalize(maps))


def load_networks(folder: RunFolder, config: Config, regressor: Regressor | None = None) -> dict:
    """The frozen networks of `DirectionsTrainer`, by the names of its arguments.

    Args:
        folder: the run.
        config: the resolved options.
        regressor: replaces the run's own.
    """
    policy, gan = precision.compute_policy(config), folder.stage("gan")
    if regressor is None:
        regressor = artifact.load_model(Regressor, folder.stage("regressor").model, policy)
    return {
        "codec": models.load_codec(folder, config, policy),
        "discriminator": models.load_discriminator(gan.path / "discriminator", policy),
        "perceptual": load_perceptual(config, regressor),
    }


def save_directions(folder: Path, entries: dict[str, dict]) -> None:
    """Writes NAME.json for each entry into `folder`, all of them or none."""
    with replacing_folder(folder, str(folder), overwrite=True) as new:
        for name, entry in entries.items():
            write_json(new / f"{name}.json", entry)


def start_directions(trainer: DirectionsTrainer, dataset: ImageData) -> None:
    """Initializes the trainer's directions with class differences that have an effect on R.

    Each is scaled so that +1 changes R's mean prediction on training photos by `STARTING_CHANGE`,
    whatever the final calibration is. With a shorter step the gradient of |alpha + eps - alpha'|
    vanishes where R is confident, and the direction would follow the other terms alone.
    """
    differences, _ = class_differences(trainer.codec.encoder, dataset)
    calibration = make_calibration(trainer, dataset, "train", STARTING_CALIBRATION)
    trainer.directions.assign(
        [
            calibration.scale(
                calibration.photos(column, 0), differences[column], column, STARTING_CHANGE
            )
            for column in trainer.columns.numpy()
        ]
    )


def make_calibration(
    trainer: DirectionsTrainer,
    dataset: ImageData,
    split: str = "validation",
    count: int = CALIBRATION_PHOTOS,
) -> Calibration:
    """The calibration with the trainer's networks, see `Calibration`."""
    return Calibration(trainer.codec, trainer.perceptual.regressor, dataset, split, count)


def edits_grid(trainer: DirectionsTrainer, vectors: np.ndarray, photos: np.ndarray) -> np.ndarray:
    """A grid, uint8, with a block of rows per direction: photo | edits at `SHOWN_STRENGTHS`."""
    code = trainer.codec.encode(images.to_float(photos))
    cells = []
    for vector in vectors:
        columns = [photos] + [
            images.to_uint8(trainer.codec.generate(code, strength * vector[None]).numpy())
            for strength in SHOWN_STRENGTHS
        ]
        cells.append(np.stack(columns, axis=1).reshape(-1, *photos.shape[1:]))
    return images.grid(np.concatenate(cells), 1 + len(SHOWN_STRENGTHS))


def learn(
    trainer: DirectionsTrainer, dataset: ImageData, stage: StageFolder, config: Config
) -> None:
    """Trains the directions, initialized with the class differences, or resumes."""
    start_directions(trainer, dataset)
    loop.train(
        trainer,
        pipeline.training_feed(dataset, config, config.directions.batch_size),
        config.directions.kimg,
        config.directions.batch_size,
        stage,
        config,
        writer=tensorboard.events(config, stage),
    )


def find_directions(
    trainer: DirectionsTrainer, attributes: Sequence[str], config: Config
) -> list[dict]:
    """Finds the directions of the configured family and applies the conditions.

    Assigns the trainer's directions, which the calibration scales afterwards.

    Args:
        trainer: its networks, and its directions, trained if the family is `learned`.
        attributes: the edited ones.
        config: the resolved options.

    Returns:
        further entries of each direction file: {family, condition, found}, see `families.find`.

    Raises:
        UserError: too few samples of one class, or nothing is left of a direction.
    """
    conditions = rules.conditions(config)
    notes: list[dict] = [{} for _ in attributes]
    if config.directions.family != "learned" or conditions:
        generator, regressor = trainer.generator, trainer.perceptual.regressor
        print(f"directions: the regressor labels {config.directions.samples} generated samples")
        samples = label_samples(generator, regressor, config.directions.samples, config.seed)
        column = regressor.attribute_names.index
        vectors = trainer.directions.numpy()
        if config.directions.family != "learned":
            columns = {name: column(name) for name in attributes}
            vectors, notes = families.find(
                config.directions.family, generator, regressor, columns, samples
            )
            for name, note in zip(attributes, notes, strict=True):
                facts = ", ".join(f"{key} {value}" for key, value in note.items())
                print(f"directions: {name} from family {config.directions.family}: {facts}")
        normals = {
            name: find_hyperplane(samples, column(name), name)[0]
            for name in dict.fromkeys(name for names in conditions.values() for name in names)
        }
        for index, name in enumerate(attributes):
            if name in conditions:
                preserved = {other: normals[other] for other in conditions[name]}
                vectors[index] = project_out(name, vectors[index], preserved)
        trainer.directions.assign(vectors)
    return [
        {
            "family": config.directions.family,
            "condition": list(conditions.get(name, ())),
            "found": note,
        }
        for name, note in zip(attributes, notes, strict=True)
    ]


def run(config: Config, folder: RunFolder, dataset: ImageData) -> None:
    """Finds and calibrates the directions in `folder`/directions; resumes if it was interrupted."""
    attributes = choose_attributes(config, dataset)
    rules.check_attributes(config, attributes, dataset.attribute_names)
    stage = folder.stage("directions")
    if not stage.begin(config, dataset.digest):
        return
    precision.seed_everything(config)
    with replicas.scope():
        trainer = DirectionsTrainer(attributes, **load_networks(folder, config), config=config)
    if config.directions.family == "learned":
        learn(trainer, dataset, stage, config)
        kimg = config.directions.kimg
    else:
        cluster.leave_to_chief()
        kimg = 0.0
    origins = find_directions(trainer, attributes, config)
    folder.clear_substitutions("calibration of ")
    vectors = dict(zip(attributes, trainer.directions.numpy(), strict=True))
    entries = calibrate(make_calibration(trainer, dataset), vectors, origins, folder, config)
    calibrated = np.float32([entry["vector"] for entry in entries.values()])
    shown = dataset.read(dataset.splits["validation"][: images.examples(config.resolution, SHOWN)])
    images.save_png(stage.path / "edits.png", edits_grid(trainer, calibrated, shown))
    save_directions(stage.model, entries)
    stage.finish(kimg=kimg)
