"""What a study may claim, as plain values, and the sentences under its verdict. Filled by `evidence/confirmed.py`.

Accuracies and differences are shares in [0, 1] (a point is 0.01); a difference is winner minus baseline. Whatever was
not measured is None or empty, never invented.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tuner.evidence.stability import DROP, MOST, unseen
from tuner.store.ranking import Rule

OPEN = "Not confirmed yet: the search's own figures flatter its winner. `tlstudy confirm` trains it again."

GROUNDS = {
    "test": "test images that no trial ever saw",
    "leaky test": "test images, some of which trials may have seen (data.allow_leak)",
    "validation": "the validation images, which chose the winner",
}
"""What the verdict is counted on, by `Findings.ground`. On "validation" a verdict is exploratory."""

LEAKY = " Images were let stand in two splits (data.allow_leak): trials may have seen some of the test images."
"""Follows the verdict's sentence wherever it goes, where there is no clean test."""


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
    """One of the configurations that were trained again from fresh seeds."""

    configuration: str
    kind: str  # "search", "baseline" or "logistic"
    epochs: int  # that it was trained again for, at most; 0: logistic regression, which has none
    accuracies: tuple[float, ...]  # one a seed that ended, on the images of the verdict
    failed: int  # seeds whose training failed: counted, not dropped
    searched: Rate | None  # what the search said on the validation images
    confirmed: Rate | None  # the first fresh seed on the images of the verdict
    chance: float = 0.0  # the accuracy that a failed seed counts as
    fixed: bool = False  # the last of the epochs counts, not the one that the study's rule chooses
    unfrozen_layers: int = 0

    @property
    def what(self) -> str:
        """What it is, in words."""
        if self.kind == "logistic":
            return "logistic regression"
        layers = self.unfrozen_layers
        return f"{layers} layer{'s' * (layers != 1)} unfrozen" if layers else "a trained head"

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
    """A difference with its interval and how that was made, in words."""

    difference: float
    low: float
    high: float
    method: str
    standard_error: float | None = None
    confidence: float = 0.95

    @property
    def error(self) -> float:
        """The standard error; where only the ends are known, that of a normal interval as wide."""
        return (self.high - self.low) / 3.92 if self.standard_error is None else self.standard_error


@dataclass(frozen=True)
class Probabilities:
    """The second outcome: the winner's Brier score, halved to [0, 1], minus the baseline's on the same images; below 0
    the winner's probabilities are better. `kind`: "better probabilities", "worse probabilities" or "undecided";
    `winner`, `baseline`: the scores themselves, means over seeds and images.
    """

    kind: str
    difference: float
    low: float
    high: float
    standard_error: float
    winner: float
    baseline: float
    confidence: float = 0.95

    @property
    def sentence(self) -> str:
        """What it shows."""
        told = {
            "better probabilities": "the winner's probabilities are better",
            "worse probabilities": "the winner's probabilities are worse",
            "undecided": "winner and baseline are not told apart",
        }
        return (
            f"By the second outcome, the Brier score of their probabilities (0 is perfect), {told[self.kind]}: "
            f"{self.winner:.3f} and {self.baseline:.3f}, difference {self.difference:+.3f}, "
            f"{_percent(self.confidence)} interval {self.low:+.3f} to {self.high:+.3f}."
        )


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
    sentence: str  # the verdict in plain words: what is shown, then what would help
    evidence: tuple[str, ...]  # the sentences under it, in the order they are to be read
    ground: str  # a key of GROUNDS
    images: int
    seeds: int
    margin: float
    winner: Side | None = None
    baseline: Side | None = None
    other_baseline: Side | None = None  # the baseline that was not the better of the two
    unfrozen: Side | None = None  # of a frozen winner: the best configuration with unfrozen layers
    compared: Interval | None = None
    compared_other: Interval | None = None  # winner minus the other baseline
    compared_unfrozen: Interval | None = None  # `unfrozen` minus the baseline
    balanced: Interval | None = None  # winner minus baseline in balanced accuracy, where classes differ in size
    probabilities: Probabilities | None = None  # the second outcome
    collapsed: tuple[str, ...] = ()  # seeds that did, in words
    mcnemar: float | None = None  # exact two-sided p of the first seed
    openings: int = 0  # how often the test set was opened by this study
    openings_elsewhere: int = 0  # how often before that by others on this machine, or by this one before --fresh
    folds: Interval | None = None  # repeated cross-validation, where it was asked for
    folds_made: str = ""  # "5 folds, 2 times"
    selection: Selection | None = None
    leaks: bool = False  # images were let stand in two splits (data.allow_leak)
    groups: int | None = None  # so many the images are of, by data.groups; None: each is its own

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
        yield f"Difference {_interval(found.compared)} ({found.compared.method})."
        yield from _seeds_of(found, found.winner)
    if found.balanced is not None:
        yield f"Classes differ in size: in balanced accuracy {_interval(found.balanced)} ({found.balanced.method})."
    if found.probabilities is not None:
        yield found.probabilities.sentence
    if found.other_baseline is not None and found.compared_other is not None:
        yield (
            f"{_side('The other baseline', found.other_baseline, found)[:-1]}. The winner minus that: "
            f"{_interval(found.compared_other)}; a gain has to hold against both."
        )
    if not found.winner.unfrozen_layers:
        text = "The winner's backbone is frozen, as the baseline's is: this compares two ways to train a head"
        if found.unfrozen is None or found.compared_unfrozen is None:
            yield f"{text}, and says nothing of unfreezing layers."
        else:
            yield (
                f"{text}. {_side('The best configuration with unfrozen layers,', found.unfrozen, found)[:-1]}; minus "
                f"the baseline: {_interval(found.compared_unfrozen)}."
            )
    if found.winner.epochs:
        yield _epochs(found.winner, rule)
    if found.ground == "test":
        yield _opened(found)
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
    if found.groups is not None:
        yield (
            f"The {found.images} images stand in {_several(found.groups, 'group')} (data.groups). The difference's "
            "interval goes by groups; intervals of single models and McNemar's p take every image for independent."
        )


def selection_sentences(found: Selection | None) -> Iterator[str]:
    """What choosing cost, as "search said x"."""
    if found is None:
        return
    yield (
        f"The search said {_points(found.searched)} points on the validation images; with the choosing taken out "
        f"{_points(found.corrected.difference)} ({found.draws:,} bootstrap draws, 95 % interval "
        f"{_points(found.corrected.low)} to {_points(found.corrected.high)})."
    )


def _seeds_of(found: Findings, winner: Side) -> Iterator[str]:
    """Which seeds collapsed, or what may not have shown itself yet."""
    if found.collapsed:
        yield (
            f"Training is not stable: {', '.join(found.collapsed)}, more than {100 * DROP:.0f} points below the good "
            "seeds; a gain or loss is claimed only where mean and median of the seeds agree."
        )
    elif len(winner.accuracies) > 1:
        seeds = len(winner.accuracies)
        text = f"None of the winner's {_several(seeds, 'seed')} that ended came out far worse than the others; so few "
        text += f"leave open that up to {100 * unseen(seeds):.0f} in 100 further ones would (95 % bound)"
        if found.kind == "gain" and seeds < MOST:
            text += f"; whether the gain holds with more seeds tells `tlstudy confirm --seeds {MOST}`"
        yield f"{text}."


def _epochs(side: Side, rule: Rule) -> str:
    """By which rule a fresh seed's epoch was chosen."""
    if side.fixed:
        return (
            "Confirmed by the rule of an earlier version: fresh seeds trained for as many epochs as the search's own "
            "run took to the one that counts, and what is exported is that run's model."
        )
    which = "kept the best one by the validation images" if rule.checkpoint == "best" else "kept the last one"
    return (
        f"Each fresh seed trained for up to {_several(side.epochs, 'epoch')} and {which}, as the search did. The model "
        "that is exported is the median of these seeds by the validation images."
    )


def _opened(found: Findings) -> str:
    """How often the test set was looked at."""
    times = "once" if found.openings == 1 else f"{found.openings} times"
    text = f"The test set was sealed before the search and opened {times}"
    if found.openings_elsewhere:
        more = found.openings_elsewhere
        text += f", and {'once' if more == 1 else f'{more} times'} before by other searches on this machine"
    if found.openings + found.openings_elsewhere > 1:
        text += ": each further look makes it less of a test. The interval is that of the final number of seeds"
        if found.compared is not None and found.compared.confidence > 0.95:
            text += f", and of {_percent(found.compared.confidence)}: 5 % of error by the number of looks"
    return f"{text}."


def _interval(found: Interval) -> str:
    ends = f"{_points(found.low)} to {_points(found.high)}"
    return f"{_points(found.difference)} points, {_percent(found.confidence)} interval {ends}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _side(name: str, side: Side, found: Findings) -> str:
    what = side.what
    if side.kind == "logistic":
        both = found.ground == "test" and not side.fixed
        what += f", which has no seed{' and is fitted to training and validation images' if both else ''}"
    what += f", {_several(side.epochs, 'epoch')}" if side.fixed and side.epochs else ""
    text, again = f"{name} {side.configuration} ({what})", "trained again" if found.exploratory else "confirmed"
    if side.searched is not None:
        text += f": search said {side.searched.correct}/{side.searched.n}"
    if side.mean is not None:
        text += f", {again} {100 * side.mean:.1f} %"
    if len(side.accuracies) > 1:
        low, high = (round(a * found.images) for a in (min(side.accuracies), max(side.accuracies)))
        each = f"each {low}" if low == high else f"{low} to {high}"
        text += f" over {len(side.accuracies)} seeds ({each} of {found.images})"
    if side.confirmed is not None:
        first = "that is" if side.kind == "logistic" else "first seed"
        text += (
            f"; {first} {side.confirmed.correct}/{side.confirmed.n}, interval {100 * side.confirmed.low:.0f} to "
            f"{100 * side.confirmed.high:.0f} %"
        )
    if side.failed:
        text += f"; {_several(side.failed, 'seed')} failed and counted as {100 * side.chance:.0f} %, which is chance"
        text += f": without {100 * side.ended:.1f} %" if side.ended is not None else ""
    return text + "."


def _points(share: float) -> str:
    return f"{100 * share:+.1f}" if round(1000 * share) else "0.0"


def _several(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"
