"""Balanced accuracy where classes differ in size: whether it is shown, what it is, and how often its interval holds."""

from __future__ import annotations

import numpy as np
import pytest
from evidence.fake_trainer import HARD, holds, pairs

from tuner.evidence.balance import compare_balanced, uneven, weights
from tuner.evidence.paired import compare, estimate


def test_it_is_shown_where_classes_differ_by_half_again() -> None:
    assert uneven(np.array([0] * 16 + [1] * 10)) and not uneven(np.array([0] * 15 + [1] * 10))
    assert not uneven(np.array([2, 2, 2])), "one class is balanced"
    assert uneven(np.array([0, 2, 2]))


def test_it_is_the_mean_of_the_classes_own_differences() -> None:
    draw = np.random.default_rng(0)
    labels = np.array([0] * 60 + [2] * 25 + [3] * 15)
    winner, baseline = draw.random((5, 100)) < 0.9, draw.random((5, 100)) < 0.7
    found = compare_balanced(winner, baseline, labels)
    own = [winner[:, labels == c].mean() - baseline[:, labels == c].mean() for c in (0, 2, 3)]
    assert found.difference == pytest.approx(np.mean(own))
    assert found.low < found.difference < found.high and "3 classes of 15 to 60 images" in found.method
    even = compare_balanced(winner, baseline, np.arange(100) % 2)
    plain = compare(winner, baseline)
    assert (even.low, even.high) == pytest.approx((plain.low, plain.high))
    assert compare_balanced(winner, baseline, labels, groups=np.arange(100) // 5).low < found.difference


@pytest.mark.parametrize("world", ["usual", "fixes", "alike"])
def test_its_interval_holds_with_a_class_of_a_fifth(world: str) -> None:
    for n, lead in ((50, 0.0), (100, 0.06)):
        labels = (np.arange(n) < n // 5).astype(np.int64)
        winner, baseline = pairs(np.random.default_rng(1), HARD[world], 1000, n, 5, 0.8 + lead, 0.8)
        found = estimate(winner, baseline, weights=weights(labels))
        assert holds(found, lead) >= 0.935
        assert lead != 0 or ((found.low > 0) | (found.high < 0)).mean() <= 0.05
