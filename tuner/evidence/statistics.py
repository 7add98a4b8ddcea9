"""Pure statistics of counts: no table, no study, no drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a proportion, each end in [0, 1] (Wilson, JASA 22, 1927).

    Unlike the textbook p +- z * sqrt(p * (1 - p) / n) it is honest for small n and near 0 and 1, where images'
    accuracies lie. Exactly 0 at no success, exactly 1 at nothing but successes, and (0, 1) when nothing was counted.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes: found {successes} of {n}, expected from 0 to n")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: found {confidence}, expected a number between 0 and 1")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == n else min(1.0, middle + half)
    return low, high


def smallest_telling_difference(n: int, confidence: float = 0.95) -> int | None:
    """The fewest images by which one of two models must be ahead on the same `n` images to be told from luck at all.

    The exact sign test on the images where only one of the two is right (McNemar, Psychometrika 12, 1947) rejects, in
    the clearest case that all d such images favour one model, when 2 * 0.5**d <= 1 - confidence. None when n is smaller
    than that: no result on so few images can tell the two apart. Being ahead by this many is needed, not enough.
    """
    needed = math.ceil(math.log2(2 / (1 - confidence)))
    return needed if needed <= n else None


def confusion(
    labels: Sequence[int] | NDArray[np.int64], predicted: Sequence[int] | NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Counts, int64 of shape (classes, classes): row the true class, column the predicted one."""
    true, said = np.asarray(labels, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if true.shape != said.shape or true.ndim != 1:
        raise ValueError(f"predicted: found shape {said.shape}, expected that of the labels, {true.shape}")
    if true.size and not (min(true.min(), said.min()) >= 0 and max(true.max(), said.max()) < classes):
        raise ValueError(
            f"labels: found {min(true.min(), said.min())} to {max(true.max(), said.max())}, expected 0 to {classes - 1}"
        )
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (true, said), 1)
    return table


def balanced_accuracy(counts: NDArray[np.int64]) -> float:
    """The mean of the classes' own accuracies, from a confusion matrix; classes without an image do not count.

    Always answering one of k classes gets 1/k, however many of the images are of it (Brodersen et al., ICPR 2010). NaN
    when there is no image at all.
    """
    totals = counts.sum(axis=1)
    seen = totals > 0
    return float((counts.diagonal()[seen] / totals[seen]).mean()) if seen.any() else math.nan
