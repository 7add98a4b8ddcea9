"""What a recommendation costs against knowing the truth, in points of accuracy: prints one table.

    python tests/evidence/simulate_recommendation.py [--studies 2000] [--seed 0]

The winner's true lead comes from N(0, 6 points), at most 12 (7 where all of it lies in a minority), over a baseline
that is right on 80 %, and is counted on n test images with five seeds each, in the worlds of fake_trainer.py. Regret:
how much more accurate the truly better one of the two is than the one taken, on average; "+-" is its Monte Carlo error
(1.96 standard errors). "chance": the mean of what is said to be the chance that the one taken is the better one, and
"is": how often it is, both in percent. Last come studies that are not confirmed. About a minute with the default.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from evidence import fake_trainer as fake  # noqa: E402

from tuner.evidence.paired import estimate  # noqa: E402
from tuner.evidence.recommendation import PRIOR, posterior  # noqa: E402
from tuner.evidence.selection import selection_cost  # noqa: E402
from tuner.evidence.verdict import MARGIN  # noqa: E402

LEADS = 40
SEARCHED = ("choosing taken out", "by the objective", "by accuracy")
RULES = ("recommended", "always the winner", "winner on gain only", "always the baseline")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{'world':12} {'n':>4} " + " ".join(f"{rule:>20}" for rule in RULES) + f" {'+-':>5} {'chance':>7} {'is':>5}")
    for name, world in fake.HARD.items():
        for n in (20, 50, 100, 300):
            rng = np.random.default_rng([options.seed, n, *name.encode()])
            regrets, error, said, held = regret(rng, world, options.studies, n)
            cells = " ".join(f"{regrets[rule]:20.2f}" for rule in RULES)
            print(f"{name:12} {n:4} {cells} {error:5.2f} {said:7.1f} {held:5.1f}", flush=True)
    for n in (20, 50, 100):
        rng = np.random.default_rng([options.seed, n])
        regrets, error = unconfirmed(rng, fake.World(0.4, 0.4, 0.003), max(options.studies // 5, 2), n)
        print(f"unconfirmed  {n:4} {', '.join(f'{rule} {lost:.2f}' for rule, lost in regrets.items())}, +- {error:.2f}")


def regret(
    rng: np.random.Generator, world: fake.World, studies: int, n: int, seeds: int = 5, spread: float = PRIOR
) -> tuple[dict[str, float], float, float, float]:
    """Of each rule, in points; the error of the first one; and the chance said and met with, in percent."""
    lost: dict[str, list[np.ndarray]] = {rule: [] for rule in RULES}
    said, held = [], []
    for at in range(LEADS):
        most = 0.07 if world.minority else 0.12
        lead = min(max(NormalDist(0, spread).inv_cdf((at + 0.5) / LEADS), -most), most)
        winner, baseline = fake.pairs(rng, world, max(studies // LEADS, 1), n, seeds, 0.8 + lead, 0.8)
        found = estimate(winner, baseline, groups=fake.scenes(world, n))
        gain = (found.low > 0) & (found.difference >= MARGIN)
        everywhere = np.ones(len(winner), bool)
        for rule, taken in zip(RULES, (found.difference > 0, everywhere, gain, ~everywhere), strict=True):
            lost[rule].append(100 * np.where(taken, max(-lead, 0), max(lead, 0)))
        for difference, deviation in zip(found.difference, found.standard_error, strict=True):
            p = posterior(float(difference), float(deviation))[0]
            said.append(max(p, 1 - p))
            held.append((lead > 0) == (difference > 0))
    means = {rule: float(np.mean(np.concatenate(each))) for rule, each in lost.items()}
    ours = np.concatenate(lost["recommended"])
    return (
        means,
        1.96 * float(ours.std()) / math.sqrt(len(ours)),
        100 * float(np.mean(said)),
        100 * float(np.mean(held)),
    )


def unconfirmed(rng: np.random.Generator, world: fake.World, studies: int, n: int) -> tuple[dict[str, float], float]:
    """The same where nothing is confirmed: searches by rungs and epochs whose configurations all lead by as much, where
    the n validation images that chose judge: by what is recommended, by each sign alone, and by none.
    """
    lost: dict[str, list[float]] = {rule: [] for rule in ("recommended", *SEARCHED, *RULES[1:2], RULES[3])}
    for lead in np.clip(rng.normal(0, PRIOR, studies), -0.12, 0.12):
        one = fake.hyperband(rng, world, validation=n, lead=float(lead))
        choosing = selection_cost(one.winner, one.baseline, "val_loss", rng, draws=100)
        loss = [
            float(np.nanmin(side.looks.read(side.looks.place[row])[0].mean(axis=1)))
            for side, row in zip((one.winner, one.baseline), one.chosen, strict=True)
        ]
        corrected, ahead = choosing.difference > 0, loss[0] < loss[1]
        for rule, taken in zip(lost, (corrected and ahead, corrected, ahead, one.said > 0, True, False), strict=True):
            lost[rule].append(100 * (max(-one.true, 0) if taken else max(one.true, 0)))
    error = 1.96 * float(np.std(lost["recommended"])) / math.sqrt(studies)
    return {rule: float(np.mean(points)) for rule, points in lost.items()}, error


if __name__ == "__main__":
    main()
