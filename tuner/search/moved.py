"""A study that goes on elsewhere: backend, versions and devices have to be the same, the processor need not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.store.store import Store
from tuner.store.tables import Epoch, Session, holds, rows


def notice(store: Store, environment: Mapping[str, Any]) -> str | None:
    """What is to be said when something was trained, and the session before this one (which has begun) ran on another
    processor.
    """
    sessions = rows(store, Session)
    before = sessions[-2].environment if len(sessions) > 1 and holds(store, Epoch) else {}
    if "processor" not in before or _words(before) == _words(environment):
        return None
    return (
        f"This study ran on {_words(before)} before, now on {_words(environment)}: the last digits of what is trained "
        "here may differ from what would have come out there."
    )


def _words(environment: Mapping[str, Any]) -> str:
    cores = environment.get("cores", 0)
    return f"{environment.get('processor')}, {cores} core{'s' * (cores != 1)}"
