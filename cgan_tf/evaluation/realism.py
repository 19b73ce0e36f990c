"""Measures whether photos that were given an attribute look like photos that have it."""

import numpy as np

from cgan_tf.data import ImageData
from cgan_tf.data.images import to_float
from cgan_tf.evaluation import metrics
from cgan_tf.evaluation.batching import batched, choose
from cgan_tf.evaluation.edits import judge_edits, rows_without
from cgan_tf.evaluation.evaluated import EvaluatedModels, TestPhotos
from cgan_tf.evaluation.statistics import Numbers, number

REALS = 1000  # maximum number of photos with an attribute
LEAST = 50  # photos that either side needs


def measure_realism(
    models: EvaluatedModels, photos: TestPhotos, dataset: ImageData
) -> dict[str, Numbers]:
    """The realism of +1: Frechet distances to photos with the attribute, by the judge's features.

    Args:
        models: of the run.
        photos: those without the attribute are edited.
        dataset: its validation and test photos with the attribute are compared with.

    Returns:
        {NAME: {realism, realism_unedited}}, the distances of the edited images and of their photos;
        None where either side has fewer than `LEAST` images.
    """
    held_out = np.concatenate([dataset.splits["validation"], dataset.splits["test"]])
    found = {}
    for name, direction in models.directions.items():
        has = dataset.labels[held_out, models.all_attributes.index(name)] > 0.5
        reals = choose(held_out[has], REALS, photos.seed)
        rows = rows_without(models, photos, name)
        found[name] = {"realism": None, "realism_unedited": None}
        if min(len(reals), len(rows)) >= LEAST:
            real, _ = batched(lambda indices: models.judge(to_float(dataset.read(indices))), reals)
            edited, _ = judge_edits(models, photos, rows, direction)
            found[name] = {
                "realism": number(metrics.frechet_distance(edited, real)),
                "realism_unedited": number(metrics.frechet_distance(photos.features[rows], real)),
            }
    return found
