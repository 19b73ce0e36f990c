"""Writes docs/results.md from the measurements in benchmarks/results/.

    python -m benchmarks.results

Each JSON file there is one measurement:

    title, commit, date, hardware
    seed        null if it was not recorded
    command     list of the command lines, with today's flags
    notes       list of sentences: data, conditions, what was observed
    tables      list of {caption, columns, rows}; null is a value that was not measured
"""

import json
from pathlib import Path
from typing import Any

from absl import flags

from cgan_tf.core import cli
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_text

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"
# The order of the page.
ORDER = (
    "celeba64",
    "celeba64_700kimg",
    "stylegan64",
    "demo",
    "objectives",
    "recipes",
    "few_photos",
    "progressive",
    "inversion",
    "encoders",
    "detail_features",
    "keep_detail",
    "directions",
    "custom_attribute",
    "set",
    "any_photo",
    "export",
    "serve",
    "service_faults",
    "train_step",
    "gpu",
    "input_pipeline",
    "scaling",
    "kill_resume",
)
KEYS = {"title", "commit", "date", "hardware", "seed", "command", "notes", "tables"}
HEAD = """\
# Results

Measured figures, each with the command that reproduces it. [evaluation.md](evaluation.md) explains
the figures. The commit is the one that recorded a measurement; the commands have today's flags.
`python -m benchmarks.results` writes this page from `benchmarks/results/*.json`.
"""

FLAGS = flags.FLAGS
flags.DEFINE_string("output", str(PAGE), "Markdown file to write.")


def page(folder: Path = RESULTS) -> str:
    """The page's text.

    Raises:
        UserError: a file that is not in `ORDER`, or lacks a key.
    """
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    unknown = sorted(set(found) ^ set(ORDER))
    if unknown:
        raise UserError(f"{folder}: add {unknown[0]} to the files or to ORDER in {__file__}")
    for name, content in found.items():
        if set(content) != KEYS:
            raise UserError(f"{folder / name}.json: its keys must be {', '.join(sorted(KEYS))}")
    return "\n".join([HEAD, *(section(found[name]) for name in ORDER)])


def section(content: dict[str, Any]) -> str:
    """One measurement: title, origin, command, tables, notes."""
    seed = "seed not recorded" if content["seed"] is None else f"seed {content['seed']}"
    lines = [
        f"## {content['title']}",
        "",
        f"Commit {content['commit']}, {content['date']}, {seed}. {content['hardware']}.",
        "",
        *(f"    {command}" for command in content["command"]),
        "",
    ]
    for table in content["tables"]:
        if table["caption"]:
            lines += [f"{table['caption']}:", ""]
        lines += [*markdown(table["columns"], table["rows"]), ""]
    lines += [f"- {note}" for note in content["notes"]]
    return "\n".join([*lines, ""])


def markdown(columns: list[str], rows: list[list[Any]]) -> list[str]:
    """A Markdown table; the first column is aligned left, the others right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)]]
    lines += [[cell(value) for value in row] for row in rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def cell(value: Any) -> str:
    """A value as text; None becomes a dash."""
    return "–" if value is None else str(value)


def main() -> None:
    """Writes the page."""
    write_text(Path(FLAGS.output), page())
    print(f"written: {FLAGS.output}")


if __name__ == "__main__":
    cli.run(main)
