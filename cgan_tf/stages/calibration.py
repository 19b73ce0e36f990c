"""Calibrates directions: how far strength +1 moves the regressor's mean prediction."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import ImageData, face_crop, pipeline
from cgan_tf.editing import detail
from cgan_tf.stages import families

if TYPE_CHECKING:
    from cgan_tf.stages.directions import DirectionsTrainer

CALIBRATION_PHOTOS = 200  # of the validation split, at most, on each side of zero
# Multiples of the trained step that the calibration tries, then those of the calibrated one.
SEARCH = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
BISECTIONS = 4
TABLE = (-1.5, -1.0, -0.5, 0.5, 1.0, 1.5)
KEEP_DETAIL_PHOTOS = 100  # of the validation split
# Of the search for its factor: an edit that acts in one place may go further than one that acts
# everywhere, as those of hair do, which get halos and lose more identity than plain translation.
KEEP_DETAIL_LONGEST, KEEP_DETAIL_LONGEST_EVERYWHERE = 2.0, 1.25
KEEP_DETAIL_BISECTIONS = 6
BATCH = 50  # photos in one pass of a measurement


class Calibration:
    """Measures how far a step along a direction moves R's mean prediction.

    Args:
        trainer: its networks, and its directions as they are when a method is called.
        dataset: positive steps are measured on photos without the attribute, negative ones on
            photos with it.
        split: of the photos.
        count: photos on either side, at most.
    """

    def __init__(
        self, trainer: "DirectionsTrainer", dataset: ImageData, split: str, count: int
    ) -> None:
        self.trainer = trainer
        self.dataset = dataset
        self.split = split
        self.count = count
        self._score = families.scorer(trainer.generator, trainer.perceptual.regressor, BATCH)

    def photos(self, column: int, value: int) -> tuple[np.ndarray, np.ndarray]:
        """Latents `[n, *latent_shape]` of photos whose label is `value`, and R's scores `[n]`."""
        rows = self.dataset.splits[self.split]
        rows = rows[self.dataset.labels[rows, column] == value][: self.count]
        if not len(rows):
            name = self.dataset.attribute_names[column]
            raise UserError(
                f"--attributes={name}: no {self.split} photo has it at {value}; "
                "nothing to calibrate on"
            )
        latents = np.concatenate(
            [
                self.trainer.encoder(batch, training=False).numpy()
                for batch in pipeline.sequential_batches(self.dataset, rows, BATCH)
            ]
        )
        return latents, self.scores(latents, column)

    def scores(self, latents: np.ndarray, column: int) -> np.ndarray:
        """R's prediction `[n]` of one attribute on the images of the `n` latents."""
        return self._score(latents)[:, column]

    def change(self, side: tuple[np.ndarray, np.ndarray], column: int, step: np.ndarray) -> float:
        """Mean change of R's prediction when the latents of `photos` move by the step."""
        latents, scores = side
        return float(np.mean(self.scores(latents + step, column) - scores))

    def scale(self, index: int, asked: float) -> np.ndarray:
        """Direction `index` at the length at which R's mean prediction rises by `asked`.

        Where the direction does not reach that, the first length tried that gets within 5 % of the
        largest change; where R's prediction never rises, its length as it is.
        """
        column = int(self.trainer.columns[index])
        vector = self.trainer.directions.numpy()[index]
        side = self.photos(column, 0)
        tried = {0.0: 0.0}  # change by multiple of the vector
        low = high = 0.0
        for high in SEARCH:
            tried[high] = self.change(side, column, high * vector)
            if tried[high] >= asked:
                break
            low = high
        if tried[high] >= asked:
            for _ in range(BISECTIONS):
                middle = (low + high) / 2
                tried[middle] = self.change(side, column, middle * vector)
                low, high = (low, middle) if tried[middle] >= asked else (middle, high)
            unit = float(np.interp(asked, [tried[low], tried[high]], [low, high]))
        else:  # the first step that is nearly as good as the best; as it is, if none is any good
            best = max(tried.values())
            unit = next(step for step, value in tried.items() if value >= 0.95 * best) or 1.0
        return (vector * unit).astype(np.float32)

    def keep_detail(self, index: int, vector: np.ndarray, asked: float) -> dict:
        """Where a direction acts, and how much further it must go where only that is edited.

        Less of an edit gets through then (translate's --keep_detail), and the change counts from
        the photo itself.

        Args:
            index: of the direction.
            vector: the calibrated one.
            asked: mean rise of R's prediction on photos without the attribute.

        Returns:
            factor: of the strength, with which the rise is `asked`, or the longest where that is
            not reached; footprint: see `detail`; change: the rise; n: photos.
        """
        column = int(self.trainer.columns[index])
        rows = self.dataset.splits[self.split]
        rows = rows[self.dataset.labels[rows, column] == 0][:KEEP_DETAIL_PHOTOS]
        photos = np.concatenate(list(pipeline.sequential_batches(self.dataset, rows, BATCH)))
        generator, regressor = self.trainer.generator, self.trainer.perceptual.regressor
        see = tf.function(lambda images: regressor(images, training=False), autograph=False)

        run = functools.partial(families.in_batches, batch=BATCH)
        draw = tf.function(
            lambda latents: tf.cast(generator(latents, training=False), tf.float32),
            autograph=False,
        )
        latents = run(lambda images: self.trainer.encoder(images, training=False), photos)
        before, scores = run(draw, latents), run(see, photos)[:, column]
        after, strengths = run(draw, latents + vector), np.ones((len(photos), 1))

        def change(drawn: np.ndarray, text: str) -> float:
            kept = detail.KeepDetail(np.ones(1), detail.decode(text, before.shape[1])[None])
            edited = face_crop.add_difference(photos, kept.confine(drawn, before, strengths), before)
            return float(np.mean(run(see, edited)[:, column] - scores))

        text = detail.choose_footprint(before, after, functools.partial(change, after))

        def change_at(factor: float) -> float:
            return change(run(draw, latents + factor * vector), text)

        everywhere = detail.decode(text, before.shape[1]).min() == 1
        low, high = 0.0, KEEP_DETAIL_LONGEST_EVERYWHERE if everywhere else KEEP_DETAIL_LONGEST
        reached = change_at(high)
        if reached > asked:
            for _ in range(KEEP_DETAIL_BISECTIONS):
                middle = (low + high) / 2
                found = change_at(middle)
                low, high, reached = (
                    (middle, high, reached) if found < asked else (low, middle, found)
                )
        return {
            "factor": float(high), "footprint": text, "change": reached, "n": len(photos),
        }  # fmt: skip

    def table(self, index: int, vector: np.ndarray) -> list[dict]:
        """The calibration table of the vector for the attribute of direction `index`."""
        column = int(self.trainer.columns[index])
        sides = {sign: self.photos(column, int(sign < 0)) for sign in (1, -1)}
        return [
            {
                "strength": strength,
                "change": self.change(side, column, strength * vector),
                "n": len(side[1]),
            }
            for strength in TABLE
            for side in (sides[1 if strength > 0 else -1],)
        ]


def calibrate(
    calibration: Calibration,
    attributes: Sequence[str],
    origins: Sequence[dict],
    folder: RunFolder,
    config: Config,
) -> dict[str, dict]:
    """What the direction file of each attribute says, its vector at the calibrated length.

    Says, and notes in config.json, which attribute does not reach `calibrated_change`.

    Args:
        calibration: of the trainer that holds the directions.
        attributes: theirs, in their order.
        origins: what each file says beside, see `find_directions`.
        folder: the run.
        config: the resolved options.
    """
    generator = file_hash(folder.stage("gan").model / "weights.h5")
    entries = {}
    for index, name in enumerate(attributes):
        vector = calibration.scale(index, config.directions.calibrated_change)
        table = calibration.table(index, vector)
        reached = next(line["change"] for line in table if line["strength"] == 1.0)
        print(f"directions: {name} +1 changes R's mean prediction by {reached:+.2f}")
        if reached < 0.9 * config.directions.calibrated_change:
            folder.record_substitution(
                f"calibration of {name}",
                f"{name} +1 stands for {reached:+.2f}, not --directions_calibrated_change="
                f"{config.directions.calibrated_change:g}, which the direction does not reach",
            )
        kept = calibration.keep_detail(index, vector, reached)
        if kept["change"] < 0.9 * reached:
            folder.record_substitution(
                f"calibration of {name} with --keep_detail",
                f"{name} +1 with --keep_detail stands for {kept['change']:+.2f}: the difference "
                f"that it makes is not enlarged beyond {kept['factor']:g} times",
            )
        entries[name] = {
            "attribute": name,
            "space": calibration.trainer.generator.space,
            "vector": vector.tolist(),
            "generator": generator,
            "calibration": table,
            "keep_detail": kept,
            "seed": config.seed,
            **origins[index],
        }
    return entries
