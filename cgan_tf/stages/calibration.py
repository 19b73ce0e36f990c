"""Calibrates directions: how far strength +1 moves the regressor's mean prediction."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import ImageData, pipeline
from cgan_tf.editing import bracketing
from cgan_tf.evaluation.batching import batched
from cgan_tf.networks.codec import Code, Codec

CALIBRATION_PHOTOS = 200  # maximum number of validation photos for each sign of the strength
# Multiples of the trained step that the calibration tries until the change is passed.
WALK = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# Tolerance as a fraction of the change, of which the choice of the photos makes some 2 %.
SCALE_NARROWINGS, SCALE_TOLERANCE = 4, 5e-3
ENOUGH = 0.75  # of the largest rise, where the change is out of reach
TABLE = (-1.5, -1.0, -0.5, 0.5, 1.0, 1.5)  # multiples of the calibrated step in the table
BATCH = 50  # photos per network evaluation


class Encoded(NamedTuple):
    """n photos, encoded, with R's prediction of one attribute on their reconstructions."""

    latents: np.ndarray  # float32 [n, *latent_shape]
    features: np.ndarray  # float32 [n, *features_shape]
    scores: np.ndarray  # float32 [n]


def _repeated(step: np.ndarray, count: int) -> np.ndarray:
    """One step `[*latent_shape]` for each of `count` photos."""
    return np.broadcast_to(np.float32(step), (count, *step.shape))


class Calibration:
    """Measures how far a step along a direction moves R's mean prediction.

    Args:
        codec: E and G, with detail features if the run has them.
        regressor: R.
        dataset: positive steps are measured on photos without the attribute, negative ones on
            photos with it.
        split: of the photos.
        count: maximum number of photos for each sign.
    """

    def __init__(
        self,
        codec: Codec,
        regressor: keras.Model,
        dataset: ImageData,
        split: str,
        count: int,
    ) -> None:
        self.space = codec.generator.space
        self.dataset = dataset
        self.split = split
        self.count = count

        def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
            return tf.function(function, autograph=False, reduce_retracing=True)

        def score(latent: tf.Tensor, features: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
            image = tf.cast(codec.generate(Code(latent, features), offset), tf.float32)
            return regressor(image, training=False)

        self._encode = compiled(lambda photos: tuple(codec.encode(photos)))
        self._score = compiled(score)

    def photos(self, column: int, value: int) -> "Encoded":
        """Photos whose label is `value`."""
        rows = self.dataset.splits[self.split]
        rows = rows[self.dataset.labels[rows, column] == value][: self.count]
        if not len(rows):
            name, which = self.dataset.attribute_names[column], "with" if value else "without"
            raise UserError(
                f"--attributes={name}: no {self.split} photo is {which} it, and the calibration "
                "needs both; add such photos, or leave the attribute out"
            )
        images = np.concatenate(list(pipeline.sequential_batches(self.dataset, rows, BATCH)))
        code = batched(self._encode, images, batch=BATCH)
        return Encoded(*code, self._scores(code, np.zeros_like(code[0][0]))[:, column])

    def change(self, photos: "Encoded", column: int, step: np.ndarray) -> float:
        """Mean change of R's prediction when the latents of `self.photos` move by the step."""
        after = self._scores(photos[:2], step)[:, column]
        return float(np.mean(after - photos.scores))

    def _scores(self, code: tuple[np.ndarray, np.ndarray], step: np.ndarray) -> np.ndarray:
        """R's predictions `[n, all attributes]` on the images of codes that move by the step."""
        return batched(self._score, *code, _repeated(step, len(code[0])), batch=BATCH)

    def scale(
        self,
        photos: "Encoded",
        vector: np.ndarray,
        column: int,
        target: float,
    ) -> np.ndarray:
        """The vector at the length at which R's mean prediction rises by `target`.

        If the target is out of reach: the shortest length tried with `ENOUGH` of the largest rise;
        beyond it a photo loses its person for little more. If R's prediction never rises: the
        vector unchanged.

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
            enough = ENOUGH * max(found.evaluated.values())
            factor = next(step for step, rise in found.evaluated.items() if rise >= enough) or 1.0
        return (vector * factor).astype(np.float32)

    def table(self, photos: "Sequence[Encoded]", vector: np.ndarray, column: int) -> list[dict]:
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
            entries.append({"strength": strength, "change": change, "n": len(edited.scores)})
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
        entries[name] = {
            "attribute": name,
            "space": calibration.space,
            "vector": vector.tolist(),
            "generator": generator,
            "calibration": table,
            "seed": config.seed,
            **origin,
        }
    return entries
