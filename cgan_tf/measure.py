"""The measurements of the evaluate stage: each function makes one block of evaluate/report.json.

Between the finished models of a run and `cgan_tf.evaluate`, which calls these functions, writes
the report and holds its layout. `cgan_tf.metrics` has the formulas. Everything runs in batches
and draws from a seed; nothing here is trained.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn import metrics as sklearn_metrics

from cgan_tf import inversion, metrics, projection, strengths
from cgan_tf.config import Config
from cgan_tf.data import ImageData, pipeline, synthetic, synthetic_source
from cgan_tf.data.images import to_float
from cgan_tf.families import fit_plane
from cgan_tf.networks.judge import Judge
from cgan_tf.networks.stylegan import StyleGenerator
from cgan_tf.networks.vgg import Perceptual
from cgan_tf.translator import Translator

BATCH = 100  # images
REALS = 2000  # photos on each side of the Frechet distance's floor, at most
BLUR_SIDE = 32  # px: the distance "at 32" does not see finer detail
RANDOM_SAMPLES = 1000  # that a reconstruction must beat
SEPARATED = 10_000  # samples behind the separability
SEPARATED_LEAST = 50  # held-out samples of either class that an attribute needs
WITHIN = 1.05  # times optimize's distance: near enough, in hybrid's seconds_to_optimize
RANDOM_DRAWS = 4  # random directions per attribute
VGG_PHOTOS = 250  # per attribute, where VGG16 must see every image: it costs 30 times the judge
SET_VALUES = (0.2, 0.4, 0.6, 0.8)  # that --set is measured at
SET_PHOTOS = 100  # per attribute and value: VGG16 sees each some ten times
MATCH_TOLERANCE = 0.01  # of the change that families are compared at
MATCH_GROWTH, MATCH_LONGEST, MATCH_STEPS = 1.5, 6.0, 20  # of the search for its strength
FEATURE_BYTES = 2 * 2**30  # perceptual features of random samples that are held at once

EDIT_FIGURES = ("target_change", "target_change_from_photo", "success", "leakage", "identity",
                "identity_from_photo")  # fmt: skip

Numbers = dict[str, Any]


def batched(
    function: Callable[..., Any], *arrays: np.ndarray, batch: int = BATCH
) -> np.ndarray | tuple[np.ndarray, ...]:
    """`function` of the arrays' rows, `batch` at a time, with its outputs joined again."""
    parts = [
        function(*(array[start : start + batch] for array in arrays))
        for start in range(0, len(arrays[0]), batch)
    ]
    if isinstance(parts[0], tuple):
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
    return np.concatenate(parts)


def compiled(function: Callable[..., Any], *shapes: tuple[int, ...]) -> Callable[..., Any]:
    """`function` as one graph for batches of any size; takes and gives NumPy arrays.

    Args:
        function: of float32 tensors, one per shape; returns a tensor or a tuple of them.
        shapes: of one row of each argument.
    """
    signature = [tf.TensorSpec((None, *shape), tf.float32) for shape in shapes]
    graph = tf.function(function, input_signature=signature, autograph=False)

    def call(*arrays: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        output = graph(*(tf.constant(array, tf.float32) for array in arrays))
        if isinstance(output, tuple):
            return tuple(part.numpy() for part in output)
        return output.numpy()

    return call


def resize(images: tf.Tensor, side: int) -> tf.Tensor:
    """Images `[N, R, R, 3]` as `[N, side, side, 3]`: averaged down, or enlarged bilinearly."""
    current = images.shape[1]
    if side < current:
        return tf.nn.avg_pool2d(images, current // side, current // side, "VALID")
    return tf.image.resize(images, (side, side), "bilinear") if side > current else images


class Chain:
    """The models of a run and its judge, as NumPy functions on batches.

    Args:
        translator: generator, encoder, directions and regressor.
        judge: see `cgan_tf.judge`.
        calibrated: change that each direction's table promises at strength +1, by attribute.
    """

    def __init__(
        self, translator: Translator, judge: Judge, calibrated: Mapping[str, float]
    ) -> None:
        self.translator = translator
        self.judge_model = judge
        self.calibrated = calibrated
        self.generator = translator.generator
        self.attributes = translator.attributes
        self.directions = dict(zip(self.attributes, translator.directions.numpy(), strict=True))
        self.names = judge.attribute_names
        image, latent = (judge.resolution, judge.resolution, 3), self.generator.latent_shape
        perceptual = Perceptual(translator.regressor)
        self.encode = compiled(translator.encode, image)
        self.generate = compiled(lambda x: self.generator(x, training=False), latent)
        self.sample = compiled(self.generator.from_prior, (self.generator.z_dim,))
        self.judge = compiled(judge.features_and_probabilities, image)
        self.score = compiled(translator.score, image)
        self.flat_features = compiled(lambda images: flatten(perceptual.features(images)), image)
        self.distance = compiled(perceptual, image, image)


def flatten(maps: list[tf.Tensor]) -> tf.Tensor:
    """Perceptual maps as rows `[N, D]` whose squared distance is the perceptual distance."""
    return tf.concat(
        [
            tf.reshape(features, (-1, np.prod(features.shape[1:])))
            / (features.shape[1] * features.shape[2]) ** 0.5  # the mean over positions
            for features in maps
        ],
        axis=1,
    )


# ---- generation -------------------------------------------------------------------------------


def measure_generator(
    generator: keras.Model, judge: Judge, dataset: ImageData, fakes: int, seed: int
) -> Numbers:
    """The `generation` block: how near a generator's samples are to real photos.

    Reals are photos of the validation and test splits; the floor compares as many photos of the
    training split with them. `at 32` averages both sides down to 32 px and enlarges them again,
    so that generators of 32 px and more are compared without their sharpness.

    Args:
        generator: of any resolution; its images are resized to the judge's.
        judge: its features are compared.
        dataset: at the judge's resolution.
        fakes: number of samples.
        seed: of the samples and of the choice of photos.
    """
    side = judge.resolution

    def see(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # From the image's own resolution: to enlarge before averaging would blur it once more.
        small = resize(images, min(BLUR_SIDE, images.shape[1]))
        return judge.features(resize(images, side)), judge.features(resize(small, side))

    see_photos = compiled(see, (side, side, 3))
    see_samples = compiled(lambda z: see(generator.from_prior(z)), (generator.z_dim,))
    held_out = np.concatenate([dataset.splits["validation"], dataset.splits["test"]])
    reals = choose(held_out, REALS, seed)
    others = choose(dataset.splits["train"], len(reals), seed)
    latents = generator.sample_prior(fakes, seed=seed).numpy()
    real, real_32 = _photo_features(see_photos, dataset, reals)
    other, other_32 = _photo_features(see_photos, dataset, others)
    fake, fake_32 = batched(see_samples, latents)

    fd, floor = metrics.frechet_distance(fake, real), metrics.frechet_distance(other, real)
    kid, kid_std = metrics.kernel_distance(fake, real, seed)
    precision, recall = metrics.precision_recall(real, fake[: len(real)])
    return {
        "features": "judge",
        "resolution": generator.resolution,
        "fd": fd,
        "fd_floor": floor,
        "fd_over_floor": ratio(fd, floor),
        "fd_at_32": metrics.frechet_distance(fake_32, real_32),
        "fd_floor_at_32": metrics.frechet_distance(other_32, real_32),
        "kid": kid,
        "kid_std": kid_std,
        "kid_floor": metrics.kernel_distance(other, real, seed)[0],
        "precision": precision,
        "recall": recall,
        "n_real": len(real),
        "n_fake": len(fake),
        "n_floor": len(other),
        "seed": seed,
    }


def choose(indices: np.ndarray, count: int, seed: int) -> np.ndarray:
    """At most `count` of the indices, a seeded choice, in ascending order."""
    if len(indices) <= count:
        return np.sort(indices)
    return np.sort(np.random.default_rng(seed).choice(indices, count, replace=False))


def _photo_features(
    see: Callable[..., Any], dataset: ImageData, indices: np.ndarray
) -> tuple[np.ndarray, ...]:
    return batched(lambda rows: see(to_float(dataset.read(rows))), indices)


def measure_separability(
    generator: StyleGenerator, judge: Judge, seed: int, samples: int = SEPARATED
) -> Numbers:
    """The `separability` block: how well a hyperplane in z, and one in w, tells each attribute.

    Samples get the judge's opinion as their labels; on four fifths of them logistic regression
    learns to tell an attribute from the latent, the rest says how well (after Karras et al. 2019,
    section 4.2). Accuracies are balanced: always saying the majority has 0.5.

    Args:
        generator: of any resolution; its images are resized to the judge's.
        judge: decides on the labels.
        seed: of the samples.
        samples: their number.
    """
    z = generator.sample_prior(samples, seed=seed).numpy()
    spaces = {"z": z, "w": batched(compiled(generator.mapping, z.shape[1:]), z)}
    side = judge.resolution

    def see(rows: tf.Tensor) -> tf.Tensor:
        return judge.features_and_probabilities(resize(generator.from_prior(rows), side))[1]

    probabilities = batched(compiled(see, z.shape[1:]), z)
    train, held_out = np.split(np.arange(samples), [samples * 4 // 5])
    attributes = {}
    for column, name in enumerate(judge.attribute_names):
        labels = probabilities[:, column] > 0.5
        if min(labels[held_out].sum(), (~labels[held_out]).sum()) < SEPARATED_LEAST:
            continue
        attributes[name] = {"positive": number(labels.mean())}
        for space, latents in spaces.items():
            plane = fit_plane(latents[train], labels[train])
            guess = plane.predict(latents[held_out])
            attributes[name][space] = number(
                sklearn_metrics.balanced_accuracy_score(labels[held_out], guess)
            )
    return {
        "attributes": attributes,
        **{space: mean([entry[space] for entry in attributes.values()]) for space in spaces},
        "n_train": len(train),
        "n": len(held_out),
        "seed": seed,
    }


# ---- regressor and inversion ------------------------------------------------------------------


class Photos:
    """What every block after `generation` needs of the test photos, computed once.

    Args:
        chain: the models.
        dataset: the photos.
        count: photos at most; a seeded choice of more.
        seed: of the choice, and of whatever else the blocks draw.
        split: of the photos; what is chosen by their figures takes "validation".
    """

    def __init__(
        self, chain: Chain, dataset: ImageData, count: int, seed: int, split: str = "test"
    ) -> None:
        self.seed = seed
        self.indices = choose(dataset.splits[split], count, seed)
        self.labels = dataset.labels[self.indices]  # [N, all]
        self.base_rates = dataset.labels[dataset.splits["train"]].mean(axis=0)  # [all]
        self.images = np.concatenate(
            list(pipeline.sequential_batches(dataset, self.indices, BATCH))
        )  # [N, R, R, 3]
        self.latents = batched(chain.encode, self.images)  # [N, *latent_shape]
        self.reconstructions = batched(chain.generate, self.latents)
        self.features, self.probabilities = batched(chain.judge, self.images)
        self.reconstructed_features, self.reconstructed_probabilities = batched(
            chain.judge, self.reconstructions
        )


def measure_regressor(chain: Chain, photos: Photos) -> Numbers:
    """The `regressor` block: accuracy of the regressor, the judge and of always the majority."""
    labels = photos.labels
    majority = np.broadcast_to(photos.base_rates > 0.5, labels.shape)
    answers = {
        "regressor": batched(chain.score, photos.images),
        "judge": photos.probabilities,
        "majority": majority.astype(np.float32),
    }
    accuracy = {who: metrics.accuracy(scores, labels) for who, scores in answers.items()}
    balanced = {who: metrics.balanced_accuracy(scores, labels) for who, scores in answers.items()}
    block: Numbers = {"n": len(labels), "seed": photos.seed}
    for who in answers:
        block[who] = {
            "accuracy": mean(accuracy[who]),
            "balanced_accuracy": mean(balanced[who]),
        }
    block["attributes"] = {
        name: {
            "positive": number(labels[:, column].mean()),
            "accuracy": number(accuracy["regressor"][column]),
            "balanced_accuracy": number(balanced["regressor"][column]),
            "judge_accuracy": number(accuracy["judge"][column]),
            "judge_balanced_accuracy": number(balanced["judge"][column]),
        }
        for column, name in enumerate(chain.names)
    }
    return block


def measure_inversion(chain: Chain, photos: Photos, samples: int = RANDOM_SAMPLES) -> Numbers:
    """The `inversion` block of the encoder: how near reconstructions are to their photos.

    Args:
        chain: the models.
        photos: the test photos.
        samples: random samples; each photo's nearest is what its reconstruction must beat.
    """
    own = batched(chain.distance, photos.images, photos.reconstructions)
    best = nearest_sample(chain, photos, samples)
    start = time.perf_counter()  # everything has been traced before
    batched(lambda images: chain.generate(chain.encode(images)), photos.images)
    seconds = time.perf_counter() - start
    return {
        "encoder": {
            "psnr": mean(metrics.psnr(photos.images, photos.reconstructions)),
            "ssim": mean(metrics.ssim(photos.images, photos.reconstructions)),
            "perceptual": mean(own),
            "identity": mean(metrics.cosine(photos.features, photos.reconstructed_features)),
            "seconds_per_image": seconds / len(photos.images),
            "nearer_than_random": mean(own < best),
            "perceptual_random_best": mean(best),
            "n": len(photos.images),
            "n_random": samples,
            "seed": photos.seed,
        }
    }


def measure_projections(chain: Chain, photos: Photos, config: Config) -> Numbers:
    """The `inversion` block's hybrid and optimize, on some of the photos.

    Args:
        chain: the models.
        photos: the test photos; `eval_projections` of them are used, a choice by their seed.
        config: the run's options.
    """
    rows = choose(np.arange(len(photos.images)), config.eval_projections, photos.seed)
    targets = photos.images[rows]
    projector = projection.Projector(
        chain.generator,
        inversion.load_perceptual(config, chain.translator.regressor),
        projection.Settings.of(config),
    )
    encoder = mean(batched(chain.distance, targets, photos.reconstructions[rows]))
    block = {}
    for mode in ("hybrid", "optimize"):
        parts = projection.invert(projector, chain.translator.encoder, targets, mode)
        reached = batched(chain.generate, np.concatenate([part.latents for part in parts]))
        if mode == "hybrid":
            _, seconds, curve = mean_curve(chain.generate, chain.distance, targets, parts)
        features = batched(chain.judge, reached)[0]
        block[mode] = {
            "psnr": mean(metrics.psnr(targets, reached)),
            "ssim": mean(metrics.ssim(targets, reached)),
            "perceptual": mean(batched(chain.distance, targets, reached)),
            "perceptual_encoder": encoder,
            "identity": mean(metrics.cosine(photos.features[rows], features)),
            "seconds_per_image": sum(part.seconds[-1] for part in parts) / len(targets),
            "n": len(targets),
            "seed": photos.seed,
        }
    near = np.flatnonzero(curve <= WITHIN * block["optimize"]["perceptual"])
    block["hybrid"]["seconds_to_optimize"] = (
        number(seconds[near[0]] / len(targets)) if len(near) else None
    )
    return block


def mean_curve(
    generate: Callable[[np.ndarray], np.ndarray],
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray],
    targets: np.ndarray,
    parts: list[projection.Projection],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How a descent came nearer: steps, seconds of all photos, mean distance, each `[T]`.

    A batch that stopped before another stays at its last point.

    Args:
        generate: images of latents.
        distance: of photos and images, `[N]`.
        targets: the photos float32 `[N, R, R, 3]`.
        parts: what `projection.invert` found for them.
    """
    points = max(len(part.steps) for part in parts)
    steps = max((part.steps for part in parts), key=len)
    seconds, curve, first = np.zeros(points), np.zeros(points), 0
    for part in parts:
        batch = targets[first : first + len(part.latents)]
        distances = [
            batched(distance, batch, batched(generate, latents)).sum() for latents in part.path
        ]
        missing = (0, points - len(distances))
        seconds += np.pad(part.seconds, missing, mode="edge")
        curve += np.pad(distances, missing, mode="edge")
        first += len(batch)
    return steps, seconds, curve / len(targets)


def nearest_sample(chain: Chain, photos: Photos, samples: int) -> np.ndarray:
    """Perceptual distance of each photo to the nearest of `samples` random samples, `[N]`.

    The samples' features are computed once, in blocks that fit `FEATURE_BYTES`; each block meets
    all photos by matrix products.
    """
    z = chain.generator.sample_prior(samples, seed=photos.seed).numpy()
    width = chain.flat_features(photos.images[:1]).shape[1]
    size = max(BATCH, FEATURE_BYTES // (4 * width) // BATCH * BATCH)
    best = np.full(len(photos.images), np.inf, np.float32)
    for first in range(0, samples, size):
        block = z[first : first + size]
        parts = [
            tf.constant(chain.flat_features(chain.sample(block[start : start + BATCH])))
            for start in range(0, len(block), BATCH)
        ]
        for start in range(0, len(best), BATCH):
            rows = tf.constant(chain.flat_features(photos.images[start : start + BATCH]))
            nearest = [_nearest(rows, part).numpy() for part in parts]
            best[start : start + BATCH] = np.min([best[start : start + BATCH], *nearest], axis=0)
    return best


def _nearest(rows: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Squared distance of each row `[N, D]` to the nearest of the others `[M, D]`.

    TensorFlow's product: NumPy's takes seventy times as long where D is some hundred thousand.
    """
    products = tf.matmul(rows, others, transpose_b=True)
    squares = [tf.reduce_sum(tf.square(part), axis=1) for part in (rows, others)]
    distances = squares[0][:, None] + squares[1][None, :] - 2.0 * products
    return tf.reduce_min(distances, axis=1)


# ---- edits ------------------------------------------------------------------------------------


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
        learned[name] = _edit(chain, photos, name, [direction], True)
        learned[name] |= _calibration(chain, photos, name)
        others = generator.standard_normal((draws, direction.size)).astype(np.float32)
        others *= np.linalg.norm(direction) / np.linalg.norm(others, axis=1, keepdims=True)
        others = others.reshape(draws, *direction.shape)
        random[name] = _edit(chain, photos, name, list(others), False)
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


def _edit(
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
        features, after = _judged(chain, photos, rows, direction)
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


def _judged(
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


# ---- families of directions at matched change ---------------------------------------------------


def match_strength(change: Callable[[float], float], asked: float) -> tuple[float, bool]:
    """The strength at which an edit's change is `asked` within `MATCH_TOLERANCE` of it.

    Strengths grow from 1 until the change is too large, or shrink to none; the bracket is then
    narrowed at the point of its straight line, at least a tenth of it at a time.

    Args:
        change: by strength; 0 at strength 0.
        asked: more than 0.

    Returns:
        the strength, and whether it reaches what was asked. If it does not, the strength of the
        largest change up to `MATCH_LONGEST`.
    """
    tried = {0.0: 0.0}
    low, high = 0.0, 1.0
    while True:
        tried[high] = change(high)
        if tried[high] >= asked or high >= MATCH_LONGEST:
            break
        low, high = high, min(high * MATCH_GROWTH, MATCH_LONGEST)
    if tried[high] < asked:
        del tried[0.0]
        return max(tried, key=tried.__getitem__), False
    best = high
    for _ in range(MATCH_STEPS):
        if abs(tried[best] - asked) <= MATCH_TOLERANCE * asked:
            return best, True
        share = (asked - tried[low]) / (tried[high] - tried[low])
        best = low + min(max(share, 0.1), 0.9) * (high - low)
        tried[best] = change(best)
        low, high = (low, best) if tried[best] >= asked else (best, high)
    return best, abs(tried[best] - asked) <= MATCH_TOLERANCE * asked


def matched(
    chain: Chain, photos: Photos, name: str, direction: np.ndarray, asked: float
) -> tuple[np.ndarray, bool]:
    """The direction at the length at which the judge sees its attribute change by `asked`.

    The change is the mean over the photos without the attribute, from reconstruction to edit.

    Returns:
        the vector, and whether it reaches that; see `match_strength`.
    """
    rows, column = rows_without(chain, photos, name), chain.names.index(name)
    before = photos.reconstructed_probabilities[rows, column]

    def change(strength: float) -> float:
        _, after = _judged(chain, photos, rows, np.float32(strength) * direction)
        return float(np.mean(after[:, column] - before))

    strength, reached = match_strength(change, asked)
    return (strength * direction).astype(np.float32), reached


def measure_families(
    chain: Chain,
    photos: Photos,
    families: Mapping[str, Mapping[str, np.ndarray]],
    asked: float,
    draws: int = RANDOM_DRAWS,
) -> tuple[Numbers, dict[str, dict[str, np.ndarray]]]:
    """The `comparison` block: families of directions, each at the same change of its attribute.

    Beside each direction stand random ones: of the same length, and, as the family "random", those
    that reach the same change (with the sign that raises the attribute); if none does, all at the
    strength of their largest change.

    Args:
        chain: the models.
        photos: those without an attribute are edited.
        families: directions by family and attribute, at lengths that make a plain change; a
            family may lack some attributes.
        asked: the judge's mean change of the attribute.
        draws: random directions per attribute.

    Returns:
        {"asked", "attributes": {NAME: {FAMILY: the figures of `measure_edits`, reached (how many
        of the directions reach what was asked), length, random_leakage, random_target_change and
        leakage_over_same_length (random ones of the same length), leakage_over_random (those at
        the same change)}}, "mean": {FAMILY: means}}; and the directions as they were scaled, but
        for the random ones.
    """
    generator = np.random.default_rng(photos.seed)
    block: Numbers = {"asked": asked, "attributes": {}}
    scaled: dict[str, dict[str, np.ndarray]] = {family: {} for family in families}
    for name in dict.fromkeys(name for vectors in families.values() for name in vectors):
        if not len(rows_without(chain, photos, name)):
            continue
        vectors = {family: found[name] for family, found in families.items() if name in found}
        units = generator.standard_normal((draws, *chain.generator.latent_shape))
        units = [(unit / np.linalg.norm(unit)).astype(np.float32) for unit in units]
        entries: Numbers = {}
        for family, vector in vectors.items():
            vector, reached = matched(chain, photos, name, vector, asked)
            scaled[family][name] = vector
            length = float(np.linalg.norm(vector))
            entries[family] = _edit(chain, photos, name, [vector], True)
            beside = _edit(chain, photos, name, [length * unit for unit in units], False)
            entries[family] |= {
                "reached": int(reached),
                "length": length,
                "random_leakage": beside["leakage"],
                "random_target_change": beside["target_change"],
                "leakage_over_same_length": ratio(entries[family]["leakage"], beside["leakage"]),
            }
        usual = float(np.mean([entry["length"] for entry in entries.values()]))
        both = [_raising(chain, photos, name, usual * unit, asked) for unit in units]
        count = sum(reached for _, reached in both)
        others = [vector for vector, reached in both if reached or not count]
        entries["random"] = _edit(chain, photos, name, others, True) | {
            "reached": count,
            "length": mean([np.linalg.norm(vector) for vector in others]),
        }
        for entry in entries.values():
            entry["leakage_over_random"] = ratio(entry["leakage"], entries["random"]["leakage"])
        block["attributes"][name] = entries
    block["mean"] = _family_means(block["attributes"], (*families, "random"))
    return block, scaled


def _raising(
    chain: Chain, photos: Photos, name: str, direction: np.ndarray, asked: float
) -> tuple[np.ndarray, bool]:
    """`matched` of the direction or its opposite, whichever raises the attribute at this length."""
    rows, column = rows_without(chain, photos, name), chain.names.index(name)
    after = [_judged(chain, photos, rows, sign * direction)[1][:, column] for sign in (1, -1)]
    sign = 1 if after[0].mean() >= after[1].mean() else -1
    return matched(chain, photos, name, sign * direction, asked)


def _family_means(attributes: Numbers, families: Sequence[str]) -> Numbers:
    """Plain means of each family's figures over the attributes that it has."""
    keys = ("target_change", "leakage", "identity", "length", "leakage_over_random",
            "leakage_over_same_length")  # fmt: skip
    means = {}
    for family in families:
        entries = [found[family] for found in attributes.values() if family in found]
        means[family] = {
            key: mean([entry[key] for entry in entries if entry.get(key) is not None])
            for key in keys
        }
        means[family]["n_attributes"] = len(entries)
        means[family]["n_reached"] = sum(entry["reached"] > 0 for entry in entries)
    return means


def measure_rescoring(
    chain: Chain, photos: Photos, directions: Mapping[str, np.ndarray]
) -> Numbers:
    """The re-scoring matrix: {A: {B: the judge's mean change of B along the direction of A}}.

    On the photos without A.
    """
    matrix = {}
    for name, direction in directions.items():
        rows = rows_without(chain, photos, name)
        _, after = _judged(chain, photos, rows, direction)
        change = np.mean(after - photos.reconstructed_probabilities[rows], axis=0)
        matrix[name] = {other: number(change[k]) for k, other in enumerate(chain.names)}
    return matrix


def entangled_pairs(
    rescoring: Numbers, others: Sequence[str], count: int = 2
) -> list[tuple[str, str]]:
    """The `count` pairs (A, B) of which B, one of the others, moves most along A's direction."""
    sizes = {
        (name, other): abs(row[other])
        for name, row in rescoring.items()
        for other in others
        if other != name
    }
    return sorted(sizes, key=sizes.__getitem__, reverse=True)[:count]


def measure_projection(
    chain: Chain,
    photos: Photos,
    pairs: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]],
    asked: float,
) -> list[Numbers]:
    """What conditional projection does to the leakage into the held attribute, at matched change.

    Args:
        chain: the models.
        photos: those without the edited attribute are edited.
        pairs: of the edited and the held attribute: the direction, and the projected one.
        asked: the judge's mean change of the edited attribute.

    Returns:
        for each pair {edited, held, before, after: {held_leakage (mean |change| of the held one),
        held_change (mean change), leakage (of all others), reached, length}, ratio (of the held
        leakages), n}
    """
    entries = []
    for (name, held), both in pairs.items():
        rows = rows_without(chain, photos, name)
        probabilities = photos.reconstructed_probabilities[rows]
        entry: Numbers = {"edited": name, "held": held, "n": len(rows)}
        for when, direction in zip(("before", "after"), both, strict=True):
            vector, reached = matched(chain, photos, name, direction, asked)
            change = _judged(chain, photos, rows, vector)[1] - probabilities
            column = chain.names.index(held)
            entry[when] = {
                "held_leakage": mean(np.abs(change[:, column])),
                "held_change": mean(change[:, column]),
                "leakage": mean(np.delete(np.abs(change), chain.names.index(name), axis=1)),
                "reached": reached,
                "length": float(np.linalg.norm(vector)),
            }
        entry["ratio"] = ratio(entry["after"]["held_leakage"], entry["before"]["held_leakage"])
        entries.append(entry)
    return entries


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


# ---- numbers that JSON can hold ----------------------------------------------------------------


def number(value: Any) -> float | None:
    """A plain float, or None for what has no value."""
    value = float(value)
    return value if np.isfinite(value) else None


def mean(values: Any) -> float | None:
    """Mean of the values that are numbers; None if there are none."""
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    return number(values.mean()) if values.size else None


def ratio(above: float | None, below: float | None) -> float | None:
    """above / below, or None where it has no value."""
    return None if above is None or not below else number(above / below)
