"""What a number of images can show, checked against binomial sums and against studies that are drawn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from evidence.fake_trainer import holds
from scipy.stats import binom

from tuner.evidence.paired import estimate
from tuner.evidence.power import images_needed, smallest_difference
from tuner.evidence.statistics import smallest_telling_difference


@pytest.mark.parametrize("n", [6, 7, 20, 49, 50, 100, 1000])
def test_the_smallest_difference_is_where_six_or_more_images_come_up_often_enough(n: int) -> None:
    found = smallest_difference(n)
    assert found is not None
    assert binom.sf(5, n, found) == pytest.approx(0.8)
    assert smallest_telling_difference(n) == 6, "the interval tells from where the sign test does"


def test_it_falls_with_images_and_rises_with_power_and_confidence() -> None:
    found = [smallest_difference(n) for n in range(6, 300, 7)]
    assert all(a is not None and b is not None and a > b for a, b in pairwise(found))
    assert smallest_difference(5) is None
    at = [smallest_difference(100, 0.5), smallest_difference(100), smallest_difference(100, 0.8, 0.99)]
    assert at == sorted(x for x in at if x is not None)
    with pytest.raises(ValueError, match="power"):
        smallest_difference(100, 1.0)


@pytest.mark.parametrize(("difference", "discordance"), [(0.05, 0.2), (0.1, 0.1), (0.08, 0.3)])
def test_as_many_images_as_are_needed_show_it_in_four_studies_of_five(difference: float, discordance: float) -> None:
    n = images_needed(difference, discordance)
    assert n is not None
    drawn = np.random.default_rng(0).random((2000, 1, n))
    better, worse = (discordance + difference) / 2, (discordance - difference) / 2
    found = estimate(drawn < better, (drawn >= better) & (drawn < better + worse))
    assert (found.low > 0).mean() == pytest.approx(0.8, abs=0.04)
    assert holds(found, difference) > 0.935


def test_no_number_of_images_makes_up_for_seeds_or_for_no_difference() -> None:
    assert images_needed(0.0, 0.2) is None
    assert images_needed(0.05, 0.2, seed_variance=0.05**2) is None
    plain, with_seeds = images_needed(0.05, 0.2), images_needed(0.05, 0.2, seed_variance=0.0001)
    assert plain is not None and with_seeds is not None and with_seeds > plain
