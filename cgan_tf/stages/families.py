"""Families of directions that are found without training: hyperplanes, SeFa, principal components.

`--directions_family` chooses the family; `directions` learns the one called `learned`. All are
functions of a generator, the regressor R and labelled samples; benchmarks/directions.py compares
them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn import decomposition

from cgan_tf.evaluation.batching import batched
from cgan_tf.evaluation.hyperplane import as_rows, find_hyperplane, unit_rows
from cgan_tf.evaluation.scores import LabelledSamples, scorer
from cgan_tf.networks.dcgan import LOWEST
from cgan_tf.networks.generators import AnyGenerator
from cgan_tf.networks.stylegan import StyleGenerator

COMPONENTS = 64  # of sefa and pca that are candidates for an attribute
ACTIVATIONS = 4000  # samples for the principal components of feature maps
NAMING_SAMPLES = 32  # samples that each component edits, for its effect on the attributes
STEP = 3.0  # standard deviations of the latents along a direction: its length before calibration
LEAST_LEAKAGE = 0.02  # mean change of R's scores that counts as none, see `name_components`


def find(
    family: str,
    generator: AnyGenerator,
    regressor: keras.Model,
    columns: Mapping[str, int],
    samples: LabelledSamples,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The directions of a family.

    Args:
        family: "hyperplane", "sefa" or "pca".
        generator: in the space of the samples.
        regressor: R, whose scores label samples or name components.
        columns: of R's scores, by attribute.
        samples: of the latent space.

    Returns:
        float32 `[K, *latent_shape]`, in the order of the columns, `STEP` standard deviations of
        the samples long; and for each the number of samples of each class, or the component and
        its sign.

    Raises:
        UserError: an attribute has too few samples of one class.
    """
    if family == "hyperplane":
        normals, found = [], []
        for name, column in columns.items():
            normal, counts = find_hyperplane(samples, column, name)
            normals.append(normal)
            found.append(counts)
        return at_step(np.stack(normals), samples.latents), found
    components = sefa(generator) if family == "sefa" else pca(generator, samples.latents)
    steps = at_step(components[:COMPONENTS], samples.latents)
    changes = component_changes(generator, regressor, steps, samples.latents[:NAMING_SAMPLES])
    named = name_components(changes, list(columns.values()))
    vectors = np.stack([sign * steps[index] for index, sign in named])
    return vectors, [{"component": index, "sign": sign} for index, sign in named]


def at_step(vectors: np.ndarray, latents: np.ndarray) -> np.ndarray:
    """The vectors `[C, *latent_shape]`, each `STEP` standard deviations of the latents long."""
    units = unit_rows(vectors)
    spread = np.std(as_rows(latents) @ units.T, axis=0)  # [C]
    return (STEP * spread[:, None] * units).reshape(vectors.shape).astype(np.float32)


def sefa(generator: AnyGenerator) -> np.ndarray:
    """SeFa (Shen & Zhou 2021, equation 4): the directions that the first weights amplify most.

    The eigenvectors of A^T A by decreasing eigenvalue. A is the first dense layer, or the stacked
    affine layers of a StyleGAN's styles. In the space ws all layers move equally.

    Returns:
        unit vectors, float32 `[z_dim, *latent_shape]`.
    """
    if isinstance(generator, StyleGenerator):
        kernel = np.concatenate(
            [layer.affine.scaled_kernel().numpy() for layer in generator.convolutions], axis=1
        )
    else:
        first = next(layer for layer in generator.layers if hasattr(layer, "kernel"))
        kernel = first.kernel.numpy()  # [z_dim, units], the transpose of the paper's A
    kernel = kernel.astype(np.float64)
    _, vectors = np.linalg.eigh(kernel @ kernel.T)
    vectors = vectors.T[::-1]  # eigh returns columns by increasing eigenvalue
    largest = np.abs(vectors).argmax(axis=1)
    vectors = vectors * np.sign(vectors[np.arange(len(vectors)), largest])[:, None]
    shape = generator.latent_shape
    if len(shape) > 1:  # ws
        vectors = np.repeat(vectors[:, None, :], shape[0], axis=1) / shape[0] ** 0.5
    return vectors.astype(np.float32)


def pca(generator: AnyGenerator, latents: np.ndarray, count: int = COMPONENTS) -> np.ndarray:
    """GANSpace (Harkonen et al. 2020): principal components of w, or of a feature map.

    A DCGAN's z is isotropic. Its components are those of the first feature map, which linear
    regression transfers to z, as the paper does for BigGAN (equations 2 and 3).

    Args:
        generator: a StyleGAN in the space w or ws, or a DCGAN.
        latents: samples `[N, *latent_shape]`.
        count: maximum number of components.

    Returns:
        unit vectors, float32 `[C, *latent_shape]`, by decreasing variance.
    """
    shape = latents.shape[1:]
    count = min(count, len(latents), shape[-1])
    if isinstance(generator, StyleGenerator):
        return principal_components(as_rows(latents), count).reshape(-1, *shape)
    latents = latents[:ACTIVATIONS]
    network = keras.Model(generator.input, generator.maps[LOWEST])
    maps = batched(lambda rows: tf.cast(network(rows, training=False), tf.float32), latents)
    flat = maps.reshape(len(latents), -1)
    count = min(count, flat.shape[1])
    coordinates = (flat - flat.mean(axis=0)) @ principal_components(flat, count).T  # [N, C]
    z = as_rows(latents)
    back = np.linalg.lstsq(coordinates.astype(np.float64), z - z.mean(axis=0), rcond=None)[0]
    return (back / np.linalg.norm(back, axis=1, keepdims=True)).astype(np.float32)


def principal_components(rows: np.ndarray, count: int) -> np.ndarray:
    """The `count` unit axes of largest variance of rows `[N, D]`, float32 `[count, D]`."""
    fit = decomposition.PCA(count, random_state=0).fit(rows)
    return fit.components_.astype(np.float32)


def component_changes(
    generator: AnyGenerator, regressor: keras.Model, steps: np.ndarray, latents: np.ndarray
) -> np.ndarray:
    """Half the mean difference `[C, all]` of R's scores between latent + step and latent - step.

    Args:
        generator: in the latents' space.
        regressor: R.
        steps: `[C, *latent_shape]`, one for each component.
        latents: samples `[N, *latent_shape]`.
    """
    score = scorer(generator, regressor)
    return np.stack(
        [np.mean(score(latents + step) - score(latents - step), axis=0) / 2 for step in steps]
    )


def name_components(changes: np.ndarray, columns: Sequence[int]) -> list[tuple[int, int]]:
    """The best component for each attribute, and the sign with which it raises the score.

    The best has the largest |change of the attribute| / (`LEAST_LEAKAGE` + mean |change of the
    others|); the constant rules out components with no effect. Two attributes may share one.

    Args:
        changes: `[C, all]`, see `component_changes`.
        columns: of the attributes.
    """
    sizes, named = np.abs(changes), []
    for column in columns:
        others = np.delete(sizes, column, axis=1)
        mean = others.mean(axis=1) if others.shape[1] else 0.0
        index = int(np.argmax(sizes[:, column] / (LEAST_LEAKAGE + mean)))
        named.append((index, 1 if changes[index, column] >= 0 else -1))
    return named
