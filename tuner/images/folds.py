"""Folds for cross-validation: stratified, named, photographs that look the same in one fold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.spec.seeds import generator


def stratified_folds(
    labels: NDArray[np.int64], groups: NDArray[np.int64] | None, folds: int, *names: int | str
) -> NDArray[np.int64]:
    """A fold number for each row, int64 (n,): classes spread evenly, equal groups in one fold, drawn by name.

    labels, groups: int64 (n,); without groups each row is its own. As many folds as asked, or as the smallest class
    has groups; all 0 when that is one.
    """
    groups = np.arange(len(labels)) if groups is None else groups
    each = {int(c): np.unique(groups[labels == c]) for c in np.unique(labels)}
    folds = max(1, min([folds, *(len(found) for found in each.values())]))
    where: dict[int, int] = {}
    filled = np.zeros(folds, np.int64)
    for label, found in each.items():
        here = np.zeros(folds, np.int64)
        for group in generator(*names, label).permutation(found):
            if int(group) in where:  # it holds another class too
                continue
            # The fold that lacks most of this class, then of all: sizes differ by no more than a group's.
            fold = min(range(folds), key=lambda f: (here[f], filled[f], f))
            where[int(group)] = fold
            here[fold] += int(np.sum((groups == group) & (labels == label)))
            filled[fold] += int(np.sum(groups == group))
    return np.array([where[int(group)] for group in groups], dtype=np.int64)
