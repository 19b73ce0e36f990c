"""Latent directions that need no training through G: hyperplanes, SeFa, principal components.

Beside `DirectionsTrainer` in the directions stage: `--directions_family` chooses which family the stage
writes, and `--directions_condition` projects any family's directions with `project_out`. All are functions of a
generator, the regressor R and latents drawn from the prior; benchmarks/directions.py compares them.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn import decomposition
from tqdm import tqdm

from cgan_tf.evaluation import hyperplane
from cgan_tf.evaluation.hyperplane import Samples
from cgan_tf.networks.dcgan import LOWEST
from cgan_tf.networks.generators import AnyGenerator
from cgan_tf.networks.stylegan import StyleGenerator

BATCH = 100  # images
COMPONENTS = 64  # of sefa and pca that R looks at
ACTIVATIONS = 4000  # samples behind the principal components of feature maps
NAMED = 32  # samples that R sees changed along each component
STEP = 3.0  # standard deviations of the latents along a direction: its length, before calibration
STILL = 0.02  # mean change of R's scores that counts as none, see `name_components`


def label(generator: AnyGenerator, regressor: keras.Model, count: int, seed: int) -> Samples:
    """`count` samples of the generator's space with R's scores of their images."""
    latents = generator.sample_latent(count, seed=seed).numpy()
    score = scorer(generator, regressor)
    with tqdm(
        total=count, unit=" images", desc="labels", dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    ) as bar:  # fmt: skip
        scores = []
        for start in range(0, count, BATCH):
            scores.append(score(latents[start : start + BATCH]))
            bar.update(len(scores[-1]))
    return Samples(latents, np.concatenate(scores))


def scorer(
    generator: AnyGenerator, regressor: keras.Model, batch: int = BATCH
) -> Callable[[np.ndarray], np.ndarray]:
    """R's scores float32 `[N, all]` of the images of latents `[N, *latent_shape]`, N any number."""
    graph = tf.function(
        lambda latent: regressor(generator(latent, training=False), training=False),
        autograph=False,
        reduce_retracing=True,
    )

    return lambda latents: in_batches(graph, latents, batch)


def in_batches(
    function: Callable[[np.ndarray], tf.Tensor], values: np.ndarray, batch: int = BATCH
) -> np.ndarray:
    """The function's outputs for the rows of `values`, `batch` at a time, joined again."""
    starts = range(0, len(values), batch)
    return np.concatenate([function(values[start : start + batch]).numpy() for start in starts])


def find(
    family: str,
    generator: AnyGenerator,
    regressor: keras.Model,
    columns: Mapping[str, int],
    samples: Samples,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The directions of a family.

    Args:
        family: "hyperplane", "sefa" or "pca".
        generator: in the space of the samples.
        regressor: R, whose opinion labels or names.
        columns: of R's scores, by attribute.
        samples: see `label`.

    Returns:
        float32 `[K, *latent_shape]`, in the order of the columns, `STEP` standard deviations of
        the samples long; and what each was found by: the number of samples of either class, or
        the component and its sign.

    Raises:
        UserError: an attribute with too few samples of one class.
    """
    if family == "hyperplane":
        normals, found = [], []
        for name, column in columns.items():
            normal, counts = hyperplane.hyperplane(samples, column, name)
            normals.append(normal)
            found.append(counts)
        return at_step(np.stack(normals), samples.latents), found
    components = sefa(generator) if family == "sefa" else pca(generator, samples.latents)
    steps = at_step(components[:COMPONENTS], samples.latents)
    changes = component_changes(generator, regressor, steps, samples.latents[:NAMED])
    named = name_components(changes, list(columns.values()))
    vectors = np.stack([sign * steps[index] for index, sign in named])
    return vectors, [{"component": index, "sign": sign} for index, sign in named]


def at_step(vectors: np.ndarray, latents: np.ndarray) -> np.ndarray:
    """Each of the vectors `[C, *latent_shape]` at `STEP` standard deviations of the latents."""
    units = hyperplane._units(vectors)
    spread = np.std(hyperplane._rows(latents) @ units.T, axis=0)  # [C]
    return (STEP * spread[:, None] * units).reshape(vectors.shape).astype(np.float32)


# ---- without labels, named afterwards -----------------------------------------------------------


def sefa(generator: AnyGenerator) -> np.ndarray:
    """SeFa (Shen & Zhou 2021, equation 4): what the first weights that meet a latent stretch most.

    The eigenvectors of A^T A by falling eigenvalue, with A the first dense layer of a DCGAN, or
    the styles of all layers of a StyleGAN, stacked. In the space ws each layer moves alike.

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
    vectors = vectors.T[::-1]  # eigh has them by rising eigenvalue, in columns
    largest = np.abs(vectors).argmax(axis=1)
    vectors = vectors * np.sign(vectors[np.arange(len(vectors)), largest])[:, None]
    shape = generator.latent_shape
    if len(shape) > 1:  # ws
        vectors = np.repeat(vectors[:, None, :], shape[0], axis=1) / shape[0] ** 0.5
    return vectors.astype(np.float32)


def pca(generator: AnyGenerator, latents: np.ndarray, count: int = COMPONENTS) -> np.ndarray:
    """GANSpace (Harkonen et al. 2020): principal components of w, or what leads to those of maps.

    A DCGAN's z is isotropic. There the components are those of the first feature map, and linear
    regression takes them back to z, as the paper does for BigGAN (equations 2 and 3).

    Args:
        generator: a StyleGAN in the space w or ws, or a DCGAN.
        latents: samples `[N, *latent_shape]`.
        count: components at most.

    Returns:
        unit vectors, float32 `[C, *latent_shape]`, by falling variance.
    """
    shape = latents.shape[1:]
    count = min(count, len(latents), shape[-1])
    if isinstance(generator, StyleGenerator):
        return principal_components(hyperplane._rows(latents), count).reshape(-1, *shape)
    latents = latents[:ACTIVATIONS]
    network = keras.Model(generator.input, generator.maps[LOWEST])
    maps = in_batches(lambda rows: tf.cast(network(rows, training=False), tf.float32), latents)
    flat = maps.reshape(len(latents), -1)
    count = min(count, flat.shape[1])
    coordinates = (flat - flat.mean(axis=0)) @ principal_components(flat, count).T  # [N, C]
    z = hyperplane._rows(latents)
    back = np.linalg.lstsq(coordinates.astype(np.float64), z - z.mean(axis=0), rcond=None)[0]
    return (back / np.linalg.norm(back, axis=1, keepdims=True)).astype(np.float32)


def principal_components(rows: np.ndarray, count: int) -> np.ndarray:
    """The `count` unit axes, float32 `[count, D]`, along which rows `[N, D]` vary most."""
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
    """The best component of each attribute, and the sign in which it raises its score.

    The best has the largest |change of the attribute| / (`STILL` + mean |change of the others|):
    the constant keeps components that move nothing out. Two attributes may share one.

    Args:
        changes: `[C, all]`, see `component_changes`.
        columns: of the attributes.
    """
    sizes, named = np.abs(changes), []
    for column in columns:
        others = np.delete(sizes, column, axis=1)
        mean = others.mean(axis=1) if others.shape[1] else 0.0
        index = int(np.argmax(sizes[:, column] / (STILL + mean)))
        named.append((index, 1 if changes[index, column] >= 0 else -1))
    return named
