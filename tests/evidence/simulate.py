"""Counts how often the evidence's intervals hold the truth and its verdicts are wrong, at length; prints one table.

    python tests/evidence/simulate.py [--studies 20000] [--seed 0]

One seed is counted exactly over every outcome; the rest are studies of fake models whose true difference is known, see
fake_trainer.py. "aimed" is what a procedure promises or, for the naive ones, would promise; "+-" is the Monte Carlo
error, 1.96 standard errors. Worlds: in `usual` models agree on most images, in `alike` on nearly all, in `noisy` each
seed changes its mind. About two minutes with the default.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from evidence import fake_trainer as fake  # noqa: E402

from tuner.evidence.paired import Estimate, estimate  # noqa: E402
from tuner.evidence.selection import selection_cost  # noqa: E402
from tuner.evidence.verdict import MARGIN, verdict  # noqa: E402

CHUNK = 1000
Procedure = Callable[[fake.Right, fake.Right], Estimate]
OURS = "images and seeds (ours)"
NAIVE: dict[str, Procedure] = {"s2(d)/n + s2(D)/S, plain": fake.plain_sum, "mean +- t over seeds": fake.seeds_only}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    say("procedure", "world", "n", "seeds", "seed dev", "measured", "aimed", "found", "+-")
    exactly()
    coverage(rng, options.studies)
    power(rng, options.studies)
    pipeline(rng, max(options.studies // 4, 50))
    selection(rng, max(options.studies // 40, 50))


def say(*cells: str) -> None:
    widths = (28, 6, 4, 5, 8, 17, 9, 7, 6)
    print(
        " ".join(f"{c:{'<' if i in (0, 1, 5) else '>'}{w}}" for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
    )
    sys.stdout.flush()


def row(
    name: str, world: str, n: int, seeds: int, deviation: float, kind: str, aimed: str, share: float, studies: int
) -> None:
    error = f"{196 * math.sqrt(share * (1 - share) / studies):.2f}" if studies else "exact"
    say(name, world, str(n), str(seeds), f"{100 * deviation:.1f}", kind, aimed, f"{100 * share:.2f}", error)


def exactly() -> None:
    """One seed: the least and the mean coverage over a grid of true shares, fine where intervals break."""
    shares = fake.grid()
    for n in (20, 50, 100):
        winner, baseline = fake.every_outcome(n)
        ours = estimate(winner, baseline)
        for name, found in (("one seed (ours)", ours), ("Bonett-Price, z", _with_z(ours, n)), _plain(winner, baseline)):
            covered = fake.exact_holds(n, found, shares)
            row(name, "all", n, 1, 0.0, "coverage, least", "93.5", float(covered.min()), 0)
            row(name, "all", n, 1, 0.0, "coverage, mean", "95", float(covered.mean()), 0)


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


def studies_of(
    rng: np.random.Generator, world: fake.World, studies: int, n: int, seeds: int, winner: float, baseline: float
) -> Iterator[tuple[fake.Right, fake.Right]]:
    for _ in range(max(studies // CHUNK, 1)):
        yield fake.pairs(rng, world, min(CHUNK, studies), n, seeds, winner, baseline)


def coverage(rng: np.random.Generator, studies: int) -> None:
    """A true lead of 5 points, 85 against 80 %."""
    cases = [(w, n, 5, v) for w in fake.WORLDS for n in (20, 50, 100, 300) for v in fake.SEED_VARIANCES.values()]
    cases += [("usual", 100, seeds, v) for seeds in (2, 3, 10) for v in fake.SEED_VARIANCES.values()]
    for name, n, seeds, variance in cases:
        world = replace(fake.WORLDS[name], seed=variance)
        procedures: dict[str, Procedure] = {OURS: estimate} | (NAIVE if (n, seeds) == (100, 5) else {})
        held = dict.fromkeys(procedures, 0.0)
        drawn = 0
        for winner, baseline in studies_of(rng, world, studies, n, seeds, 0.85, 0.8):
            drawn += len(winner)
            for procedure, how in procedures.items():
                held[procedure] += fake.holds(how(winner, baseline), 0.05) * len(winner)
        for procedure, count in held.items():
            aimed = "93.5-97.5" if procedure == OURS and n >= 50 and seeds >= 5 else "95"
            row(procedure, name, n, seeds, world.seed_deviation(0.8), "coverage", aimed, count / drawn, drawn)


def power(rng: np.random.Generator, studies: int) -> None:
    """A true lead of 20 points and none, by the verdict's rule."""
    for lead, aimed in ((0.2, ">= 80"), (0.0, "<= 6.5")):
        for n, variance in ((n, v) for n in (50, 100) for v in fake.SEED_VARIANCES.values()):
            world = replace(fake.WORLDS["usual"], seed=variance)
            procedures: dict[str, Procedure] = {OURS: estimate}
            if not lead:
                procedures["mean +- t over seeds"] = fake.seeds_only
            for procedure, how in procedures.items():
                gained, drawn = 0, 0
                for winner, baseline in studies_of(rng, world, studies, n, 5, 0.6 + lead, 0.6):
                    found = how(winner, baseline)
                    gained += int(((found.low > 0) & (found.difference >= MARGIN)).sum())
                    drawn += len(winner)
                kind = f"gain, true +{100 * lead:.0f}"
                row(procedure, "usual", n, 5, world.seed_deviation(0.6), kind, aimed, gained / drawn, drawn)


def pipeline(rng: np.random.Generator, studies: int) -> None:
    """75 looks at 100 validation images among equals, then the verdict: on 100 test images, on the validation images
    with fresh seeds, or on the predictions stored there; against the best of 8 baselines, or one that was not chosen.
    """
    world = fake.World(0.4, 0.4, 0.003)
    for baselines in (8, 1):
        for images in ("test", "validation", "stored"):
            found = fake.gains(rng, studies, images, world, baselines=baselines)
            gained = sum(verdict(one).kind == "gain" for one in found) / studies
            name = f"on {images}, {baselines} baseline{'s' * (baselines > 1)}"
            seeds = 1 if images == "stored" else 5
            row(name, "own", 100, seeds, world.seed_deviation(0.8), "gain, true +0", "<= 6.5", gained, studies)


def selection(rng: np.random.Generator, studies: int) -> None:
    """Points by which the best of 25 equals looks better than the baseline, and what is left after the correction.

    Where seeds make a difference the best of 25 trained models has a lucky one, and is better on other images too: that
    is left, rightly, and only training again shows it.
    """
    for n, variance in ((n, v) for v in (0.0, 0.003) for n in (20, 100, 500)):
        world = fake.World(0.4, 0.4, variance)
        said, corrected = [], []
        for _ in range(studies):
            one = fake.search(rng, world, validation=n, test=1, epochs=1, baselines=1)
            found = selection_cost(one.stored_loss, one.stored, one.stored_baseline, "val_loss", rng, draws=200)
            said.append(100 * found.difference_said)
            corrected.append(100 * found.difference)
        for name, points in (("lead as said", said), ("lead, bias-corrected", corrected)):
            error = f"{1.96 * np.std(points) / math.sqrt(studies):.2f}"
            deviation = f"{100 * world.seed_deviation(0.8):.1f}"
            say(
                name,
                "own",
                str(n),
                "1",
                deviation,
                "points, true +0",
                "0" if not variance else "",
                f"{np.mean(points):.2f}",
                error,
            )


if __name__ == "__main__":
    main()
