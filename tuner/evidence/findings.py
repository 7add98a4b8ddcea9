"""What a study may claim, as plain values, and the sentences under its verdict. Filled by `evidence/confirmed.py`.

Accuracies and differences are shares in [0, 1] (a point is 0.01); a difference is winner minus baseline. Whatever was
not measured is None or empty, never invented.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tuner.store.ranking import Rule

OPEN = "Not confirmed yet: the search's own figures flatter its winner. `tlstudy confirm` trains it again."

GROUNDS = {
    "test": "test images that no trial ever saw",
    "leaky test": "test images, some of which trials may have seen (data.allow_leak)",
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
    chance: float = 0.0  # the accuracy that a failed seed counts as

    @property
    def ended(self) -> float | None:
        """Mean accuracy of the seeds that ended; None where none did."""
        return sum(self.accuracies) / len(self.accuracies) if self.accuracies else None

    @property
    def mean(self) -> float | None:
        """Mean accuracy of all seeds, a failed one counted as chance; None while there is none."""
        seeds = len(self.accuracies) + self.failed
        return (sum(self.accuracies) + self.failed * self.chance) / seeds if seeds else None


@dataclass(frozen=True)
class Interval:
    """A difference with its 95 % interval and how that was made, in words."""

    difference: float
    low: float
    high: float
    method: str
    standard_error: float | None = None

    @property
    def error(self) -> float:
        """The standard error; where only the ends are known, that of a normal interval as wide."""
        return (self.high - self.low) / 3.92 if self.standard_error is None else self.standard_error


@dataclass(frozen=True)
class Selection:
    """What choosing the best of many on the same images cost."""

    searched: float  # winner minus baseline as the search saw it, on the validation images
    corrected: Interval  # the same, bootstrap bias-corrected
    draws: int
    expected_best: tuple[tuple[int, float], ...]  # (n, expected best accuracy, or other objective, of n)
    expected_after: int = 0  # so many epochs


@dataclass(frozen=True)
class Findings:
    """The verdict: `kind` is "gain", "loss" (on images that chose the winner "looks better", "looks worse"), "no
    difference", "too few images", "too few seeds" where so many failed that nothing is concluded, "unstable" where
    mean and median of the seeds disagree, or "open" while not confirmed.
    """

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
    leaks: bool = False  # images were let stand in two splits (data.allow_leak)

    @property
    def exploratory(self) -> bool:
        return self.ground != "test"


# ---- in sentences: plain text, each says a figure and what it is counted on ----


def sentences(found: Findings, rule: Rule) -> Iterator[str]:
    """In the order they are to be read; the verdict's own sentence is not repeated. `rule`: the study's."""
    if found.winner is None or found.baseline is None:
        return
    for name, side in (("The winner", found.winner), ("The baseline", found.baseline)):
        yield _side(name, side, found)
    if found.compared is not None:
        yield (
            f"Difference {_points(found.compared.difference)} points, 95 % interval {_points(found.compared.low)} to "
            f"{_points(found.compared.high)} ({found.compared.method})."
        )
    if found.ground == "test":
        times = "once" if found.openings == 1 else f"{found.openings} times: each further look makes it less of a test"
        yield f"The test set was sealed before the search and opened {times}."
    else:
        yield (
            "There is no test set: the images that chose the winner judge it here, which no number of seeds makes up "
            "for. Put photographs aside in test/, or set data.test_fraction where tlstudy splits."
        )
    if found.folds is not None:
        epoch = "epoch chosen inside each training part" if rule.checkpoint == "best" else "last epoch"
        yield (
            f"Cross-validation ({found.folds_made}, {epoch}): difference "
            f"{_points(found.folds.difference)} points, 95 % interval {_points(found.folds.low)} to "
            f"{_points(found.folds.high)} ({found.folds.method}). The configuration had seen these images when it was "
            "chosen."
        )
    yield from selection_sentences(found.selection)
    if found.mcnemar is not None:
        yield f"First seed alone: exact McNemar p = {found.mcnemar:.2g}."


def selection_sentences(found: Selection | None) -> Iterator[str]:
    """What choosing cost, as "search said x"."""
    if found is None:
        return
    yield (
        f"The search said {_points(found.searched)} points on the validation images; with the choosing taken out "
        f"{_points(found.corrected.difference)} ({found.draws:,} bootstrap draws, 95 % interval "
        f"{_points(found.corrected.low)} to {_points(found.corrected.high)})."
    )


def _side(name: str, side: Side, found: Findings) -> str:
    what = "logistic regression, which has no seed" if side.kind == "logistic" else f"{side.epochs} epochs"
    text = f"{name} {side.configuration} ({what})"
    if side.searched is not None:
        text += f": search said {side.searched.correct}/{side.searched.n}"
    if side.mean is not None:
        text += f", confirmed {100 * side.mean:.1f} %"
    if len(side.accuracies) > 1:
        low, high = (round(a * found.images) for a in (min(side.accuracies), max(side.accuracies)))
        text += f" over {len(side.accuracies)} seeds ({low} to {high} of {found.images})"
    if side.confirmed is not None:
        text += (
            f"; first seed {side.confirmed.correct}/{side.confirmed.n}, interval {100 * side.confirmed.low:.0f} to "
            f"{100 * side.confirmed.high:.0f} %"
        )
    if side.failed:
        text += f"; {_seeds(side.failed)} failed and counted as {100 * side.chance:.0f} %, which is chance"
        text += f": without {100 * side.ended:.1f} %" if side.ended is not None else ""
    return text + "."


def _points(share: float) -> str:
    return f"{100 * share:+.1f}" if round(1000 * share) else "0.0"


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"
