"""What the session before this one died of, as far as this one can tell.

A crash signal leaves a note that its process wrote while it died, and the kernel counts the processes that it killed
for want of memory: both look like the trial's own doing. Whatever else ends a process (SIGKILL, a machine that is taken
away, leaving at once, a power cut, a full disk) says nothing about the trial that ran.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuner.search.events import Listener, Notice
from tuner.store.folder import StudyFolder
from tuner.store.store import Store
from tuner.store.tables import Session, rows

ATTEMPTS = 3
"""A trial that killed its process so often in one epoch has failed, until a later session tries it again."""
CONFIRMING = ("seed", "fold")
KINDS = ("search", "baseline", "reference", "logistic", *CONFIRMING)
_LONGEST = 200


@contextmanager
def watched(folder: StudyFolder, store: Store, listen: Listener, search: bool = True) -> Iterator[None]:
    """Counts the death of the session before the one that has begun against the trials that it was at, where it looks
    like theirs; what failed by such deaths in an earlier session is tried again, without `search` what a confirmation
    trains. Inside, a crash of this process leaves a note for the next one.
    """
    running, said = store.meta("running"), []
    with store.transaction():
        if running is not None and (what := _died_of(folder, store, running)):
            store.blame(running["trials"])
            said.append(f"The session before this one {what} in {', '.join(running['trials'])}.")
        store.set_meta(running=None)
        if again := store.try_again(ATTEMPTS, KINDS if search else CONFIRMING):
            said.append(f"Tried again, after {ATTEMPTS} deaths of the process in one epoch: {', '.join(again)}.")
    for text in said:
        listen(Notice(text, warning=True))
    with _noting(folder.crash):
        yield


def running(trials: list[str]) -> Mapping[str, Any]:
    """What is recorded of the trials that begin or go on now."""
    return {"trials": trials, "kills": kills()}


def kills() -> list[Any]:
    """[Which boot of the machine this is, how many processes the kernel killed in it for want of memory]; empty where
    it does not tell.
    """
    with contextlib.suppress(OSError, ValueError, KeyError):
        counts = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        return [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), int(counts["oom_kill"])]
    return []


def ran_out(before: list[Any], now: list[Any]) -> bool:
    """Whether the kernel killed a process for want of memory between two `kills` of one boot."""
    return bool(before and now) and before[0] == now[0] and before[1] < now[1]


def _died_of(folder: StudyFolder, store: Store, running: Mapping[str, Any]) -> str:
    """In words; "" where nothing says that it was the trial's doing, or where the session ended as it should."""
    sessions = rows(store, Session)
    if len(sessions) < 2 or sessions[-2].outcome is not None:
        return ""
    if note := _note(folder.crash):
        return f"crashed ({note})"
    return "was killed when memory ran out" if ran_out(running["kills"], kills()) else ""


def _note(path: Path) -> str:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return ""
    with open(handle, "rb") as file, contextlib.suppress(OSError):
        return file.readline(_LONGEST).decode("utf-8", "replace").strip().removeprefix("Fatal Python error: ")
    return ""


@contextmanager
def _noting(path: Path) -> Iterator[None]:
    """Inside, a crash signal writes what it was to `path`, which a process that ends in any other way leaves empty or
    removes.
    """
    try:
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:  # a full disk, or something that is not ours: then no crash is told from a kill
        yield
        return
    before = faulthandler.is_enabled()
    faulthandler.enable(handle, all_threads=False)
    try:
        yield
    finally:
        faulthandler.disable()
        if before and sys.__stderr__ is not None:
            faulthandler.enable(sys.__stderr__)
        os.close(handle)
        with contextlib.suppress(OSError):
            path.unlink()
