"""Plots as inline SVG: positions, gaps, axes, tooltips, escaping, and the colors' contrast."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cgan_tf.report import plots
from cgan_tf.report.plots import Series

STYLE = (Path(plots.__file__).parent / "templates" / "style.css").read_text()


def paths(svg, css):
    """The points of each path of a class, by unbroken part."""
    found = re.findall(rf'<path (?:class="{css}" )?d="([^"]*)"(?: class="{css}")?', svg)
    found = [d for d in found if f'class="{css}" d="{d}"' in svg or f'd="{d}" class="{css}"' in svg]
    return [
        [
            [tuple(map(float, step.split())) for step in part.split("L")]
            for part in d.split("M")
            if part
        ]
        for d in found
    ]


def test_the_ends_of_the_data_are_at_the_ends_of_the_axes():
    line = Series("a", [0, 1, 2], [0, 5, 10])
    plot = plots.curves("t", [line], "kimg", "y", y_range=(0, 10))
    assert paths(plot.svg, "line s0") == [[[(58, 194), (223, 103), (388, 12)]]]
    assert ">kimg</text>" in plot.svg and ">y</text>" in plot.svg


def test_a_line_breaks_where_there_is_no_number():
    line = Series("a", [0, 1, 2, 3, 4], [1.0, None, math.nan, 1.5, 2.0])
    (parts,) = paths(plots.curves("t", [line], "x", "y").svg, "line s0")
    assert [len(part) for part in parts] == [1, 2]


def test_every_line_has_its_name_and_last_value():
    lines = [Series("g_loss", [1, 2], [3.0, 1.25]), Series("<d>", [1, 2], [0.5, math.nan])]
    plot = plots.curves("GAN", lines, "kimg", "loss", label="gan", note="Why.")
    assert plot.legend == [(0, "g_loss", "1.25"), (1, "<d>", "0.500")]
    assert "GAN: loss over kimg. g_loss goes from 3.00 at 1 to 1.25 at 2;" in plot.svg
    assert "&lt;d&gt;" in plot.svg and "<d>" not in plot.svg
    assert (plot.title, plot.label, plot.note) == ("GAN", "gan", "Why.")


def test_values_far_apart_get_a_log_axis():
    def ticks(y):
        svg = plots.curves("t", [Series("a", [0, 1], y)], "x", "y").svg
        assert (">y (log scale)</text>" in svg) == ("(log scale)" in svg)
        return "(log scale)" in svg, re.findall(r'text-anchor="end"[^>]*>([^<]*)<', svg)

    log, labels = ticks([0.01, 10.0])
    assert log and labels == ["0.01", "0.1", "1", "10"]
    log, labels = ticks([0.03, 3.0])
    assert log and labels == ["0.05", "0.1", "0.2", "0.5", "1", "2"]
    assert not ticks([1.0, 10.0])[0]
    assert not ticks([-1.0, 1000.0])[0]


@pytest.mark.parametrize(
    ("ends", "labels"),
    [
        ((0, 400), ["0", "100", "200", "300", "400"]),
        ((0, 1), ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ((0.76, 0.97), ["0.8", "0.85", "0.9", "0.95"]),
    ],
)
def test_ticks_are_round(ends, labels):
    svg = plots.curves("t", [Series("a", [0, 1], ends)], "x", "y", y_range=ends).svg
    assert re.findall(r'text-anchor="end"[^>]*>([^<]*)<', svg) == labels


def test_constant_single_and_no_points():
    (constant,) = paths(
        plots.curves("t", [Series("a", [5, 6], [0.0, 0.0])], "x", "y").svg, "line s0"
    )
    assert len(constant[0]) == 2
    assert plots.curves("t", [Series("a", [5], [3.0])], "x", "y").svg.count("dot s0") == 1
    assert plots.curves("t", [Series("a", [1], [math.nan])], "x", "y").svg is None


def test_markers_show_each_point_and_its_interval():
    line = Series("a", [-1, 0, 1], [-0.5, 0, 0.75], [[-1.0, 0.0], None, None])
    svg = plots.curves("t", [line], "x", "y", markers=True, signed=True).svg
    assert svg.count('class="dot s0"') == 3
    assert "<title>a: +0.750 at 1</title>" in svg
    (((x, low), (_, high)),) = paths(svg, "bar s0")[0]
    ((dot_x, dot), _) = paths(svg, "dot s0")[0][0]
    assert x == dot_x == 58
    assert low - dot == pytest.approx(dot - high, abs=0.11)  # -0.5 is between -1 and 0
    assert low - high > 50


def test_more_lines_than_colors_are_refused():
    lines = [Series(str(index), [0], [1]) for index in range(plots.MAX_SERIES + 1)]
    with pytest.raises(ValueError, match="7 lines"):
        plots.curves("t", lines, "x", "y")
    assert plots.curves("t", lines[:-1], "x", "y").svg.count('class="dot') == plots.MAX_SERIES


def test_a_matrix_has_a_cell_for_every_number():
    plot = plots.matrix("Changes", ["A", "<B>"], ["A", "C"], [[0.5, -0.25], [None, 0.1]], "Why.")
    boxes = re.findall(r'class="(up|down)" fill-opacity="([\d.]+)"', plot.svg)
    assert boxes == [("up", "0.5"), ("down", "0.25"), ("up", "0.1")]
    assert re.findall(r'class="cell"[^>]*>([^<]*)<', plot.svg) == ["50", "−25", "10"]
    assert "<title>A, C: −0.250</title>" in plot.svg
    assert "&lt;B&gt;" in plot.svg and "<B>" not in plot.svg
    assert "Changes, in hundredths. A: A 50, C −25; &lt;B&gt;: C 10." in plot.svg
    assert plot.note == "Why."
    many = plots.matrix("t", ["A"], [str(number) for number in range(40)], [[0.0] * 40])
    assert many.svg.count('class="up" fill-opacity="0"') == 40


def test_names_are_text_whatever_they_contain():
    name = '$x^2$ <!-- & --> a:b="c" \x00 日本'
    svg = plots.matrix("t", [name], [name], [[0.5]]).svg
    shown = '$x^2$ &lt;!-- &amp; --&gt; a:b="c" \N{REPLACEMENT CHARACTER} 日本'
    assert svg.count(f">{shown}</text>") == 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1e308, -1e308, 10**400, 1e99, 5e-324, True, "7", None, [1]])
def test_odd_values_leave_a_gap_or_a_point(value):
    for markers in (False, True):
        line = Series("a", [0, 1, value], [1.0, value, 2.0], [[0, value], None, [value, value]])
        svg = plots.curves("t", [line], "x", "y", markers=markers).svg
        assert "nan" not in svg and "inf" not in svg
    assert "nan" not in plots.matrix("t", ["a"], ["b", "c"], [[value, 0.5]]).svg


def test_a_plot_is_deterministic_small_and_self_contained():
    def made():
        line = Series("a", range(200), [math.sin(x) for x in range(200)])
        return plots.curves("t", [line], "x", "y").svg

    assert made() == made()
    assert len(made()) < 6000
    assert not re.search(r"\bid=|style=|xmlns|href|<\?xml|<!DOCTYPE|<metadata|url\(", made())


def test_matplotlib_is_imported_for_the_first_plot_only():
    code = (
        "import sys; from cgan_tf.report import page, plots;"
        "assert 'matplotlib' not in sys.modules;"
        "plots.curves('t', [plots.Series('a', [0, 1], [1, 2])], 'x', 'y');"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules;"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    assert len(blocks) == 2
    colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[scheme]))
    assert _contrast("#ffffff", "#000000") == pytest.approx(21)
    for ground in ("ground", "panel"):
        for text in ("ink", "soft", "accent"):
            assert _contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
        for line in range(plots.MAX_SERIES):
            assert _contrast(colors[f"s{line}"], colors[ground]) >= 4.5, (line, ground)
    assert _contrast(colors["ink"], colors["note"]) >= 4.5
