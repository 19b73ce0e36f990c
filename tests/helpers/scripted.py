"""Models without networks for tests: the latent is the image, the features and the predictions."""

import numpy as np

from cgan_tf.evaluation.evaluated import TestPhotos
from cgan_tf.evaluation.retrieval import Gallery


class ScriptedModels:
    """`EvaluatedModels` whose predictions are the latent itself, so that every figure is known."""

    all_attributes = ("A", "B", "C")
    attributes = ("A",)
    calibrated = {"A": 0.4}

    def __init__(self, direction):
        self.directions = {"A": np.array(direction, np.float32)}

    def generate(self, latents, features, offsets):
        assert features.shape == (len(latents), 0)
        return self.image(latents + offsets)

    def image(self, z):
        return z

    def judge(self, z):
        return np.concatenate([z, np.ones((len(z), 1))], axis=1).astype(np.float32), z

    def score(self, z):
        return z


def scripted_photos(latents, labels):
    """Photos with these latents `[N, 3]` and labels `[N, 3]`; reconstruction is slightly lossy."""
    photos = TestPhotos.__new__(TestPhotos)
    photos.seed, photos.labels = 0, np.array(labels, np.float32)
    photos.latents = photos.reconstructions = np.array(latents, np.float32)
    models = ScriptedModels([0] * 3)
    photos.reconstructed_features, photos.reconstructed_probabilities = models.judge(photos.latents)
    photos.detail_features = np.zeros((len(labels), 0), np.float32)
    photos.features = photos.reconstructed_features
    photos.gallery, photos.owners = Gallery(photos.features), np.arange(len(labels))
    photos.identity = None
    photos.probabilities = photos.reconstructed_probabilities - np.float32([0.1, 0, 0])
    return photos
