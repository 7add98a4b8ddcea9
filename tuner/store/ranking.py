"""The rule by which configurations are ranked: one place, so that what the search keeps is what the report calls best.

Ties are the rule, not the exception (20 validation images have 21 accuracies), so the order is written out to its end:
did not fail, reached max_epochs, the objective, the other metric, more epochs, the lower number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tuner.store.store import EpochRow

Key = tuple[float, ...]

WORST: Key = (math.inf, math.inf)


def metric_key(objective: str, val_loss: float | None, val_accuracy: float | None) -> Key:
    """An epoch's metrics so that smaller is better, the objective first; a missing or NaN one is the worst."""
    loss = math.inf if val_loss is None or math.isnan(val_loss) else float(val_loss)
    accuracy = math.inf if val_accuracy is None or math.isnan(val_accuracy) else -float(val_accuracy)
    return (accuracy, loss) if objective == "val_accuracy" else (loss, accuracy)


def rank_of(row: EpochRow | None, objective: str) -> Key:
    """`metric_key` of an epoch; of none the worst."""
    return WORST if row is None else metric_key(objective, row.val_loss, row.val_accuracy)


def best_of(rows: Iterable[EpochRow], objective: str) -> EpochRow | None:
    """The best epoch by the objective; the earlier one of equals."""
    return min(rows, key=lambda row: (*rank_of(row, objective), row.epoch), default=None)


def place(key: Key, *, failed: bool, full: bool, epochs: int, number: int) -> tuple[Any, ...]:
    """A configuration's place, smaller is better.

    `key`: `metric_key` of its best epoch; `full`: it reached max_epochs; `epochs`: how many it was trained for.
    """
    return failed, not full, key, -epochs, number
