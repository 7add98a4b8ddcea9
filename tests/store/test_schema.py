"""Studies of every format there was can be read; an older one is brought up to date whole or not at all."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tuner.artifacts.files import sha256_of
from tuner.errors import StoreError
from tuner.evidence.results import Results
from tuner.spec.configuration import renamed
from tuner.store import schema
from tuner.store.store import Store

GOLDEN = sorted(p for p in (Path(__file__).parents[1] / "golden").iterdir() if p.is_dir() and p.name.isdigit())
NEXT = "ALTER TABLE trials ADD COLUMN memo TEXT; UPDATE trials SET memo = 'from ' || id"


def test_there_is_a_golden_study_of_every_format() -> None:
    assert [int(p.name) for p in GOLDEN] == list(range(1, schema.FORMAT + 1))


ESTIMATED = {"sentence", "evidence", "selection", "balanced", "probabilities", "collapsed"}
ESTIMATED |= {"compared", "compared_other", "compared_unfrozen"}
"""What is computed anew by today's statistics from the predictions that are stored, as they are."""


def says(found: Any, wanted: Any) -> bool:
    """Whether everything wanted is there, by today's names; there may be more by now."""
    if isinstance(wanted, dict):
        wanted = renamed(wanted)
        return all(key in found and (key in ESTIMATED or says(found[key], wanted[key])) for key in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(says(a, b) for a, b in zip(found, wanted, strict=True))
    return bool(found == wanted)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda p: f"format {p.name}")
def test_a_golden_study_says_what_it_said(golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(golden, folder)
    before = sha256_of(folder / "study.db")
    wanted = json.loads((golden / "report.json").read_text())
    found = json.loads(Results.open(folder / "study.db").to_json())
    assert says(found, wanted)
    assert sha256_of(folder / "study.db") == before, "reading changes nothing"
    with Store(folder / "study.db") as store:
        assert store.rows("PRAGMA user_version")[0][0] == schema.FORMAT
        for saved in store.rows("SELECT file, sha256 FROM checkpoints"):
            assert sha256_of(folder / "checkpoints" / saved["file"]) == saved["sha256"]


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of today's format, as a program with one format more sees it."""
    shutil.copy(GOLDEN[-1] / "study.db", tmp_path / "study.db")
    assert GOLDEN[-1].name == str(schema.FORMAT)
    monkeypatch.setitem(schema.MIGRATIONS, schema.FORMAT, NEXT)
    monkeypatch.setattr(schema, "FORMAT", schema.FORMAT + 1)
    return tmp_path / "study.db"


def test_an_older_file_is_read_as_it_is_and_brought_up_to_date_by_who_writes(older: Path) -> None:
    before = older.read_bytes()
    with Store(older, readonly=True) as store:
        memos = [r[0] for r in store.rows("SELECT memo FROM trials ORDER BY id")]
        assert memos and all(memo.startswith("from ") for memo in memos)
    assert older.read_bytes() == before
    with Store(older) as store:
        assert [r[0] for r in store.rows("SELECT memo FROM trials ORDER BY id")] == memos
    with sqlite3.connect(older) as plain:
        assert plain.execute("PRAGMA user_version").fetchone()[0] == schema.FORMAT
    with Store(older) as store:
        assert len(store.rows("SELECT memo FROM trials")) == len(memos), "once is enough"


def test_a_change_that_fails_half_way_changes_nothing(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(schema.MIGRATIONS, schema.FORMAT - 1, NEXT + "; INSERT INTO no_such_table VALUES (1)")
    with pytest.raises(StoreError, match="no such table"):
        Store(older)
    with sqlite3.connect(older) as plain:
        assert plain.execute("PRAGMA user_version").fetchone()[0] == schema.FORMAT - 1
        assert "memo" not in [row[1] for row in plain.execute("PRAGMA table_info(trials)")]
