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
from tuner.store import ids
from tuner.store.folder import StudyFolder
from tuner.training import trial


class Linear(Results):
    """A study in which logistic regression is the better baseline."""

    def baseline(self) -> Any:
        return self._best("logistic")


def searched(folder: StudyFolder, kept: str) -> StudyFolder:
    """A study in which all other regressions are worse than `kept`, so that its weights are kept."""
    fits = trial.fit_rows, trial.fit_cuts

    def fit(context: Any, rows: Any, values: Any, *stop: Any) -> Any:
        found = fits[bool(values.cuts)](context, rows, values, *stop)
        spoiled = ids.regression(values.augmentation, several=bool(values.cuts)) != kept
        return replace(found, kernel=found.kernel + 100) if spoiled else found

    seen = {"space__augmentation": ["none", kept.partition("_")[2]], "data__views": 2} if "_" in kept else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "fit_rows", fit)
        patch.setattr(trial, "fit_cuts", fit)
        search(folder, spec(search__max_epochs=1, search__factor=2, space__unfrozen_layers=0, **seen), confirm=False)
    return folder


@pytest.mark.parametrize("kept", ["log", "cuts_light"])
def test_the_model_says_what_the_trial_said_and_a_refit_something_else(kept: str, tmp_path: Path) -> None:
    study = searched(make(tmp_path / "study"), kept)
    results = Linear.open(study.database)
    once, again = (
        candidate(study, results, tmp_path / "m.keras", kind=FORMATS["keras"], baseline=True, refit=refit)
        for refit in (False, True)
    )
    assert once.configuration == again.configuration == kept
    for one in (once, again):
        assert np.abs(np.asarray(one.model(one.images, training=False)) - one.expected).max() < 1e-3
    assert np.abs(again.expected - once.expected).max() > 1e-4
    assert again.refit is not None and again.refit.epochs == 0 and again.refit.photographs == 18
    assert "photographs: no image is left to judge it by" in again.refit.sentence()
    assert "no image" not in replace(again.refit, tested=True).sentence()
