"""Seeds that collapse: which ones, how many seeds are then trained, and what so few seeds leave open. Pure functions.

A configuration that now and then ends near chance is judged by its mean over seeds, of which five say little: where 15
seeds in 100 collapse, 45 studies in 100 see none among five. What can be done is fixed here before any seed is trained:
where one is seen more are trained, a gain that holds for the mean alone is none (`verdict`), and where none is seen it
is said what may have stayed unseen. `make simulate` counts how often that helps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST = 20
"""Seeds of a side of which one of the first ones failed or collapsed."""
DROP = 0.2
"""A collapsed seed ends at least so far below the good ones, in shares: 20 points."""
ERRORS = 3.0
"""And by so many standard errors of an accuracy on as many images, so that few images are not taken for a collapse."""


def unstable(accuracies: Sequence[float], n: int) -> tuple[int, ...]:
    """Which seeds collapsed, by position, from their accuracies on the same n images, shares; () where none did.

    A seed did that ends more than 20 points, and more than three binomial standard errors, below the upper quartile of
    all seeds. The quartile stands for seeds that worked as long as one in four did, where mean and median of five are
    themselves drawn down by two or three bad ones; the error is that of the Agresti-Coull share (Am. Stat. 52, 1998),
    which is not zero where the quartile is 100 %.
    """
    if len(accuracies) < 2 or n < 1:
        return ()
    found = np.asarray(accuracies, np.float64)
    good = float(np.quantile(found, 0.75))
    share = (good * n + 2) / (n + 4)
    limit = good - max(DROP, ERRORS * float(np.sqrt(share * (1 - share) / n)))
    return tuple(int(i) for i in np.flatnonzero(found < limit))


def seeds(accuracies: Sequence[float | None], n: int) -> int:
    """From how many fresh seeds a side is trained, given the accuracies (shares) of its first ones on `n` VALIDATION
    images, None for one that failed: `MOST` where some failed or collapsed and some did not, else as many as there are.

    The test set is opened after that: its images have no part in how many seeds there are, and the interval is for the
    final number. Looking at the first ones only, however many there are by now, gives the same answer again.
    """
    ended = [a for a in accuracies if a is not None]
    if not ended or (len(ended) == len(accuracies) and not unstable(ended, n)):
        return len(accuracies)
    return max(MOST, len(accuracies))


def unseen(seeds: int, confidence: float = 0.95) -> float:
    """The largest share of seeds that collapse of which `seeds` show none once in 20 times: 45 % for five, 14 % for 20.

    The exact one-sided end (Clopper and Pearson, Biometrika 26, 1934).
    """
    return float(1 - (1 - confidence) ** (1 / seeds))


def collapsed(side: str, seed: int, accuracy: float) -> str:
    """As "seed 3 of the winner ended at 52 %"."""
    return f"seed {seed} of the {side} ended at {100 * accuracy:.0f} %"
