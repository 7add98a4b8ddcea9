"""One layer of an architecture, as a row of its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Layer:
    """What every question about depths and costs needs to know of a layer.

    region: the number of the lowest cut that is at or above it, 0 for the image. macs: multiply-adds for one image.
    kind: whether it holds variables that can be trained, and whether they are a batch normalisation's. size: numbers in
    all its arrays. sources: the layers that it reads, by their place in the table.
    """

    name: str
    region: int
    macs: int
    kind: Literal["weights", "batch_norm", "none"]
    size: int
    sources: tuple[int, ...]
