"""The evaluate stage's blocks on edits: what a step along a direction does to photos.

Each function `measure_...` makes one block of evaluate/report.json, whose layout is in
`cgan_tf.evaluate`; `measure` has the models and photos that they all take. The comparison of
families of directions is in `comparison`.
"""

import os

import numpy as np

from cgan_tf import metrics
from cgan_tf.data import synthetic, synthetic_source
from cgan_tf.data.images import to_float
from cgan_tf.measure import Chain, Numbers, Photos, batched, mean, ratio

RANDOM_DRAWS = 4  # random directions per attribute
VGG_PHOTOS = 250  # per attribute, where VGG16 must see every image: it costs 30 times the judge

EDIT_FIGURES = ("target_change", "target_change_from_photo", "success", "leakage", "identity",
                "identity_from_photo")  # fmt: skip


def measure_edits(chain: Chain, photos: Photos, draws: int = RANDOM_DRAWS) -> Numbers:
    """The `edits` block: what +1 along each direction does to photos without the attribute.

    Args:
        chain: the models.
        photos: the test photos.
        draws: random directions per attribute, of the learned one's length: the baseline.
    """
    learned, random = {}, {}
    generator = np.random.default_rng(photos.seed)
    for name, direction in chain.directions.items():
        learned[name] = edit_figures(chain, photos, name, [direction], True)
        learned[name] |= _calibration(chain, photos, name)
        others = generator.standard_normal((draws, direction.size)).astype(np.float32)
        others *= np.linalg.norm(direction) / np.linalg.norm(others, axis=1, keepdims=True)
        others = others.reshape(draws, *direction.shape)
        random[name] = edit_figures(chain, photos, name, list(others), False)
        learned[name]["ratio_over_random"] = ratio(learned[name]["ratio"], random[name]["ratio"])
    return {"learned": learned, "random": random}


def edits_mean(edits: Numbers) -> Numbers:
    """The `edits_mean` block: each method's plain means over the attributes."""
    keys = (*EDIT_FIGURES, "ratio")
    means = {}
    for method, attributes in edits.items():
        chosen = keys + (("calibration_error",) if method == "learned" else ())
        means[method] = {
            key: mean([entry[key] for entry in attributes.values() if entry.get(key) is not None])
            for key in chosen
        }
    return means


def rows_without(chain: Chain, photos: Photos, name: str) -> np.ndarray:
    """Rows of the test photos whose label of the attribute is 0."""
    return np.flatnonzero(photos.labels[:, chain.names.index(name)] < 0.5)


def edit_figures(
    chain: Chain, photos: Photos, name: str, directions: list[np.ndarray], signed: bool
) -> Numbers:
    """One attribute's figures, means over the directions.

    Args:
        signed: False takes the size of each direction's mean change: a random direction has no
            sign of its own.
    """
    rows, column = rows_without(chain, photos, name), chain.names.index(name)
    before, photo = photos.reconstructed_probabilities[rows], photos.probabilities[rows, column]
    below = before[:, column] <= 0.5
    figures: dict[str, list[float | None]] = {key: [] for key in EDIT_FIGURES}
    for direction in directions if len(rows) else ():
        features, after = judged(chain, photos, rows, direction)
        change = np.mean(after[:, column] - before[:, column])
        from_photo = np.mean(after[:, column] - photo)
        figures["target_change"].append(change if signed else abs(change))
        figures["target_change_from_photo"].append(from_photo if signed else abs(from_photo))
        figures["success"].append(mean(after[below, column] > 0.5))
        figures["leakage"].append(mean(np.delete(np.abs(after - before), column, axis=1)))
        figures["identity"].append(_identity(photos.reconstructed_features[rows], features))
        figures["identity_from_photo"].append(_identity(photos.features[rows], features))
    means = {key: mean([v for v in values if v is not None]) for key, values in figures.items()}
    return means | {
        "strength": 1.0,
        "ratio": ratio(means["target_change"], means["leakage"]),
        "n": len(rows),
        "n_success": int(below.sum()),
        "draws": len(directions),
        "seed": photos.seed,
    }


def judged(
    chain: Chain, photos: Photos, rows: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The judge's features and probabilities of the rows' reconstructions, moved by the step."""
    return batched(lambda x: chain.judge(chain.generate(x + step)), photos.latents[rows])


def _identity(before: np.ndarray, after: np.ndarray) -> float | None:
    """Mean cosine; a row of zeros, which an untrained judge may give, has none."""
    whole = (np.abs(before).sum(axis=1) > 0) & (np.abs(after).sum(axis=1) > 0)
    return mean(metrics.cosine(before[whole], after[whole])) if whole.any() else None


def _calibration(chain: Chain, photos: Photos, name: str) -> Numbers:
    """What a direction's table promises at +1, and what comes of it on the test photos.

    Measured as the table was: the mean change of R's prediction from the reconstruction to the
    edited image, on photos without the attribute.
    """
    rows, column = rows_without(chain, photos, name)[:VGG_PHOTOS], chain.names.index(name)
    promised = chain.calibrated[name]
    achieved = achieved_judge = None
    if len(rows):
        edited = batched(chain.generate, photos.latents[rows] + chain.directions[name])
        change = batched(chain.score, edited) - batched(chain.score, photos.reconstructions[rows])
        achieved = mean(change[:, column])
        _, after = batched(chain.judge, edited)
        achieved_judge = mean(after[:, column] - photos.reconstructed_probabilities[rows, column])
    return {
        "calibrated_change": promised,
        "achieved_change": achieved,
        "achieved_change_judge": achieved_judge,
        "calibration_error": None if achieved is None else abs(achieved - promised),
        "calibration_error_judge": None if achieved is None else abs(achieved_judge - promised),
        "n_calibration": len(rows),
    }


# ---- the true edit, which only drawn faces have ------------------------------------------------


def measure_counterfactual(chain: Chain, photos: Photos) -> Numbers:
    """The `counterfactual` block: edited faces against the same faces drawn with the attribute.

    Args:
        chain: the models.
        photos: test photos of the synthetic data.
    """
    rows = {name: rows_without(chain, photos, name) for name in chain.attributes}
    faces = [
        synthetic.counterfactual(synthetic_source.face(photos.indices[row]), name, True)
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
    to_truth, to_unedited = metrics.psnr(edited, truth), metrics.psnr(edited, unedited)
    agree = (seen > 0.5) == (wanted > 0.5)
    asked = slice(0, VGG_PHOTOS)
    nearer = batched(chain.distance, edited[asked], truth[asked]) < batched(
        chain.distance, edited[asked], unedited[asked]
    )
    change = wanted - photos.probabilities[rows]
    return {
        "psnr": mean(to_truth),
        "psnr_unedited": mean(to_unedited),
        "psnr_ceiling": mean(metrics.psnr(ceiling, truth)),
        "judge_agreement": mean(agree),
        "judge_agreement_target": mean(agree[:, column]),
        "true_change": mean(change[:, column]),
        "true_leakage": mean(np.delete(np.abs(change), column, axis=1)),
        "nearer_psnr": mean(to_truth > to_unedited),
        "nearer_judge": mean(
            np.linalg.norm(features - true_features, axis=1)
            < np.linalg.norm(features - photos.features[rows], axis=1)
        ),
        "nearer": mean(nearer),
        "n_nearer": len(nearer),
        "n": len(rows),
        "seed": photos.seed,
    }
