"""What both of xdist's workers need and one of them makes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path


def once(name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first of xdist's workers who asks makes, and both look at."""
    folder = Path(os.environ["TLSTUDY_CACHE"]).parent / name
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.with_suffix(".made").exists():
            make(folder)
            folder.with_suffix(".made").touch()
    return folder
