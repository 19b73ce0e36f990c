"""Measures a generator: how close its samples are to real photos."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn import metrics as sklearn_metrics

from cgan_tf.data import ImageData
from cgan_tf.data.images import to_float
from cgan_tf.evaluation import metrics, statistics, subject
from cgan_tf.evaluation.hyperplane import fit_plane
from cgan_tf.evaluation.statistics import Numbers
from cgan_tf.networks.judge import Judge
from cgan_tf.networks.stylegan import StyleGenerator

REALS = 2000  # photos on each side of the Frechet distance's floor, at most
BLUR_SIDE = 32  # px: the distance "at 32" does not see finer detail
SEPARATED = 10_000  # samples behind the separability
SEPARATED_LEAST = 50  # held-out samples of either class that an attribute needs


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
        small = subject.resize(images, min(BLUR_SIDE, images.shape[1]))
        return judge.features(subject.resize(images, side)), judge.features(subject.resize(small, side))

    see_photos = subject.compiled(see, (side, side, 3))
    see_samples = subject.compiled(lambda z: see(generator.from_prior(z)), (generator.z_dim,))
    held_out = np.concatenate([dataset.splits["validation"], dataset.splits["test"]])
    reals = subject.choose(held_out, REALS, seed)
    others = subject.choose(dataset.splits["train"], len(reals), seed)
    latents = generator.sample_prior(fakes, seed=seed).numpy()
    real, real_32 = _photo_features(see_photos, dataset, reals)
    other, other_32 = _photo_features(see_photos, dataset, others)
    fake, fake_32 = subject.batched(see_samples, latents)

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
    see: Callable[..., Any], dataset: ImageData, indices: np.ndarray
) -> tuple[np.ndarray, ...]:
    return subject.batched(lambda rows: see(to_float(dataset.read(rows))), indices)


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
    spaces = {"z": z, "w": subject.batched(subject.compiled(generator.mapping, z.shape[1:]), z)}
    side = judge.resolution

    def see(rows: tf.Tensor) -> tf.Tensor:
        return judge.features_and_probabilities(subject.resize(generator.from_prior(rows), side))[1]

    probabilities = subject.batched(subject.compiled(see, z.shape[1:]), z)
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
    return {
        "attributes": attributes,
        **{space: statistics.mean([entry[space] for entry in attributes.values()]) for space in spaces},
        "n_train": len(train),
        "n": len(held_out),
        "seed": seed,
    }
