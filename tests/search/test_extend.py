"""A finished or half-done study goes on with a larger question, and keeps everything it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from faults import costless
from search.studies import facts, make, search, spec

from tuner.backbones.architecture import architecture
from tuner.errors import StudyError, UsageError
from tuner.search.space import build
from tuner.spec.spec import Spec, refused_by_extension
from tuner.store.folder import StudyFolder
from tuner.store.store import Store

TWICE = {"search.hyperband_iterations": 2}
MORE = costless.QUESTION.override(TWICE)
WIDER = MORE.override({"space.unfrozen_layers": [0, 10, 20], "space.head_width": [0, 8, 16]})
PATIENT = costless.QUESTION.override({"search.patience": 1, "space.learning_rate": [0.1, 0.5, 1.0, 2.0]})


def kept(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Every configuration, trial, epoch and prediction of before stands unchanged."""
    for name in ("configurations", "trials", "epochs", "predictions"):
        assert set(before[name]) <= set(after[name]), name


@pytest.mark.parametrize(
    ("first", "question"),
    [(costless.QUESTION, MORE), (costless.QUESTION, WIDER), (PATIENT, PATIENT.override(TWICE))],
    ids=["more iterations", "a wider space too", "trials that end early"],
)
def test_an_extension_keeps_what_was_done_and_adds_the_new_brackets(
    tmp_path: Path, first: Spec, question: Spec
) -> None:
    folder = StudyFolder(tmp_path)
    costless.run(tmp_path, question=first)
    before = facts(folder)
    costless.run(tmp_path, question=question)
    after = facts(folder)
    kept(before, after)
    with Store(folder.database, readonly=True) as store:
        plan = store.meta("plan")
        planned = sum(sum(b["sizes"]) for b in plan)
        assert {b["iteration"] for b in plan} == {0, 1}
        searched = "iteration IS NOT NULL AND status = 'COMPLETED'"
        assert store.rows(f"SELECT COUNT(*) FROM trials WHERE {searched}")[0][0] == planned
        deep = "SELECT COUNT(*) FROM configurations WHERE json_extract(hyperparameters, '$.unfrozen_layers') = 20"
        assert (store.rows(deep)[0][0] > 0) == (question is WIDER)
        frozen = [r[0] for r in store.rows("SELECT id FROM configurations WHERE kind = 'baseline' ORDER BY number")]
    assert len(frozen) >= sum(b["sizes"][-1] for b in plan), "the baseline's share grew with the search's"
    costless.run(tmp_path, question=question)
    assert facts(folder) == after, "nothing is left to do"


def test_the_order_of_more_iterations_does_not_matter(tmp_path: Path) -> None:
    """With the same space, what is searched is the study that asked for two iterations at once."""
    costless.run(tmp_path / "steps")
    costless.run(tmp_path / "steps", question=MORE)
    costless.run(tmp_path / "once", question=MORE)
    steps, once = (
        [row for row in facts(StudyFolder(tmp_path / name))["epochs"] if row[0][0] == "c" and row[0][1:].isdigit()]
        for name in ("steps", "once")
    )
    assert steps == once


def test_only_a_larger_question_extends() -> None:
    old = costless.QUESTION
    for changes in (
        {"search.hyperband_iterations": 2},
        {"space.head_width": [0, 8, 16]},
        {"space.learning_rate": {"min": 1e-4, "max": 1e-1, "sampling": "log"}},
        {"space.dropout": [0.0, 0.5]},
    ):
        assert refused_by_extension(old, old.override(changes)) == [], changes
    for changes in (
        {"search.max_epochs": 9},
        {"search.seed": 1},
        {"space.head_width": [8]},
        {"space.head_width": [8, 0, 16]},
        {"space.learning_rate": {"min": 1e-2, "max": 1e-1, "sampling": "log"}},
        {"space.learning_rate": {"min": 1e-4, "max": 1e-1}},
        {"space.dropout": [0.2, 0.5]},
        {"data.image_size": 64},
    ):
        assert len(refused_by_extension(old, old.override(changes))) == 1, changes
    assert len(refused_by_extension(MORE, old)) == 1


STEPPED = costless.QUESTION.override({"space.dropout": {"min": 0.3, "max": 0.5, "step": 0.1}})


@pytest.mark.parametrize(
    ("low", "high", "step", "taken"),
    [(0.1, 0.5, 0.1, True), (0.0, 0.9, 0.1, True), (0.3, 0.7, 0.1, True), (0.2, 0.4, 0.1, False)]
    + [(0.25, 0.5, 0.1, False), (0.1, 0.5, 0.05, False)],
)
def test_a_stepped_range_widens_where_its_values_stay(low: float, high: float, step: float, taken: bool) -> None:
    wider = STEPPED.override({"space.dropout": {"min": low, "max": high, "step": step}})
    assert (refused_by_extension(STEPPED, wider) == []) == taken
    before, after = (build(q, architecture(image_size=224)).choices("dropout") for q in (STEPPED, wider))
    assert before == (0.3, 0.4, 0.5) and after is not None
    assert not taken or set(before) <= set(after), "else a configuration would be trained twice"


def test_a_session_refuses_names_the_flag_and_then_extends(tmp_path: Path) -> None:
    small = {"search__max_epochs": 2, "search__factor": 2, "space__dropout": 0.0, "space__unfrozen_layers": 0}
    folder = make(tmp_path)
    search(folder, spec(**small))
    before = facts(folder)
    wider = spec(**small | {"space__head_width": [0, 8, 16]})
    more = wider.override({"search.hyperband_iterations": 2})
    with pytest.raises(StudyError, match=r"hyperband_iterations: 1 -> 2(.|\n)*--extend"):
        search(folder, more)
    with pytest.raises(StudyError, match=r"search.seed: 0 -> 5"):
        search(folder, more.override({"search.seed": 5}), extend=True)
    with pytest.raises(UsageError, match=r"--extend --set search.hyperband_iterations=2"):
        search(folder, wider, extend=True)
    assert facts(folder) == before
    search(folder, more, extend=True)
    kept(before, facts(folder))
    assert len(facts(folder)["trials"]) > len(before["trials"])
    search(folder, more)  # from here on it is this study's question
