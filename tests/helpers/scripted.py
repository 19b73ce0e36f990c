"""A chain without networks for tests: the judge reads probabilities off the latent."""

import numpy as np

from cgan_tf.evaluation import subject


class Script:
    """A chain whose judge reads probabilities off the latent: every figure is known."""

    names = ("A", "B", "C")
    attributes = ("A",)
    calibrated = {"A": 0.4}

    def __init__(self, direction):
        self.directions = {"A": np.array(direction, np.float32)}

    def generate(self, z):
        return z

    def judge(self, z):
        return np.concatenate([z, np.ones((len(z), 1))], axis=1).astype(np.float32), z

    def score(self, z):
        return z


def scripted_photos(latents, labels):
    photos = subject.Photos.__new__(subject.Photos)
    photos.seed, photos.labels = 0, np.array(labels, np.float32)
    photos.latents = photos.reconstructions = np.array(latents, np.float32)
    photos.reconstructed_features, photos.reconstructed_probabilities = Script([0] * 3).judge(
        photos.latents
    )
    photos.features = photos.reconstructed_features[:, ::-1]
    photos.probabilities = photos.reconstructed_probabilities - np.float32([0.1, 0, 0])
    return photos
