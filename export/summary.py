"""The text report of an export: a line for each finished variant, and a table at the end."""

from typing import Any

HEAD = (
    "variant",
    "MB",
    "difference",
    "dB",
    "change kept",
    "leakage added",
    "agree",
    "encode ms",
    "generate ms",
    "translate ms",
    "",
)
TIMED = ("encode", "generate", "translate")  # signatures, in the order of their columns


def line(name: str, variant: dict[str, Any]) -> str:
    """One line with the variant's result."""
    if not variant["passed"]:
        return f"export: {name}: FAILED: {variant['reason']}"
    return f"export: {name}: {variant['bytes'] / 1e6:.2f} MB, passed"


def table(report: dict[str, Any]) -> str:
    """An aligned table of all variants: the worst signature and the worst attribute of each.

    Args:
        report: the content of report.json.
    """
    rows = [HEAD] + [_row(name, variant) for name, variant in report["variants"].items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if 0 < place < len(row) - 1 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    scorers = {one["edits"]["scorer"] for one in report["variants"].values() if "edits" in one}
    photos = report["photos"]
    lines.append(
        f"compared with Keras on {photos['n']} {photos['split']} photos"
        + (f"; edits of +1 scored by the {scorers.pop()}" if scorers else "")
        + "; ms on one thread"
    )
    return "\n".join(lines)


def _row(name: str, variant: dict[str, Any]) -> tuple[str, ...]:
    figures = variant.get("signatures", {}).values()
    differences = [figure["max_difference"] for figure in figures]
    psnrs = [figure["psnr"] for figure in figures if figure["psnr"] is not None]
    edits = variant.get("edits", {})
    attributes = edits.get("attributes", {}).values()
    kept = [one["kept"] for one in attributes if one["kept"] is not None]
    added = [one["leakage_added"] for one in attributes if one["leakage_added"] is not None]
    times = variant.get("milliseconds", {})
    return (
        name,
        f"{variant['bytes'] / 1e6:.2f}" if "bytes" in variant else "-",
        f"{max(differences):.1e}" if differences and None not in differences else "-",
        f"{min(psnrs):.1f}" if psnrs else "-",
        f"{min(kept):.1%}" if kept else "-",
        f"{max(added):+.4f}" if added else "-",
        f"{edits['agreement']:.1%}" if edits.get("agreement") is not None else "-",
        *(f"{times[signature]:.1f}" if signature in times else "-" for signature in TIMED),
        "passed" if variant["passed"] else "FAILED",
    )
