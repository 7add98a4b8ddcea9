"""Decoded images on disk: one entry of `artifacts.entries` per set of images.

    <cache>/images/<key>/images.npy      uint8 (n, size, size, 3)

Rows and verdicts are looked up by a file's sha256 over all entries of the same settings: a file that was renamed, moved
to another split or joined by others is not decoded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from tuner.artifacts.entries import Artifacts, Said
from tuner.images.decode import Pixels
from tuner.images.mapped import Rows
from tuner.images.records import Verdict

BUDGET = 20_000_000_000  # bytes of all entries together; those unused for longest go
_NAME = "images.npy"


@dataclass
class Known:
    """rows: {file sha256: (array, row)}, arrays checked against their checksum. verdicts: {file sha256: verdict}."""

    rows: dict[str, tuple[Pixels, int]] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)


class Cache:
    """The entries of one setting. settings: all that a row depends on beside the file's bytes."""

    def __init__(self, folder: Path, settings: str, size: int) -> None:
        self._artifacts = Artifacts(folder / "images")
        self.settings = settings
        self.size = size

    def key(self, files: Iterable[str]) -> str:
        """Hex sha256 of the settings and the images' sha256 in order."""
        return hashlib.sha256("\n".join([self.settings, *files]).encode()).hexdigest()

    def alone(
        self, files: Iterable[str], said: Said, stop: threading.Event | None
    ) -> contextlib.AbstractContextManager[None]:
        """One process at a time decodes these files, in whatever order and splits; as `Artifacts.alone`."""
        return self._artifacts.alone(self.key(sorted(set(files))), "reading the same photographs", said, stop)

    def known(self, files: Iterable[str]) -> Known:
        """The verdicts on `files`, and the rows for as many as sound entries hold; few entries, the fullest first."""
        files = set(files)
        missing, known = set(files), Known()
        told = {key: self._artifacts.about(key) for key in self._artifacts.listed()}
        mine = {key: about for key, about in told.items() if about is not None and about["settings"] == self.settings}
        for key in sorted(mine, key=lambda key: -len(missing.intersection(mine[key]["files"]))):
            about = mine[key]
            useful = missing & set(about["files"])
            array = self._open(key) if useful else None
            if useful and array is None:
                continue
            known.verdicts.update({sha: Verdict(**about["verdicts"][sha]) for sha in files & set(about["verdicts"])})
            if array is not None:
                known.rows.update({sha: (array, row) for row, sha in enumerate(about["files"]) if sha in useful})
                missing -= useful
        return known

    @contextlib.contextmanager
    def staging(self, rows: int) -> Iterator[Pixels]:
        """A writable uint8 (rows, size, size, 3) whose file goes when the context ends."""
        with self._artifacts.staging() as staged:
            yield staged.array("new.npy", self._shape(rows), np.uint8)

    def keep(self, files: list[str], known: Known) -> Pixels:
        """The read-only array of these images in this order, written from known rows where there is none.

        The verdicts are kept with it, also those on other files: one that is left out is not tried again.
        """
        key = self.key(files)
        verdicts = {sha: asdict(verdict) for sha, verdict in known.verdicts.items()}
        if (array := self._open(key)) is not None:
            about = self._artifacts.about(key)
            if about is not None and not set(verdicts) <= set(about["verdicts"]):
                self._artifacts.amend(key, {**about, "verdicts": {**about["verdicts"], **verdicts}})
            return array
        self._publish(key, files, known.rows, verdicts)
        if (array := self._open(key)) is None:
            raise OSError(f"{self._artifacts.folder / key} cannot be read back")
        return array

    def prune(self) -> None:
        """Removes the entries unused for longest when all take more than BUDGET; those that are mapped stay."""
        self._artifacts.prune(BUDGET)

    def _open(self, key: str) -> Pixels | None:
        about = self._artifacts.about(key)
        return about and self._artifacts.map(key, _NAME, self._shape(len(about["files"])), np.uint8)

    def _publish(
        self, key: str, files: list[str], rows: Mapping[str, tuple[Pixels, int]], verdicts: Mapping[str, object]
    ) -> None:
        with self._artifacts.staging() as staged:
            array = staged.array(_NAME, self._shape(len(files)), np.uint8)
            written, read = Rows(array), {id(source): Rows(source) for source, _ in rows.values()}
            for row, sha in enumerate(files):
                source, at = rows[sha]
                array[row] = source[at]
                written.touched(array[row].nbytes)
                read[id(source)].touched(array[row].nbytes)
            array.flush()
            del array, written
            self._artifacts.publish(staged, key, {"settings": self.settings, "files": files, "verdicts": verdicts})

    def _shape(self, rows: int) -> tuple[int, int, int, int]:
        return (rows, self.size, self.size, 3)
