"""A search that an earlier version was stopped in goes on to the same end, under the rules that it began with.

The databases were left by the version whose format was 2, in the middle of a bracket (of an endless and of a finite
space) and of the confirmation; `faults.costless` trains the same made-up network then and now.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from faults import costless
from search.studies import facts

from tuner.spec.configuration import Configuration
from tuner.spec.spec import Spec
from tuner.store.folder import StudyFolder
from tuner.store.store import Store

INTERRUPTED = Path(__file__).parents[1] / "golden" / "interrupted"
FINITE = costless.QUESTION.override(
    {"space.learning_rate": [0.03, 0.01], "space.head_width": [0, 8], "space.unfrozen_layers": [0, 10]}
)


def results(folder: StudyFolder) -> dict[str, Any]:
    """By configuration; the ids of trials are the older version's where that began them, and numbers of the last digit
    may be another processor's."""
    found = facts(folder)
    return {
        "configurations": [
            (*r[:3], Configuration.from_dict(json.loads(r[3])), *r[4:]) for r in found["configurations"]
        ],
        "trials": sorted((r[1:7] + (r[8], r[10])) for r in found["trials"]),
        "epochs": [(*r[:2], *map(near, r[3:-1])) for r in found["epochs"]],
        "confirmations": found["confirmations"],
        "openings": found["openings"],
        "held out": [r[:3] for r in found["held out"]],
        "kept": [r[:3] for r in found["checkpoints"]],
    }


def near(value: float | None) -> Any:
    return value if value is None else pytest.approx(value, rel=1e-5)


def as_told(found: dict[str, Any]) -> dict[str, Any]:
    return found | {"epochs": [tuple(getattr(v, "expected", v) for v in row) for row in found["epochs"]]}


@pytest.mark.parametrize(
    ("name", "question"), [("search", costless.QUESTION), ("finite", FINITE), ("confirmation", costless.QUESTION)]
)
def test_it_goes_on_to_the_same_end(tmp_path: Path, name: str, question: Spec) -> None:
    shutil.copytree(INTERRUPTED / name, tmp_path / "study")
    folder = StudyFolder(tmp_path / "study")
    with Store(folder.database, readonly=True) as store:
        begun = {r["id"] for r in store.rows("SELECT id FROM trials WHERE rung IS NOT NULL")}
        assert begun and all(id.isdigit() for id in begun)
        fixed = store.meta("confirmation")
    assert fixed is not None or name != "confirmation"
    costless.run(folder.root, question=question, numerics=3)
    if fixed is not None:  # it is confirmed by the rule of that time
        costless.run(tmp_path / "alone", question=question, numerics=3, confirm=False)
        with Store(tmp_path / "alone" / "study.db") as store:
            store.set_meta(confirmation=fixed)
    costless.run(tmp_path / "alone", question=question, numerics=3)
    assert as_told(results(folder)) == results(StudyFolder(tmp_path / "alone"))
    with Store(folder.database, readonly=True) as store:
        trials = {r["id"]: r["attempts"] for r in store.rows("SELECT id, attempts FROM trials")}
        tables = {r["name"] for r in store.rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert begun <= set(trials) and set(trials.values()) == {1}, "what was trained is not trained again"
    assert "oracle" not in tables and "photographs" not in tables
