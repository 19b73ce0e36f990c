"""`Source`: a data set before decoding (names, labels, splits, a stream of images), and helpers.

Each of the five data sources (celeba, celeba_dir, folder, photos, synthetic) returns a `Source`;
`open_data` turns it into the `ImageData` that the stages read.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from cgan_tf.core.errors import UserError, count_of
from cgan_tf.core.files import expand
from cgan_tf.data.framing import UNKNOWN
from cgan_tf.data.image_formats import IMAGE_SUFFIXES, unreadable

Loaded = TypeVar("Loaded")

SPLITS = ("train", "validation", "test")

# A data set without an official split gets this one. It belongs to the data, not to the run: runs
# with other seeds train and are evaluated on the same photos, and no run trains on another's test
# photos.
SPLIT_SEED = 0

_BLOCK = 16  # images that a thread decodes at a time: single ones would double the cost


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set before its images are decoded; N images, K attributes (0 without labels)."""

    name: str
    attribute_names: tuple[str, ...]
    labels: np.ndarray  # float32 [N, K] in {0, 1}
    splits: dict[str, np.ndarray]  # int64 indices, ascending
    files: tuple[str, ...]  # display names
    sizes: np.ndarray  # int64 [N]: bytes of each encoded image (0: rendered)
    crop: str  # identifies the crop in the digest
    version: str  # anything else that determines the pixels; part of the cache key only
    # The N image files, whose bytes enter the digest; () where the images are not single files.
    paths: tuple[str, ...]
    # Yields for each index, in the given order, uint8 [R, R, 3], or a UserError with the reason why
    # that image cannot be decoded.
    stream: Callable[[np.ndarray], Iterator[np.ndarray | UserError]]
    random_access: bool = True  # False: only the full range 0..N-1 can be streamed
    # How the labels were read, where not as documented; a line each, which `say` has received.
    notes: tuple[str, ...] = ()
    framing: str = UNKNOWN  # of a folder of one's own, see `framing.read_framing`


def seeded_split(count: int) -> dict[str, np.ndarray]:
    """A fixed random 80/10/10 split of `count` images, with at least one image in each part.

    Raises:
        UserError: fewer than 3 images.
    """
    if count < len(SPLITS):
        raise UserError(
            f"--data_dir: {count_of(count, 'image')} cannot be split into train, validation and "
            "test; give at least 3"
        )
    order = np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(count)
    held_out = max(1, count // 10)
    parts = (order[2 * held_out :], order[:held_out], order[held_out : 2 * held_out])
    return {name: np.sort(part).astype(np.int64) for name, part in zip(SPLITS, parts, strict=True)}


def describe_splits(splits: dict[str, np.ndarray]) -> str:
    """`6,400 train, 800 validation, 800 test`."""
    return ", ".join(f"{len(splits[name]):,} {name}" for name in SPLITS)


def check_folder(data_dir: str | None, data: str) -> pathlib.Path:
    """The folder of --data_dir.

    Raises:
        UserError: the flag is missing, or the folder does not exist.
    """
    if not data_dir:
        raise UserError(f"--data={data} reads a folder; give it with --data_dir=DIR")
    folder = expand(data_dir, "--data_dir")
    if not folder.is_dir():
        raise UserError(f"--data_dir={data_dir} is not a folder; give the one with the images")
    return folder


def list_images(
    folder: pathlib.Path, leave_out: pathlib.Path | None = None
) -> dict[str, tuple[int, int, int]]:
    """Image files below a folder, at any depth, by name.

    Args:
        folder: where to begin.
        leave_out: a folder that is not searched.

    Returns:
        {relative name: (bytes, time of the last change in ns, the same of the inode)}. Renaming a
        file leaves the first two as they are, and changes the last.

    Hidden files and folders are skipped (macOS creates files such as `._photo.jpg`). Photos in a
    format that is not read are named on stderr.
    """
    others: list[str] = []
    found: dict[str, tuple[int, int, int]] = {}
    pending = [("", os.fspath(folder))]
    seen = {os.path.realpath(path) for path in (folder, leave_out) if path is not None}
    while pending:
        prefix, path = pending.pop()
        with _entries(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    real = os.path.realpath(entry.path)
                    if real not in seen:  # a link may point to a parent folder
                        seen.add(real)
                        pending.append((f"{prefix}{entry.name}/", entry.path))
                elif not entry.name.lower().endswith(IMAGE_SUFFIXES):
                    others.append(prefix + entry.name)
                else:
                    try:
                        status = entry.stat()
                        found[prefix + entry.name] = (
                            status.st_size,
                            status.st_mtime_ns,
                            status.st_ctime_ns,
                        )
                    except OSError:  # a broken link: the decoder reports it
                        found[prefix + entry.name] = (0, 0, 0)
    if line := unreadable(others):
        print(line, file=sys.stderr)
    return dict(sorted(found.items()))


def _entries(folder: str) -> contextlib.AbstractContextManager[Iterator[os.DirEntry]]:
    try:
        return os.scandir(folder)
    except OSError as error:
        raise UserError(
            f"cannot read the folder {folder} ({error.strerror}); change its permissions, or move "
            "it elsewhere"
        ) from None


def stamp(folder: pathlib.Path, found: dict[str, tuple[int, int, int]]) -> str:
    """Identifies the files of `list_images`: each name with its own size and times."""
    digest = hashlib.sha256(json.dumps(found).encode())
    return f"{folder.resolve()} {digest.hexdigest()}"


def content_hash(path: str) -> bytes:
    """SHA-256 of a file's bytes; of nothing if it cannot be read, which decoding it reports."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return hashlib.sha256().digest()
    return digest.digest()


def match_rows(rows: Iterable[str], images: Iterable[str], table: str, place: str) -> None:
    """Checks that the rows of `table` and the images in `place` are the same files.

    Raises:
        UserError: a row without an image, or an image without a row.
    """
    rows, images = set(rows), set(images)
    without_file, without_row = sorted(rows - images), sorted(images - rows)
    problems = []
    if without_file:
        count = count_of(len(without_file), "row")
        problems.append(f"{count} without an image (first: {without_file[0]})")
    if without_row:
        count = count_of(len(without_row), "image")
        problems.append(f"{count} without a row (first: {without_row[0]})")
    if problems:
        raise UserError(
            f"{table} does not match {place}: {' and '.join(problems)}; "
            "delete those rows or images, or add the missing ones"
        )


def load_all(load: Callable[[Any], Loaded], items: Iterable[Any]) -> Iterator[Loaded | UserError]:
    """Yields load(item) for each item, in order, computed on all cores in threads.

    Pillow releases the interpreter lock while it decodes. Where `load` raises a UserError, yields
    that error. At most two blocks per core wait in memory.
    """

    def load_block(block: list) -> list[Loaded | UserError]:
        loaded: list[Loaded | UserError] = []
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
