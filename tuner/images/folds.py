"""Which image is for what: train, val and test of unsplit data, and the folds of a cross-validation.

Stratified, drawn by name, and what looks the same or is of one group always stays together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.errors import DataError
from tuner.images.names import shown
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


# ---- whole groups ----

ORDERS = 20
"""Drawn one after another until one gives every split images of every class."""


def assign_groups(
    labels: Sequence[int],
    groups: Sequence[str],
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    classes: Sequence[str],
) -> list[str]:
    """As `assign`, for groups that may be large and hold several classes: a group is in one split with all its images.

    groups: names, (n,). Of each class a split holds as near to its fraction as whole groups come, at least one image,
    train two. A group's rank is drawn from (seed, its name). Raises DataError when a class has too few groups.
    """
    numbers = {name: number for number, name in enumerate(sorted(set(groups)))}
    names, of = list(numbers), np.array([numbers[name] for name in groups])
    held = np.zeros((len(names), len(classes)), np.int64)
    np.add.at(held, (of, np.array(labels)), 1)
    fractions = {"val": validation_fraction, "test": test_fraction}
    wanted = {split: fraction * held.sum(axis=0) for split, fraction in fractions.items() if fraction > 0}
    for drawn in range(ORDERS):
        again = (drawn,) if drawn else ()
        order = sorted(range(len(names)), key=lambda g: (seed_for(seed, "split", names[g], *again), names[g]))
        if (splits := _whole_groups(held, wanted, order)) is not None:
            return [splits.get(int(g), "train") for g in of]
    few = int(np.argmin((held > 0).sum(axis=0)))
    count, images = int((held[:, few] > 0).sum()), int(held[:, few].sum())
    raise DataError(
        f"data.groups: {len(names)} groups cannot be split whole into train, {' and '.join(wanted)} with images of "
        f"every class in each (two in train); class {shown(classes[few])} has fewest: {images} images in {count} "
        f"group{'s' * (count != 1)}. Expected at least {len(wanted) + 1} groups with images of each class. Add images "
        "of other groups, split them yourself" + (", or set data.test_fraction = 0." if len(wanted) > 1 else ".")
    )


def _whole_groups(held: Rows, wanted: Mapping[str, NDArray[np.float64]], order: Sequence[int]) -> dict[int, str] | None:
    """The split of each group that is not in train; None where one would lack a class. held: images of each group and
    class, int64 (groups, classes); wanted: of each class, by split.
    """
    splits = dict[int, str]()
    for later, (split, want) in zip(range(len(wanted), 0, -1), wanted.items(), strict=True):
        taken = _nearest(held, [g for g in order if g not in splits], want, later)
        if taken is None:
            return None
        splits |= dict.fromkeys(taken, split)
    return splits


def _nearest(held: Rows, waiting: Sequence[int], want: NDArray[np.float64], later: int) -> list[int] | None:
    """Groups of `waiting`, taken in that order where they bring the counts of images nearer to `want`; `later` groups
    of each class are left, and two images. None where no group of a class can be taken.
    """
    total, got, taken = held.sum(axis=0), np.zeros_like(held[0]), list[int]()
    left, carriers = held[waiting].sum(axis=0), (held[waiting] > 0).sum(axis=0)

    def off(counts: Rows) -> float:
        return float((((counts - want) / total) ** 2).sum())

    def spared(g: int) -> bool:
        return bool(((carriers > later) & (left - held[g] >= 2))[held[g] > 0].all())

    def take(g: int) -> None:
        nonlocal got, left, carriers
        taken.append(g)
        got, left, carriers = got + held[g], left - held[g], carriers - (held[g] > 0)

    for g in waiting:
        if spared(g) and off(got + held[g]) < off(got):
            take(g)
    while (lacking := np.flatnonzero(got == 0)).size:  # a class whose groups are all much larger than its share
        rest = [g for g in waiting if g not in taken and held[g, lacking].any() and spared(g)]
        if not rest:
            return None
        take(min(rest, key=lambda g: off(got + held[g])))
    return taken


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
