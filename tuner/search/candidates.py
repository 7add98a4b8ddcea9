"""What there is to train besides Hyperband's own trials: the reference, the baseline's heads, logistic regression."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tuner.search.space import REFERENCE
from tuner.store.store import TrialRow
from tuner.training import logistic
from tuner.training import trial as trials
from tuner.training.trial import EpochDone, TrialResult, TrialTask, Workshop

Fit = Callable[[TrialTask, Workshop, Callable[[EpochDone], None], threading.Event], TrialResult]


@dataclass(frozen=True)
class Confirms:
    """What a configuration that is trained once more stands for; seeds count from 1, a fold of -1 is none."""

    source: str
    side: str
    seed: int
    fold: int = -1
    repeat: int = -1


@dataclass(frozen=True)
class Candidate:
    """A trial to run; `next_size` is how many the next rung of its bracket takes, None when there is none.

    `fit` trains it, `workshop`: other photographs than the search's, `fixed`: the last epoch counts, not the best,
    `repairs`: it was told before, only its weights are wanted again.
    """

    row: TrialRow
    kind: str
    number: int
    hyperparameters: Mapping[str, int | float]
    next_size: int | None = None
    fit: Fit = trials.run
    workshop: Workshop | None = None
    confirms: Confirms | None = None
    fixed: bool = False
    repairs: bool = False


def fit_of(kind: str) -> Fit:
    """What trains a configuration of this kind."""
    return logistic.run if kind == "logistic" else trials.run


def frozen(configurations: Sequence[Mapping[str, int | float]], epochs: int) -> list[Candidate]:
    """The reference, the baseline's configurations and logistic regression, each one trial over all its epochs."""
    named = [("ref", "reference", 0, REFERENCE)]
    named += [(f"b{i:02d}", "baseline", i, dict(values)) for i, values in enumerate(configurations)]
    found = [
        Candidate(TrialRow(id, id, None, None, None, 0, epochs, None), kind, number, values)
        for id, kind, number, values in named
    ]
    row = TrialRow(logistic.ID, logistic.ID, None, None, None, 0, 1, None)
    return [*found, Candidate(row, "logistic", 0, logistic.HYPERPARAMETERS, fit=logistic.run)]
