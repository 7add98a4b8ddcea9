"""The rule by which configurations are ranked: one place, so that what the search keeps is what the report calls best.

Ties are the rule, not the exception (20 validation images have 21 accuracies), so the order is written out to its end:
did not fail, reached max_epochs, the objective, the other metric, more epochs, the lower number.
"""

from __future__ import annotations

import math
from typing import Any

Key = tuple[float, ...]

WORST: Key = (math.inf, math.inf)


def metric_key(objective: str, val_loss: float | None, val_accuracy: float | None) -> Key:
    """An epoch's metrics so that smaller is better, the objective first; a missing or NaN one is the worst."""
    loss = math.inf if val_loss is None or math.isnan(val_loss) else float(val_loss)
    accuracy = math.inf if val_accuracy is None or math.isnan(val_accuracy) else -float(val_accuracy)
    return (accuracy, loss) if objective == "val_accuracy" else (loss, accuracy)


def place(key: Key, *, failed: bool, full: bool, epochs: int, number: int) -> tuple[Any, ...]:
    """A configuration's place, smaller is better.

    `key`: `metric_key` of its best epoch; `full`: it reached max_epochs; `epochs`: how many it was trained for.
    """
    return failed, not full, key, -epochs, number
