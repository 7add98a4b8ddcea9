"""What a study may claim, as plain values: the verdict and the evidence under it. Filled by `evidence/confirmed.py`.

Accuracies and differences are shares in [0, 1] (a point is 0.01); a difference is winner minus baseline. Whatever was
not measured is None or empty, never invented.
"""

from __future__ import annotations

from dataclasses import dataclass

GROUNDS = {
    "test": "test images that no trial ever saw",
    "validation": "the validation images, which chose the winner",
}
"""What the verdict is counted on, by `Findings.ground`. On "validation" a verdict is exploratory."""


@dataclass(frozen=True)
class Rate:
    """`correct` of `n` images, with the 95 % Wilson interval `low` to `high`."""

    correct: int
    n: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.correct / self.n if self.n else 0.0


@dataclass(frozen=True)
class Side:
    """The winner or the baseline, trained again from fresh seeds."""

    configuration: str
    kind: str  # "search", "baseline" or "logistic"
    epochs: int  # the fixed number it was trained again for; 0: logistic regression, which has none
    accuracies: tuple[float, ...]  # one a seed that ended, on the images of the verdict
    failed: int  # seeds whose training failed: counted, not dropped
    searched: Rate | None  # what the search said on the validation images
    confirmed: Rate | None  # the first fresh seed on the images of the verdict


@dataclass(frozen=True)
class Interval:
    """A difference with its 95 % interval and how that was made, in words."""

    difference: float
    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Selection:
    """What choosing the best of many on the same images cost."""

    searched: float  # winner minus baseline as the search saw it, on the validation images
    corrected: Interval  # the same, bootstrap bias-corrected
    draws: int
    expected_best: tuple[tuple[int, float], ...]  # (n, expected best validation accuracy of n configurations)


@dataclass(frozen=True)
class Findings:
    """The verdict: `kind` is "gain", "loss", "no difference", "too few images", or "open" while not confirmed."""

    kind: str
    sentence: str  # the verdict in one plain sentence
    evidence: tuple[str, ...]  # the sentences under it, in the order they are to be read
    ground: str  # a key of GROUNDS
    images: int
    seeds: int
    margin: float
    winner: Side | None = None
    baseline: Side | None = None
    other_baseline: Side | None = None  # the baseline that was not the better of the two
    compared: Interval | None = None
    mcnemar: float | None = None  # exact two-sided p of the first seed
    openings: int = 0  # how often the test set was opened
    folds: Interval | None = None  # repeated cross-validation, where it was asked for
    folds_made: str = ""  # "5 folds, 2 times"
    selection: Selection | None = None

    @property
    def exploratory(self) -> bool:
        return self.ground != "test"
