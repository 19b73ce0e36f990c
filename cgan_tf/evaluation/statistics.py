"""Means, intervals and ratios as numbers that JSON can represent."""

from collections.abc import Callable
from typing import Any

import numpy as np

from cgan_tf.evaluation import metrics

Numbers = dict[str, Any]


def number(value: Any) -> float | None:
    """A plain float, or None for one that is not finite."""
    value = float(value)
    return value if np.isfinite(value) else None


def mean(values: Any) -> float | None:
    """Mean of the values, ignoring NaN; None if there are none."""
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    return number(values.mean()) if values.size else None


def estimate(
    values: np.ndarray, seed: int, transform: Callable[[np.ndarray], np.ndarray] | None = None
) -> tuple[float | None, list[float] | None]:
    """A mean over photos and its 95 % interval by bootstrap over the photos.

    Args:
        values: `[N]`, or `[N, D]` of D directions, whose means are averaged; NaN is ignored.
        seed: of the bootstrap.
        transform: applied to each direction's mean before averaging, e.g. the absolute value.

    Returns:
        the mean and the ends of the interval; None and None where there is no value.
    """
    if not len(values):
        return None, None
    values = np.asarray(values, np.float64).reshape(len(values), -1)
    values = values[:, ~np.isnan(values).all(axis=0)]
    if not values.size:
        return None, None
    means, draws = np.nanmean(values, axis=0), metrics.bootstrap_means(values, seed)
    if transform:
        means, draws = transform(means), transform(draws)
    # A resample without a value for one direction has no value at all.
    return number(means.mean()), list(metrics.interval(draws.mean(axis=1)))


def ratio(above: float | None, below: float | None) -> float | None:
    """above / below, or None where that is undefined."""
    return None if above is None or not below else number(above / below)
