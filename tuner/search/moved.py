"""A study that goes on elsewhere: backend, versions and devices have to be the same, the processor need not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tuner.store.store import Store


def notice(store: Store, environment: Mapping[str, Any]) -> str | None:
    """What is to be said when something was trained, and the session before this one (which has begun) ran on another
    processor.
    """
    rows = store.rows("SELECT environment FROM sessions ORDER BY id DESC LIMIT 1 OFFSET 1")
    before = json.loads(rows[0][0]) if rows and store.rows("SELECT 1 FROM epochs LIMIT 1") else {}
    if "processor" not in before or _words(before) == _words(environment):
        return None
    return (
        f"This study ran on {_words(before)} before, now on {_words(environment)}: the last digits of what is trained "
        "here may differ from what would have come out there."
    )


def _words(environment: Mapping[str, Any]) -> str:
    cores = environment.get("cores", 0)
    return f"{environment.get('processor')}, {cores} core{'s' * (cores != 1)}"
