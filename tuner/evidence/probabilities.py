"""The second outcome, fixed beforehand: whose class probabilities are better, by the paired Brier score.

Accuracy counts an answer as right or wrong, whatever stood behind it; probabilities tell more of each image, so that
fewer images can tell two models apart. Accuracy stays the headline. Log-loss was tried and says "worse" falsely in 9 to
14 studies of 100: one image that a sure model gets wrong outweighs all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.evidence.findings import Probabilities
from tuner.evidence.paired import Floats, Groups, estimate

Chances = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]

TINY = 1e-30
"""Chances below count as this one, so that none is impossible."""
SHARPEST, FLATTEST = 0.1, 10.0
"""Between which temperatures one is looked for."""


@dataclass(frozen=True)
class Predicted:
    """One side's seeds: class probabilities, (seeds, images, classes), of the images of the verdict and of the
    validation images, None where the model was fitted to those, which then say nothing of how sure it may be.
    """

    chances: Chances
    validation: Chances | None
    failed: int = 0  # further seeds whose training failed, which count as giving every class the same chance


def compare_probabilities(
    winner: Predicted,
    baseline: Predicted,
    labels: Labels,
    val_labels: Labels,
    confidence: float = 0.95,
    groups: Groups | None = None,
) -> Probabilities:
    """Each seed's probabilities are first set right by one temperature, fitted to the validation images: how sure a
    model is of itself is mended so cheaply that it should not decide. `labels`, `val_labels`: the true classes,
    (images,) each. The interval is `paired.estimate`'s, for these temperatures; no image is reckoned with that was not
    met with, since probabilities differ on every one.
    """
    scores = [_scores(side, labels, val_labels) for side in (winner, baseline)]
    found = estimate(scores[0], scores[1], confidence, groups, unseen=0)
    low, high = float(found.low), float(found.high)
    return Probabilities(
        kind="better probabilities" if high < 0 else "worse probabilities" if low > 0 else "undecided",
        difference=float(found.difference),
        low=low,
        high=high,
        standard_error=float(found.standard_error),
        winner=float(scores[0].mean()),
        baseline=float(scores[1].mean()),
        confidence=confidence,
    )


def temperature(chances: Chances, labels: Labels) -> Floats:
    """The temperature T of which p ** (1 / T), normalised, has the smallest Brier score: (..., images, classes) in,
    (...) out. Above 1 the model was too sure (Guo et al., ICML 2017, who maximise the likelihood; the outcome's own
    score (Gneiting and Raftery, JASA 102, 2007) does not hang on a few images that a sure model gets wrong, and what
    it leaves undecided changes the outcome to second order only).

    Each image counts as (n + 1) / (n + K) of its class and 1 / (n + K) of every other one (Platt, Advances in Large
    Margin Classifiers, 1999), so that twenty images that are all right do not make the next one certain. Between
    `SHARPEST` and `FLATTEST`, to 1 %: the best of 13, and of 13 around that, twice.
    """
    logits = _logits(chances)
    n, classes = logits.shape[-2:]
    target = (np.eye(classes)[labels] * n + 1) / (n + classes)
    ends = np.log(SHARPEST), np.log(FLATTEST)
    best, width = np.full(logits.shape[:-2], sum(ends) / 2), (ends[1] - ends[0]) / 2
    for _ in range(3):
        tried = np.clip(best + width * np.linspace(-1, 1, 13).reshape(-1, *[1] * best.ndim), *ends)
        lost = [np.square(_scaled(logits, np.exp(t)) - target).sum(axis=(-2, -1)) for t in tried]
        best, width = np.take_along_axis(tried, np.argmin(lost, axis=0)[None], axis=0)[0], width / 6
    return np.asarray(np.exp(best))


def tempered(chances: Chances, validation: Chances, val_labels: Labels) -> Floats:
    """Probabilities (..., images, classes) at the temperatures (...) that fit the validation images."""
    return _scaled(_logits(chances), temperature(validation, val_labels))


def brier(chances: Chances, labels: Labels) -> Floats:
    """Half the squared error of each image's probabilities, (..., images, classes) to (..., images), in [0, 1] (Brier,
    Monthly Weather Review 78, 1950): 0.25 where two classes are given the same chance.
    """
    return np.asarray(np.square(chances - np.eye(chances.shape[-1])[labels]).sum(axis=-1) / 2)


def _scores(side: Predicted, labels: Labels, val_labels: Labels) -> Floats:
    """(seeds, images), failed seeds too."""
    each = list(side.chances)  # a seed at a time: of many images and classes all together would not fit
    if side.validation is not None and len(val_labels):
        each = [tempered(one, seen, val_labels) for one, seen in zip(each, side.validation, strict=True)]
    chance = (1 - 1 / side.chances.shape[-1]) / 2
    return np.vstack([*(brier(one, labels) for one in each), np.full((side.failed, len(labels)), chance)])


def _logits(chances: Chances) -> Floats:
    return np.log(np.maximum(np.nan_to_num(np.asarray(chances, np.float64)), TINY))


def _scaled(logits: Floats, temperatures: Floats) -> Floats:
    """Softmax of (..., images, classes) over temperatures (...)."""
    logits = logits / np.asarray(temperatures)[..., None, None]
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
