"""What the search keeps the weights of is what the report calls best."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_study import FINISHED, INTERRUPTED, MANY, SIX_CLASSES, UNTRAINED, Made, make_study

from tuner.evidence.results import Results
from tuner.search.standing import Standing
from tuner.store.store import Store

VARIANTS = {"finished": FINISHED, "many": MANY, "six": SIX_CLASSES, "untrained": UNTRAINED, "cut off": INTERRUPTED}


def agree(database: Path, kind: str) -> None:
    results = Results.open(database)
    search = results.study.spec.search
    with Store(database, readonly=True) as store:
        running = {r[0] for r in store.rows("SELECT configuration FROM trials WHERE status = 'RUNNING'")}
        leaders = Standing(store, search.objective, search.max_epochs).leaders(kind)
    ranked = results.ranking(kind)
    ended = ranked[ranked["status"] == "completed"]
    # What runs keeps its weights anyway.
    assert [configuration for _, configuration in leaders if configuration not in running] == list(ended["id"])


@pytest.mark.parametrize("objective", ["val_loss", "val_accuracy"])
@pytest.mark.parametrize("made", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("kind", ["search", "baseline"])
def test_the_search_and_the_report_rank_alike(tmp_path: Path, made: Made, kind: str, objective: str) -> None:
    database = make_study(tmp_path, made)
    with Store(database) as store, store.transaction():
        spec = store.meta("spec")
        spec["search"]["objective"] = objective
        store.set_meta(spec=spec)
        # Ties in everything that is measured, as twenty photographs make them.
        store._db.execute("UPDATE epochs SET val_loss = round(val_loss, 1), val_accuracy = round(val_accuracy, 1)")
    agree(database, kind)


def test_a_leader_that_fails_in_a_later_rung_leads_neither(tmp_path: Path) -> None:
    database = make_study(tmp_path)
    winner = Results.open(database).winner()
    assert winner is not None
    with Store(database) as store, store.transaction():
        store._db.execute(
            "UPDATE trials SET status = 'FAILED' WHERE configuration = ? AND last_epoch = "
            "(SELECT MAX(last_epoch) FROM trials WHERE configuration = ?)",
            (winner["id"], winner["id"]),
        )
    agree(database, "search")
    second = Results.open(database).winner()
    assert second is not None and second["id"] != winner["id"]
