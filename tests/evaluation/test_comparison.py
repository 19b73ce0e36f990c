"""Comparisons of families of directions on models whose every figure is known."""

import types

import numpy as np
import pytest
from scripted import ScriptedModels, scripted_photos

from cgan_tf.evaluation import comparison


@pytest.mark.parametrize(
    "change, requested, expected",
    [
        (lambda s: 0.1 * s, 0.3, 3.0),
        (lambda s: 0.1 * s, 0.02, 0.2),
        (lambda s: 0.05 * s * s, 0.4, 8**0.5),
        (lambda s: np.tanh(s), 0.9, np.arctanh(0.9)),
    ],
)
def test_a_strength_is_matched_within_a_hundredth(change, requested, expected):
    calls = []
    strength, reached = comparison.match_strength(lambda s: calls.append(s) or change(s), requested)
    assert reached is True
    assert change(strength) == pytest.approx(requested, rel=0.01)
    # The curves are flat enough there for a hundredth of the change.
    assert strength == pytest.approx(expected, rel=0.05)
    assert len(calls) < 15


@pytest.mark.parametrize(
    "change, best",
    [
        (lambda s: 0.2 * min(s, 1.2), 1.5),  # no more from 1.2 on, and 1.5 is the first beyond
        (lambda s: 0.1 * s * (4 - s), 2.25),  # 1.5^2, closest to its peak at 2
        (lambda s: -0.1 * s, 1.0),  # the wrong sign: the least damage
    ],
)
def test_a_change_out_of_reach_gives_the_strength_of_the_largest(change, best):
    assert comparison.match_strength(change, 0.5) == (pytest.approx(best), False)


def matched_families(families, requested=0.3, draws=4):
    models = ScriptedModels([0.0, 0.0, 0.0])
    models.generator = types.SimpleNamespace(latent_shape=(3,))
    photos = scripted_photos(
        [[0.1, 0.2, 0.5], [0.3, 0.2, 0.5], [0.6, 0.2, 0.5]], [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    )
    vectors = {
        family: {name: np.float32(vector) for name, vector in found.items()}
        for family, found in families.items()
    }
    block, scaled = comparison.measure_families(models, photos, vectors, requested, draws)
    return models, photos, block, scaled


def test_families_are_scaled_to_the_same_change():
    families = {
        "plain": {"A": [0.2, 0.0, 0.0]},
        "skew": {"A": [0.05, 0.05, -0.02], "B": [0.0, 1.0, 0.5]},
        "short": {"A": [0.01, 0.0, 0.03]},
    }
    _, photos, block, scaled = matched_families(families)
    found = block["attributes"]["A"]
    for family, leakage, change in (
        ("plain", 0.0, 0.3),
        ("skew", (0.3 + 0.12) / 2, 0.3),
        ("short", 0.18 / 2, 0.06),
    ):
        entry = found[family]
        assert entry["target_change"] == pytest.approx(change, rel=0.011)
        assert entry["leakage"] == pytest.approx(leakage, rel=0.011, abs=1e-7)
        assert entry["reached"] == (family != "short")  # six times its length is the limit
        assert entry["n"] == 2
        assert entry["length"] == pytest.approx(np.linalg.norm(scaled[family]["A"]), rel=1e-6)
        np.testing.assert_allclose(
            scaled[family]["A"] / entry["length"],
            families[family]["A"] / np.linalg.norm(families[family]["A"]),
            rtol=1e-5,
        )
    assert set(block["attributes"]["B"]) == {"skew", "random"}
    mean = block["mean"]["skew"]
    both = [block["attributes"][name]["skew"]["leakage"] for name in "AB"]
    assert mean["leakage"] == pytest.approx(np.mean(both))
    assert mean["n_attributes"] == mean["n_reached"] == 2
    assert block["mean"]["short"]["n_reached"] == 0


def test_a_family_is_compared_with_random_directions():
    families = {"plain": {"A": [0.2, 0.0, 0.0]}, "skew": {"A": [0.2, 0.1, 0.0]}}
    families["short"] = {"A": [0.03, 0.03, 0.0]}
    _, photos, block, scaled = matched_families(families, draws=6)
    found = block["attributes"]["A"]
    units = np.random.default_rng(0).standard_normal((6, 3))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    length = found["plain"]["length"]
    others = np.abs(units[:, 1:]).mean(axis=1)
    assert found["plain"]["random_leakage"] == pytest.approx(length * others.mean(), rel=1e-4)
    assert found["plain"]["random_target_change"] == pytest.approx(
        length * np.abs(units[:, 0]).mean(), rel=1e-4
    )
    # The same change takes 0.3 / |first coordinate|; six times the mean length is the limit.
    slope = np.abs(units[:, 0])
    mean_length = np.mean([found[family]["length"] for family in families])
    lengths = np.minimum(0.3 / slope, comparison.MATCH_STRENGTHS[-1] * mean_length)
    assert 0 < found["random"]["reached"] == np.sum(lengths * slope > 0.299) < 6
    assert found["random"]["length"] == pytest.approx(lengths.mean(), rel=0.011)
    assert found["random"]["leakage"] == pytest.approx(np.mean(lengths * others), rel=0.011)
    assert found["random"]["target_change"] == pytest.approx(np.mean(lengths * slope), rel=0.011)
    # In pairs, at the smaller of the two changes; "short" itself reaches 0.18 and no more.
    for family, leakage, most in (("plain", 0.0, 0.3), ("skew", 0.25, 0.3), ("short", 0.5, 0.18)):
        common = np.minimum(lengths * slope, most)
        counted = common >= comparison.LEAST_CHANGE
        expected = np.sum(leakage * common[counted]) / np.sum((common / slope * others)[counted])
        assert found[family]["n_over_random"] == counted.sum() > 3
        assert found[family]["leakage_over_random"] == pytest.approx(expected, rel=0.02, abs=1e-6)


def test_the_judge_sees_each_strength_of_a_direction_once():
    models, seen = ScriptedModels([0.0, 0.0, 0.0]), []
    models.generator = types.SimpleNamespace(latent_shape=(3,))
    judge = models.judge
    models.judge = lambda z: seen.append(z.tobytes()) or judge(z)
    photos = scripted_photos([[0.1, 0.2, 0.5], [0.3, 0.2, 0.5]], [[0, 0, 1], [0, 1, 0]])
    families = {"plain": {"A": np.float32([0.2, 0.1, 0.0])}}
    block, _ = comparison.measure_families(models, photos, families, 0.3, 4)
    assert len(seen) == len(set(seen)) > 4 * comparison.CURVE_POINTS
    assert block["attributes"]["A"]["plain"]["reached"] == 1


def test_curves_are_compared_where_both_first_reach_the_change():
    own = comparison.Curve(np.array([0.0, 0.1, 0.4]), np.array([0.0, 0.05, 0.08]))
    bent = comparison.Curve(np.array([0.0, 0.3, 0.2, 0.35]), np.array([0.0, 0.2, 0.3, 0.9]))
    weak = comparison.Curve(np.array([0.0, 0.01, 0.02]), np.array([0.0, 0.2, 0.4]))
    none = comparison.Curve(np.array([0.0, -0.1, -0.3]), np.array([0.0, 0.2, 0.4]))
    # At 0.35: 0.05 + 0.03 * 5 / 6 to 0.9. At 0.02: 0.01 to 0.4.
    found = comparison.over_random(own, [bent, weak, none])
    assert found["n_over_random"] == 2
    assert found["leakage_over_random"] == pytest.approx((0.075 + 0.01) / (0.9 + 0.4))
    assert comparison.over_random(own, [none]) == {"leakage_over_random": None, "n_over_random": 0}


def test_rescoring_and_conditional_projection():
    models, photos, _, scaled = matched_families({"skew": {"A": [0.1, 0.1, -0.02]}})
    matrix = comparison.measure_rescoring(models, photos, scaled["skew"])
    assert matrix["A"] == pytest.approx({"A": 0.3, "B": 0.3, "C": -0.06}, rel=0.011)
    assert comparison.entangled_pairs(matrix, ("A", "B", "C")) == [("A", "B"), ("A", "C")]
    assert comparison.entangled_pairs(matrix, ("A", "C"), 1) == [("A", "C")]
    projected = np.float32([0.1, 0.0, -0.02])
    (entry,) = comparison.measure_projection(
        models, photos, {("A", "B"): (scaled["skew"]["A"], projected)}, 0.15
    )
    assert (entry["edited"], entry["preserved"], entry["n"]) == ("A", "B", 2)
    before, after = entry["before"], entry["after"]
    assert before["preserved_leakage"] == pytest.approx(0.15, rel=0.011)
    assert before["preserved_change"] == pytest.approx(0.15, rel=0.011)
    assert before["leakage"] == pytest.approx((0.15 + 0.03) / 2, rel=0.011)
    assert after["preserved_leakage"] == pytest.approx(0.0, abs=1e-6)
    assert after["leakage"] == pytest.approx(0.03 / 2, rel=0.011)
    assert before["reached"] and after["reached"] and entry["ratio"] == pytest.approx(0, abs=1e-6)


def test_cosines_by_hand():
    vectors = {"A": np.float32([2, 0, 0]), "B": np.float32([1, 1, 0]), "C": np.float32([0, 0, -3])}
    found = comparison.measure_cosines(vectors)
    root = 0.5**0.5
    assert found["A"] == pytest.approx({"A": 1.0, "B": root, "C": 0.0}, abs=1e-6)
    assert found["B"] == pytest.approx({"A": root, "B": 1.0, "C": 0.0}, abs=1e-6)
    assert found["C"] == pytest.approx({"A": 0.0, "B": 0.0, "C": 1.0}, abs=1e-6)
