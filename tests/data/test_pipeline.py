"""Training batches and sequential batches."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cgan_tf import data
from cgan_tf.core.config import Config
from cgan_tf.data import pipeline
from cgan_tf.training import feed

COUNT = 30


def mark(index, mirrored):
    """Photo `index` is 8 * index on its left half and 0 on its right."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :16] = 8 * index
    return pixels[:, ::-1] if mirrored else pixels


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """30 marked photos, labeled with the binary digits of their index; 24 are for training."""
    path = tmp_path_factory.mktemp("photos")
    rows = ["file,b0,b1,b2,b3,b4"]
    for index in range(COUNT):
        Image.fromarray(mark(index, False)).save(path / f"{index:02d}.png")
        rows.append(f"{index:02d}.png," + ",".join(str(index >> bit & 1) for bit in range(5)))
    (path / "labels.csv").write_text("\n".join(rows))
    config = Config(
        data="folder",
        data_dir=str(path),
        cache_dir=str(tmp_path_factory.mktemp("cache")),
        resolution=32,
    )
    return data.open_data(config, say=lambda line: None)


def take(dataset, count):
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def identify(batch):
    """(indices, mirrored) of marked photos; photo 0 is black, so it never counts as mirrored."""
    left, right = batch[:, 0, 0, 0], batch[:, 0, 31, 0]
    levels = np.rint((np.maximum(left, right) + 1) * 127.5).astype(int)
    return levels // 8, right > left


def test_batches_have_the_documented_shape_dtype_and_range(photos):
    dataset = pipeline.training_batches(photos, "train", 7, seed=1)
    assert dataset.element_spec == tf.TensorSpec((7, 32, 32, 3), tf.float32)
    (batch,) = take(dataset, 1)
    assert batch.dtype == np.float32
    indices, mirrored = identify(batch)
    expected = [mark(*pair) for pair in zip(indices, mirrored, strict=True)]
    np.testing.assert_allclose(batch, np.stack(expected) / 127.5 - 1, rtol=0, atol=1e-6)


def test_every_epoch_contains_each_training_photo_once_in_a_new_order(photos):
    batches = take(pipeline.training_batches(photos, "train", 7, seed=1), 11)
    indices = np.concatenate([identify(batch)[0] for batch in batches])
    epochs = indices[: 3 * 24].reshape(3, 24)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), photos.splits["train"])
    assert not (epochs[0] == epochs[1]).all() and not (epochs[1] == epochs[2]).all()


@pytest.mark.parametrize("start", [1, 3, 4, 50])
def test_resuming_yields_the_batches_of_an_uninterrupted_run(photos, start):
    uninterrupted = take(
        pipeline.training_batches(photos, "train", 7, seed=1, labels=True), start + 3
    )
    rest = take(
        pipeline.training_batches(photos, "train", 7, seed=1, start=7 * start, labels=True), 3
    )
    for (images, labels), (images_again, labels_again) in zip(
        uninterrupted[start:], rest, strict=True
    ):
        np.testing.assert_array_equal(images, images_again)
        np.testing.assert_array_equal(labels, labels_again)


def test_other_seeds_give_other_orders(photos):
    first, second = (
        identify(take(pipeline.training_batches(photos, "train", 24, seed=seed), 1)[0])[0]
        for seed in (1, 2)
    )
    assert not (first == second).all()


def test_half_of_the_photos_are_mirrored_in_each_epoch(photos):
    batches = take(pipeline.training_batches(photos, "train", 24, seed=1), 40)
    flips = np.zeros((40, COUNT))
    for epoch, batch in enumerate(batches):
        indices, mirrored = identify(batch)
        flips[epoch, indices] = mirrored
    share = flips[:, [i for i in photos.splits["train"] if i]].mean(axis=0)
    assert 0.4 < share.mean() < 0.6
    assert share.min() > 0.15 and share.max() < 0.85


def test_without_flip_nothing_is_mirrored_and_the_order_is_the_same(photos):
    plain = take(pipeline.training_batches(photos, "train", 24, seed=1, flip=False), 3)
    flipped = take(pipeline.training_batches(photos, "train", 24, seed=1), 3)
    for batch, other in zip(plain, flipped, strict=True):
        indices, mirrored = identify(batch)
        assert not mirrored.any()
        np.testing.assert_array_equal(indices, identify(other)[0])


def test_labels_match_their_photos(photos):
    dataset = pipeline.training_batches(photos, "train", 7, seed=1, labels=True)
    assert dataset.element_spec == (
        tf.TensorSpec((7, 32, 32, 3), tf.float32),
        tf.TensorSpec((7, 5), tf.float32),
    )
    for images, labels in take(dataset, 5):
        indices, _ = identify(images)
        np.testing.assert_array_equal(labels, [[i >> bit & 1 for bit in range(5)] for i in indices])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_batches_contain_only_the_split(photos, split):
    (batch,) = take(pipeline.training_batches(photos, split, 12, seed=1), 1)
    indices, _ = identify(batch)
    np.testing.assert_array_equal(np.unique(indices), photos.splits[split])


def test_a_batch_can_be_larger_than_an_epoch(photos):
    (batch,) = take(pipeline.training_batches(photos, "test", 10, seed=1), 1)
    indices, _ = identify(batch)
    counts = np.unique(indices, return_counts=True)[1]
    np.testing.assert_array_equal(np.sort(counts), [3, 3, 4])


def test_plan_is_pinned():
    """With another order, a resumed run would not continue with the batches it started with."""
    chosen, mirrored = pipeline.EpochPlan(np.arange(10, 16), seed=7)(4, 8)
    assert chosen.tolist() == [11, 13, 13, 10, 12, 11, 14, 15]
    assert mirrored.tolist() == [False, True, False, False, True, False, False, False]


def test_plan_samples_each_epoch_only_once(monkeypatch):
    plan = pipeline.EpochPlan(np.arange(100), seed=1)
    sampled = []
    generator = plan._generator
    monkeypatch.setattr(plan, "_generator", lambda *key: sampled.append(key) or generator(*key))
    for start in range(0, 300, 8):
        plan(start, 8)
    assert sampled == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]


def test_sequential_batches_keep_the_order_and_the_last_batch(photos):
    indices = [9, 3, 3, 29, 1, 7, 5]
    batches = list(pipeline.sequential_batches(photos, indices, 3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert all(batch.dtype == np.float32 for batch in batches)
    np.testing.assert_array_equal(np.concatenate([identify(b)[0] for b in batches]), indices)
    assert batches[0].min() == -1.0
    assert list(pipeline.sequential_batches(photos, [], 3)) == []


# The same batches from the device's memory.


def from_device(photos, batch_size, count, **options):
    """Batches of a resident feed, several in each call."""
    resident = pipeline.ResidentFeed(
        pipeline.keep_on_devices(photos, "train"), photos, "train", batch_size, 1, **options
    )

    @tf.function
    def batch(taken, index):
        return resident.decode(resident.element(taken, index))

    found = []
    for calls in (2, count - 2):
        taken = resident.take(calls)
        found += [batch(taken, tf.constant(index)) for index in range(calls)]
    return found


@pytest.mark.parametrize(
    "options",
    [{}, {"flip": False}, {"labels": True}, {"start": 40}, {"passes": 2, "labels": True}],
    ids=str,
)
def test_resident_photos_give_the_same_batches_bit_for_bit(photos, options):
    expected = take(pipeline.training_batches(photos, "train", 8, 1, **options), 7)
    for one, two in zip(expected, from_device(photos, 8, 7, **options), strict=True):
        for part, other in zip(tf.nest.flatten(one), tf.nest.flatten(two), strict=True):
            assert part.tobytes() == other.numpy().tobytes()


def test_all_levels_are_scaled_alike_on_the_host_and_on_the_device(photos, monkeypatch):
    levels = np.arange(256, dtype=np.uint8).repeat(12).reshape(1, 32, 32, 3)
    monkeypatch.setattr(type(photos), "read", lambda self, rows: levels.repeat(len(rows), 0))
    (expected,) = take(pipeline.training_batches(photos, "train", 1, 1), 1)
    found = from_device(photos, 1, 3)[0]
    assert expected.tobytes() == found.numpy().tobytes()
    assert len(np.unique(found)) == 256


def test_photos_beyond_the_budget_are_read_by_the_host_with_a_note(photos):
    size = 24 * 32 * 32 * 3 / 2**30
    config, lines = Config(seed=1), []

    def made(gib):
        options = dataclasses.replace(config, device_cache_gib=gib)
        return pipeline.training_feed(photos, options, 8, say=lines.append)(0)

    assert isinstance(made(size), pipeline.ResidentFeed) and lines == []
    assert isinstance(made(None), feed.DatasetFeed) and lines == []  # without a GPU
    assert isinstance(made(0.0), feed.DatasetFeed) and lines == []
    assert isinstance(made(0.99 * size), feed.DatasetFeed)
    assert lines == [
        "note: the training photos (0.00 GiB) are more than --device_cache_gib (0.00); they are "
        "read by the host"
    ]


def test_on_a_gpu_photos_are_resident_by_default(photos, monkeypatch):
    monkeypatch.setattr(pipeline.replicas, "on_gpu", lambda: True)
    made = pipeline.training_feed(photos, Config(seed=1), 8)(0)
    assert isinstance(made, pipeline.ResidentFeed)
