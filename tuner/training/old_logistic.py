"""Logistic regression for studies that began under numerics 3: 25 strengths, by scikit-learn, ended by its tolerance.

Which strength is chosen can depend on the number of BLAS threads; such a study goes on as it began.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from tuner.store.ranking import metric_key
from tuner.training.network import log_loss, probabilities
from tuner.training.newton import NEVER

STRENGTHS = np.logspace(-3, 5, 25)
ITERATIONS = 1000
NEWTON = 1500  # features times classes


def fit(
    features: np.ndarray, labels: np.ndarray, parts: np.ndarray, classes: int, objective: str, balanced: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """(kernel (d, k), bias (k,), strength) of features float64 (n, d), labels and folds int64 (n,)."""
    rows, basis = _reduced(features)
    strength = 1.0
    if parts.max() > 0:
        scores = _cross_validated(rows, labels, parts, classes, balanced)
        keys = [
            (metric_key(objective, loss, accuracy), c) for (loss, accuracy), c in zip(scores, STRENGTHS, strict=True)
        ]
        strength = float(min(keys)[1])
    _, kernel, bias = _solve(rows, labels, classes, strength, balanced)
    return basis @ kernel, bias, strength


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
