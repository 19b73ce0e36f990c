"""Curves and matrices as inline SVG, drawn by matplotlib.

matplotlib lays out the axes, ticks and paths. The page's style sheet colors them, so that they
follow the reader's light or dark theme: `_Canvas` replaces matplotlib's styles by classes.
"""

import contextlib
import dataclasses
import io
import math
import re
import warnings
import xml.etree.ElementTree as xml
from collections.abc import Iterator, Sequence
from typing import Any

from markupsafe import Markup

from cgan_tf.report.format import finite, fixed, interval_ends, number, short

MAX_SERIES = 6  # lines per plot: as many as the style sheet has colors and dash patterns
WIDTH, HEIGHT = 400, 236  # px
_AXES = (58, 42, 330, 182)  # px: left, bottom, width and height of the axes
_LOG_SPAN = 30.0  # positive values whose largest ratio is above this get a log axis
_MARGIN = 0.05  # above and below the values, as a fraction of their span
_CELL, _NARROW_CELL, _ROW = 46, 25, 24  # px: widths of a matrix's cells, height of its rows
_MANY_COLUMNS = 12  # from here on the cells are narrow
_LETTER = 6.6  # px, average width of a letter in a matrix's labels
_MAX_OPACITY = 0.5  # of the cell with the largest value: its number must stay legible
_NOT_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SVG = "{http://www.w3.org/2000/svg}"
_RC = {"svg.fonttype": "none", "svg.hashsalt": "cgan_tf", "text.parse_math": False}


@dataclasses.dataclass(frozen=True)
class Series:
    """One line: x, y of equal length, and maybe [low, high] of each y. NaN or None is a gap."""

    name: str
    x: Sequence[Any]
    y: Sequence[Any]
    intervals: Sequence[Any] = ()

    def coordinates(self) -> list[tuple[float, float]]:
        """x and y of each point; NaN for both in a gap."""
        return [
            (float(x), float(y)) if finite(x) and finite(y) else (math.nan, math.nan)
            for x, y in zip(self.x, self.y, strict=True)
        ]

    def points(self) -> list[tuple[float, float]]:
        """The points without the gaps."""
        return [point for point in self.coordinates() if finite(point[0])]

    def bars(self) -> list[tuple[float, float, float]]:
        """x, low and high of each point's interval."""
        return [
            (x, *ends)
            for (x, _), interval in zip(self.coordinates(), self.intervals, strict=False)
            if finite(x) and (ends := interval_ends(interval))
        ]


@dataclasses.dataclass(frozen=True)
class Plot:
    """What the template shows of one plot; `svg` is None if there is no value to draw."""

    title: str
    svg: Markup | None
    note: str = ""
    label: str = ""  # a line above the title
    legend: Sequence[tuple[int, str, str]] = ()  # color index, name, last value of each line


@contextlib.contextmanager
def _defaults() -> Iterator[None]:
    """matplotlib's own defaults in place of the user's matplotlibrc, and what SVG text needs."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


@_defaults()
def curves(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    label: str = "",
    note: str = "",
    y_range: tuple[float, float] | None = None,
    markers: bool = False,
    signed: bool = False,
) -> Plot:
    """A plot of up to `MAX_SERIES` lines; more raise a ValueError.

    Args:
        title, label, note: text around the plot; see `Plot`.
        series: the lines; those without a single point are left out.
        x_label, y_label: names and units of the axes.
        y_range: fixed ends of the vertical axis.
        markers: marks every point, with its values as a tooltip, and y = 0; else the last point.
        signed: y is a change: written with its sign.
    """
    if len(series) > MAX_SERIES:
        raise ValueError(f"{len(series)} lines in one plot; the limit is {MAX_SERIES}")
    lines = [(index, line, line.points()) for index, line in enumerate(series)]
    lines = [entry for entry in lines if entry[2]]
    if not lines:
        return Plot(title, None, note, label)
    canvas = _Canvas(WIDTH, HEIGHT, _AXES)
    axes = canvas.axes
    known = [(x, y) for _, line, points in lines for x, *ys in points + line.bars() for y in ys]
    log = _set_limits(axes, known, y_range, markers)
    y_label = _xml_text(y_label) + (" (log scale)" if log else "")
    legend, summary = [], []
    for index, line, points in lines:
        (first_x, first_y), (last_x, last_y) = points[0], points[-1]
        canvas.line(*zip(*line.coordinates(), strict=True), css=f"line s{index}")
        for x, y in points if markers else points[-1:]:
            tip = f"{line.name}: {number(y, signed)} at {short(x)}"
            canvas.line((x, x), (y, y), f"dot s{index}", tip)  # its round caps make it a dot
        for x, *ends in line.bars():
            canvas.line((x, x), ends, f"bar s{index}")
        legend.append((index, line.name, "" if markers else number(last_y, signed)))
        summary.append(
            f"{line.name} goes from {number(first_y, signed)} at {short(first_x)} "
            f"to {number(last_y, signed)} at {short(last_x)}"
        )
    if markers and axes.get_ylim()[0] < 0 < axes.get_ylim()[1]:
        canvas.mark(axes.axhline(0), "axis")
    axes.set_xlabel(x_label)
    axes.xaxis.set_label_coords(0.5, -25 / _AXES[3])
    axes.set_ylabel(y_label, rotation_mode="anchor")
    axes.yaxis.set_label_coords(-48 / _AXES[2], 0.5)
    alt = f"{title}: {y_label} over {x_label}. {'; '.join(summary)}."
    return Plot(title, canvas.svg(alt), note, label, legend)


def _set_limits(
    axes: Any,
    points: Sequence[tuple[float, float]],
    y_range: tuple[float, float] | None,
    markers: bool,
) -> bool:
    """Sets scales, limits and ticks of both axes; returns whether y is logarithmic."""
    from matplotlib import ticker

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    x, y = ([point[index] for point in points] for index in (0, 1))
    axes.set_xlim(*_limits(x, zero=not markers))
    low, high = min(y), max(y)
    log = not (y_range or markers) and low > 0 and high / low > _LOG_SPAN
    if log:
        axes.set_yscale("log")
        decades = (1, 2, 5) if high / low < 1000 else (1,)
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=decades, numticks=8))
        axes.yaxis.set_minor_locator(ticker.NullLocator())
        axes.set_ylim(low / 1.15, high * 1.15)
    else:
        axes.set_ylim(*(y_range or _limits(y, margin=_MARGIN)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: short(value))
    return log


def _limits(values: Sequence[float], zero: bool = False, margin: float = 0.0) -> tuple:
    """Ends of a linear axis: with 0 where `zero` is set or the values come near it."""
    low, high = min(values), max(values)
    if low == high:
        return low - (abs(low) / 2 or 1), high + (abs(high) / 2 or 1)
    pad = margin * (high - low)
    from_zero = 0 <= low and (zero or (margin and low < 0.4 * high))
    return (0.0 if from_zero else low - pad), high + pad


@_defaults()
def matrix(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[Any]],
    note: str = "",
) -> Plot:
    """A heat map with its numbers in hundredths; positive cells are blue, negative orange.

    `values` holds one sequence per row, as long as `columns`; NaN or None leaves a cell empty.
    """
    from matplotlib.patches import Rectangle

    width = _NARROW_CELL if len(columns) > _MANY_COLUMNS else _CELL
    left, top = (round(_LETTER * max(map(len, names))) + 12 for names in (rows, columns))
    inside = width * len(columns), _ROW * len(rows)
    canvas = _Canvas(left + inside[0] + 4, top + inside[1] + 4, (left, 4, *inside))
    axes = canvas.axes
    axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    axes.spines.bottom.set_visible(False)
    axes.grid(False)
    axes.xaxis.tick_top()
    upwards = {"rotation": 90, "rotation_mode": "anchor", "ha": "left", "va": "center"}
    for set_ticks, names, style in (
        (axes.set_yticks, rows, {}),
        (axes.set_xticks, columns, upwards),
    ):
        set_ticks([index + 0.5 for index in range(len(names))], map(_xml_text, names), **style)
    largest = max((abs(v) for row in values for v in row if finite(v)), default=0.0) or 1.0
    summary = []
    for i, (name, row) in enumerate(zip(rows, values, strict=True)):
        cells = enumerate(zip(columns, row, strict=True))
        known = [(j, column, value) for j, (column, value) in cells if finite(value)]
        for j, column, value in known:
            box = Rectangle((j + 1 / width, i + 1 / _ROW), 1 - 2 / width, 1 - 2 / _ROW)
            box.set_alpha(round(_MAX_OPACITY * abs(value) / largest, 3))
            tip = f"{name}, {column}: {fixed(value, 3, signed=True)}"
            canvas.mark(axes.add_patch(box), "up" if value >= 0 else "down", tip)
            text = axes.text(j + 0.5, i + 16 / _ROW, fixed(100 * value, 0), ha="center")
            canvas.mark(text, "cell")
        words = ", ".join(f"{column} {fixed(100 * value, 0)}" for _, column, value in known)
        summary.append(f"{name}: {words}")
    alt = f"{title}, in hundredths. {'; '.join(summary)}."
    return Plot(title, canvas.svg(alt, scales=False), note)


class _Canvas:
    """One matplotlib figure with one pair of axes, and its conversion to the page's SVG."""

    def __init__(self, width: int, height: int, axes: tuple[int, int, int, int]) -> None:
        """`axes`: left, bottom, width and height. All sizes are in px."""
        from matplotlib.figure import Figure

        left, bottom, *size = axes
        self.figure = Figure((width / 72, height / 72), frameon=False)
        self.axes = self.figure.add_axes(
            (left / width, bottom / height, size[0] / width, size[1] / height)
        )
        self.width = width
        self.marks: dict[str, tuple[str, str | None]] = {}  # CSS classes and tooltip by SVG id
        self.axes.patch.set_visible(False)
        self.axes.spines[["left", "top", "right"]].set_visible(False)
        self.axes.tick_params(length=0, pad=6)
        self.axes.grid(axis="y")
        self.axes.autoscale(False)
        self.mark(self.axes.spines.bottom, "axis")

    def mark(self, artist: Any, css: str, tooltip: str | None = None) -> None:
        """Gives an artist its CSS classes and a tooltip."""
        artist.set_gid(f"mark{len(self.marks)}")
        artist.set_clip_on(False)
        self.marks[artist.get_gid()] = (css, tooltip)

    def line(self, x: Sequence, y: Sequence, css: str, tooltip: str | None = None) -> None:
        """Draws one line."""
        self.mark(self.axes.plot(x, y)[0], css, tooltip)

    def svg(self, alt: str, scales: bool = True) -> Markup:
        """The figure as one <svg> element that `alt` describes; `scales`: to the page's width."""
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has the fonts
            FigureCanvasSVG(self.figure).print_svg(buffer, metadata={"Date": None})
        source = xml.fromstring(buffer.getvalue())
        svg = xml.Element("svg", viewBox=source.get("viewBox"), role="img")
        svg.set("class", "plot")
        if not scales:
            svg.set("style", f"width: {self.width}px; max-width: none")
        xml.SubElement(svg, "title").text = _xml_text(alt)
        for group in source.iter(f"{_SVG}g"):
            mark = self.marks.get(group.get("id"), ("", None))
            for part in group:
                if part.tag in (f"{_SVG}path", f"{_SVG}text"):
                    svg.append(_restyled(part, *mark))
        return Markup(xml.tostring(svg, encoding="unicode"))


def _restyled(part: xml.Element, css: str, tooltip: str | None) -> xml.Element:
    """A path or a text with classes in place of matplotlib's style, and one decimal."""
    made = xml.Element(part.tag.removeprefix(_SVG))
    made.text = part.text
    if css := css or ("rule" if made.tag == "path" else ""):
        made.set("class", css)
    style = dict(re.findall(r"([\w-]+): ([^;]+)", part.get("style", "")))
    for key, name in (("text-anchor", "text-anchor"), ("opacity", "fill-opacity")):
        if key in style:
            made.set(name, style[key])
    for key in ("d", "x", "y", "transform"):
        if (value := part.get(key)) and not value.startswith("rotate(-0"):
            value = re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.1f}", value)
            made.set(key, re.sub(r"\s*([MLCz])\s*", r"\1", value.replace(".0 ", " ")).strip())
    if tooltip:
        xml.SubElement(made, "title").text = _xml_text(tooltip)
    return made


def _xml_text(text: str) -> str:
    """Text without the characters that XML forbids."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
