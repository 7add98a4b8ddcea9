"""What happens around a search: a database that a crash left empty, `--fresh`, photographs that go away, no memory."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from search.studies import facts, make, search, spec

from tuner.artifacts.files import sha256_of
from tuner.errors import RunError, StoreError, UsageError
from tuner.evidence.results import Results
from tuner.search import driver
from tuner.search.events import Event, Notice, Phase
from tuner.store.folder import StudyFolder
from tuner.store.locate import write_study
from tuner.store.options import resolve

QUICK = {"space__unfrozen_layers": 0, "space__dropout": 0.0, "search__max_epochs": 1, "confirm__seeds": 1}


@pytest.fixture
def copy(finished: StudyFolder, tmp_path: Path) -> StudyFolder:
    shutil.copytree(finished.root, tmp_path / "copy")
    return StudyFolder(tmp_path / "copy")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def journal_only(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
    database.close()


@pytest.mark.parametrize("left", [empty, journal_only], ids=["nothing in it", "made and never written to"])
def test_a_database_that_a_crash_left_empty_is_begun(tmp_path: Path, left: Any) -> None:
    folder = make(tmp_path / "study")
    write_study(folder, spec(**QUICK), "")
    left(folder.database)
    assert not folder.has_results
    asked = resolve(folder, {})
    search(folder, asked.spec)
    assert folder.has_results and Results.open(folder.database).study.state == "finished"


@pytest.mark.parametrize("damage", ["PRAGMA user_version = -1", "UPDATE configurations SET hyperparameters = '{'"])
def test_content_that_cannot_be_is_named_and_left(copy: StudyFolder, damage: str) -> None:
    with sqlite3.connect(copy.database) as database:
        database.execute(damage)
    database.close()
    before = copy.database.read_bytes()
    with pytest.raises(StoreError, match=r"study\.db: cannot be used as a study's database"):
        Results.open(copy.database)
    assert copy.database.read_bytes() == before


@pytest.mark.parametrize("wrong", [{"backbone__weights": "nosuch.h5"}, {"data__path": "nowhere"}])
def test_a_fresh_search_that_cannot_run_moves_nothing(copy: StudyFolder, wrong: dict[str, str]) -> None:
    before = facts(copy)
    with pytest.raises(UsageError):
        search(copy, spec(**wrong), fresh=True)
    assert facts(copy) == before and not copy.previous.exists()


def test_photographs_that_go_away_meanwhile_are_noticed(tmp_path: Path) -> None:
    folder = make(tmp_path / "study")

    def remove(event: Event) -> None:
        if isinstance(event, Phase) and event.name == "search":
            (folder.root / "photos" / "train" / "cat" / "00.jpg").unlink()

    events = search(folder, spec(**QUICK), remove)
    said = [e.text for e in events if isinstance(e, Notice) and e.warning and "while the search ran" in e.text]
    assert len(said) == 1
    assert said[0].startswith("1 photograph changed or went away while the search ran: train/cat/00.jpg. The results")


def test_memory_that_runs_out_outside_of_a_trial_is_one_message(
    copy: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: Any, **__: Any) -> None:
        raise MemoryError

    before = facts(copy)
    monkeypatch.setattr(driver.Driver, "run", none_left)
    with pytest.raises(RunError, match="memory ran out outside of a trial .* run the same command again"):
        search(copy)
    monkeypatch.undo()
    assert facts(copy) == before


def test_lost_weights_that_are_kept_are_trained_again_to_the_same_numbers(
    copy: StudyFolder, finished: StudyFolder
) -> None:
    """Winner, baseline, reference, logistic regression and all fresh seeds: damaged, cut short or gone."""
    kept = sorted(copy.checkpoints.iterdir())
    assert len(kept) == 8
    kept[0].unlink()
    kept[1].write_bytes(b"")
    for path in kept[2:]:
        data = bytearray(path.read_bytes())
        data[600] ^= 1
        path.write_bytes(data)
    events = search(copy)
    said = [e.text for e in events if isinstance(e, Notice) and "missing or damaged" in e.text]
    assert len(said) == 8
    assert facts(copy) == facts(finished)
    assert {p.name: sha256_of(p) for p in copy.checkpoints.iterdir()} == {
        p.name: sha256_of(p) for p in finished.checkpoints.iterdir()
    }
    assert not [e for e in search(copy) if isinstance(e, Notice) and "missing or damaged" in e.text]
