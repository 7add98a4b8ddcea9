"""A study as runs for trackers of experiments (TensorBoard, MLflow): plain values, the same ones at every reading.

The store keeps how long each epoch took, not when it ended. The clock of a run is therefore the study's beginning plus
the seconds of all epochs before: in order and never in the future, but without the pauses between sessions.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tuner.evidence import merging
from tuner.evidence.snapshot import Snapshot
from tuner.store.ranking import metric_key

METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True)
class Point:
    """An epoch: its number, the Unix time it ended, and its metrics; one that was not finite is left out."""

    epoch: int
    time: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """A configuration along all its rungs. `best`: the metrics of its best epoch by the objective, as `best_*`."""

    id: str
    kind: str  # "search", "baseline" or "reference"
    status: str  # "completed", "failed", "running", "interrupted" or "not started"
    reason: str | None
    hyperparameters: Mapping[str, Any]
    points: tuple[Point, ...]
    best: Mapping[str, float]
    began: float

    @property
    def ended(self) -> float:
        return self.points[-1].time if self.points else self.began


@dataclass(frozen=True)
class Runs:
    """`study` is the same text for one study at every reading, and another one after `--fresh`."""

    study: str
    state: str
    began: float
    runs: tuple[Run, ...]

    @property
    def ended(self) -> float:
        return max((run.ended for run in self.runs), default=self.began)


def runs(snapshot: Snapshot) -> Runs:
    """Every configuration of the study, in the order they were first trained."""
    began = clock = _began(snapshot)
    epochs: dict[str, list[sqlite3.Row]] = {}
    starts: dict[str, float] = {}
    for row in snapshot.epochs:
        epochs.setdefault(row["trial"], []).append(row)
    points: dict[str, list[tuple[sqlite3.Row, float]]] = {}
    trials: dict[str, sqlite3.Row] = {}
    for trial in snapshot.trials:
        configuration = trial["configuration"]
        trials[configuration] = trial
        starts.setdefault(configuration, clock)
        for epoch in epochs.get(trial["id"], []):
            clock += epoch["seconds"]
            points.setdefault(configuration, []).append((epoch, clock))
    known = {row["id"]: row for row in snapshot.configurations}
    order = [*trials, *(id for id in known if id not in trials)]
    made = [_run(snapshot, known[id], trials.get(id), points.get(id, []), starts.get(id, clock)) for id in order]
    return Runs(_identity(snapshot), snapshot.study.state, began, tuple(made))


def _run(
    snapshot: Snapshot,
    row: sqlite3.Row,
    trial: sqlite3.Row | None,
    epochs: list[tuple[sqlite3.Row, float]],
    began: float,
) -> Run:
    objective = snapshot.study.spec.search.objective
    seen = [e for e, _ in epochs if e["val_loss"] is not None]
    best = min(seen, key=lambda e: (metric_key(objective, e["val_loss"], e["val_accuracy"]), e["epoch"]), default=None)
    return Run(
        id=row["id"],
        kind=row["kind"],
        status=merging.status(trial["status"], snapshot.study) if trial is not None else "not started",
        reason=trial["reason"] if trial is not None else None,
        hyperparameters=json.loads(row["hyperparameters"]),
        points=tuple(Point(e["epoch"], time, _metrics(e)) for e, time in epochs),
        best={} if best is None else _best(best),
        began=began,
    )


def _best(epoch: sqlite3.Row) -> dict[str, float]:
    return {f"best_{name}": value for name, value in _metrics(epoch).items()} | {"best_epoch": float(epoch["epoch"])}


def _metrics(epoch: sqlite3.Row) -> dict[str, float]:
    return {name: float(epoch[name]) for name in METRICS if epoch[name] is not None}


def _began(snapshot: Snapshot) -> float:
    first = snapshot.first_session
    try:
        return datetime.fromisoformat(first["started"]).timestamp() if first is not None else 0.0
    except ValueError:
        return 0.0


def _identity(snapshot: Snapshot) -> str:
    first = snapshot.first_session
    text = "" if first is None else f"{first['started']} {first['host']} {first['pid']}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
