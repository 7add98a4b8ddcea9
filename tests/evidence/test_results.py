"""Results on real study.db files: merging, ranking, the baseline, what an unfinished study gives."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from made_study import FINISHED, INTERRUPTED, MANY, NO_TRIAL_YET, SIX_CLASSES, THREE_CLASSES, Made, make_study

from tuner.errors import StoreError
from tuner.evidence.results import Results
from tuner.evidence.statistics import wilson
from tuner.store.store import EpochRow, Store, TrialRow

VARIANTS = {
    "finished": FINISHED,
    "interrupted": INTERRUPTED,
    "none": NO_TRIAL_YET,
    "six": SIX_CLASSES,
    "three": THREE_CLASSES,
    "many": MANY,
}


def results(folder: Path, made: Made = FINISHED, *, running: bool = False) -> Results:
    return Results.open(make_study(folder, made), running)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_configuration_is_one_row_whatever_rungs_it_went_through(tmp_path: Path, name: str) -> None:
    found = results(tmp_path, VARIANTS[name])
    table, epochs, trials = found.configurations(), found.epochs(), found.trials()
    assert table["id"].is_unique
    assert set(trials["configuration"]) <= set(table["id"])
    assert int(table["epochs"].sum()) == len(epochs)
    assert not epochs.duplicated(["configuration", "epoch"]).any()
    for row in table[table["status"].isin(["completed", "failed"])].to_dict(orient="records"):
        assert row["epochs"] == trials[trials["configuration"] == row["id"]]["last_epoch"].max()
        assert row["seconds"] == pytest.approx(trials[trials["configuration"] == row["id"]]["seconds"].sum())


@pytest.mark.parametrize("name", ["finished", "interrupted", "three", "six"])
def test_the_best_epoch_is_the_objectives_and_its_predictions_give_its_accuracy(tmp_path: Path, name: str) -> None:
    found = results(tmp_path, VARIANTS[name])
    epochs, by_loss = found.epochs(), VARIANTS[name].objective == "val_loss"
    for row in found.configurations().dropna(subset=["best_epoch"]).to_dict(orient="records"):
        own = epochs[epochs["configuration"] == row["id"]].dropna(subset=["val_loss"])
        keys = ["val_loss", "val_accuracy", "epoch"] if by_loss else ["val_accuracy", "val_loss", "epoch"]
        best = own.sort_values(keys, ascending=[k != "val_accuracy" for k in keys]).iloc[0]
        assert (row["best_epoch"], row["val_loss"]) == (best["epoch"], best["val_loss"])
        table = found.confusion(row["id"])
        assert table is not None
        assert (table.trace(), table.sum()) == (row["correct"], row["validation"])
        assert (row["low"], row["high"]) == wilson(row["correct"], row["validation"])


@pytest.mark.parametrize("name", VARIANTS)
def test_the_ranking_follows_its_rule(tmp_path: Path, name: str) -> None:
    found = results(tmp_path, VARIANTS[name])
    rows = found.ranking().fillna({"val_loss": float("inf"), "val_accuracy": -1.0}).to_dict(orient="records")
    for a, b in pairwise(rows):
        first = "val_loss" if VARIANTS[name].objective == "val_loss" else "val_accuracy"
        sign = 1 if first == "val_loss" else -1
        keys = [
            (r["status"] == "failed", not r["full"], sign * r[first], r["val_loss"], -r["epochs"], r["number"])
            for r in (a, b)
        ]
        assert keys[0] < keys[1]


def put(
    store: Store, id: str, number: int, kind: str, last: int, loss: float, accuracy: float, status: str = "COMPLETED"
) -> None:
    values = {
        "unfrozen_layers": 0,
        "learning_rate": 1e-3,
        "head_width": 0,
        "dropout": 0.0,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "backbone_lr_multiplier": 1.0,
    }
    store.add_configuration(id, kind, number, values, "pooled", 2049)
    store.begin_trial(TrialRow(id, id, None, None, None, 0, last, None), None)
    for epoch in range(1, last + 1):
        store.record_epoch(id, id, EpochRow(epoch, 0.1, 1.0, loss, accuracy, 0.1, 92), None, ())
    store.end_trial(id, status, loss, 1, None, 1.0)


@pytest.mark.parametrize(
    ("objective", "order"),
    [("val_loss", ["c2", "c1", "c0", "c3", "c4", "c5"]), ("val_accuracy", ["c1", "c0", "c3", "c2", "c4", "c5"])],
)
def test_ties_are_broken_by_loss_then_number_and_short_or_failed_ones_never_win(
    tmp_path: Path, objective: str, order: list[str]
) -> None:
    database = make_study(tmp_path, replace(NO_TRIAL_YET, objective=objective))
    with Store(database) as store, store.transaction():
        put(store, "c0", 0, "search", 9, 0.4, 0.9)
        put(store, "c1", 1, "search", 9, 0.3, 0.9)
        put(store, "c2", 2, "search", 9, 0.2, 0.8)
        put(store, "c3", 3, "search", 9, 0.4, 0.9)
        put(store, "c4", 4, "search", 3, 0.1, 1.0)
        put(store, "c5", 5, "search", 9, 0.05, 1.0, "FAILED")
    found = Results.open(database)
    assert list(found.ranking()["id"]) == order
    winner = found.winner()
    assert winner is not None
    assert winner["id"] == order[0]
    assert winner["best_epoch"] == 1, "the earliest of equal epochs"


def test_differences_are_to_the_best_baseline(tmp_path: Path) -> None:
    found = results(tmp_path)
    baseline, reference = found.baseline(), found.reference()
    assert baseline is not None and reference is not None
    assert baseline["val_loss"] == found.configurations().query("kind == 'baseline'")["val_loss"].min()
    for row in found.ranking(None).dropna(subset=["val_loss"]).to_dict(orient="records"):
        assert row["images_over_baseline"] == row["correct"] - baseline["correct"]
        assert row["loss_over_baseline"] == row["val_loss"] - baseline["val_loss"]
    assert baseline["images_over_baseline"] == 0 and baseline["loss_over_baseline"] == 0.0


def test_a_failed_configuration_keeps_its_reason_and_misses_its_numbers(tmp_path: Path) -> None:
    row = results(tmp_path).ranking().iloc[-1]
    assert (row["id"], row["status"], row["reason"]) == ("c004", "failed", "the loss became NaN in epoch 1")
    assert row[["val_loss", "correct", "low", "images_over_baseline"]].isna().all()


@pytest.mark.parametrize(
    ("made", "running", "state", "last"),
    [
        (FINISHED, False, "finished", "completed"),
        (FINISHED, True, "running", "completed"),
        (INTERRUPTED, False, "interrupted", "interrupted"),
        (INTERRUPTED, True, "running", "running"),
    ],
)
def test_the_state_comes_from_the_last_session_and_the_lock(
    tmp_path: Path, made: Made, running: bool, state: str, last: str
) -> None:
    found = results(tmp_path, made, running=running)
    assert found.study.state == state
    assert found.trials().iloc[-1]["status"] == last


def test_an_empty_database_gives_empty_tables_and_nothing_best(tmp_path: Path) -> None:
    Store(tmp_path / "study.db").close()
    found = Results.open(tmp_path / "study.db")
    assert found.study.state == "not started"
    assert (
        found.winner(),
        found.baseline(),
        found.reference(),
        found.confusion("c000"),
        found.predictions("c000"),
    ) == (None,) * 5
    full = results(tmp_path / "other")
    for name in ("configurations", "trials", "epochs", "ranking", "rungs"):
        empty, filled = getattr(found, name)(), getattr(full, name)()
        assert empty.empty
        assert list(empty.columns) == list(filled.columns)


def test_the_rungs_add_up_to_the_plan(tmp_path: Path) -> None:
    rungs = results(tmp_path).rungs()
    assert (rungs["state"] == "done").all()
    assert (rungs["ended"] == rungs["planned"]).all()
    assert rungs["failed"].sum() == 1
    for row, after in zip(rungs.to_dict(orient="records"), rungs.to_dict(orient="records")[1:], strict=False):
        if after["bracket"] == row["bracket"]:
            assert len(row["promoted"]) == after["planned"]
    assert set(results(tmp_path / "cut", INTERRUPTED).rungs()["state"]) == {"done", "cut off", "not reached"}


def test_a_photograph_in_two_splits_is_seen_from_the_stored_facts(tmp_path: Path) -> None:
    database = make_study(tmp_path)
    assert Results.open(database).study.leaked == 0
    with sqlite3.connect(database) as raw:
        raw.execute("UPDATE images SET sha256 = (SELECT sha256 FROM images WHERE number = 0) WHERE number = 80")
    assert Results.open(database).study.leaked == 1


def test_a_search_that_writes_meanwhile_is_not_seen_in_part(tmp_path: Path) -> None:
    database = make_study(tmp_path)
    before = Results.open(database)
    with Store(database) as store, store.transaction():
        put(store, "c900", 900, "search", 9, 0.001, 1.0)
        assert list(Results.open(database).ranking()["id"]) == list(before.ranking()["id"])
    winner = Results.open(database).winner()
    assert winner is not None
    assert winner["id"] == "c900"


def test_what_is_no_study_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nothing\.db"):
        Results.open(tmp_path / "nothing.db")
    (tmp_path / "text.db").write_text("not a database, but long enough to be taken for one" * 40)
    with pytest.raises(StoreError, match=r"text\.db"):
        Results.open(tmp_path / "text.db")


def test_tables_are_copies(tmp_path: Path) -> None:
    found = results(tmp_path)
    for table in (found.configurations(), found.ranking()):
        table.loc[:, "val_loss"] = 0.0
    assert (found.configurations()["val_loss"] != 0.0).all()


def test_figures_that_the_stored_predictions_do_not_bear_out_are_set_right_and_said(tmp_path: Path) -> None:
    database = make_study(tmp_path)
    before = Results.open(database)
    assert not any("study.db says" in warning for warning in before.study.warnings)
    last = before.ranking().query("status != 'failed' and full").iloc[-1]
    with Store(database) as store:
        edit = "UPDATE epochs SET val_accuracy = 1, val_loss = 0.001 WHERE configuration = ? AND epoch = ?"
        store.write(edit, last["id"], int(last["best_epoch"]))
        store.write("UPDATE trials SET score = 0.001 WHERE configuration = ?", last["id"])
    after = Results.open(database)
    said = after.study.warnings[0]
    assert f"{last['id']}, epoch {last['best_epoch']}: 20/20 correct, by the predictions {last['correct']}/20" in said
    assert f"loss 0.0010, by the predictions {last['val_loss']:.4f}" in said
    assert list(after.ranking()["id"]) == list(before.ranking()["id"])
    assert after.ranking()["correct"].equals(before.ranking()["correct"])
    assert after.trials()["score"].dropna().min() > 0.001


@pytest.mark.parametrize("format", ["1", "2", "3", "4", "5", "6"])
def test_what_searches_recorded_is_borne_out_by_their_predictions(format: str) -> None:
    """Of every format: the loss from logits in float64 and from probabilities in float32 are the same here."""
    found = Results.open(Path(__file__).parents[1] / "golden" / format / "study.db")
    assert len(found.ranking(None)) and not any("study.db says" in warning for warning in found.study.warnings)
