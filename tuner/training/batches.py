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


def mix(
    inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray, *, real: int, alpha: float, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mixup (Zhang, Cisse, Dauphin and Lopez-Paz, ICLR 2018): each of the first `real` rows mixed with another of them,
    one share for the batch, drawn from Beta(alpha, alpha); its target and its weight too.

    inputs (b, ...) at any cut, targets (b, k), weights (b,); all come back as float32, rows after `real` as they were
    but for rounding.
    """
    share = np.float32(draw.beta(alpha, alpha))
    other = np.concatenate([draw.permutation(real), np.arange(real, len(inputs))])
    arrays = (np.asarray(array, np.float32) for array in (inputs, targets, weights))
    mixed = [array * share + array[other] * (np.float32(1.0) - share) for array in arrays]
    return mixed[0], mixed[1], mixed[2]
