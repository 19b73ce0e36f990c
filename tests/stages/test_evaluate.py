"""The evaluate stage: the layout of its report, its pictures, and that it repeats."""

import json
import shutil

import fake_run
import numpy as np
import pytest
import tiny
from evaluated_run import evaluated_run, small_networks

from cgan_tf.core import artifact
from cgan_tf.core import config as config_module
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import synthetic
from cgan_tf.data.images import decode_file
from cgan_tf.editing import models
from cgan_tf.evaluation import edits
from cgan_tf.evaluation.report import VERSION
from cgan_tf.networks.judge import Judge
from cgan_tf.stages import evaluate

NAMES = fake_run.ATTRIBUTES


def keys(text):
    """The set of the words."""
    return set(text.split())


EDIT = keys(
    "strength target_change target_change_from_photo success n_success leakage ratio retrieval "
    "interval n draws seed"
)
SAME = keys("same_person_at_0.1 same_person_at_1")
LEARNED = EDIT | SAME
LEARNED |= keys(
    "ratio_over_random calibrated_change achieved_change calibration_error achieved_change_judge "
    "calibration_error_judge n_calibration realism realism_unedited"
)
TRUE = keys(
    "psnr psnr_unedited psnr_ceiling judge_agreement judge_agreement_target true_change "
    "true_leakage n_perceptual n seed"
)
CLOSER = keys(
    "closer_to_truth closer_than_photo closer_than_reconstruction keep_detail_closer_than_photo"
)
SET = {"error", "error_judge", "strength", "hit_rate", "n", "seed"}


@pytest.fixture(scope="module")
def finished():
    return evaluated_run()


def test_report_has_exactly_the_documented_layout(finished):
    report = finished.report
    assert set(report) == keys(
        "version seed seconds data judge identity generation regressor inversion edits edits_mean "
        "keep_detail set strengths preservation comparison rescoring cosines consistency "
        "counterfactual pictures"
    )
    assert (report["version"], report["seed"]) == (VERSION, 7)
    assert report["data"] == {
        "name": "synthetic",
        "resolution": 32,
        "digest": finished.dataset.digest,
        "n_train": 80,
        "n_validation": 10,
        "n_test": 10,
    }
    assert set(report["judge"]) == {"features", "parameters", "kimg"}
    assert report["judge"]["features"] == 192
    assert set(report["generation"]) == keys(
        "features resolution fd fd_floor fd_over_floor fd_at_32 fd_floor_at_32 kid kid_std "
        "kid_floor precision recall n_real n_fake n_floor seed"
    )
    assert set(report["regressor"]) == {"n", "seed", "regressor", "judge", "majority", "attributes"}
    assert tuple(report["regressor"]["attributes"]) == synthetic.ATTRIBUTES
    assert set(report["inversion"]) == {"encoder", "hybrid", "optimize"}
    projected = SAME | keys(
        "psnr ssim perceptual perceptual_encoder retrieval seconds_per_image n seed"
    )
    assert set(report["inversion"]["hybrid"]) == projected | {"seconds_to_match_optimize"}
    assert set(report["inversion"]["optimize"]) == projected
    assert set(report["inversion"]["encoder"]) == SAME | keys(
        "psnr ssim perceptual retrieval retrieval_floor retrieval_ceiling seconds_per_image "
        "closer_than_random perceptual_random_best n n_random seed"
    )


def test_blocks_on_edits_have_exactly_the_documented_layout(finished):
    report = finished.report
    methods = {method: tuple(block) for method, block in report["edits"].items()}
    assert methods == {"learned": NAMES, "random": NAMES, "removed": NAMES}
    for name in NAMES:
        assert set(report["edits"]["learned"][name]) == LEARNED
        assert set(report["edits"]["random"][name]) == EDIT
        assert set(report["edits"]["removed"][name]) == EDIT | SAME
        assert set(report["counterfactual"][name]) == TRUE | {
            f"{key}{suffix}" for key in CLOSER for suffix in ("", "_judge", "_psnr")
        }
    assert set(report["edits_mean"]) == {"learned", "random", "removed"}
    assert set(report["edits_mean"]["removed"]) > SAME
    assert set(report["identity"]) == keys("model thresholds floor ceiling pairs n seed")
    for key in ("thresholds", "floor", "ceiling"):
        assert report["identity"][key] == dict.fromkeys(SAME)  # 45 pairs are too few
    assert (report["identity"]["pairs"], report["identity"]["n"]) == (45, 10)
    assert report["identity"]["model"]["file"] == "colors.onnx"
    entry = report["keep_detail"]["attributes"]["Smiling"]["plain"]
    assert set(entry) == SAME | keys("target_change leakage retrieval interval")
    assert set(report["set"]) == SET | {"attributes"}
    assert tuple(report["set"]["attributes"]) == NAMES
    for found in report["set"]["attributes"].values():
        assert [entry["requested"] for entry in found] == [0.2, 0.4, 0.6, 0.8]
        for entry in found:
            assert set(entry) == SET | {"requested", "reached", "reached_judge"}
    blocks = (
        report["strengths"]["attributes"],
        report["comparison"]["attributes"],
        report["rescoring"]["matrix"],
        report["cosines"],
        report["consistency"],
        report["preservation"]["learned"]["attributes"],
        report["preservation"]["random"]["attributes"],
    )
    assert all(tuple(block) == NAMES for block in blocks)
    assert all(len(report["preservation"][method]["all"]) == 3 for method in ("learned", "random"))
    assert report["comparison"]["requested"] == 0.4
    for name in NAMES:
        assert report["cosines"][name][name] == pytest.approx(1.0)
        assert set(report["comparison"]["attributes"][name]) == {"learned", "random"}
        assert set(report["consistency"][name]) == keys(
            "latent step psnr retrieval perceptual unedited interval n n_perceptual seed"
        )


def test_strength_one_is_the_same_in_all_blocks(finished):
    """The photos are as few as those of the smaller blocks."""
    report = finished.report
    points = report["strengths"]["attributes"]["Smiling"]
    strengths = [point["strength"] for point in points]
    assert strengths == [-2, -1.5, -1, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1, 1.5, 2]
    for point, method in ((points[9], "learned"), (points[2], "removed")):
        for key in ("target_change", "success", "leakage", "retrieval"):
            expected = report["edits"][method]["Smiling"][key]
            if expected is not None:  # success, if no reconstruction has to cross 0.5
                expected = pytest.approx(expected, rel=1e-5, abs=1e-7)
            assert point[key] == expected
    row = report["rescoring"]["matrix"]["Smiling"]
    assert tuple(row) == synthetic.ATTRIBUTES
    assert row["Smiling"] == pytest.approx(points[9]["target_change"], rel=1e-4, abs=1e-7)


def test_every_figure_has_its_n_and_seed(finished):
    report, dataset = finished.report, finished.dataset
    generation = report["generation"]
    counts = {key: generation[key] for key in ("n_real", "n_fake", "n_floor", "seed")}
    assert counts == {"n_real": 20, "n_fake": 120, "n_floor": 20, "seed": 7}
    blocks = [
        report["regressor"],
        report["inversion"]["encoder"],
        *report["edits"]["learned"].values(),
        *report["edits"]["random"].values(),
        *report["edits"]["removed"].values(),
        *report["counterfactual"].values(),
        report["set"],
        *(entry for found in report["set"]["attributes"].values() for entry in found),
    ]
    assert all(block["seed"] == 7 for block in blocks)
    labels = dataset.labels[dataset.splits["test"]]
    for name in NAMES:
        without = int(np.sum(labels[:, dataset.attribute_names.index(name)] == 0))
        assert report["edits"]["learned"][name]["n"] == without
        assert report["edits"]["random"][name]["draws"] == edits.RANDOM_DRAWS
        assert report["counterfactual"][name]["n"] == without


def test_pictures_have_the_documented_names_and_sizes(finished):
    report, folder = finished.report, finished.folder.path / "evaluate"
    names = ["samples.png", "reconstructions.png", *(f"edits_{name}.png" for name in NAMES)]
    assert list(report["pictures"]) == names
    assert sorted(path.name for path in folder.glob("*.png")) == sorted(names)
    assert decode_file(folder / "samples.png").shape == (8 * 32, 8 * 32, 3)
    assert decode_file(folder / "reconstructions.png").shape == (4 * 32, 8 * 32, 3)
    rows = min(evaluate.EDITED, report["edits"]["learned"]["Smiling"]["n"])
    assert decode_file(folder / "edits_Smiling.png").shape == (rows * 32, 6 * 32, 3)


def test_a_finished_stage_does_nothing(finished, capsys):
    report = finished.folder.path / "evaluate" / "report.json"
    written = report.stat().st_mtime_ns
    evaluate.run(finished.config, finished.folder, finished.dataset)
    assert "nothing to do" in capsys.readouterr().out
    assert report.stat().st_mtime_ns == written


def test_the_main_figures_are_printed_with_their_floors(finished):
    lines = [line for line in finished.printed if line.startswith("evaluate: ")]
    lines = lines[next(row for row, line in enumerate(lines) if " fd " in line) :]
    fd, floor = (finished.report["generation"][key] for key in ("fd", "fd_floor"))
    assert lines[0].startswith(f"evaluate: fd {fd:.2f} (floor {floor:.2f}), kid ")
    accuracy, floor = (
        finished.report["regressor"][by]["accuracy"] for by in ("regressor", "majority")
    )
    assert f"accuracy of the regressor {accuracy:.3f}" in lines[1]
    assert f"(floor {floor:.3f})" in lines[1]
    assert sum("random directions" in line for line in lines) == len(NAMES)
    for name in NAMES:
        change = finished.report["edits"]["removed"][name]["target_change"]
        line = f"evaluate: {name} -1, target change {change:+.2f}, leakage "
        assert sum(text.startswith(line) for text in lines) == 1


def test_too_few_pairs_are_said(finished):
    (line,) = (line for line in finished.printed if "0.1 % false accepts" in line)
    assert line == (
        "evaluate: 45 pairs of photos are too few for the same person at 0.1 % false accepts, "
        "which needs 1000; raise --evaluate_photos"
    )


def test_the_same_person_is_printed_with_its_threshold(capsys):
    block = {
        "thresholds": {"same_person_at_0.1": 0.53, "same_person_at_1": 0.6123},
        "ceiling": {"same_person_at_0.1": 0.98, "same_person_at_1": 1.0},
        "model": {"file": "face.onnx"},
        "pairs": 2000,
    }
    evaluate.print_identity(block)
    assert capsys.readouterr().out.splitlines() == [
        "evaluate: face.onnx, the same person at 0.1 % false accepts: distance below 0.53, "
        "mirrored photos 0.980",
        "evaluate: face.onnx, the same person at 1 % false accepts: distance below 0.6123, "
        "mirrored photos 1.000",
    ]
    entry = {"same_person_at_0.1": 0.5, "same_person_at_1": None}
    assert evaluate.same_person_text(entry) == ", same person 0.500 at 0.1 %, - at 1 %"
    assert evaluate.same_person_text({"retrieval": 1.0}) == ""


@pytest.mark.slow
def test_measuring_again_gives_the_same_figures(finished, tmp_path):
    folder, evaluated = finished.folder, finished.models
    entries = models.read_directions(folder, evaluated.generator.latent_shape)
    with small_networks():
        again = evaluate.measure_all(
            finished.config,
            finished.dataset,
            tmp_path,
            evaluated.judge_model,
            evaluated.network,
            entries,
        )
    again = json.loads(json.dumps(again))
    for key in set(finished.report) - {"version", "seconds", "inversion"}:
        assert again[key] == finished.report[key]
    timed = {"seconds_per_image", "seconds_to_match_optimize"}
    for mode, block in finished.report["inversion"].items():
        for key in set(block) - timed:
            assert again["inversion"][mode][key] == block[key]


@pytest.mark.slow
def test_figures_by_a_kept_judge_are_those_of_a_new_one(finished, tmp_path, capsys):
    """Other options of the measurements: once with the old judge, and once from scratch."""
    config = config_module.replace(finished.config, evaluate_samples=100, evaluate_projections=0)
    reports = {}
    for name in ("kept", "new"):
        run = RunFolder(tmp_path / name)
        shutil.copytree(finished.folder.path, run.path)
        run.restart("evaluate", say=lambda line: None)
        if name == "new":
            shutil.rmtree(run.path / "evaluate.old-001")
        with small_networks():
            evaluate.run(config, run, finished.dataset)
        assert ("keeps the judge" in capsys.readouterr().out) == (name == "kept")
        report = json.loads((run.path / "evaluate" / "report.json").read_text())
        assert report.pop("seconds") and report["inversion"]["encoder"].pop("seconds_per_image")
        reports[name] = report, tiny.values(artifact.load_model(Judge, run.path / "evaluate/judge"))
    assert reports["kept"][0] == reports["new"][0]
    assert tiny.same(reports["kept"][1], reports["new"][1])


def test_a_missing_stage_is_named(tmp_path, finished):
    with pytest.raises(UserError, match="--stage=gan"):
        evaluate.run(finished.config, RunFolder(tmp_path / "empty"), finished.dataset)


def test_a_calibration_table_without_strength_one_is_refused():
    entry = {"attribute": "Smiling", "calibration": [{"strength": 0.5, "change": 0.2, "n": 3}]}
    with pytest.raises(UserError, match="Smiling"):
        evaluate.calibrated_change(entry)
