"""Trained models made of chance alone, whose true difference is known: what the statistics are tried on.

A model is right on an image when a normal number lies under the quantile of its true accuracy. The number is the sum of
the image's difficulty, shared by all models; what this configuration finds hard in it; its seed's luck; and noise of
image by seed. Their variances, a `World`, add up to one, so every model's true accuracy over all images and seeds is
the one asked for, and the differences between models on the images at hand are luck.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tuner.evidence.paired import Estimate, estimate
from tuner.evidence.selection import Candidates, Rungs, looks

Right = NDArray[np.bool_]
Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """Parts of the variance; the rest of 1 is noise of image by seed. What else makes a world hard is off by default.

    `tail`: difficulty is Student's t with so many degrees of freedom, so that most images are easy and some hopeless;
    0: normal. `minority`: the share of images that are of a harder class, where the whole lead lies. `scene`: so many
    images in a row share most of what makes them hard, `unequal`: on average, see `scenes`. `skewed`: the winner's
    seeds are mostly good and now and then bad. `collapse`: the share of the winner's seeds that guess. `flips`: the
    share of answers that turn for no reason.
    """

    difficulty: float = 0.55
    configuration: float = 0.25
    seed: float = 0.0
    tail: float = 0.0
    minority: float = 0.0
    scene: int = 1
    unequal: bool = False
    skewed: bool = False
    collapse: float = 0.0
    flips: float = 0.0

    @property
    def noise(self) -> float:
        return 1 - self.difficulty - self.configuration - self.seed

    def seed_deviation(self, accuracy: float) -> float:
        """The standard deviation of accuracy from seed to seed on endless images, to first order."""
        normal = NormalDist()
        return math.sqrt(self.seed) * normal.pdf(normal.inv_cdf(accuracy))


WORLDS = {
    "usual": World(),
    "alike": World(difficulty=0.8, configuration=0.05),
    "noisy": World(difficulty=0.3, configuration=0.05),
}
"""Models that agree on most images, on nearly all, and ones that change their mind with every seed."""
HARD = {
    **{name: replace(world, seed=0.003) for name, world in WORLDS.items()},
    "fixes": World(difficulty=1.0, configuration=0.0, flips=0.005),
    "noise": World(difficulty=0.0, configuration=0.0),
    "lucky": World(seed=0.027),
    "heavy": World(difficulty=0.8, configuration=0.05, seed=0.003, tail=2.0),
    "minority": World(seed=0.003, minority=0.2),
    "skewed": World(seed=0.027, skewed=True),
    "collapsing": World(seed=0.003, collapse=0.15),
    "scenes": World(seed=0.003, scene=5),
    "scenes10": World(seed=0.003, scene=10),
    "unequal": World(seed=0.003, scene=5, unequal=True),
}
"""The same with seeds that differ by 1.5 points; a winner that is right wherever the baseline is, but for 5 answers in
1,000; answers that are nothing but noise of image by seed; seeds that differ by 4.5 points; what makes a world hard.
"""
SEED_VARIANCES = {0.0: 0.0, 0.015: 0.003, 0.045: 0.027}
"""Seed deviation of accuracy (near 0.8) to the variance that gives it: none, 1.5 points, 4.5 points."""
HARDER = 1.5
"""By how many standard deviations a minority's images are harder."""
SHARED = 0.7
"""The part of an image's difficulty, and of a configuration's own, that its scene has in common."""


def normals(rng: np.random.Generator, variance: float, *shape: int) -> NDArray[np.float32]:
    return math.sqrt(variance) * rng.standard_normal(shape, dtype=np.float32)


def pairs(
    rng: np.random.Generator,
    world: World,
    studies: int,
    n: int,
    seeds: int,
    winner: float,
    baseline: float,
    of_few: Right | None = None,
) -> tuple[Right, Right]:
    """Winner and baseline of these true accuracies on fresh images, bool (studies, seeds, images) each. `of_few`: which
    of the images, bool (images,), are of the minority, where they are not to be drawn.
    """
    made = margins(rng, world, studies, n, seeds, winner, baseline, of_few=of_few)
    return made[0] > 0, made[1] > 0


def margins(
    rng: np.random.Generator,
    world: World,
    studies: int,
    n: int,
    seeds: int,
    winner: float,
    *baselines: float,
    of_few: Right | None = None,
) -> list[NDArray[np.float32]]:
    """By how much each is on the right side, float32 (studies, seeds, images); a larger one stands for a surer answer.
    `of_few`: as in `pairs`.
    """
    minority = np.zeros((1, 1, 1), bool)
    if world.minority:
        minority = rng.random((studies, 1, n)) < world.minority if of_few is None else of_few[None, None]
    difficulty = _difficulty(rng, world, studies, n) + HARDER * minority
    made = []
    for side, accuracy in enumerate((winner, *baselines)):
        number = difficulty + _in_scenes(rng, world, world.configuration, studies, n)
        number = number + _luck(rng, world, side, studies, seeds) + normals(rng, world.noise, studies, seeds, n)
        edges = _edges(world, side, accuracy, baselines[0])
        margin = np.where(minority, edges[1], edges[0]).astype(np.float32) - number
        if world.flips:
            margin = np.where(rng.random(margin.shape, dtype=np.float32) < world.flips, -margin, margin)
        if world.collapse and not side:
            margin, _ = collapse(rng, margin, world.collapse)
        made.append(margin)
    return made


def before_collapse(accuracy: float, share: float) -> float:
    """Of the seeds that do not guess between two classes, so that all together have this accuracy."""
    return (accuracy - share / 2) / (1 - share)


def collapse(rng: np.random.Generator, margin: NDArray[np.float32], share: float) -> tuple[NDArray[np.float32], Right]:
    """`margins` where a share of the seeds guesses between two classes, and which do, bool (studies, seeds)."""
    guesses = normals(rng, 1.0, *margin.shape)
    fallen = rng.random(margin.shape[:2]) < share
    return np.where(fallen[..., None], guesses, margin), fallen


def probabilities(margin: NDArray[np.float32], accuracy: float, sharpness: float = 1.0) -> Floats:
    """The chances given to the true one of two classes and to the other one, float64 (..., 2).

    Of a model of this true accuracy in a world where all is normal: 2 Phi^-1(accuracy) times the margin is the logit
    that is right as often as it says; `sharpness` times that is what an overconfident model says.
    """
    logit = 2.0 * sharpness * NormalDist().inv_cdf(accuracy) * margin.astype(np.float64)
    return np.exp(-np.logaddexp(0, np.stack([-logit, logit], axis=-1)))


UNEQUAL = (1, 1, 3, 5, 15)
"""Sizes of scenes that are of five images on average."""


def scenes(world: World, n: int) -> Whole | None:
    """Which scene each of n images is of, int64 (n,), in order; None where each stands for itself."""
    if world.scene == 1:
        return None
    sizes = np.array(UNEQUAL) * world.scene // 5 if world.unequal else np.array([world.scene])
    return np.repeat(np.arange(n), np.resize(sizes, n))[:n]


def _in_scenes(rng: np.random.Generator, world: World, variance: float, studies: int, n: int) -> NDArray[np.float32]:
    of = scenes(world, n)
    if of is None:
        return normals(rng, variance, studies, 1, n)
    shared = normals(rng, SHARED * variance, studies, 1, int(of[-1]) + 1)
    return shared[..., of] + normals(rng, (1 - SHARED) * variance, studies, 1, n)


def _difficulty(rng: np.random.Generator, world: World, studies: int, n: int) -> NDArray[np.float32]:
    if world.tail:
        return (math.sqrt(world.difficulty) * rng.standard_t(world.tail, (studies, 1, n))).astype(np.float32)
    return _in_scenes(rng, world, world.difficulty, studies, n)


def _luck(rng: np.random.Generator, world: World, side: int, studies: int, seeds: int) -> NDArray[np.float32]:
    """Of each seed; large numbers are errors, so that the exponential's tail is a bad seed's."""
    if world.skewed and not side:
        return math.sqrt(world.seed) * (rng.standard_exponential((studies, seeds, 1), dtype=np.float32) - 1)
    return normals(rng, world.seed, studies, seeds, 1)


@cache
def _edges(world: World, side: int, accuracy: float, baseline: float) -> tuple[float, float]:
    """Under which number an image is right, for most images and for the minority's, so that `accuracy` is the truth.

    By the normal quantile where all is normal, else counted on a million numbers.
    """
    chance = 1 - (1 - 2 * world.flips) * (1 - (0.0 if side else world.collapse))  # a flip is half a guess
    accuracy = (accuracy - chance / 2) / (1 - chance)
    if not world.tail and not world.minority and not (world.skewed and not side):
        edge = NormalDist().inv_cdf(accuracy)
        return edge, edge
    rng, many = np.random.default_rng(0), 1_000_000
    number = _difficulty(rng, replace(world, scene=1), many, 1).ravel()
    number = number + _luck(rng, world, side, many, 1).ravel()
    number += normals(rng, world.configuration + world.noise, many)
    if not world.minority:
        edge = float(np.quantile(number, accuracy))
        return edge, edge
    harder = rng.random(many) < world.minority
    edge = float(np.quantile(number + HARDER * harder, baseline))
    there = float((number + HARDER < edge).mean()) + (accuracy - baseline) / world.minority
    return edge, float(np.quantile(number + HARDER, there))


@dataclass(frozen=True)
class Searched:
    """One study: confirmations (seeds, images) on test and validation images, and what the search had stored."""

    test: tuple[Right, Right]
    validation: tuple[Right, Right]
    stored_loss: Floats
    stored: Right
    stored_baseline: Right


def search(
    rng: np.random.Generator,
    world: World,
    accuracy: float = 0.8,
    validation: int = 100,
    test: int = 100,
    configurations: int = 25,
    epochs: int = 3,
    baselines: int = 8,
    seeds: int = 5,
) -> Searched:
    """A search among configurations of equal true accuracy, the frozen ones too: whatever it finds is luck.

    It looks at the validation images after each of `epochs` epochs of each of `configurations`, 75 times in all, and at
    the best of `baselines` likewise; the best looks win. Winner and baseline are trained again from fresh seeds.
    """
    everyone, images = configurations + baselines, validation + test
    edge = NormalDist().inv_cdf(accuracy)
    own = normals(rng, world.difficulty, 1, images) + normals(rng, world.configuration, everyone, images)
    looks = own[:, None, :validation] + normals(rng, world.seed, everyone, epochs, 1)
    looks = looks + normals(rng, world.noise, everyone, epochs, validation)
    loss = np.logaddexp(0, 2.0 * (looks - edge)).astype(np.float64)  # a loss that says what the number says
    right = looks < edge
    best = loss.mean(axis=2).argmin(axis=1)
    stored_loss, stored = loss[np.arange(everyone), best], right[np.arange(everyone), best]
    order = stored_loss.mean(axis=1)
    winner = int(order[:configurations].argmin())
    baseline = configurations + int(order[configurations:].argmin())
    again = []
    for row in (winner, baseline):
        number = own[row][None] + normals(rng, world.seed, seeds, 1) + normals(rng, world.noise, seeds, images)
        again.append(number < edge)
    fresh, seen = slice(validation, None), slice(0, validation)
    return Searched(
        test=(again[0][:, fresh], again[1][:, fresh]),
        validation=(again[0][:, seen], again[1][:, seen]),
        stored_loss=stored_loss[:configurations],
        stored=stored[:configurations],
        stored_baseline=stored[baseline],
    )


BRACKETS = (((27, 9, 3), (1, 3, 9)), ((12, 4), (3, 9)), ((6,), (9,)))
"""Sizes of the rungs, and to which epoch each goes."""


@dataclass(frozen=True)
class Hyperband:
    """A search by rungs and epochs as `selection_cost` takes it; `chosen`: the rows of winner and baseline; `ahead`:
    whether the winner's loss is the lower one; `said`: its lead in accuracy on the validation images; `true`: its lead
    on endless images. What is judged without rungs and epochs: `full_loss` and `full_right` of those that reached the
    end at their epoch that counts, and the chosen baseline's.
    """

    winner: Candidates
    baseline: Candidates
    chosen: tuple[int, int]
    ahead: bool
    said: float
    true: float
    full_loss: Floats
    full_right: Right
    baseline_right: Right


def hyperband(
    rng: np.random.Generator,
    world: World,
    accuracy: float = 0.8,
    validation: int = 100,
    heads: int = 9,
    epochs_alike: float = 0.5,
    spread: float = 0.0,
    lead: float = 0.0,
    checkpoint: str = "best",
) -> Hyperband:
    """Three brackets of configurations that learn for nine epochs, against `heads` frozen ones, of nine epochs too, and
    a logistic regression, looked at once.

    Whatever is trained for long enough is right on `accuracy`, the searched ones on `lead` more, give or take `spread`
    in standard deviations of an image's number, frozen ones half of that. `epochs_alike`: the part of the noise that
    the epochs of a configuration share.
    """
    quantile, last = NormalDist().inv_cdf, 9
    searched, frozen = sum(sizes[0] for sizes, _ in BRACKETS), heads + 1
    everyone, images = searched + frozen, validation
    learned = np.array([quantile(accuracy + lead - 0.15 * math.exp(-e / 2)) for e in range(last)])
    edge = np.vstack([np.tile(learned, (searched, 1)), np.full((frozen, last), quantile(accuracy))])
    edge[:searched] += normals(rng, spread**2, searched, 1)
    edge[searched:-1] += normals(rng, spread**2 / 4, heads, 1)
    edge[:-1] += normals(rng, world.seed, everyone - 1, 1)
    own = normals(rng, world.difficulty, 1, images) + normals(rng, world.configuration, everyone, images)
    own = own + normals(rng, epochs_alike * world.noise, everyone, images)
    number = own[:, None] + normals(rng, (1 - epochs_alike) * world.noise, everyone, last, images) - edge[..., None]
    loss, wrong = np.logaddexp(0, 2.0 * number), (number >= 0).astype(np.float64)
    loss[-1, 1:], wrong[-1, 1:] = math.nan, math.nan

    def counting(rows: NDArray[np.intp], to: int) -> NDArray[np.intp]:
        if checkpoint == "last":
            return np.isfinite(loss[rows, :to, 0]).sum(axis=1) - 1
        return np.nanargmin(loss[rows, :to].mean(axis=2), axis=1)

    brackets, begun = [], 0
    for sizes, to in BRACKETS:
        members = alive = np.arange(begun, begun + sizes[0])
        ended = np.zeros(sizes[0], int)
        for rung, ends in enumerate(to[:-1]):
            order = loss[alive, counting(alive, ends)].mean(axis=1).argsort(kind="stable")
            loss[alive[order[sizes[rung + 1] :]], ends:] = math.nan
            alive = alive[order[: sizes[rung + 1]]]
            ended[alive - begun] = rung + 1
        brackets.append(Rungs(members.tolist(), ended.tolist(), to, sizes))
        begun += sizes[0]
    wrong[np.isnan(loss)] = math.nan
    full = np.flatnonzero(np.isfinite(loss[:searched, -1, 0]))
    cold = np.arange(searched, everyone)
    best = []
    for rows in (full, cold):
        at = counting(rows, last)
        pick = loss[rows, at].mean(axis=1).argmin()
        best.append((rows[pick], at[pick]))
    said = [1 - wrong[row, e].mean() for row, e in best]
    true = [NormalDist().cdf(edge[row, e] / math.sqrt(1 - world.seed)) for row, e in best]
    at, (row, e) = counting(full, last), best[1]
    one = Rungs(range(frozen), [0] * frozen, [last], [frozen])
    return Hyperband(
        winner=Candidates(looks(loss[:searched], wrong[:searched]), brackets),
        baseline=Candidates(looks(loss[searched:], wrong[searched:]), [one]),
        chosen=(int(best[0][0]), int(best[1][0]) - searched),
        ahead=bool(loss[best[0]].mean() < loss[best[1]].mean()),
        said=said[0] - said[1],
        true=true[0] - true[1],
        full_loss=loss[full, at],
        full_right=wrong[full, at] < 0.5,
        baseline_right=wrong[row, e] < 0.5,
    )


def seeds_only(winner: Right, baseline: Right, confidence: float = 0.95) -> Estimate:
    """What is usually printed, mean +- t over seeds: the naive way, which takes the images for all there are."""
    from scipy.special import stdtrit

    by_seed = winner.mean(axis=-1) - baseline.mean(axis=-1)
    seeds = by_seed.shape[-1]
    difference, error = by_seed.mean(axis=-1), by_seed.std(axis=-1, ddof=1) / math.sqrt(seeds)
    half = stdtrit(seeds - 1, (1 + confidence) / 2) * error
    whole = np.full_like(difference, seeds - 1)
    return Estimate(difference, difference - half, difference + half, error, whole, 0 * error, error**2)


def holds(found: Estimate, difference: float | Floats) -> float:
    """The share of intervals that hold the true difference."""
    return float(((found.low <= difference + 1e-12) & (difference <= found.high + 1e-12)).mean())


def plain_sum(winner: Right, baseline: Right, confidence: float = 0.95) -> Estimate:
    """s^2(d) / n + s^2(D by seed) / S with Satterthwaite's t and no more: what `estimate` set out from."""
    from scipy.special import stdtrit

    n, seeds = winner.shape[-1], winner.shape[-2]
    d = winner.mean(axis=-2) - baseline.mean(axis=-2)
    images = d.var(axis=-1, ddof=1) / n
    by_seed = (winner.mean(axis=-1) - baseline.mean(axis=-1)).var(axis=-1, ddof=1) / seeds
    square = images + by_seed
    loose = images**2 / (n - 1) + by_seed**2 / (seeds - 1)
    df = np.where(loose > 0, square**2 / np.where(loose > 0, loose, 1), 1)
    difference, half = d.mean(axis=-1), stdtrit(df, (1 + confidence) / 2) * np.sqrt(square)
    return Estimate(difference, difference - half, difference + half, np.sqrt(square), df, images * n, by_seed)


# ---- one seed, counted exactly -------------------------------------------------------------------------------------


def tables(n: int) -> tuple[Whole, Whole]:
    """Every pair (only the winner right, only the baseline right) that n images can show."""
    first, second = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    possible = first + second <= n
    return first[possible], second[possible]


def every_outcome(n: int) -> tuple[Right, Right]:
    """`tables` as images, bool (outcomes, 1, n) each: what both get right is left out, as no paired method sees it."""
    first, second = tables(n)
    place = np.arange(n)[None, None]
    winner = place < first[:, None, None]
    baseline = ~winner & (place < (first + second)[:, None, None])
    return winner, baseline


def exact_holds(n: int, found: Estimate, shares: list[tuple[float, float]]) -> Floats:
    """Exact coverage of `found` over `every_outcome(n)`, for true shares (only the winner right, only the baseline)."""
    from scipy.special import gammaln, xlogy

    first, second = tables(n)
    ways = gammaln(n + 1) - gammaln(first + 1) - gammaln(second + 1) - gammaln(n - first - second + 1)
    covered = []
    for p, q in shares:
        rest = max(1 - p - q, 0.0)
        chance = np.exp(ways + xlogy(first, p) + xlogy(second, q) + xlogy(n - first - second, rest))
        inside = (found.low <= p - q + 1e-12) & (p - q <= found.high + 1e-12)
        covered.append(chance[inside].sum())
    return np.array(covered)


def grid() -> list[tuple[float, float]]:
    """True shares, fine where few images differ and all favour one model: there intervals break first."""
    coarse = [0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9]
    fine = [(float(p), q) for q in (0.0, 0.01) for p in np.linspace(0.002, 0.3, 150)]
    return [(p, q) for p in coarse for q in coarse if 0 < p + q <= 1] + fine


def searches(rng: np.random.Generator, studies: int, images: str, world: World, **options: int) -> Estimate:
    """What `studies` searches find on their "test" or "validation" images, or by the "stored" predictions."""
    sides = []
    for _ in range(studies):
        study = search(rng, world, **options)
        if images == "stored":
            winner = study.stored[study.stored_loss.mean(axis=1).argmin()]
            sides.append((winner[None], study.stored_baseline[None]))
        else:
            sides.append(study.test if images == "test" else study.validation)
    return estimate(*(np.array(side) for side in zip(*sides, strict=True)))
