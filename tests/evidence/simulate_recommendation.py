"""What a recommendation costs against knowing the truth, in points of accuracy."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from evidence import fake_trainer as fake
from evidence.simulation import by_rule, row

from tuner.evidence.paired import estimate
from tuner.evidence.recommendation import PRIOR, posterior
from tuner.evidence.selection import selection_cost
from tuner.evidence.verdict import MARGIN

LEADS = 40
SEARCHED = ("choosing taken out", "by the objective", "by accuracy")
RULES = ("recommended", "always the winner", "winner on gain only", "always the baseline")


def recommendation(rng: np.random.Generator, studies: int) -> None:
    """The winner's true lead comes from N(0, 6 points), at most 12 (7 where all of it lies in a minority), over a
    baseline that is right on 80 %, and is counted on n test images with five seeds, twenty by the rule where some
    collapse. Regret, in points: how much more accurate the truly better one of the two is than the one taken, on
    average. "chance said", in percent: the mean of what is said to be the chance that the one taken is the better one,
    and "chance is", how often it is. Last come studies that are not confirmed.
    """
    for name, world in fake.HARD.items():
        for n in (20, 50, 100, 300):
            regrets, error, said, held = regret(rng, world, studies, n)
            for rule in RULES if name == "usual" else RULES[:1]:
                cells = {"figure": f"{regrets[rule]:.2f}"} | ({"+-": f"{error:.2f}"} if rule == RULES[0] else {})
                row(f"regret, {rule}", name, n, 5, None, cells)
            row("chance said", name, n, 5, None, {"figure": f"{said:.1f}"})
            row("chance is", name, n, 5, None, {"figure": f"{held:.1f}"})
    for n in (20, 50, 100):
        regrets, error = unconfirmed(rng, fake.World(0.4, 0.4, 0.003), max(studies // 5, 2), n)
        for rule, lost in regrets.items():
            row(f"regret, {rule}", "unconfirm.", n, 1, None, {"figure": f"{lost:.2f}", "+-": f"{error:.2f}"})


def regret(
    rng: np.random.Generator, world: fake.World, studies: int, n: int, seeds: int = 5, spread: float = PRIOR
) -> tuple[dict[str, float], float, float, float]:
    """Of each rule, in points; the error of the first one; and the chance said and met with, in percent."""
    lost: dict[str, list[np.ndarray]] = {rule: [] for rule in RULES}
    said, held = [], []
    for at in range(LEADS):
        most = 0.07 if world.minority else 0.12
        lead = min(max(NormalDist(0, spread).inv_cdf((at + 0.5) / LEADS), -most), most)
        many = max(studies // LEADS, 1)
        if world.collapse:
            batches = [(w, b) for w, b, *_ in by_rule(rng, world, many, n, 0.8 + lead, 0.8)]
        else:
            batches = [fake.pairs(rng, world, many, n, seeds, 0.8 + lead, 0.8)]
        for winner, baseline in batches:
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
        corrected, ahead = choosing.difference > 0, one.ahead
        for rule, taken in zip(lost, (corrected and ahead, corrected, ahead, one.said > 0, True, False), strict=True):
            lost[rule].append(100 * (max(-one.true, 0) if taken else max(one.true, 0)))
    error = 1.96 * float(np.std(lost["recommended"])) / math.sqrt(studies)
    return {rule: float(np.mean(points)) for rule, points in lost.items()}, error
