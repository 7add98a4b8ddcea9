"""An epoch's order cut into batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def batches(order: np.ndarray, size: int, *, padded: bool) -> Iterator[tuple[np.ndarray, int]]:
    """(rows int64 (b,), how many of them are real) of each step of an epoch over `order` int64 (n,).

    Every batch has `size` rows, or n where there are fewer. The last one can lack some: `padded`, it is filled from the
    beginning of the order with rows that are to weigh nothing, so that it is not another shape and another trace; else
    it is smaller, for a network that learns from every row it sees, weighed or not: trained BatchNorm's statistics do.
    """
    size = min(size, len(order))
    for first in range(0, len(order), max(size, 1)):
        rows = order[first : first + size]
        real = len(rows)
        yield (np.concatenate([rows, order[: size - real]]) if padded else rows), real
