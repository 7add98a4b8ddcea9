"""What a network reads, and an epoch's order cut into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

Inputs: TypeAlias = np.ndarray | tuple[np.ndarray, ...]
"""Of a batch: what is at the cut that a network begins at and, for a head over several cuts, the means at those below,
float32 (b, sum of channels).
"""


class Source(Protocol):
    """Where the inputs of images lie."""

    def take(self, rows: np.ndarray) -> Inputs:
        """Copies, of the images `rows` int64 (b,)."""


@dataclass(frozen=True)
class Beside:
    """A source and, beside it, one for each cut whose mean is read too."""

    source: Source
    means: Sequence[Source]

    def take(self, rows: np.ndarray) -> Inputs:
        """As `Source.take`."""
        joined = np.concatenate([mean.take(rows) for mean in self.means], axis=1)
        return self.source.take(rows), joined  # type: ignore[return-value]


def each(function: Callable[[np.ndarray], np.ndarray], inputs: Inputs) -> Inputs:
    """The function of every array."""
    return tuple(map(function, inputs)) if isinstance(inputs, tuple) else function(inputs)


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
    inputs: Inputs, targets: np.ndarray, weights: np.ndarray, *, real: int, alpha: float, draw: np.random.Generator
) -> tuple[Inputs, np.ndarray, np.ndarray]:
    """mixup (Zhang, Cisse, Dauphin and Lopez-Paz, ICLR 2018): each of the first `real` rows mixed with another of them,
    one share for the batch, drawn from Beta(alpha, alpha); its target and its weight too.

    inputs (b, ...) at any cut, targets (b, k), weights (b,); all come back as float32, rows after `real` as they were
    but for rounding.
    """
    share = np.float32(draw.beta(alpha, alpha))
    other = np.concatenate([draw.permutation(real), np.arange(real, len(targets))])

    def mixed(array: np.ndarray) -> np.ndarray:
        array = np.asarray(array, np.float32)
        return np.asarray(array * share + array[other] * (np.float32(1.0) - share))

    return each(mixed, inputs), mixed(targets), mixed(weights)
