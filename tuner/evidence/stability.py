"""Whether a training comes out alike from seed to seed: decided on validation images, before any test image is seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST = 20
"""Seeds of a side whose training is unstable."""


def seeds(accuracies: Sequence[float | None], n: int) -> int:
    """From how many fresh seeds a side is trained, given the accuracies (shares) of its first ones on `n` validation
    images, None for one that failed: `MOST` where some failed or collapsed and some did not, else as many as there are.
    """
    ended = [a for a in accuracies if a is not None]
    if not ended or (len(ended) == len(accuracies) and not unstable(ended, n)):
        return len(accuracies)
    return max(MOST, len(accuracies))


def unstable(accuracies: Sequence[float], n: int) -> tuple[int, ...]:
    """Which seeds collapsed, by their positions, from their accuracies (shares) on `n` validation images."""
    values = np.asarray(accuracies, np.float64)
    middle = float(np.median(values))
    spread = max(1.4826 * float(np.median(np.abs(values - middle))), (middle * (1 - middle) / max(n, 1)) ** 0.5)
    return tuple(int(i) for i in np.flatnonzero(middle - values > max(0.1, 4 * spread)))
