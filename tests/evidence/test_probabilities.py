"""The Brier score of tempered probabilities as a second outcome: by hand, and how often it is right and tells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evidence.fake_trainer import HARD, holds, margins, probabilities, scenes
from scipy.optimize import minimize_scalar

from tuner.evidence.metrics import score
from tuner.evidence.paired import estimate
from tuner.evidence.probabilities import (
    FLATTEST,
    SHARPEST,
    Predicted,
    brier,
    compare_probabilities,
    temperature,
)
from tuner.evidence.verdict import MARGIN

STUDIES = 600


def made(chances: np.ndarray, validation: np.ndarray | None = None, failed: int = 0) -> Predicted:
    return Predicted(np.asarray(chances), validation, failed)


def softmax(draw: np.random.Generator, *shape: int) -> np.ndarray:
    powers = np.exp(2 * draw.standard_normal(shape))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_the_score_is_half_the_objectives() -> None:
    draw = np.random.default_rng(0)
    chances, labels = softmax(draw, 60, 4), draw.integers(0, 4, 60)
    assert brier(chances, labels).mean() == pytest.approx(score("val_brier", chances, labels) / 2)  # type: ignore[operator]
    assert brier(np.full((1, 2), 0.5), np.array([1]))[0] == 0.25
    assert brier(np.eye(2), np.array([0, 0])).tolist() == [0, 1]


def test_a_temperature_has_the_smallest_score_with_every_class_met_once_more() -> None:
    draw = np.random.default_rng(1)
    chances, labels = softmax(draw, 3, 40, 3), draw.integers(0, 3, 40)
    chances[np.arange(3)[:, None], np.arange(40), labels] *= 3
    chances /= chances.sum(axis=-1, keepdims=True)
    target = (np.eye(3)[labels] * 40 + 1) / 43

    def loss(t: float, one: np.ndarray) -> float:
        powers = one ** (1 / t)
        return float(((powers / powers.sum(axis=-1, keepdims=True) - target) ** 2).sum())

    for one, found in zip(chances, temperature(chances, labels), strict=True):
        best = minimize_scalar(loss, args=(one,), bounds=(SHARPEST, FLATTEST), method="bounded")
        assert found == pytest.approx(best.x, rel=0.01) and SHARPEST * 2 < found < FLATTEST / 2


@pytest.mark.parametrize("seen", ["all right", "all wrong", "one image", "one class", "no chance left", "even", "nan"])
def test_validation_images_that_say_little_give_a_temperature_all_the_same(seen: str) -> None:
    labels = np.array([0] if seen == "one image" else [0] * 20 if seen == "one class" else [0, 1] * 10)
    chances = np.full((len(labels), 2), 0.01) + 0.98 * np.eye(2)[1 - labels if seen == "all wrong" else labels]
    if seen == "no chance left":
        chances = np.eye(2, dtype=np.float32)[1 - labels]
    if seen == "even":
        chances[:] = 0.5
    if seen == "nan":
        chances[0] = np.nan
    found = float(temperature(chances, labels))
    assert SHARPEST * 0.9999 <= found <= FLATTEST * 1.0001
    if seen == "all right":
        sure = 0.99 ** (1 / found) / (0.99 ** (1 / found) + 0.01 ** (1 / found))
        assert sure == pytest.approx(21 / 22, abs=2e-3), "twenty right of twenty are no certainty"


def test_being_too_sure_decides_nothing_where_it_can_be_set_right() -> None:
    draw = np.random.default_rng(2)
    sides = margins(draw, HARD["usual"], 1, 300, 5, 0.8, 0.8)
    labels = np.zeros(100, np.int64), np.zeros(200, np.int64)
    (seen, rest), other = np.split(probabilities(sides[0][0], 0.8), [200], axis=1), probabilities(sides[1][0], 0.8)
    sharp_seen, sharp = np.split(probabilities(sides[0][0], 0.8, 6.0), [200], axis=1)
    baseline = made(other[:, 200:], other[:, :200])
    plain = compare_probabilities(made(rest, seen), baseline, *labels)
    mended = compare_probabilities(made(sharp, sharp_seen), baseline, *labels)
    left = compare_probabilities(made(sharp), baseline, *labels)
    assert mended.difference == pytest.approx(plain.difference, abs=1e-3)
    assert left.kind == "worse probabilities" and "winner's probabilities are worse" in left.sentence
    assert left.winner - left.baseline == pytest.approx(left.difference)


def test_sides_of_other_numbers_of_seeds_failed_ones_and_equal_ones() -> None:
    draw = np.random.default_rng(3)
    chances, labels, none = softmax(draw, 5, 80, 3), draw.integers(0, 3, 80), np.empty(0, np.int64)
    same = compare_probabilities(made(chances), made(chances), labels, none)
    assert same.kind == "undecided" and same.low < same.difference == 0 < same.high
    once = compare_probabilities(made(chances), made(chances[:1]), labels, none)
    assert once.low < once.difference < once.high and "not told apart" in once.sentence
    perfect = np.broadcast_to(np.eye(3)[labels] * 0.97 + 0.01, (5, 80, 3))
    better = compare_probabilities(made(perfect), made(chances), labels, none, groups=np.arange(80) // 2)
    assert better.kind == "better probabilities"
    fails = compare_probabilities(made(perfect[:2], failed=3), made(chances), labels, none)
    assert fails.winner == pytest.approx((2 * brier(perfect, labels).mean() + 3 / 3) / 5)


@pytest.mark.parametrize(
    ("world", "n"), [("usual", 20), ("usual", 100), ("alike", 50), ("lucky", 100), ("scenes", 100)]
)
def test_the_interval_holds_and_tells_more_than_accuracy(world: str, n: int) -> None:
    """Nothing is told apart where both are alike, and a lead that moves every margin more often than by accuracy."""
    for lead in (0.0, 0.1):
        sides = margins(np.random.default_rng(4), HARD[world], STUDIES, n, 5, 0.8 + lead, 0.8)
        groups = scenes(HARD[world], n)
        scores = [
            brier(probabilities(m, a), np.zeros(n, np.int64)) for m, a in zip(sides, (0.8 + lead, 0.8), strict=True)
        ]
        found = estimate(*scores, groups=groups, unseen=0)
        assert holds(found, float(found.difference.mean()) if lead else 0.0) >= 0.935
        right = estimate(sides[0] > 0, sides[1] > 0, groups=groups)
        gain, better = (right.low > 0) & (right.difference >= MARGIN), found.high < 0
        if lead:
            assert better.mean() > gain.mean()
        else:
            assert max(better.mean(), (found.low > 0).mean()) <= 0.035


def test_probabilities_are_a_comparison_of_the_same_images() -> None:
    draw = np.random.default_rng(5)
    chances, labels = softmax(draw, 5, 30, 2), draw.integers(0, 2, 30)
    side = made(chances, chances)
    found = compare_probabilities(side, replace(side, chances=chances[:, ::-1]), labels, labels)
    assert found.low <= found.difference <= found.high
