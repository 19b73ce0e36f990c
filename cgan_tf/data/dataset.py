"""`ImageData`, the one interface to every data source, and `open_data`, which opens it."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence

import numpy as np

from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.data import celeba, folder, photos, synthetic
from cgan_tf.data.cache import DecodedImages
from cgan_tf.data.framing import UNKNOWN
from cgan_tf.data.source import SPLITS, Source, describe_splits


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ImageData:
    """N square images with K attributes.

    An image that cannot be decoded keeps its index but belongs to no split.
    """

    name: str  # synthetic, celeba, celeba_dir, folder or photos
    resolution: int  # px
    attribute_names: tuple[str, ...]  # K; () without labels
    labels: np.ndarray  # float32 [N, K] in {0, 1}
    splits: dict[str, np.ndarray]  # train, validation, test -> int64 indices, ascending
    files: tuple[str, ...]  # N display names
    digest: str  # sha256 in hex over names, contents, labels, splits, framing, resolution
    decoded: DecodedImages  # reads the pixels; callers use read()
    notes: tuple[str, ...] = ()  # how the labels were read, where not as documented
    folder: str | None = None  # that the names are relative to; None without image files
    framing: str = UNKNOWN  # of a folder of one's own, see `framing.read_framing`

    def __repr__(self) -> str:
        return (
            f"ImageData({self.name}: {len(self.files):,} images, {self.resolution} px, "
            f"{len(self.attribute_names)} attributes; {describe_splits(self.splits)})"
        )

    def require_labels(self, user: str) -> None:
        """Raises a UserError if there are no labels; `user` is what needs them."""
        if not self.attribute_names:
            raise UserError(
                f"--data={self.name}: {user} needs labels; add labels.csv to --data_dir"
            )

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """uint8 [n, R, R, 3] for n indices in 0..N-1, in any order, with or without repetitions.

        Raises:
            ValueError: not a list of whole numbers.
            IndexError: an index out of range.
            UserError: an image that cannot be decoded.
        """
        indices = np.asarray(indices)
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise ValueError(
                f"indices must be whole numbers [n], not {indices.dtype} {indices.shape}"
            )
        indices = indices.astype(np.int64)
        if indices.size and not (0 <= indices.min() and indices.max() < len(self.files)):
            raise IndexError(f"image indices go from 0 to {len(self.files) - 1}")
        for index in set(indices.tolist()) & self.decoded.undecodable.keys():
            raise UserError(self.decoded.undecodable[index])
        return self.decoded.read(indices)


def open_data(config: Config, say: Callable[[str], None] = print) -> ImageData:
    """Opens the images of config.data at config.resolution; the first call fills the cache.

    Args:
        config: data, data_dir, cache_dir, cache_gib, resolution and synthetic_size are read.
        say: receives lines for the user: the split, the files that are skipped.

    Raises:
        UserError: the data is missing, malformed or damaged.
    """
    source = _open_source(config, say)
    decoded = DecodedImages(source, config.resolution, config.cache_dir, config.cache_gib, say)
    splits = {}
    for name in SPLITS:
        indices = np.asarray(source.splits[name], np.int64)
        splits[name] = indices[~np.isin(indices, list(decoded.undecodable))]
        if not len(splits[name]):
            raise UserError(
                f"--data={source.name}: no usable image in the {name} split; give more images"
            )
    return ImageData(
        name=source.name,
        resolution=config.resolution,
        attribute_names=source.attribute_names,
        labels=source.labels,
        splits=splits,
        files=source.files,
        digest=_digest(source, config.resolution, decoded.content),
        decoded=decoded,
        notes=source.notes,
        folder=source.paths[0].removesuffix(source.files[0]) if source.paths else None,
        framing=source.framing,
    )


def _open_source(config: Config, say: Callable[[str], None]) -> Source:
    if config.data == "synthetic":
        return synthetic.open_synthetic(config.synthetic_size, config.resolution)
    if config.data == "celeba":
        return celeba.open_tfds(config.data_dir, config.resolution)
    if config.data == "celeba_dir":
        return celeba.open_folder(config.data_dir, config.resolution, say)
    if config.data == "folder":
        return folder.open_folder(config.data_dir, config.resolution, say)
    if config.data == "photos":
        return photos.open_photos(config.data_dir, config.cache_dir, config.resolution, say)
    raise UserError(f"--data={config.data}: give synthetic, celeba, celeba_dir, folder or photos")


def _digest(source: Source, resolution: int, content: str) -> str:
    """Equal for equal data, wherever the files are and whatever their dates."""
    digest = hashlib.sha256()
    facts = [source.name, source.crop, resolution, source.attribute_names, len(source.files)]
    facts += [source.framing] if source.framing else []
    digest.update(json.dumps(facts).encode())
    digest.update(os.fsencode("\n".join(source.files)))
    digest.update(np.ascontiguousarray(source.sizes, "<i8").data)
    digest.update(np.ascontiguousarray(source.labels, "<f4").data)
    digest.update(content.encode())
    for name in SPLITS:
        digest.update(np.ascontiguousarray(source.splits[name], "<i8").data)
    return digest.hexdigest()
