"""Seeds that collapse, seeds that are added after a look, and a gain that has to hold against two baselines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from evidence import fake_trainer as fake
from evidence.simulation import CHUNK, FIRST, MOST, Counted, by_rule, row, share

from tuner.evidence.paired import Estimate, estimate
from tuner.evidence.verdict import MARGIN

GAIN = "5, then 20 if it gains"


def median(winner: fake.Right, baseline: fake.Right) -> fake.Floats:
    """The median seed's difference in accuracy, (studies,)."""
    medians = [np.median(right.mean(axis=-1), axis=-1) for right in (winner, baseline)]
    return np.asarray(medians[0] - medians[1])


def unstable(rng: np.random.Generator, studies: int) -> None:
    """Five seeds, twenty for a side of which one of the five collapsed on as many validation images; no gain or loss by
    the mean that the median seeds do not share. "figure": the share of studies in which a collapsed seed is named, by
    the test or the validation images; where none collapses that is a false alarm. "a collapse among them": the studies
    of which one of the winner's final seeds did.
    """
    names = ("collapsing", "skewed", "lucky", "noisy", "usual")
    for name, n in ((name, n) for name in names for n in (20, 50, 100, 300)):
        for lead in (0.0, 0.04):
            every, seen, warned, guessed = Counted(), Counted(), list[bool](), list[bool]()
            for winner, baseline, guesses, named in by_rule(rng, fake.HARD[name], studies, n, 0.8 + lead, 0.8):
                found, middle = estimate(winner, baseline), median(winner, baseline)
                every.add(found, lead, middle)
                seen.add(_of(found, guesses), lead, middle[guesses])
                guessed += guesses.tolist()
                warned += named.tolist()
            said = np.array(warned)
            row("5 seeds, 20 by the rule", name, n, FIRST, lead, every.cells() | share(said))
            if name == "collapsing":
                cells = seen.cells() | share(said[np.array(guessed)])
                row("  a collapse among them", name, n, FIRST, lead, cells)
    for n in (50, 100, 300):
        counted = Counted()
        for winner, baseline in _twenty(rng, "collapsing", studies, n, 0.0):
            counted.add(estimate(winner, baseline), 0.0, median(winner, baseline))
        row("20 seeds always", "collapsing", n, MOST, 0.0, counted.cells())


def looks(rng: np.random.Generator, studies: int) -> None:
    """More seeds after a look that did not tell: the interval is that of the final number of seeds, with nothing taken
    off for the looks before. "figure": the share of studies that went on.
    """
    plans: dict[str, Sequence[int]] = {"5 seeds": (5,), "5, then 20": (5, 20), "5, 10, 15, 20": (5, 10, 15, 20)}
    for name in ("usual", "noisy", "lucky", "skewed", "collapsing"):
        for n in (50, 100, 300):
            for lead in (0.0, 0.04):
                counted = {plan: Counted() for plan in (*plans, GAIN)}
                went = dict.fromkeys(plans, 0)
                for winner, baseline in _twenty(rng, name, studies, n, lead):
                    by = {s: estimate(winner[:, :s], baseline[:, :s]) for s in (5, 10, 15, 20)}
                    gains = _gains(by[FIRST])
                    counted[GAIN].add(_of(by[FIRST], ~gains), lead)
                    counted[GAIN].add(_of(by[MOST], gains), lead)
                    for plan, counts in plans.items():
                        left = np.ones(len(winner), bool)
                        for s in counts:
                            told = _told(by[s]) if s != counts[-1] else np.ones(len(winner), bool)
                            counted[plan].add(_of(by[s], left & told), lead)
                            left &= ~told
                            went[plan] += int(left.sum()) if s == FIRST else 0
                row(GAIN, name, n, FIRST, lead, counted[GAIN].cells())
                for plan in plans:
                    cells = counted[plan].cells() | {"figure": f"{100 * went[plan] / studies:.1f}"}
                    row(f"{plan}{'' if plan == '5 seeds' else ' if it is open'}", name, n, FIRST, lead, cells)


def both(rng: np.random.Generator, studies: int) -> None:
    """The better of a head with seeds and a regression without, chosen on as many validation images: a gain over that
    one alone, and one that has to hold over both. "true": the winner's lead over the better one.
    """
    for second in (0.0, -0.03):
        for n in (50, 100, 300):
            for lead in (0.0, 0.06, 0.1):
                alone, gained = Counted(), 0.0
                for begun in range(0, studies, CHUNK):
                    many, accuracies = min(CHUNK, studies - begun), (0.8 + lead, 0.8, 0.8 + second)
                    made = fake.margins(rng, fake.HARD["usual"], many, 2 * n, FIRST, *accuracies)
                    right = [margin > 0 for margin in made]
                    right[2] = right[2][:, :1]
                    first = right[1][:, 0, :n].mean(axis=-1) >= right[2][:, 0, :n].mean(axis=-1)
                    found = [estimate(right[0][..., n:], other[..., n:]) for other in right[1:]]
                    alone.add(_of(found[0], first), lead)
                    alone.add(_of(found[1], ~first), lead)
                    gained += float((_gains(found[0]) & _gains(found[1])).sum())
                name = "worse" if second else "equal"
                row("over the chosen baseline", name, n, FIRST, lead, alone.cells())
                row("over both", name, n, FIRST, lead, {"gain": f"{100 * gained / studies:.1f}"})


def _twenty(
    rng: np.random.Generator, name: str, studies: int, n: int, lead: float
) -> list[tuple[fake.Right, fake.Right]]:
    sizes = [min(CHUNK, studies - begun) for begun in range(0, studies, CHUNK)]
    return [fake.pairs(rng, fake.HARD[name], many, n, MOST, 0.8 + lead, 0.8) for many in sizes]


def _gains(found: Estimate) -> fake.Right:
    return np.asarray((found.low > 0) & (found.difference >= MARGIN))


def _told(found: Estimate) -> fake.Right:
    """Where it is not "too few images"."""
    loss = (found.high < 0) & (found.difference <= -MARGIN)
    return np.asarray(_gains(found) | loss | ((found.low > -MARGIN) & (found.high < MARGIN)))


def _of(found: Estimate, at: fake.Right) -> Estimate:
    return Estimate(*(value[at] for value in vars(found).values()))
