"""Figures that the stored predictions do not bear out, set right by them: a database can be edited by any hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tuner.evidence.metrics import score
from tuner.evidence.study import Study
from tuner.store.ranking import Rule, value_of
from tuner.store.tables import Epoch, Tables

CHOSEN = ("search", "baseline", "reference", "logistic", "seed")
"""Kinds whose predictions are of the study's validation images."""
TINY = 1e-30
"""A loss of smaller probabilities cannot be told from float32 numbers."""
SOME = 3


def believed(tables: Tables, study: Study) -> tuple[Tables, tuple[str, ...]]:
    """The rows with accuracy, loss and objective of each epoch whose predictions are stored as those give them, where
    they say something else, and a warning that names these epochs; none where nothing differs.
    """
    truth, shape = np.array(study.val_labels, np.int64), (study.validation, len(study.classes))
    found: dict[tuple[str, int], Epoch] = {}
    said = []
    for epoch in tables.epochs:
        stored = tables.predictions.get(epoch.configuration)
        if stored is None or stored.epoch != epoch.epoch or epoch.val_accuracy is None or not len(truth):
            continue
        if tables.configurations[epoch.configuration].kind not in CHOSEN:
            continue
        if len(stored.probabilities) != 4 * shape[0] * shape[1]:
            continue
        chances = np.frombuffer(stored.probabilities, dtype="<f4").reshape(shape)
        if text := _difference(epoch, given := _given(epoch, chances, truth, study.rule), len(truth)):
            found[epoch.configuration, epoch.epoch] = given
            said.append(f"{epoch.configuration}, epoch {epoch.epoch}: {text}")
    if not found:
        return tables, ()
    trials = dict(tables.trials)
    for id, trial in trials.items():
        now = found.get((trial.configuration, trial.best_epoch or 0))
        if now is not None and trial.score is not None:
            trials[id] = replace(trial, score=value_of(now, study.rule.objective))
    epochs = [found.get((epoch.configuration, epoch.epoch), epoch) for epoch in tables.epochs]
    more = f"; and {len(said) - SOME} more" if len(said) > SOME else ""
    warning = (
        f"study.db says something else than the predictions stored in it ({'; '.join(said[:SOME])}{more}): it was "
        "edited, or damaged. What the predictions give is reported."
    )
    return replace(tables, epochs=epochs, trials=trials), (warning,)


def _given(epoch: Epoch, chances: NDArray[np.float32], truth: NDArray[np.int64], rule: Rule) -> Epoch:
    """The epoch with what its predictions (images, classes) give, as far as they can tell."""
    true = chances[np.arange(len(truth)), truth].astype(np.float64)
    known = bool(np.isfinite(true).all() and true.min() > TINY)
    value = score(rule.objective, chances, truth)
    return replace(
        epoch,
        val_accuracy=float(np.mean(chances.argmax(axis=1) == truth)),
        val_loss=float(-np.log(true).mean()) if known else epoch.val_loss,
        score=epoch.score if value is None or not math.isfinite(value) else value,
    )


def _difference(epoch: Epoch, given: Epoch, images: int) -> str:
    """In words, beyond rounding: "accuracy 12/12, by the predictions 8/12"."""
    counts = [round((e.val_accuracy or 0.0) * images) for e in (epoch, given)]
    pairs = {"loss": (epoch.val_loss, given.val_loss), "objective": (epoch.score, given.score)}
    parts = [f"{counts[0]}/{images} correct, by the predictions {counts[1]}/{images}"] if counts[0] != counts[1] else []
    for name, (before, now) in pairs.items():
        if before is not None and now is not None and not math.isclose(before, now, rel_tol=1e-3, abs_tol=1e-4):
            parts.append(f"{name} {before:.4f}, by the predictions {now:.4f}")
    return ", ".join(parts)
