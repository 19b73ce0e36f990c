"""The cache of decoded images; over its budget, images are decoded at every read instead.

A cache is one .npy file of uint8 [N, R, R, 3] and one .json file: a hash of the files' bytes, and
the images that cannot be decoded (their pixels are zeros and are never read).
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand
from cgan_tf.data.source import Source, content_hash, load_all

# Part of every key: increase it when the crop, the resampling filter or the file layout changes.
FORMAT = 2

# A data set with a larger share of undecodable images is refused, unless they are only a few.
MAX_UNDECODABLE = 0.01
FEW_UNDECODABLE = 3

_BUILDING, _LOCK = ".building-", "lock"  # temporary folders and the file in them
_NAMED = 20  # undecodable files that are listed by name; the others are only counted


class DecodedImages:
    """Random access to the images of a source.

    Memory does not grow with N: images are read with pread, not through a memory map, whose pages
    would count as memory of this process once they were read.

    Args:
        source: the N images.
        resolution: R, px.
        cache_dir: folder of the cache; None for a temporary one.
        cache_gib: budget in GiB.
        say: receives lines for the user.

    Attributes:
        undecodable: {index: reason}.
        content: sha256 in hex over the bytes of all files, in order, taken when they were decoded;
            "" for a source without files. File names and sizes alone could not tell two photos
            that have swapped their names from the old ones.

    Raises:
        UserError: too many undecodable images, a cache folder that cannot be written, or a source
            that can only be read through a cache that is over the budget.
    """

    def __init__(
        self,
        source: Source,
        resolution: int,
        cache_dir: str | None,
        cache_gib: float,
        say: Callable[[str], None],
    ) -> None:
        self._source = source
        self._shape = (resolution, resolution, 3)
        self._bytes = resolution * resolution * 3
        self._descriptor = self._offset = None
        if cache_dir is None:
            cache_dir = tempfile.mkdtemp(prefix="cgan_tf-")
            weakref.finalize(self, shutil.rmtree, cache_dir, ignore_errors=True)
        folder = expand(cache_dir, "--cache_dir")
        key = _key(source, resolution)
        stem = folder / f"{source.name}-{resolution}-{key[:16]}"
        pixels, report = stem.with_suffix(".npy"), stem.with_suffix(".json")
        keep = self._fits(cache_gib)
        with writing(folder, len(source.files) * self._bytes):
            if keep and not pixels.exists():
                keep = self._enough_disk(folder, say)
            if not report.exists() or (keep and not pixels.exists()):
                self._build(pixels if keep else None, report, say)
        self.undecodable, self.content = _read_report(report)
        _report_undecodable(self.undecodable, source.files, say, report)
        if keep:
            self._open(pixels)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [n, R, R, 3] for indices int64 [n], all in range and decodable."""
        images = np.empty((len(indices), *self._shape), np.uint8)
        if self._descriptor is None:
            for row, image in zip(images, self._source.stream(indices), strict=True):
                if isinstance(image, UserError):
                    raise image
                row[...] = image
        else:
            for row, index in zip(images, indices, strict=True):
                start = self._offset + int(index) * self._bytes
                data = os.pread(self._descriptor, self._bytes, start)
                row[...] = np.frombuffer(data, np.uint8).reshape(self._shape)
        return images

    def _fits(self, cache_gib: float) -> bool:
        need = len(self._source.files) * self._bytes / 2**30
        if need <= cache_gib:
            return True
        if not self._source.random_access:
            raise UserError(
                f"--cache_gib={cache_gib:g}: --data={self._source.name} can only be read through "
                f"the cache, which needs {need:.2f} GiB; raise it, or use --data=celeba_dir"
            )
        return False

    def _enough_disk(self, folder: pathlib.Path, say: Callable[[str], None]) -> bool:
        need, free = len(self._source.files) * self._bytes, shutil.disk_usage(folder).free
        if need <= free:
            return True
        text = f"{folder} has {free / 2**30:.2f} GiB free, the cache needs {need / 2**30:.2f} GiB"
        if not self._source.random_access:
            raise UserError(f"--cache_dir: {text}; give a folder on another disk")
        say(f"data: {text}; images are decoded again at every read")
        return False

    def _build(
        self, pixels: pathlib.Path | None, report: pathlib.Path, say: Callable[[str], None]
    ) -> None:
        """Decodes every image once, in order; writes the report and, given a path, the pixels."""
        count = len(self._source.files)
        doing = "checking" if pixels is None else "caching"
        say(f"data: {doing} {count:,} images at {self._shape[0]} px ({report.parent})")
        undecodable: dict[int, str] = {}
        zeros = np.zeros(self._shape, np.uint8)
        content = hashlib.sha256()
        hashes = load_all(content_hash, self._source.paths)
        # A temporary name in the same folder makes the rename atomic. Writing, unlike a memory map,
        # turns a full disk into an error that can be caught, not a signal that kills the process.
        with building(report.parent) as place:
            unfinished = place / "pixels"
            with open(unfinished, "wb") as file:
                if pixels is not None:
                    shape = (count, *self._shape)
                    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                images = self._source.stream(np.arange(count))
                for index, image in enumerate(_with_bar(images, count, doing)):
                    if isinstance(image, UserError):
                        undecodable[index] = " ".join(str(image).split())
                        image = zeros
                    content.update(next(hashes, b""))
                    if pixels is not None:
                        file.write(np.ascontiguousarray(image).data)
                file.flush()
                os.fsync(file.fileno())
            _check_undecodable(undecodable, self._source.files)
            if pixels is not None:
                os.replace(unfinished, pixels)
            listing = place / "report"
            with open(listing, "w") as file:
                json.dump(
                    {
                        "content": content.hexdigest() if self._source.paths else "",
                        "undecodable": {str(index): text for index, text in undecodable.items()},
                    },
                    file,
                    indent=1,
                )
                file.flush()
                os.fsync(file.fileno())
            os.replace(listing, report)  # last, since a report marks the pixels as complete

    def _open(self, path: pathlib.Path) -> None:
        count = len(self._source.files)
        with open(path, "rb") as file:
            try:
                np.lib.format.read_magic(file)
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            except ValueError:
                raise damaged(path) from None
            self._offset = file.tell()
            size = os.fstat(file.fileno()).st_size
            if (shape, dtype) != ((count, *self._shape), np.uint8) or (
                size != self._offset + count * self._bytes
            ):
                raise damaged(path)
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)


@contextlib.contextmanager
def writing(folder: pathlib.Path, size: int) -> Iterator[None]:
    """Creates the cache folder; an OSError in the block is a UserError with the remedy.

    Args:
        folder: of --cache_dir.
        size: that the block may need, bytes.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"--cache_dir={folder}: {error.strerror or error}; give a writable folder "
            f"with {size / 2**30:.2f} GiB of free space"
        ) from None


@contextlib.contextmanager
def building(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary folder in the cache folder; what is finished is renamed from it into the cache.

    What processes that were killed have left is deleted before.
    """
    _remove_abandoned(folder)
    with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=folder) as name:
        place = pathlib.Path(name)
        with open(place / _LOCK, "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield place


def _remove_abandoned(folder: pathlib.Path) -> None:
    """Deletes what processes that were killed have built; that of others is locked by them."""
    for lock in folder.glob(f"{_BUILDING}*/{_LOCK}"):
        with contextlib.suppress(OSError), open(lock, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


def _key(source: Source, resolution: int) -> str:
    """sha256 over everything that determines the cached pixels."""
    digest = hashlib.sha256()
    facts = [FORMAT, source.name, source.crop, source.version, resolution, len(source.files)]
    digest.update(json.dumps(facts).encode())
    digest.update(os.fsencode("\n".join(source.files)))
    digest.update(np.ascontiguousarray(source.sizes, np.int64).data)
    return digest.hexdigest()


def _read_report(path: pathlib.Path) -> tuple[dict[int, str], str]:
    try:
        report = json.loads(path.read_text())
        return {int(i): text for i, text in report["undecodable"].items()}, report["content"]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise damaged(path) from None


def damaged(path: pathlib.Path) -> UserError:
    """The error for a file, or folder, of the cache that is not as it was written."""
    return UserError(f"the image cache {path} is damaged; delete it, and it is built again")


def _check_undecodable(undecodable: dict[int, str], files: tuple[str, ...]) -> None:
    if len(undecodable) > max(FEW_UNDECODABLE, MAX_UNDECODABLE * len(files)):
        first = next(iter(undecodable))
        raise UserError(
            f"{len(undecodable):,} of {len(files):,} images cannot be decoded, more than "
            f"{FEW_UNDECODABLE} and {MAX_UNDECODABLE:.0%} (first: {undecodable[first]}); "
            "repair or remove them"
        )


def _report_undecodable(
    undecodable: dict[int, str],
    files: tuple[str, ...],
    say: Callable[[str], None],
    report: pathlib.Path,
) -> None:
    if not undecodable:
        return
    say(f"data: {len(undecodable):,} of {len(files):,} images cannot be decoded and are skipped:")
    for text in list(undecodable.values())[:_NAMED]:
        say(f"  {text}")
    if len(undecodable) > _NAMED:
        say(f"  and {len(undecodable) - _NAMED:,} more, listed in {report}")


def _with_bar(items: Iterable, count: int, doing: str) -> Iterator:
    """Yields the items; on a terminal, shows images/s and the remaining time on stderr."""
    start = shown = time.monotonic()
    bar = sys.stderr.isatty()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if bar and now - shown > 0.5:
            shown = now
            rate = done / (now - start)
            print(
                f"\r{doing} {done:,}/{count:,}  {rate:,.0f} images/s  "
                f"{(count - done) / rate:.0f} s left ",
                end="",
                file=sys.stderr,
                flush=True,
            )
    if bar and shown > start:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
