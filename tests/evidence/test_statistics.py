"""Wilson's interval, the sign test's reach and confusion counts against known values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tuner.evidence.statistics import balanced_accuracy, confusion, smallest_telling_difference, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3; and 18 of 20.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (18, 20, 0.6990, 0.9721),
    ],
)
def test_wilson_gives_the_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_exact_at_the_ends_and_holds_the_share() -> None:
    for n in (1, 2, 7, 20, 1000):
        assert wilson(0, n)[0] == 0.0
        assert wilson(n, n)[1] == 1.0
        for k in range(n + 1):
            low, high = wilson(k, n)
            assert 0 <= low <= k / n <= high <= 1
            mirrored = wilson(n - k, n)
            assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]))
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_widens_with_confidence_and_refuses_nonsense() -> None:
    assert wilson(9, 20, 0.99)[0] < wilson(9, 20, 0.95)[0] < wilson(9, 20, 0.5)[0]
    with pytest.raises(ValueError, match="21 of 20"):
        wilson(21, 20)
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, 1.0)


def test_five_images_of_difference_never_tell_and_six_can() -> None:
    assert smallest_telling_difference(20) == smallest_telling_difference(10_000) == 6
    assert 2 * 0.5**5 > 0.05 >= 2 * 0.5**6
    assert smallest_telling_difference(5) is None
    assert smallest_telling_difference(20, 0.99) == 8


def test_confusion_counts_every_image_once_in_the_row_of_its_class() -> None:
    labels, said = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 0, 2])
    table = confusion(labels, said, 3)
    assert table.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]
    assert table.sum(axis=1).tolist() == np.bincount(labels, minlength=3).tolist()
    assert confusion([], [], 2).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="expected 0 to 1"):
        confusion([0, 2], [0, 1], 2)
    with pytest.raises(ValueError, match="shape"):
        confusion([0, 1], [0], 2)


def test_balanced_accuracy_is_the_mean_over_classes() -> None:
    always = np.array([[90, 0], [10, 0]])
    assert balanced_accuracy(always) == 0.5
    assert balanced_accuracy(np.array([[3, 1, 0], [0, 0, 0], [1, 0, 1]])) == (0.75 + 0.5) / 2
    assert math.isnan(balanced_accuracy(np.zeros((2, 2), dtype=np.int64)))
