"""What is published comes back to the byte, what changed since is made again, nothing outside an entry is touched."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.artifacts import entries, files, locks
from tuner.artifacts.entries import Artifacts

names = st.sampled_from(["a.npy", "b", "folder/c", "folder/deeper/d"])
contents = st.dictionaries(names, st.binary(max_size=300), min_size=1)


@contextmanager
def empty() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


def put(artifacts: Artifacts, key: str, wanted: dict[str, bytes], about: object = "about") -> None:
    with artifacts.staging() as staged:
        for name, data in wanted.items():
            path = staged.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        artifacts.publish(staged, key, about)


def read(artifacts: Artifacts, key: str) -> dict[str, bytes] | None:
    if (entry := artifacts.open(key)) is None:
        return None
    kept = ("manifest.json", "lock")
    found = {p.relative_to(entry.folder).as_posix(): p for p in entry.folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name not in kept}


@pytest.fixture
def no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LEASE", -1.0)


class Reading:
    """Counts the chunks that are read for their checksums."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.chunks = 0
        real = entries._checksum

        def counted(path: Path, first: int) -> str:
            self.chunks += 1
            return real(path, first)

        monkeypatch.setattr(entries, "_checksum", counted)


# ---- published, whole or not at all --------------------------------------------------------------------------------


@given(wanted=contents, about=st.recursive(st.none() | st.integers() | st.text(), lambda s: st.lists(s), max_leaves=5))
@settings(max_examples=30)
def test_what_is_published_comes_back_and_what_is_not_leaves_nothing(wanted: dict[str, bytes], about: object) -> None:
    with empty() as place:
        artifacts = Artifacts(place / "kind")
        with pytest.raises(ZeroDivisionError), artifacts.staging() as staged:
            (staged.folder / "half").write_bytes(b"half")
            raise ZeroDivisionError
        assert os.listdir(artifacts.folder) == [] and artifacts.open("key") is None and artifacts.about("key") is None
        put(artifacts, "key", wanted, about)
        assert os.listdir(artifacts.folder) == ["key"] == artifacts.listed()
        assert read(artifacts, "key") == wanted
        assert artifacts.about("key") == about
        artifacts.amend("key", ["more", about])
        assert artifacts.about("key") == ["more", about] and read(artifacts, "key") == wanted
        put(artifacts, "key", {"b": b"of a slower process"}, None)
        assert read(artifacts, "key") == wanted, "whole, so it stays"


# ---- believed, or made again ---------------------------------------------------------------------------------------


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.unlink()
    path.write_bytes(data)


def cut(path: Path, at: int) -> None:
    os.truncate(path, at % path.stat().st_size)


def grow(path: Path, at: int) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def lose(path: Path, at: int) -> None:
    path.unlink()


def link(path: Path, at: int) -> None:
    """The right bytes, but somebody else's file."""
    path.rename(path.parents[2] / "elsewhere")
    path.symlink_to(path.parents[2] / "elsewhere")


def pipe(path: Path, at: int) -> None:
    path.unlink()
    os.mkfifo(path)


@given(
    wanted=st.fixed_dictionaries({"a": st.binary(min_size=1), "b": st.binary(min_size=1)}),
    change=st.sampled_from([flip, cut, grow, lose, link, pipe]),
    name=st.sampled_from(["a", "b", "manifest.json"]),
    at=st.integers(0, 10_000),
)
@settings(max_examples=60)
def test_an_entry_whose_bytes_changed_is_not_believed_and_can_be_made_again(
    wanted: dict[str, bytes], change: Callable[[Path, int], None], name: str, at: int
) -> None:
    with empty() as place:
        artifacts = Artifacts(place / "kind")
        put(artifacts, "key", wanted)
        put(artifacts, "other", wanted)
        change(artifacts.folder / "key" / name, at)
        assert artifacts.open("key") is None
        put(artifacts, "key", wanted)
        assert read(artifacts, "key") == wanted == read(artifacts, "other")
        assert [one for one in os.listdir(artifacts.folder) if one.startswith(".")] == []


def test_no_byte_is_read_while_stamps_are_known_and_a_copied_cache_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "CHUNK", 100)
    artifacts = Artifacts(tmp_path / "kind")
    reading = Reading(monkeypatch)
    put(artifacts, "key", {"a": bytes(1001), "b": b"x", "empty": b""})
    assert reading.chunks == 11 + 1 + 1, "once when it is published"
    assert artifacts.open("key") is not None and reading.chunks == 13
    shutil.copytree(artifacts.folder, tmp_path / "copy")
    copied = Artifacts(tmp_path / "copy")
    assert copied.open("key") is not None and reading.chunks == 26
    assert copied.open("key") is not None and reading.chunks == 26
    os.utime(tmp_path / "copy" / "key" / "b", (1, 1))
    assert copied.open("key") is not None and reading.chunks == 27, "and of what is touched that alone"


@given(data=st.binary(min_size=1, max_size=1000), at=st.integers(0, 999), chunk=st.integers(1, 300))
@settings(max_examples=30)
def test_bytes_changed_under_an_unchanged_stamp_are_seen_when_all_is_verified(data: bytes, at: int, chunk: int) -> None:
    """The limit of stamps, said in the text: a start does not see it."""
    with pytest.MonkeyPatch.context() as patch, empty() as place:
        patch.setattr(entries, "CHUNK", chunk)
        artifacts = Artifacts(place)
        put(artifacts, "key", {"a": data})
        put(artifacts, "sound", {"a": data})
        path = place / "key" / "a"
        before = path.stat()
        with open(path, "r+b") as file:
            file.seek(at % len(data))
            file.write(bytes([data[at % len(data)] ^ 1]))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert artifacts.open("key") is not None
        found = dict(artifacts.verify())
        assert found.pop(place / "sound") == ""
        (said,) = found.values()
        assert "another checksum of a; removed" in said
        assert artifacts.listed() == ["sound"]


def test_a_damaged_entry_in_use_is_named_and_not_believed_but_left(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    put(artifacts, "key", {"a": b"data"})
    used = artifacts.open("key")
    assert used is not None
    flip(tmp_path / "key" / "a", 0)
    ((_, said),) = artifacts.verify()
    assert "a process may use it" in said and (tmp_path / "key" / "a").exists()
    assert artifacts.open("key") is None and artifacts.about("key") is None
    used.close()
    artifacts.prune(float("inf"))
    assert artifacts.listed() == [], "and it goes as soon as nobody uses it"


def test_what_an_earlier_layout_wrote_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts = Artifacts(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(entries, "LAYOUT", entries.LAYOUT - 1)
        put(artifacts, "key", {"a": bytes(8)})
        assert artifacts.open("key") is not None
    (tmp_path / "weights.npz").write_bytes(b"an entry was a file once")
    assert artifacts.about("key") is None and artifacts.open("key") is None
    put(artifacts, "weights.npz", {"a": b"new"})
    assert read(artifacts, "weights.npz") == {"a": b"new"} and artifacts.listed() == ["weights.npz"]


def test_a_map_is_of_the_shape_and_kind_that_is_expected(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)

    def write() -> None:
        with artifacts.staging() as staged:
            staged.array("a.npy", (2, 3), np.float32)[:] = 7
            artifacts.publish(staged, "key", None)

    for shape, dtype in [((2, 2), np.float32), ((2, 3), np.float64)]:
        write()
        assert artifacts.map("key", "a.npy", shape, dtype) is None and artifacts.listed() == []
    write()
    array = artifacts.map("key", "a.npy", (2, 3), np.float32)
    assert array is not None and not array.flags.writeable and (array == 7).all()


@pytest.mark.parametrize(("number", "named"), [(errno.ENOSPC, True), (errno.EIO, True), (errno.EPIPE, False)])
def test_a_full_disk_is_the_cache_s(tmp_path: Path, number: int, named: bool) -> None:
    """A write's error has no name of its own, and whoever says it would blame another folder."""

    def make(folder: Path) -> None:
        raise OSError(number, os.strerror(number))

    artifacts = Artifacts(tmp_path / "kind")
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        artifacts.made("key", make, "")
    assert caught.value.filename == (str(artifacts.folder) if named else None)


# ---- links ---------------------------------------------------------------------------------------------------------


def test_no_link_inside_the_cache_is_followed(tmp_path: Path, no_lease: None) -> None:
    """What it points to keeps every byte, whatever is made, read, pruned or verified."""
    elsewhere = tmp_path / "elsewhere"
    put(Artifacts(elsewhere), "key", {"a": b"theirs"})
    artifacts = Artifacts(tmp_path / "kind")
    artifacts.folder.mkdir()
    for name in ("key", ".part-0123456789abcdef", ".lock-key", ".tlstudy-tmp-x"):
        (artifacts.folder / name).symlink_to(elsewhere / "key")
    assert artifacts.about("key") is None and artifacts.open("key") is None
    (artifacts.folder / "other").symlink_to(elsewhere / "key")
    assert [done.split(";")[0] for _, done in artifacts.verify()] == ["not a folder"]
    put(artifacts, "key", {"a": b"ours"})
    artifacts.prune(0)
    assert os.listdir(artifacts.folder) == []
    assert read(Artifacts(elsewhere), "key") == {"a": b"theirs"}
    (tmp_path / "linked").symlink_to(elsewhere)
    linked = Artifacts(tmp_path / "linked")
    with pytest.raises(OSError, match="symbolic link"), linked.staging():
        pass
    assert linked.open("key") is None and list(linked.verify()) == []
    linked.prune(0)
    assert read(Artifacts(elsewhere), "key") == {"a": b"theirs"}


def test_what_is_no_entry_is_never_removed(tmp_path: Path, no_lease: None) -> None:
    """`TLSTUDY_CACHE` may name a folder in which somebody keeps an `images/` of their own."""
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.jpg").touch()
    (tmp_path / "note.txt").touch()
    artifacts = Artifacts(tmp_path)
    put(artifacts, "key", {"a": b"ours"})
    artifacts.prune(0)
    assert list(artifacts.verify()) == []
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["beach.jpg", "holiday", "note.txt"]


@pytest.mark.parametrize("there", [False, True])
def test_an_entry_is_for_its_owner_alone(tmp_path: Path, there: bool) -> None:
    """Also in a folder that was there, and open to all."""
    artifacts = Artifacts(tmp_path / "cache" / "kind")
    before = os.umask(0o022)
    try:
        if there:
            artifacts.folder.mkdir(parents=True)
        put(artifacts, "key", {"a": b"1", "folder/deeper/d": b"2"})
    finally:
        os.umask(before)
    places = [artifacts.folder, *artifacts.folder.rglob("*"), *([] if there else [artifacts.folder.parent])]
    assert {oct(path.stat().st_mode & 0o777) for path in places if path.is_dir()} == {"0o700"}
    assert {oct(path.stat().st_mode & 0o777) for path in places if path.is_file()} == {"0o600"}


# ---- pruning -------------------------------------------------------------------------------------------------------


ages_ = st.integers(0, 10_000).filter(lambda age: abs(age - files.LEASE) > 60)


@given(ages=st.lists(ages_, unique=True, min_size=1, max_size=6), data=st.data())
@settings(max_examples=25)
def test_pruning_removes_the_longest_unused_but_nothing_held_or_just_used(ages: list[int], data: st.DataObject) -> None:
    keys = [f"{age:05d}" for age in sorted(ages)]  # the larger, the longer unused
    held_keys = set(data.draw(st.sets(st.sampled_from(keys))))
    with empty() as place:
        artifacts = Artifacts(place)
        for key in keys:
            put(artifacts, key, {"a": bytes(100_000)})
        held = [artifacts.open(key) for key in held_keys]
        now = place.stat().st_mtime
        for key in keys:
            os.utime(place / key, (now - int(key), now - int(key)))
        kept = data.draw(st.integers(0, len(keys)))
        artifacts.prune(kept * 110_000)
        free = [key for key in keys if key not in held_keys and int(key) > files.LEASE]
        assert artifacts.listed() == sorted(set(keys) - set(free[::-1][: len(keys) - kept]))
        assert all(one is not None for one in held)


# ---- one at a time -------------------------------------------------------------------------------------------------


def test_many_at_once_make_a_thing_once(tmp_path: Path) -> None:
    made, said, found = [], [], []
    begun = threading.Event()

    def make(folder: Path) -> None:
        made.append(folder)
        begun.wait(10)
        (folder / "a").write_bytes(b"data")

    def one() -> None:
        found.append(Artifacts(tmp_path).made("key", make, "making it", said.append, None))

    threads = [threading.Thread(target=one) for _ in range(5)]
    for thread in threads:
        thread.start()
    while len(said) < 4:
        assert any(thread.is_alive() for thread in threads)
    begun.set()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(found) == 5
    assert set(said) == {"Another process is making it; waiting for it, so that it is done once."}
    assert os.listdir(tmp_path) == ["key"]


def test_who_waits_stops_when_asked(tmp_path: Path) -> None:
    artifacts, stop = Artifacts(tmp_path), threading.Event()
    with (
        artifacts.alone("key", ""),
        pytest.raises(KeyboardInterrupt),
        artifacts.alone("key", "", lambda text: stop.set(), stop),
    ):
        pytest.fail("two inside")
    with artifacts.alone("key", "", lambda text: pytest.fail("nobody is inside"), stop):
        pass
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_locks_stops_nobody_and_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_lease: None
) -> None:
    def none(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    artifacts = Artifacts(tmp_path)
    with artifacts.alone("key", ""), artifacts.alone("key", ""):
        with artifacts.staging() as other:
            put(artifacts, "key", {"a": b"data"})
            assert other.folder.is_dir(), "perhaps somebody's"
        artifacts.prune(0)
    assert read(artifacts, "key") == {"a": b"data"} and os.listdir(tmp_path) == ["key"]
    flip(tmp_path / "key" / "a", 0)
    assert artifacts.open("key") is None
    put(artifacts, "key", {"a": b"data"})
    assert read(artifacts, "key") == {"a": b"data"}, "damage is made again all the same"


def test_a_lock_that_was_removed_by_who_held_it_holds_nobody(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first, taken = locks.lock(path)
    assert taken
    late = os.open(path, os.O_RDWR)
    path.unlink()
    os.close(first)
    with pytest.raises(BlockingIOError):
        locks.take(path, late)
    os.close(late)
