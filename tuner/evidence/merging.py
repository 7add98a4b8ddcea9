"""Merges a study's trials and epochs into one row a configuration, and ranks them by the study's rule."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pandas as pd

from tuner.evidence.snapshot import Snapshot, Study
from tuner.evidence.statistics import wilson
from tuner.store.ranking import metric_key, place

HYPERPARAMETERS = (
    "unfrozen_layers",
    "learning_rate",
    "head_width",
    "dropout",
    "weight_decay",
    "label_smoothing",
    "backbone_rate",
    "fitted_head",
)

BASELINES = ("baseline", "logistic")

WHOLE = (
    "number",
    "unfrozen_layers",
    "head_width",
    "iteration",
    "bracket",
    "rung",
    "position",
    "first_epoch",
    "last_epoch",
    "attempts",
    "epoch",
    "epochs",
    "best_epoch",
    "correct",
    "validation",
    "trained_parameters",
    "images",
    "images_over_baseline",
    "tried",
    "finished",
)
"""Columns of whole numbers that may be missing: pandas's nullable Int64."""

TEXTS = ("id", "kind", "configuration", "trial", "parent", "status", "reason", "cut", "best")

TRIAL_COLUMNS = (
    "id",
    "position",
    "configuration",
    "kind",
    "iteration",
    "bracket",
    "rung",
    "first_epoch",
    "last_epoch",
    "parent",
    "status",
    "attempts",
    "score",
    "best_epoch",
    "reason",
    "seconds",
)
EPOCH_COLUMNS = (
    "configuration",
    "kind",
    "trial",
    "epoch",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "seconds",
    "images",
    *HYPERPARAMETERS,
)
CONFIGURATION_COLUMNS = (
    "id",
    "kind",
    "number",
    *HYPERPARAMETERS,
    "cut",
    "iteration",
    "bracket",
    "rung",
    "epochs",
    "full",
    "best_epoch",
    "val_loss",
    "val_accuracy",
    "loss",
    "accuracy",
    "correct",
    "validation",
    "low",
    "high",
    "accuracy_over_baseline",
    "images_over_baseline",
    "loss_over_baseline",
    "trained_parameters",
    "seconds",
    "status",
    "reason",
)


def configurations(snapshot: Snapshot) -> pd.DataFrame:
    """One row a configuration with at least `CONFIGURATION_COLUMNS`; see `Results.configurations`."""
    epochs: dict[str, list[sqlite3.Row]] = {}
    trials: dict[str, list[sqlite3.Row]] = {}
    for row in snapshot.epochs:
        epochs.setdefault(row["configuration"], []).append(row)
    for row in snapshot.trials:
        trials.setdefault(row["configuration"], []).append(row)
    merged = [
        _merge(snapshot.study, r, trials.get(r["id"], []), epochs.get(r["id"], [])) for r in snapshot.configurations
    ]
    result = table(merged, CONFIGURATION_COLUMNS)
    objective = snapshot.study.spec.search.objective
    candidates = result[result["kind"].isin(BASELINES)].to_dict(orient="records")
    baseline = min(candidates, key=lambda row: rank(row, objective), default=None)
    if baseline is not None and usable(baseline):
        result["accuracy_over_baseline"] = result["val_accuracy"] - baseline["val_accuracy"]
        result["images_over_baseline"] = result["correct"] - baseline["correct"]
        result["loss_over_baseline"] = result["val_loss"] - baseline["val_loss"]
    return result


def rank(row: Any, objective: str) -> tuple[Any, ...]:
    """A configuration's place, smaller is better: the rule that `Results.ranking` states."""
    return place(
        metric_key(objective, _known(row["val_loss"]), _known(row["val_accuracy"])),
        failed=row["status"] == "failed",
        full=row["full"],
        epochs=row["epochs"],
        number=row["number"],
    )


def usable(row: Any) -> bool:
    """Whether a configuration can be a winner, a baseline or a reference: it did not fail and has a finished epoch."""
    return row["status"] != "failed" and not pd.isna(row["val_loss"])


def status(stored: str, study: Study) -> str:
    """The store's word for a trial's status in ours; a trial that runs while nobody holds the study was cut off."""
    return "interrupted" if stored == "RUNNING" and study.state != "running" else stored.lower()


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    """The rows with at least these columns, in this order, each of one type also when there is no row."""
    more = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in columns]
    made = pd.DataFrame(rows, columns=[*columns, *more])
    for name in columns:
        if name in WHOLE:
            made[name] = pd.to_numeric(made[name]).astype("Int64")
        elif name == "full":
            made[name] = made[name].astype(bool)
        elif name not in TEXTS:
            made[name] = pd.to_numeric(made[name]).astype("float64")
    return made


def _merge(study: Study, stored: sqlite3.Row, trials: list[sqlite3.Row], epochs: list[sqlite3.Row]) -> dict[str, Any]:
    n, search = study.validation, study.spec.search
    row: dict[str, Any] = {k: stored[k] for k in ("id", "kind", "number", "cut", "trained_parameters")}
    row |= json.loads(stored["hyperparameters"])
    row |= {"epochs": len(epochs), "full": len(epochs) >= search.max_epochs, "validation": n}
    row["full"] |= stored["kind"] == "logistic" and bool(epochs)  # it has no more than one
    row |= {"seconds": _seconds(trials, epochs), "status": "not started"}
    if trials:
        row |= {k: trials[-1][k] for k in ("iteration", "bracket", "rung", "reason")}
        row["status"] = status(trials[-1]["status"], study)
    seen = [e for e in epochs if e["val_loss"] is not None]
    best = min(
        seen,
        key=lambda e: (metric_key(search.objective, e["val_loss"], e["val_accuracy"]), e["epoch"]),
        default=None,
    )
    if stored["kind"] == "seed" and seen:
        best = seen[-1]  # its number of epochs was fixed before
    if best is not None:
        row |= {k: best[k] for k in ("loss", "accuracy", "val_loss", "val_accuracy")} | {"best_epoch": best["epoch"]}
        if n and best["val_accuracy"] is not None:
            row["correct"] = round(best["val_accuracy"] * n)
            row["low"], row["high"] = wilson(row["correct"], n)
    return row


def _known(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _seconds(trials: list[sqlite3.Row], epochs: list[sqlite3.Row]) -> float:
    """What its trials took; a trial that has not ended counts its epochs."""
    ended = sum(t["seconds"] for t in trials if t["seconds"] is not None)
    going = {t["id"] for t in trials if t["seconds"] is None}
    return float(ended + sum(e["seconds"] for e in epochs if e["trial"] in going))
