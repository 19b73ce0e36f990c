"""Metrics of images, features and predictions: pure NumPy functions on arrays.

Features are `[N, D]`, images `[N, H, W, 3]` in [-1, 1]. All sums are float64, since a Frechet
distance is a small difference of large numbers.
"""

import numpy as np

PEAK = 2.0  # of an image in [-1, 1]: the distance between black and white
SSIM_SIDE = 11  # px, the window of structural similarity
SSIM_SIGMA = 1.5  # px


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Frechet distance between the normal distributions fitted to two sets of features.

    |mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2)), A and B the covariances (Heusel et al.
    2017, equation 6). The trace of the root comes from the eigenvalues of A^(1/2) B A^(1/2),
    which is symmetric and has the same ones as A B: real and non-negative, even if A is singular.

    Args:
        features_a: `[N, D]`, N at least 2.
        features_b: `[M, D]`, M at least 2.

    Returns:
        The distance, at least 0, in squared units of the features.

    Raises:
        ValueError: the shapes do not fit, or a feature is not finite.
    """
    a, b = _features(features_a, 2), _features(features_b, 2)
    _same_width(a, b)
    root = _square_root(np.cov(a, rowvar=False, ddof=1).reshape(a.shape[1], -1))
    covariance_b = np.cov(b, rowvar=False, ddof=1).reshape(b.shape[1], -1)
    product = root @ covariance_b @ root
    eigenvalues = np.linalg.eigvalsh((product + product.T) / 2)
    cross = np.sum(np.sqrt(np.maximum(eigenvalues, 0.0)))  # rounding can make a 0 negative
    means = np.sum(np.square(a.mean(axis=0) - b.mean(axis=0)))
    distance = means + np.sum(np.square(root)) + np.trace(covariance_b) - 2.0 * cross
    return float(max(distance, 0.0))


def kernel_distance(
    features_a: np.ndarray,
    features_b: np.ndarray,
    seed: int,
    subsets: int = 50,
    subset_size: int = 1000,
) -> tuple[float, float]:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, unbiased.

    The kernel inception distance of Binkowski et al. 2018 (section 4), on any features: the
    mean over random subsets, sampled without replacement from each side.

    Args:
        features_a: `[N, D]`.
        features_b: `[M, D]`.
        seed: of the subsets.
        subsets: their number.
        subset_size: rows of each side in one; at most N and M are taken.

    Returns:
        Mean and standard deviation over the subsets. The mean is about 0 for equal
        distributions, and can be negative.

    Raises:
        ValueError: the shapes do not fit, or a feature is not finite.
    """
    a, b = _features(features_a, 2), _features(features_b, 2)
    _same_width(a, b)
    size = min(subset_size, len(a), len(b))
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        x = a[generator.choice(len(a), size, replace=False)]
        y = b[generator.choice(len(b), size, replace=False)]
        kernels = _cubic_kernel(x, x), _cubic_kernel(y, y)
        within = sum(np.sum(kernel) - np.trace(kernel) for kernel in kernels)
        values.append(within / (size * (size - 1)) - 2.0 * np.mean(_cubic_kernel(x, y)))
    return float(np.mean(values)), float(np.std(values))


def precision_recall(
    reals: np.ndarray, fakes: np.ndarray, neighbors: int = 3, chunk: int = 1000
) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019, equations 1 and 2).

    Each set's manifold is the union of the balls around its points that reach to the
    `neighbors`-th nearest other point. Precision is the share of fakes within the reals'
    manifold, recall the share of reals within the fakes'.

    Args:
        reals: features `[N, D]`, N more than `neighbors`.
        fakes: features `[M, D]`, M more than `neighbors`; recall grows with M, so only
            figures of equal N and M are comparable.
        neighbors: k of the paper.
        chunk: rows of the distance matrix that are in memory at once.

    Returns:
        Precision and recall, each in [0, 1].

    Raises:
        ValueError: the shapes do not fit, or a feature is not finite.
    """
    a, b = _features(reals, neighbors + 1), _features(fakes, neighbors + 1)
    _same_width(a, b)
    return _within(b, a, neighbors, chunk), _within(a, b, neighbors, chunk)


def bootstrap_means(values: np.ndarray, seed: int, draws: int = 1000) -> np.ndarray:
    """Means of rows resampled with replacement (the bootstrap, Efron 1979).

    Equal `seed`, `draws` and number of rows give the same resamples, so that a ratio of two
    results is that of one resample.

    Args:
        values: `[N]` or `[N, D]`, N at least 1; NaN is ignored in its column's means.
        seed: of the resampling.
        draws: number of resamples.

    Returns:
        float64 `[draws]` or `[draws, D]`; NaN where a resample has no value.
    """
    values = np.asarray(values, np.float64)
    rows = len(values)
    counts = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=draws)
    known = ~np.isnan(values)
    total = counts @ np.where(known, values, 0.0)
    weight = counts @ known.astype(np.float64)
    return np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)


def interval(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The interval with equal tails that contains `level` of the draws `[M]`; NaN is ignored."""
    low, high = np.nanpercentile(draws, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def edit_change(
    before: np.ndarray, after: np.ndarray, column: int
) -> tuple[np.ndarray, np.ndarray]:
    """The change of each image's predictions by an edit of one attribute.

    Args:
        before: probabilities `[N, K]`.
        after: as `before`, of the edited images.
        column: of the attribute.

    Returns:
        the attribute's change `[N]`, and the mean |change| of the others, the leakage, `[N]`;
        NaN where there is no other attribute.
    """
    change = after - before
    return change[:, column], mean_of_others(np.abs(change), column)


def mean_of_others(values: np.ndarray, column: int) -> np.ndarray:
    """Means `[...]` over the last axis of `[..., K]` without one column; NaN if K is 1."""
    others = np.delete(values, column, axis=-1)
    return others.mean(axis=-1) if others.shape[-1] else np.full(others.shape[:-1], np.nan)


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each image, 10 log10(2^2 / MSE), in dB.

    Args:
        a: images `[N, H, W, 3]` in [-1, 1].
        b: as `a`.

    Returns:
        float64 `[N]`; infinite where the images are equal.
    """
    a, b = _images(a, b)
    error = np.mean(np.square(a - b), axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(PEAK**2 / error)


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity of each image (Wang et al. 2004), the mean over windows and channels.

    Gaussian windows of 11 x 11 px, sigma 1.5 px, entirely within the image; K1 = 0.01,
    K2 = 0.03; each color channel by itself.

    Args:
        a: images `[N, H, W, 3]` in [-1, 1], H and W at least 11.
        b: as `a`.

    Returns:
        float64 `[N]`, at most 1; 1 where the images are equal.
    """
    a, b = _images(a, b)
    if min(a.shape[1:3]) < SSIM_SIDE:
        raise ValueError(f"images of {a.shape[1:3]} px: at least {SSIM_SIDE} px a side needed")
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a**2
    variance_b = _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return np.mean(luminance * structure, axis=(1, 2, 3))


def cosine(features_a: np.ndarray, features_b: np.ndarray) -> np.ndarray:
    """Cosine of the angle between the rows of two `[N, D]` arrays, float64 `[N]`.

    Raises:
        ValueError: the shapes differ, or a row is 0 and has no direction.
    """
    a, b = np.asarray(features_a, np.float64), np.asarray(features_b, np.float64)
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"features of shapes {a.shape} and {b.shape}: two equal [N, D] needed")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    if not np.all(lengths > 0):
        raise ValueError("a row of features is 0 or not finite: it has no direction")
    return np.sum(a * b, axis=1) / lengths


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a_i - b_j|^2 for all rows of `[N, D]` and `[M, D]`, by one matrix product.

    Returns:
        `[N, M]` in the type of the rows, at least 0.
    """
    squares = np.einsum("nd,nd->n", a, a)[:, None] + np.einsum("md,md->m", b, b)[None, :]
    return np.maximum(squares - 2.0 * (a @ b.T), 0.0)


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of decisions at 0.5 that agree with the label, by attribute.

    Args:
        probabilities: `[N, K]` in [0, 1].
        labels: `[N, K]`, 0 or 1.

    Returns:
        float64 `[K]`.
    """
    return np.mean((probabilities > 0.5) == (labels > 0.5), axis=0)


def balanced_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean of the shares of correct positives and of correct negatives, by attribute.

    Args:
        probabilities: `[N, K]` in [0, 1].
        labels: `[N, K]`, 0 or 1.

    Returns:
        float64 `[K]`; NaN where the labels contain one class only.
    """
    correct, positive = (probabilities > 0.5) == (labels > 0.5), labels > 0.5
    with np.errstate(invalid="ignore"):
        of_positives = np.sum(correct & positive, axis=0) / np.sum(positive, axis=0)
        of_negatives = np.sum(correct & ~positive, axis=0) / np.sum(~positive, axis=0)
    return (of_positives + of_negatives) / 2


def _features(features: np.ndarray, fewest: int) -> np.ndarray:
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or len(features) < fewest:
        raise ValueError(f"features of shape {features.shape}: [N, D] with N >= {fewest} needed")
    if not np.all(np.isfinite(features)):
        raise ValueError("features that are not finite")
    return features


def _same_width(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features of {a.shape[1]} and {b.shape[1]} columns cannot be compared")


def _images(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(f"images of shapes {a.shape} and {b.shape}: two equal [N, H, W, 3] needed")
    return a, b


def _square_root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive semidefinite matrix."""
    eigenvalues, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(eigenvalues, 0.0))) @ vectors.T


def _cubic_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    values = x @ y.T / x.shape[1] + 1.0
    return values * values * values  # NumPy's ** 3 takes twenty times as long


def _within(points: np.ndarray, manifold: np.ndarray, neighbors: int, chunk: int) -> float:
    """Share of the points that lie within the manifold."""
    radii = []
    for start in range(0, len(manifold), chunk):
        distances = squared_distances(manifold[start : start + chunk], manifold)
        # A point's distance to itself, 0, comes first in its sorted row: index k is the k-th other.
        radii.append(np.partition(distances, neighbors, axis=1)[:, neighbors])
    radius = np.concatenate(radii)
    inside = [
        np.any(squared_distances(points[start : start + chunk], manifold) <= radius, axis=1)
        for start in range(0, len(points), chunk)
    ]
    return float(np.mean(np.concatenate(inside)))


def _blur(images: np.ndarray) -> np.ndarray:
    """Gaussian mean of every window within the image, as two passes of shifted sums."""
    offsets = np.arange(SSIM_SIDE) - SSIM_SIDE // 2
    kernel = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    kernel /= kernel.sum()
    for axis in (1, 2):
        length = images.shape[axis] - SSIM_SIDE + 1
        images = sum(
            weight * np.take(images, np.arange(start, start + length), axis=axis)
            for start, weight in enumerate(kernel)
        )
    return images
