"""What choosing the best of many cost: how much of the winner's lead on the images that chose it is luck."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.evidence.paired import Floats, Right
from tuner.store.ranking import SCORED, SMALLER

DRAWS = 2000
WORK = 4e9
"""Multiplications of all draws together, above which fewer are drawn, but not under a tenth of `DRAWS`."""
AT_ONCE = 4_000_000
"""Answers that are unpacked at once: what makes the memory small, and is large enough to be fast."""

Said = NDArray[np.floating[Any]]

Scores = Callable[[Floats], Floats]
"""Takes how often each image counts, (draws, images), and gives the objective's values, (draws, configurations,
epochs), or (draws, configurations, 1) for all epochs alike.
"""


@dataclass(frozen=True)
class Rungs:
    """A bracket that was run: `members`, rows of the candidates; `ended`, the last rung each ended, from 0; of each
    rung the epoch that it went `to` and its size, how many began it.
    """

    members: Sequence[int]
    ended: Sequence[int]
    to: Sequence[int]
    sizes: Sequence[int]


@dataclass(frozen=True)
class Looks:
    """What configurations said of each image after each epoch that they were trained for: most are stopped early.

    `said`: a look each, floats (images,), the loss of each image, negative where the answer was wrong; they are not
    copied. `place`: whole numbers (configurations, epochs), which look it is, -1 where there is none. `moved`: floats
    (2, looks), what is added to the losses, and to 1 for a wrong and 0 for a right answer.
    """

    said: Sequence[Said]
    place: NDArray[np.intp]
    moved: Floats

    @property
    def images(self) -> int:
        return len(self.said[0]) if self.said else 0

    @property
    def size(self) -> int:
        """Answers, were all trained for all epochs."""
        return self.place.size * self.images

    def read(self, looks: Sequence[int] | NDArray[np.intp]) -> tuple[Said, Said]:
        """Losses and whether wrong, (looks, images) each; a look of -1 is NaN."""
        none = np.full(self.images, math.nan, np.float16)
        said = np.stack([self.said[i] if i >= 0 else none for i in looks])
        form, moved = np.result_type(said, np.float32), self.moved[:, looks, None]
        loss, wrong = np.abs(said).astype(form), (said < 0).astype(form)
        if moved.any():
            loss, wrong = loss + moved[0].astype(form), wrong + moved[1].astype(form)
        wrong[np.asarray(looks) < 0] = math.nan
        return loss, wrong

    def wrong(self, rows: NDArray[np.intp], epochs: NDArray[np.intp]) -> Said:
        """Whether these configurations were wrong after these epochs, (rows, images)."""
        looks, which = np.unique(self.place[rows, epochs], return_inverse=True)
        return self.read(looks)[1][which]


def looks(loss: Floats, wrong: Floats | Right) -> Looks:
    """From (configurations, epochs, images) each, NaN where there is no look."""
    known = np.isfinite(loss).all(axis=2)
    place = np.where(known, known.cumsum().reshape(known.shape) - 1, -1)
    said = np.where(wrong, -np.maximum(loss, np.finfo(np.float64).tiny), loss)[known]  # no sign stands at 0
    return Looks(list(said), place, np.zeros((2, max(len(said), 1))))


@dataclass(frozen=True)
class Candidates:
    """The configurations one of which was chosen, rows in the order that breaks ties.

    `scores`: values on bags of images, for an objective that is neither loss nor accuracy.
    """

    looks: Looks
    brackets: Sequence[Rungs]
    scores: Scores | None = None


def once(loss: Floats, right: Right, scores: Scores | None = None) -> Candidates:
    """Candidates that were looked at once, all together: (configurations, images) each."""
    loss, right = np.asarray(loss, np.float64), np.asarray(right, bool)
    if loss.ndim != 2 or loss.shape != right.shape or 0 in loss.shape:
        raise ValueError(f"right: found {right.shape}, expected {loss.shape}, configurations by images")
    rows = range(len(loss))
    return Candidates(looks(loss[:, None], ~right[:, None]), [Rungs(rows, [0] * len(loss), [1], [len(loss)])], scores)


@dataclass(frozen=True)
class Selection:
    """The winner on the images that chose it, as said and with the choosing taken out; shares in [0, 1] and [-1, 1].

    `winner`: its row. `accuracy_said` and `difference_said`: over all images, flattered; `accuracy` and `difference`:
    corrected, with percentile intervals. `draws`: those used; one that leaves no image out says nothing.
    """

    winner: int
    accuracy_said: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    difference_said: float
    difference: float
    difference_low: float
    difference_high: float
    draws: int


def selection_cost(
    winner: Candidates,
    baseline: Candidates,
    objective: str,
    rng: np.random.Generator,
    draws: int = DRAWS,
    confidence: float = 0.95,
    checkpoint: str = "best",
    groups: NDArray[np.int64] | None = None,
) -> Selection:
    """Bootstrap bias-corrected comparison (Tsamardinos, Greasidou and Borboudakis, Machine Learning 107, 2018).

    Each draw takes the images with replacement and makes the study's whole choice again on those in the bag, on both
    sides: the epoch that counts of each configuration (`checkpoint`: the best or the last), who goes on at each rung,
    the best of those that got to the end, by the study's rule (objective, other metric, lower number). What it chose is
    judged on the images left out. To choose again on one side alone, or at an epoch that was chosen on the same images,
    would take back more luck than there was, or less. `groups`: int64 (images,), images of one number are drawn
    together: left out beside others of theirs in the bag they would not be new to the choice.

    A configuration that the study stopped at a rung can go on in a bag. What it would have come to is taken from those
    that did go on: their mean change of the metrics from rung to rung, and of accuracy their change in probits.

    The correction is for the luck of images alone: a trained model with a lucky seed is better on other images too, and
    only training it again takes that back. It leans to the pessimistic side, since a bag holds 63 % of the images, and
    its interval to the wide one, since 37 % are left out. A configuration with a loss that is not finite ranks last.
    """
    n = winner.looks.images
    if baseline.looks.images != n:
        raise ValueError(f"baseline: found {baseline.looks.images} images, expected {n}")
    draws = max(min(draws, round(WORK / (winner.looks.size + baseline.looks.size))), min(draws, DRAWS // 10))
    known, group_of = (None, slice(None)) if groups is None else np.unique(groups, return_inverse=True)
    bags = _bags(n if known is None else len(known), draws, rng)[:, group_of]
    if not len(bags):
        what = "images" if groups is None else "images of one group"
        raise ValueError(f"images: found {n} {what}, expected two or more, so that some can be left out")
    weights = np.concatenate([np.ones((1, n)), bags])  # the first row is the study's own choice
    out = np.concatenate([np.ones((1, n)), np.equal(bags, 0)])
    chosen, accuracies = zip(
        *(_chosen(side, weights, out, objective, checkpoint) for side in (winner, baseline)), strict=True
    )
    accuracy, difference = accuracies[0], accuracies[0] - accuracies[1]
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    (a_low, a_high), (d_low, d_high) = np.quantile(accuracy[1:], ends), np.quantile(difference[1:], ends)
    return Selection(
        winner=int(chosen[0][0]),
        accuracy_said=float(accuracy[0]),
        accuracy=float(accuracy[1:].mean()),
        accuracy_low=float(a_low),
        accuracy_high=float(a_high),
        difference_said=float(difference[0]),
        difference=float(difference[1:].mean()),
        difference_low=float(d_low),
        difference_high=float(d_high),
        draws=len(bags),
    )


def expected_best(scores: Sequence[float] | Floats, smaller: bool = True) -> Floats:
    """The best score that n of these N configurations would be expected to reach, for n = 1 to N; float64 (N,).

    The expected best as a function of the budget is Dodge et al.'s (EMNLP 2019); theirs draws with replacement and is
    biased, this is the mean over all subsets of n, unbiased (Tang et al., ACL 2020). The scores must come from one
    distribution at equal epochs: first-rung trials of one bracket. `smaller`: whether smaller is better. A score that
    is missing or not finite is a failed trial: it counts, as the worst of the finite ones, NaN where there is none.
    """
    values = np.array(scores, dtype=np.float64).ravel()
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.full(values.shape, math.nan)
    values[~np.isfinite(values)] = finite.max() if smaller else finite.min()
    ordered = np.sort(values)[:: -1 if smaller else 1]  # the worst first
    total = len(ordered)
    # the k-th worst is the best of n in C(k - 1, n - 1) of the C(total, n) subsets, by logarithms of factorials
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
    k, n = np.arange(1, total + 1)[None], np.arange(1, total + 1)[:, None]
    with np.errstate(invalid="ignore"):
        subsets = factorial[k - 1] - factorial[n - 1] - factorial[np.maximum(k - n, 0)]
    every = factorial[total] - factorial[n] - factorial[total - n]
    chance = np.where(k >= n, np.exp(subsets - every), 0.0)
    return np.asarray(chance @ ordered, dtype=np.float64)


def _bags(n: int, draws: int, rng: np.random.Generator) -> Floats:
    """How often each draw took each image, (draws, images); draws that took them all are left out."""
    taken = rng.integers(n, size=(draws, n)) + n * np.arange(draws)[:, None]
    bags: Floats = np.bincount(taken.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float64)
    return bags[np.equal(bags, 0).any(axis=1)]


def _chosen(
    side: Candidates, weights: Floats, out: Floats, objective: str, checkpoint: str
) -> tuple[NDArray[np.intp], Floats]:
    """The row that each draw chooses, and its accuracy on the images that `out` counts; (draws,) each."""
    if objective not in ("val_loss", "val_accuracy") and (objective not in SCORED or side.scores is None):
        raise ValueError(f"objective: found {objective!r}, expected 'val_loss', 'val_accuracy' or one with scores")
    scores = None
    if objective in SCORED and side.scores is not None:
        scores = np.broadcast_to(side.scores(weights), (len(weights), *side.looks.place.shape))
    rows, draws = np.full(len(weights), -1), np.arange(len(weights))
    best, epochs, group = np.full((2, len(weights)), math.inf), np.zeros_like(rows), np.full(len(weights), -1)
    gains: list[tuple[float, float]] = []
    for bracket in side.brackets:
        members, ended, last = np.asarray(bracket.members), np.asarray(bracket.ended), len(bracket.to) - 1
        alive = np.ones((len(weights), len(members)), bool)
        values, reached, survived = np.zeros((2, *alive.shape)), [], ended == last
        place = side.looks.place[members, : bracket.to[-1]]
        first, second = _metrics(side.looks, place, weights, objective, None if scores is None else scores[:, members])
        for rung, to in enumerate(bracket.to):
            epoch = _counting(first[..., :to], second[..., :to], checkpoint)
            at = np.stack([np.take_along_axis(x, epoch[..., None], 2)[..., 0] for x in (first, second)])
            here = ended >= rung
            # Who was stopped before changes as those did that were not; all of it counted on all images (draw 0).
            change = (at[:, 0, here] - values[:, 0, here]).mean(axis=1) if rung else np.zeros(2)
            values = np.where(here, at, values + change[:, None, None])
            reached.append(1 - side.looks.wrong(members[survived], epoch[0, survived]).mean())
            if rung < last:
                order = np.lexsort(np.where(alive, values, math.inf)[::-1], axis=-1)
                alive = np.zeros_like(alive)
                np.put_along_axis(alive, order[:, : bracket.sizes[rung + 1]], True, axis=1)
        shown = np.where(alive, values, math.inf)
        pick = np.lexsort(shown[::-1], axis=-1)[:, 0]
        found = shown[:, draws, pick]
        better = (rows < 0) | (found[0] < best[0]) | ((found[0] == best[0]) & (found[1] < best[1]))
        better |= (found == best).all(axis=0) & (members[pick] < rows)
        best, rows = np.where(better, found, best), np.where(better, members[pick], rows)
        epochs = np.where(better, epoch[draws, pick], epochs)
        group = np.where(better, np.where(survived[pick], -1, len(gains) + ended[pick]), group)
        gains += [(before, reached[-1]) for before in reached]
    wrong = side.looks.wrong(rows, epochs)
    accuracy = 1 - (out * wrong).sum(axis=1) / out.sum(axis=1)
    for which, (before, after) in enumerate(gains):
        stopped = group == which
        if stopped.any():
            accuracy[stopped] += _carried(float(accuracy[stopped].mean()), before, after, out.shape[1])
    return rows, accuracy


def _metrics(
    looks: Looks, place: NDArray[np.intp], weights: Floats, objective: str, scores: Floats | None
) -> tuple[Floats, Floats]:
    """Objective and other metric on bags of images of the looks at `place`, smaller is better, (draws, configurations,
    epochs); infinite where there is no epoch, or no number. `scores`: the objective's values, if it is neither.
    """
    trained, total = place >= 0, weights.sum(axis=1)[:, None]
    loss, wrong = np.full((2, len(weights), *place.shape), math.inf)
    found, step = np.full((2, len(weights), int(trained.sum())), math.inf), max(AT_ONCE // looks.images, 1)
    for begin in range(0, found.shape[2], step):
        part = slice(begin, begin + step)
        for metric, values in zip(found, looks.read(place[trained][part]), strict=True):
            metric[:, part] = weights.astype(values.dtype) @ values.T / total
    loss[:, trained], wrong[:, trained] = np.where(np.isfinite(found[0]), found, math.inf)
    if scores is not None:
        values = scores[..., : place.shape[1]] * (1 if objective in SMALLER else -1)
        return np.where(np.isinf(loss) | np.isnan(values), math.inf, values), loss
    return (loss, wrong) if objective == "val_loss" else (wrong, loss)


def _counting(first: Floats, second: Floats, checkpoint: str) -> NDArray[np.intp]:
    """The epoch that counts of each configuration, (draws, configurations): the best or the last one trained."""
    if checkpoint == "last":
        trained = np.isfinite(second)  # an objective can be undefined on a bag, as AUC without one of two classes
        return np.asarray(first.shape[2] - 1 - trained[..., ::-1].argmax(axis=2))
    tied = np.equal(first, first.min(axis=2, keepdims=True))
    best = np.where(tied, second, math.inf).min(axis=2, keepdims=True)
    return np.asarray((tied & np.equal(second, best)).argmax(axis=2))


def _carried(accuracy: float, before: float, after: float, n: int) -> float:
    """What an accuracy at a rung would have gained by the end, by the mean accuracies of those that went on."""
    from scipy.special import ndtr, ndtri

    probit = [float(ndtri(np.clip(x, 0.5 / n, 1 - 0.5 / n))) for x in (accuracy, before, after)]
    return float(ndtr(probit[0] + probit[2] - probit[1])) - accuracy
