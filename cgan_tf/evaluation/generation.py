"""Measures a generator: how close its samples are to real photos."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn import metrics as sklearn_metrics

from cgan_tf.data import ImageData
from cgan_tf.data.images import to_float
from cgan_tf.evaluation import metrics, statistics
from cgan_tf.evaluation.batching import batched, choose, compiled
from cgan_tf.evaluation.hyperplane import fit_plane
from cgan_tf.evaluation.statistics import Numbers
from cgan_tf.networks.judge import Judge
from cgan_tf.networks.stylegan import StyleGenerator

REALS = 2000  # maximum number of photos on each side of the floor of the Frechet distance
BLUR_SIDE = 32  # px; the distance "at 32" ignores finer detail
SEPARATED = 10_000  # samples for the separability
SEPARATED_LEAST = 50  # held-out samples that each class of an attribute needs


def resize(images: tf.Tensor, side: int) -> tf.Tensor:
    """Images `[N, R, R, 3]` at `[N, side, side, 3]`: averaged down, or enlarged bilinearly."""
    current = images.shape[1]
    if side < current:
        return tf.nn.avg_pool2d(images, current // side, current // side, "VALID")
    return tf.image.resize(images, (side, side), "bilinear") if side > current else images


def measure_generator(
    generator: keras.Model, judge: Judge, dataset: ImageData, fakes: int, seed: int
) -> Numbers:
    """The `generation` block: distances between a generator's samples and real photos.

    The reals are photos of the validation and test splits. The floor compares as many photos of
    the training split with them. The figures "at 32" average both sides down to 32 px and enlarge
    them again, which compares generators of different resolutions without their sharpness.

    Args:
        generator: of any resolution; its images are resized to the judge's.
        judge: its features are compared.
        dataset: at the judge's resolution.
        fakes: number of samples.
        seed: of the samples and of the choice of photos.
    """
    side = judge.resolution

    def features(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # From the image's own resolution: enlarging before averaging would blur it once more.
        small = resize(images, min(BLUR_SIDE, images.shape[1]))
        return judge.features(resize(images, side)), judge.features(resize(small, side))

    photo_features = compiled(features, (side, side, 3))
    sample_features = compiled(lambda z: features(generator.from_prior(z)), (generator.z_dim,))
    held_out = np.concatenate([dataset.splits["validation"], dataset.splits["test"]])
    reals = choose(held_out, REALS, seed)
    others = choose(dataset.splits["train"], len(reals), seed)
    latents = generator.sample_prior(fakes, seed=seed).numpy()
    real, real_32 = _photo_features(photo_features, dataset, reals)
    other, other_32 = _photo_features(photo_features, dataset, others)
    fake, fake_32 = batched(sample_features, latents)

    fd, floor = metrics.frechet_distance(fake, real), metrics.frechet_distance(other, real)
    kid, kid_std = metrics.kernel_distance(fake, real, seed)
    precision, recall = metrics.precision_recall(real, fake[: len(real)])
    return {
        "features": "judge",
        "resolution": generator.resolution,
        "fd": fd,
        "fd_floor": floor,
        "fd_over_floor": statistics.ratio(fd, floor),
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


def _photo_features(
    features: Callable[..., Any], dataset: ImageData, indices: np.ndarray
) -> tuple[np.ndarray, ...]:
    return batched(lambda rows: features(to_float(dataset.read(rows))), indices)


def measure_separability(
    generator: StyleGenerator, judge: Judge, seed: int, samples: int = SEPARATED
) -> Numbers:
    """The `separability` block: how well a hyperplane in z, and one in w, predicts each attribute.

    The judge labels samples. Logistic regression learns to predict an attribute from the latent on
    four fifths of them and is tested on the rest (after Karras et al. 2019, section 4.2).
    Accuracies are balanced, so that a constant prediction has 0.5.

    Args:
        generator: of any resolution; its images are resized to the judge's.
        judge: gives the labels.
        seed: of the samples.
        samples: their number.
    """
    z = generator.sample_prior(samples, seed=seed).numpy()
    spaces = {"z": z, "w": batched(compiled(generator.mapping, z.shape[1:]), z)}
    side = judge.resolution

    def predict(rows: tf.Tensor) -> tf.Tensor:
        return judge.features_and_probabilities(resize(generator.from_prior(rows), side))[1]

    probabilities = batched(compiled(predict, z.shape[1:]), z)
    train, held_out = np.split(np.arange(samples), [samples * 4 // 5])
    attributes = {}
    for column, name in enumerate(judge.attribute_names):
        labels = probabilities[:, column] > 0.5
        if min(labels[held_out].sum(), (~labels[held_out]).sum()) < SEPARATED_LEAST:
            continue
        attributes[name] = {"positive": statistics.number(labels.mean())}
        for space, latents in spaces.items():
            plane = fit_plane(latents[train], labels[train])
            guess = plane.predict(latents[held_out])
            attributes[name][space] = statistics.number(
                sklearn_metrics.balanced_accuracy_score(labels[held_out], guess)
            )
    means = {
        space: statistics.mean([entry[space] for entry in attributes.values()]) for space in spaces
    }
    return {
        "attributes": attributes,
        **means,
        "n_train": len(train),
        "n": len(held_out),
        "seed": seed,
    }
