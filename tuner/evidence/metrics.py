"""The objectives beside loss and accuracy, from class probabilities; equal ones give equal numbers, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Chances = NDArray[np.floating[Any]]


def score(objective: str, probabilities: Chances, labels: NDArray[np.int64]) -> float | None:
    """The objective's value of probabilities float (n, classes) and labels int64 (n,); None for loss and accuracy,
    which an epoch has anyway. NaN where it is not defined: no image, numbers that are not finite, AUC of one class.
    """
    if objective not in METRICS:
        return None
    if not len(labels) or not np.isfinite(probabilities).all():
        return math.nan
    return float(weighted(objective, probabilities, labels, np.ones((1, len(labels))))[0])


def weighted(objective: str, probabilities: Chances, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """`score` with each image counted so often, weights float64 (draws, n) of whole numbers: float64 (draws,)."""
    return METRICS[objective](probabilities, labels, weights)


def _balanced_accuracy(probabilities: Chances, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """The mean of the classes' own accuracies, of those that have an image (Brodersen et al., ICPR 2010)."""
    true, said = _one_hot(probabilities, labels)
    return _mean(weights @ (true * said), weights @ true)


def _f1(probabilities: Chances, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """The mean of the classes' F1, of those that an image is of or was said to be of."""
    true, said = _one_hot(probabilities, labels)
    return _mean(2 * (weights @ (true * said)), weights @ true + weights @ said)


def _auc(probabilities: Chances, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """The area under the ROC curve: how often an image of a class is ranked before one that is not (Hanley and McNeil,
    Radiology 143, 1982). Of two classes the second one's; of more the mean over those that some images are of.
    """
    classes = probabilities.shape[1]
    pairs = [_pairs(probabilities[:, c], labels == c, weights) for c in (range(classes) if classes > 2 else (1,))]
    won, compared = (np.stack(numbers, axis=1) for numbers in zip(*pairs, strict=True))
    return _mean(won, compared)


def _brier(probabilities: Chances, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """The mean over images of the squared errors, summed over the classes (Brier, Monthly Weather Review 78, 1950)."""
    errors = np.square(np.asarray(probabilities, np.float64) - np.eye(probabilities.shape[1])[labels]).sum(axis=1)
    # Not by BLAS, whose sums may depend on its threads.
    return np.asarray((weights * errors).sum(axis=1) / weights.sum(axis=1))


METRICS: Mapping[str, Callable[[Chances, NDArray[np.int64], Floats], Floats]] = {
    "val_balanced_accuracy": _balanced_accuracy,
    "val_f1": _f1,
    "val_auc": _auc,
    "val_brier": _brier,
}


def _one_hot(probabilities: Chances, labels: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """(true, predicted) classes as (n, classes) of 0 and 1: what is counted with them is exact."""
    each = np.eye(probabilities.shape[1])
    return each[labels], each[probabilities.argmax(axis=1)]


def _pairs(chances: Chances, positive: NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """(pairs of a positive and a negative in which the positive has the higher chance, ties half; all pairs)."""
    others, own = weights[:, ~positive], weights[:, positive]
    order = np.argsort(chances[~positive])
    below = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(others[:, order], axis=1)], axis=1)
    first, after = (np.searchsorted(chances[~positive][order], chances[positive], side) for side in ("left", "right"))
    won = (own * (below[:, first] + below[:, after])).sum(axis=1) / 2
    return won, own.sum(axis=1) * others.sum(axis=1)


def _mean(parts: Floats, wholes: Floats) -> Floats:
    """The mean over the classes, (draws, classes), of parts / wholes where there is a whole; else NaN."""
    seen = wholes > 0
    shares, count = np.divide(parts, wholes, out=np.zeros_like(parts), where=seen), seen.sum(axis=1)
    return np.asarray(np.divide(shares.sum(axis=1), count, out=np.full(len(parts), math.nan), where=count > 0))
