"""The drawn faces as a data source for `data.open_data`: sampled by index, rendered once.

Face i of every run is `synthetic.sample_face(SEED, i)`: the data set does not depend on the run's
seed, so its cache is shared and two runs are judged on the same faces.
"""

import hashlib
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from cgan_tf.data.source import Source, seeded_split
from cgan_tf.data.synthetic import drawing

SEED = 0

_CHUNK_BYTES = 1 << 28  # of faces drawn at once: 20,000 at 64 px
_FEW = 256  # faces that are drawn sooner here than by processes that have to start first
_FINGERPRINT = 16  # faces whose pixels stand in the digest for the renderer's version


def face(index: int) -> drawing.Face:
    """The factors behind image `index` of the synthetic data set."""
    return drawing.sample_face(SEED, int(index))


def open_synthetic(count: int, resolution: int) -> Source:
    """`count` faces with a fixed random 80/10/10 split."""

    def stream(indices: np.ndarray) -> Iterator[np.ndarray]:
        chunk = _CHUNK_BYTES // (3 * resolution * resolution)
        for start in range(0, len(indices), chunk):
            faces = [face(index) for index in indices[start : start + chunk]]
            processes = 1 if len(faces) <= _FEW else os.cpu_count() or 1
            yield from drawing.render_many(faces, resolution, processes)

    some = drawing.render_many([face(index) for index in range(_FINGERPRINT)], 32, 1)
    renderer = pathlib.Path(drawing.__file__).read_bytes()
    return Source(
        name="synthetic",
        attribute_names=tuple(drawing.ATTRIBUTES),
        labels=np.stack([drawing.labels(face(index)) for index in range(count)]),
        splits=seeded_split(count),
        files=tuple(f"{index:06d}.png" for index in range(count)),
        sizes=np.zeros(count, np.int64),
        crop=f"drawn-{hashlib.sha256(some.tobytes()).hexdigest()}",
        version=hashlib.sha256(renderer).hexdigest(),
        stream=stream,
    )
