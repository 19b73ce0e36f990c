"""cgan_tf.metrics: every formula against values that can be worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from cgan_tf.evaluation import metrics


def points(mean, covariance, count=4):
    """Points whose sample mean and covariance (ddof 1) are exactly those given."""
    mean, covariance = np.asarray(mean, float), np.asarray(covariance, float)
    width = len(mean)
    raw = np.random.default_rng(0).standard_normal((count * width, width))
    raw -= raw.mean(axis=0)
    raw = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False).reshape(width, width))).T
    return raw @ np.linalg.cholesky(covariance).T + mean


# ---- Frechet distance --------------------------------------------------------------------------


def test_frechet_distance_of_a_set_to_itself_is_zero():
    features = np.random.default_rng(1).standard_normal((50, 8)) * 30 + 5
    assert metrics.frechet_distance(features, features) == pytest.approx(0.0, abs=1e-8)


def test_frechet_distance_of_shifted_sets_is_the_squared_shift():
    features = np.random.default_rng(1).standard_normal((50, 3))
    assert metrics.frechet_distance(features, features + [1.0, 2.0, -2.0]) == pytest.approx(9.0)


def test_frechet_distance_in_one_dimension():
    # (m1 - m2)^2 + (s1 - s2)^2 with standard deviations 2 and 5.
    a, b = points([1.0], [[4.0]]), points([4.0], [[25.0]])
    assert metrics.frechet_distance(a, b) == pytest.approx(9.0 + 9.0)


def test_frechet_distance_of_diagonal_covariances():
    a, b = points([0, 0], np.diag([1.0, 9.0])), points([3, 4], np.diag([4.0, 16.0]))
    assert metrics.frechet_distance(a, b) == pytest.approx(25.0 + 1.0 + 1.0)


def test_frechet_distance_where_the_covariances_do_not_commute():
    first, second = [[2.0, 1.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 4.0]]
    # trace sqrt(M) of a 2 x 2 matrix is sqrt(trace M + 2 sqrt(det M)).
    product = np.array(first) @ np.array(second)
    cross = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    a, b = points([0, 0], first), points([0, 0], second)
    assert metrics.frechet_distance(a, b) == pytest.approx(4.0 + 5.0 - 2 * cross)


def test_frechet_distance_is_symmetric_and_stands_a_singular_covariance():
    random = np.random.default_rng(2)
    a, b = random.standard_normal((30, 40)), random.standard_normal((35, 40)) * 2
    a[:, 5] = 0.0
    there, back = metrics.frechet_distance(a, b), metrics.frechet_distance(b, a)
    assert there == pytest.approx(back, rel=1e-6)
    assert there > 1.0


@pytest.mark.parametrize(
    "a, b",
    [
        (np.zeros((5, 3)), np.zeros((5, 4))),
        (np.zeros((1, 3)), np.zeros((5, 3))),
        (np.zeros(5), np.zeros((5, 1))),
        (np.full((5, 3), np.nan), np.zeros((5, 3))),
    ],
)
def test_bad_features_are_refused(a, b):
    with pytest.raises(ValueError):
        metrics.frechet_distance(a, b)
    with pytest.raises(ValueError):
        metrics.kernel_distance(a, b, seed=0)


# ---- kernel distance ---------------------------------------------------------------------------


def test_kernel_distance_by_hand():
    a, b = np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])
    # k(x, y) = (x y + 1)^3: within a k(0, 1) = 1, within b k(2, 3) = 343,
    # across 1, 1, 27, 64.
    mean, deviation = metrics.kernel_distance(a, b, seed=0, subsets=3)
    assert mean == pytest.approx(1.0 + 343.0 - 2 * (1 + 1 + 27 + 64) / 4)
    assert deviation == pytest.approx(0.0, abs=1e-9)


def test_kernel_distance_is_without_bias():
    random = np.random.default_rng(3)
    a, b = random.standard_normal((2, 600, 4))
    mean, _ = metrics.kernel_distance(a, b, seed=0, subsets=200, subset_size=50)
    biased = metrics.kernel_distance(a, b + 0.5, seed=0, subsets=200, subset_size=50)[0]
    assert abs(mean) < 0.02
    assert biased > 0.2


def test_kernel_distance_depends_on_the_seed_alone():
    a, b = np.random.default_rng(4).standard_normal((2, 80, 4))
    first = metrics.kernel_distance(a, b, seed=5, subsets=4, subset_size=20)
    assert metrics.kernel_distance(a, b, seed=5, subsets=4, subset_size=20) == first
    assert metrics.kernel_distance(a, b, seed=6, subsets=4, subset_size=20) != first


# ---- precision and recall ----------------------------------------------------------------------


def test_precision_and_recall_on_a_line():
    reals = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]])
    # Third nearest others of the reals: 3, 2, 2, 2, 3. All five reals cover [-3, 7].
    # Fakes: 3 of 5 inside. Third nearest others of the fakes: 5.5, 5, 4.5, 95.5, 193:
    # the ball of 101 (radius 95.5) and that of 200 (193) hold every real.
    fakes = np.array([[1.5], [2.0], [2.5], [7.0 + 0.001], [100.0]])
    precision, recall = metrics.precision_recall(reals, fakes)
    assert precision == pytest.approx(0.6)
    assert recall == pytest.approx(1.0)


def test_precision_without_recall():
    random = np.random.default_rng(5)
    reals = random.uniform(-10, 10, (400, 2))
    fakes = random.normal(0, 0.01, (400, 2))  # one spot in the middle of the reals
    precision, recall = metrics.precision_recall(reals, fakes)
    assert precision == 1.0
    assert recall == pytest.approx(0.0, abs=0.01)


def test_precision_and_recall_of_far_sets_are_zero_and_of_equal_sets_one():
    features = np.random.default_rng(6).standard_normal((50, 4))
    assert metrics.precision_recall(features, features) == (1.0, 1.0)
    assert metrics.precision_recall(features, features + 1000.0) == (0.0, 0.0)


def test_precision_and_recall_do_not_depend_on_the_chunk():
    reals, fakes = np.random.default_rng(7).standard_normal((2, 53, 4)) * [[[1.0]], [[1.6]]]
    expected = metrics.precision_recall(reals, fakes)
    assert 0.0 < expected[0] < 1.0
    assert metrics.precision_recall(reals, fakes, chunk=7) == expected


def test_squared_distances():
    a, b = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    expected = [[0.0, 9.0, 16.0], [25.0, 16.0, 9.0]]
    np.testing.assert_allclose(metrics.squared_distances(a, b), expected)


# ---- images ------------------------------------------------------------------------------------


def test_psnr_by_hand():
    black = np.full((3, 4, 4, 3), -1.0)
    other = np.stack([black[0] + 2.0, black[0] + 0.2, black[0]])
    np.testing.assert_allclose(metrics.psnr(black, other), [0.0, 20.0, np.inf], atol=1e-12)


def test_psnr_and_ssim_agree_with_tensorflow():
    random = np.random.default_rng(8)
    a = random.uniform(-1, 1, (3, 32, 24, 3)).astype(np.float32)
    b = np.clip(a + random.normal(0, [[[[0.1]]], [[[0.4]]], [[[1.0]]]], a.shape), -1, 1)
    b = b.astype(np.float32)
    np.testing.assert_allclose(metrics.psnr(a, b), tf.image.psnr(a, b, 2.0).numpy(), rtol=1e-5)
    ours = metrics.ssim(a, b)
    np.testing.assert_allclose(ours, tf.image.ssim(a, b, 2.0).numpy(), rtol=1e-4)
    assert ours[0] > ours[1] > ours[2]


def test_ssim_of_constant_images_is_the_luminance_term():
    a, b = np.full((1, 16, 16, 3), 0.5), np.full((1, 16, 16, 3), -0.25)
    c1 = (0.01 * 2) ** 2
    expected = (2 * 0.5 * -0.25 + c1) / (0.5**2 + 0.25**2 + c1)
    np.testing.assert_allclose(metrics.ssim(a, b), [expected])
    np.testing.assert_allclose(metrics.ssim(a, a), [1.0])


def test_images_that_do_not_compare_are_refused():
    image = np.zeros((1, 16, 16, 3))
    with pytest.raises(ValueError):
        metrics.psnr(image, np.zeros((2, 16, 16, 3)))
    with pytest.raises(ValueError):
        metrics.ssim(image[0], image[0])
    with pytest.raises(ValueError, match="at least 11 px"):
        metrics.ssim(image[:, :10], image[:, :10])


# ---- features and labels -----------------------------------------------------------------------


def test_cosine_by_hand():
    a = np.array([[1.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    b = np.array([[0.0, 3.0], [-2.0, -2.0], [1.0, 1.0]])
    np.testing.assert_allclose(metrics.cosine(a, b), [0.0, -1.0, 0.5**0.5], atol=1e-12)


def test_cosine_of_no_direction_is_refused():
    with pytest.raises(ValueError, match="no direction"):
        metrics.cosine(np.zeros((1, 3)), np.ones((1, 3)))
    with pytest.raises(ValueError):
        metrics.cosine(np.ones((1, 3)), np.ones((2, 3)))


def test_accuracies_by_hand():
    labels = np.array([[1, 0], [1, 0], [0, 0], [0, 0]], np.float32)
    scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.4], [0.5, 0.3]])
    np.testing.assert_allclose(metrics.accuracy(scores, labels), [0.75, 0.75])
    balanced = metrics.balanced_accuracy(scores, labels)
    assert balanced[0] == pytest.approx((1 / 2 + 2 / 2) / 2)
    assert np.isnan(balanced[1])


# ---- bootstrap ---------------------------------------------------------------------------------


def test_bootstrap_interval_of_a_share_is_the_binomial_one():
    values = np.repeat([1.0, 0.0], [100, 300])
    draws = metrics.bootstrap_means(values, seed=0)
    low, high = metrics.interval(draws)
    spread = (0.25 * 0.75 / 400) ** 0.5
    assert draws.shape == (1000,)
    assert draws.std() == pytest.approx(spread, rel=0.08)
    assert (high - low) / 2 == pytest.approx(1.96 * spread, rel=0.1)
    assert (high + low) / 2 == pytest.approx(0.25, abs=0.005)


def test_bootstrap_draws_the_same_rows_for_the_same_seed():
    values = np.random.default_rng(3).standard_normal((50, 2))
    draws = metrics.bootstrap_means(values, seed=1)
    np.testing.assert_allclose(draws, metrics.bootstrap_means(values, seed=1))
    for column in range(2):
        alone = metrics.bootstrap_means(values[:, column], seed=1)
        np.testing.assert_allclose(draws[:, column], alone)
    assert not np.allclose(draws, metrics.bootstrap_means(values, seed=2))


def test_bootstrap_leaves_out_what_has_no_value():
    draws = metrics.bootstrap_means(np.array([2.0, np.nan]), seed=0, draws=200)
    # Of two rows, a quarter of the draws takes the second one twice.
    assert np.isnan(draws).mean() == pytest.approx(0.25, abs=0.1)
    assert set(draws[~np.isnan(draws)]) == {2.0}
    assert metrics.interval(draws) == (2.0, 2.0)


def test_interval_has_equal_tails():
    assert metrics.interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
    assert metrics.interval(np.arange(1001.0), 0.5) == pytest.approx((250.0, 750.0))
