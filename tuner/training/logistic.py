"""The other frozen baseline: L2 logistic regression on pooled features, its strength chosen on training images.

A linear probe with a convex fit has no seed, no learning rate and no epochs to be lucky with (Kornblith et al., CVPR
2019; Radford et al., ICML 2021): if it does as well as a trained head, the head's search found nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tuner.evidence.metrics import score
from tuner.images.folds import stratified_folds
from tuner.spec.rules import NUMERICS, Rules, rules_of
from tuner.spec.spec import OBJECTIVES
from tuner.store.ranking import Key, metric_key
from tuner.training import old_logistic
from tuner.training.network import log_loss, probabilities
from tuner.training.newton import Pair, Problem, Rows

NAMES = ("head_logits/kernel", "head_logits/bias")
"""The arrays of its checkpoint: those of a head without a hidden layer."""
NEWEST = rules_of(NUMERICS)
FOLDS = 5
EXPONENTS = (-3.0, -2.0, *np.arange(-1.0, 5.5, 0.5).tolist())
"""Powers of ten of the strengths: scikit-learn's C, the inverse of the penalty, on features of mean squared norm 1."""
TOLERANCE = 1e-6, 1e-9
"""Gradients, over that at zero coefficients, at which the fits that strengths are compared by and the last one end."""
PATIENCE = {name: 1 if name == "val_loss" else 4 for name in OBJECTIVES}
"""How many weaker penalties in a row may be worse before the path is left: the loss has one valley, others jump."""
LEARNT = 0.95
"""Before that the loss has to fall to this share of the strongest penalty's, which is chance: with few images it may
first rise, as a fold that lacks images of a class is told to expect fewer of them.
"""
LEAST_SPREAD = 1e-3
LEAST_SURE = 0.01
CLOSE = 1e-6
"""What a metric has to be better by, as a share, to count as better: less is for the other metric to decide, and if it
does not, the stronger penalty is taken."""


class FitStopped(Exception):
    """`should_stop` said so; nothing of the fit is kept."""


@dataclass(frozen=True)
class Fit:
    """A linear head: kernel float32 (features, k), bias (k,), k 1 for two classes; and how its strength was chosen.
    left_out: the log-loss of the images that each fold leaves out, at that strength; None without folds.
    """

    kernel: np.ndarray
    bias: np.ndarray
    strength: float
    folds: int
    left_out: float | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """As a checkpoint holds them, by variable path."""
        return dict(zip(NAMES, (self.kernel, self.bias), strict=True))

    def logits(self, features: np.ndarray) -> np.ndarray:
        """float32 (n, k) of features float32 (n, features)."""
        return np.asarray(features @ self.kernel + self.bias, dtype=np.float32)

    def confidence(self, features: np.ndarray, labels: np.ndarray) -> float:
        """What its logits, of the images it was fitted to, have to be multiplied by, `LEAST_SURE` to 1, so that it is
        as sure of them as it may be of others: so that their log-loss is `left_out`.

        A temperature (Guo, Pleiss, Sun and Weinberger, ICML 2017), which moves no decision. A fit to few images in many
        dimensions is right about all of them, and training that begins there has hardly a gradient left.
        """
        logits, low, high = self.logits(features).astype(np.float64), LEAST_SURE, 1.0
        if self.left_out is None or log_loss(logits, labels) >= self.left_out:
            return 1.0
        for _ in range(50):  # the loss is convex in it, and least beyond 1
            middle = (low + high) / 2
            low, high = (middle, high) if log_loss(middle * logits, labels) > self.left_out else (low, middle)
        return high


@dataclass(frozen=True, eq=False)
class Task:
    """What a fit is asked for, of n images. labels: int64 (n,) below `classes`. groups: int64 (n,), the same number for
    images that look the same, which stay in one fold. Folds are fewer where a class has few groups; with fewer than two
    the strength is 1.

    views: how much a row of each view weighs, so that every image weighs 1 in all. Features are the rows of one view
    after those of another, in the order of the labels; those of the images themselves come first, may weigh nothing,
    and are what strengths are compared by. `on_progress` hears how many strengths were tried, and of how many at most.
    """

    labels: np.ndarray
    classes: int
    objective: str
    balanced: bool
    seed: int
    groups: np.ndarray | None = None
    views: tuple[float, ...] = (1.0,)
    rules: Rules = NEWEST
    should_stop: Callable[[], bool] = lambda: False
    on_progress: Callable[[int, int], None] = lambda done, most: None

    def pause(self) -> None:
        """Raises FitStopped when `should_stop` says yes."""
        if self.should_stop():
            raise FitStopped

    def folds(self) -> np.ndarray:
        """int64 (n,): each image's fold, from 0 on."""
        return stratified_folds(self.labels, self.groups, FOLDS, self.seed, "logistic folds")

    def seen(self, features: np.ndarray) -> np.ndarray:
        """The rows that weigh something."""
        return features if self.views[0] else features[len(self.labels) :]

    def problem(self, rows: Rows, parts: np.ndarray | None = None) -> Problem:
        """The fit to all images, or one for each of the folds `parts` to the images that are not in it; `balanced` so
        that each class weighs the same.
        """
        parts, folds = (np.full(len(self.labels), -1), 1) if parts is None else (parts, int(parts.max()) + 1)
        each = (parts[:, None] != np.arange(folds)).astype(np.float64)
        if self.balanced:
            counts = np.stack([each[self.labels == c].sum(axis=0) for c in range(int(self.labels.max()) + 1)])
            known = np.maximum((counts > 0).sum(axis=0), 1)
            each *= (each.sum(axis=0) / np.maximum(counts, 1.0) / known)[self.labels]
        weights = np.concatenate([weight * each for weight in self.views])
        return Problem(rows, np.tile(self.labels, len(self.views)), self.classes, weights)


def fit(features: np.ndarray, task: Task) -> Fit:
    """The penalised fit to features float32 (views * n, d) at the strength that cross-validation likes best by the
    objective; ties go to the other metric, then to the stronger penalty. Raises FitStopped soon after it is asked to.
    """
    scale = spread(task.seen(features), each=not task.rules.scaled_together)
    scaled = features.astype(np.float64) / scale
    parts, left_out = task.folds(), None
    if task.rules.old_logistic:
        kernel, bias, strength = old_logistic.fit(
            scaled, task.labels, parts, task.classes, task.objective, task.balanced
        )
    else:
        # One thread adds in one order; two add in another, and are not faster with so few columns.
        with threadpool_limits(1, user_api="blas"):
            rows = Rows.of(scaled)
            strength, begin, _, left_out = choose(rows, task, parts)
            kernel, bias = solved(rows, task, strength, begin)
    kernel, bias = (np.asarray(part, np.float32) for part in (kernel / scale[:, None], bias))
    return Fit(kernel, bias, strength, int(parts.max()) + 1, left_out)


def solved(rows: Rows, task: Task, strength: float, begin: Pair | None) -> Pair:
    """Coefficients (d, k) and (k,) of the fit to all images, from `begin`."""
    problem = task.problem(rows)
    kernel, bias = problem.solve(strength, begin or problem.begin(), TOLERANCE[1], task.pause)
    return rows.back(kernel[:, 0], bias[0])


def spread(features: np.ndarray, *, each: bool = True) -> np.ndarray:
    """float64 (d,): what features (n, d) are divided by so that their mean squared norm is 1, centred.

    `each`: every feature by its own standard deviation, so that no few of them that vary most decide what a penalty
    costs; a thousandth of their mean is added, so that one that hardly varies is no noise made large.
    """
    own = features.std(axis=0, dtype=np.float64)
    scale = own + LEAST_SPREAD * own.mean() if each else np.ones(len(own))
    norm = np.sqrt(np.sum(np.square(own / np.where(scale > 0, scale, 1.0))))
    return np.where(scale > 0, scale, 1.0) * (norm or 1.0)


def better(one: Key, other: Key) -> bool:
    """Whether these metrics are better, by more than `CLOSE`."""
    apart = (a < b for a, b in zip(one, other, strict=True) if abs(a - b) > CLOSE * abs(b))
    return next(apart, False)


def choose(
    rows: Rows, task: Task, parts: np.ndarray, *, whole: bool = False
) -> tuple[float, Pair | None, Key, float | None]:
    """The strength that is best on the images that each fold leaves out, parts int64 (n,) from 0 on; the mean of the
    folds' coefficients there, to begin the last fit with; the metrics and the log-loss there. Of one fold strength 1.

    From the strongest penalty on until something is learnt (`first_valley`: or not) and it only gets worse, by the
    objective and by the loss (`whole`: to the end), then half a step towards the better neighbour. By val_loss that is
    what the whole path gives; by another objective an image or two more may be right far beyond where the loss is
    least, and is not looked for.
    """
    if not parts.max():
        return 1.0, None, (), None
    problem, labels, objective = task.problem(rows, parts), task.labels, task.objective
    keys: dict[float, Key] = {}
    fits: dict[float, Pair] = {}
    most = len(EXPONENTS) + 1

    def loss_at(exponent: float) -> float:
        # Each fit begins where the two with the nearest stronger penalties point to.
        two = sorted(e for e in fits if e < exponent)[-2:]
        near = [fits[e] for e in two] or [problem.begin()]
        ahead = (exponent - two[-1]) / (two[-1] - two[0]) if len(two) == 2 else 0.0
        begin = near[-1][0] + ahead * (near[-1][0] - near[0][0]), near[-1][1] + ahead * (near[-1][1] - near[0][1])
        fits[exponent] = problem.solve(10.0**exponent, begin, TOLERANCE[0], task.pause)
        logits = problem.logits(fits[exponent])[np.arange(len(labels)), parts]
        chances, loss = probabilities(logits), log_loss(logits, labels)
        accuracy = float(np.mean(chances.argmax(axis=1) == labels))
        keys[exponent] = metric_key(objective, loss, accuracy, score(objective, chances, labels))
        task.on_progress(len(keys), most)
        return loss

    best, lowest, worse, losses = EXPONENTS[0], np.inf, 0, dict[float, float]()
    for exponent in EXPONENTS:
        losses[exponent] = loss = loss_at(exponent)
        improved = better(keys[exponent], keys[best])
        best = exponent if improved else best
        worse = 0 if improved or loss <= lowest else worse + 1
        lowest = min(lowest, loss)
        learnt = task.rules.first_valley or lowest < LEARNT * losses[EXPONENTS[0]]
        if worse >= PATIENCE[objective] and learnt and not whole:
            break
    at = EXPONENTS.index(best)
    beside = min((e for e in EXPONENTS[max(0, at - 1) : at + 2] if e in keys and e != best), key=lambda e: keys[e])
    between = (best + beside) / 2
    losses[between] = loss_at(between)
    best = between if better(keys[between], keys[best]) else best
    kernel, bias = fits[best]
    return 10.0**best, (kernel.mean(axis=1, keepdims=True), bias.mean(axis=0, keepdims=True)), keys[best], losses[best]
