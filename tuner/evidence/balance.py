"""Balanced accuracy beside accuracy, where classes differ in size: the classes' own accuracies, weighed alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.evidence.findings import Interval
from tuner.evidence.paired import Floats, Groups, Right, estimate

UNEVEN = 1.5
"""From here on, largest class over smallest, balanced accuracy is another question than accuracy."""


def uneven(labels: NDArray[np.int64]) -> bool:
    """Whether the classes of these images differ so much in size that balanced accuracy is shown."""
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    return len(counts) > 1 and bool(counts.max() > UNEVEN * counts.min())


def weights(labels: NDArray[np.int64]) -> Floats:
    """One an image, float64 (images,), of mean 1, under which all classes that have images weigh alike."""
    counts = np.bincount(labels)
    return np.asarray(len(labels) / ((counts > 0).sum() * counts[labels]), np.float64)


def compare_balanced(
    winner: Right | Floats,
    baseline: Right | Floats,
    labels: NDArray[np.int64],
    confidence: float = 0.95,
    groups: Groups | None = None,
) -> Interval:
    """The winner's balanced accuracy minus the baseline's (Brodersen et al., ICPR 2010): right or not, (seeds, images)
    each, as in `paired.compare`; `labels`: the true classes, (images,).

    The interval is that of `paired.estimate` with weighted images. An image of a class of few counts for more than one,
    and as in groups of unequal size the images count as fewer than they are.
    """
    found = estimate(winner, baseline, confidence, groups, weights=weights(labels))
    each = np.unique(labels, return_counts=True)[1]
    method = f"balanced accuracy of {len(each)} classes of {each.min()} to {each.max()} images, images weighted"
    difference, low, high, error = map(float, (found.difference, found.low, found.high, found.standard_error))
    return Interval(difference, low, high, method, error, confidence)
