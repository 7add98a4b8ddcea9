"""Unsplit photographs to train, val and test: stratified, seeded, the same photograph never in two of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from tuner.errors import DataError
from tuner.spec.seeds import seed_for


def assign(
    labels: Sequence[int],
    groups: Sequence[str],
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    classes: Sequence[str] | None = None,
) -> list[str]:
    """A split for each photograph: "train", "val" or "test".

    labels: class number, (n,). groups: content of each photograph, (n,); equal groups stay together. classes: names for
    messages. Each class gives `round(fraction * its photographs)`, at least one, to val and to test if test_fraction
    is above 0; train keeps at least one. A photograph's rank is drawn from (seed, content), not from its place in the
    list: order and file names do not matter, and a photograph more moves at most those at the boundary.
    Raises DataError when a class has too few different photographs.
    """
    sizes: dict[int, Counter[str]] = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        sizes[label][group] += 1
    where: dict[tuple[int, str], str] = {}
    for label, members in sizes.items():
        name = str(classes[label]) if classes else f"number {label}"
        for group, split in _one_class(members, validation_fraction, test_fraction, seed, name).items():
            where[label, group] = split
    return [where[label, group] for label, group in zip(labels, groups, strict=True)]


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
    kept = (
        2 if total >= needed + 1 else 1
    )  # nothing can be learnt from a single photograph, so train keeps two if it can
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
    """Groups in order, at most `most` of them, together at most `count` photographs; the smallest if none fits."""
    chosen: list[str] = []
    for group in waiting:
        if len(chosen) < most and sizes[group] <= count:
            chosen.append(group)
            count -= sizes[group]
    return chosen or [min(waiting, key=lambda group: sizes[group])]
