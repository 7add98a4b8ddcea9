"""Which processor this is: a backend's kernels are chosen by it, and other kernels round differently."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import lru_cache
from pathlib import Path

KINDS = ("cpu family", "model", "stepping", "flags", "CPU implementer", "CPU part", "Features")
"""What tells processors apart that a cloud gives one name, as /proc/cpuinfo of x86 and of ARM calls it."""


@lru_cache(maxsize=1)
def name() -> str:
    """What the system calls it, and eight digits that another model or set of instructions changes."""
    facts = _first("/proc/cpuinfo")
    told = facts.get("model name") or platform.processor() or platform.machine()
    kind = "\n".join(facts.get(key, "") for key in KINDS)
    return f"{told} ({hashlib.sha256(kind.encode()).hexdigest()[:8]})" if kind.strip() else told


def cores() -> int:
    """How many of its cores this process may use; backends make as many threads."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _first(path: str) -> dict[str, str]:
    """The facts of the first core; empty where the system does not tell."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}
