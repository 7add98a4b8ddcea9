"""How an epoch's images are taken in batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def batches(order: np.ndarray, size: int, *, padded: bool) -> Iterator[tuple[np.ndarray, int]]:
    """(rows int64 (b,), how many of them are real) for each batch of `size`; `padded`: the last one is filled up with
    the first rows, so that every batch has one shape.
    """
    for first in range(0, len(order), size):
        batch = order[first : first + size]
        real = len(batch)
        yield (np.concatenate([batch, order[: size - real]]) if padded and real < size else batch), real
