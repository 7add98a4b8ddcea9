"""Importance finds what was put in, and hardly ever what was not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tuner.evidence.importance import COLUMNS, importance

NAMES = ["unfrozen_layers", "learning_rate", "head_width", "optimizer"]


def configurations(rng: np.random.Generator, sizes: tuple[int, ...] = (9, 5, 3), strength: float = 0.0) -> pd.DataFrame:
    """Brackets of these sizes; the learning rate has its best in the middle of the range, as it usually does."""
    n = sum(sizes)
    rate = 10 ** rng.uniform(-5, -2, n)
    return pd.DataFrame(
        {
            "iteration": 0,
            "bracket": np.repeat(np.arange(len(sizes)), sizes),
            "epochs": np.repeat([1, 3, 9, 27][: len(sizes)], sizes),
            "unfrozen_layers": rng.choice([0, 10, 20, 32, 42, 52], n),
            "learning_rate": rate,
            "head_width": rng.choice([0, 128, 512], n),
            "optimizer": rng.choice(["adam", "sgd"], n),
            "dropout": 0.0,
            "score": np.repeat([5.0, 3.0, 1.0, 0.5][: len(sizes)], sizes)
            + strength * np.abs(np.log10(rate) + 3.5)
            + rng.normal(0, 0.2, n),
        }
    )


@pytest.mark.parametrize("sizes", [(27, 12, 6), (34, 27, 15)])
def test_what_mattered_comes_first_and_is_more_than_luck(sizes: tuple[int, ...]) -> None:
    found = importance(
        configurations(np.random.default_rng(1), sizes, 2.0), [*NAMES, "dropout"], np.random.default_rng(0)
    )
    assert list(found.columns) == list(COLUMNS)
    assert sorted(found["hyperparameter"]) == sorted(NAMES), "what never varied has no row"
    first = found.iloc[0]
    assert first["hyperparameter"] == "learning_rate" and first["share"] > first["share_by_luck"]
    assert first["p"] < 0.05
    assert (found["p"].iloc[1:] > 0.05).all()
    assert (found["configurations"] == sum(sizes)).all() and (found["groups"] == 3).all()


def test_among_scores_of_luck_anything_is_claimed_in_one_study_of_twenty() -> None:
    rng, claimed, shares, luck = np.random.default_rng(2), 0, [], []
    for _ in range(200):
        found = importance(configurations(rng), NAMES, rng, shuffles=199)
        claimed += bool((found["p"] <= 0.05).any())
        shares.append(found["share"].mean())
        luck.append(found["share_by_luck"].mean())
    assert claimed <= 20
    assert np.mean(shares) == pytest.approx(np.mean(luck), abs=0.02)


def test_groups_differ_in_epochs_and_that_is_nobodys_merit() -> None:
    """A hyperparameter that says which bracket a configuration is in, and nothing else."""
    table = configurations(np.random.default_rng(3), (9, 9, 9))
    table["told"] = table["bracket"]
    found = importance(table, ["told"], np.random.default_rng(0))
    assert found["share"].item() == pytest.approx(0)
    assert found["p"].item() == 1


def test_failed_trials_rank_last_and_larger_can_be_better() -> None:
    table = configurations(np.random.default_rng(4), (12,))
    table["score"] = np.arange(12.0)
    table["hit"] = [0] * 6 + [1] * 6
    best = importance(table, ["hit"], np.random.default_rng(0))
    table.loc[6:, "score"] = np.nan
    assert importance(table, ["hit"], np.random.default_rng(0))["share"].item() > 0.7
    assert importance(table.assign(score=-np.arange(12.0)), ["hit"], np.random.default_rng(0), smaller=False)[
        "share"
    ].item() == pytest.approx(best["share"].item())


def test_too_few_say_nothing() -> None:
    table = configurations(np.random.default_rng(5), (4, 2, 2))
    for few in (table, table.iloc[:0], configurations(np.random.default_rng(5), (2, 2, 2))):
        found = importance(few, NAMES, np.random.default_rng(0))
        assert found.empty and list(found.columns) == list(COLUMNS)
