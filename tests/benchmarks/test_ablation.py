"""The ablation's arithmetic: which variants there are, which are compared, and that a known difference comes out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import recipe
import recipe_findings

from tuner.spec.configuration import LOGISTIC, Configuration
from tuner.spec.spec import Spec

CELLS = [Configuration(depth, rate, 0) for depth in (0, 10) for rate in (1e-4, 1e-3)]
ROUNDS = [(repeat, seed) for seed in range(2) for repeat in range(2)]


def test_every_technique_is_a_valid_change_and_has_both_comparisons() -> None:
    recipes = recipe.variants(recipe.TECHNIQUES, beside=True)
    texts = [recipe._text(keys) for keys in recipes.values()]
    assert len(set(texts)) == len(texts)
    for keys in recipes.values():
        Spec().override(keys)
    for where, each in recipe.pairs(recipe.TECHNIQUES, recipes).items():
        assert set(recipe.TECHNIQUES) <= set(each), where
        for name, (on, off) in each.items():
            if name in recipe.TECHNIQUES:
                assert recipes[on].items() >= recipe.TECHNIQUES[name].items()
                assert not recipes[off].keys() & recipe.TECHNIQUES[name].keys()
    assert set(recipe.variants(recipe.TECHNIQUES, beside=False)) < set(recipes)


def made() -> recipe_findings.Measured:
    """Everything together is 10 points better everywhere; a rate of 1e-3 has the lower loss; seeds differ by 0.04."""
    draw, units = np.random.default_rng(0), {}
    fold = draw.uniform(0.6, 0.8, (2, 5))  # by repeat: the same images on both sides
    for cell in [*CELLS, LOGISTIC]:
        for variant, gain in (("plain", 0.0), ("all together", 0.1)):
            right = np.stack([fold[repeat] + 0.04 * seed * (cell != LOGISTIC) + gain for repeat, seed in ROUNDS])
            rows = np.zeros((len(ROUNDS), 5, len(recipe_findings.COLUMNS)))
            rows[:, :, 0], rows[:, :, 1], rows[:, :, 2] = 20, 80, right
            rows[:, :, 3], rows[:, :, 4] = 1 - right, 2 - right - (cell.learning_rate == 1e-3)
            units[variant, cell] = rows
    return recipe_findings.Measured(ROUNDS, units)


def test_a_known_difference_is_found_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = recipe_findings.findings(made(), {"alone": {"all together": ("all together", "plain")}})
    for group in ("unfrozen", "frozen"):
        row = found["compared"]["alone"][group]["all together"]
        np.testing.assert_allclose(row["accuracy"], 0.1, atol=1e-9)  # no fold differs, so the interval has no width
        np.testing.assert_allclose(row["log-loss"], -0.1, atol=1e-9)
        assert row["rates"] == [1e-3, 1e-3]
        np.testing.assert_allclose(row["spread"], np.std([0, 0.04], ddof=1), atol=1e-9)
    assert found["absolute"]["unfrozen, plain"]["over logistic"][0] == pytest.approx(0.02)
    recipe_findings.show(found, "made up")
    assert "+10.0 (+10.0 to +10.0)" in capsys.readouterr().out
    recipe_findings.draw(found, "made up", tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
