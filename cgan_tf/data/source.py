"""What a data source hands to the cache: names, labels, splits, and a stream of decoded images.

Between the four sources (celeba, celeba_dir, folder, synthetic) and `data.open_data`, which turns
a `Source` into the `ImageData` that the stages read.
"""

import collections
import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from cgan_tf.core.errors import UserError

SPLITS = ("train", "validation", "test")

# The split of a data set without its own is a property of the data, not of a run: runs with other
# seeds train and are judged on the same photos, and no run's test photo was another's teacher.
SPLIT_SEED = 0

_BLOCK = 16  # images that a thread decodes at a time: handing over each one costs more than half

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set before its images are decoded; N images, K attributes (0 without labels)."""

    name: str
    attribute_names: tuple[str, ...]
    labels: np.ndarray  # float32 [N, K] in {0, 1}
    splits: dict[str, np.ndarray]  # int64 indices, ascending
    files: tuple[str, ...]  # display names
    sizes: np.ndarray  # int64 [N]: bytes of each encoded image (0: drawn, not read)
    crop: str  # names the crop, for the digest
    version: str  # what else the pixels depend on; part of the cache's key only
    # Yields for each of the indices, in their order, uint8 [R, R, 3] or the UserError that says
    # why that image cannot be had.
    stream: Callable[[np.ndarray], Iterator[np.ndarray | UserError]]
    random_access: bool = True  # False: only the full range, from 0 to N - 1, can be streamed


def seeded_split(count: int) -> dict[str, np.ndarray]:
    """A fixed random 80/10/10 split of `count` images; each split holds at least one."""
    if count < len(SPLITS):
        raise UserError(
            f"{count} image(s) cannot be split into train, validation and test; give at least 3"
        )
    order = np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(count)
    held_out = max(1, count // 10)
    parts = (order[2 * held_out :], order[:held_out], order[held_out : 2 * held_out])
    return {name: np.sort(part).astype(np.int64) for name, part in zip(SPLITS, parts, strict=True)}


def describe_splits(splits: dict[str, np.ndarray]) -> str:
    """`6,400 train, 800 validation, 800 test`."""
    return ", ".join(f"{len(splits[name]):,} {name}" for name in SPLITS)


def check_folder(data_dir: str | None, data: str) -> pathlib.Path:
    """The folder of --data_dir; UserError where it was not given or is not there."""
    if not data_dir:
        raise UserError(f"--data={data} reads a folder; name it with --data_dir=DIR")
    folder = pathlib.Path(data_dir).expanduser()
    if not folder.is_dir():
        raise UserError(f"--data_dir={data_dir} is not a folder; name the one with the images")
    return folder


def list_images(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Image files under a folder, at any depth: {relative name: (bytes, mtime in ns)}, by name.

    Hidden files and folders (macOS leaves `._photo.jpg`) are no images.
    """
    found: dict[str, tuple[int, int]] = {}
    pending = [("", os.fspath(folder))]
    seen = {os.path.realpath(folder)}
    while pending:
        prefix, path = pending.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    real = os.path.realpath(entry.path)
                    if real not in seen:  # a link may lead back to where we came from
                        seen.add(real)
                        pending.append((f"{prefix}{entry.name}/", entry.path))
                elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                    try:
                        status = entry.stat()
                        found[prefix + entry.name] = (status.st_size, status.st_mtime_ns)
                    except OSError:  # a link to nowhere: the decoder will count it
                        found[prefix + entry.name] = (0, 0)
    return dict(sorted(found.items()))


def match_rows(rows: Iterable[str], images: Iterable[str], table: str, place: str) -> None:
    """UserError unless every row of `table` has an image in `place`, and the reverse."""
    rows, images = set(rows), set(images)
    without_file, without_row = sorted(rows - images), sorted(images - rows)
    problems = []
    if without_file:
        problems.append(f"{len(without_file):,} row(s) without an image (first: {without_file[0]})")
    if without_row:
        problems.append(f"{len(without_row):,} image(s) without a row (first: {without_row[0]})")
    if problems:
        raise UserError(
            f"{table} does not fit {place}: {' and '.join(problems)}; "
            "delete those rows or images, or add what is missing"
        )


def load_all(
    load: Callable[[Any], np.ndarray], items: Iterable[Any]
) -> Iterator[np.ndarray | UserError]:
    """load(item) for each item, in order, on all cores (Pillow decodes outside Python's lock).

    Yields the UserError of an image that cannot be loaded. Two blocks per core wait in memory.
    """

    def load_block(block: list) -> list[np.ndarray | UserError]:
        loaded: list[np.ndarray | UserError] = []
        for item in block:
            try:
                loaded.append(load(item))
            except UserError as error:
                loaded.append(error)
        return loaded

    items = iter(items)
    workers = os.cpu_count() or 1
    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        while block := list(itertools.islice(items, _BLOCK)):
            waiting.append(pool.submit(load_block, block))
            if len(waiting) == 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
