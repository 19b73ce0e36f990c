"""The line with which a call refuses its arguments."""

from collections.abc import Callable
from typing import Any

import pytest

from cgan_tf.core.errors import UserError


def message(call: Callable, *arguments: Any, **options: Any) -> str:
    """The one line of the UserError that the call raises."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
