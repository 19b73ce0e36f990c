"""What the evaluate stage measures with, and its blocks on generator, regressor and inversion.

Each function `measure_...` makes one block of evaluate/report.json; those on edits are in `editing`
and `comparison`. Between the finished models of a run and `cgan evaluate`, which calls these
functions, writes the report and holds its layout. `cgan_tf.metrics` has the formulas. Everything
runs in batches and draws from a seed; nothing here is trained.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from cgan_tf.data import ImageData, pipeline
from cgan_tf.editing.detail import KeepDetail
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.networks.judge import Judge
from cgan_tf.networks.vgg import Perceptual

BATCH = 100  # images


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
        translator: EditingNetwork,
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


def choose(indices: np.ndarray, count: int, seed: int) -> np.ndarray:
    """At most `count` of the indices, a seeded choice, in ascending order."""
    if len(indices) <= count:
        return np.sort(indices)
    return np.sort(np.random.default_rng(seed).choice(indices, count, replace=False))


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
