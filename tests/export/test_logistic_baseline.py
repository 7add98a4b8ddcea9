"""Logistic regression as the baseline: its model is the trial's, and a refit fits it to all photographs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tuner.evidence.results import Results
from tuner.export.formats import FORMATS
from tuner.export.study import candidate
from tuner.store.folder import StudyFolder


class Linear(Results):
    """A study in which logistic regression is the better baseline."""

    def baseline(self) -> Any:
        return self._best("logistic")


def test_the_model_says_what_the_trial_said_and_a_refit_something_else(finished: StudyFolder, tmp_path: Path) -> None:
    results = Linear.open(finished.database)
    trial, again = (
        candidate(finished, results, tmp_path / "m.keras", kind=FORMATS["keras"], baseline=True, refit=refit)
        for refit in (False, True)
    )
    assert trial.configuration == again.configuration == "log"
    for one in (trial, again):
        assert np.abs(np.asarray(one.model(one.images, training=False)) - one.expected).max() < 1e-3
    assert np.abs(again.expected - trial.expected).max() > 1e-4
    assert again.refit is not None and again.refit.epochs == 0 and again.refit.photographs == 18
    assert "photographs: no image is left to judge it by" in again.refit.sentence()
    assert "no image" not in replace(again.refit, tested=True).sentence()
