"""How often a test set was looked at on this machine, by any study: each look makes it less of a test.

Every study that opens a test set leaves a line in one file beside the cache: the set's seal, when, and which study it
was, by a name drawn for it. What other studies had left by then is recorded in the study itself, so that its report
stays a function of its own database.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuner.artifacts import own
from tuner.artifacts.files import cache_root
from tuner.store import tables
from tuner.store.store import Store


def register() -> Path:
    """The file with all lines."""
    return cache_root() / "openings.jsonl"


def count_others(store: Store) -> None:
    """Records how often other studies, or this one before `--fresh`, had opened the same test set by now. Inside a
    transaction.
    """
    known, seal = store.meta("openings", {}), store.meta("test_seal")
    name = known.get("study") or secrets.token_hex(8)
    others = sum(line.get("seal") == seal and line.get("study") != name for line in _lines())
    store.set_meta(openings={"study": name, "elsewhere": max(others, known.get("elsewhere", 0))})


def record(store: Store) -> None:
    """Leaves a line for each opening of this study that has none yet: all of them, whenever a kill came between. A
    file that cannot be written is no reason to lose the verdict.
    """
    name = store.meta("openings", {}).get("study")
    if name is None:
        return
    known = {line.get("opened") for line in _lines() if line.get("study") == name}
    lines = [
        json.dumps({"seal": opening.seal, "opened": opening.opened, "study": name}) + "\n"
        for opening in tables.rows(store, tables.Opening)
        if opening.opened not in known
    ]
    if not lines:
        return
    with suppress(OSError):
        own.make(register().parent)
        with open(register(), "ab", opener=own.plain) as file:
            file.write("".join(lines).encode())  # one write at the end of the file: nobody's line is torn
            file.flush()
            os.fsync(file.fileno())
        own.sync_folder(register().parent)


def _lines() -> Iterator[Mapping[str, Any]]:
    """What studies left; a line that a full disk cut short is none."""
    try:
        with open(register(), encoding="utf-8", errors="replace", opener=own.plain) as file:
            text = file.read()
    except OSError:
        return
    for line in text.splitlines():
        with suppress(ValueError):
            if isinstance(found := json.loads(line), dict):
                yield found
