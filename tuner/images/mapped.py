"""Rows out of arrays on disk that may be larger than memory."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

HELD = 500_000_000
"""Bytes of a map that may stay in this process's memory: the rest is in the system's cache, or on disk alone."""


class Rows:
    """Takes rows out of an array; of a memory map at most about `HELD` bytes are kept in the process.

    The kernel gives pages of a map back only when memory is short, so that a process seems to need the whole file.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array, self._touched = array, 0

    def take(self, rows: Any) -> np.ndarray:
        """A copy of `array[rows]`: rows by number, int64 (n,), or a slice."""
        found = self._array[rows]  # numpy copies what is taken by number; a slice would be a view
        found = np.array(found) if isinstance(rows, slice) else np.asarray(found)
        self.touched(found.nbytes)
        return found

    def touched(self, size: int) -> None:
        """Says that `size` bytes more were read or written."""
        self._touched += size
        if self._touched > HELD:
            let_go(self._array)
            self._touched = 0


def let_go(array: Any) -> None:
    """Takes a map's pages out of this process; what was written to them stays in the system's cache and reaches the
    file. Does nothing for an array in memory.
    """
    while array is not None:
        if isinstance(array, mmap.mmap):
            if hasattr(mmap, "MADV_DONTNEED"):
                array.madvise(mmap.MADV_DONTNEED)
            return
        array = getattr(array, "_mmap", None) or getattr(array, "base", None)
