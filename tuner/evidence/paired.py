"""Winner against baseline on the same images: the difference, an interval for it, and McNemar's footnote.

Two things make a measured difference vary: which images stand in the test set, and which seeds the models were trained
from. An interval that leaves out either is too narrow; both are in here. How often the intervals hold the truth is
counted in tests/evidence and, at length, by `make simulate`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.evidence.findings import Interval

Right = NDArray[np.bool_]
Floats = NDArray[np.float64]
Groups = NDArray[np.int64]

FEW = 50
"""Under this many images, or groups of them, the plain t interval is asked too, and the wider end of the two counts."""


@dataclass(frozen=True)
class Comparison:
    """The winner's accuracy minus the baseline's on the same images; shares in [-1, 1], not points.

    `standard_error` and `df` are those of the interval, before the wider of two was taken; `image_variance` is one
    image's variance and `seed_variance` the seeds' part of the squared standard error, so that n images would give
    about image_variance / n + seed_variance. `only_winner`, `only_baseline`: images that the first seed's winner alone,
    or baseline alone, has right; `mcnemar`: their exact two-sided p. `failed`: how many seeds are in it as chance.
    `groups`: how many groups the images are of, None where each stands for itself; `group_size`: see `estimate`.
    `median`: the median seed's accuracy of the winner minus the baseline's; None with one seed.
    """

    difference: float
    low: float
    high: float
    n: int
    seeds: int
    confidence: float
    method: str
    standard_error: float
    df: float
    image_variance: float
    seed_variance: float
    only_winner: int
    only_baseline: int
    mcnemar: float
    failed: int = 0
    groups: int | None = None
    group_size: float = 1.0
    median: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What `estimate` finds; each a float64 array of the batch's shape."""

    difference: Floats
    low: Floats
    high: Floats
    standard_error: Floats
    df: Floats
    image_variance: Floats
    seed_variance: Floats


def compare(
    winner: Right,
    baseline: Right,
    confidence: float = 0.95,
    groups: Groups | None = None,
    *,
    failed: tuple[int, int] = (0, 0),
    chance: float = 0.0,
) -> Comparison:
    """The paired comparison of `winner` and `baseline`, bool (seeds, images), True where the answer was right.

    Seed counts may differ. A model that no seed changes has one row, which pairs with every seed of the other.
    `groups`: int64 (images,), equal numbers for images that belong together (of a patient, a video, a burst), which
    are no independent ones. `failed`: further seeds of each whose training failed; they count as right on `chance` of
    every image, since leaving them out would ask how good a configuration is where it works.
    """
    winner, baseline = np.atleast_2d(winner), np.atleast_2d(baseline)
    if winner.ndim != 2 or baseline.ndim != 2 or winner.shape[1] != baseline.shape[1] or 0 in winner.shape:
        raise ValueError(f"baseline: found shape {baseline.shape}, expected (seeds, images) as in {winner.shape}")
    if not len(baseline):
        raise ValueError("baseline: found no seed, expected one or more")
    rows = [with_failed(right, count, chance) for right, count in zip((winner, baseline), failed, strict=True)]
    found = estimate(rows[0], rows[1], confidence, groups)
    n, seeds = winner.shape[1], max(map(len, rows))
    sizes = None if groups is None else np.unique(groups, return_counts=True)[1]
    only_winner, only_baseline = int((winner[0] & ~baseline[0]).sum()), int((baseline[0] & ~winner[0]).sum())
    return Comparison(
        difference=_plain(found.difference),
        low=float(found.low),
        high=float(found.high),
        n=n,
        seeds=seeds,
        confidence=confidence,
        method=_method(n, seeds, bool((rows[0].mean(0) == rows[1].mean(0)).all()), sizes),
        standard_error=float(found.standard_error),
        df=float(found.df),
        image_variance=float(found.image_variance),
        seed_variance=float(found.seed_variance),
        only_winner=only_winner,
        only_baseline=only_baseline,
        mcnemar=mcnemar(only_winner, only_baseline),
        failed=sum(failed),
        groups=None if sizes is None else len(sizes),
        group_size=1.0 if sizes is None else _size(sizes),
        median=None if seeds == 1 else _plain(np.subtract(*(np.median(right.mean(axis=1)) for right in rows))),
    )


def estimate(
    winner: Right | Floats,
    baseline: Right | Floats,
    confidence: float = 0.95,
    groups: Groups | None = None,
    *,
    weights: Floats | None = None,
    unseen: float = 1.0,
) -> Estimate:
    """Intervals of a batch of comparisons: bool (..., seeds, images) each, the batch's shape out. Also float64 in
    [0, 1]: a failed seed's chance to be right, or another score. `groups`: as in `compare`, of every comparison of the
    batch. `weights`: (images,), of mean 1, which make weighted means of all means; a group's sum of them is its size.
    `unseen`: how many groups that were not met with are reckoned with, see below.

    With d_i an image's difference of the means over seeds, D its mean over n images, S seeds, and t_g the sum of d_i
    over a group; where no groups are given, each image is one:

    - Images: sum_g (t_g - m_g D)^2 / n^2, the sandwich form of clustered data (Liang and Zeger, Biometrika 73, 1986),
      of groups of m_g images, with two pseudo-groups added that differ by +c and by -c in sum, c^2 = (m^2 + sum t^4) /
      (m + sum t^2): the size that differences have, were there one group more in whose every seed the models differ on
      sqrt(m) images, between one and all of them (`unseen` = 0: of scores that differ in every image, where nothing
      hides, the size that differences have). m is the size of the group that an image is in, on average, and
      n / m the number of groups that counts (Kish, Survey Sampling, 1965): one group of a third of all images is not
      made up for by a hundred small ones.
      With one seed and single images t is -1, 0 or 1, so c is 1, and this is Bonett and Price's interval (J. Educ.
      Behav. Stat. 37, 2012). Without the one more, a few answers that turn by seed alone are taken for the size of all
      differences: a winner that is right on 3 % of images more in every seed, not met with among 50, then is "no
      difference" up to 18 times in 100.
    - Seeds: s^2(D by seed) / S. Noise of image by seed is in both terms, so MS(rest) / (n S) is taken off, as in the
      two-way analysis of readers and cases (Obuchowski and Rockette, Commun. Stat. Simul. 24, 1995; Hillis, Stat. Med.
      26, 2007), of groups by seeds where there are groups. The plain sum counts it twice: 98 to 99.5 % for 95 %.
    - error^2 = max(A + B - C, A / 2), A the images' term, B the seeds', C the rest's: with two or three noisy seeds
      A + B - C falls to zero and below by chance, and an error of half the images' term is the least to be believed.
    - Student's t at Satterthwaite's (Biometrics Bull. 2, 1946) degrees of freedom, from all three terms; since one is
      taken off they can come out below those of any term, and are then the fewest of a term.
    - Under `FEW` groups each end is the wider of this one's and of the plain sum's without pseudo-groups.
    - Where no image differs, the ends are at least the exact one-sided 1 - (alpha / 2) ** (1 / groups) (Clopper and
      Pearson, Biometrika 26, 1934): Bonett and Price's stop at 2.8 / n, a true difference that shows nothing 6 times
      in 100.

    With one seed on both sides the interval is about these two trained models and says nothing of other seeds.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: found {confidence}, expected a number between 0 and 1")
    n = winner.shape[-1]
    sizes, winner, baseline = _by_group(winner, baseline, groups, weights)
    size = _size(sizes)
    count = n / size
    free = max(count - 1, 1)
    totals = winner.mean(axis=-2) - baseline.mean(axis=-2)
    difference = totals.sum(axis=-1) / n
    squares, fourths = (totals**2).sum(axis=-1), (totals**4).sum(axis=-1)
    one = size * (1.0 if weights is None else float((weights**2).mean()))  # the square of an unseen one's difference
    pseudo = (unseen * one**2 + fourths) / np.maximum(unseen * one + squares, 1e-300)
    middle = difference * n / (n + 2 * size)
    apart = ((totals - middle[..., None] * sizes) ** 2).sum(axis=-1) + 2 * (pseudo + (size * middle) ** 2)
    images = apart / (n + 2 * size) ** 2
    seeds = [_seed_part(x, sizes) for x in _seed_rows(winner, baseline)]
    by_seeds = sum((by_seed for by_seed, _, _ in seeds), np.zeros_like(difference))
    twice = sum((rest for _, rest, _ in seeds), np.zeros_like(difference))
    error = np.sqrt(np.maximum(images + by_seeds - twice, images / 2))
    loose = sum((by_seed**2 + rest**2 / free) / (s - 1) for by_seed, rest, s in seeds)
    loose = images**2 / free + loose
    df = np.where(loose > 0, error**4 / np.where(loose > 0, loose, 1), free)
    df = np.maximum(df, min([free, *(s - 1 for _, _, s in seeds)]))
    half = _student(df, confidence) * error
    low, high = middle - half, middle + half
    if count < FEW:
        half = _plain_half(totals - difference[..., None] * sizes, sizes, seeds, confidence)
        low, high = np.minimum(low, difference - half), np.maximum(high, difference + half)
    end = 1 - ((1 - confidence) / 2) ** (1 / count)
    low, high = np.where(squares > 0, low, np.minimum(low, -end)), np.where(squares > 0, high, np.maximum(high, end))
    beyond = np.maximum(by_seeds - twice, 0)  # what more images would not shrink
    variance = images * (n + 2 * size)
    return Estimate(difference, np.maximum(low, -1), np.minimum(high, 1), error, df, variance, beyond)


def _plain(difference: Floats) -> float:
    """None is none: of equal counts, means over other numbers of seeds differ in the last digit."""
    return 0.0 if abs(float(difference)) < 1e-12 else float(difference)


def with_failed(right: Right, failed: int, chance: float) -> Right | Floats:
    """(seeds, images), right or not, with so many failed seeds more, which are right on `chance` of every image."""
    return np.vstack([right, np.full((failed, right.shape[1]), chance)]) if failed else right


def mcnemar(only_winner: int, only_baseline: int) -> float:
    """Exact two-sided p that images on which one model alone is right favour neither (McNemar, Psychometrika 12, 1947).

    The sign test: twice the smaller tail of a fair coin thrown `only_winner + only_baseline` times, at most 1.
    """
    if min(only_winner, only_baseline) < 0:
        raise ValueError(f"images: found {only_winner} and {only_baseline}, expected counts")
    thrown = only_winner + only_baseline
    tail = sum(math.comb(thrown, k) for k in range(min(only_winner, only_baseline) + 1))
    return min(1.0, float(2 * tail / 2**thrown))


def corrected_resampled(differences: Floats, held_out: Floats, trained: Floats, confidence: float = 0.95) -> Interval:
    """Nadeau and Bengio's corrected resampled t interval (Machine Learning 52, 2003).

    differences: float64 (k,), winner minus baseline in accuracy for each fold of each repeat; held_out, trained: how
    many images it was judged on and trained on, (k,). The folds are weighed alike. The variance of their mean is
    (1/k + held out / trained) s^2: without the second term, which stands for the images that the training sets share,
    the interval would be several times too narrow.
    """
    k, mean = len(differences), float(np.mean(differences))
    if k < 2:
        return Interval(mean, -1.0, 1.0, "one fold: no interval")
    spread = float(np.var(differences, ddof=1))
    error = math.sqrt((1 / k + float(np.mean(held_out / trained))) * spread)
    half = float(_student(np.asarray(k - 1), confidence)) * error
    return Interval(mean, max(-1.0, mean - half), min(1.0, mean + half), "corrected resampled t, Nadeau and Bengio")


def _seed_rows(winner: Right | Floats, baseline: Right | Floats) -> list[Floats]:
    """What varies by seed, (..., seeds, images) each: the paired difference, or both models where counts differ."""
    counts = winner.shape[-2], baseline.shape[-2]
    if max(counts) == 1:
        return []
    if counts[0] == counts[1] or 1 in counts:
        return [winner.astype(np.float64) - baseline]
    return [winner.astype(np.float64), baseline.astype(np.float64)]


def _by_group(
    winner: Right | Floats, baseline: Right | Floats, groups: Groups | None, weights: Floats | None
) -> tuple[Floats, Right | Floats, Right | Floats]:
    """Images of each group, float64 (groups,), and both models' sums over each, (..., seeds, groups)."""
    n = winner.shape[-1]
    each = np.ones(n) if weights is None else weights
    if weights is not None:
        winner, baseline = winner * weights, baseline * weights
    if groups is None:
        return each, winner, baseline
    if groups.shape != (n,):
        raise ValueError(f"groups: found shape {groups.shape}, expected ({n},), a number for each image")
    order = np.argsort(groups, kind="stable")
    begins = np.unique(groups[order], return_index=True)[1]
    sums = [np.add.reduceat(x[..., order].astype(np.float64), begins, axis=-1) for x in (each, winner, baseline)]
    return sums[0], sums[1], sums[2]


def _size(sizes: NDArray[np.number]) -> float:
    """Of the group that an image is in, on average over images."""
    return float((sizes**2).sum() / sizes.sum())


def _seed_part(totals: Floats, sizes: Floats) -> tuple[Floats, Floats, int]:
    """s^2(mean by seed) / S and the rest's term of (..., seeds, groups) sums over groups of these sizes, and S."""
    s, n = totals.shape[-2], sizes.sum()
    by_seed = totals.sum(axis=-1) / n
    rest = (totals - by_seed[..., None] * sizes).var(axis=-2, ddof=1).sum(axis=-1)
    return by_seed.var(axis=-1, ddof=1) / s, rest * _unbiased(sizes) / n**2 / s, s


def _unbiased(sizes: Floats) -> float:
    """n / (n - 1), n the number of groups that counts."""
    count = float(sizes.sum()) / _size(sizes)
    return count / max(count - 1, 1)


def _plain_half(apart: Floats, sizes: Floats, seeds: list[tuple[Floats, Floats, int]], confidence: float) -> Floats:
    """Half the interval of the images' term without pseudo-groups and s^2(D by seed) / S; 0 where nothing varies.
    `apart`: how far each group's sum is from what the mean gives.
    """
    n = float(sizes.sum())
    images = (apart**2).sum(axis=-1) * _unbiased(sizes) / n**2
    square = images + sum(by_seed for by_seed, _, _ in seeds)
    loose = images**2 / max(n / _size(sizes) - 1, 1) + sum(by_seed**2 / (s - 1) for by_seed, _, s in seeds)
    df = np.where(square > 0, square**2 / np.where(loose > 0, loose, 1), 1.0)
    return np.asarray(_student(df, confidence) * np.sqrt(square))


def _student(df: Floats, confidence: float) -> Floats:
    from scipy.special import stdtrit  # here, because a report that compares nothing should not wait for SciPy

    return np.asarray(stdtrit(df, (1 + confidence) / 2))


def _method(n: int, seeds: int, alike: bool, sizes: NDArray[np.number] | None) -> str:
    """The interval in words."""
    count = float(n) if sizes is None else n / _size(sizes)
    if seeds == 1:
        over = "" if sizes is None else f" over {len(sizes)} groups of images"
        words = f"Bonett and Price's paired interval with Student's t{over}, for these two trained models"
    else:
        images = "images" if sizes is None else f"{len(sizes)} groups of images"
        words = f"{images} and seeds as two sources of chance ({seeds} seeds), Satterthwaite's t, Bonett-Price guard"
    if 1 < seeds < 5:
        words += "; with fewer than 5 seeds it can be too narrow"
    if sizes is not None and count < len(sizes) - 1:
        words += f"; groups of unequal size, which count as {count:.0f}"
    if alike:
        words += "; no image differs, so the ends are the exact ones for none seen"
    elif count < FEW:
        many = "images" if sizes is None else "groups"
        words += f"; under {FEW} {many} each end is the wider of this and the plain t interval's"
    return words
