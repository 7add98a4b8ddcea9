"""study.db: what is not ours is refused untouched, what is ours lands whole or not at all, readers never wait."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_study import FINISHED, make_study
from programs import running

from tuner.errors import StoreError
from tuner.store.schema import APPLICATION, FORMAT
from tuner.store.store import EpochRow, Saved, Store, TrialRow

EPOCH = EpochRow(1, 0.7, 0.5, 0.6, 0.75, 1.5, 12)


def everything(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def one_trial(store: Store, trial: str = "0000", configuration: str = "c000", number: int = 0) -> None:
    store.add_configuration(configuration, "search", number, {"unfrozen_layers": 10}, "conv5_block2", None)
    store.begin_trial(TrialRow(trial, configuration, 0, 1, 0, 0, 3, None))


@contextmanager
def without_permission(folder: Path) -> Iterator[None]:
    """Nobody may write into the folder; root, who always may, becomes nobody for a while."""
    root = os.geteuid() == 0
    folder.chmod(0o555)
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            (folder / "new").touch()
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may look into, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="tlstudy-store-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


# ---- what is refused -----------------------------------------------------------------------------------------------


def another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE albums (name TEXT)")
        db.execute("INSERT INTO albums VALUES ('holiday')")


def another_program_with_a_name(path: Path) -> None:
    another_program(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA application_id = 1196444487")


def newer_version(path: Path) -> None:
    Store(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA user_version = {FORMAT + 1}")


def text_file(path: Path) -> None:
    path.write_text("dear diary, " * 200)


def short_text_file(path: Path) -> None:
    path.write_text("x")


def a_photograph(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 16)


REFUSED = {
    another_program: "is another program's database; it was left untouched",
    another_program_with_a_name: "is another program's database; it was left untouched",
    newer_version: f"has format {FORMAT + 1}, this version reads up to {FORMAT}",
    text_file: "cannot be used as a study's database",
    short_text_file: "cannot be used as a study's database",
    a_photograph: "cannot be used as a study's database",
}


@pytest.mark.parametrize("readonly", [True, False])
@pytest.mark.parametrize("make", REFUSED)
def test_what_is_not_a_study_is_refused_by_name_and_left_as_it_is(tmp_path: Path, make: object, readonly: bool) -> None:
    path = tmp_path / "study.db"
    make(path)  # type: ignore[operator]
    before = everything(tmp_path)
    with pytest.raises(StoreError) as caught:
        Store(path, readonly=readonly)
    assert str(caught.value).startswith(f"{path}: {REFUSED[make]}")  # type: ignore[index]
    after = everything(tmp_path)
    assert {name: after[name] for name in before} == before
    assert not set(after) - set(before) - {"study.db-shm", "study.db-wal"}


@pytest.mark.parametrize("readonly", [True, False])
def test_another_programs_journal_is_not_tidied_up(tmp_path: Path, readonly: bool) -> None:
    path = tmp_path / "study.db"
    code = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = WAL"); db.execute("CREATE TABLE albums (name TEXT)")
print("ready", flush=True); sys.stdin.readline()
"""
    with running(code, path) as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    before = {name: data for name, data in everything(tmp_path).items() if not name.endswith("-shm")}
    assert before["study.db-wal"]
    with pytest.raises(StoreError, match="another program's"):
        Store(path, readonly=readonly)
    assert {name: data for name, data in everything(tmp_path).items() if not name.endswith("-shm")} == before


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_truncated_database_is_refused_by_name_and_left_as_it_is(tmp_path: Path, share: float) -> None:
    path = make_study(tmp_path / "whole")
    cut = tmp_path / "study.db"
    whole = path.read_bytes()
    cut.write_bytes(whole[: max(1, int(len(whole) * share))])
    before = cut.read_bytes()
    with pytest.raises(StoreError, match=r"study\.db: cannot be used as a study's database"):
        Store(cut)
    assert cut.read_bytes() == before


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_database_is_read_or_refused_but_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "whole" / "study.db"
    if not path.exists():
        make_study(path.parent)
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at : at + 64] = bytes(data.draw(st.binary(min_size=64, max_size=64)))
    damaged = tmp_path / "study.db"
    damaged.write_bytes(bytes(raw))
    refused: StoreError | None = None
    try:
        with Store(damaged, readonly=True) as store:
            for table in ("meta", "photographs", "configurations", "trials", "epochs", "predictions", "sessions"):
                store.rows(f"SELECT * FROM {table}")
            store.meta("spec")
    except StoreError as error:
        refused = error
    assert refused is None or str(damaged) in str(refused)
    assert damaged.read_bytes() == bytes(raw)


def test_there_is_nothing_to_read_before_there_are_results(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no results yet; run `tlstudy search` first"):
        Store(tmp_path / "study.db", readonly=True)
    (tmp_path / "study.db").touch()
    with pytest.raises(StoreError, match="no results yet; run `tlstudy search` first"):
        Store(tmp_path / "study.db", readonly=True)
    with pytest.raises(StoreError, match="is a folder, expected a study"):
        Store(tmp_path)
    assert everything(tmp_path) == {"study.db": b""}


def half_made(path: Path) -> None:
    """What is left when the process dies after the journal's mode is set and before the tables are there."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")


@pytest.mark.parametrize("make", [Path.touch, half_made])
def test_a_database_whose_making_was_cut_off_is_made_usable(tmp_path: Path, make: object) -> None:
    path = tmp_path / "study.db"
    make(path)  # type: ignore[operator]
    with Store(path) as store:
        store.set_meta(classes=["cat", "dog"])
    with Store(path, readonly=True) as store:
        assert store.meta("classes") == ["cat", "dog"]
        assert store.rows("PRAGMA application_id")[0][0] == APPLICATION


# ---- transactions --------------------------------------------------------------------------------------------------


def test_a_transaction_lands_whole_or_not_at_all(tmp_path: Path) -> None:
    with Store(tmp_path / "study.db") as store:
        store.set_meta(before=1)
        with pytest.raises(KeyboardInterrupt), store.transaction():
            store.set_meta(inside=1)
            one_trial(store)
            raise KeyboardInterrupt
        assert store.meta("before") == 1
        assert store.meta("inside") is None
        assert store.rows("SELECT * FROM trials") == store.rows("SELECT * FROM configurations") == []
        with store.transaction():
            store.set_meta(inside=2)
        assert store.meta("inside") == 2


def test_a_failed_method_inside_a_transaction_takes_all_of_it_back(tmp_path: Path) -> None:
    with Store(tmp_path / "study.db") as store:
        with pytest.raises(sqlite3.IntegrityError), store.transaction():
            store.set_meta(inside=1)
            store.begin_trial(TrialRow("0000", "no such configuration", 0, 1, 0, 0, 3, None))
        assert store.meta("inside") is None


MIDDLE = """
import os, sys
from pathlib import Path
from tuner.store.store import EpochRow, Store, TrialRow
store = Store(Path(sys.argv[1]))
store.add_configuration("c000", "search", 0, {"unfrozen_layers": 0}, "pooled", None)
store.begin_trial(TrialRow("0000", "c000", 0, 1, 0, 0, 3, None))
with store.transaction():
    store.record_epoch("0000", "c000", EpochRow(1, 0.7, 0.5, 0.6, 0.7, 1.0, 12), bytes(8_000_000), ())
    store.end_trial("0000", "COMPLETED", 0.6, 1, None, 1.0)
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_a_process_killed_in_a_transaction_leaves_what_was_before_it(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with running(MIDDLE, path) as writer:
        with Store(path, readonly=True) as reader:
            assert [tuple(r) for r in reader.rows("SELECT id, status FROM trials")] == [("0000", "RUNNING")]
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    for readonly in (True, False):
        with Store(path, readonly=readonly) as store:
            assert [tuple(r) for r in store.rows("SELECT id, status, score FROM trials")] == [("0000", "RUNNING", None)]
            assert store.rows("SELECT * FROM epochs") == store.rows("SELECT * FROM predictions") == []


# ---- readers -------------------------------------------------------------------------------------------------------


def test_a_reader_sees_one_moment_while_a_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with Store(path) as writer:
        writer.set_meta(moment=1)
        with Store(path, readonly=True) as reader:
            reader.rows("BEGIN")
            assert reader.meta("moment") == 1
            writer.set_meta(moment=2)
            with writer.transaction():
                writer.set_meta(moment=3)
                assert reader.meta("moment") == 1
                with Store(path, readonly=True) as other:
                    assert other.meta("moment") == 2
            reader.rows("COMMIT")
            assert reader.meta("moment") == 3


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    path = make_study(tmp_path)
    with Store(path, readonly=True) as reader, pytest.raises(StoreError, match="readonly"):
        reader.set_meta(classes=[])


@pytest.mark.parametrize("with_journal", [True, False])
def test_a_study_in_a_folder_that_cannot_be_written_is_readable(open_folder: Path, with_journal: bool) -> None:
    path = make_study(open_folder / "study")
    if with_journal:
        (path.parent / "study.db-wal").touch()
    path.chmod(0o444)
    before = everything(path.parent)
    with without_permission(path.parent), Store(path, readonly=True) as store:
        assert store.meta("classes") == list(FINISHED.classes)
    assert everything(path.parent) == before


def test_a_copy_of_the_database_alone_is_the_study(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with Store(make_study(tmp_path / "study"), readonly=True) as store:
        shutil.copyfile(store.path, copy)
        with Store(copy, readonly=True) as other:
            for table in ("meta", "trials", "epochs", "predictions"):
                query = f"SELECT * FROM {table}"
                assert [tuple(r) for r in other.rows(query)] == [tuple(r) for r in store.rows(query)]


def test_a_folder_with_any_name_can_be_read(tmp_path: Path) -> None:
    for name in ("a b", "50%?x=1#y", "é", "[/x]"):
        make_study(tmp_path / name)
        with Store(tmp_path / name / "study.db", readonly=True) as store:
            assert store.meta("classes") == list(FINISHED.classes)


# ---- what is recorded ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_stored_as_missing(tmp_path: Path, number: float) -> None:
    with Store(tmp_path / "study.db") as store:
        one_trial(store)
        store.record_epoch("0000", "c000", EpochRow(1, number, 0.5, number, 0.5, 1.0, 12), None, ())
        store.end_trial("0000", "FAILED", number, None, "the loss became NaN", 1.0)
        assert tuple(store.rows("SELECT loss, accuracy, val_loss, val_accuracy FROM epochs")[0]) == (
            None,
            0.5,
            None,
            0.5,
        )
        assert store.rows("SELECT score FROM trials")[0][0] is None


def test_an_epoch_trained_again_stays_the_first_trials(tmp_path: Path) -> None:
    with Store(tmp_path / "study.db") as store:
        one_trial(store)
        store.record_epoch("0000", "c000", EPOCH, b"first", ())
        store.begin_trial(TrialRow("0001", "c000", 0, 1, 1, 3, 9, "0000"), None)
        store.record_epoch("0001", "c000", EpochRow(1, 0.8, 0.4, 0.65, 0.7, 2.5, 12), b"second", ())
        rows = [tuple(r) for r in store.rows("SELECT trial, epoch, loss, val_loss, seconds FROM epochs")]
        assert rows == [("0000", 1, 0.8, 0.65, 2.5)]
        assert store.rows("SELECT probabilities FROM predictions")[0][0] == b"second"


def test_attempts_are_deaths_that_a_trial_is_blamed_for(tmp_path: Path) -> None:
    with Store(tmp_path / "study.db") as store:
        store.add_configuration("c000", "search", 0, {}, "pooled", None)
        row = TrialRow("0000", "c000", 0, 1, 0, 0, 3, None)
        assert [store.begin_trial(row, None) for _ in range(3)] == [1, 1, 1]
        store.blame(["0000", "0001"])
        assert store.begin_trial(row, None) == 2
        assert store.try_again(1, ["search"]) == []
        store.end_trial("0000", "FAILED", None, None, "it died", 0.0)
        store.blame(["0000"])
        assert store.try_again(2, ["search"]) == store.try_again(1, ["seed"]) == []
        assert store.try_again(1, ["seed", "search"]) == ["0000"]
        assert store.begin_trial(row, None) == 1
        store.end_trial("0000", "COMPLETED", 0.5, 1, None, 2.0, 2049)
        store.end_trial("0000", "COMPLETED", 0.5, 1, None, 3.0)
        assert tuple(store.rows("SELECT status, seconds FROM trials")[0]) == ("COMPLETED", 5.0)
        assert store.rows("SELECT trained_parameters FROM configurations")[0][0] == 2049


def test_trials_keep_the_order_they_were_started_in(tmp_path: Path) -> None:
    with Store(tmp_path / "study.db") as store:
        for number, trial in enumerate(["0007", "0001", "0004"]):
            one_trial(store, trial, f"c{number:03d}", number)
        one_trial(store, "0001", "c001", 1)
        rows = store.rows("SELECT id, position FROM trials ORDER BY position")
        assert [tuple(r) for r in rows] == [("0007", 1), ("0001", 2), ("0004", 3)]


def test_the_last_checkpoint_of_each_role_is_known_until_it_is_forgotten(tmp_path: Path) -> None:
    first, second = Saved("last", 1, "a.npz", 10, "00"), Saved("last", 2, "b.npz", 11, "01")
    best = Saved("best", 1, "c.npz", 12, "02")
    with Store(tmp_path / "study.db") as store:
        one_trial(store)
        store.record_epoch("0000", "c000", EPOCH, None, [first, best])
        store.record_epoch("0000", "c000", EpochRow(2, 0.6, 0.6, 0.7, 0.7, 1.0, 12), None, [second])
        assert store.checkpoints()["c000", "last"] == second
        assert store.checkpoints()["c000", "best"] == best
        assert {s.file for s in store.checkpoints().values()} == {"b.npz", "c.npz"}
        store.forget_checkpoints("c000", ["last"])
        assert ("c000", "last") not in store.checkpoints()
        assert {s.file for s in store.checkpoints().values()} == {"c.npz"}


def test_a_configuration_and_facts_are_kept_as_they_were_given(tmp_path: Path) -> None:
    with Store(tmp_path / "study.db") as store:
        store.add_configuration("c000", "search", 0, {"b": 1, "a": 0.1}, "pooled", 7)
        store.add_configuration("c000", "search", 0, {"b": 2}, "other", 8)
        found = store.rows("SELECT hyperparameters, cut, trained_parameters FROM configurations")
        assert (json.loads(found[0][0]), found[0][1], found[0][2]) == ({"a": 0.1, "b": 1}, "pooled", 7)
        facts = {"a": None, "b": [1, 2.5, "é\n"], "c": {"d": True}}
        store.set_meta(**facts)
        store.set_meta(a=3)
        assert {key: store.meta(key) for key in facts} == facts | {"a": 3}
        assert store.meta("unknown", "default") == "default"


def test_photographs_are_replaced_as_a_whole(tmp_path: Path) -> None:
    with Store(tmp_path / "study.db") as store:
        for number in (3, 2):
            rows = [(f"{i}.jpg", "train", 0, "00", 10, 10) for i in range(number)]
            store.record_images(rows, [(f"{number}.txt", "not an image")])
            assert [r["path"] for r in store.rows("SELECT * FROM images ORDER BY number")] == [r[0] for r in rows]
            assert [r["path"] for r in store.rows("SELECT * FROM left_out")] == [f"{number}.txt"]


def test_names_that_are_not_utf8_are_kept_readable(tmp_path: Path) -> None:
    with Store(tmp_path / "study.db") as store:
        store.record_images([("caf\udce9.jpg", "train", 0, "00", 10, 10)], [("\udcff", "b"), ("\\udcff", "c")])
        store.begin_session("2026-01-01", "host", 1, "tlstudy search caf\udce9", {})
        store.set_meta(classes=["caf\udce9"])
        assert store.rows("SELECT path FROM images")[0][0] == "caf\\udce9.jpg"
        assert store.rows("SELECT command FROM sessions")[0][0] == "tlstudy search caf\\udce9"
        assert store.meta("classes") == ["caf\udce9"]


def test_sessions_are_told_apart(tmp_path: Path) -> None:
    with Store(tmp_path / "study.db") as store:
        ids = [store.begin_session("2026-01-01", "host", 1, f"command {i}", {"keras": "3"}) for i in range(2)]
        store.update_session(ids[0], 1.5, "interrupted", {"images": 0.5})
        rows = store.rows("SELECT id, seconds, outcome FROM sessions ORDER BY id")
        assert [tuple(r) for r in rows] == [(ids[0], 1.5, "interrupted"), (ids[1], None, None)]


def test_a_damaged_fact_is_refused_by_name(tmp_path: Path) -> None:
    with Store(tmp_path / "study.db") as store:
        with store.transaction():
            store.rows("INSERT INTO meta VALUES ('spec', '{half')")
        with pytest.raises(StoreError, match=r"study\.db: cannot be used as a study's database"):
            store.meta("spec")
