"""Measures the regressor's accuracy, compared with the judge's and a constant prediction's."""

import numpy as np

from cgan_tf.evaluation import metrics, statistics
from cgan_tf.evaluation.batching import batched
from cgan_tf.evaluation.evaluated import EvaluatedModels, TestPhotos
from cgan_tf.evaluation.statistics import Numbers


def measure_regressor(models: EvaluatedModels, photos: TestPhotos) -> Numbers:
    """The `regressor` block: accuracies of the regressor, the judge and the majority class."""
    labels = photos.labels
    majority = np.broadcast_to(photos.base_rates > 0.5, labels.shape)
    predictions = {
        "regressor": batched(models.score, photos.images),
        "judge": photos.probabilities,
        "majority": majority.astype(np.float32),
    }
    accuracy = {by: metrics.accuracy(scores, labels) for by, scores in predictions.items()}
    balanced = {by: metrics.balanced_accuracy(scores, labels) for by, scores in predictions.items()}
    block: Numbers = {"n": len(labels), "seed": photos.seed}
    for by in predictions:
        block[by] = {
            "accuracy": statistics.mean(accuracy[by]),
            "balanced_accuracy": statistics.mean(balanced[by]),
        }
    block["attributes"] = {
        name: {
            "positive": statistics.number(labels[:, column].mean()),
            "accuracy": statistics.number(accuracy["regressor"][column]),
            "balanced_accuracy": statistics.number(balanced["regressor"][column]),
            "judge_accuracy": statistics.number(accuracy["judge"][column]),
            "judge_balanced_accuracy": statistics.number(balanced["judge"][column]),
        }
        for column, name in enumerate(models.all_attributes)
    }
    return block
