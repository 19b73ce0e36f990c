"""Batches of images: endless and shuffled for training, in order for evaluation.

Training batches are stateless: batch s is a pure function of (seed, s), so a resumed run continues
with exactly the batches of an uninterrupted one. They are read on the host (`training_batches`), or
gathered on the device from photos that are kept there (`ResidentFeed`); both give the same bits.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cgan_tf.core import replicas
from cgan_tf.core.config import Config
from cgan_tf.data import images
from cgan_tf.data.dataset import ImageData
from cgan_tf.training import feed

# The two random streams of an epoch.
_ORDER, _FLIP = 0, 1
GPU_CACHE_GIB = 4.0  # of a GPU's memory, for training photos: 350,000 of 64 px
_BLOCK = 1000  # photos that are copied to the device's memory at a time
# The value of each level. A device that computed it would round it in its own way.
_LEVELS = images.to_float(np.arange(256, dtype=np.uint8))


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
    """
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


class ResidentFeed:
    """`training_batches` from photos in the memory of each device.

    A call of the training gets indices and flips alone; the graph gathers, mirrors and scales.

    Args:
        photos: the split's photos on each replica, see `keep_on_devices`.
        data: the images.
        split: train, validation or test.
        batch_size: see `training_batches`, as the arguments that follow.
        seed: of the order and the flips.
        start: number of images before the first batch.
        flip: mirror half of the images.
        labels: batches are (images, labels).
        passes: number of smaller batches in a batch.
    """

    def __init__(
        self,
        photos: Any,
        data: ImageData,
        split: str,
        batch_size: int,
        seed: int,
        start: int = 0,
        flip: bool = True,
        labels: bool = False,
        passes: int = 1,
    ) -> None:
        rows = data.splits[split]
        self._plan = EpochPlan(np.arange(len(rows)), seed)
        self._next, self._batch_size = start, batch_size
        total = replicas.shares()[0]
        self._shape = (passes, total, batch_size // passes // total)
        self._side, self._photos, self._flip = data.resolution, photos, flip
        self._labels = tf.constant(data.labels[rows]) if labels else None

    def take(self, count: int) -> tf.Tensor:
        """2 * index + flip of the next images, int64 `[count, passes, replicas, rows]`."""
        chosen, mirrored = self._plan(self._next, count * self._batch_size)
        self._next += count * self._batch_size
        return tf.constant((2 * chosen + mirrored).reshape(count, *self._shape))

    def element(self, taken: tf.Tensor, index: tf.Tensor) -> tuple:
        """The photos of each replica, and the batch's part of `taken`."""
        return self._photos, taken[index]

    def decode(self, element: tuple) -> Any:
        """This replica's images, float32 `[passes * rows, R, R, 3]`, or (images, labels)."""
        packed, codes = element
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        codes = tf.reshape(tf.gather(codes, replica, axis=1), (-1,))
        rows, flips = codes // 2, tf.reshape(codes % 2 > 0, (-1, 1, 1, 1))
        pixels = tf.bitcast(tf.gather(packed, rows), tf.uint8)
        count = self._shape[0] * self._shape[2]
        pixels = tf.reshape(pixels, (count, self._side, self._side, 3))
        photos = tf.gather(_LEVELS, tf.cast(pixels, tf.int32))
        if self._flip:
            photos = tf.where(flips, tf.reverse(photos, [2]), photos)
        if self._labels is None:
            return photos
        return photos, tf.gather(self._labels, rows)


def keep_on_devices(data: ImageData, split: str) -> Any:
    """The photos of a split on each replica's device: int64 `[N, R * R * 3 / 8]`.

    Each int64 is eight bytes of pixels: TensorFlow gathers uint8 on the CPU only.
    """
    strategy, total = replicas.strategy(), replicas.shares()[0]
    places = strategy.extended.worker_devices if total > 1 else (None,)  # None: the default device

    def copy(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
        indices, blocks = data.splits[split], []
        with tf.device(places[context.replica_id_in_sync_group % len(places)]):
            for start in range(0, len(indices), _BLOCK):
                pixels = data.read(indices[start : start + _BLOCK])
                blocks.append(tf.constant(pixels.reshape(len(pixels), -1).view(np.int64)))
            return tf.concat(blocks, axis=0)

    return strategy.experimental_distribute_values_from_function(copy)


def training_feed(
    data: ImageData,
    config: Config,
    batch_size: int,
    *,
    seed: int | None = None,
    say: Callable[[str], None] = print,
    **options: Any,
) -> Callable[[int], feed.Feed]:
    """For `loop.train`: (images seen so far) to the training batches that follow.

    Photos that fit into `config.device_cache_gib` are kept in the devices' memory.

    Args:
        data: the images; their train split is used.
        config: gives the seed, `flip` and `device_cache_gib`.
        batch_size: global batch size.
        seed: of the order and the flips; by default the run's.
        say: receives a note if the photos do not fit.
        options: `flip`, `labels` and `passes` of `training_batches`.
    """
    options = {"flip": config.flip, "seed": config.seed if seed is None else seed} | options
    size = len(data.splits["train"]) * 3 * data.resolution**2 / 2**30
    budget = config.device_cache_gib
    if budget is None:
        budget = GPU_CACHE_GIB if replicas.on_gpu() else 0.0
    if size <= budget:
        return lambda seen: ResidentFeed(
            keep_on_devices(data, "train"), data, "train", batch_size, start=seen, **options
        )
    if budget and replicas.is_chief():
        say(
            f"note: the training photos ({size:.2f} GiB) are more than --device_cache_gib "
            f"({budget:.2f}); they are read by the host"
        )
    return lambda seen: feed.DatasetFeed(
        lambda: training_batches(data, "train", batch_size, start=seen, **options)
    )


def sequential_batches(
    data: ImageData, indices: Sequence[int] | np.ndarray, batch_size: int
) -> Iterator[np.ndarray]:
    """Yields the images in the order of `indices`: float32 [B, R, R, 3] in [-1, 1].

    The last batch may be smaller.
    """
    indices = np.asarray(indices)
    for start in range(0, len(indices), batch_size):
        yield images.to_float(data.read(indices[start : start + batch_size]))
