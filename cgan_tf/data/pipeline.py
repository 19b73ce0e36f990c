"""Batches of images: endless and shuffled for training, in order for evaluation.

Training batches are stateless: batch s is a pure function of (seed, s), so a resumed run continues
with exactly the batches of an uninterrupted one.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from cgan_tf.core import replicas
from cgan_tf.core.errors import UserError
from cgan_tf.data import images
from cgan_tf.data.dataset import ImageData

# The two random streams of an epoch.
_ORDER, _FLIP = 0, 1


class EpochPlan:
    """Which image is at position p of the endless shuffled sequence, and whether it is mirrored.

    Position p is place p % N of epoch p // N. Each epoch is a permutation that depends on
    (seed, epoch) alone. Two epochs are kept in memory, since a batch may span two.

    Args:
        indices: the N images, integers [N].
        seed: at least 0.
    """

    def __init__(self, indices: np.ndarray, seed: int) -> None:
        self._indices = np.asarray(indices, np.int64)
        self._seed = seed
        self._epochs: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """int64 [count] image indices and bool [count] flips of positions start, start + 1, ..."""
        epochs, places = np.divmod(np.arange(start, start + count), len(self._indices))
        chosen = np.empty(count, np.int64)
        mirrored = np.empty(count, bool)
        for epoch in np.unique(epochs):
            order, flips = self._epoch(int(epoch))
            here = epochs == epoch
            chosen[here] = self._indices[order[places[here]]]
            mirrored[here] = flips[places[here]]
        return chosen, mirrored

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        if epoch not in self._epochs:
            while len(self._epochs) >= 2:
                del self._epochs[next(iter(self._epochs))]
            count = len(self._indices)
            self._epochs[epoch] = (
                self._generator(epoch, _ORDER).permutation(count),
                self._generator(epoch, _FLIP).random(count) < 0.5,
            )
        return self._epochs[epoch]

    def _generator(self, epoch: int, stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64([self._seed, epoch, stream]))


def training_batches(
    data: ImageData,
    split: str,
    batch_size: int,
    seed: int,
    start: int = 0,
    flip: bool = True,
    labels: bool = False,
    passes: int = 1,
) -> tf.data.Dataset:
    """Endless shuffled batches: float32 [B, R, R, 3] in [-1, 1], or (images, labels).

    With several replicas (`core.replicas`), the elements alternate between the replicas of this
    process, each with this replica's rows only: [B / replicas, R, R, 3].

    Args:
        data: the images.
        split: train, validation or test.
        batch_size: B; every batch is full, so it may contain the end of one epoch and the start
            of the next.
        seed: of the order and the flips, at least 0.
        start: number of images before the first batch, to resume from there.
        flip: mirror each image horizontally with probability 1/2, sampled again each epoch.
        labels: yield (images, float32 [B, K] in {0, 1}).
        passes: number of smaller batches that are concatenated to one batch (gradient
            accumulation); each replica gets its rows of every one of them.

    Raises:
        UserError: `labels`, but the data has none.
    """
    if labels and not data.attribute_names:
        raise UserError(
            f"--data={data.name}: the images have no labels, and this stage needs them; "
            "add labels.csv to --data_dir"
        )
    plan = EpochPlan(data.splits[split], seed)
    total, own = replicas.shares()
    rows = batch_size // passes // total  # per pass and replica

    def batch(number: np.int64) -> tuple[np.ndarray, ...]:
        step, local = divmod(int(number), len(own))
        places = [
            start + ((step * passes + index) * total + own[local]) * rows for index in range(passes)
        ]
        parts = [plan(place, rows) for place in places]
        chosen, mirrored = (np.concatenate(part) for part in zip(*parts, strict=True))
        pixels = data.read(chosen)
        if flip:
            pixels[mirrored] = pixels[mirrored, :, ::-1]
        photos = images.to_float(pixels)
        return (photos, data.labels[chosen]) if labels else (photos,)

    image_spec = (passes * rows, data.resolution, data.resolution, 3)
    label_spec = (passes * rows, len(data.attribute_names))

    def element(number: tf.Tensor):
        dtypes = [tf.float32, tf.float32] if labels else [tf.float32]
        parts = tf.numpy_function(batch, [number], dtypes)
        parts[0].set_shape(image_spec)
        if not labels:
            return parts[0]
        parts[1].set_shape(label_spec)
        return tuple(parts)

    numbers = tf.data.Dataset.range(np.iinfo(np.int64).max)
    # Not parallel: the plan has state. A batch of 64 takes 5 ms, far less than a training step.
    return numbers.map(element).prefetch(4)


def sequential_batches(
    data: ImageData, indices: Sequence[int] | np.ndarray, batch_size: int
) -> Iterator[np.ndarray]:
    """Yields the images in the order of `indices`: float32 [B, R, R, 3] in [-1, 1].

    The last batch may be smaller.
    """
    indices = np.asarray(indices)
    for start in range(0, len(indices), batch_size):
        yield images.to_float(data.read(indices[start : start + batch_size]))
