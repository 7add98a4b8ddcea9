"""Runs single trials for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np

from tuner.spec.configuration import REFERENCE, Configuration
from tuner.store.ranking import Rule, best_of
from tuner.store.store import EpochRow
from tuner.training.context import Context
from tuner.training.trial import EpochFinished, TrialResult, TrialSpec, train

BEST = Rule()


def spec(**changes: Any) -> TrialSpec:
    """A trial of 3 epochs, 4 unfrozen layers and a head of 8 units, unless told otherwise; a name of a hyperparameter
    changes that one. Of the four layers one is trained, a convolution: steps and checkpoints are small."""
    names = {f.name for f in fields(Configuration)} & changes.keys()
    values = {"unfrozen_layers": 4, "head_width": 8} | {name: changes.pop(name) for name in names}
    given: dict[str, Any] = {"id": "0000", "configuration": "c000", "last_epoch": 3, "keep_last": True} | changes
    return TrialSpec(values=replace(REFERENCE, **values), **given)


def run(
    wanted: TrialSpec, context: Context, should_stop: Callable[[], bool] = lambda: False
) -> tuple[TrialResult, list[EpochFinished]]:
    """Trains to the end; the result and the epochs."""
    training, done = train(wanted, context, should_stop), list[EpochFinished]()
    while True:
        try:
            done.append(next(training))
        except StopIteration as end:
            return end.value, done


def resumed(wanted: TrialSpec, done: list[EpochFinished], last_epoch: int, rule: Rule = BEST) -> TrialSpec:
    """The trial that goes on from what was saved last; `done`: every epoch so far, of earlier attempts too."""
    saved = {s.role: s for d in done for s in d.saved}
    best = best_of([d.row for d in done if d.row.epoch <= saved["last"].epoch], rule)
    return replace(wanted, state=saved["last"], weights=saved.get("best"), best=best, last_epoch=last_epoch)


def numbers(done: list[EpochFinished]) -> list[tuple[Any, ...]]:
    """All of the epochs that is not a time."""
    return [figures(d.row) for d in done]


def figures(row: EpochRow) -> tuple[Any, ...]:
    return (row.epoch, row.loss, row.accuracy, row.val_loss, row.val_accuracy, row.images, row.score)


def saved(context: Context, done: list[EpochFinished], role: str) -> tuple[int, dict[str, np.ndarray]]:
    """The last checkpoint of a role: its epoch and arrays."""
    point = [s for d in done for s in d.saved if s.role == role][-1]
    with np.load(context.checkpoints / point.file, allow_pickle=False) as arrays:
        return point.epoch, dict(arrays)


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k]) for k in a)
