"""Seeds that collapse, seeds that are added after a look, and a gain that has to hold against two baselines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from evidence import fake_trainer as fake
from evidence.simulation import CHUNK, FIRST, MOST, Counted, by_rule, row, share

from tuner.evidence.paired import Estimate, estimate
from tuner.evidence.verdict import MARGIN

FAILS = 0.15


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


def failing(rng: np.random.Generator, studies: int) -> None:
    """The winner's seeds fail 15 times in 100 and count as chance; where one of five does, twenty are trained.

    "figure": the share of studies in which one of the final seeds failed, which is said; those stand apart below.
    """
    for name, n in ((name, n) for name in ("usual", "lucky") for n in (50, 100, 300)):
        every, seen, said = Counted(), Counted(), list[bool]()
        for winner, baseline in _twenty(rng, name, studies, n, fake.before_collapse(0.8, FAILS) - 0.8):
            fails = rng.random(winner.shape[:2]) < FAILS
            right = np.where(fails[..., None], 0.5, winner)
            more = fails[:, :FIRST].any(axis=1) & ~fails[:, :FIRST].all(axis=1)
            for at, count in ((more, MOST), (~more, FIRST)):
                sides = right[at, :count], baseline[at, :FIRST]
                found, middle = estimate(*sides), median(*sides)
                failed = fails[at, :count].any(axis=1)
                every.add(found, 0.0, middle)
                seen.add(_of(found, failed), 0.0, middle[failed])
                said += failed.tolist()
        row("15 % fail, 20 by the rule", name, n, FIRST, 0.0, every.cells() | share(np.array(said)))
        row("  a failure among them", name, n, FIRST, 0.0, seen.cells())


def looks(rng: np.random.Generator, studies: int) -> None:
    """More seeds after a look at the test images: the verdict is the one with the final number of seeds. "if open":
    where it did not tell, twice or up to four times; "stricter": the k-th look at the level 0.05 / k. "if it gains": a
    gain by five has to hold with twenty. "figure": the share of studies that went on after five.
    """
    plans: dict[str, tuple[Sequence[int], bool]] = {
        "5 seeds": ((5,), False),
        "5, then 20 if open": ((5, 20), False),
        "5, then 20 if open, stricter": ((5, 20), True),
        "5, 10, 15, 20 if open": ((5, 10, 15, 20), False),
        "5, 10, 15, 20, stricter": ((5, 10, 15, 20), True),
        "5, then 20 if it gains": ((5, 20), False),
    }
    for name in ("usual", "noisy", "lucky", "skewed", "collapsing"):
        for n in (50, 300):
            for lead in (0.0, 0.04):
                counted, went = {plan: Counted() for plan in plans}, dict.fromkeys(plans, 0)
                for winner, baseline in _twenty(rng, name, studies, n, lead):
                    for plan, (counts, strict) in plans.items():
                        left = np.ones(len(winner), bool)
                        for k, s in enumerate(counts, start=1):
                            level = 1 - 0.05 / k if strict else 0.95
                            found = estimate(winner[:, :s], baseline[:, :s], level)
                            ends = ~_gains(found) if plan.endswith("gains") else _told(found)
                            ends |= s == counts[-1]
                            counted[plan].add(_of(found, left & ends), lead)
                            left &= ~ends
                            went[plan] += int(left.sum()) if k == 1 else 0
                for plan in plans:
                    cells = counted[plan].cells() | {"figure": f"{100 * went[plan] / studies:.1f}"}
                    row(plan, name, n, FIRST, lead, cells)


def both(rng: np.random.Generator, studies: int) -> None:
    """The better of a head with seeds and a regression without, chosen on as many validation images by a run of each
    that is not counted again: a gain over that one alone, and one that has to hold over both. "true": the winner's lead
    over the better one. No seed is luckier than another, since a regression has none.
    """
    for second in (0.0, -0.03):
        for n in (50, 100, 300):
            for lead in (0.0, 0.06, 0.1):
                alone, gained = Counted(), 0.0
                for begun in range(0, studies, CHUNK):
                    many, accuracies = min(CHUNK, studies - begun), (0.8 + lead, 0.8, 0.8 + second)
                    made = fake.margins(rng, fake.WORLDS["usual"], many, 2 * n, FIRST + 1, *accuracies)
                    winner, head, regression = (margin > 0 for margin in made)
                    first = head[:, FIRST, :n].mean(axis=-1) >= regression[:, FIRST, :n].mean(axis=-1)
                    others = head[:, :FIRST, n:], regression[:, :1, n:]
                    found = [estimate(winner[:, :FIRST, n:], other) for other in others]
                    alone.add(_of(found[0], first), lead)
                    alone.add(_of(found[1], ~first), lead - second)
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
