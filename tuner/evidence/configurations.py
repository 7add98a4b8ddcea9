"""Merges a study's trials and epochs into one row a configuration, and ranks them by the study's rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

import pandas as pd

from tuner.evidence.statistics import wilson
from tuner.evidence.study import Study
from tuner.spec.configuration import HYPERPARAMETERS
from tuner.store.ranking import Key, Rule, best_of, metric_key, out_of_patience, place
from tuner.store.tables import Configuration, Epoch, Tables, Trial

NAMES = tuple(h.name for h in HYPERPARAMETERS)
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

WORDS = tuple(h.name for h in HYPERPARAMETERS if h.words)
TEXTS = ("id", "kind", "configuration", "trial", "parent", "status", "reason", "cut", "best", *WORDS)


def _columns(row: type[Trial | Epoch]) -> tuple[str, ...]:
    """The row's fields, and after its configuration that one's kind."""
    names = [field.name for field in fields(row)]
    after = names.index("configuration") + 1
    return (*names[:after], "kind", *names[after:])


TRIAL_COLUMNS = _columns(Trial)
EPOCH_COLUMNS = (*(name for name in _columns(Epoch) if name not in ("score", "losses")), *NAMES)
CONFIGURATION_COLUMNS = (
    "id",
    "kind",
    "number",
    *NAMES,
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


def with_objective(columns: tuple[str, ...], rule: Rule) -> tuple[str, ...]:
    """The columns, and after the metrics that every study has the objective, if it is another one."""
    at = 1 + max(columns.index(name) for name in ("val_loss", "val_accuracy") if name in columns)
    return (*columns[:at], *([rule.scored] if rule.scored else []), *columns[at:])


def figures(epoch: Epoch, rule: Rule) -> dict[str, float | None]:
    """An epoch's metrics by name, the objective's score under its own."""
    found = {name: getattr(epoch, name) for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
    return found | ({rule.scored: epoch.score} if rule.scored else {})


def configurations(tables: Tables, study: Study) -> pd.DataFrame:
    """One row a configuration with at least `CONFIGURATION_COLUMNS`; see `Results.configurations`."""
    epochs: dict[str, list[Epoch]] = {}
    trials: dict[str, list[Trial]] = {}
    for epoch in tables.epochs:
        epochs.setdefault(epoch.configuration, []).append(epoch)
    for trial in tables.trials.values():
        trials.setdefault(trial.configuration, []).append(trial)
    merged = [_merged(study, c, trials.get(c.id, []), epochs.get(c.id, [])) for c in tables.configurations.values()]
    result = table(merged, with_objective(CONFIGURATION_COLUMNS, study.rule))
    candidates = result[result["kind"].isin(BASELINES)].to_dict(orient="records")
    baseline = min(candidates, key=lambda row: rank(row, study.rule), default=None)
    if baseline is not None and usable(baseline):
        result["accuracy_over_baseline"] = result["val_accuracy"] - baseline["val_accuracy"]
        result["images_over_baseline"] = result["correct"] - baseline["correct"]
        result["loss_over_baseline"] = result["val_loss"] - baseline["val_loss"]
    return result


def ranked(table: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """The same rows, best first."""
    rows = table.to_dict(orient="records")
    order = sorted(range(len(rows)), key=lambda i: rank(rows[i], rule))
    return table.iloc[order].reset_index(drop=True)


def best_epoch(epochs: Iterable[Epoch], rule: Rule) -> Epoch | None:
    """The one that counts by the study's rule, of those that have a loss; None where none has."""
    return best_of((epoch for epoch in epochs if epoch.val_loss is not None), rule)


def key(row: Any, rule: Rule) -> Key:
    """`metric_key` of a configuration's figures."""
    names = ("val_loss", "val_accuracy", *([rule.scored] if rule.scored else []))
    return metric_key(rule.objective, *(_known(row[name]) for name in names))


def rank(row: Any, rule: Rule) -> tuple[Any, ...]:
    """A configuration's place, smaller is better: the rule that `Results.ranking` states."""
    return place(
        key(row, rule),
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


def _merged(study: Study, configuration: Configuration, trials: list[Trial], epochs: list[Epoch]) -> dict[str, Any]:
    n = study.validation
    row: dict[str, Any] = {k: getattr(configuration, k) for k in ("id", "kind", "number", "cut", "trained_parameters")}
    row |= configuration.hyperparameters
    most = study.spec.search.max_epochs
    row |= {"epochs": len(epochs), "full": len(epochs) >= most, "validation": n}
    regression = configuration.hyperparameters.get("learning_rate") is None
    row["full"] |= regression and bool(epochs)  # it has no more than one
    row |= {"seconds": _seconds(trials, epochs), "status": "not started"}
    if trials:
        row |= {k: getattr(trials[-1], k) for k in ("iteration", "bracket", "rung", "reason")}
        row["status"] = status(trials[-1].status, study)
    rule = study.rule
    if configuration.kind == "seed" and study.fixed_epochs:
        rule = replace(rule, checkpoint="last")
    # A regression that was fitted to the validation images too has no figure of them.
    best = best_epoch(epochs, rule) or (epochs[-1] if regression and epochs else None)
    if trials and trials[-1].last_epoch >= most:
        row["full"] |= out_of_patience(best, len(epochs), rule)
    if best is not None:
        row |= figures(best, rule)
        row["best_epoch"] = best.epoch
        if n and best.val_accuracy is not None:
            row["correct"] = round(best.val_accuracy * n)
            row["low"], row["high"] = wilson(row["correct"], n)
    return row


def _known(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _seconds(trials: list[Trial], epochs: list[Epoch]) -> float:
    """What its trials took; a trial that has not ended counts its epochs."""
    ended = sum(t.seconds for t in trials if t.seconds is not None)
    going = {t.id for t in trials if t.seconds is None}
    return float(ended + sum(e.seconds for e in epochs if e.trial in going))
