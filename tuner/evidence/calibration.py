"""Whether a model's 80 % means 80 %: reliability by bins and the expected calibration error, where images allow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.evidence.paired import Floats
from tuner.evidence.statistics import wilson

LEAST = 100
"""Images below which ten bins hold fewer than ten each, and the error is mostly noise."""
BINS = 10
COLUMNS = ("images", "confidence", "correct", "accuracy", "low", "high")
DRAWS = 1000


@dataclass(frozen=True)
class Calibration:
    """`bins`: one row a bin, with `COLUMNS`; empty where `reason` says why there is none.

    `error`: the expected calibration error, in [0, 1]; `error_by_luck`: the mean of what a perfectly calibrated model
    with these confidences gets on as many images, and `p` how often it gets that much or more. None without bins.
    """

    n: int
    bins: pd.DataFrame
    error: float | None = None
    error_by_luck: float | None = None
    p: float | None = None
    reason: str | None = None

    def sentence(self, ground: str) -> str:
        """Whether the winner's 80 % means 80 %, beside what luck alone would give; `ground`: "test" or "validation"."""
        if self.error is None or self.error_by_luck is None or self.p is None:
            return f"Calibration is not shown: {self.reason}."
        believed = "no more than luck gives" if self.p > 0.05 else "more than luck gives"
        return (
            f"The winner's probabilities are off by {100 * self.error:.1f} points on average (first seed, {self.n} "
            f"{ground} images; luck alone: {100 * self.error_by_luck:.1f}, p = {self.p:.2g}): {believed}."
        )


def calibration(probabilities: Floats, labels: NDArray[np.int64], rng: np.random.Generator) -> Calibration:
    """Reliability of (images, classes) probabilities against true labels (images,).

    The confidence is the probability of the class that was chosen (Guo et al., ICML 2017), in `BINS` bins of equally
    many images rather than equally wide ones, which a good model leaves empty (Nixon et al., CVPR Workshops 2019);
    images of equal confidence stay in one bin. The error is the mean over images of |accuracy - confidence| by bin. It
    is never zero by luck (Kumar, Liang and Ma, NeurIPS 2019), hence what luck gives stands beside it. `low` and `high`
    are Wilson's interval of the bin's accuracy.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels, np.int64)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ValueError(f"probabilities: found shape {probabilities.shape}, expected ({len(labels)}, classes)")
    n = len(labels)
    if n < LEAST:
        reason = f"calibration needs {LEAST} images or more, these are {n}"
        return Calibration(n, pd.DataFrame(columns=list(COLUMNS)), reason=reason)
    if not np.isfinite(probabilities).all():
        return Calibration(n, pd.DataFrame(columns=list(COLUMNS)), reason="some probabilities are not finite")
    confidence = np.clip(probabilities.max(axis=1), 0, 1)
    right = probabilities.argmax(axis=1) == labels
    member = _members(confidence)
    images, sure, correct = member.sum(axis=0), confidence @ member, right @ member
    error = float(np.abs(correct - sure).sum() / n)
    lucky = np.abs((rng.random((DRAWS, n)) < confidence) @ member - sure).sum(axis=1) / n
    ends = [wilson(int(k), int(m)) for k, m in zip(correct, images, strict=True)]
    bins = pd.DataFrame(
        {
            "images": images.astype(np.int64),
            "confidence": sure / images,
            "correct": correct.astype(np.int64),
            "accuracy": correct / images,
            "low": [low for low, _ in ends],
            "high": [high for _, high in ends],
        }
    )
    p = (1 + int((lucky >= error).sum())) / (1 + DRAWS)
    return Calibration(n, bins, error, float(lucky.mean()), p)


def _members(confidence: Floats) -> Floats:
    """Which bin each image is in, (images, bins) of 0 and 1, low confidence first; no bin is empty."""
    edges = np.unique(np.quantile(confidence, np.arange(1, BINS) / BINS))
    _, codes = np.unique(np.searchsorted(edges, confidence, side="left"), return_inverse=True)
    return np.asarray(np.eye(codes.max() + 1)[codes])
