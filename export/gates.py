"""Edit parity: whether the edits of an exported model have the same effect as Keras's.

The export's second check, after `export.parity`: a variant can be close in every pixel and still
lose part of a smile. As in the evaluate stage, photos that lack an attribute are edited by +1, once
by Keras and once by the variant, each from its own codes. Both are scored by the run's judge, or,
if the evaluate stage has not trained one, by the regressor, which the directions were learned with.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from cgan_tf.core import artifact
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import ImageData
from cgan_tf.editing.backends import Backend
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.evaluation import metrics
from cgan_tf.evaluation.batching import batched, compiled
from cgan_tf.export import parity
from cgan_tf.networks.judge import Judge
from cgan_tf.stages import judge

KEPT = 0.95  # minimum share of Keras's change in the target attribute
CHANGE_SLACK = 1e-3  # in probability; for a change near 0 a share means nothing
LEAKAGE_ADDED = 0.01  # maximum mean |change| of the other attributes beyond Keras's
AGREEMENT = 0.98  # minimum share of predictions on the same side of 0.5


@dataclasses.dataclass(frozen=True)
class Scorer:
    """The network that scores the edits."""

    name: str  # "judge" or "regressor"
    attributes: tuple[str, ...]  # L names, in the order of the scores
    score: Callable[[np.ndarray], np.ndarray]  # images -> float32 [N, L] in [0, 1]


def load_scorer(folder: RunFolder, network: EditingNetwork) -> Scorer:
    """The run's judge, or the regressor if there is no judge yet."""
    shape = (network.resolution, network.resolution, 3)
    place = folder.stage("evaluate").path / judge.FOLDER
    if (place / "weights.h5").exists():
        model = artifact.load_model(Judge, place)
        score = compiled(lambda image: model.features_and_probabilities(image)[1], shape)
        return Scorer("judge", model.attribute_names, score)
    names = network.regressor.attribute_names
    return Scorer("regressor", names, compiled(network.score, shape))


class Edits:
    """Edits by +1 of the photos that lack each attribute, and their scores with Keras.

    Args:
        scorer: scores the edited images.
        reference: the Keras backend.
        dataset: has the labels. An attribute without labels (a custom attribute), or unknown to
            the scorer, is not measured.
        chosen: indices of the photos.
        image: these photos, float32 `[N, R, R, 3]` in [-1, 1].
    """

    def __init__(
        self,
        scorer: Scorer,
        reference: Backend,
        dataset: ImageData,
        chosen: np.ndarray,
        image: np.ndarray,
    ) -> None:
        self.scorer = scorer
        self.image = image
        known = set(scorer.attributes) & set(dataset.attribute_names)
        labels = dict(zip(dataset.attribute_names, dataset.labels[chosen].T, strict=True))
        self.rows = {
            name: np.flatnonzero(labels[name] < 0.5)
            for name in reference.attributes
            if name in known and (labels[name] < 0.5).any()
        }
        self.unmeasured = [name for name in reference.attributes if name not in self.rows]
        self._before, self._after = self._scores(reference)

    def measure(self, backend: Backend) -> dict[str, Any]:
        """The figures for `verdict`, as plain JSON values.

        Per attribute: n, the change in the target and the leakage, the same for Keras, `kept`, the
        ratio of the two changes (None where Keras's is below 0.01), and `leakage_added`; the
        leakages are None where the scorer knows no other attribute.
        `agreement` is the share of all predictions on edited photos that are on the same side of
        0.5 as Keras's.
        """
        before, after = self._scores(backend)
        attributes, same = {}, []
        for name in self.rows:
            exported = self._figures(name, before, after)
            keras = self._figures(name, self._before, self._after)
            change, expected = exported["target_change"], keras["target_change"]
            attributes[name] = {
                "n": len(self.rows[name]),
                **exported,
                **{f"{key}_keras": value for key, value in keras.items()},
                "kept": change / expected if abs(expected) >= 0.01 else None,
                "leakage_added": (
                    None if keras["leakage"] is None else exported["leakage"] - keras["leakage"]
                ),
            }
            same.append((after[name] > 0.5) == (self._after[name] > 0.5))
        return {
            "scorer": self.scorer.name,
            "strength": 1.0,
            "attributes": attributes,
            "agreement": float(np.concatenate(same).mean()) if same else None,
            "predictions": sum(part.size for part in same),
            "unmeasured": self.unmeasured,
        }

    def _scores(self, backend: Backend) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Scores `[N, L]` of the reconstructions, and `[n, L]` of the edits of each attribute."""
        code = parity.run_batched(backend, "encode", {"image": self.image})
        count = len(backend.attributes)

        def score(rows: np.ndarray, strengths: np.ndarray) -> np.ndarray:
            given = np.repeat(np.float32(strengths)[None], len(rows), axis=0)
            inputs = {name: value[rows] for name, value in code.items()} | {"strengths": given}
            edited = parity.run_batched(backend, "generate", inputs)["image"]
            return batched(self.scorer.score, edited)

        one_hot = dict(zip(backend.attributes, np.eye(count), strict=True))
        before = score(np.arange(len(self.image)), np.zeros(count))
        return before, {name: score(rows, one_hot[name]) for name, rows in self.rows.items()}

    def _figures(
        self, name: str, before: np.ndarray, after: dict[str, np.ndarray]
    ) -> dict[str, float | None]:
        column = self.scorer.attributes.index(name)
        change, leakage = metrics.edit_change(before[self.rows[name]], after[name], column)
        return {
            "target_change": float(change.mean(dtype=np.float64)),
            "leakage": float(leakage.mean(dtype=np.float64)) if before.shape[1] > 1 else None,
        }


def verdict(figures: dict[str, Any]) -> str | None:
    """None if the edits match Keras's within the bounds above, else the first failure in words."""
    for name, one in figures["attributes"].items():
        lost = one["target_change_keras"] - one["target_change"]
        if lost > (1.0 - KEPT) * abs(one["target_change_keras"]) + CHANGE_SLACK:
            return (
                f"{name} +1 changes its probability by {one['target_change']:+.3f}, Keras's by "
                f"{one['target_change_keras']:+.3f} (at least {KEPT:.0%} of it)"
            )
        if one["leakage_added"] is not None and one["leakage_added"] > LEAKAGE_ADDED:
            return (
                f"{name} +1 moves the other attributes by {one['leakage']:.3f}, Keras's by "
                f"{one['leakage_keras']:.3f} (at most {LEAKAGE_ADDED:g} more)"
            )
    if figures["agreement"] is not None and figures["agreement"] < AGREEMENT:
        return (
            f"{figures['agreement']:.1%} of the predictions on edited photos agree with "
            f"Keras's (at least {AGREEMENT:.0%})"
        )
    return None
