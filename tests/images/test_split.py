"""The split of unsplit data: stratified, seeded, copies together, independent of order."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tuner.errors import DataError
from tuner.images.folds import assign

LABELS = st.lists(st.integers(0, 2), min_size=12, max_size=60)
FRACTIONS = st.floats(0.05, 0.45)


def names(labels: list[int]) -> list[str]:
    return [f"content {index}" for index in range(len(labels))]


@given(LABELS, FRACTIONS, st.one_of(st.just(0.0), FRACTIONS), st.integers(0, 9))
def test_stratified(labels: list[int], validation: float, test: float, seed: int) -> None:
    assume(min(Counter(labels).values()) >= 4)
    splits = assign(labels, names(labels), validation, test, seed)
    for label, total in Counter(labels).items():
        number = Counter(split for split, other in zip(splits, labels, strict=True) if other == label)
        assert number["train"] >= 2
        assert number["val"] == min(max(1, round(validation * total)), total - 2 - (test > 0))
        assert (number["test"] > 0) == (test > 0)
        assert abs(number["test"] - test * total) <= 2


@given(LABELS, st.integers(0, 9), st.randoms())
def test_order_does_not_matter(labels: list[int], seed: int, random: object) -> None:
    assume(min(Counter(labels).values()) >= 4)
    items = list(zip(labels, names(labels), strict=True))
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one = dict(zip(items, assign(*zip(*items, strict=True), 0.2, 0.1, seed), strict=True))
    two = dict(zip(shuffled, assign(*zip(*shuffled, strict=True), 0.2, 0.1, seed), strict=True))
    assert one == two


@given(st.lists(st.integers(0, 8), min_size=9, max_size=40), st.integers(0, 9))
def test_copies_stay_together_and_every_split_has_some(members: list[int], seed: int) -> None:
    assume(len(set(members)) >= 3)
    groups = [f"content {member}" for member in members]
    splits = assign([0] * len(members), groups, 0.25, 0.2, seed)
    where = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        where[group].add(split)
    assert all(len(found) == 1 for found in where.values())
    assert set(splits) == {"train", "val", "test"}


@given(st.integers(0, 30), st.integers(10, 40))
def test_one_image_more_moves_at_most_the_boundary(seed: int, number: int) -> None:
    labels = [0] * number
    before = assign(labels, names(labels), 0.2, 0.0, seed)
    after = assign([*labels, 0], [*names(labels), "another"], 0.2, 0.0, seed)
    assert sum(a != b for a, b in zip(before, after, strict=False)) <= 1


def test_seeds_differ() -> None:
    labels = [0] * 40
    assert assign(labels, names(labels), 0.2, 0.0, 0) != assign(labels, names(labels), 0.2, 0.0, 1)


@pytest.mark.parametrize(("number", "test", "needed"), [(1, 0.0, "2"), (2, 0.2, "3")])
def test_too_few_says_how_many(number: int, test: float, needed: str) -> None:
    with pytest.raises(DataError, match=f"class cat: .*at least {needed} are needed"):
        assign([0] * number, names([0] * number), 0.2, test, 0, ["cat"])


def test_copies_do_not_count_as_different() -> None:
    with pytest.raises(DataError, match="1 different"):
        assign([0] * 5, ["same"] * 5, 0.2, 0.0, 0)
