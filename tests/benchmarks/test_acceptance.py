"""The acceptance limits of the reference runs."""

import copy
import json

import pytest
from evaluated_run import evaluated_run

from benchmarks import acceptance
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder


@pytest.fixture
def report():
    return copy.deepcopy(evaluated_run().report)


@pytest.fixture
def photo_report(report):
    """As if the run had been evaluated on photos."""
    report["data"]["name"] = "celeba_dir"
    del report["counterfactual"]
    return report


def rows(report, comparisons=None):
    return {row.name: row for row in acceptance.evaluation_rows(report, comparisons or {})}


@pytest.mark.parametrize(
    "value, limit, met",
    [
        (0.4, {"at_least": 0.4}, True),
        (0.39, {"at_least": 0.4}, False),
        (0.1, {"at_most": 0.1}, True),
        (0.11, {"at_most": 0.1}, False),
        (None, {"at_most": 0.1}, False),
        (None, {"at_least": 0.1}, False),
    ],
)
def test_a_limit_is_met_or_missed(value, limit, met):
    assert acceptance.Row("x", value, **limit).met is met


def test_limits_of_photos(photo_report):
    block = {"fd_at_32": 3.0}
    found = rows(photo_report, {"other": {"run": block, "other": {"fd_at_32": 4.0}}})
    assert found["fd at 32 px / that of other"].value == 0.75
    assert {name: row.limit for name, row in found.items()} == {
        "fd / floor": "<= 12",
        "fd at 32 px / that of other": "<= 0.6",
        "regressor, mean accuracy": ">= 0.875",
        "regressor, Smiling": ">= 0.9",
        "regressor, Eyeglasses": ">= 0.965",
        "encoder, closer than random": ">= 0.95",
        "hybrid, distance / encoder's": "<= 0.6",
        "hybrid, seconds per image": "<= 1.5",
        "hybrid, distance / optimize's": "<= 1.05",
        "hybrid, seconds to match optimize / its seconds": "<= 0.25",
        "Smiling, target change": ">= 0.4",
        "Smiling, leakage": "<= 0.1",
        "Smiling, ratio / random's": ">= 3",
        "Blond_Hair, target change": ">= 0.4",
        "Blond_Hair, leakage": "<= 0.1",
        "Blond_Hair, ratio / random's": ">= 3",
        "--keep_detail, target change": ">= 0.4",
        "--set, mean error": "<= 0.1",
        "--set, mean error by the judge": "<= 0.15",
        **{
            f"{name}, {figure} at equal change": limit
            for name in ("Smiling", "Blond_Hair", "Eyeglasses")
            for figure, limit in (("leakage", "<= 0.08"), ("leakage / random's", "<= 0.3333"))
        },
    }


def test_limits_of_synthetic_faces(report):
    found = rows(report)
    assert len(found) == 16
    assert found["Eyeglasses, keep detail closer than photo"].limit == ">= 0.95"
    assert found["mean leakage of the edits"].limit == "<= 0.03"
    assert found["Eyeglasses, closer than photo"].limit == ">= 0.95"
    assert found["Eyeglasses, leakage"].limit == "<= 0.05"
    assert found["Eyeglasses, closer to truth"].limit == ">= 0.8"


@pytest.mark.parametrize("source, extra", [("celeba", 0.0), ("celeba_dir", 0.001)])
def test_limits_of_set(photo_report, source, extra):
    photo_report["data"]["name"] = source
    photo_report["set"] |= {"error": 0.1 + extra, "error_judge": 0.15 + extra}
    found = rows(photo_report)
    for name in ("--set, mean error", "--set, mean error by the judge"):
        assert found[name].met == (extra == 0)


def test_hybrid_is_compared_with_the_encoder_and_optimize(photo_report):
    inversion = photo_report["inversion"]
    inversion["hybrid"] |= {
        "perceptual": 0.6,
        "perceptual_encoder": 1.2,
        "seconds_per_image": 0.9,
        "seconds_to_match_optimize": None,
    }
    inversion["optimize"] |= {"perceptual": 0.5, "seconds_per_image": 2.0}
    found = rows(photo_report)
    assert found["hybrid, distance / encoder's"].value == 0.5
    assert found["hybrid, seconds per image"].value == 0.9
    assert found["hybrid, distance / optimize's"].value == pytest.approx(1.2)
    assert found["hybrid, seconds to match optimize / its seconds"].value is None
    inversion["hybrid"]["seconds_to_match_optimize"] = 0.5
    name = "hybrid, seconds to match optimize / its seconds"
    assert rows(photo_report)[name].value == 0.25
    for mode in ("hybrid", "optimize"):  # --evaluate_projections=0
        del inversion[mode]
    assert not any(name.startswith("hybrid") for name in rows(photo_report))


def test_w_must_separate_better_than_z(report):
    for w, met in ((0.85, True), (0.79, False)):
        report["separability"] = {"z": 0.8, "w": w, "n": 2000}
        assert rows(report)["separability of w, mean"].met is met


def test_limits_of_an_export():
    report = {
        "saved_model": {
            "passed": True,
            "reason": None,
            "bound": 1e-4,
            "signatures": {
                "encode": {"max_difference": 1e-6},
                "translate": {"max_difference": 3e-6},
            },
        },
        "translator_float16": {
            "passed": False,
            "reason": "encode gives NaN",
            "bound": 2e-2,
            "signatures": {"encode": {"max_difference": None}},
        },
        "translator_float32": {"passed": False, "reason": "cannot be converted", "path": None},
    }
    found = list(acceptance.export_rows({"variants": report}))
    assert [(row.value, row.met) for row in found] == [(3e-6, True), (None, False), (None, False)]
    assert "cannot be converted" in found[2].name
    dynamic = {
        "passed": True,
        "reason": None,
        "bound": None,
        "psnr_bound": 30.0,
        "signatures": {
            "encode": {"max_difference": 0.2, "psnr": None},
            "translate": {"max_difference": 0.5, "psnr": 41.0},
            "generate": {"max_difference": 0.5, "psnr": 40.0},
        },
        "edits": {
            "agreement": 0.97,
            "attributes": {
                "A": {"kept": 0.99, "leakage_added": 0.002},
                "B": {"kept": 0.96, "leakage_added": 0.001},
                "C": {"kept": None, "leakage_added": -0.5},
            },
        },
    }
    found = acceptance.export_rows({"variants": {"translator_dynamic": dynamic}})
    assert [(row.name.split(", ")[1], row.value, row.met) for row in found] == [
        ("dB", 40.0, True),
        ("change kept", 0.96, True),
        ("leakage added", 0.002, True),
        ("agreement", 0.97, False),
    ]


def test_the_table_of_a_run(tmp_path):
    found = acceptance.collect(evaluated_run().folder)
    lines = acceptance.table(found).splitlines()
    assert lines[0].split() == ["figure", "value", "limit"]
    assert "missed" in next(line for line in lines if "Smiling, target change" in line)
    assert lines[-1].endswith("of 16 limits met")
    with pytest.raises(UserError, match="no run folder"):
        acceptance.collect(RunFolder(tmp_path))


def test_a_run_with_only_an_export(tmp_path):
    run = evaluated_run()
    folder = RunFolder(tmp_path / "run")
    folder.save_config(run.config, {"digest": run.dataset.digest})
    with pytest.raises(UserError, match="--stage=evaluate"):
        acceptance.collect(folder)
    export = folder.stage("export").path
    export.mkdir()
    variant = {"passed": False, "reason": "cannot be converted"}
    (export / "report.json").write_text(json.dumps({"variants": {"float32": variant}}))
    assert [row.met for row in acceptance.collect(folder)] == [False]
    (export / "report.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        acceptance.collect(folder)
