"""Locks between processes, on one machine or many: the kernel lets go of them when a process dies.

They say who is alive. A process number does not: in two containers that share a folder two processes can have one
number. `flock(2)` on a file opened for writing, because NFS passes that on to the other machines. On a file system
without locks nothing ever waits, and nothing is ever taken for left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from tuner.artifacts import own

LOCK = "lock"
"""The file in a folder by which the folder is held."""
PART = ".part-"
"""How the name of a folder begins that is being made or removed."""


def take(path: Path, handle: int, how: int = fcntl.LOCK_EX) -> bool:
    """Locks `handle`, an open file at `path`, without waiting. False: this file system has no locks.

    Raises BlockingIOError when another holds it, or when the file at `path` is another by now.
    """
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    try:
        same = os.path.samestat(os.lstat(path), os.fstat(handle))
    except OSError:
        same = False
    if not same:
        raise BlockingIOError(f"{path} was removed in the instant before it was locked")
    return True


def lock(path: Path, how: int = fcntl.LOCK_EX, new: bool = False) -> tuple[int, bool]:
    """Opens the file at `path` and locks it: (handle, the caller's to close; as `take` says). Raises OSError.

    An exclusive lock makes the file where there is none; `new`: there must be none.
    """
    mode = os.O_RDONLY if how == fcntl.LOCK_SH else os.O_RDWR | os.O_CREAT | (os.O_EXCL if new else 0)
    handle = os.open(path, mode | own.FLAGS, 0o600)
    try:
        return handle, take(path, handle, how)
    except BaseException:
        os.close(handle)
        raise


def sweep(paths: Iterable[Path]) -> None:
    """Removes those files and folders that nobody holds, what killed processes left behind; never raises."""
    for path in paths:
        with contextlib.suppress(OSError):
            remove(path)


def remove(path: Path) -> None:
    """Removes a file, a folder or a link itself. Raises OSError: BlockingIOError when a process holds it."""
    if path.is_symlink():
        move_away(path)
        return
    handle, taken = lock(path / LOCK if path.is_dir() else path)
    try:
        if not taken:
            raise OSError(f"{path}: this file system has no locks, so that nobody can tell whether it is in use")
        move_away(path)
    finally:
        os.close(handle)


def move_away(path: Path) -> None:
    """As `remove`, held or not: who maps a file goes on reading it (POSIX). Half a folder is never seen."""
    aside = path.with_name(f"{PART}{secrets.token_hex(8)}")
    os.rename(path, aside)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink()
