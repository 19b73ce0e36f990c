"""benchmarks.results: docs/results.md and the measurements that it is written from."""

import json

import pytest

from benchmarks import results
from cgan_tf.core.errors import UserError


def test_page_is_what_the_command_writes():
    assert results.PAGE.read_text() == results.page(), "run python -m benchmarks.results"


def test_every_row_has_a_value_for_every_column():
    for path in results.RESULTS.glob("*.json"):
        for table in json.loads(path.read_text())["tables"]:
            assert all(len(row) == len(table["columns"]) for row in table["rows"]), path.name


def test_table_aligns_numbers_right_and_marks_missing_values():
    assert results.markdown(["name", "value"], [["fd", 2.5], ["kid", None]]) == [
        "| name | value |",
        "| --- | ---: |",
        "| fd | 2.5 |",
        "| kid | – |",
    ]


def test_unknown_and_incomplete_files_are_refused(tmp_path):
    content = {key: "" for key in results.KEYS} | {"tables": [], "command": [], "notes": []}
    for name in results.ORDER:
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    results.page(tmp_path)
    (tmp_path / "extra.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="extra"):
        results.page(tmp_path)
    (tmp_path / "extra.json").unlink()
    (tmp_path / "demo.json").write_text(json.dumps({"title": ""}))
    with pytest.raises(UserError, match="demo"):
        results.page(tmp_path)
