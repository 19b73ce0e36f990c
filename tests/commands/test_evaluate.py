"""The command `cgan evaluate`: the figures of a run, and the comparison of two generators."""

import functools
import json
import shutil

import fake_run
import pytest
from evaluated_run import evaluated_run, small_networks

from cgan_tf.commands import evaluate
from cgan_tf.core import artifact
from cgan_tf.core import config as config_module
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.evaluation import generation, report
from cgan_tf.networks.dcgan import Generator


@pytest.fixture
def folder(tmp_path):
    """A copy of an evaluated run."""
    shutil.copytree(evaluated_run().folder.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def other_run(path, **options):
    """A run with another generator that has not been evaluated."""
    with small_networks():
        return fake_run.make_run(path, config_module.replace(evaluated_run().config, **options))


def test_the_summary_has_the_main_figures(folder):
    text = evaluate.summary(folder.path)
    assert "synthetic, 32 px, seed 7" in text.splitlines()[0]
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    entry = evaluated_run().report["edits"]["learned"]["Smiling"]
    for value in (entry["target_change"], *entry["interval"]["target_change"]):
        assert f"{value:.4g}" in lines["Smiling, target change"]


def test_the_summary_of_nothing_is_one_line(tmp_path, folder):
    with pytest.raises(UserError, match="no run folder"):
        evaluate.summary(tmp_path / "none")
    shutil.rmtree(folder.stage("evaluate").path)
    with pytest.raises(UserError, match="--stage=evaluate"):
        evaluate.summary(folder.path)


@pytest.mark.parametrize("name", ["report.json", "comparison_with_other.json"])
@pytest.mark.parametrize("content", ['{"version": 4, "generation": [1]}', "{"])
def test_a_damaged_report_is_one_line(folder, name, content):
    (folder.stage("evaluate").path / name).write_text(content)
    with pytest.raises(UserError, match="/evaluate/.*damaged; run .* (evaluate --|--restart)"):
        evaluate.summary(folder.path)


def test_both_generators_are_measured_alike(folder, tmp_path):
    other = other_run(tmp_path / "other")
    stage = other.stage("gan")
    model = artifact.load_model(Generator, stage.model)
    for weight in model.trainable_weights:
        weight.assign(weight * 0.5)
    artifact.save_model(model, stage.model)
    result = evaluate.compare(folder.path, other.path)
    for key, value in evaluated_run().report["generation"].items():
        exact = isinstance(value, str)
        assert result["run"][key] == (value if exact else pytest.approx(value, rel=1e-6)), key
    assert result["other"]["fd_floor"] == pytest.approx(result["run"]["fd_floor"])
    assert result["other"]["fd"] != pytest.approx(result["run"]["fd"], rel=1e-3)
    stored = report.read_comparisons(folder.stage("evaluate"))
    assert stored == {"other": json.loads(json.dumps(result))}
    assert "fd at 32 px of other" in evaluate.summary(folder.path)
    lines = {
        line.split()[0]: line.split() for line in evaluate.comparison_table(result).split("\n")
    }
    first, second = (result[run]["fd"] for run in ("run", "other"))
    assert lines["fd"] == ["fd", f"{first:.4g}", f"{second:.4g}", f"{first / second:.3f}"]


def test_the_separability_of_a_stylegan_is_measured(folder, tmp_path, monkeypatch):
    other = other_run(tmp_path / "style", gan_arch="stylegan")
    few = functools.partial(generation.measure_separability, samples=500)
    monkeypatch.setattr(generation, "measure_separability", few)
    block = evaluated_run().report["generation"]
    monkeypatch.setattr(generation, "measure_generator", lambda *arguments: block)
    result = evaluate.compare(folder.path, other.path)
    block = result["separability"]
    assert (block["n_train"], block["n"], block["seed"]) == (400, 100, 7)
    block["attributes"] = {"Smiling": {"positive": 0.25, "z": 0.75, "w": 0.875}}
    text = evaluate.comparison_table(result | {"separability": block | {"z": 0.75, "w": None}})
    lines = text.splitlines()
    lines = lines[lines.index("") + 1 :]
    assert [line.split()[-4:] for line in lines[1:-1]] == [
        ["Smiling", "0.250", "0.750", "0.875"],
        ["mean", "-", "0.750", "-"],
    ]
    assert "100 held-out samples" in lines[-1]


def test_a_run_that_was_not_evaluated_cannot_judge(tmp_path, folder):
    other = other_run(tmp_path / "other")
    with pytest.raises(UserError, match="--stage=evaluate"):
        evaluate.compare(other.path, folder.path)


def test_an_older_report_is_refused(folder):
    path = folder.stage("evaluate").path / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    for call in (evaluate.summary, lambda path: evaluate.compare(path, path)):
        with pytest.raises(UserError, match="version 2, this program reads version 4"):
            call(folder.path)
