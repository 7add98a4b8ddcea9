"""Logistic regression as the baseline: its model is the trial's, and a refit fits it to all photographs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tuner.evidence.results import Results
from tuner.export.formats import FORMATS
from tuner.export.refit import train
from tuner.export.study import _as_searched, _build, _chosen
from tuner.store.folder import StudyFolder


class Linear(Results):
    """A study in which logistic regression is the better baseline."""

    def baseline(self) -> Any:
        return self._best("logistic")


def test_the_model_says_what_the_trial_said_and_a_refit_something_else(finished: StudyFolder, tmp_path: Path) -> None:
    chosen = _chosen(finished, Linear.open(finished.database), baseline=True)
    assert chosen.configuration == "log" and "learning_rate" not in chosen.hyperparameters
    dataset, backbone = _as_searched(finished, chosen)
    squares = dataset.images[dataset.indices("val")]

    def says(refit: Any) -> np.ndarray:
        return np.asarray(_build(chosen, dataset, backbone, FORMATS["keras"], refit)(squares, training=False))

    assert np.abs(says(None) - chosen.expected).max() < 1e-3
    values = (chosen.spec, dataset, backbone, chosen.configuration, chosen.hyperparameters, 1, tmp_path)
    refit = train(*values, lambda text: None)
    assert refit.photographs == 18 and "photographs: no image is left to judge it by" in refit.sentence()
    assert np.abs(says(refit) - refit.expected).max() < 1e-3
    assert np.abs(refit.expected - chosen.expected).max() > 1e-4
    assert "no image" not in replace(refit, tested=True).sentence()
