"""What the measurements take: the models of a run as NumPy functions, and the test photos.

A photo's code is its latent and its detail features; a run without detail features has features of
the shape `[N, 0]`.
"""

import copy
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from cgan_tf.data import ImageData, pipeline
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.editing.recognizer import Recognizer
from cgan_tf.evaluation.batching import BATCH, batched, choose, compiled
from cgan_tf.evaluation.identity import Identity
from cgan_tf.evaluation.retrieval import Gallery
from cgan_tf.networks.codec import Code
from cgan_tf.networks.judge import Judge
from cgan_tf.networks.vgg import Perceptual


class EvaluatedModels:
    """The models of a run and the judge, as NumPy functions on batches.

    Attributes:
        encode: photos to latents and features.
        generate: latents, features and offsets of the latents to images.
        reconstruct: latents and features to images.
        invert: photos to their reconstructions.
        from_latents: latents to images, without features.

    Args:
        network: generator, encoder, detail features, directions and regressor.
        judge: the evaluation classifier.
        calibrated: by attribute, the change at strength +1 according to the direction's
            calibration table.
    """

    def __init__(
        self, network: EditingNetwork, judge: Judge, calibrated: Mapping[str, float]
    ) -> None:
        self.network = network
        self.judge_model = judge
        self.calibrated = calibrated
        self.generator = network.generator
        self.attributes = network.attributes  # with a direction
        self.all_attributes = judge.attribute_names
        self.directions = dict(zip(self.attributes, network.directions.numpy(), strict=True))
        codec = network.codec
        image, latent = (judge.resolution, judge.resolution, 3), codec.latent_shape
        perceptual = Perceptual(network.regressor)

        def generate(latents: tf.Tensor, features: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
            return codec.generate(Code(latents, features), offsets)

        self.encode = compiled(codec.encode, image)
        self.generate = compiled(generate, latent, codec.features_shape, latent)
        self.reconstruct = compiled(
            lambda *code: codec.generate(Code(*code)), latent, codec.features_shape
        )
        self.from_latents = compiled(lambda x: self.generator(x, training=False), latent)
        self.sample = compiled(self.generator.from_prior, (self.generator.z_dim,))
        self.invert = compiled(lambda images: codec.generate(codec.encode(images)), image)
        self.judge = compiled(judge.features_and_probabilities, image)
        self.score = compiled(network.score, image)
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


class TestPhotos:
    """Photos with their codes, reconstructions and the judge's output, computed once.

    `features` are the judge's; `detail_features` are those of the codes.

    Args:
        models: of the run.
        dataset: the photos.
        count: maximum number of photos, a seeded choice.
        seed: of the choice, and of everything random in the measurements.
        split: of the photos; use "validation" for figures that decide on a setting.
        recognizer: of the user, if there is one.
    """

    __test__ = False  # not a test case, whatever pytest makes of the name

    def __init__(
        self,
        models: EvaluatedModels,
        dataset: ImageData,
        count: int,
        seed: int,
        split: str = "test",
        recognizer: Recognizer | None = None,
    ) -> None:
        self.seed = seed
        self.indices = choose(dataset.splits[split], count, seed)
        self.labels = dataset.labels[self.indices]  # [N, all]
        self.base_rates = dataset.labels[dataset.splits["train"]].mean(axis=0)  # [all]
        self.images = np.concatenate(
            list(pipeline.sequential_batches(dataset, self.indices, BATCH))
        )  # [N, R, R, 3]
        # [N, *latent_shape] and [N, *features_shape]
        self.latents, self.detail_features = batched(models.encode, self.images)
        self.reconstructions = batched(models.reconstruct, self.latents, self.detail_features)
        self.features, self.probabilities = batched(models.judge, self.images)
        self.reconstructed_features, self.reconstructed_probabilities = batched(
            models.judge, self.reconstructions
        )
        self.gallery = Gallery(self.features)
        self.identity = recognizer and Identity(recognizer, self.images, seed)
        # Each photo's index in the gallery and the identity.
        self.owners = np.arange(len(self.images))

    def code(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The latents and the detail features of the rows."""
        return self.latents[rows], self.detail_features[rows]

    def found(self, rows: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Whether the rows' photos are found by the judge's features of their images, `[N]`.

        Found among all measured photos, whatever the subset: see `retrieval`.
        """
        return self.gallery.finds(features, self.owners[rows])

    def same_person(self, rows: np.ndarray, images: np.ndarray) -> dict[str, np.ndarray]:
        """By figure, whether the rows' images show their photos' people; see `identity`.

        Nothing without a recognizer.
        """
        if self.identity is None:
            return {}
        return self.identity.same_person(images, self.owners[rows])

    def subset(self, count: int) -> "TestPhotos":
        """At most `count` of the photos, a choice by their seed."""
        rows, subset = choose(np.arange(len(self.labels)), count, self.seed), copy.copy(self)
        for name, value in vars(self).items():
            if name not in ("seed", "base_rates", "gallery", "identity"):
                setattr(subset, name, value[rows])
        return subset
