"""The study's folder: a file is whole or not there, one process holds the lock, nothing is ever thrown away."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import stat
import threading
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import running

from tuner.artifacts.files import cache_root, prune, room, sha256_of, write_atomically
from tuner.errors import LockedError, StoreError, StudyError, UsageError
from tuner.store.folder import StudyFolder
from tuner.store.store import Store
from tuner.study import Study

HOLD = """
import sys
from pathlib import Path
from tuner.store.folder import StudyFolder
with StudyFolder(Path(sys.argv[1])).locked():
    print("ready", flush=True)
    sys.stdin.readline()
"""


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.lstat().st_mode) for path in [folder, *folder.rglob("*")]}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ---- the cache -----------------------------------------------------------------------------------------------------


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TLSTUDY_CACHE", "~/here")
    assert cache_root() == tmp_path / "here"
    monkeypatch.setenv("TLSTUDY_CACHE", "relative")
    assert cache_root() == Path.cwd() / "relative"
    monkeypatch.delenv("TLSTUDY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "tlstudy"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == tmp_path / ".cache" / "tlstudy"
    assert not any(tmp_path.iterdir())


def test_looking_at_a_study_makes_nothing(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    assert not folder.has_results
    assert not folder.is_running()
    assert folder.move_results_aside() is None
    assert not any(tmp_path.iterdir())


# ---- write_atomically ----------------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_written_file_is_whole_and_its_size_and_digest_are_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "deep" / "file.bin"
    assert write_atomically(path, lambda file: file.write(data)) == (len(data), hashlib.sha256(data).hexdigest())
    assert path.read_bytes() == data
    assert sha256_of(path) == hashlib.sha256(data).hexdigest()
    assert os.listdir(path.parent) == ["file.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, OSError])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_writer_that_fails_leaves_what_was_there(
    tmp_path: Path, error: type[BaseException], old: bytes | None
) -> None:
    path = tmp_path / "file.bin"
    if old is not None:
        path.write_bytes(old)

    def half(file: BinaryIO) -> None:
        file.write(b"half of the ne")
        file.flush()
        raise error("in the middle")

    with pytest.raises(error):
        write_atomically(path, half)
    assert contents(tmp_path) == ({} if old is None else {"file.bin": old})


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    seen = []

    def write(file: BinaryIO) -> None:
        for _ in range(3):
            file.write(b"new" * 100_000)
            file.flush()
            seen.append(path.read_bytes())

    write_atomically(path, write)
    assert seen == [b"old"] * 3
    assert path.read_bytes() == b"new" * 300_000


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    code = """
import sys
from pathlib import Path
from tuner.artifacts.files import write_atomically
def write(file):
    file.write(b"half"); file.flush(); print("ready", flush=True); sys.stdin.readline()
write_atomically(Path(sys.argv[1]), write)
"""
    with running(code, path) as writer:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    assert path.read_bytes() == b"old"
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"


# ---- the lock ------------------------------------------------------------------------------------------------------


def test_one_process_holds_a_study_and_the_other_is_told_who(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    with running(HOLD, tmp_path) as holder:
        assert folder.is_running()
        with pytest.raises(LockedError) as caught, folder.locked():
            pytest.fail("two processes hold one study")
        message = str(caught.value)
        assert f"process {holder.pid} on {socket.gethostname()}, since 20" in message
        assert str(tmp_path) in message
        assert isinstance(caught.value, UsageError)
        assert folder.is_running()
        holder.communicate("go\n")
    assert not folder.is_running()
    with folder.locked():
        assert folder.is_running()
        assert folder.holder().startswith(f"process {os.getpid()} on ")


def test_the_lock_goes_with_a_process_that_is_killed(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    with running(HOLD, tmp_path) as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert not folder.is_running()
        with folder.locked():
            assert folder.is_running()


def test_the_lock_is_let_go_when_the_work_fails(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "new")
    with pytest.raises(RuntimeError), folder.locked():
        raise RuntimeError
    assert not folder.is_running()
    with folder.locked():
        pass


def test_asking_whether_it_runs_never_disturbs_a_search_that_starts(tmp_path: Path) -> None:
    """`tlstudy report` holds a shared lock for a moment; a search that starts in that moment waits it out."""
    folder = StudyFolder(tmp_path)
    with folder.locked():
        pass
    asker = os.open(folder.lock_file, os.O_RDONLY)
    fcntl.flock(asker, fcntl.LOCK_SH)
    begun, got = threading.Event(), []

    def search() -> None:
        begun.set()
        with folder.locked():
            got.append(folder.is_running())

    thread = threading.Thread(target=search)
    thread.start()
    begun.wait()
    assert not folder.is_running()
    os.close(asker)
    thread.join()
    assert got == [True]


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "null", '{"pid": 3}', "\udcff"])
def test_a_damaged_lock_file_is_no_obstacle(tmp_path: Path, text: str) -> None:
    folder = StudyFolder(tmp_path)
    folder.lock_file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert folder.holder() == "process unknown"
    assert not folder.is_running()
    with folder.locked():
        assert folder.holder() != "process unknown"


def test_a_folder_that_cannot_be_made_is_an_error_of_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot be written"), StudyFolder(tmp_path / "file" / "study").locked():
        pytest.fail("a file holds no study")


def test_only_its_owner_may_read_a_study(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "studies" / "mine")
    with folder.locked(), Store(folder.database):
        pass
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.lock_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.database.stat().st_mode) == 0o600


# ---- a folder that came from elsewhere -------------------------------------------------------------------------------

OURS = ("study.db", "study.db-wal", "study.db-shm", ".lock", "checkpoints", "report", "previous")


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("kind", ["a symbolic link", "a pipe"])
def test_nothing_but_files_and_folders_of_its_own_is_used(tmp_path: Path, name: str, kind: str) -> None:
    """Neither searched nor shown: what a link points to keeps every byte, and nobody waits for a pipe."""
    folder, theirs = StudyFolder(tmp_path / "study"), tmp_path / "theirs"
    fill(folder, "mine")
    fill(StudyFolder(theirs), "theirs")
    place = folder.root / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    if kind == "a pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(theirs / name.replace(".lock", "study.toml"))
    before = contents(theirs)
    with pytest.raises(StudyError, match=kind), folder.locked():
        pytest.fail("what is not ours was taken")
    with pytest.raises((StudyError, StoreError), match=f"{kind}|no results"):
        assert Study(folder).results
    assert not folder.is_running() and contents(theirs) == before


def test_a_link_to_the_whole_study_is_the_study(tmp_path: Path) -> None:
    fill(StudyFolder(tmp_path / "study"), "mine")
    (tmp_path / "link").symlink_to(tmp_path / "study")
    with StudyFolder(tmp_path / "link").locked():
        assert StudyFolder(tmp_path / "study").is_running()


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
def test_who_may_enter_a_folder_may_read_what_is_written_there(tmp_path: Path, mode: int) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given").chmod(mode)
    before = os.umask(0o022)
    try:
        for path in (tmp_path / "given" / "file", tmp_path / "made" / "deep" / "file"):
            write_atomically(path, lambda file: file.write(b"x"))
    finally:
        os.umask(before)
    assert modes(tmp_path / "made") == {0o700, 0o600}
    assert modes(tmp_path / "given") == {mode, mode & 0o644}


def test_only_what_was_left_of_the_same_file_is_swept(tmp_path: Path) -> None:
    theirs = [".file.my.part", ".file.part", ".other.0123456789abcdef.part", ".file.0123.parts"]
    for name in [*theirs, ".file.0123456789abcdef.part"]:
        (tmp_path / name).touch()
    write_atomically(tmp_path / "file", lambda file: file.write(b"x"))
    assert sorted(os.listdir(tmp_path)) == sorted([*theirs, "file"])


# ---- move_results_aside --------------------------------------------------------------------------------------------


def fill(folder: StudyFolder, mark: str) -> None:
    folder.root.mkdir(exist_ok=True)
    folder.spec.write_text("# the question\n")
    with Store(folder.database) as store:
        store.set_meta(mark=mark)
    for path in (folder.checkpoints / "c000.npz", folder.report / "deep" / "curves.svg"):
        path.parent.mkdir(parents=True)
        path.write_text(mark)


def test_old_results_are_moved_whole_and_the_question_stays(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    asides = []
    for mark in ("first", "second", "third"):
        fill(folder, mark)
        before = contents(folder.root)
        aside = folder.move_results_aside()
        assert aside is not None and aside.parent == folder.previous
        asides.append(aside)
        moved = {name: data for name, data in before.items() if not name.startswith(("study.toml", "previous"))}
        assert contents(aside) == moved
        assert [p.name for p in sorted(folder.root.iterdir())] == ["previous", "study.toml"]
        assert not folder.has_results
    assert len(set(asides)) == 3
    for aside, mark in zip(asides, ("first", "second", "third"), strict=True):
        assert re.fullmatch(r"\d{8}-\d{6}(-\d+)?", aside.name)
        with Store(aside / "study.db", readonly=True) as store:
            assert store.meta("mark") == mark


def test_what_a_killed_process_left_in_the_journal_moves_with_the_database(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    code = """
import sys
from pathlib import Path
from tuner.store.store import Store
store = Store(Path(sys.argv[1]))
store.set_meta(mark="only in the journal")
print("ready", flush=True)
sys.stdin.readline()
"""
    with running(code, folder.database) as writer:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    assert (tmp_path / "study.db-wal").stat().st_size > 0
    aside = folder.move_results_aside()
    assert aside is not None
    assert not list(tmp_path.glob("study.db*"))
    with Store(aside / "study.db", readonly=True) as store:
        assert store.meta("mark") == "only in the journal"


def test_a_damaged_database_is_moved_as_it_is(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.database.write_bytes(b"not a database")
    aside = folder.move_results_aside()
    assert aside is not None
    assert contents(aside) == {"study.db": b"not a database"}


@pytest.mark.parametrize(("number", "text"), [(0, "0 MB"), (40.4e6, "40 MB"), (1e9, "1.0 GB"), (2.34e9, "2.3 GB")])
def test_room_on_disk_is_said_in_a_unit_that_shows_it(number: float, text: str) -> None:
    assert room(number) == text


def test_of_a_cache_the_files_unused_for_longest_go(tmp_path: Path) -> None:
    (tmp_path / "a machine").mkdir()
    for age, name in enumerate("edcba"):
        path = tmp_path / "a machine" / name
        path.write_bytes(bytes(100))
        os.utime(path, (1000 - age, 1000 - age))
    os.utime(tmp_path / "a machine" / "a", (5000, 5))  # written first, read last
    (tmp_path / "a machine" / "lock").write_bytes(bytes(1000))
    (tmp_path / "a machine" / "f").write_bytes(bytes(100))  # just written: not before its lease has ended
    prune(tmp_path.glob("*/?"), 300)
    assert sorted(p.name for p in tmp_path.rglob("?")) == ["a", "e", "f"]
    assert (tmp_path / "a machine" / "lock").exists()
    prune([tmp_path / "not there"], 0)
