"""Lists the named models, those that ship and your own, or shows one.

    cgan models
    cgan models NAME

A named model is a finished editor that --model, and `load_editor` in Python, take by its name.
`cgan export --install=NAME --run_dir=RUN_DIR` makes one of a run. Your own come before those that
ship, and a path that exists before both. With a NAME, the hashes of its files are checked, too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from cgan_tf.core.errors import UserError
from cgan_tf.editing import named_models
from cgan_tf.editing.named_models import NamedModel

OPERAND = "name"
HEAD = ("name", "px", "attributes", "data", "MB", "fd / floor", "where")
SHOWN = 3  # attributes in the list
# A few words on what the license of the data allows, by --data; the complete note is in model.json.
DATA = {
    "synthetic": "synthetic: no third-party photos",
    "celeba": "CelebA: research only",
    "celeba_dir": "CelebA: research only",
    "folder": "photos: ask the maker",
    "photos": "photos: ask the maker",
}
INSTALL = "your own: cgan export --install=NAME --run_dir=RUN_DIR"
NOT_MEASURED = "not measured"


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("name", None, "the model to show; cgan models NAME is the same")


def main() -> int:
    """Runs the command; returns the exit code."""
    name = flags.FLAGS.name
    if name is None:
        print(table())
        return 0
    places = named_models.locate(name)
    if not places:
        raise UserError(f"cgan models {name}: no such model{named_models.others(name)}")
    if line := named_models.note(name):
        print(line)
    model = named_models.read(places[0])
    print(details(model))
    model.check_hashes()
    return 0


# ---- the list ----------------------------------------------------------------------------------


def table() -> str:
    """All named models as aligned text; a damaged one with the reason."""
    rows, damaged, names = [], [], set()
    for folder, paths in named_models.all_models().items():
        for path in paths:
            hidden = " (yours is used)" if path.name in names else ""
            names.add(path.name)
            try:
                rows.append(_row(named_models.read(path), _where(folder) + hidden))
            except UserError as error:
                damaged.append(f"{path.name}: damaged: {error}")
            except (AttributeError, LookupError, TypeError, ValueError):
                damaged.append(f"{path.name}: damaged: {path}: its model.json has other types")
    lines = _aligned([HEAD, *rows]) if rows else []
    if not names:
        lines.append("there are no named models")
    lines += damaged
    own = named_models.user_folder()
    if own is None:
        lines.append(f"your own are unknown: {named_models.NO_DATA_HOME}")
    return "\n".join([*lines, INSTALL])


def _row(model: NamedModel, where: str) -> tuple[str, ...]:
    about = model.description
    names = about["attributes"]
    more = f", {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    quality = about.get("quality") or {}
    distance = f"{_number(quality.get('fd'))} / {_number(quality.get('fd_floor'))}"
    return (
        model.path.name,
        str(about["resolution"]),
        ", ".join(names[:SHOWN]) + more,
        DATA.get(about.get("data"), "unknown"),
        f"{model.bytes / 1e6:.1f}",
        distance if quality else NOT_MEASURED,
        where,
    )


def _where(folder: Path) -> str:
    return "shipped" if folder == named_models.SHIPPED else str(folder)


# ---- one model ---------------------------------------------------------------------------------


def details(model: NamedModel) -> str:
    """All about one model, as text."""
    about = model.description
    changed = model.changed_files()
    lines = [f"{model.path.name}: {model.path}"]
    for label, key in (
        ("made by", "command"),
        ("created", "created"),
        ("data", "data"),
        ("license", "license"),
    ):
        lines.append(f"{label:12}{about.get(key, 'unknown')}")
    lines += [
        f"image       {about['resolution']} px, crop {about['crop']}",
        f"scores      {', '.join(about['scores'])}",
        "",
    ]
    lines += _aligned(
        [
            ("file", "bytes", "sha256", ""),
            *(
                (name, f"{one['bytes']:,}", one["sha256"], "DIFFERS" if name in changed else "ok")
                for name, one in model.files.items()
            ),
        ]
    )
    return "\n".join([*lines, "", *_quality(about["attributes"], about.get("quality") or {})])


def _quality(names: Sequence[str], quality: dict[str, Any]) -> list[str]:
    if not quality:
        return [f"quality: {NOT_MEASURED}; attributes: {', '.join(names)}"]
    rows = [("edit by +1", "change", "leakage", "retrieval", "same person", "n")]
    for name in names:
        one = quality["attributes"].get(name, {})
        keys = ("change", "leakage", "retrieval", "same_person_at_0.1")
        rows.append((name, *(_number(one.get(key)) for key in keys), str(one.get("n", "-"))))
    inversion = quality["inversion"]
    person = inversion.get("same_person_at_0.1")
    same = "" if person is None else f", same person at 0.1 % {_number(person)}"
    return [
        f"fd          {_number(quality['fd'])} (floor {_number(quality['fd_floor'])})",
        f"inversion   PSNR {_number(inversion['psnr'])} dB, retrieval "
        f"{_number(inversion['retrieval'])} (floor {_number(inversion['retrieval_floor'])}){same}",
        "",
        *_aligned(rows),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines whose columns are aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
