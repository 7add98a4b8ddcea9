"""Where files that can be made again lie, and writing a file so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from tuner.artifacts import locks, own
from tuner.errors import UsageError

LEASE = 3600.0
"""Seconds after its last use during which nothing is pruned."""


def cache_root() -> Path:
    """Where decoded images, features and calibrated weights lie, shared by all studies of this user.

    `TLSTUDY_CACHE`, else `XDG_CACHE_HOME/tlstudy`, else `~/.cache/tlstudy`. Everything in it can be made again,
    but for the count of how often test sets were opened (`tuner.store.openings`). Raises UsageError for the home of a
    user who is not there: a folder named ~somebody would be made instead.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    named = os.environ.get("TLSTUDY_CACHE") or (os.path.join(base, "tlstudy") if base else "~/.cache/tlstudy")
    if str(found := home(named)).startswith("~"):
        raise UsageError(f"cache {named}: found no such user's home, expected a folder; set TLSTUDY_CACHE to one.")
    return found.absolute()


def room(number: float) -> str:
    """Bytes in words: 2.3 GB, 40 MB."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def home(path: str | os.PathLike[str]) -> Path:
    """The path with its ~ replaced; one of an unknown user stays, so that it is not found by the name it was given."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib's raises


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> tuple[int, str]:
    """Writes through a temporary file in the same folder, syncs, renames, syncs the folder.

    Returns the number of bytes and their SHA-256 (hex). A reader sees the old file or the new one, never a part. Who
    may read the folder may read the file; a folder that is missing is made for its owner alone.
    """
    own.make(path.parent)
    parts = path.parent.glob(f".{glob.escape(path.name)}.*.part")
    locks.sweep(part for part in parts if re.fullmatch(r"\.[0-9a-f]+\.part", part.name[len(path.name) + 1 :]))
    with _part(path) as file:
        part = Path(file.name)
        try:
            write(file)
            file.flush()
            with ThreadPoolExecutor(1) as beside:  # the processor's work while the disk does its own
                hashed = beside.submit(sha256_of, part)
                os.fsync(file.fileno())
            size, digest = part.stat().st_size, hashed.result()
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    own.sync_folder(path.parent)
    return size, digest


def _part(path: Path) -> BinaryIO:
    """A new file beside `path`, held by this process: what nobody holds is swept."""
    mode = 0o666 & os.stat(path.parent).st_mode
    while True:
        part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        file = open(part, "xb", opener=lambda p, how: os.open(p, how | own.FLAGS, mode))  # noqa: SIM115 - the caller's
        try:
            locks.take(part, file.fileno())
            return file
        except BlockingIOError:
            file.close()  # taken for left behind in the instant before it was locked


def prune(paths: Iterable[Path], budget: float, remove: Callable[[Path], None] = Path.unlink) -> None:
    """Removes those files, or folders, unused for longest until at most `budget` bytes are left; never raises.

    What was used less than LEASE seconds ago stays, and what `remove` refuses. A folder's use is its time of change.
    """
    found, until = [], 0.0
    with contextlib.suppress(OSError):  # a folder that goes away meanwhile
        for path in paths:
            with contextlib.suppress(OSError):  # another process was quicker
                about = path.lstat()
                inside = [p.lstat().st_size for p in path.rglob("*")] if stat.S_ISDIR(about.st_mode) else []
                used = about.st_mtime if inside else max(about.st_atime, about.st_mtime)
                found.append((used, sum(inside) or about.st_size, path))
        if found:
            parent = found[0][2].parent
            os.utime(parent)  # the file system's own clock, on which two machines that share it agree
            until = parent.stat().st_mtime - LEASE
    total = sum(size for _, size, _ in found)
    for used, size, path in sorted(found):
        if total <= budget or used > until:
            return
        with contextlib.suppress(OSError):
            remove(path)
            total -= size


def regular(path: str, flags: int) -> int:
    """An opener of regular files, through links too: on a pipe a reader would wait for ever. Raises OSError."""
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise OSError(errno.EINVAL, "not a regular file", path)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a regular file's bytes. Raises OSError."""
    with open(path, "rb", opener=regular) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
