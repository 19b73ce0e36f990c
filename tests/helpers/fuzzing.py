"""Runs a check on many generated cases, the same ones each time.

A case ends in a result or in the project's own error; anything else fails, and hypothesis prints
the arguments of that case ("Falsifying example"). `check(seed=...)` with them repeats it.
"""

from collections.abc import Callable

import hypothesis
import pytest
from hypothesis import strategies

SEEDS = strategies.integers(0, 2**48)


def budget(fast: int, slow: int) -> pytest.MarkDecorator:
    """Gives a test the argument `count`: `fast` cases in `make test`, `slow` in `make test-slow`.

    Without fast cases it is a slow test only.
    """
    counts = [pytest.param(slow, marks=pytest.mark.slow)]
    return pytest.mark.parametrize("count", [fast, *counts] if fast else counts)


def run(check: Callable[..., None], count: int, **arguments: strategies.SearchStrategy) -> None:
    """Calls the check with `count` different arguments; by default with seeds."""
    settings = hypothesis.settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.generate,),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    settings(hypothesis.given(**(arguments or {"seed": SEEDS}))(check))()
