"""Every path of a study and of the cache, the lock, and writing a file so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from tuner.errors import LockedError, StudyError, UsageError


def cache_root() -> Path:
    """Where decoded photographs, features and calibrated weights lie, shared by all studies of this user.

    `TLSTUDY_CACHE`, else `XDG_CACHE_HOME/tlstudy`, else `~/.cache/tlstudy`. Everything in it can be made again.
    Raises UsageError for the home of a user who is not there: a folder named ~somebody would be made instead.
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


class StudyFolder:
    """The paths of one study. Making an object touches nothing on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spec = root / "study.toml"
        self.database = root / "study.db"
        self.checkpoints = root / "checkpoints"
        self.report = root / "report"
        self.previous = root / "previous"
        self.lock_file = root / ".lock"

    @property
    def has_results(self) -> bool:
        """Whether a search has recorded anything here."""
        from tuner.study.store import begun  # the store is not needed to know the paths

        return begun(self.database)

    def make(self) -> None:
        """Makes the folder if it is not there, for its owner alone: photographs' names and predictions lie in it."""
        if not self.root.is_dir():
            self.root.parent.mkdir(parents=True, exist_ok=True)
            self.root.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the study for this process; the kernel lets go when the process dies, however it dies.

        Raises LockedError naming the holder, StudyError when the folder cannot be written.
        """
        try:
            self.make()
            handle = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StudyError(
                f"{self.root}: cannot be written ({error.strerror}); a search writes its results there. "
                "Choose a folder you may write to."
            ) from error
        try:
            if not _take(handle):
                raise LockedError(
                    f"{self.root}: another search works on this study ({self.holder()}). "
                    "Wait for it, or stop it; `tlstudy report` works meanwhile."
                )
            who = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(who).encode(), 0)
            yield
        finally:
            os.close(handle)

    def holder(self) -> str:
        """Who wrote the lock file last, in words."""
        try:
            who = json.loads(self.lock_file.read_text())
            return f"process {who['pid']} on {who['host']}, since {who['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "process unknown"

    def is_running(self) -> bool:
        """True when some process holds the lock."""
        try:
            handle = os.open(self.lock_file, os.O_RDONLY)
        except OSError:
            return False
        try:
            return not _flock(handle, fcntl.LOCK_SH)
        finally:
            os.close(handle)

    def move_results_aside(self) -> Path | None:
        """Moves database, checkpoints and report to `previous/<time>/` and returns it; None when there are none."""
        if not self.database.exists():
            return None
        target = self.previous / time.strftime("%Y%m%d-%H%M%S")
        number = 1
        while target.exists():
            number += 1
            target = self.previous / (time.strftime("%Y%m%d-%H%M%S") + f"-{number}")
        target.mkdir(parents=True)
        # The database goes last: as long as it stands, the study still knows its other files by name.
        for path in [self.report, self.checkpoints, *(self.root / f"study.db{end}" for end in ("-wal", "-shm", ""))]:
            if path.exists():
                os.replace(path, target / path.name)
        sync_folder(self.root)
        return target


def _take(handle: int) -> bool:
    """The exclusive lock, or False; who only asks `is_running` holds a shared one for a moment and is waited out."""
    for _ in range(100):
        if _flock(handle, fcntl.LOCK_EX):
            return True
        if not _flock(handle, fcntl.LOCK_SH):
            return False
        fcntl.flock(handle, fcntl.LOCK_UN)
        time.sleep(0.02)
    return False


def _flock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def put(file: BinaryIO, data: bytes) -> None:
    """Writes bytes: for `write_atomically`, whose writer gives nothing back."""
    file.write(data)


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> tuple[int, str]:
    """Writes through a temporary file in the same folder, syncs, renames, syncs the folder.

    Returns the number of bytes and their SHA-256 (hex). A reader sees the old file or the new one, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_parts(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
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
    sync_folder(path.parent)
    return size, digest


def _sweep_parts(path: Path) -> None:
    """Removes what processes left that were killed while they wrote `path`."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        owner = part.name.split(".")[-2]
        if owner.isdecimal() and not _lives(int(owner)):
            part.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # another user's
    return True


def prune(files: Iterable[Path], budget: int) -> None:
    """Removes those files that nobody read or wrote for longest until at most `budget` bytes are left; never raises."""
    found = []
    with contextlib.suppress(OSError):  # a folder that goes away meanwhile
        for path in files:
            with contextlib.suppress(OSError):  # another process was quicker
                about = path.stat()
                found.append((max(about.st_atime, about.st_mtime), about.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= budget:
            return
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size


def sync_folder(folder: Path) -> None:
    """Makes renames in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
