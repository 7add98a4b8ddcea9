"""Makes the N-th write of a process fail: a crash, a full disk, a failing disk or a short write, once or from then on.

Counted are: opening for writing, write, fsync, reserving, rename and unlink under a folder, and before and after each
of SQLite's commits. A crash is `os._exit`: no handler runs, nothing is flushed, as when the kernel kills the process.
"""

from __future__ import annotations

import builtins
import errno
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CRASHED = 99
KINDS = ("crash", "ENOSPC", "EIO", "short")


@dataclass
class Faults:
    """`at`: the call that fails, counted from 1 (0: none does); `seen` counts; `log` says what each call was."""

    folder: Path
    kind: str
    at: int
    persistent: bool
    seen: int = 0
    log: list[str] = field(default_factory=list)

    def strikes(self, what: str) -> bool:
        """Counts one call; True when it is to fail. A crash happens here."""
        self.seen += 1
        self.log.append(what)
        if not self.at or (self.seen < self.at if self.persistent else self.seen != self.at):
            return False
        if self.kind == "crash":
            os._exit(CRASHED)
        return True

    def check(self, what: str, path: Any = None) -> None:
        if self.strikes(what):
            raise self.error(path)

    def error(self, path: Any = None) -> OSError:
        code = errno.EIO if self.kind == "EIO" else errno.ENOSPC
        return OSError(code, os.strerror(code), None if path is None else str(path))

    def inside(self, path: Any) -> bool:
        return isinstance(path, (str, os.PathLike)) and str(path).startswith(str(self.folder))


class Written:
    """A file opened for writing whose writes and flushes are counted."""

    def __init__(self, file: Any, faults: Faults, path: str) -> None:
        self._file, self._faults, self._path = file, faults, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: Any) -> int:
        if self._faults.strikes(f"write {self._path}"):
            self._file.write(data[: len(data) // 2])
            if self._faults.kind != "short":
                raise self._faults.error(self._path)
            # What the kernel does on a short write: Python tries the rest, and that fails.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)
        return int(self._file.write(data))


def install(faults: Faults) -> None:
    """Patches this process for good: call it in a child."""
    patch_files(faults)
    patch_calls(faults)
    patch_sqlite(faults)


def patch_files(faults: Faults) -> None:
    real = builtins.open

    def opening(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if not faults.inside(path) or not set(mode) & set("wxa+"):
            return real(path, mode, *args, **options)
        faults.check(f"open {path}", path)
        return Written(real(path, mode, *args, **options), faults, str(path))

    builtins.open = opening  # type: ignore[assignment]


def patch_calls(faults: Faults) -> None:
    replace, rename, unlink = os.replace, os.rename, os.unlink

    def fsyncing(handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        faults.check(f"fsync {number}")  # not done: only a power cut could tell

    def replacing(source: Any, target: Any, **options: Any) -> None:
        faults.check(f"replace {target}", target)
        replace(source, target, **options)

    def renaming(source: Any, target: Any, **options: Any) -> None:
        faults.check(f"rename {target}", target)
        rename(source, target, **options)

    def unlinking(path: Any, **options: Any) -> None:
        faults.check(f"unlink {path}", path)
        unlink(path, **options)

    os.fsync, os.replace, os.rename, os.unlink = fsyncing, replacing, renaming, unlinking  # type: ignore[assignment]
    if hasattr(os, "posix_fallocate"):
        reserve = os.posix_fallocate

        def reserving(*args: Any) -> None:
            faults.check("posix_fallocate")
            reserve(*args)

        os.posix_fallocate = reserving


def patch_sqlite(faults: Faults) -> None:
    real: Callable[..., sqlite3.Connection] = sqlite3.connect

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql != "COMMIT":
                return super().execute(sql, *values)
            if faults.strikes("before a commit"):
                super().execute("ROLLBACK")  # as SQLite does itself when the disk is full
                raise sqlite3.OperationalError("disk I/O error" if faults.kind == "EIO" else "database or disk is full")
            done = super().execute(sql, *values)
            if faults.kind == "crash":
                faults.strikes("after a commit")
            return done

    def connecting(path: Any, *args: Any, **options: Any) -> sqlite3.Connection:
        return real(path, *args, factory=Connection, **options)

    sqlite3.connect = connecting  # type: ignore[assignment]
