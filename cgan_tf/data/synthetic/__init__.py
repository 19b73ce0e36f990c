"""Synthetic faces: images whose every factor is known.

A `Face` is a list of named factors. Its attributes are booleans with CelebA's names, sampled
independently (only blond and black hair exclude each other); every other factor is identity.
`sample_face` is a pure function of (seed, index) and `render` a pure function of the face, so there
are as many faces as anyone needs. `counterfactual` gives the ground truth of an edit, which no
collection of photos has: the same face with one attribute changed.

This folder holds the factors (`face`), their rendering (`drawing` and the modules that it imports),
rendering in several processes (`workers`), and the data source `synthetic` (`source`). It imports
neither TensorFlow nor OpenCV, so a rendering process starts in a moment.
"""

from cgan_tf.data.synthetic.drawing import MAX_RESOLUTION, MIN_RESOLUTION, render
from cgan_tf.data.synthetic.face import ATTRIBUTES, Face, counterfactual, labels, sample_face
from cgan_tf.data.synthetic.source import dataset_face, open_synthetic
from cgan_tf.data.synthetic.workers import render_many, render_stream

__all__ = [
    "ATTRIBUTES",
    "MAX_RESOLUTION",
    "MIN_RESOLUTION",
    "Face",
    "counterfactual",
    "dataset_face",
    "labels",
    "open_synthetic",
    "render",
    "render_many",
    "render_stream",
    "sample_face",
]
