"""The SHA-256 of every file, of which only those are read that are new or changed.

    <cache>/hashes/<key>/             what was known of the files of one data folder; key: sha256 of its path

A file is taken for the same as long as its size, its inode and its times (when its content changed, and when its inode
did, which nobody can set back) are what they were. As in git's index that is not believed of a file that had changed
within RACY of the moment it was read: it can have changed once more, and none of them would tell.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tuner.artifacts.entries import Artifacts
from tuner.images.decode import Unreadable, open_file

THREADS = 8  # that read, at most
RACY = 2_000_000_000  # nanoseconds: the coarsest clock of a file system, FAT's
BUDGET = 200_000_000  # bytes of all that is known
_BATCH = 64  # files that one thread hashes, one after another

Progress = Callable[[int, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")
Stamp = tuple[int, int, int, int]
_Known = dict[str, list[Any]]


@dataclass(frozen=True)
class Hashed:
    """sha256: of the file's bytes, "" if it could not be read. stamp: as of `stamped`, then."""

    sha256: str
    stamp: Stamp = (0, 0, 0, 0)
    reason: str = ""


def hash_files(root: Path, names: Sequence[str], cache: Path, on_progress: Progress | None = None) -> list[Hashed]:
    """sha256 of each file of a data folder, in order; a file that cannot be read says why.

    on_progress(done, total) counts files. What is known of them is kept in `cache`, where it can be written.
    """
    artifacts, key = Artifacts(cache / "hashes"), hashlib.sha256(os.fsencode(root)).hexdigest()
    began = time.time_ns()
    entry = artifacts.open(key)
    known: _Known = entry.about if entry is not None else {}
    batches = [names[first : first + _BATCH] for first in range(0, len(names), _BATCH)]
    found, done = dict[int, list[Hashed]](), 0
    for index, of in in_threads(lambda batch: [_hash(root / name, known.get(name)) for name in batch], batches):
        found[index], done = of, done + len(of)
        if on_progress is not None:
            on_progress(done, len(names))
    hashed = [one for index in range(len(batches)) for one in found[index]]
    told: _Known = {
        name: [*one.stamp, one.sha256]
        for name, one in zip(names, hashed, strict=True)
        if one.sha256 and (name in known and known[name][:4] == [*one.stamp] or max(one.stamp[2:]) + RACY < began)
    }
    if told != known:
        with contextlib.suppress(OSError):  # they are read again next time
            entry = artifacts.made(key, lambda folder: told, "keeping the checksums of the same files")
            if entry.about != told:
                artifacts.amend(key, told)
            artifacts.prune(BUDGET)
    return hashed


def stamped(handle: int) -> Stamp:
    """Of an open file: size, inode, when its content changed, when the inode did (nanoseconds)."""
    status = os.fstat(handle)
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _hash(path: Path, known: list[Any] | None) -> Hashed:
    try:
        with open_file(path) as stream:  # opened, though known: network file systems ask the server then
            stamp = stamped(stream.fileno())
            if known is not None and known[:4] == [*stamp]:
                return Hashed(known[4], stamp)
            return Hashed(hashlib.file_digest(stream, "sha256").hexdigest(), stamp)
    except Unreadable as error:
        return Hashed("", reason=error.reason)
    except OSError as error:
        return Hashed("", reason=f"cannot be read ({error.strerror})")


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
    """(index, result) as they are finished; on an error or an interrupt what has not begun is dropped."""
    pool = ThreadPoolExecutor(max_workers=min(THREADS, (os.cpu_count() or 1) + 1))
    try:
        futures: dict[Future[Result], int] = {pool.submit(work, item): index for index, item in enumerate(items)}
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
