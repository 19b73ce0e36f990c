"""What to edit: a strength or a target prediction for each attribute.

A strength is the same for every face. A target is a value that the regressor R shall predict after
the edit; the strength that achieves it differs from face to face, and `strengths` searches it.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from cgan_tf.editing import strengths as search
from cgan_tf.editing.errors import EditorError

if TYPE_CHECKING:  # importing it would start TensorFlow
    from cgan_tf.editing.backends import Backend


@dataclasses.dataclass(frozen=True)
class EditRequest:
    """Strengths and targets by attribute.

    Attributes:
        strengths: {attribute: strength}; +1 is one calibrated step.
        targets: {attribute: value that R shall predict}, in [0, 1].
    """

    strengths: Mapping[str, float]
    targets: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def check(self) -> None:
        """Checks what does not depend on the model.

        Raises:
            EditorError: no attribute at all, a strength that is no finite float32, a target outside
                [0, 1], or an attribute with both.
        """
        if not self.strengths and not self.targets:
            raise EditorError("strengths", "no attribute to edit; give a strength, as Smiling=+1")
        for name, strength in self.strengths.items():
            _check_number("strengths", "strength", name, strength)
            if abs(strength) > float(np.finfo(np.float32).max):
                reason = "too large for a float32; give a smaller number"
                raise EditorError("strengths", reason, f"{name}={strength:g}")
        for name, target in self.targets.items():
            _check_number("target", "target", name, target)
            if not 0 <= target <= 1:
                reason = f"{name}'s value is {target:g}; give one from 0, absent, to 1, present"
                raise EditorError("target", reason, f"{name}={target:g}")
            if name in self.strengths:
                reason = (
                    f"{name} also has the strength {self.strengths[name]:g}, which contradicts the "
                    "target; give one of the two"
                )
                raise EditorError("target", reason, f"{name}={target:g}")

    def check_names(self, attributes: Sequence[str]) -> None:
        """Raises an EditorError for an attribute that the model has no direction for."""
        for argument, names in (("strengths", self.strengths), ("target", self.targets)):
            for name in names:
                if name not in attributes:
                    reason = (
                        f"unknown attribute{_closest(name, attributes)}; the model has "
                        f"{', '.join(attributes)}"
                    )
                    raise EditorError(argument, reason, name)

    def vector(self, attributes: Sequence[str]) -> np.ndarray:
        """The strengths, float32 `[K]` in the order of the model's attributes; others are 0."""
        return np.float32([self.strengths.get(name, 0.0) for name in attributes])

    def resolve(
        self, backend: "Backend", render: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, str]:
        """The strengths for one face, float32 `[K]`, and a description of the edit.

        Args:
            backend: with its scores if there are targets.
            render: the edited images `[n, R, R, 3]` of the face for strengths `[n, K]`.
        """
        words = [f"{name} {strength:+g}" for name, strength in self.strengths.items()]
        vector = self.vector(backend.attributes)
        if not self.targets:
            return vector, ", ".join(words)
        columns = [backend.attributes.index(name) for name in self.targets]
        predict = search.predictor(backend, tuple(self.targets), lambda _, rows: render(rows))
        targets = list(self.targets.values())
        found = search.search(predict, np.arange(1), vector, columns, targets)
        for index, (name, target) in enumerate(self.targets.items()):
            value, met = found.values[0, index], found.hit[0, index]
            missed = "" if met else f", the closest to {target:.2f}"
            strength = found.strengths[0, columns[index]]
            words.append(f"{name} {value:.2f}{missed} (strength {strength:+.2f})")
        return found.strengths[0], ", ".join(words)


def _check_number(argument: str, noun: str, name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        reason = f"the {noun} is no number; give one, as {name}=1"
        raise EditorError(argument, reason, f"{name}={value!r}")
    if not math.isfinite(value):
        raise EditorError(argument, f"the {noun} must be finite", f"{name}={value:g}")


def _closest(name: str, attributes: Sequence[str]) -> str:
    lowered = {known.lower(): known for known in attributes}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f" (did you mean {lowered[near[0]]}?)" if near else ""
