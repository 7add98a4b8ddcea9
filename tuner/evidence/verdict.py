"""The study's verdict on its winner: one of a few kinds, and words that say no more than the data show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tuner.evidence.paired import Comparison
from tuner.evidence.power import COUNTLESS, images_range

Kind = Literal[
    "gain", "loss", "looks better", "looks worse", "no difference", "too few images", "too few seeds", "unstable"
]

UNTESTED: dict[Kind, Kind] = {"gain": "looks better", "loss": "looks worse"}
"""What a gain or a loss is called on images that chose the winner: nothing is shown by those."""

MARGIN = 0.02
"""The smallest difference that is worth having, fixed before the test set is opened: 2 points."""

FEWEST = 2
"""Seeds that have to end on each side where some failed."""


@dataclass(frozen=True)
class Verdict:
    """`images_needed`: how many images would do, from and to, where these are too few and more of them would help; the
    second is None where no number would, should the true difference be an unlucky one.
    """

    kind: Kind
    sentence: str
    margin: float
    exploratory: bool
    images_needed: tuple[int, int | None] | None = None


def verdict(
    found: Comparison,
    margin: float = MARGIN,
    exploratory: bool = False,
    *,
    against: str = "the baseline",
    collapsed: Sequence[str] = (),
) -> Verdict:
    """What a comparison shows, with `margin` in shares (0.02 is 2 points).

    - "gain": the whole interval lies above zero and the difference is at least the margin; "loss" is its mirror image.
    - "no difference", larger than the margin: the whole interval lies inside (-margin, margin). Such an interval may
      leave out zero: a difference that is more than luck and less than what was asked for, which the sentence says.
    - "unstable": what the mean over seeds would make a gain or a loss is none by the median seed.
    - "too few images": everything else, also an interval above zero that leaves open whether the margin is reached.

    `exploratory`: the images of the comparison chose the winner, or helped to, so that it looks better than it is; then
    the first two kinds are "looks better" and "looks worse". `against`: what the winner is compared with, in words.
    `collapsed`: what is said of such seeds, see `stability`.
    """
    if not 0 < margin < 1:
        raise ValueError(f"margin: found {margin}, expected a share between 0 and 1, as 0.02 for 2 points")
    kind = _kind(found, margin)
    needed = _needed(found, margin) if kind == "too few images" else None
    sentence = f"{_opening(found, margin, kind, exploratory, against)}{_evidence(found, exploratory, against)}"
    if kind == "too few images":
        sentence += _advice(found, margin, needed)
    if collapsed:
        sentence += f"; {' and '.join(collapsed)}: training is not stable"
    if exploratory:
        sentence += ". The validation images chose the winner and flatter it, so this is exploratory and not a test"
    return Verdict(UNTESTED.get(kind, kind) if exploratory else kind, sentence + ".", margin, exploratory, needed)


def confidence_of(look: int) -> float:
    """Of the interval at the `look`-th opening of a test set, as seeds are added: its error is 5 % divided by the
    number of looks, a way to spend it (Lan and DeMets, Biometrika 70, 1983). With each look at 95 % two of them find a
    false gain in 4 to 5 studies of 100 and four in 6, with this in 3.5; see `make simulate`.
    """
    return 1 - 0.05 / max(look, 1)


def too_few_seeds(sides: Sequence[tuple[str, int, int]], margin: float, exploratory: bool) -> Verdict | None:
    """The refusal to conclude, where so many seeds of a side failed that under `FEWEST` are left; else None. `sides`:
    (name, seeds that ended, seeds that failed); a side of which none failed has as many as were asked for.

    What is left is no sample: one lucky seed would pass for a model that no seed changes, and its interval would hold
    the truth 74 to 92 times in 100.
    """
    short = [
        f"of the {name}'s {ok + failed} fresh seeds {failed} failed"
        for name, ok, failed in sides
        if failed and ok < FEWEST
    ]
    if not short:
        return None
    sentence = (
        f"Too few seeds to tell: {' and '.join(short)}, and a verdict needs {FEWEST} that end; a configuration that "
        "fails so often cannot be relied on: see the warnings for the reasons, and search lower learning rates "
        "(space.learning_rate) in a study of its own."
    )
    return Verdict("too few seeds", sentence, margin, exploratory)


def _kind(found: Comparison, margin: float) -> Kind:
    median = found.difference if found.median is None else found.median
    if found.low > 0 and found.difference >= margin:
        return "gain" if median > 0 else "unstable"
    if found.high < 0 and found.difference <= -margin:
        return "loss" if median < 0 else "unstable"
    return "no difference" if -margin < found.low and found.high < margin else "too few images"


def _opening(found: Comparison, margin: float, kind: Kind, exploratory: bool, against: str) -> str:
    beyond_luck = found.low > 0 or found.high < 0
    if kind in ("gain", "loss"):
        verb = "looks" if exploratory else "is"
        return f"The winner {verb} {'better' if kind == 'gain' else 'worse'} than {against}: "
    if kind == "unstable":
        other = _counted(found.median or 0.0, "the median seed", against)
        return f"Training is not stable enough to tell: {other}, but the mean is not: "
    if kind == "no difference":
        luck = ", though more than luck" if beyond_luck else ""
        return f"No difference larger than {_points(margin)}{luck}: "
    if beyond_luck:
        word = "gain" if found.low > 0 else "loss"
        return f"Too few images to tell whether the {word} reaches {_points(margin)}: "
    return "Too few images to tell: "


def _evidence(found: Comparison, exploratory: bool, against: str) -> str:
    """The difference, its interval, images and seeds; what was not varied is said."""
    said = _counted(found.difference, "the winner", against)
    interval = f"{100 * found.confidence:.3g} % interval {100 * found.low:.1f} to {100 * found.high:.1f}"
    seeds = f"{found.seeds} seeds" if found.seeds > 1 else "one seed, which says nothing of other seeds"
    if found.failed:
        seeds += f", {found.failed} of them failed and counted as chance"
    name = "validation" if exploratory else "test"
    groups = "" if found.groups is None else f" in {found.groups:,} group{'s' * (found.groups != 1)}"
    return f"on {found.n:,} {name} image{'s' * (found.n != 1)}{groups} with {seeds}, {said} ({interval})"


def _counted(difference: float, who: str, against: str) -> str:
    if difference == 0:
        return f"{who} and {against} are equally accurate"
    return f"{who} is {_points(abs(difference))} {'more' if difference > 0 else 'less'} accurate than {against}"


def _needed(found: Comparison, margin: float) -> tuple[int, int | None] | None:
    """Images that would tell in four studies of five, for nine in ten of the true differences that may be behind it."""
    low, high = images_range(found, margin)
    if math.isinf(low):
        return None
    fewest = max(math.ceil(low), found.n + 1)
    return fewest, None if math.isinf(high) else max(math.ceil(high), fewest)


def _advice(found: Comparison, margin: float, needed: tuple[int, int | None] | None) -> str:
    if needed is not None:
        low, high = needed
        many = f"{_rounded(low):,} to {_rounded(high):,} images" if high else f"{_rounded(low):,} images or more"
        many += "" if found.groups is None else " in groups as large"
        return f". About {many} would tell, depending on how far the true difference is from the margin"
    if math.isfinite(images_range(replace(found, seed_variance=0.0, seeds=1), margin)[0]):
        return ". More images alone would not do, the seeds differ too much: add seeds by `tlstudy confirm --seeds N`"
    return f". The difference lies too near the margin for fewer than {COUNTLESS:,} images to tell"


def _rounded(n: int) -> int:
    """Up to two digits: more would claim to know it better."""
    step: int = 10 ** max(len(str(n)) - 2, 0)
    return -(-n // step) * step


def _points(share: float) -> str:
    text = f"{100 * share:.1f}"
    return f"{text} point{'s' * (text != '1.0')}"
