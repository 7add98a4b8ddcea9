"""Which processor this is: a backend's kernels are chosen by it, and other kernels round differently."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def name() -> str:
    """As the system calls it, else the kind of machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    told = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next((t for t in told if t), platform.processor() or platform.machine())


def cores() -> int:
    """How many of its cores this process may use; backends make as many threads."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
