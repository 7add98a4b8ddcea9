"""A study as runs for trackers of experiments (TensorBoard, MLflow): plain values, the same ones at every reading.

The store keeps how long each epoch took, not when it ended. The clock of a run is therefore the study's beginning plus
the seconds of all epochs before: in order and never in the future, but without the pauses between sessions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tuner.evidence.configurations import best_epoch, figures, status
from tuner.evidence.study import Study
from tuner.store.ranking import Rule
from tuner.store.tables import Configuration, Epoch, Tables, Trial


@dataclass(frozen=True)
class Point:
    """An epoch: its number, the Unix time it ended, and its metrics; one that was not finite is left out."""

    epoch: int
    time: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """A configuration along all its rungs. `best`: the metrics of its epoch that counts, as `best_*`."""

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


def runs(tables: Tables, study: Study) -> Runs:
    """Every configuration of the study, in the order they were first trained."""
    began = clock = _began(tables)
    epochs: dict[str, list[Epoch]] = {}
    for row in tables.epochs:
        epochs.setdefault(row.trial, []).append(row)
    starts: dict[str, float] = {}
    points: dict[str, list[tuple[Epoch, float]]] = {}
    trials: dict[str, Trial] = {}
    for trial in tables.trials.values():
        trials[trial.configuration] = trial
        starts.setdefault(trial.configuration, clock)
        for epoch in epochs.get(trial.id, []):
            clock += epoch.seconds
            points.setdefault(trial.configuration, []).append((epoch, clock))
    known = tables.configurations
    order = [*trials, *(id for id in known if id not in trials)]
    made = [_run(study, known[id], trials.get(id), points.get(id, []), starts.get(id, clock)) for id in order]
    return Runs(_identity(tables), study.state, began, tuple(made))


def _run(
    study: Study, configuration: Configuration, trial: Trial | None, epochs: list[tuple[Epoch, float]], began: float
) -> Run:
    rule = study.rule
    best = best_epoch((epoch for epoch, _ in epochs), rule)
    return Run(
        id=configuration.id,
        kind=configuration.kind,
        status=status(trial.status, study) if trial is not None else "not started",
        reason=trial.reason if trial is not None else None,
        hyperparameters=configuration.hyperparameters,
        points=tuple(Point(epoch.epoch, time, _metrics(epoch, rule)) for epoch, time in epochs),
        best={} if best is None else _best(best, rule),
        began=began,
    )


def _best(epoch: Epoch, rule: Rule) -> dict[str, float]:
    return {f"best_{name}": value for name, value in _metrics(epoch, rule).items()} | {"best_epoch": float(epoch.epoch)}


def _metrics(epoch: Epoch, rule: Rule) -> dict[str, float]:
    return {name: float(value) for name, value in figures(epoch, rule).items() if value is not None}


def _began(tables: Tables) -> float:
    try:
        return datetime.fromisoformat(tables.sessions[0].started).timestamp() if tables.sessions else 0.0
    except ValueError:
        return 0.0


def _identity(tables: Tables) -> str:
    """What tells this study from every other one: when, where and as which process it began."""
    text = "" if not tables.sessions else "{0.started} {0.host} {0.pid}".format(tables.sessions[0])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
