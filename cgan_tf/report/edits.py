"""The report page's part on edits: plots, matrices and tables of what evaluate measured of them.

For `report`, which holds the page together. Takes evaluate/report.json as it was read (its layout
is in `evaluate`); a block that is not there, as in the report of an older run, is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cgan_tf.report.markup import (
    SERIES,
    Html,
    Series,
    finite,
    fixed,
    heat_map,
    line_chart,
    mapping,
    number,
    percent,
    plain,
    plus_minus,
    plus_minus_percent,
    short,
    table,
    tag,
)

FROM_PHOTO = {"keep_detail": "detail kept", "plain": "plain"}
METHODS = {"learned": "the run's directions", "random": "random directions"}
SPREAD = "± is half a 95 % interval by bootstrap over the photos."


def parts(evaluation: Mapping[str, Any], attributes: Sequence[str]) -> list[Html]:
    """Everything that was measured of edits, in the order in which it is told.

    Args:
        evaluation: evaluate/report.json.
        attributes: the edited ones, in the order in which they stand on the page.
    """
    return [
        *_edits(evaluation, attributes),
        *_keep_detail(evaluation, attributes),
        *_strengths(evaluation, attributes),
        *_preservation(evaluation),
        *_comparison(evaluation, attributes),
        *_matrices(evaluation),
        *_consistency(evaluation),
        *_set(evaluation),
        *_counterfactual(evaluation),
    ]


def _edits(evaluation: Mapping[str, Any], attributes: Sequence[str]) -> list[Html]:
    edits = {
        method: {name: mapping(one) for name, one in mapping(block).items()}
        for method, block in mapping(evaluation.get("edits")).items()
    }
    if not edits:
        return []
    head = ("Attribute", "Method", "Strength", "Target change", "… from the photo", "Success",
            "Leakage", "Change / leakage", "… over random", "Identity", "Promised", "Achieved",
            "Calibration error", "n", "Seed")  # fmt: skip
    rows = []
    known = list(dict.fromkeys(name for block in edits.values() for name in block))
    for name in sorted(known, key=lambda name: (name not in attributes, known.index(name))):
        for method, block in edits.items():
            if name in block:
                rows.append(_edit_row(name, method, block[name]))
    for method, mean in mapping(evaluation.get("edits_mean")).items():
        rows.append(_edit_row("Mean", method, mapping(mean)))
    text = (
        "Target change is the rise of the judge's mean probability from the reconstruction to its "
        "edit, on photos without the attribute; success the share that it then says has it; "
        "leakage the mean absolute change of all other attributes; identity the cosine of the "
        "judge's features before and after. Promised is the direction's own calibration, achieved "
        "what the regressor sees on test photos. Random directions of the same length show what "
        f"would happen by chance. {SPREAD}"
    )
    table_ = table("Edits of test photos by attribute and method", head, rows, 2)
    return [tag("h3", "Edits"), tag("p", text), table_]


def _edit_row(name: str, method: str, edit: Mapping[str, Any]) -> tuple[str, ...]:
    spread = mapping(edit.get("interval"))
    return (
        name, method, short(edit.get("strength"), signed=True),
        plus_minus(edit.get("target_change"), spread.get("target_change"), 3, signed=True),
        fixed(edit.get("target_change_from_photo"), 3, signed=True),
        plus_minus_percent(edit.get("success"), spread.get("success")),
        plus_minus(edit.get("leakage"), spread.get("leakage"), 3), number(edit.get("ratio")),
        number(edit.get("ratio_over_random")),
        plus_minus(edit.get("identity"), spread.get("identity"), 3),
        fixed(edit.get("calibrated_change"), 3, signed=True),
        fixed(edit.get("achieved_change"), 3, signed=True),
        plus_minus(edit.get("calibration_error"), spread.get("calibration_error"), 3),
        number(edit.get("n")), plain(edit.get("seed")),
    )  # fmt: skip


def _keep_detail(evaluation: Mapping[str, Any], attributes: Sequence[str]) -> list[Html]:
    block = mapping(evaluation.get("keep_detail"))
    measured = {
        name: mapping(entry) for name, entry in mapping(block.get("attributes")).items()
    }
    if not measured:
        return []
    rows = [
        _from_photo_row(name, method, mapping(measured[name].get(method)), measured[name])
        for name in _ordered(measured, attributes)
        for method in FROM_PHOTO
    ]
    means = mapping(block.get("mean"))
    rows += [
        _from_photo_row("Mean", method, mapping(means.get(method)), {}) for method in FROM_PHOTO
    ]
    text = (
        "With detail kept, a photo gets only the difference that the edit makes, where the edit "
        "acts; plain translation gives the model's whole picture. All counts from the photo "
        f"itself, by the judge, at +1. {SPREAD}"
    )
    head = ("Attribute", "Method", "Target change", "Leakage", "Identity", "n", "Seed")
    caption = "Edits of test photos that keep the photo's own detail, beside plain ones"
    return [tag("h3", "On the photo itself"), tag("p", text), table(caption, head, rows, 2)]


def _from_photo_row(
    name: str, method: str, one: Mapping[str, Any], entry: Mapping[str, Any]
) -> tuple[str, ...]:
    spread = mapping(one.get("interval"))
    return (
        name, FROM_PHOTO[method],
        plus_minus(one.get("target_change"), spread.get("target_change"), 3, signed=True),
        plus_minus(one.get("leakage"), spread.get("leakage"), 3),
        plus_minus(one.get("identity"), spread.get("identity"), 3),
        number(entry.get("n")), plain(entry.get("seed")),
    )  # fmt: skip


def _strengths(evaluation: Mapping[str, Any], attributes: Sequence[str]) -> list[Html]:
    block = mapping(evaluation.get("strengths"))
    curves = {
        name: [mapping(point) for point in _listed(points)]
        for name, points in mapping(block.get("attributes")).items()
    }
    curves = {name: curves[name] for name in _ordered(curves, attributes)}
    if not curves:
        return []
    charts = []
    for key, title, unit, none, note in (
        ("success", "Who crosses the line", "share of photos", 0.0,
         "Share of the reconstructions on the other side that the judge then puts on the asked "
         "one."),
        ("target_change", "How far they move", "change of the judge's probability", 0.0, ""),
        ("leakage", "What else moves", "mean |change| of the others", 0.0, ""),
        ("identity", "Who is still the same", "cosine of the judge's features", 1.0, ""),
    ):  # fmt: skip
        for start in range(0, len(curves), SERIES):
            lines = [
                _curve(name, points, key, none)
                for name, points in list(curves.items())[start : start + SERIES]
            ]
            charts.append(line_chart(
                title, lines, "strength", unit, note=note, markers=True,
                signed=key == "target_change",
            ))  # fmt: skip
    text = (
        "Photos without the attribute are moved up (strengths above 0), those with it down. A "
        "strength of 1 is the step that the calibration stands for; the bars are 95 % intervals. "
        f"{number(block.get('n_photos'))} test photos, seed {plain(block.get('seed'))}."
    )
    heading = tag("h3", "What each strength does")
    return [heading, tag("p", text), tag("div", charts, class_="charts")]


def _curve(name: str, points: Sequence[Mapping[str, Any]], key: str, none: float) -> Series:
    """One figure over the strengths, with what it is without an edit at strength 0."""
    known = sorted(
        (
            (point["strength"], point.get(key), mapping(point.get("interval")).get(key))
            for point in points
            if finite(point.get("strength"))
        ),
        key=lambda one: one[0],
    )
    down = [one for one in known if one[0] < 0]
    whole = [*down, (0.0, none, None), *known[len(down) :]]
    return Series(name, *zip(*whole, strict=True))


def _ordered(found: Mapping[str, Any], attributes: Sequence[str]) -> list[str]:
    """The names that were found, the page's attributes first."""
    return [
        *(name for name in attributes if name in found),
        *(name for name in found if name not in attributes),
    ]


def _preservation(evaluation: Mapping[str, Any]) -> list[Html]:
    block = mapping(evaluation.get("preservation"))
    bins = {
        method: [mapping(one) for one in _listed(mapping(block.get(method)).get("all"))]
        for method in METHODS
    }
    bins = {method: found for method, found in bins.items() if found}
    if not bins:
        return []
    charts = []
    for key, title, unit in (
        ("preserved", "Other attributes that stay", "share on the same side of 0.5"),
        ("leakage", "How far the others move", "mean |change| of the others"),
        ("identity", "Identity that stays", "cosine of the judge's features"),
    ):
        lines = [
            Series(
                METHODS[method], [_middle(one) for one in found],
                [one.get(key) for one in found],
                [mapping(one.get("interval")).get(key) for one in found],
            )
            for method, found in bins.items()
        ]  # fmt: skip
        charts.append(line_chart(
            title, lines, "|change of the target|, middle of its bin", unit, markers=True
        ))  # fmt: skip
    rows = []
    for method, found in bins.items():
        for one in found:
            spread = mapping(one.get("interval"))
            rows.append((
                f"({short(one.get('above'))}, {short(one.get('up_to'))}]", METHODS[method],
                plus_minus_percent(one.get("preserved"), spread.get("preserved")),
                plus_minus(one.get("leakage"), spread.get("leakage"), 3),
                plus_minus(one.get("identity"), spread.get("identity"), 3),
                number(one.get("n")), number(one.get("n_photos")),
            ))  # fmt: skip
    rows.sort(key=lambda row: row[0])
    text = (
        "Edits at all strengths, in bins of how far the judge saw the target attribute move. An "
        "edit that moves more costs more: compare the methods within a bin. A random direction "
        f"seldom moves its target far (see n). {SPREAD}"
    )
    caption = (
        f"By |change of the target|, all attributes together; {number(block.get('n_photos'))} test "
        f"photos, {number(block.get('draws'))} random directions, seed {plain(block.get('seed'))}"
    )
    head = ("Bin", "Method", "Others preserved", "Leakage", "Identity", "n edits", "n photos")
    return [
        tag("h3", "What an edit of a given size costs"), tag("p", text),
        tag("div", charts, class_="charts"), table(caption, head, rows, 2),
    ]  # fmt: skip


def _middle(one: Mapping[str, Any]) -> float | None:
    low, high = one.get("above"), one.get("up_to")
    return (low + high) / 2 if finite(low) and finite(high) else None


def _comparison(evaluation: Mapping[str, Any], attributes: Sequence[str]) -> list[Html]:
    block = mapping(evaluation.get("comparison"))
    found = mapping(block.get("attributes"))
    if not found:
        return []
    rows = []
    for name in _ordered(found, attributes):
        for method, one in mapping(found[name]).items():
            rows.append(_comparison_row(name, METHODS.get(method, method), mapping(one)))
    for method, one in mapping(block.get("mean")).items():
        rows.append(_comparison_row("Mean", METHODS.get(method, method), mapping(one)))
    text = (
        "Each direction is made longer or shorter until the judge sees its attribute change by "
        f"{fixed(block.get('asked'))} on average, within 1 %; then the rest is compared. Reached "
        "is how many directions get that far within six times their length; the others stand at "
        "their largest change. Over random compares leakages with each random direction's at the "
        f"largest change that both reach. {SPREAD}"
    )
    head = ("Attribute", "Method", "Target change", "Leakage", "… over random", "Identity",
            "Length", "Reached", "n", "Seed")  # fmt: skip
    caption = f"At the same change; photos without the attribute of {_n(block, 'n_photos')}"
    return [tag("h3", "At the same change"), tag("p", text), table(caption, head, rows, 2)]


def _comparison_row(name: str, method: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    spread = mapping(one.get("interval"))
    reached = one.get("reached", one.get("n_reached"))
    return (
        name, method, fixed(one.get("target_change"), 3, signed=True),
        plus_minus(one.get("leakage"), spread.get("leakage"), 3),
        number(one.get("leakage_over_random")),
        plus_minus(one.get("identity"), spread.get("identity"), 3),
        number(one.get("length")), number(reached), _n(one), plain(one.get("seed")),
    )  # fmt: skip


def _matrices(evaluation: Mapping[str, Any]) -> list[Html]:
    block = mapping(evaluation.get("rescoring"))
    pictures = []
    for title, matrix, note in (
        ("What moves along each direction", mapping(block.get("matrix")),
         "The judge's mean change of probability of each attribute (columns) at +1 along the "
         "direction of each (rows), in hundredths, on photos without the row's attribute "
         f"({_n(block, 'n_photos')} test photos, seed {plain(block.get('seed'))}). Only one cell "
         "of a row should be deep."),
        ("Which directions point the same way", mapping(evaluation.get("cosines")),
         "Cosines between the directions, in hundredths: 0 is at right angles."),
    ):  # fmt: skip
        rows = {name: mapping(row) for name, row in matrix.items()}
        columns = list(dict.fromkeys(name for row in rows.values() for name in row))
        if columns:
            values = [[row.get(name) for name in columns] for row in rows.values()]
            pictures.append(heat_map(title, list(rows), columns, values, note))
    return [tag("h3", "How the directions hang together"), *pictures] if pictures else []


def _consistency(evaluation: Mapping[str, Any]) -> list[Html]:
    block = mapping(evaluation.get("consistency"))
    rows = []
    for name, one in ((name, mapping(one)) for name, one in block.items()):
        still, spread = mapping(one.get("unedited")), mapping(one.get("interval"))
        rows.append((
            name, number(one.get("step")), plus_minus(one.get("latent"), spread.get("latent")),
            fixed(still.get("latent")), fixed(one.get("psnr")), fixed(still.get("psnr")),
            fixed(one.get("identity"), 3), fixed(still.get("identity"), 3),
            number(one.get("perceptual")), _n(one), _n(one, "n_perceptual"), plain(one.get("seed")),
        ))  # fmt: skip
    if not rows:
        return []
    text = (
        "Edit by +1, encode the edited image anew, take the edit back: where does one end? Latent "
        "distance is from the latent that it began at, the images are compared with the "
        "reconstruction. Drawing and encoding without any edit stand beside them (no edit): what "
        f"is beyond that is what the edit loses. {SPREAD}"
    )
    head = ("Attribute", "Step", "Latent distance", "… no edit", "PSNR (dB)", "… no edit",
            "Identity", "… no edit", "Perceptual distance", "n", "n perceptual",
            "Seed")  # fmt: skip
    caption = "Latent editing consistency on test photos without the attribute"
    return [tag("h3", "There and back"), tag("p", text), table(caption, head, rows)]


def _set(evaluation: Mapping[str, Any]) -> list[Html]:
    block = mapping(evaluation.get("set"))
    points = {
        name: [mapping(point) for point in found]
        for name, found in mapping(block.get("attributes")).items()
        if isinstance(found, list) and found
    }
    if not points:
        return []
    rows = [_set_row(name, point) for name, found in points.items() for point in found]
    rows.append(_set_row("Mean", block))
    charts = []
    names = list(points)
    for start in range(0, len(names), SERIES):
        series = [
            Series(name, [point.get("asked") for point in points[name]],
                   [point.get("reached_judge") for point in points[name]])
            for name in names[start : start + SERIES]
        ]  # fmt: skip
        charts.append(line_chart(
            "What the judge sees of what was asked", series, "asked of the regressor",
            "mean of the judge's probability", y_range=(0.0, 1.0), markers=True,
        ))  # fmt: skip
    head = ("Attribute", "Asked", "Reached", "… by the judge", "|reached − asked|",
            "… by the judge", "|strength|", "Met", "n", "Seed")  # fmt: skip
    text = (
        "--set looks for the strength at which the regressor predicts the value that was asked "
        "for, for each test photo by itself, with or without the attribute. Met is the share of "
        "photos whose direction reaches it; the others get the nearest. The judge, which the "
        "search never asks, says what came of it."
    )
    return [
        tag("h3", "Attributes set to a value"), tag("p", text),
        tag("div", tag("div", charts), table("Set test photos, means", head, rows),
            class_="beside"),
    ]  # fmt: skip


def _set_row(name: str, point: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name, *(fixed(point.get(key)) for key in ("asked", "reached", "reached_judge")),
        fixed(point.get("error"), 3), fixed(point.get("error_judge"), 3),
        fixed(point.get("strength")), percent(point.get("met")), number(point.get("n")),
        plain(point.get("seed")),
    )  # fmt: skip


def _counterfactual(evaluation: Mapping[str, Any]) -> list[Html]:
    block = mapping(evaluation.get("counterfactual"))
    if not block:
        return []
    head = ("Attribute", "Nearer to the true edit", "… by the judge", "… by PSNR",
            "Beats the photo", "… by the judge", "… by PSNR", "Beats the reconstruction",
            "… by the judge", "… by PSNR", "Kept detail beats the photo", "… by the judge",
            "… by PSNR", "PSNR to the true edit (dB)",
            "… to the unedited face", "… ceiling", "Judge agrees", "… on the attribute",
            "True change", "True leakage", "n", "Seed")  # fmt: skip
    shares = [
        f"{key}{suffix}"
        for key in ("nearer", "beats_photo", "beats_reconstruction", "detail_beats_photo")
        for suffix in ("", "_judge", "_psnr")
    ]
    rows = [
        (name, *(percent(one.get(key)) for key in shares), fixed(one.get("psnr")),
         fixed(one.get("psnr_unedited")), fixed(one.get("psnr_ceiling")),
         percent(one.get("judge_agreement")), percent(one.get("judge_agreement_target")),
         fixed(one.get("true_change"), 3, signed=True), fixed(one.get("true_leakage"), 3),
         _n(one), plain(one.get("seed")))
        for name, one in ((name, mapping(one)) for name, one in block.items())
    ]  # fmt: skip
    text = (
        "Synthetic faces can be drawn again with one attribute changed, so the true answer is "
        "known. Nearer is the share of faces whose edit is nearer to that answer than to the "
        "unedited face; beats the photo, the share whose edit is nearer to the answer than the "
        "unedited face is; beats the reconstruction, than the unedited face's reconstruction is, "
        "which has the same error of inversion. Kept detail is the unedited face to which only the "
        "difference that the edit makes is added. By the perceptual distance, by the judge's "
        "features and by PSNR. The ceiling is the reconstruction of the answer itself, which no "
        "edit can be expected to beat. True change and leakage are what the judge sees of the "
        "answer."
    )
    caption = "Edited reconstructions against the truly edited faces"
    return [tag("h3", "Against the true edit"), tag("p", text), table(caption, head, rows)]


def _listed(value: Any) -> list[Any]:
    """The value if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def _n(block: Mapping[str, Any], key: str = "n") -> str:
    return number(block.get(key))
