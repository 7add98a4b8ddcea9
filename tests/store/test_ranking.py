"""Epochs are ranked by the objective, then by the other metric; the earlier of equals is best, or the last counts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.spec import OBJECTIVES, SearchSpec
from tuner.store.ranking import SCORED, WORST, Rule, best_of, metric_key, rank_of, value_of
from tuner.store.store import EpochRow

rows = st.builds(
    EpochRow,
    epoch=st.integers(1, 30),
    loss=st.just(0.5),
    accuracy=st.just(0.5),
    val_loss=st.sampled_from([0.1, 0.2, 0.3]),
    val_accuracy=st.sampled_from([0.5, 0.6]),
    seconds=st.just(0.1),
    images=st.just(10),
    score=st.sampled_from([0.7, 0.8]),
)
epochs = st.lists(rows, max_size=8, unique_by=lambda r: r.epoch)


def order(row: EpochRow, objective: str) -> tuple[float, ...]:
    """The rule as the README says it."""
    if objective == "val_loss":
        return row.val_loss, -row.val_accuracy, row.epoch
    value = value_of(row, objective)
    assert value is not None
    return value if objective == "val_brier" else -value, row.val_loss, row.epoch


@given(found=epochs, objective=st.sampled_from(OBJECTIVES))
def test_the_best_epoch_is_the_earlier_of_equals(found: list[EpochRow], objective: str) -> None:
    assert best_of(found, Rule(objective)) == min(found, key=lambda r: order(r, objective), default=None)


@given(found=epochs, objective=st.sampled_from(OBJECTIVES))
def test_by_checkpoint_last_the_last_epoch_counts_however_good(found: list[EpochRow], objective: str) -> None:
    rule = Rule(objective, "last")
    assert best_of(found, rule) == max(found, key=lambda r: r.epoch, default=None)
    assert [rank_of(row, rule) for row in found] == [rank_of(row, Rule(objective)) for row in found]


def test_accuracy_ties_are_broken_by_loss_and_loss_ties_by_accuracy() -> None:
    assert metric_key("val_accuracy", 0.4, 0.9) < metric_key("val_accuracy", 0.5, 0.9)
    assert metric_key("val_accuracy", 0.9, 0.9) < metric_key("val_accuracy", 0.1, 0.8)
    assert metric_key("val_loss", 0.4, 0.9) < metric_key("val_loss", 0.4, 0.8)


@pytest.mark.parametrize("objective", SCORED)
def test_a_score_that_is_not_known_is_the_worst_and_loss_breaks_its_ties(objective: str) -> None:
    row, rule = EpochRow(1, 0.5, 0.5, 0.4, 0.9, 0.1, 10, 0.7), Rule(objective)
    for unknown in (replace(row, score=None, val_loss=0.1), replace(row, score=math.nan, val_loss=0.1)):
        assert rank_of(row, rule) < rank_of(unknown, rule) < WORST
        assert rank_of(unknown, rule) < rank_of(replace(unknown, val_loss=0.2), rule)
    assert rank_of(row, rule) < rank_of(replace(row, val_loss=0.5, val_accuracy=1.0), rule)


def test_a_study_ranks_as_its_file_says() -> None:
    assert Rule.of(SearchSpec()) == Rule(checkpoint="last") and Rule().scored is None and Rule().smaller
    found = Rule.of(SearchSpec(objective="val_auc", checkpoint="last"))
    assert (found.objective, found.checkpoint, found.scored, found.smaller) == ("val_auc", "last", "val_auc", False)
    assert Rule("val_brier").smaller
