"""A whole search over a tiny folder: it ends as planned, once is enough, and another question is refused."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from image_files import image_file
from search.studies import facts, make, search, spec

from tuner.artifacts.files import sha256_of
from tuner.backbones.architecture import architecture
from tuner.backends import backend
from tuner.errors import Interrupted, SearchError, StoreError, StudyError
from tuner.evidence.results import Results
from tuner.search.events import EpochEnded, Event, Notice, Planned, Progress, TrialEnded, TrialStarted
from tuner.store.folder import StudyFolder
from tuner.store.store import Store


@pytest.fixture
def copy(finished: StudyFolder, tmp_path: Path) -> StudyFolder:
    shutil.copytree(finished.root, tmp_path / "copy")
    return StudyFolder(tmp_path / "copy")


# ---- a study that is taken away while it is searched ----


@pytest.mark.parametrize("event", [EpochEnded, TrialEnded])
def test_a_study_that_is_moved_stops_and_goes_on_where_it_is(
    finished: StudyFolder, tmp_path: Path, event: type[Event]
) -> None:
    folder, moved = make(tmp_path / "here"), tmp_path / "there"

    def move(happened: Event) -> None:
        if isinstance(happened, event) and happened.kind == "search" and not moved.exists():  # type: ignore[attr-defined]
            folder.root.rename(moved)

    with pytest.raises(StoreError, match="was moved or removed while a search wrote to it"):
        search(folder, on=move)
    assert not folder.root.exists(), "nothing is trained, or written, where it was"
    search(StudyFolder(moved))
    assert facts(StudyFolder(moved)) == facts(finished)


def test_a_study_that_is_removed_stops(tmp_path: Path) -> None:
    folder, ended = make(tmp_path / "here"), []

    def remove(happened: Event) -> None:
        if isinstance(happened, TrialEnded):
            ended.append(happened)
            shutil.rmtree(folder.root, ignore_errors=True)

    with pytest.raises(StoreError, match="was moved or removed"):
        search(folder, on=remove)
    assert len(ended) == 1 and not folder.root.exists()


# ---- a finished search ----


def test_it_ends_finished_with_the_planned_trials(finished: StudyFolder) -> None:
    with Store(finished.database, readonly=True) as store:
        plan = store.meta("plan")
        trials = store.rows("SELECT * FROM trials")
        outcomes = [r["outcome"] for r in store.rows("SELECT outcome FROM sessions")]
        kinds = {r["id"]: r["kind"] for r in store.rows("SELECT id, kind FROM configurations")}
    assert outcomes == ["finished"]
    assert plan == [
        {"iteration": 0, "bracket": 1, "sizes": [3, 1], "epochs": [1, 3]},
        {"iteration": 0, "bracket": 0, "sizes": [2], "epochs": [3]},
    ]
    assert {r["status"] for r in trials} == {"COMPLETED"}
    searched = [r for r in trials if kinds[r["configuration"]] == "search"]
    wanted = {(0, b["bracket"], rung): size for b in plan for rung, size in enumerate(b["sizes"])}
    assert Counter((r["iteration"], r["bracket"], r["rung"]) for r in searched) == wanted
    counted = Counter(kinds.values())
    assert counted.pop("seed") in (2, 4), "two of the winner, and of the baseline if it has seeds"
    assert counted == {"baseline": 8, "reference": 1, "logistic": 2, "search": 5}
    assert all(r["attempts"] == 1 for r in trials)


def test_each_configuration_has_each_epoch_once(finished: StudyFolder) -> None:
    results = Results.open(finished.database)
    table = results.configurations()
    for row in table.to_dict(orient="records"):
        epochs = results.epochs().query("configuration == @row['id']")["epoch"].tolist()
        assert epochs == list(range(1, int(row["epochs"]) + 1))
    assert set(table[table["kind"].isin(["baseline", "reference"])]["epochs"]) == {3}
    assert set(table[table["kind"] == "logistic"]["epochs"]) == {1}


def test_every_prediction_is_its_best_epochs(finished: StudyFolder) -> None:
    results = Results.open(finished.database)
    for row in results.configurations().to_dict(orient="records"):
        shares = results.predictions(row["id"])
        assert shares is not None and shares.shape == (8, 2)
        right = shares.argmax(axis=1) == results.study.val_labels
        assert right.mean() == pytest.approx(row["val_accuracy"])


def test_the_promoted_one_was_its_rungs_best(finished: StudyFolder) -> None:
    with Store(finished.database, readonly=True) as store:
        rows = store.rows("SELECT * FROM trials WHERE bracket = 1 ORDER BY id")
    first, second = [r for r in rows if r["rung"] == 0], [r for r in rows if r["rung"] == 1]
    assert [r["parent"] for r in second] == [min(first, key=lambda r: r["score"])["id"]]
    assert [(r["first_epoch"], r["last_epoch"]) for r in second] == [(1, 3)]


def test_only_the_best_weights_of_winner_baselines_reference_and_fresh_seeds_stay(finished: StudyFolder) -> None:
    results = Results.open(finished.database)
    best = [r["id"] for r in (results.winner(), *results.baselines(), results.reference()) if r is not None]
    with Store(finished.database, readonly=True) as store:
        kept = {
            (r["configuration"], r["role"], r["file"], r["sha256"]) for r in store.rows("SELECT * FROM checkpoints")
        }
    seeds = list(results.configurations().query("kind == 'seed'")["id"])
    assert {(c, role) for c, role, _, _ in kept} == {(c, "best") for c in (*best, *seeds)}
    assert (len(best), len(seeds)) == (4, 4)
    assert {p.name: sha256_of(p) for p in finished.checkpoints.iterdir()} == {file: sha for _, _, file, sha in kept}


def test_the_cuts_are_those_the_space_needs(finished: StudyFolder) -> None:
    with Store(finished.database, readonly=True) as store:
        rows = store.rows("SELECT hyperparameters, cut FROM configurations")
    network = architecture(image_size=32)
    for row in rows:
        assert row["cut"] == network.cut_for(json.loads(row["hyperparameters"])["unfrozen_layers"], "frozen")
    assert {r["cut"] for r in rows} == {"pooled", "conv5_block2"}


def test_the_baseline_is_the_frozen_part_of_the_space(finished: StudyFolder) -> None:
    results = Results.open(finished.database)
    table = results.ranking("baseline")
    assert len(table) == 8 and set(table["unfrozen_layers"]) == {0}
    assert table["learning_rate"].between(1e-4, 1e-2).all() and set(table["head_width"]) == {0, 8}
    reference = results.reference()
    assert reference is not None
    assert (reference["learning_rate"], reference["head_width"], reference["unfrozen_layers"]) == (1e-3, 0, 0)


# ---- nothing twice ----


def test_a_second_session_trains_nothing_and_computes_nothing(
    copy: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = facts(copy)
    passes: list[Any] = []
    monkeypatch.setattr(backend, "forward", lambda model: passes.append(model))
    events = search(copy)
    assert not [e for e in events if isinstance(e, EpochEnded | TrialStarted | TrialEnded)]
    assert not passes, "no feature is computed"
    planned = next(e for e in events if isinstance(e, Planned))
    assert planned.done == planned.total == 17
    assert facts(copy) == before


def test_events_tell_what_the_store_holds(finished: StudyFolder, tmp_path: Path) -> None:
    folder = make(tmp_path / "told")
    held: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, EpochEnded):
            with Store(folder.database, readonly=True) as store:
                row = store.rows(
                    "SELECT val_loss FROM epochs WHERE configuration = ? AND epoch = ?",
                    event.configuration,
                    event.row.epoch,
                )
            held.append(row[0][0] == event.row.val_loss)

    question = spec(search__max_epochs=1, search__factor=2, space__unfrozen_layers=0)
    events = search(folder, question, listen)
    assert held and all(held), "an event is in the store before it is told"
    ended = [e for e in events if isinstance(e, TrialEnded)]
    planned = next(e for e in events if isinstance(e, Planned))
    assert len([e for e in ended if e.kind != "seed"]) == planned.total
    assert all(e.seconds_left is None or e.seconds_left >= 0 for e in ended)
    begun = [e for e in events if isinstance(e, TrialStarted)]
    assert [e.trial for e in begun] == [e.trial for e in events if isinstance(e, TrialEnded)]


# ---- stopping, damage ----


def stop_when(folder: StudyFolder, when: Any) -> list[Event]:
    """Searches until `when(event)`, then asks to stop; the search must say it was interrupted."""
    stop, events = threading.Event(), []

    def listen(event: Event) -> None:
        events.append(event)
        if when(event):
            stop.set()

    with pytest.raises(Interrupted, match="everything finished is kept"):
        search(folder, on=listen, stop=stop)
    return events


def test_stopped_and_resumed_is_uninterrupted(finished: StudyFolder, tmp_path: Path) -> None:
    """In the middle of a baseline's trial, after a trial, and in the middle of a promoted one."""
    folder = make(tmp_path / "stopped")
    first = stop_when(folder, lambda e: isinstance(e, EpochEnded) and e.configuration == "b01")
    last = [e for e in first if isinstance(e, EpochEnded)][-1]
    assert not [e for e in first if isinstance(e, Progress) and e.phase == "features"], "another study had made them"
    assert last.configuration == "b01" and last.row.epoch < 3, "it stopped inside the trial"
    with Store(folder.database, readonly=True) as store:
        saved = store.checkpoints().get(("b01", "last"))
        assert saved is not None and saved.epoch == last.row.epoch
        assert [r["outcome"] for r in store.rows("SELECT outcome FROM sessions")] == ["interrupted"]
    second = stop_when(folder, lambda e: isinstance(e, TrialEnded) and e.trial == "c001-rung0")
    assert [e for e in second if isinstance(e, EpochEnded)][0].row.epoch == last.row.epoch + 1, "no epoch is redone"
    stop_when(folder, lambda e: isinstance(e, TrialStarted) and e.rung == 1)
    search(folder)
    assert facts(folder) == facts(finished)
    with Store(folder.database, readonly=True) as store:
        assert {r["attempts"] for r in store.rows("SELECT attempts FROM trials")} == {1}, "stopping is not failing"


def test_a_damaged_checkpoint_is_trained_again_to_the_same_numbers(finished: StudyFolder, tmp_path: Path) -> None:
    folder = make(tmp_path / "damaged")
    stop_when(folder, lambda e: isinstance(e, TrialEnded) and e.trial == "c002-rung0")
    last = list(folder.checkpoints.glob("c*-last-*"))
    assert len(last) == 1, "only the one that will be promoted"
    data = bytearray(last[0].read_bytes())
    data[len(data) // 2] ^= 1
    last[0].write_bytes(data)
    events = search(folder)
    told = [e.text for e in events if isinstance(e, Notice) and last[0].name in e.text]
    assert len(told) == 1 and "missing or damaged" in told[0]
    assert facts(folder) == facts(finished)


def test_a_stray_checkpoint_file_is_swept(copy: StudyFolder) -> None:
    stray = copy.checkpoints / "c099-last-00001.npz"
    half = copy.checkpoints / ".c001-best-00001.npz.77.part"
    for path in (stray, half):
        path.write_bytes(b"left by a kill")
    search(copy)
    assert not stray.exists() and not half.exists()


def test_when_every_configuration_fails_the_search_says_why(tmp_path: Path) -> None:
    """A weight decay of 10 a step multiplies the weights by -9: the loss overflows within the first epoch."""
    folder = make(tmp_path / "failing")
    question = spec(
        space__unfrozen_layers=10,
        space__weight_decay=1.0,
        space__learning_rate={"min": 9.9, "max": 10.0},
        space__head_width=8,
        search__batch_size=1,
    )
    with pytest.raises(SearchError, match="bracket 1, rung 0 failed .3.: .*the (training|validation) loss was"):
        search(folder, question)
    with Store(folder.database, readonly=True) as store:
        rows = store.rows("SELECT status, reason, score FROM trials WHERE bracket = 1")
        assert [r["outcome"] for r in store.rows("SELECT outcome FROM sessions")] == ["failed"]
    assert len(rows) == 3 and {(r["status"], r["score"]) for r in rows} == {("FAILED", None)}
    assert all("loss was" in r["reason"] for r in rows)


# ---- another question ----


def test_a_changed_study_file_is_refused_with_the_difference(copy: StudyFolder) -> None:
    before = facts(copy)
    with pytest.raises(StudyError) as refused:
        search(copy, spec(search__seed=7, space__head_width=[0, 8, 16]))
    message = str(refused.value)
    assert "search.seed: 0 -> 7" in message and "space.head_width: [0, 8] -> [0, 8, 16]" in message
    assert "--fresh" in message and facts(copy) == before


def test_changed_photographs_are_refused(copy: StudyFolder) -> None:
    image_file(copy.root / "photos" / "train" / "cat" / "00.jpg", 4711)
    with pytest.raises(StudyError, match="the photographs changed"):
        search(copy)


def test_another_machine_is_refused(copy: StudyFolder) -> None:
    with Store(copy.database) as store:
        store.set_meta(environment=store.meta("environment") | {"keras": "1.0"})
    with pytest.raises(StudyError, match=r"keras: 1\.0 -> "):
        search(copy)


def test_another_processor_is_said_once(copy: StudyFolder) -> None:
    """It may round differently, and a study has to go on although its machine is no more."""
    with Store(copy.database) as store:
        told = json.loads(store.rows("SELECT environment FROM sessions")[0][0]) | {"processor": "Abacus 2", "cores": 1}
        store.write("UPDATE sessions SET environment = ?", json.dumps(told))
    for times in (1, 0):
        said = [e.text for e in search(copy) if isinstance(e, Notice) and "ran on Abacus 2, 1 core before" in e.text]
        assert len(said) == times


def test_a_study_of_a_version_that_rounded_otherwise_is_refused(copy: StudyFolder) -> None:
    """Also one from before the number was kept."""
    with Store(copy.database) as store:
        before = store.meta("environment")
        del before["numerics"]
        store.set_meta(environment=before)
    with pytest.raises(StudyError, match=r"numerics: 1 -> "):
        search(copy)


def test_other_weights_are_refused(copy: StudyFolder) -> None:
    """As when a file of the same name holds other numbers: its key is another."""
    with Store(copy.database) as store:
        store.set_meta(weights_key=store.meta("weights_key") + "0")
    with pytest.raises(StudyError, match=r"made with other weights \(random\).*different numbers.*--fresh"):
        search(copy)
