"""The data source `synthetic`: a numbered sequence of faces, rendered once into the cache.

Image i shows `sample_face(SEED, i)`. The data does not depend on a run's seed, so that runs share
the cache and are evaluated on the same faces.
"""

import hashlib
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from cgan_tf.data.source import Source, seeded_split
from cgan_tf.data.synthetic import workers
from cgan_tf.data.synthetic.face import ATTRIBUTES, Face, labels, sample_face

SEED = 0

_CHUNK_BYTES = 1 << 28  # of pixels rendered at once: 20,000 faces at 64 px
_FEW = 256  # maximum number of faces that are rendered sooner here than by starting processes
_FINGERPRINT = 16  # number of faces whose pixels identify the renderer in the digest


def dataset_face(index: int) -> Face:
    """The face in image `index` of the synthetic data."""
    return sample_face(SEED, int(index))


def open_synthetic(count: int, resolution: int) -> Source:
    """The first `count` faces, with a fixed random 80/10/10 split.

    Raises:
        UserError: see `render`.
    """

    def stream(indices: np.ndarray) -> Iterator[np.ndarray]:
        chunk = _CHUNK_BYTES // (3 * resolution * resolution)
        for start in range(0, len(indices), chunk):
            faces = [dataset_face(index) for index in indices[start : start + chunk]]
            processes = 1 if len(faces) <= _FEW else os.cpu_count() or 1
            yield from workers.render_many(faces, resolution, processes)

    fingerprint = workers.render_many([dataset_face(index) for index in range(_FINGERPRINT)], 32)
    return Source(
        name="synthetic",
        attribute_names=ATTRIBUTES,
        labels=np.stack([labels(dataset_face(index)) for index in range(count)]),
        splits=seeded_split(count),
        files=tuple(f"{index:06d}.png" for index in range(count)),
        sizes=np.zeros(count, np.int64),
        crop=f"drawn-{hashlib.sha256(fingerprint.tobytes()).hexdigest()}",
        version=_code_version(),
        paths=(),
        stream=stream,
    )


def _code_version() -> str:
    """sha256 over the files of this folder: any of them may decide on pixels."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
