"""The check of the edits: closed-form figures, each failure in words, and the scorer."""

import json
import shutil
import types

import fake_run
import numpy as np
import pytest

from cgan_tf.core import artifact
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.editing import backends, description
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.export import gates, summary
from cgan_tf.networks.judge import Judge
from cgan_tf.stages import judge

LABELS = np.float32([[0, 1, 0], [0, 0, 1], [1, 0, 1]])  # 3 photos of A, B, C


class Shift(backends.Backend):
    """Edits a 1 px image: adds `gain` * A to red, 0.4 * B to green and `leak` * A to blue."""

    def __init__(self, gain=0.4, leak=0.0, offset=0.0, attributes=("A", "B")):
        super().__init__(attributes, 1, description.SQUARE_CROP)
        self.gain, self.leak, self.offset = gain, leak, offset

    def run(self, signature, **inputs):
        if signature == "encode":
            return {"latent": inputs["image"].reshape(-1, 3)}
        a, b = inputs["strengths"].T[:2]
        moved = np.stack([self.gain * a, 0.4 * b, self.leak * a], axis=1) + self.offset
        return {"image": np.float32(inputs["latent"] + moved).reshape(-1, 1, 1, 3)}


def predict(image):
    return image.reshape(-1, 3)


def measured(candidate, names=("A", "B", "C"), **reference):
    scorer = gates.Scorer("judge", ("A", "B", "C"), predict)
    dataset = types.SimpleNamespace(
        attribute_names=names, labels=np.concatenate([np.ones((5, 3), np.float32), LABELS])
    )
    image = np.full((3, 1, 1, 3), 0.3, np.float32)
    return gates.Edits(scorer, Shift(**reference), dataset, np.arange(5, 8), image).measure(
        candidate
    )


def test_equal_models():
    figures = measured(Shift())
    assert list(figures["attributes"]) == ["A", "B"] and figures["unmeasured"] == []
    assert figures["scorer"] == "judge" and figures["agreement"] == 1.0
    assert figures["predictions"] == (2 + 2) * 3
    one = figures["attributes"]["A"]
    assert one["n"] == 2 and one["leakage_added"] == 0.0 and one["kept"] == 1.0
    np.testing.assert_allclose([one["target_change"], one["target_change_keras"]], 0.4, rtol=1e-6)
    assert gates.verdict(figures) is None


def test_a_constant_error_does_not_count_as_change():
    figures = measured(Shift(offset=0.1))
    np.testing.assert_allclose(figures["attributes"]["A"]["target_change"], 0.4, rtol=1e-6)
    np.testing.assert_allclose(figures["attributes"]["A"]["leakage"], 0.0, atol=1e-6)


def test_part_of_the_change_is_lost():
    figures = measured(Shift(gain=0.37))
    np.testing.assert_allclose(figures["attributes"]["A"]["kept"], 0.925, rtol=1e-6)
    assert figures["attributes"]["B"]["kept"] == 1.0
    assert gates.verdict(figures) == (
        "A +1 changes its probability by +0.370, Keras's by +0.400 (at least 95% of it)"
    )
    assert gates.verdict(measured(Shift(gain=0.382))) is None
    assert gates.verdict(measured(Shift(gain=0.5))) is None  # a larger change is allowed


def test_a_change_near_0_has_no_ratio():
    figures = measured(Shift(gain=0.0005), gain=0.001)
    assert figures["attributes"]["A"]["kept"] is None
    assert gates.verdict(figures) is None
    assert gates.verdict(measured(Shift(gain=-0.4), gain=-0.4)) is None
    assert "A +1 changes" in gates.verdict(measured(Shift(gain=-0.45), gain=-0.4))


def test_added_leakage_fails():
    figures = measured(Shift(leak=0.03))
    one = figures["attributes"]["A"]
    np.testing.assert_allclose(one["leakage"], 0.015, rtol=1e-5)  # the mean of B and C
    np.testing.assert_allclose(one["leakage_added"], 0.015, rtol=1e-5)
    assert gates.verdict(figures) == (
        "A +1 moves the other attributes by 0.015, Keras's by 0.000 (at most 0.01 more)"
    )
    assert gates.verdict(measured(Shift(leak=0.015))) is None


def test_predictions_that_change_sides():
    figures = measured(Shift(offset=0.3), offset=0.1)  # 0.3 + offset is on different sides of 0.5
    assert figures["agreement"] == 4 / 12  # only the target crosses 0.5 with both
    assert gates.verdict(figures) == (
        "33.3% of the predictions on edited photos agree with Keras's (at least 98%)"
    )


@pytest.mark.parametrize("agreement, fault", [(0.9801, False), (0.9799, True), (None, False)])
def test_two_predictions_in_a_hundred_may_change_sides(agreement, fault):
    figures = measured(Shift()) | {"agreement": agreement}
    assert (gates.verdict(figures) is not None) == fault


def test_an_attribute_without_labels_is_not_measured():
    figures = measured(Shift(), names=("A", "X", "C"))
    assert list(figures["attributes"]) == ["A"] and figures["unmeasured"] == ["B"]


def test_without_other_attributes_there_is_no_leakage():
    scorer = gates.Scorer("judge", ("A",), lambda image: image.reshape(-1, 3)[:, :1])
    dataset = types.SimpleNamespace(attribute_names=("A",), labels=LABELS[:, :1])
    image = np.full((3, 1, 1, 3), 0.3, np.float32)
    edits = gates.Edits(scorer, Shift(), dataset, np.arange(3), image)
    figures = edits.measure(Shift(gain=0.39))
    one = figures["attributes"]["A"]
    assert one["leakage"] is None and one["leakage_added"] is None
    np.testing.assert_allclose(one["kept"], 0.975, rtol=1e-6)
    assert gates.verdict(figures) is None
    assert gates.verdict(edits.measure(Shift(gain=0.3))).startswith("A +1 changes its probability")
    variant = {"edits": figures, "passed": True, "bytes": 1_000_000}
    text = summary.table({"variants": {"none": variant}, "photos": {"n": 3, "split": "test"}})
    assert "NaN" not in json.dumps(figures)
    assert text.splitlines()[1].split()[:6] == ["none", "1.00", "-", "-", "97.5%", "-"]


@pytest.mark.parametrize("trained", [False, True])
def test_the_judge_scores_where_there_is_one(tmp_path, trained):
    shutil.copytree(fake_run.shared_run().path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    network = EditingNetwork.from_run(folder.path, scores=True)
    names = network.regressor.attribute_names
    image = np.float32(np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)))
    expected = network.score(image)
    if trained:
        model = Judge(names, 32)
        artifact.save_model(model, folder.stage("evaluate").path / judge.FOLDER)
        expected = model(image, training=False)
    scorer = gates.load_scorer(folder, network)
    assert scorer.name == ("judge" if trained else "regressor")
    assert scorer.attributes == names
    np.testing.assert_allclose(scorer.score(image), expected, atol=1e-5)
