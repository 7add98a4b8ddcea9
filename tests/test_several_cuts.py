"""Regression on several cuts as a study's baseline: searched, confirmed, killed, trained again; and no study that began
before has it.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.exporting import model_of
from faults import costless
from search.studies import facts
from several_cuts import searched

from tuner.evidence.results import Results
from tuner.report import words
from tuner.search.driver import Stopped
from tuner.search.events import TrialStarted
from tuner.store.folder import StudyFolder
from tuner.store.store import Store
from tuner.training import trial


def rows(folder: StudyFolder, query: str) -> list[tuple[Any, ...]]:
    with Store(folder.database, readonly=True) as store:
        return [tuple(row) for row in store.rows(query)]


def test_it_is_the_baseline_confirmed_by_itself_and_by_folds_and_says_its_cuts(several: StudyFolder) -> None:
    results = Results.open(several.database)
    baseline, found = results.baseline(), results.findings()
    assert baseline is not None and (baseline["id"], baseline["kind"], baseline["full"]) == ("cuts", "logistic", True)
    assert [row["kind"] for row in results.baselines()] == ["logistic", "baseline"]
    assert baseline["cuts"].startswith("pooled") and baseline["cut"] == "pooled"
    assert words.configuration(baseline).startswith("frozen, logistic regression on several cuts: pooled")
    assert found.kind != "open" and found.baseline is not None and found.baseline.epochs == 0
    assert found.ground == "test" and found.images == 6 and len(found.baseline.accuracies) == 1
    assert found.folds_made == "2 folds, 1 times"
    folds = "SELECT c.id, h.images FROM configurations c JOIN held_out h ON h.configuration = c.id WHERE kind = 'fold'"
    assert {"cuts-r1f1", "cuts-r1f2"} < {id for id, _ in rows(several, folds)}
    kept = rows(several, "SELECT configuration FROM checkpoints ORDER BY configuration")
    assert ("cuts",) in kept and ("log",) not in kept and len(list(several.checkpoints.iterdir())) == len(kept)
    assert "logistic regression on several cuts" in words.configuration(results.hyperparameters("cuts-r1f1"))


def test_a_second_session_has_nothing_to_do_and_lost_weights_are_fitted_again(
    several: StudyFolder, tmp_path: Path
) -> None:
    folder = StudyFolder(tmp_path / "study")
    shutil.copytree(several.root, folder.root)
    next(folder.checkpoints.glob("cuts-*")).unlink()
    assert [e.configuration for e in searched(folder) if isinstance(e, TrialStarted)] == ["cuts"]
    assert facts(folder) == facts(several)


def test_a_refit_keeps_its_cuts(several: StudyFolder, tmp_path: Path) -> None:
    again = model_of(several, tmp_path / "model.keras", baseline=True, refit=True)
    once = model_of(several, tmp_path / "model.keras", baseline=True)
    assert again.refit is not None and (again.refit.epochs, again.refit.photographs) == (0, 18)
    kept = str(Results.open(several.database).hyperparameters("cuts")["cuts"]).split(", ")
    assert set(again.refit.weights) == {*(f"{cut}/kernel" for cut in kept), "head_logits/bias"}
    assert np.abs(np.asarray(again.model(again.images)) - again.expected).max() < 1e-3
    assert np.abs(again.expected - once.expected).max() > 1e-4


# ---- a search whose trials cost nothing ----


BEFORE = costless.QUESTION.override({"space.head_init": "random"})
"""As the studies asked that began before."""


class Killed(BaseException):
    """As abrupt as a test can be in its own process; `make torture` does it with SIGKILL."""


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_what_ends_while_it_is_fitted_costs_only_itself(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, stop, fit = StudyFolder(tmp_path / "study"), threading.Event(), trial.fit_cuts

    def ending(context: Any, rows: Any, values: Any, should_stop: Any) -> Any:
        if how == "killed":
            raise Killed
        stop.set()
        return fit(context, rows, values, should_stop)

    with monkeypatch.context() as patch:
        patch.setattr(trial, "fit_cuts", ending)
        with pytest.raises(Killed if how == "killed" else Stopped):
            costless.run(folder.root, stop)
    ended = rows(folder, "SELECT id FROM trials WHERE status = 'COMPLETED'")
    attempts = rows(folder, "SELECT status, attempts FROM trials WHERE id = 'cuts'")
    assert ("log",) in ended and attempts == [("RUNNING", 1)]
    costless.run(folder.root)
    costless.run(tmp_path / "alone")
    assert facts(folder) == facts(StudyFolder(tmp_path / "alone"))
    assert set(rows(folder, "SELECT attempts FROM trials WHERE id <> 'cuts'")) == {(1,)}


@pytest.mark.parametrize("numerics", [3, 4, 5])
def test_only_studies_that_begin_now_have_it(tmp_path: Path, numerics: int) -> None:
    folder = StudyFolder(tmp_path)
    costless.run(folder.root, question=BEFORE, numerics=numerics)
    found = rows(folder, "SELECT id FROM configurations WHERE kind = 'logistic' ORDER BY number")
    assert found == ([("log",), ("cuts",)] if numerics == 5 else [("log",)])


@pytest.mark.parametrize("name", ["search", "confirmation"])
def test_a_golden_study_goes_on_to_its_end_without_it(tmp_path: Path, name: str) -> None:
    """Interrupted by the version whose format was 2."""
    shutil.copytree(Path(__file__).parent / "golden" / "interrupted" / name, tmp_path / "study")
    folder = StudyFolder(tmp_path / "study")
    costless.run(folder.root, question=BEFORE, numerics=3)
    assert rows(folder, "SELECT id FROM configurations WHERE kind = 'logistic'") == [("log",)]
    assert rows(folder, "SELECT outcome FROM sessions ORDER BY id")[-1] == ("finished",)
