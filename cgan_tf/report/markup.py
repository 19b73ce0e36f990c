"""How a self-contained page is made: escaping elements, tables, pictures, line charts, style.

Under `report.py`, which says what stands on the page. No script, and nothing that a browser
would have to fetch: pictures are data URIs, charts are inline SVG.
"""

import base64
import dataclasses
import html
import io
import json
import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

from PIL import Image

DASH = "–"  # what stands for a figure that is not there
SERIES = 6  # lines that one chart can tell apart: as many as STYLE has --s0, --s1, ...
_DASHES = ("", "7 2", "2 2", "9 3 2 3", "4 3", "1 3")
_VOID = ("meta", "link", "img", "br", "line", "path", "circle", "rect")


# ---- elements ------------------------------------------------------------------------------------


class Html(str):
    """Text that is markup already; everything else is escaped when it becomes a child."""


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """One element.

    Args:
        name: of the element.
        *children: `Html` goes in as it is, None is left out, lists are flattened, and anything
            else is escaped text.
        **attributes: escaped values; `class_` is class and `_` is `-` otherwise. None leaves an
            attribute out.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            words.append(f'{key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"')
    if name in _VOID:
        return Html(f"<{' '.join(words)}/>")
    return Html(f"<{' '.join(words)}>{join(children)}</{name}>")


def join(children: Iterable[Any]) -> Html:
    """The children of one element as markup; see `tag`."""
    parts = []
    for child in children:
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, list | tuple):
            parts.append(join(child))
        elif child is not None:
            parts.append(html.escape(str(child)))
    return Html("".join(parts))


def document(title: str, *body: Any) -> str:
    """The whole file. Its policy forbids every request, so that a slip cannot cause one."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Html(STYLE)),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', *body), lang='en')}\n"


# ---- figures as text -----------------------------------------------------------------------------


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def finite(value: Any) -> bool:
    """Whether the value is a number that can be shown and drawn."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, signed: bool = False) -> str:
    """Three significant digits; whole numbers whole, with thousands; a dash for what is none."""
    if not finite(value):
        return DASH
    if isinstance(value, int) or (abs(value) >= 1000 and abs(value) < 1e15):
        text = f"{round(value):,}"
    elif value and not 1e-4 <= abs(value) < 1000:
        text = _power(f"{value:.2e}")
    else:
        decimals = 2 - math.floor(math.log10(abs(value))) if value else 0
        text = f"{value:.{min(max(decimals, 0), 6)}f}"
    if signed and value > 0:
        text = f"+{text}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def short(value: Any, signed: bool = False) -> str:
    """A round value without idle zeros: strengths, kimg, ticks."""
    if not finite(value):
        return DASH
    if abs(value) >= 1e6:
        return number(value, signed)
    text = f"{value:{'+' if signed and value else ''}.6g}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def fixed(value: Any, decimals: int = 2, signed: bool = False) -> str:
    """So many decimals, which lines up in a column; a dash for what is no number."""
    if not finite(value):
        return DASH
    text = f"{value:{'+' if signed else ''},.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")  # no sign on a zero
    return text.replace("-", "−", 1)


def tiny(value: Any) -> str:
    """A small difference in powers of ten."""
    if not finite(value):
        return DASH
    return _power(f"{value:.1e}").replace("-", "−") if value else "0"


def _power(text: str) -> str:
    """1.2e-05 as 1.2 × 10⁻⁵."""
    digits, power = text.split("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits} × 10{raised}"


def percent(value: Any) -> str:
    """A share as per cent with one decimal, kept on one line."""
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%" if finite(value) else DASH


def ends(interval: Any) -> tuple[float, float] | None:
    """[low, high] as a report has it; None for anything else."""
    if isinstance(interval, list | tuple) and len(interval) == 2 and all(map(finite, interval)):
        return float(interval[0]), float(interval[1])
    return None


def plus_minus(value: Any, interval: Any, decimals: int = 2, signed: bool = False) -> str:
    """A figure with half the width of its interval [low, high], where it has one."""
    text, found = fixed(value, decimals, signed), ends(interval)
    if not finite(value) or found is None:
        return text
    return f"{text}\N{NO-BREAK SPACE}± {fixed((found[1] - found[0]) / 2, decimals)}"


def plus_minus_percent(value: Any, interval: Any) -> str:
    """`plus_minus` of a share, as per cent with one decimal."""
    found = ends(interval)
    if not finite(value) or found is None:
        return percent(value)
    spread = plus_minus(100 * value, [100 * end for end in found], 1)
    return f"{spread}\N{NO-BREAK SPACE}%"


def duration(seconds: Any) -> str:
    """Seconds in the two units that a reader would use."""
    if not finite(seconds) or seconds < 0:
        return DASH
    if seconds < 59.5:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.2g} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(minutes + (seconds >= 30), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def size(count: Any) -> str:
    """Bytes in decimal kB or MB."""
    if not finite(count):
        return DASH
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def plain(value: Any) -> str:
    """Any JSON value for a reader: numbers whole or in full, lists with commas."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(part) for part in value) or DASH
    if isinstance(value, dict):
        return "; ".join(f"{key}: {plain(part)}" for key, part in value.items()) or DASH
    return str(value) if str(value) else DASH


# ---- tables --------------------------------------------------------------------------------------


def table(
    caption: str, head: Sequence[Any], rows: Iterable[Sequence[Any]], text_columns: int = 1
) -> Html:
    """A table whose rows are named by their first cell.

    Args:
        caption: what the table shows; read out first.
        head: names of the columns.
        rows: cells, as many as `head`.
        text_columns: the first so many are words, aligned left; the others are figures.
    """
    kinds = ["words" if index < text_columns else "figure" for index in range(len(head))]
    top = [
        tag("th", cell, scope="col", class_=kind) for cell, kind in zip(head, kinds, strict=True)
    ]
    body = []
    for row in rows:
        cells = [
            tag("td", cell, class_=kind) if index else tag("th", cell, scope="row", class_=kind)
            for index, (cell, kind) in enumerate(zip(row, kinds, strict=True))
        ]
        body.append(tag("tr", cells))
    content = tag(
        "table", tag("caption", caption), tag("thead", tag("tr", top)), tag("tbody", body)
    )
    # Wide tables scroll in their own box, also by keyboard; the page never does.
    return tag("div", content, class_="scroll", tabindex="0", role="region", aria_label=caption)


def raw(caption: str, content: Any) -> Html:
    """A JSON value as it stands in its file; NaN as null."""
    text = json.dumps(_without_nan(content), indent=2, ensure_ascii=False, allow_nan=False)
    return tag("pre", text, tabindex="0", role="region", aria_label=caption)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def details(summary: str, *children: Any) -> Html:
    """A part that is folded away until the reader asks for it."""
    return tag("details", tag("summary", summary), *children)


# ---- pictures ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG file's content and its width and height in pixels."""

    content: bytes
    width: int
    height: int


def animated(pictures: Sequence[Picture], seconds: float) -> Picture:
    """An endless animation (APNG) of pictures of one size, the last one held three times as long.

    Args:
        pictures: from first to last.
        seconds: that each of the others is shown.
    """
    # 128 colours: a third of the bytes, and nothing to see of it in a moving picture.
    frames = [
        Image.open(io.BytesIO(picture.content)).convert("RGB").quantize(128)
        for picture in pictures
    ]
    durations = [1000 * seconds] * (len(frames) - 1) + [3000 * seconds]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "PNG", save_all=True, append_images=frames[1:], duration=durations, loop=0
    )
    return Picture(buffer.getvalue(), pictures[0].width, pictures[0].height)


def figure(
    picture: Picture, alt: str, caption: Any, room: int, columns: Sequence[str] = ()
) -> Html:
    """A picture enlarged by the largest whole factor that fits, never wider than the window.

    Args:
        picture: what to show.
        alt: what it shows, in words.
        caption: text under it, or None.
        room: width that it may take, in CSS pixels.
        columns: a heading above each of the picture's equal columns.
    """
    factor = max(1, room // picture.width)
    width = factor * picture.width
    source = "data:image/png;base64," + base64.b64encode(picture.content).decode("ascii")
    image = tag(
        "img", src=source, alt=alt, width=width, height=factor * picture.height,
        class_="enlarged" if factor > 1 else None,
    )  # fmt: skip
    heads = None
    if columns:
        heads = tag(
            "div", [tag("span", name) for name in columns], class_="columns",
            style=f"grid-template-columns: repeat({len(columns)}, 1fr)", aria_hidden="true",
        )  # fmt: skip
    below = tag("figcaption", caption) if caption else None
    return tag("figure", heads, image, below, style=f"max-width: {width}px")


# ---- charts --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Series:
    """One line: a name, and x and y of equal length. A y that is no number leaves a gap.

    `intervals` are [low, high] of each y, or nothing; a chart with markers draws them.
    """

    name: str
    x: Sequence[Any]
    y: Sequence[Any]
    intervals: Sequence[Any] = ()

    def points(self) -> list[tuple[float, float] | None]:
        return [
            (float(x), float(y)) if finite(x) and finite(y) else None
            for x, y in zip(self.x, self.y, strict=True)
        ]

    def bars(self) -> list[tuple[float, float, float]]:
        """x, low and high of each interval of a point."""
        return [
            (float(x), *found)
            for x, y, interval in zip(self.x, self.y, self.intervals, strict=False)
            if finite(x) and finite(y) and (found := ends(interval))
        ]


_WIDTH, _HEIGHT = 400, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 388, 12, 194  # of the plot in the picture
_LOG_SPAN = 30.0  # positive values that differ by more are drawn on a log axis


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    label: str = "",
    note: str = "",
    y_range: tuple[float, float] | None = None,
    markers: bool = False,
    signed: bool = False,
) -> Html:
    """A chart of up to `SERIES` lines, as a figure with its legend and last values.

    Args:
        title: what is shown.
        series: the lines; those without a single point are left out of the plot.
        x_label: name and unit of the horizontal axis.
        y_label: name and unit of the vertical axis.
        label: a word above the title.
        note: a sentence that explains the chart.
        y_range: fixed ends of the vertical axis.
        markers: a dot with its values (as a tooltip) at every point, a bar over its interval, a
            line at y = 0.
        signed: y is a change: written with its sign.
    """
    if len(series) > SERIES:
        raise ValueError(f"{len(series)} lines in one chart; split them by {SERIES}")
    lines = [(index, line.name, line.points()) for index, line in enumerate(series)]
    lines = [(index, name, points) for index, name, points in lines if any(points)]
    bars = [(index, bar) for index, line in enumerate(series) for bar in line.bars()]
    heading = [tag("span", label, class_="label") if label else None, tag("strong", title)]
    if not lines:
        return tag("figure", tag("figcaption", heading, " has no figures yet."), class_="chart")
    known = [point for _, _, points in lines for point in points if point]
    known += [(bar[0], end) for _, bar in bars for end in bar[1:]]
    x_axis = _Axis.around([x for x, _ in known], _LEFT, _RIGHT, zero=not markers)
    if y_range:
        y_axis = _Axis(*y_range, _BOTTOM, _TOP, log=False)
    else:
        y_axis = _Axis.around([y for _, y in known], _BOTTOM, _TOP, log=not markers, pad=0.05)

    legend, drawn, spoken = [], [], []
    for index, name, points in lines:
        first, last = ([point for point in points if point][end] for end in (0, -1))
        key = tag(
            "svg",
            tag("line", x1=0, y1=5, x2=26, y2=5, class_=f"line s{index}",
                stroke_dasharray=_DASHES[index] or None),
            viewBox="0 0 26 10", class_="key", aria_hidden="true",
        )  # fmt: skip
        end = "" if markers else f" {number(last[1], signed)}"
        legend.append(tag("li", key, tag("span", name), tag("b", end) if end else None))
        drawn.append(_line(index, points, x_axis, y_axis))
        dots = [point for point in points if point] if markers else [last]
        for x, y in dots:
            value = f"{name}: {number(y, signed)} at {short(x)}"
            dot = tag("circle", cx=_px(x_axis(x)), cy=_px(y_axis(y)), r=3, class_=f"dot s{index}")
            drawn.append(tag("g", tag("title", value), dot))
        spoken.append(
            f"{name} goes from {number(first[1], signed)} at {short(first[0])} "
            f"to {number(last[1], signed)} at {short(last[0])}"
        )
    for index, (x, low, high) in bars:
        x, y1, y2 = _px(x_axis(x)), _px(y_axis(low)), _px(y_axis(high))
        drawn.append(tag("line", x1=x, x2=x, y1=y1, y2=y2, class_=f"bar s{index}"))
    alt = f"{title}: {y_label} over {x_label}. " + "; ".join(spoken) + "."
    plot = tag(
        "svg", tag("title", alt), _grid(x_axis, y_axis, markers), drawn,
        tag("text", x_label, x=(_LEFT + _RIGHT) // 2, y=_HEIGHT - 6, text_anchor="middle"),
        tag("text", y_label + (" (log scale)" if y_axis.log else ""), text_anchor="middle",
            transform=f"translate(12 {(_TOP + _BOTTOM) // 2}) rotate(-90)"),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", class_="plot",
    )  # fmt: skip
    # The note stands last, so that the plots of a row are level.
    return tag(
        "figure", tag("figcaption", heading), plot, tag("ul", legend, class_="legend"),
        tag("p", note) if note else None, class_="chart",
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Axis:
    """Maps low..high to start..end, in proportion or by logarithms."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    @classmethod
    def around(
        cls, values: Sequence[float], start: float, end: float,
        zero: bool = False, log: bool = False, pad: float = 0.0,
    ) -> "_Axis":  # fmt: skip
        """An axis that holds all the values, and 0 where they come near it or `zero` asks."""
        low, high = min(values), max(values)
        if log and low > 0 and high / low > _LOG_SPAN:
            return cls(low / 1.15, high * 1.15, start, end, log=True)
        if low == high:
            pad, low, high = 0.0, low - (abs(low) / 2 or 1), high + (abs(high) / 2 or 1)
        margin = pad * (high - low)
        if 0 <= low and (zero or (pad and low < 0.4 * high)):
            low = 0.0
        else:
            low -= margin
        return cls(low, high + margin, start, end, log=False)

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Four to eight round values inside the axis."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            span = math.log10(self.high / self.low)
            steps = (1, 2, 5) if span < 3 else (1,)
            stride = max(1, round(span / 6))
            values = [step * 10.0**decade for decade in decades[::stride] for step in steps]
            return [value for value in values if self.low <= value <= self.high]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def _grid(x_axis: _Axis, y_axis: _Axis, zero: bool) -> list[Html]:
    """Lines and labels of both axes."""
    parts = []
    for value in y_axis.ticks():
        y = _px(y_axis(value))
        parts.append(tag("line", x1=_LEFT, y1=y, x2=_RIGHT, y2=y, class_="rule"))
        parts.append(
            tag("text", short(value), x=_LEFT - 6, y=_px(y_axis(value) + 4), text_anchor="end")
        )
    for value in x_axis.ticks():
        x = _px(x_axis(value))
        parts.append(tag("line", x1=x, y1=_BOTTOM, x2=x, y2=_BOTTOM + 4, class_="axis"))
        parts.append(tag("text", short(value), x=x, y=_BOTTOM + 18, text_anchor="middle"))
    parts.append(tag("line", x1=_LEFT, y1=_BOTTOM, x2=_RIGHT, y2=_BOTTOM, class_="axis"))
    if zero and y_axis.low < 0 < y_axis.high:
        y = _px(y_axis(0))
        parts.append(tag("line", x1=_LEFT, y1=y, x2=_RIGHT, y2=y, class_="axis"))
    return parts


def _line(index: int, points: Sequence[Any], x_axis: _Axis, y_axis: _Axis) -> Html:
    """The line through the points, broken where there is none."""
    steps, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        steps.append(f"{pen}{_px(x_axis(point[0]))} {_px(y_axis(point[1]))}")
        pen = "L"
    return tag("path", d="".join(steps), class_=f"line s{index}",
               stroke_dasharray=_DASHES[index] or None)  # fmt: skip


_CELL, _NARROW = 46, 25  # px: width of a heat map's cells, and where there are many columns
_MANY = 12  # columns
_LINE = 24  # px, height of a row
_LETTER = 6.6  # px, the usual width of one in a label
_DEEPEST = 0.5  # opacity of the largest value: the number on it must stay legible


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[Any]],
    note: str = "",
) -> Html:
    """A matrix as colored cells with their numbers, in hundredths; blue is up, orange is down.

    Args:
        title: what is shown.
        rows: names of the rows.
        columns: names of the columns.
        values: of each row, as many as there are columns; what is no number leaves a gap.
        note: a sentence that explains the picture.
    """
    width = _NARROW if len(columns) > _MANY else _CELL
    left = round(_LETTER * max(map(len, rows), default=0)) + 12
    top = round(_LETTER * max(map(len, columns), default=0)) + 12
    whole, height = left + width * len(columns) + 4, top + _LINE * len(rows) + 4
    numbers = [value for row in values for value in row if finite(value)]
    largest = max(map(abs, numbers), default=0.0) or 1.0
    parts = []
    for index, name in enumerate(columns):
        x, y = left + width * (index + 0.5) + 4, top - 6
        parts.append(tag("text", name, transform=f"translate({_px(x)} {y}) rotate(-90)"))
    for line, (name, row) in enumerate(zip(rows, values, strict=True)):
        y = top + _LINE * line
        parts.append(tag("text", name, x=left - 8, y=y + 16, text_anchor="end"))
        for index, (column, value) in enumerate(zip(columns, row, strict=True)):
            if not finite(value):
                continue
            x = left + width * index
            box = tag(
                "rect", x=x + 1, y=y + 1, width=width - 2, height=_LINE - 2, rx=2,
                class_="up" if value >= 0 else "down",
                fill_opacity=f"{_DEEPEST * abs(value) / largest:.3f}",
            )  # fmt: skip
            text = tag(
                "text", fixed(100 * value, 0), x=_px(x + width / 2), y=y + 16,
                text_anchor="middle", class_="cell",
            )  # fmt: skip
            tip = tag("title", f"{name}, {column}: {fixed(value, 3, signed=True)}")
            parts.append(tag("g", tip, box, text))
    words = [
        f"{name}: " + ", ".join(
            f"{column} {fixed(100 * value, 0)}"
            for column, value in zip(columns, row, strict=True)
            if finite(value)
        )
        for name, row in zip(rows, values, strict=True)
    ]  # fmt: skip
    plot = tag(
        "svg", tag("title", f"{title}, in hundredths. " + "; ".join(words) + "."), parts,
        viewBox=f"0 0 {whole} {height}", role="img", class_="plot",
        style=f"width: {whole}px; max-width: none",
    )  # fmt: skip
    box = tag("div", plot, class_="scroll", tabindex="0", role="region", aria_label=title)
    return tag(
        "figure", tag("figcaption", tag("strong", title)), box, tag("p", note) if note else None,
        class_="chart map",
    )  # fmt: skip


def _px(value: float) -> str:
    return f"{value:.1f}"


# ---- style ---------------------------------------------------------------------------------------

# The line colors are darkened (light page) and lightened (dark page) from Okabe and Ito's
# palette for color-blind readers; the dashes tell them apart without any color.
STYLE = """
:root { color-scheme: light dark;
  --ground: #ffffff; --panel: #f5f6f8; --ink: #16191d; --soft: #545b66; --edge: #d8dce2;
  --accent: #005a9c; --good: #00704f; --note: #fff6dd;
  --s0: #0067ad; --s1: #bf4400; --s2: #007a59; --s3: #a23b81; --s4: #7d5d00; --s5: #3f4650; }
@media (prefers-color-scheme: dark) { :root {
  --ground: #14171b; --panel: #1e2329; --ink: #eceff3; --soft: #a9b2be; --edge: #363d47;
  --accent: #7cc0f7; --good: #52d3a6; --note: #322a12;
  --s0: #6db6ef; --s1: #ff9159; --s2: #45cfa2; --s3: #e79bcb; --s4: #e3c04a; --s5: #c9d0d9; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
    sans-serif; }
header, nav, main, footer { max-width: 1180px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 36px; }
h1, h2, h3 { line-height: 1.2; text-wrap: balance; }
h1 { margin: 0 0 6px; font-size: clamp(26px, 4.4vw, 38px); letter-spacing: -0.015em; }
h2 { margin: 0 0 10px; font-size: 25px; letter-spacing: -0.01em; }
h3 { margin: 34px 0 8px; font-size: 18px; overflow-wrap: anywhere; }
p { margin: 0 0 12px; max-width: 74ch; }
section { padding: 40px 0 6px; }
section + section { border-top: 1px solid var(--edge); margin-top: 34px; }
a { color: var(--accent); }
code { font: 0.88em ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
.lead, figcaption, caption, .soft { color: var(--soft); }
.lead { margin: 0 0 4px; max-width: none; }
nav ul { display: flex; flex-wrap: wrap; gap: 6px 18px; list-style: none; margin: 18px 0 0;
  padding: 10px 0; border-block: 1px solid var(--edge); font-size: 15px; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }

.stages { display: grid; grid-template-columns: repeat(auto-fit, minmax(164px, 1fr)); gap: 10px;
  list-style: none; margin: 20px 0 0; padding: 0; }
.stages li { padding: 10px 12px; border: 1px solid var(--edge); border-radius: 8px; }
.stages .done { border-left: 4px solid var(--good); }
.stages .open { border-style: dashed; }
.stages b, .stages span { display: block; }
.stages span { font-size: 13.5px; line-height: 1.4; color: var(--soft); }
.notes { margin: 16px 0 0; padding: 10px 14px; border-radius: 8px; background: var(--note); }
.notes p { max-width: none; margin: 0; overflow-wrap: anywhere; }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 255px), 1fr));
  gap: 12px; margin: 16px 0 10px; }
.tile { padding: 14px 16px; border-radius: 10px; background: var(--panel); }
.tile h3 { margin: 0; font-size: 15px; }
.tile .value { margin: 2px 0 4px; font-size: 32px; font-weight: 650; line-height: 1.15;
  font-variant-numeric: tabular-nums; }
.tile .value small { font-size: 15px; font-weight: 500; }
.tile p:last-child { margin: 0; font-size: 13.5px; line-height: 1.45; color: var(--soft); }

figure { margin: 0 0 18px; min-width: 0; }
figcaption { margin-top: 6px; font-size: 14px; line-height: 1.45; }
img { display: block; max-width: 100%; height: auto; border-radius: 4px; }
@media (min-width: 700px) { img.enlarged { image-rendering: pixelated; } }
.columns { display: grid; margin-bottom: 4px; font-size: 13px; text-align: center;
  color: var(--soft); }
.edit { display: grid; grid-template-columns: minmax(0, auto) minmax(250px, 1fr); gap: 8px 32px;
  align-items: start; }
.edit .scroll { margin-top: 18px; }
.edit table { width: 100%; }
.row { display: flex; flex-wrap: wrap; gap: 10px 20px; align-items: flex-start; }
.row > figure { flex: 0 1 auto; }
.early { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(46%, 240px), 1fr));
  gap: 10px 20px; }
@media (max-width: 820px) { .edit, .beside { grid-template-columns: minmax(0, 1fr); }
  .edit .scroll { margin-top: 0; } }

.charts { display: grid; gap: 12px; margin: 12px 0 16px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); }
.chart { margin: 0; padding: 14px 14px 10px; border-radius: 10px; background: var(--panel); }
.chart figcaption { margin: 0 0 8px; }
.chart p { margin: 6px 0 0; font-size: 13.5px; line-height: 1.4; color: var(--soft); }
.chart .label { display: block; font-size: 12.5px; color: var(--accent); }
.chart strong { color: var(--ink); }
.plot { display: block; width: 100%; height: auto; overflow: visible; }
.beside { display: grid; grid-template-columns: minmax(0, 372px) minmax(0, 1fr); gap: 8px 32px;
  align-items: start; margin: 12px 0; }
.plot text { font-size: 12px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.rule { stroke: var(--edge); stroke-width: 1; }
.axis { stroke: var(--soft); stroke-width: 1; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.dot { stroke: none; }
.bar { stroke-width: 1.2; }
.up { fill: var(--s0); } .down { fill: var(--s1); }
.plot .cell { font-size: 11px; fill: var(--ink); }
.map { margin-bottom: 16px; }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); } .s2 { stroke: var(--s2); }
.s3 { stroke: var(--s3); } .s4 { stroke: var(--s4); } .s5 { stroke: var(--s5); }
.dot.s0 { fill: var(--s0); } .dot.s1 { fill: var(--s1); } .dot.s2 { fill: var(--s2); }
.dot.s3 { fill: var(--s3); } .dot.s4 { fill: var(--s4); } .dot.s5 { fill: var(--s5); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; list-style: none; margin: 4px 0 0;
  padding: 0; font-size: 13px; }
.legend li { display: flex; align-items: center; gap: 6px; overflow-wrap: anywhere; }
.legend b { font-weight: 600; font-variant-numeric: tabular-nums; }
.key { flex: none; width: 26px; height: 10px; }

.scroll { overflow-x: auto; margin: 0 0 16px; }
table { border-collapse: collapse; font-size: 14.5px; line-height: 1.4; }
caption { padding: 0 0 8px; text-align: left; font-size: 14px; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--edge); vertical-align: top; }
th { font-weight: 600; text-align: left; }
thead th { vertical-align: bottom; color: var(--soft); font-size: 13px; }
.words { text-align: left; }
th.words code { overflow-wrap: normal; }
th.words span { display: block; font-weight: 400; }
td.words { min-width: 5em; overflow-wrap: anywhere; }
.figure { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.figure { white-space: normal; }
th:last-child, td:last-child { padding-right: 0; }
tr > :first-child { position: sticky; left: 0; background: var(--ground); }
tr:last-child th, tr:last-child td { border-bottom: 0; }
thead tr:last-child th { border-bottom: 1px solid var(--soft); }
.command { display: block; padding-top: 4px; white-space: pre-wrap; }
pre { max-height: 30em; overflow: auto; margin: 0; padding: 12px 14px; border-radius: 8px;
  background: var(--panel); font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; }
.missing { padding: 12px 14px; border: 1px dashed var(--soft); border-radius: 8px;
  max-width: none; }
details { margin: 0 0 14px; }
summary { cursor: pointer; padding: 6px 0; font-weight: 600; }
footer { padding-block: 30px 50px; color: var(--soft); font-size: 14px; }
@media print { .tile, .chart { border: 1px solid var(--edge); } section { break-inside: auto; } }
"""
