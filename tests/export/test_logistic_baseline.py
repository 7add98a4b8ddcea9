"""Logistic regression as the baseline: its model is the trial's, and a refit fits it to all photographs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from search.studies import make, search, spec

from tuner.evidence.results import Results
from tuner.export.formats import FORMATS
from tuner.export.study import candidate
from tuner.store.folder import StudyFolder
from tuner.training import trial


class Linear(Results):
    """A study in which logistic regression is the better baseline."""

    def baseline(self) -> Any:
        return self._best("logistic")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    """A study in which regression on several cuts is the worse one, so that the pooled one's weights are kept."""
    fit = trial.fit_cuts

    def spoiled(*given: Any) -> Any:
        found = fit(*given)
        return replace(found, kernel=found.kernel + 100)

    monkeypatch.setattr(trial, "fit_cuts", spoiled)
    folder = make(tmp_path / "study")
    search(folder, spec(search__max_epochs=1, search__factor=2, space__unfrozen_layers=0), confirm=False)
    return folder


def test_the_model_says_what_the_trial_said_and_a_refit_something_else(study: StudyFolder, tmp_path: Path) -> None:
    results = Linear.open(study.database)
    once, again = (
        candidate(study, results, tmp_path / "m.keras", kind=FORMATS["keras"], baseline=True, refit=refit)
        for refit in (False, True)
    )
    assert once.configuration == again.configuration == "log"
    for one in (once, again):
        assert np.abs(np.asarray(one.model(one.images, training=False)) - one.expected).max() < 1e-3
    assert np.abs(again.expected - once.expected).max() > 1e-4
    assert again.refit is not None and again.refit.epochs == 0 and again.refit.photographs == 18
    assert "photographs: no image is left to judge it by" in again.refit.sentence()
    assert "no image" not in replace(again.refit, tested=True).sentence()
