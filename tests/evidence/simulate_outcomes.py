"""The two outcomes beside accuracy, and whatever a study may bring: no outcome may stop a report."""

from __future__ import annotations

import math

import numpy as np
from evidence import fake_trainer as fake
from evidence.simulation import CHUNK, FIRST, Counted, row, say

from tuner.evidence.balance import compare_balanced, weights
from tuner.evidence.paired import compare, estimate
from tuner.evidence.probabilities import Predicted, brier, compare_probabilities, tempered
from tuner.evidence.recommendation import posterior
from tuner.evidence.stability import collapsed
from tuner.evidence.stability import unstable as fallen
from tuner.evidence.verdict import FEWEST, verdict

SURE = 4.0
EACH = 500
"""Outcomes of one shape."""


def probabilities(rng: np.random.Generator, studies: int) -> None:
    """The Brier score of probabilities that are tempered on n validation images, at most 50: "gain" and "loss" are
    "better" and "worse probabilities"; "figure": the share of gains by accuracy on the same images. "too sure": the
    winner's logits are four times what they should be, which a temperature mends. The truth is the mean over studies,
    or 0 where both sides are alike.
    """
    studies = -(-studies // 2)
    for name in ("usual", "alike", "noisy", "lucky", "heavy", "scenes"):
        for n in (20, 50, 100, 300):
            for lead, sure in ((0.0, 1.0), (0.0, SURE), (0.04, 1.0), (0.1, 1.0)):
                if sure > 1 and name not in ("usual", "heavy"):
                    continue
                found, gains, groups = [], Counted(), fake.scenes(fake.HARD[name], n)
                for begun in range(0, studies, CHUNK):
                    scores, right = _scored(rng, name, min(CHUNK, studies - begun), n, lead, sure)
                    found.append(estimate(*scores, groups=groups, unseen=0))
                    gains.add(estimate(*right, groups=groups), lead)
                same = lead == 0 and sure == 1
                truth = 0.0 if same else float(np.concatenate([one.difference for one in found]).mean())
                counted = Counted()
                for one in found:
                    better, worse = one.high < 0, one.low > 0
                    counted.count((one.low <= truth) & (truth <= one.high), better, worse, ~(better | worse))
                cells = counted.cells() | {"same": "", "figure": gains.cells()["gain"]}
                row(f"Brier score{', too sure' * (sure > 1)}", name, n, FIRST, lead, cells)


def _scored(
    rng: np.random.Generator, name: str, studies: int, n: int, lead: float, sure: float
) -> tuple[list[fake.Floats], list[fake.Right]]:
    """Brier scores of winner and baseline, (studies, seeds, images) each, and which of their answers are right."""
    seen = min(n, 50)
    sides = fake.margins(rng, fake.HARD[name], studies, seen + n, FIRST, 0.8 + lead, 0.8)
    scores = []
    for margin, accuracy, sharpness in zip(sides, (0.8 + lead, 0.8), (sure, 1.0), strict=True):
        chances = fake.probabilities(margin, accuracy, sharpness)
        truth = np.zeros(seen + n, np.int64)
        scores.append(brier(tempered(chances[:, :, seen:], chances[:, :, :seen], truth[:seen]), truth[seen:]))
    return scores, [margin[..., seen:] > 0 for margin in sides]


def balanced(rng: np.random.Generator, studies: int) -> None:
    """Balanced accuracy where a fifth or a tenth of the images are of one class. "minority": of the harder class, where
    the whole lead lies, so that the balanced one is larger, which is the one that "true" names.
    """
    for name in ("usual", "alike", "fixes", "minority"):
        for part in (0.2, 0.1) if name == "usual" else (0.2,):
            for n in (20, 50, 100, 300):
                of_few = np.arange(n) < round(part * n)
                for lead in (0.0, 0.06):
                    given, counted = lead * 2 * part if name == "minority" else lead, Counted()
                    for begun in range(0, studies, CHUNK):
                        winner, baseline = fake.pairs(
                            rng,
                            fake.HARD[name],
                            min(CHUNK, studies - begun),
                            n,
                            FIRST,
                            0.8 + given,
                            0.8,
                            of_few=of_few if name == "minority" else None,
                        )
                        counted.add(estimate(winner, baseline, weights=weights(of_few.astype(np.int64))), lead)
                    row(f"balanced, {part:.0%} of one class", name, n, FIRST, lead, counted.cells())


def outcomes(rng: np.random.Generator, studies: int) -> None:
    """500 random outcomes for each study asked for: 2 to 20 seeds on each side or one, failures, ties, groups, classes
    of a single image or none, probabilities of 0 and 1; one in fifty goes on to its verdict. No warning, no exception,
    no number that is not finite. "figure": how many there were.
    """
    count = 0
    with np.errstate(all="raise", under="ignore"):
        for _ in range(math.ceil(500 * studies / EACH)):
            _any(rng)
            count += EACH
    say({"procedure": "outcomes without exception", "world": "any", "figure": str(count)})


def _any(rng: np.random.Generator) -> None:
    """Raises where an outcome has no answer."""
    n, classes = int(rng.choice((1, 2, 5, 20, 60))), int(rng.integers(2, 5))
    seeds = [int(rng.choice((1, 2, 3, 5, 20))) for _ in range(2)]
    share = rng.choice((0.0, 0.5, 0.9, 1.0), 2)
    same = rng.random(n) if rng.random() < 0.5 else None
    sides = [
        (rng.random((EACH, s, n), dtype=np.float32) if same is None else np.broadcast_to(same, (EACH, s, n))) < p
        for s, p in zip(seeds, share, strict=True)
    ]
    labels = rng.integers(0, int(rng.integers(1, classes + 1)), n)
    groups = rng.integers(0, n, n) if rng.random() < 0.5 else None
    chances = [_chances(rng, s, n, classes) for s in seeds]
    for weighted in (None, weights(labels)):
        found = estimate(sides[0], sides[1], groups=groups, weights=weighted)
        every = np.stack([*vars(found).values()])
        if not (np.isfinite(every).all() and (found.low <= found.difference + 1e-12).all()):
            raise ArithmeticError(f"{n} images, {seeds} seeds: found {every[:, ~np.isfinite(every).all(axis=0)]}")
    for i in range(0, EACH, 50):
        failed = (int(rng.integers(0, 4)), int(rng.integers(0, 4)))
        one = compare(sides[0][i], sides[1][i], groups=groups, failed=failed, chance=1 / classes)
        accuracies: list[float] = sides[0][i].mean(axis=-1).tolist()
        names = [collapsed("winner", k + 1, accuracies[k]) for k in fallen(accuracies, n)]
        if all(s >= FEWEST or not f for s, f in zip(seeds, failed, strict=True)):
            verdict(one, exploratory=bool(i % 3), collapsed=names)
        posterior(one.difference, one.standard_error)
        compare_balanced(sides[0][i], sides[1][i], labels, groups=groups)
    validation = _chances(rng, seeds[0], n, classes) if rng.random() < 0.5 else None
    first, second = Predicted(chances[0], validation, 1), Predicted(chances[1], None)
    compare_probabilities(first, second, labels, labels, groups=groups)


def _chances(rng: np.random.Generator, seeds: int, n: int, classes: int) -> fake.Floats:
    """Probabilities, some of them 0 and 1."""
    chances = rng.dirichlet(np.full(classes, rng.choice((0.01, 1.0))), (seeds, n))
    sure = rng.random((seeds, n)) < 0.3
    return np.where(sure[..., None], np.eye(classes)[rng.integers(0, classes, (seeds, n))], chances)
