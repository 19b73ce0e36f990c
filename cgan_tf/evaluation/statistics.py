"""Means, intervals and ratios that JSON can hold."""

from collections.abc import Callable
from typing import Any

import numpy as np

from cgan_tf.evaluation import metrics

Numbers = dict[str, Any]


# ---- numbers that JSON can hold ----------------------------------------------------------------


def number(value: Any) -> float | None:
    """A plain float, or None for what has no value."""
    value = float(value)
    return value if np.isfinite(value) else None


def mean(values: Any) -> float | None:
    """Mean of the values that are numbers; None if there are none."""
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    return number(values.mean()) if values.size else None


def estimate(
    values: np.ndarray, seed: int, transform: Callable[[np.ndarray], np.ndarray] | None = None
) -> tuple[float | None, list[float] | None]:
    """A mean over photos and its 95 % interval by bootstrap over the photos.

    Args:
        values: `[N]`, or `[N, D]` of D directions, whose figures are averaged; NaN is left out.
        seed: of the bootstrap.
        transform: of each direction's mean before they are averaged, as its size.

    Returns:
        the figure and the interval's ends; None and None where there is no value.
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
    # A draw that has no value for one direction has none at all.
    return number(means.mean()), list(metrics.interval(draws.mean(axis=1)))


def ratio(above: float | None, below: float | None) -> float | None:
    """above / below, or None where it has no value."""
    return None if above is None or not below else number(above / below)
