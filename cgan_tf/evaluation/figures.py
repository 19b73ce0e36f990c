"""The main figures of a finished report, each with its floor, interval and number of samples."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

CHANCE = 0.5  # balanced accuracy of a constant prediction
# The figures of a face recognizer (see `identity`) and their false accepts.
SAME_PERSON = {"same_person_at_0.1": "0.1 %", "same_person_at_1": "1 %"}


@dataclasses.dataclass(frozen=True)
class Figure:
    """One measured value.

    Args:
        name: for the reader.
        value: None where it is undefined.
        n: number of images that it is measured on.
        interval: 95 % confidence interval [low, high], if it has one.
        floor: the same figure for a trivial baseline, if it has one: real photos in place of
            samples (fd, kid), the majority class (accuracies), the closest random sample
            (perceptual distance), chance (retrieval), pairs of strangers (same person), random
            directions (edits), the unedited photos (realism).
    """

    name: str
    value: float | None
    n: int | None = None
    interval: Sequence[float] | None = None
    floor: float | None = None


def from_report(
    report: dict[str, Any], comparisons: dict[str, dict[str, Any]] | None = None
) -> list[Figure]:
    """The figures of evaluate/report.json.

    Args:
        report: see `report.read_report`.
        comparisons: with the generators of other runs, see `report.read_comparisons`.
    """
    return [
        *_generation(report, comparisons or {}),
        *_regressor(report["regressor"]),
        *_inversion(report),
        *_edits(report),
        *_set_and_keep_detail(report),
        *_counterfactual(report.get("counterfactual", {})),
    ]


def _generation(report: dict[str, Any], comparisons: dict[str, dict[str, Any]]) -> Iterator[Figure]:
    block = report["generation"]
    fakes, reals = block["n_fake"], block["n_real"]
    yield Figure("fd", block["fd"], fakes, floor=block["fd_floor"])
    yield Figure("fd at 32 px", block["fd_at_32"], fakes, floor=block["fd_floor_at_32"])
    for name, comparison in comparisons.items():
        other = comparison["other"]
        yield Figure(
            f"fd at 32 px of {name}",
            other["fd_at_32"],
            other["n_fake"],
            floor=other["fd_floor_at_32"],
        )
    yield Figure("kid", block["kid"], fakes, floor=block["kid_floor"])
    yield Figure("precision", block["precision"], reals)
    yield Figure("recall", block["recall"], reals)
    separability = report.get("separability")
    for space in ("z", "w") if separability else ():
        name = f"separability of {space}, mean"
        yield Figure(name, separability[space], separability["n"], floor=CHANCE)


def _regressor(block: dict[str, Any]) -> Iterator[Figure]:
    for by in ("regressor", "judge"):
        for key, floor in (
            ("accuracy", block["majority"]["accuracy"]),
            ("balanced_accuracy", CHANCE),
        ):
            name = f"{by}, mean {key.replace('_', ' ')}"
            yield Figure(name, block[by][key], block["n"], floor=floor)


def _inversion(report: dict[str, Any]) -> Iterator[Figure]:
    block, identity = report["inversion"], report.get("identity")
    encoder = block["encoder"]
    floor, count = encoder["retrieval_floor"], encoder["n"]
    yield Figure("mirrored photos, retrieval", encoder["retrieval_ceiling"], count, floor=floor)
    if identity:
        yield from _same_person("mirrored photos", identity["ceiling"], identity, identity["n"])
    yield Figure(
        "encoder, closer than the closest random sample", encoder["closer_than_random"], count
    )
    for mode in ("encoder", "hybrid", "optimize"):
        entry = block.get(mode)
        if not entry:
            continue
        count = entry["n"]
        yield Figure(
            f"{mode}, perceptual distance",
            entry["perceptual"],
            count,
            floor=encoder["perceptual_random_best"],
        )
        for key in ("psnr", "ssim"):
            yield Figure(f"{mode}, {key}", entry[key], count)
        yield Figure(f"{mode}, retrieval", entry["retrieval"], count, floor=floor)
        yield from _same_person(mode, entry, identity, count)
        yield Figure(f"{mode}, seconds per image", entry["seconds_per_image"], count)


def _edits(report: dict[str, Any]) -> Iterator[Figure]:
    compared = report.get("comparison", {}).get("attributes", {})
    chance = report["inversion"]["encoder"]["retrieval_floor"]
    identity = report.get("identity")
    for name, entry in report["edits"]["learned"].items():
        random = report["edits"]["random"][name]
        yield from _edit(name, entry, random | {"retrieval": chance})
        yield from _same_person(name, entry, identity, entry["n"])
        realism, unedited = entry["realism"], entry["realism_unedited"]
        yield Figure(f"{name}, realism", realism, entry["n"], floor=unedited)
        removed = report["edits"]["removed"][name]
        yield from _edit(f"{name} -1", removed, {"retrieval": chance})
        yield from _same_person(f"{name} -1", removed, identity, removed["n"])
        yield Figure(
            f"{name}, calibration error",
            entry["calibration_error"],
            entry["n_calibration"],
            entry["interval"]["calibration_error"],
        )
        if name in compared:
            learned, random = compared[name]["learned"], compared[name]["random"]
            yield Figure(
                f"{name}, leakage at equal change",
                learned["leakage"],
                learned["n"],
                learned["interval"]["leakage"],
                random["leakage"],
            )


def _same_person(
    name: str, entry: dict[str, Any], identity: dict[str, Any] | None, count: int | None = None
) -> Iterator[Figure]:
    """The figures of the face recognizer that the entry has."""
    for key, percent in SAME_PERSON.items():
        if identity and key in entry:
            interval = entry.get("interval", {}).get(key)
            text = f"{name}, same person at {percent}"
            yield Figure(text, entry[key], count, interval, identity["floor"][key])


def _edit(name: str, entry: dict[str, Any], floors: dict[str, Any]) -> Iterator[Figure]:
    for key in ("target_change", "success", "leakage", "retrieval"):
        count = entry["n_success" if key == "success" else "n"]
        text = f"{name}, {key.replace('_', ' ')}"
        yield Figure(text, entry[key], count, entry["interval"][key], floors.get(key))


def _set_and_keep_detail(report: dict[str, Any]) -> Iterator[Figure]:
    block = report["set"]
    for key, name in (
        ("error", "--set, mean error"),
        ("error_judge", "--set, mean error by the judge"),
        ("hit_rate", "--set, hit rate"),
    ):
        yield Figure(name, block[key], block["n"])
    for method, entry in report["keep_detail"]["mean"].items():
        name = "--keep_detail" if method == "keep_detail" else "without --keep_detail"
        for key in ("target_change", "leakage", "retrieval"):
            yield Figure(f"{name}, {key.replace('_', ' ')} from the photo", entry[key])
        yield from _same_person(name, entry, report.get("identity"))


def _counterfactual(block: dict[str, Any]) -> Iterator[Figure]:
    for name, entry in block.items():
        for key, text in (
            ("closer_to_truth", "closer to the true edit than to the photo"),
            ("closer_than_photo", "closer to the true edit than the photo"),
            ("closer_than_reconstruction", "closer to the true edit than the reconstruction"),
            ("keep_detail_closer_than_photo", "--keep_detail closer to it than the photo"),
        ):
            if key in entry:
                yield Figure(f"{name}, {text}", entry[key], entry["n_perceptual"])


def table(figures: Sequence[Figure]) -> str:
    """The figures as aligned text."""
    width = max(len(figure.name) for figure in figures)
    lines = [f"{'figure':{width}}  {'value':>8}  {'95 % interval':>18}  {'floor':>8}  {'n':>6}"]
    for figure in figures:
        interval = figure.interval and ", ".join(f"{end:.4g}" for end in figure.interval)
        lines.append(
            f"{figure.name:{width}}  {number(figure.value):>8}  "
            f"{f'[{interval}]' if interval else '':>18}  "
            f"{'' if figure.floor is None else number(figure.floor):>8}  "
            f"{'' if figure.n is None else figure.n:>6}"
        )
    return "\n".join(line.rstrip() for line in lines)


def number(value: float | None, form: str = ".4g") -> str:
    """The value as text; "-" for None."""
    return "-" if value is None else format(value, form)
