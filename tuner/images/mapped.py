"""Rows out of arrays on disk that may be larger than memory."""

from __future__ import annotations

import mmap
import weakref
from typing import Any

import numpy as np

HELD = 500_000_000
"""Bytes of maps that may stay in this process's memory: the rest is in the system's cache, or on disk alone."""

_known: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()
_touched = 0


class Rows:
    """Takes rows out of an array; of all memory maps together at most about `HELD` bytes are kept in the process.

    The kernel gives pages of a map back only when memory is short, so that a process seems to need the whole file.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self._mapped = _map(array) is not None
        if self._mapped:
            _known[id(array)] = array

    def take(self, rows: Any) -> np.ndarray:
        """A copy of `array[rows]`: rows by number, int64 (n,), or a slice."""
        found = self._array[rows]  # numpy copies what is taken by number; a slice would be a view
        found = np.array(found) if isinstance(rows, slice) else np.asarray(found)
        self.touched(found.nbytes)
        return found

    def touched(self, size: int) -> None:
        """Says that `size` bytes more were read or written."""
        global _touched
        _touched += size if self._mapped else 0
        if _touched > HELD:
            for array in list(_known.values()):
                let_go(array)
            _touched = 0


def let_go(array: Any) -> None:
    """Takes a map's pages out of this process; what was written to them stays in the system's cache and reaches the
    file. Does nothing for an array in memory.
    """
    found = _map(array)
    if found is not None and hasattr(mmap, "MADV_DONTNEED"):
        found.madvise(mmap.MADV_DONTNEED)


def _map(array: Any) -> mmap.mmap | None:
    """The map an array or a view of one lies in."""
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "_mmap", None) or getattr(array, "base", None)
    return array
