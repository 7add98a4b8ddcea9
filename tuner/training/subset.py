"""Which images a trial trains on, is validated on and predicts at its end, by name: plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Subset:
    """ "split": the study's training and validation images; "all": trained on both, validated on the latter; "fold":
    fold `fold` of repeat `repeat` of `folds` over both, itself held out and predicted at the end.
    """

    name: str
    folds: int = 0
    repeat: int = 0
    fold: int = 0


SPLIT = Subset("split")
ALL = Subset("all")
