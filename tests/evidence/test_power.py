"""What a number of images can show, and how many would do, checked against studies that are drawn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from evidence.fake_trainer import HARD, World, margins, pairs

from tuner.evidence.paired import compare, estimate
from tuner.evidence.power import POWER_OF_EACH, chance, images_needed, images_range, needed_for, smallest_difference
from tuner.evidence.verdict import MARGIN, verdict


def gains(world: World, n: int, lead: float, studies: int = 1500) -> float:
    found = estimate(*pairs(np.random.default_rng(1), world, studies, n, 5, 0.8 + lead, 0.8))
    return float(((found.low > 0) & (found.difference >= MARGIN)).mean())


@pytest.mark.parametrize(("world", "differ"), [("usual", 0.1), ("alike", 0.05)])
@pytest.mark.parametrize("n", [50, 100, 300])
def test_what_is_foretold_is_shown_in_four_studies_of_five(world: str, differ: float, n: int) -> None:
    """In worlds of that agreement, with five seeds; at fewer images it is rather more."""
    least = smallest_difference(n, differ=differ, seeds=5)
    assert least is not None
    assert gains(HARD[world], n, least) >= 0.76
    if n >= 300:
        assert gains(HARD[world], n, least) <= 0.87


@pytest.mark.parametrize(("world", "differ"), [("usual", 0.1), ("alike", 0.05)])
@pytest.mark.parametrize("n", [50, 100, 300])
def test_what_is_foretold_is_shown_against_both_of_two_equal_baselines(world: str, differ: float, n: int) -> None:
    """In four studies of five, though a gain has to hold against each."""
    least = smallest_difference(n, differ=differ, seeds=5, power=POWER_OF_EACH)
    assert least is not None
    base = min(0.8, 0.97 - least)
    made = [m > 0 for m in margins(np.random.default_rng(1), HARD[world], 1500, n, 5, base + least, base, base)]
    found = [estimate(made[0], baseline) for baseline in made[1:]]
    shown = [(one.low > 0) & (one.difference >= MARGIN) for one in found]
    assert (shown[0] & shown[1]).mean() >= 0.78


def test_the_smallest_difference_falls_with_images_seeds_and_agreement_and_rises_with_power_and_confidence() -> None:
    found = [smallest_difference(n, differ=0.1) for n in range(20, 500, 37)]
    assert all(a is not None and b is not None and a > b > MARGIN for a, b in pairwise(found))
    assert smallest_difference(4, differ=0.1) is None
    for worse in ({"differ": 0.2}, {"seeds": 2}, {"power": 0.9}, {"confidence": 0.99}, {"seed_deviation": 0.03}):
        plain = smallest_difference(200, differ=0.1)
        changed = smallest_difference(200, **{"differ": 0.1, **worse})  # type: ignore[arg-type]
        assert plain is not None and changed is not None and changed > plain
    with pytest.raises(ValueError, match="power"):
        smallest_difference(100, differ=0.1, power=1.0)


@pytest.mark.parametrize(("difference", "discordance"), [(0.05, 0.2), (0.1, 0.1), (0.08, 0.3), (0.03, 0.05)])
def test_as_many_images_as_are_needed_show_it_in_four_studies_of_five(difference: float, discordance: float) -> None:
    """A gain is shown where the difference seen reaches the margin too: 3 points on 0.05 need three times as many."""
    n = int(images_needed(difference, discordance))
    drawn = np.random.default_rng(0).random((1000, 1, n), dtype=np.float32)
    better, worse = (discordance + difference) / 2, (discordance - difference) / 2
    found = estimate(drawn < better, (drawn >= better) & (drawn < better + worse))
    assert ((found.low > 0) & (found.difference >= MARGIN)).mean() == pytest.approx(0.81, abs=0.06)


@pytest.mark.parametrize("difference", [0.0, 0.008])
def test_no_difference_is_told_by_as_many_images_as_put_both_ends_inside_the_margin(difference: float) -> None:
    n = int(images_needed(difference, 0.05))
    drawn = np.random.default_rng(0).random((400, 1, n), dtype=np.float32)
    better, worse = (0.05 + difference) / 2, (0.05 - difference) / 2
    found = estimate(drawn < better, (drawn >= better) & (drawn < better + worse))
    assert ((found.low > -MARGIN) & (found.high < MARGIN)).mean() == pytest.approx(0.8, abs=0.06)


def test_no_number_of_images_makes_up_for_seeds_or_tells_a_difference_of_just_the_margin() -> None:
    assert np.isinf(images_needed(MARGIN, 0.2))
    assert np.isinf(images_needed(0.05, 0.2, seeds=5, seed_variance=0.05**2))
    plain, with_seeds = images_needed(0.05, 0.2, seeds=5), images_needed(0.05, 0.2, seeds=5, seed_variance=0.0001)
    assert plain < with_seeds < np.inf
    assert (np.diff(chance(0.05, np.arange(10.0, 3000, 50), discordance=0.2)) >= 0).all()


def test_the_range_holds_what_is_really_needed_where_a_point_would_not() -> None:
    """Studies of a hundred images that did not tell a true lead of five points."""
    world, lead = HARD["usual"], 0.05
    winner, baseline = pairs(np.random.default_rng(5), world, 150, 100, 5, 0.8 + lead, 0.8)
    found = [compare(*pair) for pair in zip(winner, baseline, strict=True)]
    few = [one for one in found if verdict(one).kind == "too few images"]
    truly = float(np.median([needed_for(one, lead, MARGIN) for one in found]))
    assert gains(world, round(truly), lead, 400) == pytest.approx(0.8, abs=0.06)
    ranges = [images_range(one, MARGIN) for one in few]
    assert np.mean([low <= truly <= high for low, high in ranges]) >= 0.9
    points = [float(needed_for(one, one.difference, MARGIN)) for one in few]
    assert np.mean([truly / 1.5 <= point <= 1.5 * truly for point in points]) < 0.3
