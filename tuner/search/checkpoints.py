"""The files with trained weights: which are whole, without reading one twice, and when they go."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from tuner.artifacts import own
from tuner.artifacts.files import sha256_of
from tuner.store.store import Saved

Stamp = tuple[int, int, int]

_NAME = r"[\w-]+-(last|best)-\d{5,}\.npz"
_OURS = re.compile(rf"{_NAME}|\.{_NAME}\.\w+\.part")


class Checkpoints:
    """The checkpoint folder as this process knows it. A file that it wrote, or found whole, and that nobody has touched
    since is whole: a later rung goes on from it without hashing hundreds of megabytes again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._whole: dict[str, tuple[str, Stamp]] = {}

    def wrote(self, saved: Saved) -> None:
        """Remembers a file just written."""
        if (stamp := _stamp(self.folder / saved.file)) is not None:
            self._whole[saved.file] = (saved.sha256, stamp)

    def whole(self, saved: Saved) -> bool:
        """Whether the file is there with the bytes that were recorded."""
        path = self.folder / saved.file
        if (stamp := _stamp(path)) is None:
            return False
        if self._whole.get(saved.file) != (saved.sha256, stamp):
            if sha256_of(path) != saved.sha256:
                return False
            self._whole[saved.file] = (saved.sha256, stamp)
        return True

    def remove(self, saved: Saved) -> None:
        """Removes a file, unless the store, which somebody may have written, names one that cannot be ours."""
        if _OURS.fullmatch(saved.file):
            (self.folder / saved.file).unlink(missing_ok=True)

    def sweep(self, kept: Iterable[Saved]) -> None:
        """Removes every file of ours that no row names. Only while no attempt runs: it may have written what is not
        recorded yet.
        """
        keep = {saved.file for saved in kept}
        own.remove(self.folder, lambda name: name not in keep and _OURS.fullmatch(name))


def _stamp(path: Path) -> Stamp | None:
    """None for anything but a plain file, such as a link to one."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
