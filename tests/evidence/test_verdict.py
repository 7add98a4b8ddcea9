"""The verdict says one of four things, and nothing that its interval does not."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.evidence.paired import Comparison, compare
from tuner.evidence.verdict import Verdict, verdict

FOUND = Comparison(0.06, 0.012, 0.108, 400, 5, 0.95, "", 0.024, 60.0, 0.2, 0.0, 40, 16, 0.002)


def made(difference: float, low: float, high: float, **changes: float) -> Verdict:
    return verdict(replace(FOUND, difference=difference, low=low, high=high, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("difference", "low", "high", "kind", "opening"),
    [
        (0.06, 0.012, 0.108, "gain", "The winner is better"),
        (0.02, 0.001, 0.04, "gain", "The winner is better"),
        (-0.06, -0.108, -0.012, "loss", "The winner is worse"),
        (0.003, -0.011, 0.017, "no difference", "No difference larger than 2.0 points: "),
        (0.0, -0.019, 0.019, "no difference", "No difference larger than 2.0 points: "),
        (0.01, 0.004, 0.016, "no difference", "No difference larger than 2.0 points, though more than luck: "),
        (-0.01, -0.016, -0.004, "no difference", "No difference larger than 2.0 points, though more than luck: "),
        (0.015, 0.004, 0.026, "too few images", "Too few images to tell whether the gain reaches 2.0 points: "),
        (-0.015, -0.026, -0.004, "too few images", "Too few images to tell whether the loss reaches 2.0 points: "),
        (0.06, -0.01, 0.13, "too few images", "Too few images to tell: "),
        (0.0, -0.02, 0.02, "too few images", "Too few images to tell: "),
        (0.06, 0.0, 0.12, "too few images", "Too few images to tell: "),
    ],
)
def test_each_interval_has_its_kind(difference: float, low: float, high: float, kind: str, opening: str) -> None:
    found = made(difference, low, high)
    assert found.kind == kind
    assert found.sentence.startswith(opening)
    assert found.images_needed is None or kind == "too few images"


def test_the_sentence_has_the_evidence() -> None:
    assert verdict(FOUND).sentence == (
        "The winner is better than the baseline: on 400 test images with 5 seeds, the winner is 6.0 points more "
        "accurate than the baseline (95 % interval 1.2 to 10.8)."
    )
    assert "1.0 point less accurate" in made(-0.01, -0.1, 0.08).sentence
    assert "equally accurate" in made(0, -0.1, 0.1).sentence
    assert "one seed, which says nothing of other seeds" in made(0.06, 0.01, 0.11, seeds=1).sentence
    assert "on 1 test image with" in made(1, -1, 1, n=1).sentence


def test_groups_are_counted_and_asked_for() -> None:
    grouped = replace(FOUND, groups=80, group_size=5.0)
    assert "on 400 test images in 80 groups with 5 seeds" in verdict(grouped).sentence
    few = {"difference": 0.06, "low": -0.01, "high": 0.13}
    said, alone = verdict(replace(grouped, **few)), made(**few)
    assert (
        "images or more in groups as large would tell" in said.sentence or "images in groups as large" in said.sentence
    )
    assert said.images_needed is not None and alone.images_needed is not None
    assert said.images_needed[0] == pytest.approx(alone.images_needed[0], rel=0.1), "the variance holds it already"


def test_images_that_chose_the_winner_make_it_exploratory() -> None:
    found = verdict(FOUND, exploratory=True)
    assert found.kind == "looks better" and found.exploratory, "a gain is nothing that they could show"
    worse = replace(FOUND, difference=-FOUND.difference, low=-FOUND.high, high=-FOUND.low)
    assert verdict(worse, exploratory=True).kind == "looks worse" and verdict(worse).kind == "loss"
    assert found.sentence.startswith("The winner looks better")
    assert "400 validation images" in found.sentence
    assert "The validation images chose the winner" in found.sentence and "not a test" in found.sentence


def test_how_many_images_would_do_is_more_than_there_are_or_not_a_number() -> None:
    found = made(0.06, -0.01, 0.13)
    assert found.images_needed is not None
    low, high = found.images_needed
    assert low > 400 and (high is None or high > 2 * low)
    said = r"About \d+0 (to .* images|images or more) would tell, depending on how far .* from the margin\.$"
    assert re.search(said, found.sentence)
    seeds = made(0.06, -0.01, 0.13, seed_variance=0.01)
    assert seeds.images_needed is None and "add seeds by `tlstudy confirm --seeds" in seeds.sentence
    near = made(0.0199, 0.001, 0.04, standard_error=0.00001)
    assert near.images_needed is None and "too near the margin" in near.sentence


def test_a_margin_is_a_share() -> None:
    for margin in (0.0, 2.0):
        with pytest.raises(ValueError, match="margin"):
            verdict(FOUND, margin)
    assert verdict(FOUND, 0.07).kind == "too few images"


@given(st.integers(1, 300), st.integers(1, 5), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_real_comparisons_never_claim_more_than_their_interval(
    n: int, seeds: int, first: float, second: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    found = compare(rng.random((seeds, n)) < first, rng.random((seeds, n)) < second)
    said = verdict(found)
    if said.kind == "gain":
        assert found.low > 0 and found.difference >= said.margin
    elif said.kind == "loss":
        assert found.high < 0 and found.difference <= -said.margin
    elif said.kind == "no difference":
        assert -said.margin < found.low and found.high < said.margin
    elif said.images_needed is not None:
        low, high = said.images_needed
        assert n < low and (high is None or low <= high)
    first, *advice = said.sentence.split(". ")
    assert f"{n} test image" in first and len(advice) <= 1 and said.sentence.endswith("."), "what is shown, and advice"


def test_what_the_winner_is_compared_with_is_named_whatever_the_outcome() -> None:
    draw = np.random.default_rng(0)
    for share in (0.6, 0.8, 0.95):
        one, two = draw.random((3, 200)) < 0.8, draw.random((3, 200)) < share
        for pair in ((one, two), (one, one)):
            said = verdict(compare(*pair), 0.02, against="the other baseline (a trained head)").sentence
            assert "the other baseline (a trained head)" in said and "the baseline" not in said
