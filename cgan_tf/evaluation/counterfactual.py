"""Compares edits of synthetic faces with the true edited faces."""

import os

import numpy as np

from cgan_tf.data import synthetic
from cgan_tf.data.images import to_float
from cgan_tf.evaluation import edits, metrics
from cgan_tf.evaluation.edits import VGG_PHOTOS
from cgan_tf.evaluation.statistics import Numbers, mean
from cgan_tf.evaluation.subject import Chain, Photos, batched

# ---- the true edit, which only drawn faces have --------------------------------------------------


def measure_counterfactual(chain: Chain, photos: Photos) -> Numbers:
    """The `counterfactual` block: edited faces against the same faces drawn with the attribute.

    Args:
        chain: the models.
        photos: test photos of the synthetic data.
    """
    rows = {name: edits.rows_without(chain, photos, name) for name in chain.attributes}
    faces = [
        synthetic.counterfactual(synthetic.dataset_face(photos.indices[row]), name, True)
        for name in chain.attributes
        for row in rows[name]
    ]
    side = chain.judge_model.resolution
    drawn = synthetic.render_many(faces, side, os.cpu_count() or 1)
    block, start = {}, 0
    for name in chain.attributes:
        truth = to_float(drawn[start : start + len(rows[name])])
        start += len(rows[name])
        if len(truth):
            block[name] = _counterfactual(chain, photos, name, rows[name], truth)
        else:
            block[name] = {"n": 0, "seed": photos.seed}
    return block


def _counterfactual(
    chain: Chain, photos: Photos, name: str, rows: np.ndarray, truth: np.ndarray
) -> Numbers:
    column, unedited = chain.names.index(name), photos.images[rows]
    edited = batched(chain.generate, photos.latents[rows] + chain.directions[name])
    features, seen = batched(chain.judge, edited)
    true_features, wanted = batched(chain.judge, truth)
    ceiling = batched(lambda images: chain.generate(chain.encode(images)), truth)
    agree = (seen > 0.5) == (wanted > 0.5)
    change = wanted - photos.probabilities[rows]
    rebuilt = photos.reconstructions[rows]
    pictures = [edited, rebuilt, unedited, truth]
    looks = [
        features,
        photos.reconstructed_features[rows],
        photos.features[rows],
        true_features,
    ]
    if chain.keep_detail is not None:
        kept = edits.keep_detail(chain, photos, name, rows)
        pictures.append(kept)
        looks.append(batched(chain.judge, kept)[0])
    few = [part[:VGG_PHOTOS] for part in pictures]
    seen_few = batched(lambda *parts: _apart(*map(chain.flat_features, parts)), *few)
    return {
        "psnr": mean(metrics.psnr(edited, truth)),
        "psnr_unedited": mean(metrics.psnr(edited, unedited)),
        "psnr_ceiling": mean(metrics.psnr(ceiling, truth)),
        "judge_agreement": mean(agree),
        "judge_agreement_target": mean(agree[:, column]),
        "true_change": mean(change[:, column]),
        "true_leakage": mean(np.delete(np.abs(change), column, axis=1)),
        **_nearness("", seen_few),
        **_nearness("_judge", _apart(*looks)),
        **_nearness("_psnr", _apart(*pictures)),  # the order of squared errors is PSNR's
        "n_nearer": len(few[0]),
        "n": len(rows),
        "seed": photos.seed,
    }


def _apart(
    edited: np.ndarray, rebuilt: np.ndarray, unedited: np.ndarray, truth: np.ndarray,
    *kept: np.ndarray,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """Squared distances `[N]`: from the truth of the first three, in their order; between the
    edited and the unedited; and from the truth of the photo that keeps its detail, if it is given.
    """

    def squared(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.square(one - other).reshape(len(one), -1).sum(axis=1)

    first = (squared(part, truth) for part in (edited, rebuilt, unedited))
    return *first, squared(edited, unedited), *(squared(part, truth) for part in kept)


def _nearness(suffix: str, distances: tuple[np.ndarray, ...]) -> Numbers:
    """The shares of yes to the block's questions, from what `_apart` gives."""
    edited, rebuilt, unedited, edited_to_unedited, *kept = distances
    return {
        f"nearer{suffix}": mean(edited < edited_to_unedited),
        f"beats_photo{suffix}": mean(edited < unedited),
        f"beats_reconstruction{suffix}": mean(edited < rebuilt),
    } | {f"detail_beats_photo{suffix}": mean(part < unedited) for part in kept}
