"""What choosing the best of many cost: how much of the winner's lead on the images that chose it is luck."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.evidence.paired import Floats, Right
from tuner.store.ranking import SCORED, SMALLER

DRAWS = 2000

Scores = Callable[[Floats], Floats]
"""Takes how often each image counts, (draws, images), and gives the objective's values, (draws, configurations)."""


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
    loss: Floats,
    right: Right,
    baseline: Right,
    objective: str,
    rng: np.random.Generator,
    draws: int = DRAWS,
    confidence: float = 0.95,
    scores: Scores | None = None,
) -> Selection:
    """Bootstrap bias-corrected comparison (Tsamardinos, Greasidou and Borboudakis, Machine Learning 107, 2018).

    `loss` and `right`: (configurations, images), what each said of each image, rows in the order that breaks ties;
    `baseline`: bool (images,); `objective`: the study's; `scores`: its values on bags of images, asked for one that is
    neither loss nor accuracy. Each draw takes the images with replacement, chooses a winner on those in the bag by the
    study's rule (objective, other metric, lower number), and judges it on those left out. A configuration with a loss
    that is not finite ranks last under any objective.

    The correction is for choosing among the rows given, and for the luck of images alone: a trained model with a lucky
    seed is better on other images too, and only training it again takes that back. Where each row is already a
    configuration's best epoch, chosen on the same images, that choice is not in it: give every epoch a row to have it
    in. It leans to the pessimistic side, since a bag holds 63 % of the images, and its interval to the wide one, since
    37 % are left out.
    """
    loss, right, baseline = np.asarray(loss, np.float64), np.asarray(right, bool), np.asarray(baseline, bool)
    if loss.ndim != 2 or loss.shape != right.shape or baseline.shape != loss.shape[1:] or 0 in loss.shape:
        raise ValueError(f"right: found {right.shape} and {baseline.shape}, expected {loss.shape} and {loss.shape[1:]}")
    n = loss.shape[1]
    bags = _bags(n, draws, rng)
    if not len(bags):
        raise ValueError(f"images: found {n}, expected two or more, so that some can be left out")
    chosen = _choose(loss, right, bags, objective, scores)
    out = np.equal(bags, 0)
    left = out.sum(axis=1)
    accuracy = (out & right[chosen]).sum(axis=1) / left
    difference = accuracy - (out & baseline).sum(axis=1) / left
    winner = int(_choose(loss, right, np.ones((1, n)), objective, scores)[0])
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    (a_low, a_high), (d_low, d_high) = np.quantile(accuracy, ends), np.quantile(difference, ends)
    return Selection(
        winner=winner,
        accuracy_said=float(right[winner].mean()),
        accuracy=float(accuracy.mean()),
        accuracy_low=float(a_low),
        accuracy_high=float(a_high),
        difference_said=float(right[winner].mean() - baseline.mean()),
        difference=float(difference.mean()),
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


def _choose(loss: Floats, right: Right, bags: Floats, objective: str, scores: Scores | None = None) -> NDArray[np.intp]:
    """The winner's row in each bag: the objective, the other metric, the lower number; see `tuner.store.ranking`."""
    if objective not in ("val_loss", "val_accuracy") and (objective not in SCORED or scores is None):
        raise ValueError(f"objective: found {objective!r}, expected 'val_loss', 'val_accuracy' or one with scores")
    failed = np.logical_not(np.isfinite(loss).all(axis=1))
    losses = bags @ np.where(failed[:, None], 0, loss).T
    wrongs = bags @ (~right).T.astype(np.float64)
    losses[:, failed] = wrongs[:, failed] = math.inf
    first, second = (losses, wrongs) if objective == "val_loss" else (wrongs, losses)
    if objective in SCORED and scores is not None:
        values = scores(bags) * (1 if objective in SMALLER else -1)
        first = np.where(failed | np.isnan(values), math.inf, values)
    tied = np.equal(first, first.min(axis=1, keepdims=True))
    best = np.where(tied, second, math.inf).min(axis=1, keepdims=True)
    return np.asarray(np.logical_and(tied, second == best).argmax(axis=1))
