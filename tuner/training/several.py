"""A further frozen baseline: L2 logistic regression on the means at several cuts, joined; which cuts, the images say.

What the last block averages away may still be there in the blocks below it: a linear head on features of all of them
came near to fine-tuning the whole network (Head2Toe: Evci, Dumoulin, Larochelle and Mozer, ICML 2022). Sets of cuts
are compared by cross-validation inside the training images, with the folds and the strengths of logistic regression on
the pooled features, and like that it has no seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tuner.backbones.architecture import Architecture
from tuner.store.ranking import Key
from tuner.training import logistic
from tuner.training.logistic import Task
from tuner.training.newton import Pair, Rows

BIAS = logistic.NAMES[1]
KERNEL = "/kernel"
"""After the name of a cut: its part of the kernel in a checkpoint."""


@dataclass(frozen=True)
class Fit(logistic.Fit):
    """A linear head on the means at `cuts`, joined in this order; `widths`: the channels of each."""

    cuts: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()

    def arrays(self) -> dict[str, np.ndarray]:
        """As a checkpoint holds them: the kernel of each cut, and the bias."""
        kernels = np.split(self.kernel, np.cumsum(self.widths)[:-1])
        return {cut + KERNEL: part for cut, part in zip(self.cuts, kernels, strict=True)} | {BIAS: self.bias}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], architecture: Architecture) -> Fit:
        """From what a checkpoint holds; of strength and folds it says nothing."""
        cuts = tuple(cut for cut in reversed(architecture.cuts) if cut + KERNEL in arrays)
        parts = [arrays[cut + KERNEL] for cut in cuts]
        return cls(np.concatenate(parts), arrays[BIAS], 0.0, 0, cuts=cuts, widths=tuple(map(len, parts)))


def fit(means: Mapping[str, np.ndarray], sets: Sequence[tuple[str, ...]], task: Task) -> Fit:
    """The penalised fit to the set and at the strength that cross-validation likes best by the objective; ties go to
    the other metric, then to fewer cuts and the stronger penalty.

    means: float32 (views * n, channels) by cut. sets: each begins with all of the one before; without folds the first
    is taken. Every cut is scaled to the same mean squared norm, all of them together to 1, so that none drowns another
    and strengths mean what they mean for one. Of "pooled" alone it is the very fit of `logistic.fit`. Raises FitStopped
    soon after it is asked to.
    """
    parts, chosen = task.folds(), None
    with threadpool_limits(1, user_api="blas"):  # as in `logistic.fit`
        for cuts, rows in _bases(means, sets if parts.max() else sets[:1], task):
            task.pause()
            tried = _Tried(cuts, rows, *logistic.choose(rows, task, parts))
            if chosen is None or logistic.better(tried.key, chosen.key):
                chosen = tried
        if chosen is None:
            raise ValueError("no sets of cuts")
        if chosen.cuts == ("pooled",):
            same = logistic.fit(means["pooled"], task)
            return Fit(**vars(same), cuts=chosen.cuts, widths=(len(same.kernel),))
        kernel, bias = logistic.solved(chosen.rows, task, chosen.strength, chosen.begin)
        blocks = [means[cut] for cut in chosen.cuts]
        kernel, bias = _for_means(kernel, bias, blocks, task)
    return Fit(
        np.asarray(kernel, np.float32),
        np.asarray(bias, np.float32),
        chosen.strength,
        int(parts.max()) + 1,
        chosen.left_out,
        chosen.cuts,
        tuple(block.shape[1] for block in blocks),
    )


@dataclass(frozen=True, eq=False)
class _Tried:
    """A set of cuts, its rows, and what `logistic.choose` found."""

    cuts: tuple[str, ...]
    rows: Rows
    strength: float
    begin: Pair | None
    key: Key
    left_out: float | None


def _bases(
    means: Mapping[str, np.ndarray], sets: Sequence[tuple[str, ...]], task: Task
) -> Iterator[tuple[tuple[str, ...], Rows]]:
    """Each set with its rows in a basis of their own: of inner products, which add up along the sets, where there are
    no more rows than channels.
    """
    products, taken = np.zeros(()), 0
    for cuts in sets:
        each = len(cuts) ** -0.5
        if sum(means[cut].shape[1] for cut in cuts) < len(means["pooled"]):
            yield cuts, Rows.of(np.concatenate([_scaled(means[cut], task) * each for cut in cuts], axis=1))
            continue
        for cut in cuts[taken:]:
            block = _scaled(means[cut], task)
            products = products + block @ block.T
        taken = len(cuts)
        yield cuts, Rows.within(products / taken)


def _scaled(block: np.ndarray, task: Task) -> np.ndarray:
    """float64 (views * n, channels): centred, of mean squared norm 1."""
    mean, scale = _scale(block, task)
    return np.asarray((block.astype(np.float64) - mean) / scale)


def _scale(block: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray]:
    seen = task.seen(block)
    return seen.mean(axis=0, dtype=np.float64), logistic.spread(seen)


def _for_means(kernel: np.ndarray, bias: np.ndarray, blocks: Sequence[np.ndarray], task: Task) -> Pair:
    """Coefficients of the means themselves, (sum of channels, k) and (k,), from those of the scaled ones or, as many as
    there are rows, weights of these.
    """
    found, first, each = [], 0, len(blocks) ** -0.5
    within = len(kernel) == len(blocks[0]) <= sum(block.shape[1] for block in blocks)
    for block in blocks:
        mean, scale = _scale(block, task)
        if within:
            part = _scaled(block, task).T @ kernel * each
        else:
            part = kernel[first : first + block.shape[1]]
            first += block.shape[1]
        found.append(part * (each / scale)[:, None])
        bias = bias - mean @ found[-1]
    return np.concatenate(found), bias
