"""Compares edits of synthetic faces with the ground truth: the face rendered with the attribute."""

import os

import numpy as np

from cgan_tf.data import synthetic
from cgan_tf.data.images import to_float
from cgan_tf.evaluation import edits, metrics
from cgan_tf.evaluation.batching import batched
from cgan_tf.evaluation.edits import VGG_PHOTOS
from cgan_tf.evaluation.evaluated import EvaluatedModels, TestPhotos
from cgan_tf.evaluation.statistics import Numbers, mean


def measure_counterfactual(models: EvaluatedModels, photos: TestPhotos) -> Numbers:
    """The `counterfactual` block: edited faces against the same faces rendered with the attribute.

    Args:
        models: of the run.
        photos: test photos of the synthetic data.
    """
    rows = {name: edits.rows_without(models, photos, name) for name in models.attributes}
    faces = [
        synthetic.counterfactual(synthetic.dataset_face(photos.indices[row]), name, True)
        for name in models.attributes
        for row in rows[name]
    ]
    rendered = synthetic.render_many(faces, models.judge_model.resolution, os.cpu_count() or 1)
    block, start = {}, 0
    for name in models.attributes:
        truth = to_float(rendered[start : start + len(rows[name])])
        start += len(rows[name])
        if len(truth):
            block[name] = compare_with_truth(models, photos, name, rows[name], truth)
        else:
            block[name] = {"n": 0, "seed": photos.seed}
    return block


def compare_with_truth(
    models: EvaluatedModels, photos: TestPhotos, name: str, rows: np.ndarray, truth: np.ndarray
) -> Numbers:
    """The figures of one attribute.

    Args:
        models: of the run.
        photos: test photos.
        name: the edited attribute.
        rows: of the photos.
        truth: the true edited faces of these rows, float32 `[N, R, R, 3]`.
    """
    column, unedited = models.all_attributes.index(name), photos.images[rows]
    edited = edits.edit(models, photos, rows, models.directions[name])
    features, after = batched(models.judge, edited)
    true_features, true_after = batched(models.judge, truth)
    ceiling = batched(models.invert, truth)
    agree = (after > 0.5) == (true_after > 0.5)
    change = true_after - photos.probabilities[rows]
    kept = edits.keep_detail(photos, rows, edited)
    images = [edited, photos.reconstructions[rows], unedited, truth, kept]
    judge_features = [
        features,
        photos.reconstructed_features[rows],
        photos.features[rows],
        true_features,
        batched(models.judge, kept)[0],
    ]
    few = [part[:VGG_PHOTOS] for part in images]
    perceptual = batched(lambda *parts: _distances(*map(models.flat_features, parts)), *few)
    return {
        "psnr": mean(metrics.psnr(edited, truth)),
        "psnr_unedited": mean(metrics.psnr(edited, unedited)),
        "psnr_ceiling": mean(metrics.psnr(ceiling, truth)),
        "judge_agreement": mean(agree),
        "judge_agreement_target": mean(agree[:, column]),
        "true_change": mean(change[:, column]),
        "true_leakage": mean(np.delete(np.abs(change), column, axis=1)),
        **_shares("", perceptual),
        **_shares("_judge", _distances(*judge_features)),
        **_shares("_psnr", _distances(*images)),  # squared errors are ordered as PSNR is
        "n_perceptual": len(few[0]),
        "n": len(rows),
        "seed": photos.seed,
    }


def _distances(
    edited: np.ndarray,
    reconstruction: np.ndarray,
    unedited: np.ndarray,
    truth: np.ndarray,
    kept: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """Squared distances `[N]`.

    From the truth to each of the first three arguments, in their order; from the edited to the
    unedited; and from the truth to the --keep_detail edit.
    """

    def squared(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.square(one - other).reshape(len(one), -1).sum(axis=1)

    first = (squared(part, truth) for part in (edited, reconstruction, unedited))
    return *first, squared(edited, unedited), squared(kept, truth)


def _shares(suffix: str, distances: tuple[np.ndarray, ...]) -> Numbers:
    """The shares of edits that are closer to the truth, from the result of `_distances`."""
    edited, reconstruction, unedited, edited_to_unedited, kept = distances
    return {
        f"closer_to_truth{suffix}": mean(edited < edited_to_unedited),
        f"closer_than_photo{suffix}": mean(edited < unedited),
        f"closer_than_reconstruction{suffix}": mean(edited < reconstruction),
        f"keep_detail_closer_than_photo{suffix}": mean(kept < unedited),
    }
