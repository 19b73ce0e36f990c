"""The elements of the report page: escaping, figures as text, tables, pictures, charts, colors."""

import io
import math
import re

import pytest
from PIL import Image

from cgan_tf.report import markup
from cgan_tf.report.markup import Series


def test_children_are_escaped_and_markup_is_not():
    inner = markup.tag("b", "1 < 2")
    assert inner == "<b>1 &lt; 2</b>"
    assert markup.tag("p", "<i>", inner, None, [7, "&"]) == "<p>&lt;i&gt;<b>1 &lt; 2</b>7&amp;</p>"


def test_attributes_are_escaped_and_renamed():
    made = markup.tag("div", class_="a", aria_label='"<x>"', id=None)
    assert made == '<div class="a" aria-label="&quot;&lt;x&gt;&quot;"></div>'
    assert markup.tag("img", src="data:,", name="n") == '<img src="data:," name="n"/>'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (math.nan, "–"), (-math.inf, "–"), ("7", "–"), (True, "–"), (0, "0"),
        (0.0, "0"), (5000, "5,000"), (1234567, "1,234,567"), (6.914, "6.91"), (12.85, "12.8"),
        (137.2, "137"), (1234.5, "1,234"), (0.0123, "0.0123"), (-0.5, "−0.500"),
        (1.2e-5, "1.20 × 10⁻⁵"),
    ],
)  # fmt: skip
def test_number(value, text):
    assert markup.number(value) == text


def test_signs():
    assert markup.number(0.625, signed=True) == "+0.625"
    assert markup.fixed(0.625, 2, signed=True) == "+0.62"
    assert markup.fixed(-0.625, 1, signed=True) == "−0.6"
    assert markup.fixed(-0.001, 2, signed=True) == "0.00"
    assert markup.fixed(1234.5, 1) == "1,234.5"
    assert markup.short(1.0, signed=True) == "+1"
    assert markup.short(-0.5) == "−0.5"
    assert markup.short(0.0, signed=True) == "0"
    assert markup.short(2e7) == "20,000,000"


def test_units():
    assert markup.percent(0.9731) == "97.3\N{NO-BREAK SPACE}%"
    assert markup.percent(None) == "–"
    assert markup.tiny(2.5e-6) == "2.5 × 10⁻⁶"
    assert markup.tiny(0.0) == "0"
    assert markup.size(4_350_000) == "4.35 MB"
    assert markup.size(57_300) == "57.3 kB"
    assert markup.size(None) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (-1, "–"), (3.14, "3.1 s"), (59.4, "59 s"), (60, "1 min"), (187, "3 min 7 s"),
        (2467, "41 min"), (3599.9, "1 h 0 min"), (8040, "2 h 14 min"),
    ],
)  # fmt: skip
def test_duration(seconds, text):
    assert markup.duration(seconds) == text


def test_plain_values():
    assert markup.plain([1, 2.5, None]) == "1, 2.5, –"
    assert markup.plain({"a": True, "b": []}) == "a: yes; b: –"
    assert markup.plain(math.nan) == "–"
    assert markup.plain("") == "–"


def test_raw_json_has_null_for_nan():
    made = markup.raw("r", {"a": [math.nan, 1.5], "b": "<"})
    assert "&quot;a&quot;: [\n    null,\n    1.5\n  ]" in made
    assert "&quot;b&quot;: &quot;&lt;&quot;" in made
    assert 'aria-label="r"' in made


def test_table_marks_its_headers():
    made = markup.table("Two", ("Name", "Value"), [("a", 1)])
    assert '<th scope="col" class="words">Name</th><th scope="col" class="figure">Value' in made
    assert '<th scope="row" class="words">a</th><td class="figure">1</td>' in made
    assert "<caption>Two</caption>" in made
    with pytest.raises(ValueError):
        markup.table("Uneven", ("Name", "Value"), [("a",)])


def test_picture_is_enlarged_by_whole_factors():
    picture = markup.Picture(b"\x89PNG", 96, 48)
    made = markup.figure(picture, "alt text", "below", 300, ("x", "y"))
    assert 'src="data:image/png;base64,iVBORw=="' in made
    assert 'alt="alt text" width="288" height="144" class="enlarged"' in made
    assert "<span>x</span><span>y</span>" in made
    assert 'width="96" height="48"/>' in markup.figure(picture, "a", None, 95)


def test_an_animation_shows_its_frames_and_holds_the_last():
    colors = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    pictures = []
    for color in colors:
        buffer = io.BytesIO()
        Image.new("RGB", (4, 2), color).save(buffer, "PNG")
        pictures.append(markup.Picture(buffer.getvalue(), 4, 2))
    made = markup.animated(pictures, 0.25)
    assert (made.width, made.height) == (4, 2)
    with Image.open(io.BytesIO(made.content)) as moving:
        assert moving.n_frames == 3 and moving.info["loop"] == 0
        seen, held = [], []
        for index in range(3):
            moving.seek(index)
            seen.append(moving.convert("RGB").getpixel((1, 1)))
            held.append(moving.info["duration"])
    assert tuple(seen) == colors and held == [250, 250, 750]


def _path(chart: str) -> list[list[tuple[float, float]]]:
    """The first line's points, by unbroken part."""
    drawn = re.search(r'<path d="([^"]*)"', chart)[1]
    parts = [part for part in drawn.split("M") if part]
    return [[tuple(map(float, step.split())) for step in part.split("L")] for part in parts]


def test_chart_maps_the_ends_of_the_data_to_the_ends_of_the_plot():
    chart = markup.line_chart("t", [Series("a", [0, 1, 2], [0, 5, 10])], "kimg", "y", y_range=(0, 10))
    assert _path(chart) == [[(58, 194), (223, 103), (388, 12)]]
    assert ">kimg</text>" in chart and ">y</text>" in chart


def test_chart_breaks_the_line_where_there_is_no_number():
    line = Series("a", [0, 1, 2, 3, 4], [1.0, None, math.nan, 1.5, 2.0])
    parts = _path(markup.line_chart("t", [line], "x", "y"))
    assert [len(part) for part in parts] == [1, 2]


def test_chart_names_every_line_with_its_last_value():
    lines = [Series("g_loss", [1, 2], [3.0, 1.25]), Series("<d>", [1, 2], [0.5, math.nan])]
    chart = markup.line_chart("Game", lines, "kimg", "loss", label="gan", note="Why.")
    assert "<span>g_loss</span><b> 1.25</b>" in chart
    assert "<span>&lt;d&gt;</span><b> 0.500</b>" in chart
    assert "Game: loss over kimg. g_loss goes from 3.00 at 1 to 1.25 at 2;" in chart
    assert '<span class="label">gan</span><strong>Game</strong>' in chart
    assert "<p>Why.</p>" in chart


def test_chart_takes_a_log_axis_for_values_far_apart():
    wide = markup.line_chart("t", [Series("a", [0, 1], [0.01, 10.0])], "x", "y")
    assert ">y (log scale)</text>" in wide
    for tick in ("0.01", "0.1", "1", "10"):
        assert f">{tick}</text>" in wide
    near = markup.line_chart("t", [Series("a", [0, 1], [1.0, 10.0])], "x", "y")
    assert "log scale" not in near
    negative = markup.line_chart("t", [Series("a", [0, 1], [-1.0, 1000.0])], "x", "y")
    assert "log scale" not in negative


def test_chart_of_constant_single_and_no_points():
    constant = _path(markup.line_chart("t", [Series("a", [5, 6], [0.0, 0.0])], "x", "y"))
    assert all(math.isfinite(value) for point in constant[0] for value in point)
    assert len(_path(markup.line_chart("t", [Series("a", [5], [3.0])], "x", "y"))[0]) == 1
    empty = markup.line_chart("t", [Series("a", [1], [math.nan])], "x", "y")
    assert "has no figures yet" in empty and "<svg" not in empty


def test_markers_show_each_point():
    chart = markup.line_chart(
        "t", [Series("a", [-1, 0, 1], [-0.5, 0, 0.75])], "x", "y", markers=True, signed=True
    )
    assert chart.count("<circle") == 3
    assert "<title>a: +0.750 at 1</title>" in chart


def test_chart_refuses_more_lines_than_it_can_tell_apart():
    lines = [Series(str(index), [0], [1]) for index in range(markup.SERIES + 1)]
    with pytest.raises(ValueError, match="7 lines"):
        markup.line_chart("t", lines, "x", "y")
    assert markup.line_chart("t", lines[:-1], "x", "y").count("<path") == markup.SERIES


def test_markers_have_their_intervals():
    line = Series("a", [0, 1, 2], [0.5, 0.6, None], [[0.0, 1.0], None, [0.0, 1.0]])
    chart = markup.line_chart("t", [line], "x", "y", markers=True)
    found = r'<line x1="58.0" x2="58.0" y1="([\d.]+)" y2="([\d.]+)" class="bar s0"/>'
    bars = re.findall(found, chart)
    assert chart.count('class="bar') == len(bars) == 1
    low, high = map(float, bars[0])
    dot = float(re.search(r'cx="58.0" cy="([\d.]+)"', chart)[1])
    assert low - dot == pytest.approx(dot - high, abs=0.11)  # 0.5 in the middle of 0 and 1
    assert low - high > 100


def test_an_interval_is_told_by_half_its_width():
    space = "\N{NO-BREAK SPACE}"
    assert markup.plus_minus(0.6543, [0.62, 0.69], 3, signed=True) == f"+0.654{space}± 0.035"
    assert markup.plus_minus_percent(0.5, [0.4, 0.62]) == f"50.0{space}± 11.0{space}%"
    for broken in (None, [0.1], [None, 0.2], 3, ["a", "b"]):
        assert markup.plus_minus(0.5, broken) == "0.50"
        assert markup.plus_minus_percent(0.5, broken) == f"50.0{space}%"
    assert markup.plus_minus(None, [0.1, 0.2]) == markup.DASH


def test_heat_map_has_a_cell_for_every_number():
    chart = markup.heat_map(
        "What moves", ["A", "<B>"], ["A", "C"], [[0.5, -0.25], [None, 0.1]], note="Why."
    )
    boxes = re.findall(r'width="44" .*? class="(\w+)" fill-opacity="([\d.]+)"', chart)
    assert boxes == [("up", "0.500"), ("down", "0.250"), ("up", "0.100")]
    assert re.findall(r'class="cell">([^<]*)<', chart) == ["50", "−25", "10"]
    assert "<title>A, C: −0.250</title>" in chart and "&lt;B&gt;" in chart and "<B>" not in chart
    assert "What moves, in hundredths. A: A 50, C −25; &lt;B&gt;: C 10." in chart
    assert "<p>Why.</p>" in chart
    many = markup.heat_map("t", ["A"], [str(number) for number in range(40)], [[0.0] * 40])
    assert many.count("<rect") == 40 and 'fill-opacity="0.000"' in many


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 400, [0, 100, 200, 300, 400]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-1.5, 1.5, [-1, 0, 1]),
        (0.76, 0.97, [0.8, 0.85, 0.9, 0.95]),
    ],
)
def test_ticks_are_round(low, high, ticks):
    assert markup._Axis(low, high, 0, 1, log=False).ticks() == pytest.approx(ticks)


def test_log_ticks():
    axis = markup._Axis(0.03, 3.0, 0, 1, log=True)
    assert axis.ticks() == pytest.approx([0.05, 0.1, 0.2, 0.5, 1, 2])
    assert axis(0.3) == pytest.approx(0.5)


def _luminance(color: str) -> float:
    """WCAG 2 relative luminance of #rrggbb."""
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colors_have_contrast(scheme):
    blocks = re.findall(r":root \{(.*?)\}", markup.STYLE, re.DOTALL)
    assert len(blocks) == 2
    colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[scheme]))
    assert _contrast("#ffffff", "#000000") == pytest.approx(21)
    for ground in ("ground", "panel"):
        for text in ("ink", "soft", "accent"):
            assert _contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
        for line in range(markup.SERIES):
            assert _contrast(colors[f"s{line}"], colors[ground]) >= 4.5, (line, ground)
    assert _contrast(colors["ink"], colors["note"]) >= 4.5
