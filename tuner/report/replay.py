"""The events of trials that earlier sessions ended: the displays of a resumed search start where it stands."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from tuner.search.events import TrialEnded, TrialStarted
from tuner.store.store import EpochRow, Store


def earlier(store: Store) -> Iterator[TrialStarted | TrialEnded]:
    """Two events for each ended trial, as they were started; for a display before `Planned`, which counts them."""
    rows = store.rows(
        "SELECT t.*, c.kind, c.hyperparameters, c.cut FROM trials t JOIN configurations c ON c.id = t.configuration "
        "WHERE t.status != 'RUNNING' ORDER BY t.position"
    )
    for t in rows:
        values, place = json.loads(t["hyperparameters"]), (t["iteration"], t["bracket"], t["rung"])
        yield TrialStarted(
            t["id"], t["configuration"], t["kind"], values, *place, t["first_epoch"], t["last_epoch"], t["cut"]
        )
        best = _epoch(store, t["configuration"], t["best_epoch"])
        yield TrialEnded(t["id"], t["configuration"], t["kind"], t["status"], t["score"], best, t["reason"], None)


def _epoch(store: Store, configuration: str, epoch: int | None) -> EpochRow | None:
    names = "epoch, loss, accuracy, val_loss, val_accuracy, seconds, images"
    found = store.rows(f"SELECT {names} FROM epochs WHERE configuration = ? AND epoch = ?", configuration, epoch)  # noqa: S608
    if not found:
        return None
    at, *metrics, seconds, images = found[0]
    loss, accuracy, val_loss, val_accuracy = (math.nan if value is None else float(value) for value in metrics)
    return EpochRow(at, loss, accuracy, val_loss, val_accuracy, seconds, images)
