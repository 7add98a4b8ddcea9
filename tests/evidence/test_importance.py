"""Importance finds what was put in, and hardly ever what was not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tuner.evidence.importance import COLUMNS, FIRST, FULL, at_equal_budgets, importance

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
    found = at_equal_budgets(
        configurations(np.random.default_rng(1), sizes, 2.0), [*NAMES, "dropout"], np.random.default_rng(0)
    )
    assert list(found.columns) == list(COLUMNS[1:])
    assert sorted(found["hyperparameter"]) == sorted(NAMES), "what never varied has no row"
    first = found.iloc[0]
    assert first["hyperparameter"] == "learning_rate" and first["share"] > first["share_by_luck"]
    assert first["p"] < 0.05
    assert (found["p"].iloc[1:] > 0.05).all()
    assert (found["configurations"] == sum(sizes)).all() and (found["groups"] == 3).all()


def test_among_scores_of_luck_anything_is_claimed_in_one_study_of_twenty() -> None:
    rng, claimed, shares, luck = np.random.default_rng(2), 0, [], []
    for _ in range(200):
        found = at_equal_budgets(configurations(rng), NAMES, rng, shuffles=199)
        claimed += bool((found["p"] <= 0.05).any())
        shares.append(found["share"].mean())
        luck.append(found["share_by_luck"].mean())
    assert claimed <= 20
    assert np.mean(shares) == pytest.approx(np.mean(luck), abs=0.02)


def test_groups_differ_in_epochs_and_that_is_nobodys_merit() -> None:
    """A hyperparameter that says which bracket a configuration is in, and nothing else."""
    table = configurations(np.random.default_rng(3), (9, 9, 9))
    table["told"] = table["bracket"]
    found = at_equal_budgets(table, ["told"], np.random.default_rng(0))
    assert found["share"].item() == pytest.approx(0)
    assert found["p"].item() == 1


def test_failed_trials_rank_last_and_larger_can_be_better() -> None:
    table = configurations(np.random.default_rng(4), (12,))
    table["score"] = np.arange(12.0)
    table["hit"] = [0] * 6 + [1] * 6
    best = at_equal_budgets(table, ["hit"], np.random.default_rng(0))
    table.loc[6:, "score"] = np.nan
    assert at_equal_budgets(table, ["hit"], np.random.default_rng(0))["share"].item() > 0.7
    assert at_equal_budgets(table.assign(score=-np.arange(12.0)), ["hit"], np.random.default_rng(0), smaller=False)[
        "share"
    ].item() == pytest.approx(best["share"].item())


def test_too_few_say_nothing() -> None:
    table = configurations(np.random.default_rng(5), (4, 2, 2))
    for few in (table, table.iloc[:0], configurations(np.random.default_rng(5), (2, 2, 2))):
        found = at_equal_budgets(few, NAMES, np.random.default_rng(0))
        assert found.empty and list(found.columns) == list(COLUMNS[1:])


def rungs(depth_at_the_end: float) -> pd.DataFrame:
    """Three brackets run to 9 epochs: the rate decides at their first rungs and who goes on; then the depth matters."""
    rng, rows = np.random.default_rng(6), []
    for bracket, (sizes, ends) in enumerate([((27, 9, 4), (1, 3, 9)), ((12, 5), (3, 9)), ((6,), (9,))]):
        drawn = configurations(rng, (sizes[0],), 2.0).assign(bracket=bracket)
        drawn["configuration"] = [f"c{bracket}-{i}" for i in range(sizes[0])]
        for rung, (size, epochs) in enumerate(zip(sizes, ends, strict=True)):
            drawn = drawn.sort_values("score").head(size)
            late = depth_at_the_end * drawn["unfrozen_layers"] if epochs == 9 else 0.0
            rows.append(drawn.assign(rung=rung, epochs=epochs, score=drawn["score"] + late))
    return pd.concat(rows, ignore_index=True)


def test_what_matters_early_and_at_the_full_budget_are_told_apart() -> None:
    found = importance(rungs(1.0), NAMES, 9, np.random.default_rng(0)).set_index(["budget", "hyperparameter"])
    assert found.loc[FIRST, "p"].idxmin() == "learning_rate"
    assert found.loc[FULL, "p"].idxmin() == "unfrozen_layers"
    assert found.loc[FIRST, "configurations"].unique().tolist() == [45]
    assert found.loc[FIRST, "epochs"].unique().tolist() == ["1, 3, 9"]
    assert found.loc[FULL, "configurations"].unique().tolist() == [15]
    assert found.loc[FULL, "epochs"].unique().tolist() == ["9"]


def test_the_first_rungs_alone_where_few_got_to_the_end_and_the_end_alone_where_all_began_there() -> None:
    table = rungs(1.0)
    few = table[(table["epochs"] < 9) | (table["bracket"] == 2)]
    assert set(importance(few, NAMES, 9, np.random.default_rng(0))["budget"]) == {FIRST}
    once = table[table["rung"] == 0].assign(epochs=9)
    found = importance(once, NAMES, 9, np.random.default_rng(0))
    assert set(found["budget"]) == {FULL} and set(found["configurations"]) == {45}
    assert list(importance(once.iloc[:0], NAMES, 9, np.random.default_rng(0)).columns) == list(COLUMNS)
