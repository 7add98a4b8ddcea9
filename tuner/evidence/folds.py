"""The interval of a repeated cross-validation, whose folds share their training images."""

from __future__ import annotations

import math

import numpy as np

from tuner.evidence.findings import Interval
from tuner.evidence.paired import Floats


def corrected_resampled(differences: Floats, held_out: Floats, trained: Floats, confidence: float = 0.95) -> Interval:
    """Nadeau and Bengio's corrected resampled t interval (Machine Learning 52, 2003).

    differences: float64 (k,), winner minus baseline in accuracy for each fold of each repeat; held_out, trained: how
    many images it was judged on and trained on, (k,). The folds are weighed alike. The variance of their mean is
    (1/k + held out / trained) s^2: without the second term, which stands for the images that the training sets share,
    the interval would be several times too narrow.
    """
    from scipy.special import stdtrit

    k, mean = len(differences), float(np.mean(differences))
    if k < 2:
        return Interval(mean, -1.0, 1.0, "one fold: no interval")
    spread = float(np.var(differences, ddof=1))
    error = math.sqrt((1 / k + float(np.mean(held_out / trained))) * spread)
    half = float(stdtrit(k - 1, (1 + confidence) / 2)) * error
    return Interval(mean, max(-1.0, mean - half), min(1.0, mean + half), "corrected resampled t, Nadeau and Bengio")
