"""Counts how often the evidence's intervals hold the truth and its verdicts are wrong, at length; prints one table.

    python tests/evidence/simulate.py [--studies 2000] [--seed 0] [--only worlds,selection]

One seed is counted exactly over every outcome; the rest are studies of fake models whose true difference is known, see
fake_trainer.py, and each section's docstring. Shares are in percent of the studies: "holds" is the coverage of the 95 %
interval, "gain", "loss" and "same" are verdicts ("no difference"), what is left is "too few images". "true": the
winner's true lead in points. "figure" is what the procedure's name or its section says, in points or percent, and "+-"
its Monte Carlo error (1.96 standard errors), or that of "holds"; a share near 50 % of 2,000 studies is known to 2.2
points. Some seven minutes of one core with the default.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from evidence import fake_trainer as fake  # noqa: E402
from evidence.simulate_outcomes import balanced, outcomes, probabilities  # noqa: E402
from evidence.simulate_recommendation import recommendation  # noqa: E402
from evidence.simulate_seeds import FAILS, both, failing, looks, unstable  # noqa: E402
from evidence.simulation import NAMES, Counted, figure, row, say, share, studies_of  # noqa: E402

from tuner.evidence.paired import Estimate, compare, estimate  # noqa: E402
from tuner.evidence.power import images_range, needed_for, smallest_difference  # noqa: E402
from tuner.evidence.selection import once, selection_cost  # noqa: E402
from tuner.evidence.verdict import FEWEST, MARGIN, verdict  # noqa: E402

Procedure = Callable[[fake.Right, fake.Right], Estimate]
NAIVE: dict[str, Procedure] = {"s2(d)/n + s2(D)/S, plain": fake.plain_sum, "mean +- t over seeds": fake.seeds_only}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections to run")
    options = parser.parse_args()
    say(dict(zip(NAMES, NAMES, strict=True)))
    for name in options.only.split(","):
        SECTIONS[name](np.random.default_rng([options.seed, *name.encode()]), options.studies)


# ---- one seed, exactly ----


def exactly(_: np.random.Generator, __: int) -> None:
    """One seed: the least and the mean coverage over a grid of true shares, fine where intervals break."""
    shares = fake.grid()
    for n in (20, 50, 100):
        winner, baseline = fake.every_outcome(n)
        ours = estimate(winner, baseline)
        for name, found in (("one seed, ours", ours), ("Bonett-Price, z", _with_z(ours, n)), _plain(winner, baseline)):
            covered = fake.exact_holds(n, found, shares)
            for which, value in (("least", covered.min()), ("mean", covered.mean())):
                say({"procedure": f"{name}: {which}", "n": str(n), "seeds": "1", "holds": f"{100 * value:.1f}"})


def _with_z(ours: Estimate, n: int) -> Estimate:
    """Bonett and Price's interval as published."""
    middle, half = ours.difference * n / (n + 2), NormalDist().inv_cdf(0.975) * ours.standard_error
    return replace(ours, low=np.maximum(middle - half, -1), high=np.minimum(middle + half, 1))


def _plain(winner: fake.Right, baseline: fake.Right) -> tuple[str, Estimate]:
    """A t interval of the images' differences."""
    twice = estimate(winner, baseline)
    d = (winner.astype(float) - baseline)[:, 0]
    half = NormalDist().inv_cdf(0.975) * d.std(axis=-1, ddof=1) / math.sqrt(d.shape[-1])
    return "mean +- z over images", replace(twice, low=twice.difference - half, high=twice.difference + half)


# ---- images and seeds ----


def worlds(rng: np.random.Generator, studies: int) -> None:
    """The verdict in every world, 80 % right against 80, 84 and 90."""
    for name, world in fake.HARD.items():
        for n in (20, 50, 100, 300):
            for lead in (0.0, 0.04, 0.1):
                counted = Counted()
                for winner, baseline in studies_of(rng, world, studies, n, 5, 0.8 + lead, 0.8):
                    counted.add(estimate(winner, baseline, groups=fake.scenes(world, n)), lead)
                row("images and seeds, ours", name, n, 5, lead, counted.cells())


def seeds(rng: np.random.Generator, studies: int) -> None:
    """Other numbers of seeds; a baseline without one; and the naive ways at five."""
    for name, n, count, lead in (
        *(
            (name, n, s, 0.0)
            for name in ("noise", "noisy", "lucky", "usual")
            for n in (20, 50, 100)
            for s in (2, 3, 10)
        ),
        *(("fixes", n, s, lead) for n in (20, 50, 100) for s in (1, 5, 10) for lead in (0.03, 0.04)),
    ):
        counted, world = Counted(), fake.HARD[name]
        for winner, baseline in studies_of(rng, world, studies, n, count, 0.8 + lead, 0.8):
            counted.add(estimate(winner, baseline[:, :1] if name == "fixes" else baseline), lead)
        row("ours, baseline without seed" if name == "fixes" else "ours", name, n, count, lead, counted.cells())
    for procedure, how in NAIVE.items():
        for name in ("usual", "noisy", "lucky"):
            counted = Counted()
            for winner, baseline in studies_of(rng, fake.HARD[name], studies, 100, 5, 0.8, 0.8):
                counted.add(how(winner, baseline), 0.0)
            row(procedure, name, 100, 5, 0.0, counted.cells())


def failures(rng: np.random.Generator, studies: int) -> None:
    """The winner's seeds fail 15 times in 100, or many of them: a failed one as chance, or left out as if not begun.

    "figure": the share of studies with too few seeds to tell. The truth is the mean over seeds that fail and seeds that
    end; where it is said how many end, over those alone.
    """
    for name, n in ((name, n) for name in ("usual", "lucky") for n in (50, 100, 300)):
        for how in ("as chance", "left out"):
            counted, refused = Counted(), 0
            ends = (0.8 - FAILS / 2) / (1 - FAILS)  # with the failed ones in it is as good as the baseline
            for winner, baseline in studies_of(rng, fake.HARD[name], studies, n, 5, ends, 0.8):
                fails = rng.random(winner.shape[:2]) < FAILS
                for left in range(6):
                    at = fails.sum(axis=1) == 5 - left
                    ended, other = winner[at, :left], baseline[at]
                    if left < FEWEST:
                        refused += int(at.sum())
                    if not at.any() or left < (FEWEST if how == "as chance" else 1):
                        continue
                    chance = np.full((len(ended), 5 - left, n), 0.5)
                    counted.add(estimate(np.hstack([ended, chance]) if how == "as chance" else ended, other), 0.0)
            cells = counted.cells() | ({"figure": f"{100 * refused / studies:.1f}"} if how == "as chance" else {})
            row(f"15 % fail, {how}", name, n, 5, 0.0, cells)
    for name in ("usual", "lucky"):
        for left in (1, 2, 3):
            counted = Counted()
            for winner, baseline in studies_of(rng, fake.HARD[name], studies, 300, 5, 0.8, 0.8):
                counted.add(estimate(winner[:, :left], baseline), 0.0)
            refuses = ", refused" if left < FEWEST else ""
            row(f"{left} of 5 seeds end{refuses}", name, 300, 5, 0.0, counted.cells())


# ---- what is foretold ----


def foretold(rng: np.random.Generator, studies: int) -> None:
    """The share of gains at the difference that n images are said to show before the search, in worlds that agree as
    was said there and in ones that do not; and the share of right verdicts on as many images as are said to be needed.
    "figure": the share of studies of 100 images with too few to tell whose range of images holds that number.
    """
    for n in (50, 100, 300, 1000):
        for name, differ in (("usual", 0.1), ("alike", 0.05), ("heavy", 0.05), ("fixes", 0.1), ("lucky", 0.1)):
            least = smallest_difference(n, differ=differ)
            assert least is not None
            few, counted = max(studies // (1 + n // 300), 20), Counted()
            for winner, baseline in studies_of(rng, fake.HARD[name], few, n, 5, 0.8 + least, 0.8):
                counted.add(estimate(winner, baseline), least)
            row(f"foretold, {differ:.0%} differ", name, n, 5, round(least, 4), counted.cells())
    for name in ("usual", "alike", "noisy"):
        for lead in (0.05, 0.08):
            world, counted, held = fake.HARD[name], Counted(), []
            winner, baseline = fake.pairs(rng, world, max(studies // 10, 20), 100, 5, 0.8 + lead, 0.8)
            found = [compare(*pair) for pair in zip(winner, baseline, strict=True)]
            needed = int(min(np.median([needed_for(one, lead, MARGIN) for one in found]), 2000))
            for one in found:
                if verdict(one).kind == "too few images":
                    low, high = images_range(one, MARGIN)
                    held.append(low <= needed <= high)
            for winner, baseline in studies_of(rng, world, studies // 2, needed, 5, 0.8 + lead, 0.8):
                counted.add(estimate(winner, baseline), lead)
            row("as many as are needed", name, needed, 5, lead, counted.cells() | share(np.array(held)))


# ---- what choosing costs ----


def pipeline(rng: np.random.Generator, studies: int) -> None:
    """75 looks at 100 validation images among equals, then the verdict: on 100 test images, on the validation images
    with fresh seeds, or on the predictions stored there; against the best of 8 baselines, or one that was not chosen.
    """
    world, studies = fake.World(0.4, 0.4, 0.003), max(studies // 2, 10)
    for baselines in (8, 1):
        for images in ("test", "validation", "stored"):
            counted = Counted()
            counted.add(fake.searches(rng, studies, images, world, baselines=baselines), 0.0)
            name = f"on {images}, {baselines} baseline{'s' * (baselines > 1)}"
            row(name, "own", 100, 1 if images == "stored" else 5, 0.0, {"gain": counted.cells()["gain"]})


def selection(rng: np.random.Generator, studies: int) -> None:
    """Points by which the search's lead is off the true one of what it chose: as said, corrected with the whole choice
    made again, and with one side's alone, at epochs and after rungs that are taken as given.
    """
    world = fake.World(0.4, 0.4)
    cases: dict[str, tuple[fake.World, dict[str, Any]]] = {
        "equal": (world, {}),
        "looks same": (world, {"epochs_alike": 0.95}),
        "looks free": (world, {"epochs_alike": 0.0}),
        "logistic": (world, {"heads": 0}),
        "spread": (world, {"spread": 0.3}),
        "lead": (world, {"spread": 0.2, "lead": 0.05}),
        "seeds": (fake.World(0.4, 0.4, 0.003), {}),
        "last epoch": (world, {"checkpoint": "last"}),
    }
    for name, (world, options) in cases.items():
        for n in (20, 50, 100, 300):
            off: dict[str, list[float]] = {"lead as said": [], "the whole choice again": [], "one side again": []}
            checkpoint = options.get("checkpoint", "best")
            for _ in range(max(studies // (10 if n < 300 else 40), 2)):
                one = fake.hyperband(rng, world, validation=n, **options)
                found = selection_cost(one.winner, one.baseline, "val_loss", rng, draws=100, checkpoint=checkpoint)
                again = once(one.full_loss, one.full_right), once(np.ones((1, n)), one.baseline_right[None])
                off["lead as said"].append(100 * (one.said - one.true))
                off["the whole choice again"].append(100 * (found.difference - one.true))
                half = selection_cost(*again, "val_loss", rng, draws=100).difference
                off["one side again"].append(100 * (half - one.true))
            for what, points in off.items():
                row(what, name, n, 1, options.get("lead", 0.0), figure(points))


SECTIONS: dict[str, Callable[[np.random.Generator, int], None]] = {
    "exactly": exactly,
    "worlds": worlds,
    "seeds": seeds,
    "failures": failures,
    "unstable": unstable,
    "failing": failing,
    "looks": looks,
    "both": both,
    "probabilities": probabilities,
    "balanced": balanced,
    "foretold": foretold,
    "pipeline": pipeline,
    "selection": selection,
    "recommendation": recommendation,
    "outcomes": outcomes,
}


if __name__ == "__main__":
    main()
