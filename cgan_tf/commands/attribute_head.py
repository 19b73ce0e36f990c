"""The head of a custom attribute: one more output of the regressor, fitted to a few labels."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cgan_tf.data import images

if TYPE_CHECKING:  # importing them would start TensorFlow, or take a second
    from sklearn import linear_model, preprocessing

    from cgan_tf.networks.vgg import Regressor

FOLDS = 5  # of the cross-validation; each must contain both classes
INVERSE_PENALTIES = 10.0 ** np.arange(-6, 1)  # C, the inverse weight of the L2 penalty
BATCH = 50  # photos per forward pass of the regressor


class Head(NamedTuple):
    """One more output of the regressor: sigmoid(kernel . pooled features + bias)."""

    kernel: np.ndarray  # float32 [D]
    bias: float
    facts: dict[str, Any]  # labels, positive, c, balanced_accuracy


def head_features(regressor: "Regressor", pixels: np.ndarray) -> np.ndarray:
    """The pooled features, float32 `[N, D]`, of photos uint8 `[N, R, R, 3]`."""
    import tensorflow as tf

    from cgan_tf.evaluation.batching import batched

    graph = tf.function(
        lambda photos: regressor.features_and_pooled(photos)[1],
        autograph=False,
        reduce_retracing=True,
    )
    return batched(lambda rows: graph(images.to_float(rows)), pixels, batch=BATCH)


def fit_head(features: np.ndarray, labels: np.ndarray, seed: int) -> Head:
    """Logistic regression on standardized features, with balanced class weights.

    Cross-validation chooses the L2 penalty: that of `INVERSE_PENALTIES` with the smallest balanced
    log loss on the held-out folds. The reported balanced accuracy is that of the same predictions.

    Args:
        features: float32 `[N, D]`.
        labels: `[N]` in {0, 1}, at least `FOLDS` of each class.
        seed: of the folds.
    """
    from sklearn import metrics, model_selection

    labels = labels > 0.5
    folds = model_selection.StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    predicted = np.zeros((len(INVERSE_PENALTIES), len(labels)))  # held-out, of each penalty
    for train, held_out in folds.split(features, labels):
        scale, axes = _span(features[train])
        inside = scale.transform(features[train]) @ axes.T
        outside = scale.transform(features[held_out]) @ axes.T
        for row, c in enumerate(INVERSE_PENALTIES):
            model = _logistic_regression(c).fit(inside, labels[train])
            predicted[row, held_out] = model.predict_proba(outside)[:, 1]
    weights = np.where(labels, 1 / labels.sum(), 1 / (~labels).sum())
    losses = [metrics.log_loss(labels, row, sample_weight=weights) for row in predicted]
    best = int(np.argmin(losses))

    scale, axes = _span(features)
    model = _logistic_regression(INVERSE_PENALTIES[best])
    model.fit(scale.transform(features) @ axes.T, labels)
    kernel = (model.coef_[0] @ axes) / scale.scale_  # score = coef . (x - mean) / scale + intercept
    accuracy = metrics.balanced_accuracy_score(labels, predicted[best] > 0.5)
    return Head(
        kernel.astype(np.float32),
        float(model.intercept_[0] - kernel @ scale.mean_),
        {
            "labels": len(labels),
            "positive": int(labels.sum()),
            "c": float(INVERSE_PENALTIES[best]),
            "balanced_accuracy": float(accuracy),
        },
    )


def _span(features: np.ndarray) -> "tuple[preprocessing.StandardScaler, np.ndarray]":
    """The scaler of features `[N, D]`, and orthonormal axes `[n, D]` of the space that they span.

    An L2 penalty is invariant to rotations, and the optimal weights are in that space. So the fit
    on these few coordinates equals the fit on all features, of which there are far more than
    labels.
    """
    from sklearn import preprocessing

    scale = preprocessing.StandardScaler().fit(features)
    rows = scale.transform(features)
    # From the Gram matrix: a singular value decomposition of the features takes minutes.
    squares, columns = np.linalg.eigh((rows @ rows.T).astype(np.float64))
    kept = squares > 1e-6 * squares[-1]  # centered rows span one dimension less than their number
    return scale, (columns[:, kept] / np.sqrt(squares[kept])).T.astype(np.float32) @ rows


def _logistic_regression(c: float) -> "linear_model.LogisticRegression":
    from sklearn import linear_model

    return linear_model.LogisticRegression(C=c, class_weight="balanced", max_iter=1000)
