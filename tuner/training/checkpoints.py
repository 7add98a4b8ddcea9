"""The files with trained weights: which are whole, without reading one twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tuner.artifacts.files import sha256_of
from tuner.store.store import Saved

Stamp = tuple[int, int, int]


class Checkpoints:
    """The checkpoint folder as this process knows it. A file that it wrote, or found whole, and that nobody has touched
    since is whole: a later rung goes on from it without hashing hundreds of megabytes again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._whole: dict[str, tuple[str, Stamp]] = {}

    def wrote(self, saved: Sequence[Saved]) -> None:
        """Remembers files just written."""
        for one in saved:
            if (stamp := _stamp(self.folder / one.file)) is not None:
                self._whole[one.file] = (one.sha256, stamp)

    def whole(self, file: str, sha256: str) -> Path | None:
        """The path of a checkpoint whose bytes have that SHA-256 (hex); None when it is missing or damaged."""
        path = self.folder / file
        if (stamp := _stamp(path)) is None:
            return None
        if self._whole.get(file) != (sha256, stamp):
            if not path.is_file() or sha256_of(path) != sha256:
                return None
            self._whole[file] = (sha256, stamp)
        return path


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
