"""Hyperplanes of attributes and conditional projection, against known answers."""

import numpy as np
import pytest
from linear_models import SLOPES, LinearRegressor, TransparentGenerator, cosine

from cgan_tf.core.errors import UserError
from cgan_tf.evaluation import hyperplane
from cgan_tf.evaluation.hyperplane import find_hyperplane
from cgan_tf.evaluation.scores import LabelledSamples, label_samples


def test_samples_and_their_labels_are_seeded():
    samples = label_samples(
        TransparentGenerator(), LinearRegressor(), 230, seed=4
    )  # with a partial batch
    assert samples.latents.shape == (230, 8) and samples.scores.shape == (230, 3)
    expected = 1 / (1 + np.exp(-samples.latents @ SLOPES))
    np.testing.assert_allclose(samples.scores, expected, atol=1e-6)
    again = label_samples(TransparentGenerator(), LinearRegressor(), 230, seed=4)
    np.testing.assert_array_equal(samples.latents, again.latents)
    other = label_samples(TransparentGenerator(), LinearRegressor(), 230, seed=5)
    assert not np.allclose(samples.latents, other.latents)


# With coordinates of different spread, the normal of standardized coordinates would differ.
@pytest.mark.parametrize("spread", [1.0, np.geomspace(0.3, 3.0, 8)])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_the_hyperplane_of_a_linear_attribute_has_its_normal(spread, column):
    samples = label_samples(TransparentGenerator(spread=spread), LinearRegressor(), 5000, seed=1)
    normal, counts = find_hyperplane(samples, column, "A")
    assert normal.shape == (8,) and normal.dtype == np.float32
    assert np.linalg.norm(normal) == pytest.approx(1.0, abs=1e-6)
    assert cosine(normal, SLOPES[:, column]) > 0.98
    assert counts == {"positive": 500, "negative": 500}


def test_the_hyperplane_of_latents_with_layers_keeps_their_shape():
    generator, slopes = TransparentGenerator((2, 4)), SLOPES[:, :1]
    samples = label_samples(generator, LinearRegressor(slopes), 3000, seed=1)
    normal, _ = find_hyperplane(samples, 0, "A")
    assert normal.shape == (2, 4)
    assert cosine(normal, slopes) > 0.98


def test_only_the_most_confident_samples_of_each_class_count():
    latents = np.linspace(-1, 1, 1000, dtype=np.float32)[:, None]
    latents = np.concatenate([latents, np.zeros_like(latents)], axis=1)
    # The other samples would rotate the plane.
    latents[100:900, 1] = 50 * np.sign(latents[100:900, 0])
    scores = np.linspace(0, 1, 1000, dtype=np.float32)[:, None]
    normal, _ = find_hyperplane(LabelledSamples(latents, scores), 0, "A")
    np.testing.assert_allclose(normal, [1.0, 0.0], atol=1e-6)


def test_all_samples_of_a_rare_attribute_are_used():
    latents = np.random.default_rng(0).standard_normal((1000, 3)).astype(np.float32)
    scores = np.full((1000, 1), 0.2, np.float32)
    scores[300:360] = 0.7
    _, counts = find_hyperplane(LabelledSamples(latents, scores), 0, "A")
    assert counts == {"positive": 60, "negative": 100}


@pytest.mark.parametrize("most, which, few", [(0.9, "without", 0.4), (0.2, "with", 0.8)])
def test_too_few_samples_of_one_class_is_one_line(most, which, few):
    scores = np.full((1000, 1), most, np.float32)
    scores[:49] = few
    samples = LabelledSamples(np.ones((1000, 3), np.float32), scores)
    with pytest.raises(UserError) as caught:
        find_hyperplane(samples, 0, "Bald")
    assert str(caught.value) == (
        f"--directions_samples=1000: the regressor finds only 49 samples {which} Bald, and a "
        "hyperplane needs 50; raise the number, or leave Bald out"
    )


# Conditional projection.


@pytest.mark.parametrize("shape", [(8,), (2, 4)])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_projected_direction_crosses_no_plane_of_its_conditions_and_keeps_its_length(
    shape, count
):
    draw = np.random.default_rng(count)
    vector = draw.standard_normal(shape)
    vector *= 2.5 / np.linalg.norm(vector)
    normals = {f"B{k}": draw.standard_normal(shape) for k in range(count)}
    projected = hyperplane.project_out("A", vector, normals)
    assert projected.shape == shape and projected.dtype == np.float32
    assert np.linalg.norm(projected) == pytest.approx(2.5, rel=1e-6)
    for normal in normals.values():
        assert cosine(projected, normal) == pytest.approx(0.0, abs=1e-6)


def test_projection_by_hand():
    # (3, 4, 12) is projected onto the third axis: two skew normals span the first two axes.
    normals = {"B": np.array([1.0, 0.0, 0.0]), "C": np.array([5.0, 2.0, 0.0])}
    np.testing.assert_allclose(
        hyperplane.project_out("A", np.array([3.0, 4.0, 12.0]), normals), [0, 0, 13], atol=1e-5
    )
    normals = {"B": np.array([0.0, 2.0, 0.0])}
    unit = hyperplane.project_out("A", np.array([0.6, 0.8, 0.0]), normals)
    np.testing.assert_allclose(unit, [1, 0, 0], atol=1e-6)


def test_parallel_conditions_are_one():
    normals = {"B": np.array([1.0, 0.0, 0.0]), "C": np.array([-2.0, 0.0, 0.0])}
    projected = hyperplane.project_out("A", np.array([1.0, 1.0, 0.0]), normals)
    np.testing.assert_allclose(projected, [0, 2**0.5, 0], atol=1e-6)


def test_a_direction_in_the_span_of_its_conditions_is_refused():
    normals = {"B": np.array([1.0, 0.0, 0.0]), "C": np.array([0.0, 1.0, 0.0])}
    with pytest.raises(UserError) as caught:
        hyperplane.project_out("A", np.array([2.0, -3.0, 0.0]), normals)
    assert str(caught.value) == (
        "--directions_condition=A:B+C: nothing is left of the direction under these conditions; "
        "preserve fewer attributes"
    )


def test_cosines_by_hand():
    vectors = np.array([[3.0, 0.0], [1.0, 1.0], [0.0, -2.0]])
    half = 2**-0.5
    np.testing.assert_allclose(
        hyperplane.cosines(vectors), [[1, half, 0], [half, 1, -half], [0, -half, 1]], atol=1e-12
    )
