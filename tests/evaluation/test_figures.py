"""The figures of a report as a table, and the report's version."""

import copy
import json

import pytest
from evaluated_run import evaluated_run

from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.evaluation import figures, report


@pytest.fixture
def measured():
    return copy.deepcopy(evaluated_run().report)


def test_every_figure_has_its_floor_interval_and_number(measured):
    found = {figure.name: figure for figure in figures.from_report(measured)}
    generation, regressor = measured["generation"], measured["regressor"]
    assert found["fd"] == figures.Figure("fd", generation["fd"], 120, None, generation["fd_floor"])
    assert found["kid"].floor == generation["kid_floor"]
    accuracy = found["regressor, mean accuracy"]
    assert accuracy.value == regressor["regressor"]["accuracy"]
    assert (accuracy.floor, accuracy.n) == (regressor["majority"]["accuracy"], 10)
    assert found["judge, mean balanced accuracy"].floor == 0.5
    encoder = measured["inversion"]["encoder"]
    assert found["encoder, perceptual distance"].floor == encoder["perceptual_random_best"]
    learned = measured["edits"]["learned"]["Smiling"]
    change = found["Smiling, target change"]
    assert (change.value, change.n) == (learned["target_change"], learned["n"])
    assert change.interval == learned["interval"]["target_change"]
    assert change.floor == measured["edits"]["random"]["Smiling"]["target_change"]
    compared = measured["comparison"]["attributes"]["Smiling"]
    leakage = found["Smiling, leakage at equal change"]
    assert (leakage.value, leakage.floor) == (
        compared["learned"]["leakage"],
        compared["random"]["leakage"],
    )
    assert found["--set, hit rate"].value == measured["set"]["hit_rate"]
    kept = measured["keep_detail"]["mean"]["keep_detail"]["retrieval"]
    assert found["--keep_detail, retrieval from the photo"].value == kept
    assert found["encoder, retrieval"].floor == pytest.approx(0.1)
    assert found["mirrored photos, retrieval"].value == encoder["retrieval_ceiling"]
    assert found["Smiling, retrieval"].floor == pytest.approx(0.1)
    removed = measured["edits"]["removed"]["Smiling"]
    change = found["Smiling -1, target change"]
    assert (change.value, change.n, change.floor) == (removed["target_change"], removed["n"], None)
    assert found["Smiling, realism"].value is None  # too few photos
    true = measured["counterfactual"]["Eyeglasses"]
    closer = found["Eyeglasses, closer to the true edit than to the photo"]
    assert (closer.value, closer.n) == (true["closer_to_truth"], true["n_perceptual"])


def test_the_same_person_has_its_floor_and_ceiling(measured):
    strict, loose = figures.SAME_PERSON
    measured["identity"]["floor"] = {strict: 0.001, loose: 0.01}
    measured["identity"]["ceiling"] = {strict: 0.9, loose: 0.97}
    measured["inversion"]["hybrid"][loose] = 0.5
    learned, removed = (measured["edits"][method]["Smiling"] for method in ("learned", "removed"))
    learned[strict], learned["interval"][strict] = 0.25, [0.2, 0.3]
    removed[strict] = 0.125
    measured["keep_detail"]["mean"]["plain"][loose] = 0.75
    found = {figure.name: figure for figure in figures.from_report(measured)}
    for name, value, count, interval, floor in (
        ("mirrored photos, same person at 0.1 %", 0.9, 10, None, 0.001),
        ("mirrored photos, same person at 1 %", 0.97, 10, None, 0.01),
        ("hybrid, same person at 1 %", 0.5, 3, None, 0.01),
        ("Smiling, same person at 0.1 %", 0.25, learned["n"], [0.2, 0.3], 0.001),
        ("Smiling -1, same person at 0.1 %", 0.125, removed["n"], None, 0.001),
        ("without --keep_detail, same person at 1 %", 0.75, None, None, 0.01),
    ):
        assert found[name] == figures.Figure(name, value, count, interval, floor)
    del measured["identity"]
    for figure in figures.from_report(measured):
        assert "same person" not in figure.name


def test_parts_that_do_not_apply_are_left_out(measured):
    del measured["counterfactual"]
    for mode in ("hybrid", "optimize"):  # --evaluate_projections=0
        del measured["inversion"][mode]
    names = [figure.name for figure in figures.from_report(measured)]
    assert "encoder, psnr" in names and "Smiling, success" in names
    assert not any(word in name for name in names for word in ("hybrid", "true edit"))


def test_separability_and_comparisons_are_included(measured):
    measured["separability"] = {"z": 0.8, "w": 0.85, "n": 2000}
    other = {"fd_at_32": 3.0, "fd_floor_at_32": 1.0, "n_fake": 50}
    found = {
        figure.name: figure for figure in figures.from_report(measured, {"other": {"other": other}})
    }
    assert found["separability of w, mean"] == figures.Figure(
        "separability of w, mean", 0.85, 2000, floor=0.5
    )
    assert found["fd at 32 px of other"] == figures.Figure(
        "fd at 32 px of other", 3.0, 50, floor=1.0
    )


def test_the_table_is_aligned():
    rows = [
        figures.Figure("change", 0.5562, 521, [0.53, 0.58], 0.0123),
        figures.Figure("kid", None),
    ]
    assert figures.table(rows).splitlines() == [
        "figure     value       95 % interval     floor       n",
        "change    0.5562        [0.53, 0.58]    0.0123     521",
        "kid            -",
    ]


def test_reports_that_cannot_be_read_are_one_line(tmp_path):
    stage = RunFolder(tmp_path / "run").stage("evaluate")
    stage.path.mkdir(parents=True)
    cases = {
        None: "nothing has been measured yet; run python train_main.py --stage=evaluate",
        "{": "the file is damaged",
        "[]": "the file is damaged",
        json.dumps({"version": 3}): "the report has version 3, this program reads version 4",
    }
    for text, message in cases.items():
        if text is not None:
            (stage.path / "report.json").write_text(text)
        with pytest.raises(UserError) as caught:
            report.read_report(stage)
        assert message in str(caught.value) and "\n" not in str(caught.value)
    report.write_report(stage, {"seed": 1})
    assert report.read_report(stage) == {"version": report.VERSION, "seed": 1}


def test_comparisons_are_read_by_the_name_of_the_other_run(tmp_path):
    stage = RunFolder(tmp_path / "run").stage("evaluate")
    assert report.read_comparisons(stage) == {}
    report.write_comparison(stage, tmp_path / "b", {"x": 1})
    report.write_comparison(stage, tmp_path / "a", {"x": 2})
    assert (stage.path / "comparison_with_b.json").exists()
    assert report.read_comparisons(stage) == {"a": {"x": 2}, "b": {"x": 1}}
