"""Calibrates directions: how far strength +1 moves the regressor's mean prediction."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import ImageData, face_crop, pipeline
from cgan_tf.editing import bracketing, detail
from cgan_tf.evaluation.batching import batched
from cgan_tf.evaluation.scores import scorer
from cgan_tf.networks.encoder import Encoder
from cgan_tf.networks.generators import AnyGenerator

CALIBRATION_PHOTOS = 200  # maximum number of validation photos for each sign of the strength
# Multiples of the trained step that the calibration tries until the change is passed.
WALK = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# Tolerance as a fraction of the change, of which the choice of the photos makes some 2 %.
SCALE_NARROWINGS, SCALE_TOLERANCE = 4, 5e-3
TABLE = (-1.5, -1.0, -0.5, 0.5, 1.0, 1.5)  # multiples of the calibrated step in the table
KEEP_DETAIL_PHOTOS = 100  # of the validation split
# Largest factor of the strength. A local edit may be amplified more than one that acts everywhere:
# global edits such as hair color get halos and lose more identity than plain translation.
LARGEST_FACTOR, LARGEST_FACTOR_EVERYWHERE = 2.0, 1.25
FACTOR_NARROWINGS, FACTOR_TOLERANCE = 6, 5e-3  # tolerance as a fraction of the change
BATCH = 50  # photos per network evaluation


class Calibration:
    """Measures how far a step along a direction moves R's mean prediction.

    Args:
        encoder: E.
        generator: G, in the encoder's space.
        regressor: R.
        dataset: positive steps are measured on photos without the attribute, negative ones on
            photos with it.
        split: of the photos.
        count: maximum number of photos for each sign.
    """

    def __init__(
        self,
        encoder: Encoder,
        generator: AnyGenerator,
        regressor: keras.Model,
        dataset: ImageData,
        split: str,
        count: int,
    ) -> None:
        self.encoder = encoder
        self.generator = generator
        self.dataset = dataset
        self.split = split
        self.count = count
        self._score = scorer(generator, regressor, BATCH)
        self._predict = tf.function(
            lambda images: regressor(images, training=False),
            autograph=False,
            reduce_retracing=True,
        )
        self._generate = tf.function(
            lambda latents: tf.cast(generator(latents, training=False), tf.float32),
            autograph=False,
            reduce_retracing=True,
        )

    def photos(self, column: int, value: int) -> tuple[np.ndarray, np.ndarray]:
        """Latents `[n, *latent_shape]` of photos whose label is `value`, and R's scores `[n]`."""
        rows = self.dataset.splits[self.split]
        rows = rows[self.dataset.labels[rows, column] == value][: self.count]
        if not len(rows):
            name, which = self.dataset.attribute_names[column], "with" if value else "without"
            raise UserError(
                f"--attributes={name}: no {self.split} photo is {which} it, and the calibration "
                "needs both; add such photos, or leave the attribute out"
            )
        latents = np.concatenate(
            [
                self.encoder(batch, training=False).numpy()
                for batch in pipeline.sequential_batches(self.dataset, rows, BATCH)
            ]
        )
        return latents, self.scores(latents, column)

    def scores(self, latents: np.ndarray, column: int) -> np.ndarray:
        """R's prediction `[n]` of one attribute on the images of the `n` latents."""
        return self._score(latents)[:, column]

    def change(self, photos: tuple[np.ndarray, np.ndarray], column: int, step: np.ndarray) -> float:
        """Mean change of R's prediction when the latents of `self.photos` move by the step."""
        latents, scores = photos
        return float(np.mean(self.scores(latents + step, column) - scores))

    def scale(
        self,
        photos: tuple[np.ndarray, np.ndarray],
        vector: np.ndarray,
        column: int,
        target: float,
    ) -> np.ndarray:
        """The vector at the length at which R's mean prediction rises by `target`.

        If the target is out of reach: the shortest length tried that comes within 5 % of the
        largest rise. If R's prediction never rises: the vector unchanged.

        Args:
            photos: `self.photos` without the attribute.
            vector: the direction.
            column: of its attribute.
            target: mean rise of R's prediction.
        """
        found = bracketing.search_scalar(
            lambda factor: self.change(photos, column, factor * vector),
            target,
            WALK,
            SCALE_NARROWINGS,
            SCALE_TOLERANCE * target,
        )
        factor = found.crossing
        if not found.reached:
            enough = 0.95 * max(found.evaluated.values())
            factor = next(step for step, rise in found.evaluated.items() if rise >= enough) or 1.0
        return (vector * factor).astype(np.float32)

    def keep_detail(self, vector: np.ndarray, column: int, target: float) -> dict:
        """Where a direction acts, and the factor of its strength for `--keep_detail`.

        With --keep_detail the photo gets only the difference that the edit makes in the direction's
        footprint, and the change counts from the photo itself: the same strength changes less.

        Args:
            vector: the calibrated direction.
            column: of its attribute.
            target: mean rise of R's prediction on photos without the attribute.

        Returns:
            factor: of the strength at which the rise is `target`, or the largest one allowed;
            footprint: see `detail`; change: the rise at this factor; n: photos.
        """
        rows = self.dataset.splits[self.split]
        rows = rows[self.dataset.labels[rows, column] == 0][:KEEP_DETAIL_PHOTOS]
        photos = np.concatenate(list(pipeline.sequential_batches(self.dataset, rows, BATCH)))

        def generate(latents: np.ndarray) -> np.ndarray:
            return batched(self._generate, latents, batch=BATCH)

        def scores(images: np.ndarray) -> np.ndarray:
            return batched(self._predict, images, batch=BATCH)[:, column]

        latents = batched(lambda x: self.encoder(x, training=False), photos, batch=BATCH)
        before, scores_before = generate(latents), scores(photos)
        strengths = np.ones((len(photos), 1))

        def change(after: np.ndarray, footprint: str) -> float:
            kept = detail.KeepDetail(np.ones(1), detail.decode(footprint, before.shape[1])[None])
            confined = kept.confine(after, before, strengths)
            edited = face_crop.add_difference(photos, confined, before)
            return float(np.mean(scores(edited) - scores_before))

        after = generate(latents + vector)
        footprint = detail.choose_footprint(before, after, lambda text: change(after, text))
        everywhere = detail.decode(footprint, before.shape[1]).min() == 1
        largest = LARGEST_FACTOR_EVERYWHERE if everywhere else LARGEST_FACTOR
        found = bracketing.search_scalar(
            lambda factor: change(generate(latents + factor * vector), footprint),
            target,
            (largest,),
            FACTOR_NARROWINGS,
            FACTOR_TOLERANCE * abs(target),
        )
        factor = found.position if found.reached else largest
        return {
            "factor": factor,
            "footprint": footprint,
            "change": found.evaluated[factor],
            "n": len(photos),
        }

    def table(
        self, photos: Sequence[tuple[np.ndarray, np.ndarray]], vector: np.ndarray, column: int
    ) -> list[dict]:
        """The calibration table of a direction: {strength, change, n} for each of `TABLE`.

        Args:
            photos: `self.photos` without the attribute, and with it.
            vector: the calibrated direction.
            column: of its attribute.
        """
        entries = []
        for strength in TABLE:
            edited = photos[strength < 0]
            change = self.change(edited, column, strength * vector)
            entries.append({"strength": strength, "change": change, "n": len(edited[1])})
        return entries


def calibrate(
    calibration: Calibration,
    directions: Mapping[str, np.ndarray],
    origins: Sequence[Mapping],
    folder: RunFolder,
    config: Config,
) -> dict[str, dict]:
    """The content of each attribute's direction file, with the vector at its calibrated length.

    Prints a line per attribute, and records in config.json which ones do not reach
    `--directions_calibrated_change`.

    Args:
        calibration: on the photos that decide.
        directions: of any length, by attribute.
        origins: further entries of each file, see `directions.find_directions`.
        folder: the run.
        config: the resolved options.
    """
    generator = file_hash(folder.stage("gan").model / "weights.h5")
    entries = {}
    for (name, direction), origin in zip(directions.items(), origins, strict=True):
        column = calibration.dataset.attribute_names.index(name)
        photos = [calibration.photos(column, value) for value in (0, 1)]
        vector = calibration.scale(
            photos[0], direction, column, config.directions.calibrated_change
        )
        table = calibration.table(photos, vector, column)
        reached = next(line["change"] for line in table if line["strength"] == 1.0)
        print(f"directions: {name} +1 changes the regressor's mean prediction by {reached:+.2f}")
        if reached < 0.9 * config.directions.calibrated_change:
            folder.record_substitution(
                f"calibration of {name}",
                f"{name} +1 changes the prediction by {reached:+.2f}; the direction does not reach "
                f"--directions_calibrated_change={config.directions.calibrated_change:g}",
            )
        kept = calibration.keep_detail(vector, column, reached)
        if kept["change"] < 0.9 * reached:
            folder.record_substitution(
                f"calibration of {name} with --keep_detail",
                f"{name} +1 with --keep_detail changes the prediction by {kept['change']:+.2f}: "
                f"the edit is amplified at most {kept['factor']:g} times",
            )
        entries[name] = {
            "attribute": name,
            "space": calibration.generator.space,
            "vector": vector.tolist(),
            "generator": generator,
            "calibration": table,
            "keep_detail": kept,
            "seed": config.seed,
            **origin,
        }
    return entries
