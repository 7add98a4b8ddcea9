"""What a running search says. The loop emits these; whoever shows them decides how. Plain values, no Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tuner.store.store import Bracket, EpochRow


@dataclass(frozen=True)
class Planned:
    """Said once before training: everything the search is going to do."""

    brackets: tuple[Bracket, ...]
    baseline: int  # frozen configurations trained for the baseline, reference and logistic regression not counted
    max_epochs: int
    objective: str
    done: int  # trials that an earlier session finished
    total: int  # trials in all, baseline, reference and logistic regression included, confirmation not


@dataclass(frozen=True)
class Counted:
    """How many images each split has, and how they are going to judge, said before anything is computed from them."""

    train: int
    validation: int
    test: int
    seeds: int = 5  # fresh seeds of the confirmation, at least
    margin: float = 0.02
    groups: int | None = None  # of the test images, where data.groups names any


@dataclass(frozen=True)
class Phase:
    """A stage begins: "images", "backbone", "features", "baseline", "search", "confirm"."""

    name: str
    detail: str = ""


@dataclass(frozen=True)
class Progress:
    """Inside a phase: `done` of `total` things (images)."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class Notice:
    """A sentence the user should read; `warning` when it qualifies the result."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class TrialStarted:
    """A configuration begins the epochs of one rung, or of the whole baseline."""

    trial: str
    configuration: str
    kind: str  # "search", "baseline", "reference", "logistic", "seed" or "fold"
    hyperparameters: Mapping[str, Any]
    iteration: int | None
    bracket: int | None
    rung: int | None
    first_epoch: int  # epochs already trained before this trial
    last_epoch: int
    cut: str


@dataclass(frozen=True)
class EpochEnded:
    """An epoch is in the store; `is_best`: the one that counts so far of the configuration."""

    trial: str
    configuration: str
    kind: str
    row: EpochRow
    is_best: bool
    images_per_second: float


@dataclass(frozen=True)
class TrialEnded:
    """A trial is in the store with its outcome."""

    trial: str
    configuration: str
    kind: str
    status: str  # "COMPLETED" or "FAILED"
    score: float | None
    best: EpochRow | None  # the configuration's epoch that counts so far
    reason: str | None
    seconds_left: float | None  # of search and confirmation, from what the remaining trials cost; None while unknown
    epochs: int | None = None  # that the configuration was trained for by then, where that is known


Event = Planned | Counted | Phase | Progress | Notice | TrialStarted | EpochEnded | TrialEnded
Listener = Callable[[Event], object]
