"""What a number of images can show, before anything is spent, and how many images would do."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from tuner.evidence.paired import estimate

MOST = 64
"""More images in a row than any usual confidence asks for before a difference tells."""


def smallest_difference(n: int, power: float = 0.8, confidence: float = 0.95) -> float | None:
    """The smallest true difference that `n` test images would show with this power, in the most favourable case.

    Favourable: wherever the two models differ, the same one is right, so the images that differ are binomial with the
    true difference as their share. Enumerated exactly: the fewest such images at which `paired.estimate` lies above
    zero (6 at 95 %, as in the sign test), then the share at which that many or more come up with probability `power`.
    Real models differ both ways and need more. None where no result on so few images would show anything.
    """
    if n < 1 or not 0 < power < 1:
        raise ValueError(f"power: found {power} at {n} images, expected between 0 and 1, and an image or more")
    fewest = next((k for k in range(1, min(n, MOST) + 1) if _tells(k, n, confidence)), None)
    if fewest is None:
        return None
    from scipy.special import bdtri  # the share at which fewer than `fewest` come up with probability 1 - power

    return power ** (1 / n) if fewest == n else float(bdtri(fewest - 1, n, 1 - power))


def images_needed(
    difference: float,
    discordance: float,
    power: float = 0.8,
    confidence: float = 0.95,
    seed_variance: float = 0.0,
) -> int | None:
    """How many images would show a true `difference` with this power (Connor, Biometrics 43, 1987).

    `discordance`: the share of images on which one model alone is right (with several seeds the mean squared
    difference), at least |difference|. `seed_variance`: the seeds' part of the squared standard error, which more
    images do not shrink. None where no number of images would do: no difference, or seeds that vary too much.
    """
    discordance = max(discordance, difference**2)
    false, missed = NormalDist().inv_cdf((1 + confidence) / 2), NormalDist().inv_cdf(power)
    left = difference**2 - (false + missed) ** 2 * seed_variance
    if left <= 0:
        return None
    reach = false * math.sqrt(discordance) + missed * math.sqrt(discordance - difference**2)
    return math.ceil(reach**2 / left)


def _tells(k: int, n: int, confidence: float) -> bool:
    """Whether a model that is right on k images of n more, and wrong on none more, is told from luck."""
    right = np.arange(n)[None] < k
    return bool(estimate(right, np.zeros_like(right), confidence).low > 0)
