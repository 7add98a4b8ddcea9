"""What a number of images can show, before anything is spent, and how many images would do.

Both are worked out for the interval of `paired.estimate` and the rule of `verdict`, by a normal approximation: with n
images the difference of the seeds' means has the variance (q - D^2) / n + B, where D is the true difference, q the mean
squared difference of an image (with one seed the share of images on which one model alone is right) and B what seeds
add, which more images do not shrink. `make simulate` counts what is delivered where 80 % are promised.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tuner.evidence.paired import FEW, Comparison, Floats

POWER = 0.8
"""Four studies of five."""

POWER_OF_EACH = 0.9
"""Against each of two baselines, so that a gain over both is shown in four studies of five, whatever the two have to do
with each other: they fail to show it in at most 10 studies of 100 each.
"""

COUNTLESS = 1_000_000
"""From here on a number of images is no advice."""

SEED_DEVIATION = 0.015
"""By how much accuracy is taken to differ from seed to seed before any was trained: 1.5 points."""

Numbers = float | Floats


def chance(
    difference: Numbers,
    n: Numbers,
    *,
    discordance: Numbers,
    seeds: int = 1,
    seed_variance: float = 0.0,
    noise: float = 0.0,
    margin: float = 0.02,
    confidence: float = 0.95,
) -> Floats:
    """The share of studies on `n` images whose verdict is the right one, float64 of the arguments' common shape.

    Where the true |difference| is `margin` or more that is "gain" or "loss": the whole interval beyond zero, and what
    is seen at least the margin. Below, it is "no difference": both ends inside the margin (two one-sided tests,
    Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987). `discordance`: q, taken as at least |difference|, as it is where
    wherever models differ the same one is right. `seed_variance`: B, from `seeds` on each side; `noise`: one image's
    noise by seed in the seeds' part, which costs degrees of freedom.
    """
    from scipy.special import ndtr, stdtrit  # here, because a report that compares nothing should not wait for SciPy

    true, n = np.abs(np.asarray(difference, np.float64)), np.asarray(n, np.float64)
    q = np.maximum(discordance, true if seeds == 1 else true**2)
    images = ((n * q + 2) / (n + 2) - (true * n / (n + 2)) ** 2) / (n + 2)
    loose = images**2 / np.maximum(n - 1, 1) + ((seed_variance + noise / n) ** 2 / (seeds - 1) if seeds > 1 else 0.0)
    error, deviation = np.sqrt(images + seed_variance), np.sqrt((q - true**2) / n + seed_variance)
    t = stdtrit(error**4 / loose, (1 + confidence) / 2)
    half = t * np.where(n < FEW, np.maximum(error, deviation), error)
    deviation = np.maximum(deviation, 1e-9)
    shown = ndtr((true - np.maximum(half * (n + 2) / n, margin)) / deviation)
    inside = ndtr((margin - half - true) / deviation) - ndtr((half - margin - true) / deviation)
    return np.asarray(np.where(true >= margin, shown, np.maximum(inside, 0.0)))


def smallest_difference(
    n: int,
    *,
    differ: float,
    seeds: int = 5,
    seed_deviation: float = SEED_DEVIATION,
    margin: float = 0.02,
    power: float = POWER,
    confidence: float = 0.95,
) -> float | None:
    """The smallest true difference that `n` test images would show as a gain with this power; None where none would.

    `differ`: on which share of the images one model alone is right (with several seeds the mean squared difference), at
    least; `seed_deviation`: of each model's accuracy from seed to seed.
    """
    if n < 1 or not 0 < power < 1:
        raise ValueError(f"power: found {power} at {n} images, expected between 0 and 1, and an image or more")
    beyond = 2 * seed_deviation**2 / seeds if seeds > 1 else 0.0
    tried = np.linspace(margin, 1.0, 1 + round(1000 * (1 - margin)))
    enough = chance(
        tried,
        n,
        discordance=np.maximum(differ, tried),
        seeds=seeds,
        seed_variance=beyond,
        margin=margin,
        confidence=confidence,
    )
    return float(tried[(enough >= power).argmax()]) if (enough >= power).any() else None


def images_needed(
    difference: Numbers,
    discordance: Numbers,
    *,
    seeds: int = 1,
    seed_variance: float = 0.0,
    noise: float = 0.0,
    margin: float = 0.02,
    power: float = POWER,
    confidence: float = 0.95,
) -> Floats:
    """How many images give the right verdict on a true `difference` with this power, as in `chance`, to 1 %; float64,
    infinite where not even `COUNTLESS` do: a difference too near the margin, or seeds that vary too much.
    """
    difference, discordance = np.broadcast_arrays(np.asarray(difference, np.float64), discordance)

    def enough(n: Floats) -> NDArray[np.bool_]:
        found = chance(
            difference,
            n,
            discordance=discordance,
            seeds=seeds,
            seed_variance=seed_variance,
            noise=noise,
            margin=margin,
            confidence=confidence,
        )
        return found >= power

    low, high = np.ones(difference.shape), np.full(difference.shape, float(COUNTLESS))
    never = ~enough(high)
    while (high / low).max() > 1.01:
        middle = np.sqrt(low * high)
        reached = enough(middle)
        high, low = np.where(reached, middle, high), np.where(reached, low, middle)
    return np.where(never, math.inf, np.ceil(high))


def needed_for(found: Comparison, difference: Numbers, margin: float) -> Floats:
    """`images_needed`, where images, in groups as large, and seeds vary as in `found`, and the true difference is
    another.
    """
    size = found.group_size
    groups = found.n / size  # in the place of images: what varies of itself
    images = found.image_variance / (found.n + 2 * size)
    loose = max(found.standard_error**4 / found.df - images**2 / max(groups - 1, 1), 0.0)  # see `paired.estimate`
    noise = max(math.sqrt(loose * max(found.seeds - 1, 0)) - found.seed_variance, 0.0) * groups
    return size * images_needed(
        difference,
        found.image_variance / size + found.difference**2,
        seeds=found.seeds,
        seed_variance=found.seed_variance,
        noise=noise,
        margin=margin,
        confidence=found.confidence,
    )


def images_range(found: Comparison, margin: float, share: float = 0.9) -> tuple[float, float]:
    """How many images would do, from and to, with a chance of `share` that what is really needed lies between.

    What is needed goes by the square of the true difference, of which too few images say little: this takes every
    difference that the comparison leaves open, by its own t distribution, and the middle `share` of what each needs.
    Either number can be infinite.
    """
    from scipy.special import stdtrit

    steps = (np.arange(200) + 0.5) / 200
    true = np.clip(found.difference + stdtrit(max(found.df, 1.0), steps) * found.standard_error, -1, 1)
    needed, low = np.sort(needed_for(found, true, margin)), round((1 - share) / 2 * len(steps))
    return float(needed[low]), float(needed[-1 - low])
