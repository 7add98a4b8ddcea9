"""Seeds that collapse are found, hardly ever where there are none, and no gain is claimed by them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evidence.fake_trainer import HARD, collapse, margins, pairs
from hypothesis import given
from hypothesis import strategies as st

from tuner.evidence.paired import compare
from tuner.evidence.stability import MOST, collapsed, seeds, unseen, unstable
from tuner.evidence.verdict import verdict


def alarms(accuracies: np.ndarray, n: int) -> np.ndarray:
    return np.array([bool(unstable(row, n)) for row in accuracies])


@pytest.mark.parametrize(("world", "n", "most"), [("usual", 20, 0.02), ("usual", 100, 0.0), ("noisy", 50, 0.04)])
def test_seeds_that_only_vary_are_hardly_ever_taken_for_collapsed(world: str, n: int, most: float) -> None:
    right, _ = pairs(np.random.default_rng(1), HARD[world], 1000, n, 5, 0.8, 0.8)
    assert alarms(right.mean(axis=-1), n).mean() <= most


@pytest.mark.parametrize(("n", "least"), [(20, 0.72), (50, 0.95), (300, 0.98)])
def test_studies_with_a_seed_that_guesses_are_seen(n: int, least: float) -> None:
    draw = np.random.default_rng(2)
    margin, _ = margins(draw, HARD["usual"], 1000, n, 5, 0.85, 0.8)
    margin, guessing = collapse(draw, margin, 0.15)
    found = alarms((margin > 0).mean(axis=-1), n)
    assert found[guessing.any(axis=1)].mean() >= least


def test_the_collapsed_seeds_are_named_even_three_of_five() -> None:
    accuracies = (0.83, 0.52, 0.81, 0.5, 0.49)
    assert unstable(accuracies, 100) == (1, 3, 4)
    assert collapsed("winner", 2, accuracies[1]) == "seed 2 of the winner ended at 52 %"
    assert unstable((0.9,), 100) == unstable((), 100) == unstable((0.9, 0.1), 0) == ()
    assert unstable((1.0, 1.0, 0.7), 8) == (), "eight images are no evidence of it"


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.integers(1, 500))
def test_what_collapsed_lies_far_below_what_did_not(accuracies: list[float], n: int) -> None:
    found = unstable(accuracies, n)
    rest = [a for i, a in enumerate(accuracies) if i not in found]
    assert rest and all(accuracies[i] <= min(rest) and accuracies[i] < max(rest) - 0.2 for i in found)


def test_more_seeds_are_trained_where_some_of_the_first_collapsed_or_failed_and_some_did_not() -> None:
    assert seeds((0.8,) * 5, 100) == 5
    assert seeds((0.8, 0.82, 0.5, 0.8, 0.81), 100) == seeds((0.8, None, 0.8), 100) == MOST
    assert seeds((None, None), 100) == 2, "more of what never ends is no help"
    assert seeds((0.8,) * 29 + (0.5,), 100) == 30
    assert unseen(5) == pytest.approx(0.45, abs=0.01) and unseen(20) == pytest.approx(0.14, abs=0.01)


def test_a_gain_or_loss_by_the_mean_is_none_where_the_median_seed_says_otherwise() -> None:
    draw = np.random.default_rng(0)
    baseline = draw.random((5, 400)) < 0.8
    winner = np.vstack([draw.random((3, 400)) < 0.84, draw.random((2, 400)) < 0.5])
    found = replace(compare(winner, baseline), high=-0.01)
    assert found.median is not None and found.median > 0 > found.difference
    said = verdict(found, collapsed=["seed 4 of the winner ended at 52 %"])
    assert said.kind == "unstable"
    assert "the median seed is" in said.sentence and "but the mean is not: " in said.sentence
    assert "; seed 4 of the winner ended at 52 %: training is not stable." in said.sentence
    assert said.sentence.count(". ") == 0
    assert verdict(replace(found, median=-0.03)).kind == "loss"
    assert verdict(found, exploratory=True).kind == "unstable"
