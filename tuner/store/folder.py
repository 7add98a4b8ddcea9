"""The paths of a study folder, its lock, and moving its results aside."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from tuner.artifacts import own
from tuner.errors import LockedError, StudyError


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
        self.crash = root / ".crash"

    @property
    def has_results(self) -> bool:
        """Whether a search has recorded anything here."""
        from tuner.store.store import begun  # the store is not needed to know the paths

        return begun(self.database)

    def make(self) -> None:
        """Makes the folder if it is not there, for its owner alone: photographs' names and predictions lie in it."""
        own.make(self.root)

    def check(self) -> None:
        """Raises StudyError where something else stands in the place of a file or folder of ours: the study may have
        come from elsewhere, and writing, sweeping and moving would reach what a link points to.
        """
        databases = [Path(f"{self.database}{end}") for end in ("", "-wal", "-shm", "-journal")]
        for path in (*databases, self.lock_file, self.checkpoints, self.report, self.previous):
            if kind := own.strange(path):
                raise StudyError(
                    f"{path}: is {kind}, expected a file or folder of the study's own; none is followed inside a study "
                    "folder, and nothing was touched. Put what it stands for in its place; the study folder itself may "
                    "be a link."
                )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the study for this process; the kernel lets go when the process dies, however it dies.

        Raises LockedError naming the holder, StudyError when the folder cannot be written.
        """
        try:
            self.make()
            self.check()
            handle = own.plain(self.lock_file, os.O_RDWR | os.O_CREAT)
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
            with open(self.lock_file, opener=own.plain) as file:
                who = json.load(file)
            return f"process {who['pid']} on {who['host']}, since {who['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "process unknown"

    def is_running(self) -> bool:
        """True when some process holds the lock."""
        try:
            handle = own.plain(self.lock_file, os.O_RDONLY)
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
        own.make_private(self.previous)
        own.make(target)
        # Rows that are in the journal alone go with the database: no moment lies between the two. A damaged one, or
        # another program's, is moved as it is.
        with suppress(sqlite3.Error), closing(sqlite3.connect(self.database)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        # The database goes last: as long as it stands, the study still knows its other files by name.
        for path in [self.report, self.checkpoints, *(self.root / f"study.db{end}" for end in ("-wal", "-shm", ""))]:
            if path.exists():
                os.replace(path, target / path.name)
        own.sync_folder(target)  # first: what is in neither folder is lost
        own.sync_folder(self.root)
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
