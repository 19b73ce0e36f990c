"""What the evaluate stage measures with, and its blocks on generator, regressor and inversion.

Each function `measure_...` makes one block of evaluate/report.json; those on edits are in `editing`
and `comparison`. Between the finished models of a run and `cgan_tf.evaluate`, which calls these
functions, writes the report and holds its layout. `cgan_tf.metrics` has the formulas. Everything
runs in batches and draws from a seed; nothing here is trained.
"""

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn import metrics as sklearn_metrics

from cgan_tf import inversion, metrics, projection
from cgan_tf.core.config import Config
from cgan_tf.data import ImageData, pipeline
from cgan_tf.data.images import to_float
from cgan_tf.detail import KeepDetail
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
FEATURE_BYTES = 2 * 2**30  # perceptual features of random samples that are held at once

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
        keep_detail: of the directions; None where they do not tell.
    """

    def __init__(
        self,
        translator: Translator,
        judge: Judge,
        calibrated: Mapping[str, float],
        keep_detail: KeepDetail | None = None,
    ) -> None:
        self.translator = translator
        self.judge_model = judge
        self.calibrated = calibrated
        self.keep_detail = keep_detail
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

    def some(self, count: int) -> "Photos":
        """At most `count` of them, a choice by their seed."""
        rows, fewer = choose(np.arange(len(self.labels)), count, self.seed), copy.copy(self)
        for name, value in vars(self).items():
            if name not in ("seed", "base_rates"):
                setattr(fewer, name, value[rows])
        return fewer


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
    perceptual = inversion.load_perceptual(config, chain.translator.regressor)
    encoder = mean(batched(chain.distance, targets, photos.reconstructions[rows]))
    block = {}
    for mode in ("hybrid", "optimize"):
        settings = projection.Settings.of(config, mode)
        projector = projection.Projector(chain.generator, perceptual, settings)
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


def estimate(
    values: np.ndarray, seed: int, transform: Callable[[np.ndarray], np.ndarray] | None = None
) -> tuple[float | None, list[float] | None]:
    """A mean over photos and its 95 % interval by bootstrap over the photos.

    Args:
        values: `[N]`, or `[N, D]` of D directions, whose figures are averaged; NaN is left out.
        seed: of the bootstrap.
        transform: of each direction's mean before they are averaged, as its size.

    Returns:
        the figure and the interval's ends; None and None where there is no value.
    """
    if not len(values):
        return None, None
    values = np.asarray(values, np.float64).reshape(len(values), -1)
    values = values[:, ~np.isnan(values).all(axis=0)]
    if not values.size:
        return None, None
    means, draws = np.nanmean(values, axis=0), metrics.bootstrap_means(values, seed)
    if transform:
        means, draws = transform(means), transform(draws)
    # A draw that has no value for one direction has none at all.
    return number(means.mean()), list(metrics.interval(draws.mean(axis=1)))


def ratio(above: float | None, below: float | None) -> float | None:
    """above / below, or None where it has no value."""
    return None if above is None or not below else number(above / below)
