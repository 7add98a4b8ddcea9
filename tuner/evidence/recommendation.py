"""Which model to use: always answered, also where the images are too few for a verdict. Pure functions.

A verdict says what is shown; who needs a model has to take one of the two all the same. Recommended is the one that is
better on average over what the truth may be, given the figures and a prior that is said. How much accuracy this gives
away against knowing the truth is simulated in tests/evidence/simulate_recommendation.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.evidence.findings import Findings, Interval, Rate
from tuner.evidence.paired import estimate
from tuner.evidence.study import Study
from tuner.evidence.summaries import Costs

Which = Literal["winner", "baseline"]
Ground = Literal["test", "exploratory", "validation"]

PRIOR = 0.06
"""Standard deviation, in shares, of the true difference between a winner and its baseline, around none: 6 points."""
NAMES: Mapping[str, str] = {"winner": "winner", "baseline": "frozen baseline"}
OTHER: Mapping[str, str] = {"winner": "baseline", "baseline": "winner"}


@dataclass(frozen=True)
class Option:
    """One of the two models and what it costs; what is not known is None.

    `searched`: what the search said on the validation images; `seconds`: what the study's own trial took, all rungs;
    `multiply_adds`: the backbone's, for one image; `bytes`: of all its weights as float32.
    """

    configuration: str
    words: str
    searched: Rate | None
    seconds: float | None
    trained_parameters: int | None
    multiply_adds: int | None
    bytes: int | None


@dataclass(frozen=True)
class Recommendation:
    """`p_better`: the chance that the winner is the better one, None where nothing can be counted; `difference`, winner
    minus baseline in shares, with its standard error; `shrunken`: what is to be expected of it where true differences
    come from N(0, `prior`).

    `ground`: "test" images; "exploratory": fresh seeds on the images that chose the winner; "validation": the search's
    own figures, where nothing is confirmed. Of the last two what the choosing flattered is taken off, if it is known.
    """

    which: Which
    configuration: str
    p_better: float | None
    difference: float | None
    standard_error: float | None
    shrunken: float | None
    prior: float
    ground: Ground
    sentences: tuple[str, ...]  # "Use: ...", the chance, the costs
    winner: Option | None
    baseline: Option | None


class Measured(NamedTuple):
    """Winner minus baseline in accuracy, a share, its standard error, and on how many images."""

    difference: float
    standard_error: float
    images: int


def searched(winner: NDArray[np.bool_], baseline: NDArray[np.bool_], groups: tuple[int, ...] | None = None) -> Measured:
    """The search's own two models on the validation images, bool (images,) each: right or not; `groups`: which of them
    belong together. The error is that of `paired.estimate` with one seed.
    """
    found = estimate(winner[None], baseline[None], groups=None if groups is None else np.array(groups, np.int64))
    return Measured(float(found.difference), float(found.standard_error), len(winner))


def posterior(difference: float, standard_error: float, prior: float = PRIOR) -> tuple[float, float]:
    """The chance that the true difference is above 0, and its mean: it comes from N(0, prior), the error is normal.

    With k = prior^2 / (prior^2 + SE^2) the mean is k D and the variance k SE^2.
    """
    k = prior**2 / (prior**2 + standard_error**2)
    if not standard_error:
        return 0.5 * (1 + (difference > 0) - (difference < 0)), difference
    return NormalDist().cdf(k * difference / math.sqrt(k * standard_error**2)), k * difference


def option(row: pd.Series | None, study: Study, costs: Costs | None) -> Option | None:
    """The model of a row of `Results.configurations`."""
    if row is None:
        return None
    trained, known, right = _whole(row["trained_parameters"]), study.backbone_parameters, _whole(row["correct"])
    depth, size = int(row["unfrozen_layers"]), None
    if known is not None and (costs is not None or not depth):
        # What is trained of the backbone is among its own parameters too.
        twice = costs.weight_bytes(depth, study.spec.backbone.batch_norm) if costs is not None and depth else 0
        size = 4 * known + max(4 * (trained or 0) - twice, 0)
    return Option(
        configuration=str(row["id"]),
        words=_words(row, depth),
        searched=None if right is None else Rate(right, study.validation, float(row["low"]), float(row["high"])),
        seconds=None if pd.isna(row["seconds"]) else float(row["seconds"]),
        trained_parameters=trained,
        multiply_adds=None if costs is None else costs.macs("image", "pooled") * (1 + study.spec.search.mirrored),
        bytes=size,
    )


def recommendation(
    found: Findings,
    winner: Option | None,
    baseline: Option | None,
    *,
    seen: Measured | None,
    ahead: bool | None,
    objective: str,
) -> Recommendation | None:
    """The one of the two to use; None while there is neither. `baseline`: of the two baselines the one that is more
    accurate on test images, where those were opened. `seen`: `searched` of both; `ahead`: whether the winner is better
    there by the study's `objective`, its name in words.

    - Confirmed on test images: the better one there; the baseline, which is simpler, where they are equal.
    - Confirmed on the validation images: the same, with what the choosing flattered taken off.
    - Not confirmed: the winner, if it is ahead by the objective, and in accuracy with the choosing taken out.
    - So many seeds failed that there is no verdict: the side of which fewer did; the baseline where as many did.
    """
    confirmed, failing = found.kind != "open", found.kind == "too few seeds"
    ground: Ground = "validation" if not confirmed else "exploratory" if found.exploratory else "test"
    against = [(found.compared, found.baseline), (found.compared_other, found.other_baseline)]
    if baseline is not None and found.other_baseline is not None:
        against.sort(key=lambda one: one[1] is None or one[1].configuration != baseline.configuration)
    compared = against[0][0]
    measured = None if failing or winner is None or baseline is None else _measured(found, compared, ground, seen)
    which: Which = "baseline"
    if baseline is None:
        which = "winner"
    elif failing and found.winner is not None and found.baseline is not None:
        which = "winner" if found.winner.failed < found.baseline.failed else "baseline"
    elif measured is not None and measured[0] > 0 and (confirmed or ahead):
        which = "winner"
    used, other = (winner, baseline) if which == "winner" else (baseline, winner)
    if used is None:
        return None
    p, shrunken = (None, None) if measured is None else posterior(*measured[:2])
    if other is None:
        why = f"There is no {OTHER[which]} to set it against yet."
    elif failing:
        why = f"No chance can be given: too many fresh seeds of the {OTHER[which]} failed."
    elif measured is None or p is None or shrunken is None:
        why = "No chance can be given: there are no predictions to count."
    else:
        better = "it is better than the baseline" if which == "winner" else f"the winner ({other.words}) is better"
        here, there = _apart(measured.difference), _apart(shrunken)
        guess = "" if here == there == "level" else f"; the best guess for other images is {there}"
        why = (
            f"Chance that {better}: {chance(p)}. On {_counted(found, ground, measured.images)} it is {here}{guess} "
            f"(prior: 0 +- {100 * PRIOR:g} points)."
        )
        difference, other_one = against[1]
        if ground == "test" and other_one is not None and difference is not None:
            likely, _ = posterior(difference.difference, difference.error)
            why += f" That the winner is better than the other baseline ({other_one.what}): {chance(likely)}."
        if ground == "exploratory":
            why += " Exploratory: these images chose the winner."
        elif not confirmed:
            contrary = f"; by {objective}, which ranks here, the baseline is ahead" if ahead is False else ""
            why += f" Not confirmed: the search's word alone{contrary if measured.difference > 0 else ''}."
    costs = [] if other is None else list(_costs(used, other, OTHER[which]))
    return Recommendation(
        which=which,
        configuration=used.configuration,
        p_better=p,
        difference=None if measured is None else measured.difference,
        standard_error=None if measured is None else measured.standard_error,
        shrunken=shrunken,
        prior=PRIOR,
        ground=ground,
        sentences=(f"Use: the {NAMES[which]} ({used.words}).", why, *costs),
        winner=winner,
        baseline=baseline,
    )


def chance(p: float) -> str:
    """A probability that is never certain: "23 %", "over 99 %"."""
    return "under 1 %" if p < 0.01 else "over 99 %" if p > 0.99 else f"{100 * p:.0f} %"


def exported(found: Recommendation, which: str, verdict: Findings) -> str:
    """Which of the two an exported model is, why, how to get the other one, and what the verdict has against it."""
    name, other, p = NAMES[which], OTHER[which], found.p_better
    if found.winner is None or found.baseline is None:
        return f"It is the {name}; there is no {NAMES[other]} to set it against yet."
    likely = "" if p is None else f": the chance that the winner is better is {chance(p)}"
    if found.which == which:
        told = f"which the study recommends{likely}; `--{other}` exports the {NAMES[other]}."
    else:
        told = f"as asked for. The study recommends the {NAMES[other]}{likely}; `--{other}` exports that."
    return " ".join([f"It is the {name}, {told}", *caveats(verdict, which)])


UNSHOWN: Mapping[str, str] = {
    "too few images": "too few images to tell",
    "too few seeds": "too many fresh seeds failed",
    "unstable": "its seeds differ too much from each other",
    "looks better": "the winner looks better, on images that chose it",
    "looks worse": "the winner looks worse, even on images that chose it",
    "open": "nothing is confirmed yet",
}
"""Why a verdict of this kind does not show which of winner and baseline is better."""


def caveats(verdict: Findings, which: str) -> Iterator[str]:
    """What the verdict has against using the winner or the baseline; nothing, if it shows that this is the better one.

    By the verdict alone: that a model is ahead on the validation images, which chose it, shows nothing.
    """
    if verdict.kind in ("gain", "loss"):
        if (verdict.kind == "gain") != (which == "winner"):
            yield f"The verdict is against it: on the test images the {NAMES[OTHER[which]]} is better."
    elif verdict.kind == "no difference":
        where = "On the images that chose the winner" if verdict.exploratory else "By the verdict"
        yield f"{where} they differ by less than {100 * verdict.margin:g} point{'s' * (verdict.margin != 0.01)}."
    else:
        yield f"Which of the two is better is not shown: {UNSHOWN.get(verdict.kind, verdict.kind)}."
    if verdict.leaks and verdict.ground == "test" and verdict.kind != "open":
        yield "The test images were not kept apart (data.allow_leak), so the verdict may flatter either."


# ---- what it is counted on ----


def _measured(found: Findings, compared: Interval | None, ground: Ground, seen: Measured | None) -> Measured | None:
    chosen = found.selection
    flattered = 0.0
    if chosen is not None and ground != "test":  # on few images it can come out below nothing, which is no flattery
        flattered = max(0.0, chosen.searched - chosen.corrected.difference)
    if ground != "validation" and compared is not None:
        return Measured(compared.difference - flattered, compared.error, found.images)
    return None if seen is None else seen._replace(difference=seen.difference - flattered)


def _counted(found: Findings, ground: Ground, n: int) -> str:
    """The images, and what was taken off."""
    name = "test" if ground == "test" else "validation"
    text = f"{n:,} {name} image{'s' * (n != 1)}"
    return text + (", the choosing taken out," if ground != "test" and found.selection is not None else "")


def _apart(share: float) -> str:
    text = f"{100 * abs(share):.1f}"
    if text == "0.0":
        return "level"
    return f"{text} point{'s' * (text != '1.0')} {'ahead' if share > 0 else 'behind'}"


# ---- what they are and cost ----


def _words(row: pd.Series, depth: int) -> str:
    if pd.isna(row["learning_rate"]):
        several = "cuts" in row and not pd.isna(row["cuts"])
        return f"logistic regression on {'several cuts' if several else 'the pooled features'}"
    frozen = "a trained head" if row["kind"] == "baseline" else "backbone frozen"
    return f"{row['id']}, " + (f"{depth} layer{'s' * (depth != 1)} unfrozen" if depth else frozen)


def _costs(used: Option, other: Option, name: str) -> Iterator[str]:
    """Training, answering and size, of the one to use first; `name`: what the other one is."""
    parts = []
    if used.seconds is not None and other.seconds is not None:
        parts.append(f"Training: {_two(_duration(used.seconds), _duration(other.seconds), name)}")
    if used.multiply_adds is not None and other.multiply_adds is not None:
        each = f"{used.multiply_adds / 1e9:.1f} G", f"{other.multiply_adds / 1e9:.1f} G"
        parts.append(f"Multiply-adds an image: {_two(each[0], each[1], name)}")
    if used.bytes is not None and other.bytes is not None:
        parts.append(f"Weights: {_two(f'{used.bytes / 1e6:.0f} MB', f'{other.bytes / 1e6:.0f} MB', name)}")
    if parts:
        yield f"{'. '.join(parts)}."


def _two(used: str, other: str, name: str) -> str:
    return f"{used} each" if used == other else f"{used}, the {name}'s {other}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def _whole(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)
