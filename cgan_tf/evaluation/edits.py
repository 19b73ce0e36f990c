"""The evaluate stage's blocks on edits: what a step along a direction does to photos.

Each function `measure_...` makes one block of evaluate/report.json, whose layout is in
`cgan evaluate`; `measure` has the models and photos that they all take. The comparison of
families of directions is in `comparison`.
"""

import numpy as np

from cgan_tf.data import face_crop
from cgan_tf.editing import strengths
from cgan_tf.evaluation import metrics
from cgan_tf.evaluation.statistics import Numbers, estimate, mean, ratio
from cgan_tf.evaluation.subject import Chain, Photos, batched, choose

RANDOM_DRAWS = 4  # random directions per attribute
VGG_PHOTOS = 250  # per attribute, where VGG16 must see every image: it costs 30 times the judge
VGG_FEW = 40  # per attribute, where it sees them for one figure of several
SET_VALUES = (0.2, 0.4, 0.6, 0.8)  # that --set is measured at
SET_PHOTOS = 100  # per attribute and value: VGG16 sees each some four times

EDIT_FIGURES = ("target_change", "target_change_from_photo", "success", "leakage", "identity",
                "identity_from_photo")  # fmt: skip
INTERVALS = ("target_change", "success", "leakage", "identity")  # the figures that have one


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
        calibration, interval = _calibration(chain, photos, name)
        learned[name] |= calibration
        learned[name]["interval"]["calibration_error"] = interval
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


def measure_keep_detail(chain: Chain, photos: Photos) -> Numbers:
    """The `keep_detail` block: what +1 does to photos that get only the edit's difference.

    Everything counts from the photo itself, which is what such an edit begins with; beside it what
    `plain` translation does to the same photos, which begins with the reconstruction.
    """
    block: Numbers = {"attributes": {}, "mean": {}}
    for name in chain.attributes:
        rows = rows_without(chain, photos, name)
        if not len(rows):
            continue
        drawn = batched(chain.generate, photos.latents[rows] + chain.directions[name])
        block["attributes"][name] = {
            "keep_detail": _from_photo(
                chain, photos, name, rows, keep_detail(chain, photos, name, rows)
            ),
            "plain": _from_photo(chain, photos, name, rows, drawn),
            "n": len(rows),
            "seed": photos.seed,
        }
    for method in ("keep_detail", "plain"):
        entries = [entry[method] for entry in block["attributes"].values()]
        block["mean"][method] = {
            key: mean([entry[key] for entry in entries])
            for key in ("target_change", "leakage", "identity")
        }
    return block


def _from_photo(
    chain: Chain, photos: Photos, name: str, rows: np.ndarray, edited: np.ndarray
) -> Numbers:
    """What the judge sees changed between the rows' photos and their edited images."""
    features, after = batched(chain.judge, edited)
    change, leakage = metrics.edit_change(
        photos.probabilities[rows], after, chain.names.index(name)
    )
    columns = {
        "target_change": change,
        "leakage": leakage,
        "identity": _identity(photos.features[rows], features),
    }
    found = {key: estimate(values, photos.seed) for key, values in columns.items()}
    return {key: figure for key, (figure, _) in found.items()} | {
        "interval": {key: interval for key, (_, interval) in found.items()}
    }


def keep_detail(chain: Chain, photos: Photos, name: str, rows: np.ndarray) -> np.ndarray:
    """The rows' photos float32 `[N, R, R, 3]`, edited by +1 as --keep_detail does it."""
    strengths = np.zeros((len(rows), len(chain.attributes)), np.float32)
    strengths[:, chain.attributes.index(name)] = 1.0
    factor = chain.keep_detail.scaled(strengths)[:, [chain.attributes.index(name)]]
    steps = factor.reshape(-1, *[1] * chain.directions[name].ndim) * chain.directions[name]
    before = photos.reconstructions[rows]
    drawn = batched(chain.generate, photos.latents[rows] + steps)
    drawn = chain.keep_detail.confine(drawn, before, strengths)
    return face_crop.add_difference(photos.images[rows], drawn, before)


def rows_without(chain: Chain, photos: Photos, name: str) -> np.ndarray:
    """Rows of the test photos whose label of the attribute is 0."""
    return np.flatnonzero(photos.labels[:, chain.names.index(name)] < 0.5)


def edit_figures(
    chain: Chain, photos: Photos, name: str, directions: list[np.ndarray], signed: bool
) -> Numbers:
    """One attribute's figures, means over the directions, and their 95 % intervals.

    Args:
        chain: the models.
        photos: those without the attribute are edited.
        name: the attribute.
        directions: steps in the latent space.
        signed: False takes the size of each direction's mean change: a random direction has no
            sign of its own.
    """
    rows, column = rows_without(chain, photos, name), chain.names.index(name)
    before, photo = photos.reconstructed_probabilities[rows], photos.probabilities[rows, column]
    below = before[:, column] <= 0.5
    each: dict[str, list[np.ndarray]] = {key: [] for key in EDIT_FIGURES}  # [directions][N]
    for direction in directions if len(rows) else ():
        features, after = judged(chain, photos, rows, direction)
        crossed = (after[:, column] > 0.5).astype(np.float64)
        change, leakage = metrics.edit_change(before, after, column)
        each["target_change"].append(change)
        each["target_change_from_photo"].append(after[:, column] - photo)
        each["success"].append(np.where(below, crossed, np.nan))
        each["leakage"].append(leakage)
        each["identity"].append(_identity(photos.reconstructed_features[rows], features))
        each["identity_from_photo"].append(_identity(photos.features[rows], features))
    means, intervals = {}, {}
    for key, columns in each.items():
        size = np.abs if key.startswith("target_change") and not signed else None
        values = np.stack(columns, axis=1) if columns else np.zeros((0, 1))
        means[key], intervals[key] = estimate(values, photos.seed, size)
    return means | {
        "interval": {key: intervals[key] for key in INTERVALS},
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


def _identity(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Cosines `[N]`; a row of zeros, which an untrained judge may give, has none: NaN."""
    whole = (np.abs(before).sum(axis=1) > 0) & (np.abs(after).sum(axis=1) > 0)
    cosines = np.full(len(before), np.nan)
    cosines[whole] = metrics.cosine(before[whole], after[whole])
    return cosines


def _calibration(chain: Chain, photos: Photos, name: str) -> tuple[Numbers, list[float] | None]:
    """What a direction's table promises at +1, and what comes of it on the test photos.

    Measured as the table was: the mean change of R's prediction from the reconstruction to the
    edited image, on photos without the attribute. With it comes the interval of the error; it
    knows of the test photos' chance, not of the validation photos' behind the promise.
    """
    rows, column = rows_without(chain, photos, name)[:VGG_PHOTOS], chain.names.index(name)
    promised = chain.calibrated[name]
    achieved = achieved_judge = interval = None
    if len(rows):
        edited = batched(chain.generate, photos.latents[rows] + chain.directions[name])
        change = batched(chain.score, edited) - batched(chain.score, photos.reconstructions[rows])
        achieved = mean(change[:, column])
        _, interval = estimate(
            change[:, column], photos.seed, lambda means: np.abs(means - promised)
        )
        _, after = batched(chain.judge, edited)
        achieved_judge = mean(after[:, column] - photos.reconstructed_probabilities[rows, column])
    figures = {
        "calibrated_change": promised,
        "achieved_change": achieved,
        "achieved_change_judge": achieved_judge,
        "calibration_error": None if achieved is None else abs(achieved - promised),
        "calibration_error_judge": None if achieved is None else abs(achieved_judge - promised),
        "n_calibration": len(rows),
    }
    return figures, interval


def measure_set(chain: Chain, photos: Photos, count: int = SET_PHOTOS) -> Numbers:
    """The `set` block: what --set gives of what it is asked for.

    Args:
        chain: the models.
        photos: a seeded choice of `count` of them, whatever their labels, is set to each of
            `SET_VALUES` of each attribute.
        count: of photos.
    """
    rows = choose(np.arange(len(photos.latents)), count, photos.seed)
    latents = photos.latents[rows]
    attributes: Numbers = {}
    for name, direction in chain.directions.items():
        column = chain.names.index(name)

        def move(latents: np.ndarray, steps: np.ndarray, along: np.ndarray = direction):
            return chain.generate(latents + np.multiply.outer(steps[:, 0], along))

        def predict(latents: np.ndarray, steps: np.ndarray, column: int = column, move=move):
            return batched(lambda *parts: chain.score(move(*parts)), latents, steps)[:, [column]]

        attributes[name] = []
        for asked in SET_VALUES:
            found = strengths.search(predict, latents, np.zeros(1, np.float32), [0], [asked])
            seen = batched(lambda *parts: chain.judge(move(*parts))[1], latents, found.strengths)
            attributes[name].append(
                {
                    "asked": asked,
                    "reached": mean(found.values),
                    "reached_judge": mean(seen[:, column]),
                    "error": mean(np.abs(found.values - asked)),
                    "error_judge": mean(np.abs(seen[:, column] - asked)),
                    "strength": mean(np.abs(found.strengths)),
                    "met": mean(found.met),
                    "n": len(rows),
                    "seed": photos.seed,
                }
            )
    entries = [entry for found in attributes.values() for entry in found]
    keys = ("error", "error_judge", "strength", "met")
    return {
        "attributes": attributes,
        **{key: mean([entry[key] for entry in entries]) for key in keys},
        "n": len(rows),
        "seed": photos.seed,
    }


# ---- there and back -----------------------------------------------------------------------------


def measure_consistency(chain: Chain, photos: Photos) -> Numbers:
    """The `consistency` block: edit by +1, encode what was drawn, take the edit back.

    Latent editing consistency (Tov et al. 2021): how far the way back ends from the
    reconstruction that the edit began at. `unedited` is the same way without an edit: what
    drawing and encoding alone cost.

    Args:
        chain: the models.
        photos: those without the attribute are edited.
    """
    again = batched(chain.encode, photos.reconstructions)
    still = _way_back(chain, photos, np.arange(len(photos.labels)), again)
    block = {}
    for name, direction in chain.directions.items():
        rows = rows_without(chain, photos, name)
        entry: Numbers = {"n": len(rows), "seed": photos.seed}
        if len(rows):
            edited = batched(chain.generate, photos.latents[rows] + direction)
            back = batched(chain.encode, edited) - direction
            way = _way_back(chain, photos, rows, back)
            entry |= {
                "step": float(np.linalg.norm(direction)),
                **{key: mean(values) for key, values in way.items()},
                "unedited": {key: mean(values[rows]) for key, values in still.items()},
                "interval": {"latent": estimate(way["latent"], photos.seed)[1]},
            }
            few = rows[:VGG_FEW]
            entry["perceptual"] = mean(
                batched(
                    chain.distance,
                    photos.reconstructions[few],
                    batched(chain.generate, back[:VGG_FEW]),
                )
            )
            entry["n_perceptual"] = len(few)
        block[name] = entry
    return block


def _way_back(
    chain: Chain, photos: Photos, rows: np.ndarray, latents: np.ndarray
) -> dict[str, np.ndarray]:
    """How far latents are from the rows' own, and their images from the reconstructions."""
    images = batched(chain.generate, latents)
    features, _ = batched(chain.judge, images)
    apart = (latents - photos.latents[rows]).reshape(len(rows), -1)
    return {
        "latent": np.linalg.norm(apart, axis=1),
        "psnr": metrics.psnr(photos.reconstructions[rows], images),
        "identity": _identity(photos.reconstructed_features[rows], features),
    }
