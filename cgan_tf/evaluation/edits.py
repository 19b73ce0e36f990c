"""Measures edits: how a step along a direction changes photos.

Each function `measure_...` makes one block of evaluate/report.json, whose layout is documented in
`stages/evaluate.py`.
"""

from collections.abc import Iterable

import numpy as np

from cgan_tf.data import face_crop
from cgan_tf.editing import strengths
from cgan_tf.evaluation import metrics
from cgan_tf.evaluation.batching import batched, batched_once, choose
from cgan_tf.evaluation.evaluated import EvaluatedModels, TestPhotos
from cgan_tf.evaluation.identity import FALSE_ACCEPTS
from cgan_tf.evaluation.statistics import Numbers, estimate, mean, ratio

RANDOM_DRAWS = 4  # random directions per attribute
VGG_PHOTOS = 250  # per attribute, where VGG16 evaluates all images: it costs 30 times the judge
VGG_FEW = 40  # per attribute, where VGG16 serves only one figure of several
SET_VALUES = (0.2, 0.4, 0.6, 0.8)  # that --set is measured at
SET_PHOTOS = 30  # per attribute and value: VGG16 evaluates each some five times

EDIT_FIGURES = (
    "target_change",
    "target_change_from_photo",
    "success",
    "leakage",
    "retrieval",
)
INTERVALS = ("target_change", "success", "leakage", "retrieval")  # the figures that have one
LEARNED_MEANS = ("calibration_error", "realism", "realism_unedited")  # besides, for edits_mean


def measure_edits(
    models: EvaluatedModels, photos: TestPhotos, draws: int = RANDOM_DRAWS
) -> Numbers:
    """The `edits` block but the realism: the effect of a step along each direction.

    +1 on photos without the attribute along the learned directions and along random ones, and -1 on
    photos with it along the learned ones.

    Args:
        models: of the run.
        photos: the test photos.
        draws: random directions per attribute, as long as the learned one: the baseline.
    """
    learned, random, removed = {}, {}, {}
    scores = batched(models.score, photos.reconstructions)
    generator = np.random.default_rng(photos.seed)
    for name, direction in models.directions.items():
        learned[name] = edit_figures(models, photos, name, [direction], True)
        calibration, interval = _calibration(models, photos, name, scores)
        learned[name] |= calibration
        learned[name]["interval"]["calibration_error"] = interval
        others = generator.standard_normal((draws, direction.size)).astype(np.float32)
        others *= np.linalg.norm(direction) / np.linalg.norm(others, axis=1, keepdims=True)
        others = others.reshape(draws, *direction.shape)
        random[name] = edit_figures(models, photos, name, list(others), False)
        learned[name]["ratio_over_random"] = ratio(learned[name]["ratio"], random[name]["ratio"])
        removed[name] = edit_figures(models, photos, name, [direction], True, strength=-1.0)
    return {"learned": learned, "random": random, "removed": removed}


def edits_mean(edits: Numbers) -> Numbers:
    """The `edits_mean` block: each method's means over the attributes."""
    keys = (*EDIT_FIGURES, "ratio")
    means = {}
    for method, attributes in edits.items():
        chosen = keys + (LEARNED_MEANS if method == "learned" else ())
        chosen += _recognized(attributes.values())
        means[method] = {
            key: mean([entry[key] for entry in attributes.values() if entry.get(key) is not None])
            for key in chosen
        }
    return means


def _recognized(entries: Iterable[Numbers]) -> tuple[str, ...]:
    """The figures of a face recognizer, if the entries have them."""
    return tuple(key for key in FALSE_ACCEPTS if any(key in entry for entry in entries))


def measure_keep_detail(models: EvaluatedModels, photos: TestPhotos) -> Numbers:
    """The `keep_detail` block: the effect of +1 on photos that keep their own detail.

    All changes are measured from the photo itself, where such an edit starts. `plain` is ordinary
    translation of the same photos, which starts from the reconstruction.
    """
    block: Numbers = {"attributes": {}, "mean": {}}
    for name in models.attributes:
        rows = rows_without(models, photos, name)
        if not len(rows):
            continue
        plain = edit(models, photos, rows, models.directions[name])
        kept = keep_detail(photos, rows, plain)
        block["attributes"][name] = {
            "keep_detail": _figures_from_photo(models, photos, name, rows, kept),
            "plain": _figures_from_photo(models, photos, name, rows, plain),
            "n": len(rows),
            "seed": photos.seed,
        }
    for method in ("keep_detail", "plain"):
        entries = [entry[method] for entry in block["attributes"].values()]
        block["mean"][method] = {
            key: mean([entry[key] for entry in entries])
            for key in ("target_change", "leakage", "retrieval", *_recognized(entries))
        }
    return block


def _figures_from_photo(
    models: EvaluatedModels, photos: TestPhotos, name: str, rows: np.ndarray, edited: np.ndarray
) -> Numbers:
    """Changes of the judge's predictions from the rows' photos to their edited images."""
    features, after = batched(models.judge, edited)
    change, leakage = metrics.edit_change(
        photos.probabilities[rows], after, models.all_attributes.index(name)
    )
    columns = {
        "target_change": change,
        "leakage": leakage,
        "retrieval": photos.found(rows, features),
        **photos.same_person(rows, edited),
    }
    found = {key: estimate(values, photos.seed) for key, values in columns.items()}
    return {key: figure for key, (figure, _) in found.items()} | {
        "interval": {key: interval for key, (_, interval) in found.items()}
    }


def keep_detail(photos: TestPhotos, rows: np.ndarray, edited: np.ndarray) -> np.ndarray:
    """The rows' photos float32 `[N, R, R, 3]`, edited with --keep_detail.

    Args:
        photos: the test photos.
        rows: of the photos.
        edited: the generated images of the rows after the edit.
    """
    return face_crop.keep_detail(photos.images[rows], edited, photos.reconstructions[rows])


def rows_without(models: EvaluatedModels, photos: TestPhotos, name: str) -> np.ndarray:
    """Rows of the photos whose label of the attribute is 0."""
    return np.flatnonzero(photos.labels[:, models.all_attributes.index(name)] < 0.5)


def rows_with(models: EvaluatedModels, photos: TestPhotos, name: str) -> np.ndarray:
    """Rows of the photos whose label of the attribute is 1."""
    return np.setdiff1d(np.arange(len(photos.labels)), rows_without(models, photos, name))


def edit(
    models: EvaluatedModels, photos: TestPhotos, rows: np.ndarray, step: np.ndarray
) -> np.ndarray:
    """The images of the rows' codes when their latents move by a step, or by one step each."""
    return batched(models.generate, *photos.code(rows), _steps(photos, rows, step))


def _steps(photos: TestPhotos, rows: np.ndarray, step: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.float32(step), (len(rows), *photos.latents.shape[1:]))


def edit_figures(
    models: EvaluatedModels,
    photos: TestPhotos,
    name: str,
    directions: list[np.ndarray],
    signed: bool,
    strength: float = 1.0,
) -> Numbers:
    """One attribute's figures, means over the directions, and their 95 % intervals.

    The face recognizer, which is slow, sees the edits of a signed direction only.

    Args:
        models: of the run.
        photos: those without the attribute are edited; at a negative strength those with it.
        name: the attribute.
        directions: steps in the latent space.
        signed: see `judged_figures`.
        strength: of the edit.
    """
    rows = (rows_without if strength > 0 else rows_with)(models, photos, name)
    judged = [
        judge_edits(models, photos, rows, np.float32(strength) * direction)
        for direction in directions
        if len(rows)
    ]
    figures = judged_figures(models, photos, name, judged, signed, strength)
    if signed and photos.identity is not None:
        (step,) = np.float32(strength) * np.float32(directions)
        edited = edit(models, photos, rows, step) if len(rows) else photos.reconstructions[:0]
        for key, values in photos.same_person(rows, edited).items():
            figures[key], figures["interval"][key] = estimate(values, photos.seed)
    return figures | {"draws": len(directions)}


def judged_figures(
    models: EvaluatedModels,
    photos: TestPhotos,
    name: str,
    judged: list[tuple[np.ndarray, np.ndarray]],
    signed: bool,
    strength: float = 1.0,
) -> Numbers:
    """`edit_figures` from the judge's output.

    Args:
        models: of the run.
        photos: those without the attribute were edited; at a negative strength those with it.
        name: the attribute.
        judged: the result of `judge_edits` on these for each direction.
        signed: False takes the absolute value of each direction's mean change: a random direction
            has no sign of its own.
        strength: of the edit; success means to cross 0.5 in its sense.
    """
    rows = (rows_without if strength > 0 else rows_with)(models, photos, name)
    column = models.all_attributes.index(name)
    before, photo = photos.reconstructed_probabilities[rows], photos.probabilities[rows, column]
    to_cross = (before[:, column] <= 0.5) == (strength > 0)
    each: dict[str, list[np.ndarray]] = {key: [] for key in EDIT_FIGURES}  # [directions][N]
    for features, after in judged:
        crossed = (after[:, column] > 0.5) == (strength > 0)
        change, leakage = metrics.edit_change(before, after, column)
        each["target_change"].append(change)
        each["target_change_from_photo"].append(after[:, column] - photo)
        each["success"].append(np.where(to_cross, crossed, np.nan))
        each["leakage"].append(leakage)
        each["retrieval"].append(photos.found(rows, features))
    means, intervals = {}, {}
    for key, columns in each.items():
        size = np.abs if key.startswith("target_change") and not signed else None
        values = np.stack(columns, axis=1) if columns else np.zeros((0, 1))
        means[key], intervals[key] = estimate(values, photos.seed, size)
    return means | {
        "interval": {key: intervals[key] for key in INTERVALS},
        "strength": strength,
        "ratio": ratio(means["target_change"], means["leakage"]),
        "n": len(rows),
        "n_success": int(to_cross.sum()),
        "draws": len(judged),
        "seed": photos.seed,
    }


def judge_edits(
    models: EvaluatedModels, photos: TestPhotos, rows: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The judge's features and probabilities of the rows' images after a latent step."""
    return batched(
        lambda *parts: models.judge(models.generate(*parts)),
        *photos.code(rows),
        _steps(photos, rows, step),
    )


def _calibration(
    models: EvaluatedModels, photos: TestPhotos, name: str, scores: np.ndarray
) -> tuple[Numbers, list[float] | None]:
    """The change that a direction's table gives for +1, and the change on the test photos.

    Measured as the table was: the mean change of R's prediction from the reconstruction to the
    edited image, on photos without the attribute. `scores` are R's `[N, all]` of all
    reconstructions. The second result is the interval of the error; it accounts for the choice of
    the test photos, not for that of the table's validation photos.
    """
    rows, column = (
        rows_without(models, photos, name)[:VGG_PHOTOS],
        models.all_attributes.index(name),
    )
    expected = models.calibrated[name]
    achieved = achieved_judge = interval = None
    if len(rows):
        edited = edit(models, photos, rows, models.directions[name])
        change = (batched(models.score, edited) - scores[rows])[:, column]
        achieved = mean(change)
        _, interval = estimate(change, photos.seed, lambda means: np.abs(means - expected))
        _, after = batched(models.judge, edited)
        achieved_judge = mean(after[:, column] - photos.reconstructed_probabilities[rows, column])
    figures = {
        "calibrated_change": expected,
        "achieved_change": achieved,
        "achieved_change_judge": achieved_judge,
        "calibration_error": None if achieved is None else abs(achieved - expected),
        "calibration_error_judge": None if achieved is None else abs(achieved_judge - expected),
        "n_calibration": len(rows),
    }
    return figures, interval


def measure_set(models: EvaluatedModels, photos: TestPhotos, count: int = SET_PHOTOS) -> Numbers:
    """The `set` block: how precisely --set achieves the requested values.

    Args:
        models: of the run.
        photos: a seeded choice of `count` of them, of either label, is set to each of `SET_VALUES`
            of each attribute.
        count: of photos.
    """
    rows = choose(np.arange(len(photos.latents)), count, photos.seed)
    # One search for each photo and value. Those of one photo pass the same strengths at first.
    searched = np.tile(rows, len(SET_VALUES))
    targets = np.repeat(SET_VALUES, len(rows))
    attributes: Numbers = {}
    for name, direction in models.directions.items():
        column = models.all_attributes.index(name)

        def move(rows: np.ndarray, steps: np.ndarray, along: np.ndarray = direction):
            return models.generate(*photos.code(rows), np.multiply.outer(steps[:, 0], along))

        def predict(rows: np.ndarray, steps: np.ndarray, column: int = column, move=move):
            scores = batched_once(lambda *parts: models.score(move(*parts)), rows, steps)
            return scores[:, [column]]

        # The search passes on which of the photos it asks for: their rows stand for the latents.
        found = strengths.search(
            predict, searched, np.zeros(1, np.float32), [0], targets[:, np.newaxis]
        )
        probabilities = batched_once(
            lambda *parts, move=move: models.judge(move(*parts))[1], searched, found.strengths
        )
        reached, judged = found.values[:, 0], probabilities[:, column]
        columns = {
            "reached": reached,
            "reached_judge": judged,
            "error": np.abs(reached - targets),
            "error_judge": np.abs(judged - targets),
            "strength": np.abs(found.strengths[:, 0]),
            "hit_rate": found.hit[:, 0],
        }
        attributes[name] = [
            {
                "requested": requested,
                **{key: mean(values[targets == requested]) for key, values in columns.items()},
                "n": len(rows),
                "seed": photos.seed,
            }
            for requested in SET_VALUES
        ]
    entries = [entry for found in attributes.values() for entry in found]
    keys = ("error", "error_judge", "strength", "hit_rate")
    return {
        "attributes": attributes,
        **{key: mean([entry[key] for entry in entries]) for key in keys},
        "n": len(rows),
        "seed": photos.seed,
    }


def measure_consistency(models: EvaluatedModels, photos: TestPhotos) -> Numbers:
    """The `consistency` block: edit by +1, encode the edited image, and undo the edit.

    Latent editing consistency (Tov et al. 2021): the distance between the latent after this cycle
    and the one before. `unedited` is the cycle without an edit: the cost of generating and
    encoding alone.

    Args:
        models: of the run.
        photos: those without the attribute are edited.
    """
    everyone, again = np.arange(len(photos.labels)), batched(models.encode, photos.reconstructions)
    unedited, _ = _undo(models, photos, everyone, again, np.zeros_like(photos.latents[0]))
    block = {}
    for name, direction in models.directions.items():
        rows = rows_without(models, photos, name)
        entry: Numbers = {"n": len(rows), "seed": photos.seed}
        if len(rows):
            again = batched(models.encode, edit(models, photos, rows, direction))
            cycle, images = _undo(models, photos, rows, again, direction)
            few = rows[:VGG_FEW]
            distances = batched(models.distance, photos.reconstructions[few], images[: len(few)])
            entry |= {
                "step": float(np.linalg.norm(direction)),
                **{key: mean(values) for key, values in cycle.items()},
                "unedited": {key: mean(values[rows]) for key, values in unedited.items()},
                "interval": {"latent": estimate(cycle["latent"], photos.seed)[1]},
                "perceptual": mean(distances),
                "n_perceptual": len(few),
            }
        block[name] = entry
    return block


def _undo(
    models: EvaluatedModels,
    photos: TestPhotos,
    rows: np.ndarray,
    code: tuple[np.ndarray, np.ndarray],
    step: np.ndarray,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Undoes an edit of the rows, whose edited images have the code; the figures and the images.

    The figures are distances from the rows' latents and from their reconstructions, and whether
    the images find the rows' photos.
    """
    images = batched(models.generate, *code, _steps(photos, rows, -step))
    features, _ = batched(models.judge, images)
    difference = (code[0] - step - photos.latents[rows]).reshape(len(rows), -1)
    figures = {
        "latent": np.linalg.norm(difference, axis=1),
        "psnr": metrics.psnr(photos.reconstructions[rows], images),
        "retrieval": photos.found(rows, features),
    }
    return figures, images
