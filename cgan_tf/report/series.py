"""Values of the run folder's JSON files as the lines of plots and the cells of matrices."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cgan_tf.report import plots
from cgan_tf.report.format import entries, finite, listed, mapping
from cgan_tf.report.plots import MAX_SERIES, Plot, Series

_NOT_PLOTTED = ("kimg", "seconds", "images_per_second")


def training_names(stats: Sequence[Mapping[str, Any]]) -> list[str]:
    """The losses and metrics that stats.jsonl contains."""
    names = (name for line in stats for name, value in line.items() if finite(value))
    return [name for name in dict.fromkeys(names) if name not in _NOT_PLOTTED]


def training(stats: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Series]:
    """Those of the named values that stats.jsonl contains, over kimg."""
    x = [line.get("kimg") for line in stats]
    known = training_names(stats)
    return [Series(name, x, [line.get(name) for line in stats]) for name in names if name in known]


def by_strength(tables: Mapping[str, Any], key: str, unedited: float) -> list[Series]:
    """A value of each attribute over the strengths; at strength 0 it is `unedited`."""
    lines = []
    for name, table in tables.items():
        known = {0.0: (unedited, None)} | {
            point["strength"]: (point.get(key), mapping(point.get("interval")).get(key))
            for point in map(mapping, listed(table))
            if finite(point.get("strength"))
        }
        values = [known[strength] for strength in sorted(known)]
        lines.append(Series(name, sorted(known), *zip(*values, strict=True)))
    return lines


def by_change(methods: Mapping[str, Sequence[Any]], key: str) -> list[Series]:
    """A value of each method over the centers of the bins of target change."""
    return [
        Series(
            method,
            [_center(point) for point in bins],
            [point.get(key) for point in bins],
            [mapping(point.get("interval")).get(key) for point in bins],
        )
        for method, bins in methods.items()
    ]


def _center(point: Mapping[str, Any]) -> float | None:
    low, high = point.get("above"), point.get("up_to")
    return (low + high) / 2 if finite(low) and finite(high) else None


def pairs(tables: Mapping[str, Sequence[Mapping[str, Any]]], x: str, y: str) -> list[Series]:
    """One value of each attribute's points over another."""
    return [
        Series(name, [point.get(x) for point in table], [point.get(y) for point in table])
        for name, table in tables.items()
    ]


def grouped(title: str, lines: Sequence[Series], *args: Any, **options: Any) -> Iterator[Plot]:
    """`plots.curves` of any number of lines: one plot for each `MAX_SERIES` of them."""
    for start in range(0, len(lines), MAX_SERIES):
        yield plots.curves(title, lines[start : start + MAX_SERIES], *args, **options)


def matrix(title: str, content: Any, note: str) -> Plot | None:
    """A JSON object of rows as a matrix; None if it has no cells."""
    rows = entries(content)
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    values = [[row.get(name) for name in columns] for row in rows.values()]
    return plots.matrix(title, list(rows), columns, values, note) if columns else None
