"""The other frozen baseline: L2 logistic regression on pooled features, its strength chosen on training images.

A linear probe with a convex fit has no seed, no learning rate and no epochs to be lucky with (Kornblith et al., CVPR
2019; Radford et al., ICML 2021): if it does as well as a trained head, the head's search found nothing.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.images.folds import stratified_folds
from tuner.store.ranking import metric_key
from tuner.training.network import log_loss, probabilities

NAMES = ("head_logits/kernel", "head_logits/bias")
"""The arrays of its checkpoint: those of a head without a hidden layer."""
STRENGTHS = np.logspace(-3, 5, 25)
"""scikit-learn's C, the inverse of the penalty, on features of mean squared norm 1."""
FOLDS = 5
ITERATIONS = 1000
NEWTON = 1500  # features times classes
NEVER = 30.0
"""A logit that never wins, and whose loss is finite."""


@dataclass(frozen=True)
class Fit:
    """A linear head: kernel float32 (features, k), bias (k,), k 1 for two classes; and how its strength was chosen."""

    kernel: np.ndarray
    bias: np.ndarray
    strength: float
    folds: int

    def arrays(self) -> dict[str, np.ndarray]:
        """As a checkpoint holds them, by variable path."""
        return dict(zip(NAMES, (self.kernel, self.bias), strict=True))

    def logits(self, features: np.ndarray) -> np.ndarray:
        """float32 (n, k) of features float32 (n, features)."""
        return np.asarray(features @ self.kernel + self.bias, dtype=np.float32)


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None,
    classes: int,
    objective: str,
    balanced: bool,
    seed: int,
) -> Fit:
    """The penalised fit to features float32 (n, d) and labels int64 (n,) at the strength that cross-validation likes
    best by the objective; ties go to the other metric, then to the stronger penalty.

    `groups` int64 (n,): photographs that look the same, kept together. Folds are fewer where a class has few groups;
    with fewer than two the strength is 1.
    """
    scale = (
        float(np.sqrt(np.mean(np.sum(np.square(features - features.mean(axis=0), dtype=np.float64), axis=1)))) or 1.0
    )
    rows, basis = _reduced(features.astype(np.float64) / scale)
    parts = stratified_folds(labels, groups, FOLDS, seed, "logistic folds")
    count = int(parts.max()) + 1
    strength = 1.0
    if count > 1:
        scores = _cross_validated(rows, labels, parts, classes, balanced)
        keys = [
            (metric_key(objective, loss, accuracy), c) for (loss, accuracy), c in zip(scores, STRENGTHS, strict=True)
        ]
        strength = float(min(keys)[1])
    _, kernel, bias = _solve(rows, labels, classes, strength, balanced)
    return Fit(np.asarray(basis @ kernel / scale, np.float32), np.asarray(bias, np.float32), strength, count)


def _reduced(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows in an orthonormal basis, the basis): exact, because the penalised solution lies in the rows' span."""
    if len(rows) >= rows.shape[1]:
        return rows, np.eye(rows.shape[1])
    left, sizes, basis = np.linalg.svd(rows, full_matrices=False)
    return left * sizes, basis.T


def _cross_validated(
    rows: np.ndarray, labels: np.ndarray, parts: np.ndarray, classes: int, balanced: bool
) -> list[tuple[float, float]]:
    """(loss, accuracy) over all left-out rows for each of `STRENGTHS`."""
    loss, right = np.zeros(len(STRENGTHS)), np.zeros(len(STRENGTHS))
    for part in range(int(parts.max()) + 1):
        out = parts == part
        model: Any = None
        for i, strength in enumerate(STRENGTHS):
            # From the weakest fit on each begins where the one before ended.
            model, kernel, bias = _solve(rows[~out], labels[~out], classes, float(strength), balanced, model, 1e-4)
            logits = rows[out] @ kernel + bias
            loss[i] += log_loss(logits, labels[out]) * out.sum()
            right[i] += float(np.sum(probabilities(logits).argmax(axis=1) == labels[out]))
    return list(zip((loss / len(rows)).tolist(), (right / len(rows)).tolist(), strict=True))


def _solve(
    rows: np.ndarray,
    labels: np.ndarray,
    classes: int,
    strength: float,
    balanced: bool,
    model: Any = None,
    tolerance: float = 1e-6,
) -> tuple[Any, np.ndarray, np.ndarray]:
    """(scikit-learn's model, kernel (d, k), bias (k,)), float64; a class without rows gets a bias that never wins.
    `model`: one of the same rows, to go on from.
    """
    from sklearn.linear_model import LogisticRegression

    known = np.unique(labels)
    if len(known) == 1:  # the others' photographs all look like ones that were left out
        return None, np.zeros((rows.shape[1], 1 if classes == 2 else classes)), _sure_of(int(known[0]), classes)
    # Newton's steps where their matrix is small: a tenth of L-BFGS's time, and converged to the last digit.
    newton = rows.shape[1] * classes <= NEWTON
    if model is None:
        model = LogisticRegression(
            solver="newton-cholesky" if newton else "lbfgs",
            max_iter=ITERATIONS,
            class_weight="balanced" if balanced else None,
            warm_start=True,
        )
    model.set_params(C=strength, tol=1e-6 if newton else tolerance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a weak penalty on separable rows has no end to converge to
        model.fit(rows, labels)
    if classes == 2:
        return model, model.coef_.T, model.intercept_
    kernel, bias = np.zeros((rows.shape[1], classes)), np.full(classes, -NEVER)
    if len(known) == 2:
        kernel[:, known[1]], bias[known] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        kernel[:, known], bias[known] = model.coef_.T, model.intercept_
    return model, kernel, bias


def _sure_of(label: int, classes: int) -> np.ndarray:
    if classes == 2:
        return np.array([NEVER if label else -NEVER])
    return np.where(np.arange(classes) == label, 0.0, -NEVER)
