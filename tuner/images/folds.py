"""Which image is for what: train, val and test of unsplit data, and the folds of a cross-validation.

Stratified, drawn by name, and what looks the same always stays together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.errors import DataError
from tuner.spec.seeds import generator, seed_for

Rows = NDArray[np.int64]


def assign(
    labels: Sequence[int],
    groups: Sequence[str],
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    classes: Sequence[str] | None = None,
) -> list[str]:
    """A split for each image: "train", "val" or "test".

    labels: class number, (n,). groups: content of each image, (n,); equal groups stay together. classes: names for
    messages. Each class gives `round(fraction * its images)`, at least one, to val and to test if test_fraction
    is above 0; train keeps at least one. An image's rank is drawn from (seed, content), not from its place in the
    list: order and file names do not matter, and an image more moves at most those at the boundary.
    Raises DataError when a class has too few different images.
    """
    sizes: dict[int, Counter[str]] = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        sizes[label][group] += 1
    names = {label: str(classes[label]) if classes else f"number {label}" for label in sizes}
    where = {
        label: _one_class(members, validation_fraction, test_fraction, seed, names[label])
        for label, members in sizes.items()
    }
    return [where[label][group] for label, group in zip(labels, groups, strict=True)]


def _one_class(
    sizes: Counter[str], validation_fraction: float, test_fraction: float, seed: int, name: str
) -> dict[str, str]:
    """{group: split} for one class."""
    testing = test_fraction > 0
    needed = 3 if testing else 2
    if len(sizes) < needed:
        raise DataError(
            f"class {name}: {len(sizes)} different photograph{'s' * (len(sizes) != 1)} to be split; at least {needed} "
            f"are needed, one each for train, val{' and test' if testing else ''}. Add photographs, or split them "
            "yourself."
        )
    total = sum(sizes.values())
    kept = 2 if total > needed else 1  # nothing can be learnt from a single image, so train keeps two if it can
    wanted = {"val": min(max(1, round(validation_fraction * total)), total - kept - testing)}
    if testing:
        wanted["test"] = min(max(1, round(test_fraction * total)), total - kept - wanted["val"])
    # val draws before test, so that asking for a test set later takes nothing out of val
    waiting = sorted(sizes, key=lambda group: (seed_for(seed, "split", group), group))
    splits: dict[str, str] = {}
    for index, (split, count) in enumerate(wanted.items()):
        chosen = _draw(waiting, sizes, count, len(waiting) - (len(wanted) - index))
        splits.update(dict.fromkeys(chosen, split))
        waiting = [group for group in waiting if group not in splits]
    splits.update(dict.fromkeys(waiting, "train"))
    return splits


def _draw(waiting: list[str], sizes: Counter[str], count: int, most: int) -> list[str]:
    """Groups in order, at most `most` of them, together at most `count` images; the smallest if none fits."""
    chosen: list[str] = []
    for group in waiting:
        if len(chosen) < most and sizes[group] <= count:
            chosen.append(group)
            count -= sizes[group]
    return chosen or [min(waiting, key=lambda group: sizes[group])]


# ---- cross-validation ----


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows, int64, no row in two of them. out: left out, to judge by; validation: chooses the epoch."""

    train: Rows
    validation: Rows
    out: Rows


def cross_validation(
    labels: Rows, groups: Rows | None, train: Rows, validation: Rows, *, folds: int, seed: int, repeat: int
) -> tuple[Fold, ...]:
    """The folds of one repeat over training and validation rows together; each row is left out once. Empty when there
    are too few images for any.

    labels, groups: int64 (n,) over all images; train, validation: int64. As many folds as asked, or as many as leave
    every class something to train on. Of what a fold leaves, as large a share is for validation as in the study.
    """
    rows = np.sort(np.concatenate([train, validation]))
    share = round(len(rows) / max(1, len(validation)))
    alike = None if groups is None else groups[rows]
    for number in range(folds, 1, -1):
        where = stratified_folds(labels[rows], alike, number, seed, "folds", repeat)
        found = []
        for fold in range(int(where.max()) + 1):
            rest = rows[where != fold]
            inner = inner_split(labels, groups, rest, share, seed, "inside", repeat, fold)
            found.append(Fold(*inner, rows[where == fold]))
        if all(len(f.validation) and _classes(labels[f.train]) == _classes(labels[rows]) for f in found):
            return tuple(found)
    return ()


def inner_split(labels: Rows, groups: Rows | None, rest: Rows, share: int, *names: int | str) -> tuple[Rows, Rows]:
    """(training rows, validation rows) of `rest`, stratified, one in `share` for validation (at most half), drawn by
    name. Every class of `rest` keeps a row in training; without any for validation when there are too few.
    """
    mine, alike = labels[rest], np.arange(len(rest)) if groups is None else groups[rest]
    fixed = np.zeros(len(rest), bool)  # stays in training, as a class would have nothing there without it
    while not fixed.all():
        held = np.zeros(len(rest), bool)
        held[~fixed] = stratified_folds(mine[~fixed], alike[~fixed], max(2, share), *names) == 0
        each = {c: np.unique(alike[~fixed & (mine == c)]) for c in _classes(mine)}
        # With one group of a class left there is no second fold; a group of two classes may take another's last.
        last = [g[0] for c, g in each.items() if len(g) == 1 or (len(g) and held[mine == c].all())]
        if not last:
            return rest[~held], rest[held]
        fixed |= np.isin(alike, last)
    return rest, rest[:0]


def stratified_folds(labels: Rows, groups: Rows | None, folds: int, *names: int | str) -> Rows:
    """A fold number for each row, int64 (n,): classes spread evenly, equal groups in one fold, drawn by name.

    labels, groups: int64 (n,); without groups each row is its own. As many folds as asked, or as the smallest class
    has groups; all 0 when that is one.
    """
    numbers, group_of = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)
    sizes = np.bincount(group_of, minlength=len(numbers))
    each = {c: np.bincount(group_of[labels == c], minlength=len(numbers)) for c in sorted(_classes(labels))}
    folds = max(1, min([folds, *(int(np.count_nonzero(held)) for held in each.values())]))
    where = np.full(len(numbers), -1, np.int64)
    filled = np.zeros(folds, np.int64)
    for label, held in each.items():
        here = np.zeros(folds, np.int64)
        for group in generator(*names, label).permutation(np.flatnonzero(held)):
            if where[group] >= 0:  # it holds another class too
                continue
            # The fold that lacks most of this class, then of all: sizes differ by no more than a group's.
            fold = min(range(folds), key=lambda f: (here[f], filled[f], f))
            where[group] = fold
            here[fold] += held[group]
            filled[fold] += sizes[group]
    return where[group_of]


def _classes(labels: Rows) -> set[int]:
    return set(np.unique(labels).tolist())
