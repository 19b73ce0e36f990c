"""Tables of labels: CSV files `file,Attr1,Attr2,...`, as spreadsheets and pandas write them.

What can mean only one thing is accepted, and a note says how it was read. The rest is refused.
"""

import codecs
import csv
import dataclasses
import functools
import io
import os
import pathlib
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable

from cgan_tf.core.errors import UserError, count_of
from cgan_tf.core.files import name_key

LABELS = "labels.csv"

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_FILE_COLUMNS = ("file", "filename", "file_name", "image", "image_id", "image_name", "path")
_INDEX_COLUMNS = ("", "Unnamed: 0")  # as pandas writes its index, and reads it back
_WORDS = "true or false"
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\")


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """A table of labels.

    Attributes:
        path: of the CSV file.
        names: the K attributes.
        rows: K values in {0, 1} by file, in the table's order.
        notes: how it was read, where that was not as documented.
    """

    path: pathlib.Path
    names: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]
    notes: tuple[str, ...] = ()

    def describe(self) -> str:
        """The notes in one line, which begins with the name of the table; "" without notes."""
        return f"{self.path.name}: {'; '.join(self.notes)}" if self.notes else ""


def find_table(folder: pathlib.Path) -> pathlib.Path | None:
    """The labels.csv of a folder, also as Labels.csv or labels.CSV; None if there is none.

    Raises:
        UserError: several names fit.
    """
    found = sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.name.lower() == LABELS and entry.is_file()
    )
    if len(found) > 1:
        raise UserError(f"{folder} contains {' and '.join(found)}; keep only one of them")
    return folder / found[0] if found else None


# ---- rows --------------------------------------------------------------------------------------


def read_table(path: pathlib.Path) -> LabelTable:
    """Reads a table with any line endings; its files are named as it writes them.

    Raises:
        UserError: malformed table.
    """
    text = _text(path)
    try:
        separator, column = _layout(text, path)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, **_QUOTES)
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV file ({error}); save it as UTF-8 CSV") from None
    (_, header), *lines = [line for line in lines if any(line[1])]
    width = max(index for index, name in enumerate(header, 1) if name)
    notes = []
    if separator != ",":
        notes.append(f"{_SEPARATORS[separator]} separate its columns")
    if header[column] != "file":
        notes.append(f"its column {header[column]} names the files")
    names = tuple(header[column + 1 : width])
    if not names:
        raise _no_header(path)
    cut = len(header) > width
    unnamed = "" in names or (cut and any(any(cells[width:]) for _, cells in lines))
    if unnamed or len(set(names)) < len(names):
        raise UserError(
            f"{path}: a column has no name, or two have the same; give each column its own name"
        )
    for index, (number, cells) in enumerate(lines):
        if len(cells) > width and not any(cells[width:]):
            lines[index] = number, cells[:width]
            cut = True
    if cut:
        notes.append("its empty last column is left out")
    if column:
        _check_index(lines, path)
        notes.append("its first column, an index, is left out")
    rows, read_as = _rows(lines, len(names), column, separator, path)
    return LabelTable(path, names, rows, (*notes, *read_as))


_QUOTES = {"skipinitialspace": True}


def _text(path: pathlib.Path) -> str:
    """The table's text; Excel's first line `sep=;` becomes an empty one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); save it again") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            text = content.decode("utf-16")
        except UnicodeDecodeError:
            raise UserError(f"{path} is not a CSV file; save it as UTF-8 CSV") from None
    else:
        # File names need not be UTF-8; `cgan label` writes their bytes as they are.
        text = content.decode("utf-8-sig", "surrogateescape")
    return re.sub(r'\A"?sep=[,;\t]"?(?=\r?\n)', "", text)


def _layout(text: str, path: pathlib.Path) -> tuple[str, int]:
    """The separator of the columns, and the number of the column that names the files."""
    for separator in _SEPARATORS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, **_QUOTES)
        header = next(([cell.strip() for cell in row] for row in reader if any(row)), [])
        if not all(map(_is_text, header)):
            raise UserError(
                f"{path} is not a CSV file (its header is not UTF-8); save it as UTF-8 CSV"
            )
        header = [cell.lower() if cell not in _INDEX_COLUMNS else "" for cell in header]
        if len(header) > 1 and header[0] in _FILE_COLUMNS:
            return separator, 0
        if len(header) > 2 and not header[0] and header[1] in _FILE_COLUMNS:
            return separator, 1
    raise _no_header(path)


def _no_header(path: pathlib.Path) -> UserError:
    return UserError(f"{path} does not begin with file,Attr1,Attr2,...; add that header")


def _is_text(cell: str) -> bool:
    """Whether all bytes of the cell were UTF-8, and none was 0, as in UTF-16."""
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in cell)


def _check_index(lines: Iterable[tuple[int, list[str]]], path: pathlib.Path) -> None:
    """Refuses an unnamed first column that is not an index: different whole numbers."""
    seen: set[str] = set()
    for number, cells in lines:
        if not cells[0].isdecimal() or cells[0] in seen:
            raise UserError(
                f"{path}, line {number}: the first column has no name, and {cells[0]!r} is no "
                "index; name the column, or delete it"
            )
        seen.add(cells[0])


def _rows(
    lines: Iterable[tuple[int, list[str]]],
    count: int,
    column: int,
    separator: str,
    path: pathlib.Path,
) -> tuple[dict[str, tuple[float, ...]], list[str]]:
    """The rows, and how they were read."""
    rows: dict[str, tuple[float, ...]] = {}
    listed: dict[str, int] = {}  # line by file
    first: dict[str, int] = {}  # line by way of writing a value
    repeated = 0
    for number, cells in lines:
        file, *cells = cells[column:] or [""]  # of a row that ends with its index
        if not file:
            raise UserError(f"{path}, line {number}: the file has no name; give its name")
        if "\0" in file:
            raise UserError(
                f"{path}, line {number}: the file's name contains a zero byte; save the table as "
                "UTF-8 CSV"
            )
        if len(cells) != count:
            raise UserError(
                f"{path}, line {number}: expected {count} value(s), got {len(cells)}; every row "
                "needs every column"
            )
        parsed = [_value(cell, separator != ",") for cell in cells]
        if None in parsed:
            cell = cells[parsed.index(None)]
            raise UserError(
                f"{path}, line {number}: values are -1 and 1, or 0 and 1, not {cell!r}"
                f"{_scores_remedy(cell)}"
            )
        for _, form in set(parsed):
            first.setdefault(form, number)
        values = tuple(value for value, _ in parsed)
        if rows.setdefault(file, values) != values:
            raise UserError(
                f"{path}, line {number}: {file} is listed twice, with other values in line "
                f"{listed[file]}; delete one row"
            )
        repeated += listed.setdefault(file, number) != number
    for form in ("0", _WORDS):
        if form in first and "-1" in first:
            raise UserError(
                f"{path} mixes {form} (line {first[form]}) and -1 (line {first['-1']}); use one "
                "of them for absent"
            )
    notes = ["true and false are 1 and 0"] if _WORDS in first else []
    return rows, notes + ([count_of(repeated, "repeated row")] if repeated else [])


@functools.cache
def _value(cell: str, decimal_comma: bool) -> tuple[float, str] | None:
    """1 or 0, and the way it is written; None for anything else."""
    if cell.lower() in ("true", "false"):
        return float(cell.lower() == "true"), _WORDS
    number = _number(cell.replace(",", ".") if decimal_comma else cell)
    if number not in (-1, 0, 1):
        return None
    return float(number == 1), f"{number:.0f}".replace("-0", "0")


def _number(cell: str) -> float | None:
    try:
        return float(cell.replace("\u2212", "-"))  # the sign that some spreadsheets write
    except ValueError:
        return None


def _scores_remedy(cell: str) -> str:
    number = _number(cell)
    scores = number is not None and 0 < number < 1
    return " (are these scores? cgan label --binary writes labels)" if scores else ""


# ---- names of files ----------------------------------------------------------------------------


def match_names(table: LabelTable, files: Iterable[str], folder: pathlib.Path | None) -> LabelTable:
    """The table with its files named as a listing names them.

    `./a.jpg`, `sub\\a.jpg`, `FOLDER/a.jpg` and absolute paths become relative names. A name that no
    file has fits the only file whose name differs in Unicode's normal form or in case. Names that
    fit no file stay, for `match_rows` to report.

    Args:
        table: from `read_table`.
        files: the listing, relative to the folder.
        folder: of the files; None if they are not files of one folder.

    Raises:
        UserError: a name that fits several files, or is outside the folder.
    """
    files = set(files)
    similar: list[dict[str, list[str]]] = []
    rows: dict[str, tuple[float, ...]] = {}
    written: dict[str, str] = {}
    changed = []
    for given, values in table.rows.items():
        name = given
        if name not in files:
            name = _relative(given, table.path, folder)
        if name not in files:
            similar = similar or [_by_form(form, files) for form in _FORMS]
            name = _similar(name, similar, table.path)
        if name not in files and folder is not None:  # as seen from the folder above
            inside = name.removeprefix(f"{folder.resolve().name}/")
            name = inside if inside in files else name
        if name != given:
            changed.append(f"{given} is {name}")
        other = written.setdefault(name, given)
        if rows.setdefault(name, values) != values:
            raise UserError(
                f"{table.path}: {other} and {given} are one file, {name}, with different values; "
                "delete one row"
            )
    notes = table.notes
    if changed:
        # Names need not be UTF-8, and this one is printed.
        first = " ".join(changed[0].encode("utf-8", "backslashreplace").decode().split())
        notes += (f"{count_of(len(changed), 'name')} written in another way ({first})",)
    return dataclasses.replace(table, rows=rows, notes=notes)


def _relative(file: str, path: pathlib.Path, folder: pathlib.Path | None) -> str:
    """A file's name relative to the folder, with / for a back slash."""
    name = posixpath.normpath(file.replace("\\", "/"))
    windows = _WINDOWS_PATH.match(file)
    if not (windows or name.startswith(("/", "../"))):
        return name
    if folder is not None and not windows:
        for base in (os.path.abspath(folder), os.path.realpath(folder)):
            place = os.path.normpath(os.path.join(base, name))
            for target in (place, os.path.realpath(place)):
                if target.startswith(base + os.sep):
                    return os.path.relpath(target, base)
    where = folder or "the data, which has no folder"
    raise UserError(
        f"{path}: {file} is outside {where}; give names relative to the folder of the photos"
    )


# Macs write accents as letters of their own, and their file systems ignore case.
_FORMS = (
    lambda name: unicodedata.normalize("NFC", name),
    name_key,
)


def _by_form(form: Callable[[str], str], files: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(form(file), []).append(file)
    return found


def _similar(name: str, similar: list[dict[str, list[str]]], path: pathlib.Path) -> str:
    """The only file of a similar name; the name itself if there is none."""
    for form, files in zip(_FORMS, similar, strict=True):
        fitting = sorted(files.get(form(name), ()))
        if len(fitting) > 1:
            raise UserError(
                f"{path}: {name} may be {' or '.join(fitting[:2])}; write the name of one of them"
            )
        if fitting:
            return fitting[0]
    return name
