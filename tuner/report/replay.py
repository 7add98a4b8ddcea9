"""The events of trials that earlier sessions ended: the displays of a resumed search start where it stands."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tuner.search.events import TrialEnded, TrialStarted
from tuner.store.store import EpochRow, Store
from tuner.store.tables import Configuration, Epoch, Trial, rows


def earlier(store: Store) -> Iterator[TrialStarted | TrialEnded]:
    """Two events for each ended trial, as they were started; for a display before `Planned`, which counts them."""
    configurations = {row.id: row for row in rows(store, Configuration)}
    epochs = {(row.configuration, row.epoch): row for row in rows(store, Epoch)}
    for t in rows(store, Trial):
        if t.status == "RUNNING":
            continue
        c, at = configurations[t.configuration], (t.iteration, t.bracket, t.rung)
        yield TrialStarted(t.id, c.id, c.kind, c.hyperparameters, *at, t.first_epoch, t.last_epoch, c.cut)
        best = None if t.best_epoch is None else epochs.get((c.id, t.best_epoch))
        row = None if best is None else _row(best)
        yield TrialEnded(t.id, c.id, c.kind, t.status, t.score, row, t.reason, None)


def _row(epoch: Epoch) -> EpochRow:
    metrics = (epoch.loss, epoch.accuracy, epoch.val_loss, epoch.val_accuracy)
    loss, accuracy, val_loss, val_accuracy = (math.nan if value is None else float(value) for value in metrics)
    return EpochRow(epoch.epoch, loss, accuracy, val_loss, val_accuracy, epoch.seconds, epoch.images)
