"""Figures that the stored predictions do not bear out, set right by them: a database can be edited by any hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tuner.evidence.metrics import score
from tuner.evidence.study import Study
from tuner.store.ranking import Rule, value_of
from tuner.store.tables import Epoch, Prediction, Tables

CHOSEN = ("search", "baseline", "reference", "logistic", "seed")
"""Kinds whose predictions are of the study's validation images."""
TINY = 1e-30
"""A loss of smaller probabilities cannot be told from float32 numbers."""
SOME = 3


def believed(tables: Tables, study: Study) -> tuple[Tables, tuple[str, ...]]:
    """The rows with accuracy, loss and objective of each epoch whose predictions are stored as those give them, where
    they say something else, and a warning that names these epochs; none where nothing differs.
    """
    kinds = {id: configuration.kind for id, configuration in tables.configurations.items()}
    found = set_right(tables.epochs, tables.predictions, kinds, study.val_labels, len(study.classes), study.rule)
    if not found:
        return tables, ()
    epochs = [found[key][0] if (key := (e.configuration, e.epoch)) in found else e for e in tables.epochs]
    trials = dict(tables.trials)
    for id, trial in trials.items():
        if trial.score is not None and (key := (trial.configuration, trial.best_epoch or 0)) in found:
            trials[id] = replace(trial, score=value_of(found[key][0], study.rule.objective))
    said = [f"{id}, epoch {epoch}: {text}" for (id, epoch), (_, text) in found.items()]
    more = f"; and {len(said) - SOME} more" if len(said) > SOME else ""
    warning = (
        f"study.db says something else than the predictions stored in it ({'; '.join(said[:SOME])}{more}): it was "
        "edited, or damaged. What the predictions give is reported."
    )
    return replace(tables, epochs=epochs, trials=trials), (warning,)


def set_right(
    epochs: Sequence[Epoch],
    predictions: Mapping[str, Prediction],
    kinds: Mapping[str, str],
    labels: Sequence[int],
    classes: int,
    rule: Rule,
) -> dict[tuple[str, int], tuple[Epoch, str]]:
    """By configuration and epoch those that differ: what their predictions give, and the difference in words. `kinds`:
    of each configuration; `labels`: the true classes of the validation images, in their order.
    """
    truth, found = np.array(labels, np.int64), {}
    for epoch in epochs:
        stored = predictions.get(epoch.configuration)
        if stored is None or stored.epoch != epoch.epoch or epoch.val_accuracy is None or not len(truth):
            continue
        if kinds.get(epoch.configuration) not in CHOSEN or len(stored.probabilities) != 4 * len(truth) * classes:
            continue
        chances = np.frombuffer(stored.probabilities, dtype="<f4").reshape(len(truth), classes)
        given = _given(epoch, chances, truth, rule)
        if text := _difference(epoch, given, len(truth)):
            found[epoch.configuration, epoch.epoch] = given, text
    return found


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
