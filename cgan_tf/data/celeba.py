"""CelebA (Liu et al. 2015) as two data sources: official files, or TensorFlow Datasets' `celeb_a`.

`celeba_dir` reads the official files, or Kaggle's copy of them, from a folder, `celeba` uses
TensorFlow Datasets. All give the same pixels: the aligned photos, cropped to the face.

    img_align_celeba/  list_attr_celeba.txt  list_eval_partition.txt       in one folder, or
    Img/img_align_celeba/  Anno/list_attr_celeba.txt  Eval/list_eval_partition.txt   as downloaded
"""

import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from cgan_tf.core.errors import UserError
from cgan_tf.data import images
from cgan_tf.data.attribute_names import check_names
from cgan_tf.data.label_table import read_table
from cgan_tf.data.source import (
    SPLITS,
    Source,
    check_folder,
    describe_splits,
    list_images,
    load_all,
    match_rows,
    stamp,
)
from cgan_tf.data.splits import labelled_split

PHOTOS = "img_align_celeba"
ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
# The folders of the download in which these are; "" for files that were moved together.
_PLACES = {PHOTOS: ("", "Img"), ATTRIBUTES: ("", "Anno"), PARTITION: ("", "Eval")}
CROP = "celeba-148-of-178x218"
Table = TypeVar("Table", bound=tuple)
_DOWNLOAD_SITE = "https://drive.google.com"  # where TFDS fetches the photos


# ---- the official files ------------------------------------------------------------------------


def open_folder(data_dir: str | None, resolution: int, say: Callable[[str], None]) -> Source:
    """The official files, in one folder or in those of the download (Img/, Anno/, Eval/).

    Also Kaggle's: the tables end in .csv, and the photos are in img_align_celeba/img_align_celeba/.
    Without the partition file, the split is a fixed random one; `say` reports it.

    Raises:
        UserError: a missing part, a malformed line, photos and rows that do not match, two tables
            or folders of photos that differ.
    """
    folder = check_folder(data_dir, "celeba_dir")
    outer = _photo_folder(folder, data_dir)
    if not (table := _tables(folder, ATTRIBUTES)):
        raise UserError(
            f"--data_dir={data_dir} has no labels; put {ATTRIBUTES} there, or use "
            "--data=folder for images without labels"
        )
    photos, found = _find_photos(outer)
    names, files, labels = _one_of(table, _read_any_attributes)
    match_rows(files, found, table[0].name, f"{photos.relative_to(folder)}/")
    partition = _tables(folder, PARTITION)
    kaggle = [path.name for path in (*table[:1], *partition[:1]) if path.suffix == ".csv"]
    kaggle += [f"{PHOTOS}/{PHOTOS}/"] if photos != outer else []
    note = f"{', '.join(kaggle)}: read as Kaggle's copy of CelebA" if kaggle else ""
    if note:
        say(f"data: {note}")
    splits = _folder_splits(partition, table[0].name, files, labels, say)
    paths = [str(photos / file) for file in files]
    images.note_enlarged(paths, images.celeba_side, resolution, say)

    def load(index: int) -> np.ndarray:
        return images.celeba_crop_resize(images.decode_file(paths[index]), resolution)

    return Source(
        name="celeba_dir",
        attribute_names=names,
        labels=labels,
        splits=splits,
        files=files,
        sizes=np.array([found[file][0] for file in files], np.int64),
        crop=CROP,
        version=stamp(photos, found),
        paths=tuple(paths),
        stream=lambda indices: load_all(load, indices),
        notes=(note,) if note else (),
    )


def _photo_folder(folder: pathlib.Path, data_dir: str | None) -> pathlib.Path:
    """The folder img_align_celeba/ in --data_dir; UserError if there is none, or two."""
    found = [place for inner in _PLACES[PHOTOS] if (place := folder / inner / PHOTOS).is_dir()]
    if len(found) > 1:
        raise UserError(
            f"--data_dir={data_dir} has {found[0]}/ and {found[1]}/; keep only one of them"
        )
    if found:
        return found[0]
    for archive in (folder / inner / f"{PHOTOS}.zip" for inner in _PLACES[PHOTOS]):
        if archive.is_file():
            raise UserError(f"--data_dir={data_dir}: {archive} is not unpacked; unpack it there")
    raise UserError(
        f"--data_dir={data_dir} has no folder {PHOTOS}/; put the photos there, or "
        "use --data=folder for images in another layout"
    )


def _find_photos(photos: pathlib.Path) -> tuple[pathlib.Path, dict[str, tuple[int, int, int]]]:
    """The folder of the photos, img_align_celeba/ or the one in it, and the photos."""
    found = list_images(photos)
    if not found:
        raise UserError(f"{photos} contains no images; put CelebA's aligned photos there")
    prefix = f"{PHOTOS}/"
    nested = {
        name.removeprefix(prefix): facts for name, facts in found.items() if name.startswith(prefix)
    }
    if not nested:
        return photos, found
    if others := len(found) - len(nested):
        raise UserError(
            f"{photos} contains {others:,} photos besides the {len(nested):,} of its folder "
            f"{prefix}; keep only one of them"
        )
    return photos / PHOTOS, nested


def _tables(folder: pathlib.Path, name: str) -> list[pathlib.Path]:
    """The existing forms of a table, the official one first."""
    paths = [folder / inner / name for inner in _PLACES[name]]
    forms = [form for path in paths for form in (path, path.with_suffix(".csv"))]
    return [form for form in forms if form.is_file()]


def _one_of(paths: list[pathlib.Path], read: Callable[[pathlib.Path], Table]) -> Table:
    """What the first path contains; UserError if the second, if there is one, differs."""
    contents = [read(path) for path in paths]
    for path, content in zip(paths[1:], contents[1:], strict=True):
        if not all(map(np.array_equal, content, contents[0])):
            raise UserError(f"{path} and {paths[0]} differ; keep only one of them")
    return contents[0]


def _read_any_attributes(
    path: pathlib.Path,
) -> tuple[tuple[str, ...], tuple[str, ...], np.ndarray]:
    """`read_attributes` from the official file, or the same from Kaggle's."""
    if path.suffix != ".csv":
        return read_attributes(path)
    table = read_table(path)
    check_names(table.names, str(path))
    labels = np.array(list(table.rows.values()), np.float32).reshape(-1, len(table.names))
    return table.names, tuple(table.rows), labels


def read_attributes(path: pathlib.Path) -> tuple[tuple[str, ...], tuple[str, ...], np.ndarray]:
    """Reads list_attr_celeba.txt, with either line ending, with or without its row count.

    Returns:
        K attribute names, N files, and labels float32 [N, K] in {0, 1}.

    Raises:
        UserError: malformed table.
    """
    lines = _lines(path)
    counted = int(lines[0][1][0]) if lines and _is_count(lines[0][1]) else None
    if counted is not None:
        lines = lines[1:]
    if not lines or any(cell in ("-1", "1") for cell in lines[0][1]):
        raise UserError(f"{path} has no line of attribute names; use the official file")
    names = tuple(lines[0][1])
    check_names(names, str(path))
    rows = lines[1:]
    if counted is not None and counted != len(rows):
        raise UserError(
            f"{path} announces {counted:,} rows and has {len(rows):,}; download it again, "
            "or delete its first line if you shortened it on purpose"
        )
    values = np.empty((len(rows), len(names)), np.float32)
    for row, (number, (_, *cells)) in zip(values, rows, strict=True):
        if len(cells) != len(names) or not {"-1", "1"}.issuperset(cells):
            raise UserError(
                f"{path}, line {number}: expected a file and {len(names)} values of "
                f"-1 or 1, got {len(cells)} value(s); download the file again"
            )
        row[:] = [cell == "1" for cell in cells]
    files = tuple(cells[0] for _, cells in rows)
    _check_unique(files, path)
    return names, files, values


def read_partition(path: pathlib.Path) -> dict[str, int]:
    """Reads list_eval_partition.txt: {file: 0 (train), 1 (validation) or 2 (test)}.

    Kaggle's list_eval_partition.csv has commas and a header.

    Raises:
        UserError: malformed table.
    """
    lines = _lines(path)
    if path.suffix == ".csv":
        cells = ((number, " ".join(cells).split(",")) for number, cells in lines)
        lines = [(number, [cell.strip() for cell in row]) for number, row in cells]
        lines = lines[1:] if lines and lines[0][1][0] == "image_id" else lines
    for number, cells in lines:
        if len(cells) != 2 or cells[1] not in ("0", "1", "2"):
            raise UserError(
                f"{path}, line {number}: expected a file and 0, 1 or 2; download it again"
            )
    _check_unique([cells[0] for _, cells in lines], path)
    return {cells[0]: int(cells[1]) for _, cells in lines}


def _folder_splits(
    paths: list[pathlib.Path],
    attributes: str,
    files: tuple[str, ...],
    labels: np.ndarray,
    say: Callable[[str], None],
) -> dict[str, np.ndarray]:
    if not paths:
        splits = labelled_split(labels)
        say(f"data: no {PARTITION}; a fixed random split is used: {describe_splits(splits)}")
        return splits
    (part,) = _one_of(paths, lambda path: (read_partition(path),))
    path = paths[0]
    match_rows(part, files, path.name, attributes)
    parts = np.array([part[file] for file in files])
    splits = {name: np.flatnonzero(parts == code) for code, name in enumerate(SPLITS)}
    for name, indices in splits.items():
        if not len(indices):
            raise UserError(
                f"{path} leaves the {name} split empty; delete the file for a random split"
            )
    return splits


def _lines(path: pathlib.Path) -> list[tuple[int, list[str]]]:
    """(line number, cells) of each line that is not blank; accepts both line endings."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file; download it again") from None
    numbered = ((number, line.split()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, cells) for number, cells in numbered if cells]


def _is_count(cells: list[str]) -> bool:
    return len(cells) == 1 and cells[0].isdecimal()


def _check_unique(files: Iterable[str], path: pathlib.Path) -> None:
    seen: set[str] = set()
    for file in files:
        if file in seen:
            raise UserError(f"{path} lists {file} more than once; delete the duplicate rows")
        seen.add(file)


# ---- TensorFlow Datasets -----------------------------------------------------------------------


def open_tfds(data_dir: str | None, resolution: int) -> Source:
    """TensorFlow Datasets' `celeb_a`, downloaded on first use into data_dir (None: its default).

    Raises:
        UserError: the download failed; the message says how to provide the files manually.
    """
    import tensorflow_datasets as tfds  # slow to import, and only this source needs it

    try:
        builder = tfds.builder("celeb_a", data_dir=data_dir)
        try:
            builder.as_dataset(split="train")
        except AssertionError:  # not downloaded yet
            _check_network()
            builder.download_and_prepare()
    except Exception as error:  # many types: no network, quota exceeded, wrong checksum
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(
            f"--data=celeba: the download failed ({reason}); put {PHOTOS}/, {ATTRIBUTES} and "
            f"{PARTITION} from CelebA's website into a folder DIR and use --data=celeba_dir "
            "--data_dir=DIR"
        ) from None

    def records(split: str) -> Iterator[dict]:
        # One shard after another, for a fixed order. Pillow decodes the photos, not TensorFlow, so
        # that both sources give the same pixels.
        read = tfds.ReadConfig(interleave_cycle_length=1)
        encoded = {"image": tfds.decode.SkipDecoding()}
        return builder.as_dataset(
            split=split, shuffle_files=False, read_config=read, decoders=encoded
        ).as_numpy_iterator()

    names = tuple(builder.info.features["attributes"].keys())
    labels, sizes, files, splits = [], [], [], {}
    for split in SPLITS:
        start = len(files)
        for record in records(split):
            labels.append([record["attributes"][name] for name in names])
            sizes.append(len(record["image"]))
            files.append(f"{split}/{len(files) - start:06d}")
        splits[split] = np.arange(start, len(files), dtype=np.int64)

    def load(photo: tuple[str, bytes]) -> np.ndarray:
        return images.celeba_crop_resize(images.decode_bytes(photo[1], photo[0]), resolution)

    def stream(indices: np.ndarray) -> Iterator[np.ndarray | UserError]:
        if not np.array_equal(indices, np.arange(len(files))):
            raise ValueError("celeb_a can only be read from its first photo to its last")
        photos = (record["image"] for split in SPLITS for record in records(split))
        return load_all(load, zip(files, photos, strict=True))

    return Source(
        name="celeba",
        attribute_names=names,
        labels=np.array(labels, np.float32).reshape(-1, len(names)),
        splits=splits,
        files=tuple(files),
        sizes=np.array(sizes, np.int64),
        crop=CROP,
        version=str(builder.info.version),
        paths=(),
        stream=stream,
        random_access=False,
    )


def _check_network() -> None:
    """Fails immediately without a network, where TFDS would retry for minutes."""
    import requests  # TFDS downloads with it, so the same proxy settings apply

    try:
        requests.head(_DOWNLOAD_SITE, timeout=20)
    except requests.RequestException:
        raise ConnectionError(f"{_DOWNLOAD_SITE} cannot be reached") from None
