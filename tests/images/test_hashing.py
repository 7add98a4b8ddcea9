"""A file that is known is not read again; one that changed, however little tells of it, is."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.images import hashing

NAMES = [f"{number:02d}.jpg" for number in range(hashing._BATCH + 6)]
OLD = 10 * hashing.RACY


class Reads:
    """The names of the files that are read to their end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        digest = hashlib.file_digest

        def told(stream: object, kind: str) -> object:
            if (name := os.path.basename(stream.name)) in NAMES:  # type: ignore[attr-defined]
                self.names.append(name)
            return digest(stream, kind)  # type: ignore[arg-type]

        monkeypatch.setattr(hashlib, "file_digest", told)

    def take(self) -> list[str]:
        names, self.names = sorted(self.names), []
        return names


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and the clock by which files are judged is well past all changes made so far."""
    now = time.time_ns
    return lambda: monkeypatch.setattr(time, "time_ns", lambda: now() + OLD)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(f"content of {name}")
    return folder


def hashed(photos: Path, cache: str = "cache") -> list[str]:
    """The SHA-256 of all files; they are right, or this fails."""
    found = [one.sha256 for one in hashing.hash_files(photos, NAMES, photos.parent / cache)]
    assert found == [hashlib.sha256((photos / name).read_bytes()).hexdigest() for name in NAMES]
    return found


def test_a_known_file_is_not_read_again(photos: Path, reads: Reads, later: Callable[[], None]) -> None:
    later()
    hashed(photos)
    assert reads.take() == NAMES
    hashed(photos)
    assert reads.take() == []
    (photos / NAMES[3]).write_text("something else")
    os.replace(photos / NAMES[4], photos / "aside")
    (photos / NAMES[4]).write_text(f"content of {NAMES[4]}")
    hashed(photos)
    assert reads.take() == NAMES[3:5]


def test_what_changed_just_now_is_not_believed(photos: Path, reads: Reads, later: Callable[[], None]) -> None:
    """Git's racy rule: another change in the same tick of the file system's clock would leave every stamp as it is."""
    hashed(photos)
    assert reads.take() == NAMES
    hashed(photos)
    assert reads.take() == NAMES, "too young still"
    later()
    hashed(photos)
    assert reads.take() == NAMES, "by this reading they are old"
    hashed(photos)
    assert reads.take() == []


def test_a_time_that_somebody_set_back_hides_nothing(photos: Path, reads: Reads, later: Callable[[], None]) -> None:
    later()
    hashed(photos)
    reads.take()
    path = photos / NAMES[7]
    before = path.stat()
    with open(path, "r+b") as file:  # the same inode and size
        file.write(b"C")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_mtime_ns, path.stat().st_size) == (before.st_mtime_ns, before.st_size)
    hashed(photos)
    assert reads.take() == [NAMES[7]]


def test_a_change_while_files_are_read_is_seen_next_time(
    photos: Path, reads: Reads, later: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    later()
    digest = hashlib.file_digest

    def change_then_hash(stream: object, kind: str) -> object:
        found = digest(stream, kind)  # type: ignore[arg-type]
        if os.path.basename(stream.name) == NAMES[9]:  # type: ignore[attr-defined]
            (photos / NAMES[9]).write_text(f"Content of {NAMES[9]}")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(hashlib, "file_digest", change_then_hash)
        hashing.hash_files(photos, NAMES, photos.parent / "cache")
    reads.take()
    hashed(photos)
    assert reads.take() == [NAMES[9]]


def test_each_folder_has_its_own_and_a_damaged_one_is_not_believed(
    photos: Path, reads: Reads, later: Callable[[], None]
) -> None:
    later()
    hashed(photos)
    reads.take()
    (manifest,) = (photos.parent / "cache" / "hashes").glob("*/manifest.json")
    data = bytearray(manifest.read_bytes())
    data[len(data) // 2] ^= 1
    manifest.write_bytes(data)
    hashed(photos)
    assert reads.take() == NAMES
    hashed(photos)
    assert reads.take() == []
    photos.rename(photos.with_name("moved"))
    hashed(photos.with_name("moved"))
    assert reads.take() == NAMES


def test_a_cache_that_cannot_be_written_is_done_without(photos: Path, reads: Reads, later: Callable[[], None]) -> None:
    later()
    (photos.parent / "cache").write_text("no folder")
    hashed(photos)
    assert reads.take() == NAMES


def test_progress_counts_up_to_all(photos: Path) -> None:
    heard: list[tuple[int, int]] = []
    hashing.hash_files(photos, NAMES, photos.parent / "cache", lambda *said: heard.append(said))
    assert heard[-1] == (len(NAMES), len(NAMES)) and len(heard) == 2 and heard == sorted(heard)
