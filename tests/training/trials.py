"""Runs single trials for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tuner.search.space import REFERENCE
from tuner.store.store import EpochRow
from tuner.training import trial


def task(workshop: Any, folder: Path, *, batch_norm: str = "frozen", **changes: Any) -> trial.TrialTask:
    """A task over the workshop's photographs, 3 epochs of batches of 10 unless told otherwise; a name of a
    hyperparameter changes that one."""
    values = {k: changes.pop(k, v) for k, v in (REFERENCE | {"unfrozen_layers": 10, "head_width": 8}).items()}
    of = workshop.networks.backbone.architecture
    start = of.nearest(of.cut_for(int(values["unfrozen_layers"]), batch_norm), workshop.features.arrays)
    folder.mkdir(exist_ok=True)
    plain = trial.TrialTask(
        trial="0000",
        configuration="c000",
        hyperparameters=values,
        start=start,
        first_epoch=0,
        start_epoch=0,
        last_epoch=3,
        seed=0,
        batch_size=10,
        objective="val_loss",
        balanced=False,
        checkpoint=None,
        folder=str(folder),
        keep_last=True,
    )
    return replace(plain, **changes)


def run(
    wanted: trial.TrialTask,
    workshop: Any,
    stop: threading.Event | None = None,
    on_epoch: Callable[[trial.EpochDone], None] = lambda done: None,
) -> tuple[trial.TrialResult, list[trial.EpochDone]]:
    """Runs a task; returns its result and what it reported."""
    done: list[trial.EpochDone] = []

    def listen(epoch: trial.EpochDone) -> None:
        done.append(epoch)
        on_epoch(epoch)

    return trial.run(wanted, workshop, listen, stop or threading.Event()), done


def resumed(wanted: trial.TrialTask, done: list[trial.EpochDone], last_epoch: int) -> trial.TrialTask:
    """The task that goes on from what was saved last."""
    points = {s.role: s for d in done for s in d.saved}
    last = points["last"]
    rows = tuple(d.row for d in done if d.row.epoch <= last.epoch)
    return replace(
        wanted,
        start_epoch=last.epoch,
        last_epoch=last_epoch,
        checkpoint=str(Path(wanted.folder) / last.file),
        earlier=(*wanted.earlier, *rows),
    )


def numbers(done: list[trial.EpochDone]) -> list[tuple[Any, ...]]:
    """All of the epochs that is not a time."""
    return [figures(d.row) for d in done]


def figures(row: EpochRow) -> tuple[Any, ...]:
    return (row.epoch, row.loss, row.accuracy, row.val_loss, row.val_accuracy, row.images)


def saved(wanted: trial.TrialTask, done: list[trial.EpochDone], role: str) -> tuple[int, dict[str, np.ndarray]]:
    """The last checkpoint of a role: its epoch and arrays."""
    point = [s for d in done for s in d.saved if s.role == role][-1]
    with np.load(Path(wanted.folder) / point.file, allow_pickle=False) as arrays:
        return point.epoch, dict(arrays)


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k]) for k in a)
