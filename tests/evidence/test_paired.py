"""The paired comparison: by hand, by symmetry, and where nothing varies."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from evidence.fake_trainer import World, holds, pairs, plain_sum, scenes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit
from scipy.stats import binomtest

from tuner.evidence.paired import FEW, compare, estimate, mcnemar


def counted(only_winner: int, only_baseline: int, both: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """One seed of winner and baseline with these counts of images."""
    place = np.arange(n)
    winner = (place < only_winner) | (
        (place >= only_winner + only_baseline) & (place < only_winner + only_baseline + both)
    )
    baseline = (place >= only_winner) & (place < only_winner + only_baseline + both)
    return winner[None], baseline[None]


@pytest.mark.parametrize(("b", "c", "n"), [(12, 3, 100), (1, 0, 60), (30, 30, 80), (0, 5, 50)])
def test_one_seed_is_bonett_and_price_with_students_t(b: int, c: int, n: int) -> None:
    p, q = (b + 1) / (n + 2), (c + 1) / (n + 2)
    half = stdtrit(n - 1, 0.975) * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    found = compare(*counted(b, c, 20, n))
    assert (found.low, found.high) == pytest.approx((p - q - half, p - q + half))
    assert found.difference == pytest.approx((b - c) / n)
    assert (found.only_winner, found.only_baseline, found.seeds, found.n) == (b, c, 1, n)
    assert "Bonett and Price" in found.method and "these two" in found.method


def test_under_fifty_images_each_end_is_the_wider_of_two() -> None:
    winner, baseline = counted(9, 0, 5, 30)
    d = winner[0].astype(float) - baseline[0]
    half = stdtrit(29, 0.975) * d.std(ddof=1) / math.sqrt(30)
    p, q = 10 / 32, 1 / 32
    guarded = stdtrit(29, 0.975) * math.sqrt((p + q - (p - q) ** 2) / 32)
    found = compare(winner, baseline)
    assert found.low == pytest.approx(min(d.mean() - half, p - q - guarded))
    assert found.high == pytest.approx(max(d.mean() + half, p - q + guarded))
    assert "wider" in found.method and "wider" not in compare(*counted(9, 0, 5, 50)).method


def test_the_parts_are_those_of_the_two_way_table() -> None:
    """Sums of squares cell by cell, as a textbook has them."""
    winner, baseline = (x[0] for x in pairs(np.random.default_rng(3), World(seed=0.02), 1, 60, 4, 0.8, 0.7))
    cells = winner.astype(float) - baseline
    seeds, n = cells.shape
    by_seed, by_image, mean = cells.mean(axis=1), cells.mean(axis=0), cells.mean()
    rest = sum(
        (cells[s, i] - by_seed[s] - by_image[i] + mean) ** 2 for s, i in itertools.product(range(seeds), range(n))
    )
    rest /= (seeds - 1) * (n - 1) * seeds * n
    pseudo = math.sqrt((1 + (by_image**4).sum()) / (1 + (by_image**2).sum()))
    images = np.append(by_image, [pseudo, -pseudo]).var() / (n + 2)
    part = by_seed.var(ddof=1) / seeds
    square = part + images - rest
    df = square**2 / (images**2 / (n - 1) + part**2 / (seeds - 1) + rest**2 / ((n - 1) * (seeds - 1)))
    middle, half = mean * n / (n + 2), stdtrit(df, 0.975) * math.sqrt(square)
    found = compare(winner, baseline)
    assert (found.standard_error, found.df) == pytest.approx((math.sqrt(square), df))
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half))
    assert found.seed_variance == pytest.approx(max(part - rest, 0))
    assert found.image_variance == pytest.approx(images * (n + 2))


def test_a_row_that_no_seed_changes_pairs_with_every_seed() -> None:
    winner, baseline = (x[0] for x in pairs(np.random.default_rng(4), World(seed=0.02), 1, 80, 5, 0.8, 0.7))
    once, repeated = compare(winner, baseline[:1]), compare(winner, np.repeat(baseline[:1], 5, axis=0))
    assert once == repeated
    unequal = compare(winner, baseline[:3])
    assert unequal.seeds == 5
    assert unequal.difference == pytest.approx(winner.mean() - baseline[:3].mean())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 4), st.integers(1, 4), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_any_two_models_give_an_interval_around_the_difference_that_swaps_with_them(
    n: int, first: int, second: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    winner, baseline = rng.random((first, n)) < share, rng.random((second, n)) < 0.8
    found, swapped = compare(winner, baseline), compare(baseline, winner)
    assert -1 <= found.low <= found.difference <= found.high <= 1
    assert found.high - found.low > 0, "no number of images shows a difference without doubt"
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))
    assert swapped.mcnemar == found.mcnemar
    images, seeds = rng.permutation(n), rng.permutation(first)
    if first != second:
        again = compare(winner[seeds][:, images], baseline[:, images])
        assert (again.low, again.high) == pytest.approx((found.low, found.high))


def test_the_parts_of_grouped_images_are_those_of_the_groups() -> None:
    """Group by group and seed by seed, as the sandwich form of clustered data has them."""
    world = World(seed=0.02, scene=5)
    winner, baseline = (x[0] for x in pairs(np.random.default_rng(3), world, 1, 300, 4, 0.8, 0.7))
    of = scenes(world, 300)
    assert of is not None
    groups = np.random.default_rng(0).permutation(60)[of]
    cells, n = winner.astype(float) - baseline, 300
    by_seed, mean = cells.mean(axis=1), cells.mean()
    totals = np.array([[row[groups == g].sum() for g in range(60)] for row in cells])
    rest = sum(
        (totals[s, g] - 5 * by_seed[s] - totals[:, g].mean() + 5 * mean) ** 2
        for s, g in itertools.product(range(4), range(60))
    )
    rest *= 60 / 59 / (3 * 4 * n**2)
    whole = totals.mean(axis=0)
    pseudo = math.sqrt((25 + (whole**4).sum()) / (5 + (whole**2).sum()))
    images = np.append(whole, [pseudo, -pseudo]).var() * 62 / 310**2
    part = by_seed.var(ddof=1) / 4
    square = part + images - rest
    df = square**2 / (images**2 / 59 + part**2 / 3 + rest**2 / (59 * 3))
    middle, half = mean * n / (n + 10), stdtrit(df, 0.975) * math.sqrt(square)
    found = compare(winner, baseline, groups=groups)
    assert (found.standard_error, found.df) == pytest.approx((math.sqrt(square), df))
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half))
    assert (found.groups, found.group_size) == (60, 5) and "60 groups of images" in found.method


def test_groups_of_one_image_are_no_groups_and_a_single_group_shows_nothing() -> None:
    winner, baseline = (x[0] for x in pairs(np.random.default_rng(4), World(seed=0.02), 1, 80, 5, 0.9, 0.6))
    alone, none = compare(winner, baseline, groups=np.arange(80)[::-1]), compare(winner, baseline)
    assert (alone.low, alone.high, alone.df) == pytest.approx((none.low, none.high, none.df))
    assert none.low > 0
    one = compare(winner, baseline, groups=np.zeros(80, np.int64))
    assert (one.low, one.high) == (-1, 1)
    with pytest.raises(ValueError, match="groups: found shape"):
        compare(winner, baseline, groups=np.zeros(79, np.int64))


def test_a_giant_group_is_not_made_up_for_by_many_small_ones() -> None:
    winner, baseline = (x[0] for x in pairs(np.random.default_rng(4), World(seed=0.02), 1, 100, 5, 0.9, 0.6))
    groups = np.maximum(np.arange(100) - 39, 0)
    found, even = compare(winner, baseline, groups=groups), compare(winner, baseline, groups=np.arange(100) // 10)
    assert found.groups == 61 and found.group_size == pytest.approx(16.6)
    assert found.high - found.low > even.high - even.low and "count as 6" in found.method


@pytest.mark.parametrize("seeds", [1, 5])
@pytest.mark.parametrize("n", [20, 50, 100, 183])
def test_where_no_image_differs_the_ends_are_what_none_of_n_can_rule_out(n: int, seeds: int) -> None:
    same = np.ones((seeds, n), dtype=bool)
    found = compare(same, same)
    assert (found.difference, found.mcnemar) == (0, 1)
    assert (1 - found.high) ** n == pytest.approx(0.025), "a true difference there shows nothing 2.5 times in 100"
    assert found.low == -found.high
    assert "none seen" in found.method


def test_models_that_are_always_apart_still_have_an_interval() -> None:
    found = compare(np.ones((5, 40), dtype=bool), np.zeros((5, 40), dtype=bool))
    assert found.difference == found.high == 1
    assert 0.8 < found.low < 1


@pytest.mark.parametrize("times", [1, 20])
def test_seeds_that_are_right_as_often_on_other_images_still_have_an_interval(times: int) -> None:
    """The seeds' means are equal, and the noise of image by seed takes all of the images' term."""
    winner = np.tile(np.array([[1, 1, 0, 0], [0, 0, 1, 1]], bool), times)
    found = compare(winner, np.tile(np.array([[1, 1, 1, 0]], bool), times))
    assert found.low < found.difference == -0.25 < found.high


@pytest.mark.parametrize("n", [20, 50, 100])
def test_two_seeds_of_nothing_but_noise_leave_an_error_to_reckon_with(n: int) -> None:
    """Images and seeds without the noise in both then come to zero or less in a study of thirty."""
    winner, baseline = pairs(np.random.default_rng(8), World(0.0, 0.0, 0.0), 2000, n, 2, 0.8, 0.8)
    found = estimate(winner, baseline)
    assert (found.standard_error**2 >= found.image_variance / (n + 2) / 2.001).all()
    assert found.df.min() >= 1
    assert holds(found, 0.0) < (0.985 if n >= FEW else 1)


def test_noise_of_image_by_seed_is_counted_once() -> None:
    winner, baseline = pairs(np.random.default_rng(5), World(0.0, 0.0, 0.0), 400, 200, 5, 0.8, 0.8)
    ours, plain = estimate(winner, baseline), plain_sum(winner, baseline)
    true = ours.difference.std()
    assert np.sqrt((ours.standard_error**2).mean()) == pytest.approx(true, rel=0.2)
    assert np.sqrt((plain.standard_error**2).mean()) == pytest.approx(true * math.sqrt(2), rel=0.1)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (5, 0), (6, 0), (1, 9), (30, 41), (700, 800)])
def test_mcnemar_is_the_exact_sign_test(b: int, c: int) -> None:
    expected = binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(expected)


def test_what_cannot_be_compared_is_refused() -> None:
    right = np.ones((2, 10), dtype=bool)
    for other in (right[:, :9], right[:0], right[:, :0]):
        with pytest.raises(ValueError, match="baseline"):
            compare(right, other)
    with pytest.raises(ValueError, match="confidence"):
        compare(right, right, 1.0)
    with pytest.raises(ValueError, match="counts"):
        mcnemar(-1, 2)


def test_equally_many_right_is_no_difference_to_the_last_digit() -> None:
    """Means over three seeds and over ten round otherwise; whose model is used must not hang on that."""
    for n in range(20, 60):
        one = np.arange(n)[None] < np.array([[n // 2], [n // 2 - 1], [n // 2 + 1]])
        other = np.roll(np.arange(n)[None] < np.full((10, 1), n // 2), 7, axis=1)
        found = compare(one, other)
        assert found.difference == 0.0 and found.median == 0.0
