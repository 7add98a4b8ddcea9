"""The rule by which configurations are ranked: one place, so that what the search keeps is what the report calls best.

Ties are the rule, not the exception (20 validation images have 21 accuracies), so the order is written out to its end:
did not fail, reached max_epochs, the objective, the other metric, more epochs, the lower number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from tuner.spec.spec import OBJECTIVES, SearchSpec

Key = tuple[float, ...]

WORST: Key = (math.inf, math.inf)

SCORED = tuple(name for name in OBJECTIVES if name not in ("val_loss", "val_accuracy"))
"""Objectives that an epoch keeps as its score; loss and accuracy it has anyway."""
SMALLER = ("val_loss", "val_brier")
"""Objectives of which less is better."""


@dataclass(frozen=True)
class Rule:
    """`objective`: what epochs are compared by. `checkpoint`: which epoch counts of a trial, its "best" or its "last"
    finished one, so that a lucky epoch cannot win. `patience`: after how many epochs in a row that are no new best one
    a trial ends early; 0: never.
    """

    objective: str = "val_loss"
    checkpoint: str = "best"
    patience: int = 0

    @classmethod
    def of(cls, search: SearchSpec) -> Rule:
        """A study's."""
        return cls(search.objective, search.checkpoint, search.patience)

    @property
    def scored(self) -> str | None:
        """The objective, if it is one that an epoch keeps as its score."""
        return self.objective if self.objective in SCORED else None

    @property
    def smaller(self) -> bool:
        """Whether less of the objective is better."""
        return self.objective in SMALLER


class Epoch(Protocol):
    """What is asked of a finished epoch; a number that was not finite may be missing or NaN."""

    @property
    def epoch(self) -> int: ...

    @property
    def val_loss(self) -> float | None: ...

    @property
    def val_accuracy(self) -> float | None: ...

    @property
    def score(self) -> float | None: ...


Row = TypeVar("Row", bound=Epoch)


def metric_key(objective: str, val_loss: float | None, val_accuracy: float | None, score: float | None = None) -> Key:
    """An epoch's metrics so that smaller is better, the objective first; a missing or NaN one is the worst.

    `score`: the objective's value where it is neither loss nor accuracy. Loss breaks the ties of every other objective.
    """
    loss, accuracy = _key(val_loss, 1), _key(val_accuracy, -1)
    if objective == "val_loss":
        return loss, accuracy
    return (accuracy if objective == "val_accuracy" else _key(score, 1 if objective in SMALLER else -1)), loss


def _key(value: float | None, sign: int) -> float:
    return math.inf if value is None or math.isnan(value) else sign * float(value)


def value_of(row: Epoch, objective: str) -> float | None:
    """The objective's value of an epoch."""
    return row.score if objective in SCORED else getattr(row, objective)


def rank_of(row: Epoch | None, rule: Rule) -> Key:
    """`metric_key` of an epoch; of none the worst."""
    return WORST if row is None else metric_key(rule.objective, row.val_loss, row.val_accuracy, row.score)


def best_of(rows: Iterable[Row], rule: Rule) -> Row | None:
    """The epoch that counts: the best by the objective and the earlier one of equals, or the last one."""
    if rule.checkpoint == "last":
        return max(rows, key=lambda row: row.epoch, default=None)
    return min(rows, key=lambda row: (*rank_of(row, rule), row.epoch), default=None)


def out_of_patience(best: Epoch | None, epoch: int, rule: Rule) -> bool:
    """Whether training ends early after `epoch` epochs whose best one is `best`: as `keras.callbacks.EarlyStopping`
    counts (keras/src/callbacks/early_stopping.py, without `min_delta`), except that ties of the objective are broken as
    they are everywhere here. It follows from what is recorded, so a resumed trial ends where it would have.
    """
    return rule.patience > 0 and best is not None and best.epoch <= epoch - rule.patience


def place(key: Key, *, failed: bool, full: bool, epochs: int, number: int) -> tuple[Any, ...]:
    """A configuration's place, smaller is better.

    `key`: `metric_key` of the epoch that counts; `full`: it reached max_epochs, or the rung of so many epochs when its
    patience ran out on the way; `epochs`: how many it was trained for.
    """
    return failed, not full, key, -epochs, number
