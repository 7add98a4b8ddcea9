"""What the backbone's costs add to a study's tables, and that it is missing without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_study import NO_TRIAL_YET, make_study

from tuner import Study
from tuner.evidence.results import Results
from tuner.store.folder import StudyFolder


def test_the_floor_counts_every_epoch_at_the_rate_of_the_fastest(tmp_path: Path) -> None:
    make_study(tmp_path)
    results = Study(StudyFolder(tmp_path)).results
    found, epochs = results.times(), results.epochs()
    assert found.prefix == 92 * 3_480_207_360, "multiply-adds of ResNet-50 v1 that reads every second pixel"
    assert found.depths["epochs"].sum() == len(epochs)
    assert found.depths["seconds"].sum() == pytest.approx(epochs["seconds"].sum())
    assert found.rate is not None and found.floor is not None
    assert found.rate == max(found.depths["operations"] / found.depths["epochs"]) / epochs["seconds"].min()
    assert found.floor == (found.prefix + int(found.depths["operations"].sum())) / found.rate
    assert found.spent == found.phases[1][1] + found.phases[2][1]


def test_without_costs_operations_are_missing_and_not_made_up(tmp_path: Path) -> None:
    database = make_study(tmp_path)
    known, unknown = Study(StudyFolder(tmp_path)).results.times(), Results.open(database).times()
    assert unknown.depths["operations"].isna().all()
    assert (unknown.prefix, unknown.rate, unknown.floor) == (0, None, None)
    same = ["unfrozen_layers", "epochs", "seconds"]
    assert unknown.depths[same].equals(known.depths[same])


def test_depths_that_train_the_same_variables_are_one_row(tmp_path: Path) -> None:
    space = {"unfrozen_layers": [0, 10, 12, 20]}
    database = make_study(tmp_path, replace(NO_TRIAL_YET, space=space))
    assert list(Study(StudyFolder(tmp_path)).results.depths()["unfrozen_layers"]) == [0, 10, 20]
    assert list(Results.open(database).depths()["unfrozen_layers"]) == [0, 10, 12, 20]
