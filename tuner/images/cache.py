"""Decoded photographs on disk: one folder per set of photographs, published whole or not at all.

    <cache>/images/<key>/images.npy      uint8 (n, size, size, 3)
                         manifest.json   the array's sha256, and what is known of each file by its sha256

Rows and verdicts are looked up by a file's sha256 over all entries of the same settings: a file that was renamed, moved
to another split or joined by others is not decoded again.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tuner.images.decode import Pixels
from tuner.images.mapped import Rows

_TEMPORARY = ".tlstudy-tmp-"
BUDGET = 20_000_000_000  # bytes of all entries together; those unused for longest go
_STALE = 24 * 3600  # seconds after which a temporary folder is taken for the rest of a killed process


@dataclass(frozen=True)
class Verdict:
    """What decoding told. reason: why the file is left out, or "" for a photograph. width, height: upright.

    look: `likeness.look`.
    """

    reason: str = ""
    pixels: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    frames: bool = False
    uniform: bool = False
    look: str = ""


@dataclass
class Known:
    """rows: {file sha256: (array, row)}, arrays checked against their checksum. verdicts: {file sha256: verdict}."""

    rows: dict[str, tuple[Pixels, int]] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)


class Cache:
    """The entries of one setting. settings: all that a row depends on beside the file's bytes."""

    def __init__(self, folder: Path, settings: str, size: int) -> None:
        self.folder = folder / "images"
        self.settings = settings
        self.size = size
        self._sound: dict[str, Pixels] = {}  # entries whose checksum was found right by this object

    def key(self, files: Iterable[str]) -> str:
        """Hex sha256 of the settings and the photographs' sha256 in order."""
        return hashlib.sha256("\n".join([self.settings, *files]).encode()).hexdigest()

    def known(self, files: Iterable[str]) -> Known:
        """Every verdict, and the rows for as many of `files` as sound entries hold; damaged entries are removed."""
        missing, known = set(files), Known()
        if not self.folder.is_dir():
            return known
        for entry in sorted(path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
            manifest = _manifest(entry)
            if manifest is None:
                shutil.rmtree(entry, ignore_errors=True)
            elif manifest["settings"] == self.settings:
                self._take(entry, manifest, missing, known)
        return known

    def _take(self, entry: Path, manifest: Mapping[str, Any], missing: set[str], known: Known) -> None:
        useful = missing & set(manifest["files"])
        array = self._array(entry, manifest) if useful else None
        if useful and array is None:
            shutil.rmtree(entry, ignore_errors=True)
            return
        known.verdicts.update({sha: Verdict(**verdict) for sha, verdict in manifest["verdicts"].items()})
        if array is not None:
            known.rows.update({sha: (array, row) for row, sha in enumerate(manifest["files"]) if sha in useful})
            missing -= useful

    def open(self, key: str) -> Pixels | None:
        """The entry's array as a read-only memory map, or None when it is missing or damaged."""
        manifest = _manifest(self.folder / key)
        return None if manifest is None else self._array(self.folder / key, manifest)

    def _array(self, entry: Path, manifest: Mapping[str, Any]) -> Pixels | None:
        path = entry / "images.npy"
        if entry.name in self._sound:
            return self._sound[entry.name]
        try:
            with open(path, "rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != manifest["sha256"]:
                    return None
            array: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            return None
        if array.dtype != np.uint8 or array.shape != (len(manifest["files"]), self.size, self.size, 3):
            return None
        self._sound[entry.name] = array
        return array

    def prune(self, used: str) -> None:
        """Marks `used` as used now, and removes the entries unused for longest when all take more than BUDGET.

        A search that still maps a removed file goes on reading it (POSIX); its next session decodes again.
        """
        os.utime(self.folder / used)
        entries = sorted(
            (p for p in self.folder.iterdir() if not p.name.startswith(".")), key=lambda p: p.stat().st_mtime
        )
        sizes = {p: sum(f.stat().st_size for f in p.glob("*")) for p in entries}
        total = sum(sizes.values())
        for entry in entries:
            if total > BUDGET and entry.name != used:
                shutil.rmtree(entry, ignore_errors=True)
                total -= sizes[entry]

    def staging(self, rows: int) -> tuple[Path, Pixels]:
        """A temporary folder, the caller's to remove, and in it a writable uint8 (rows, size, size, 3)."""
        folder = temporary_folder(self.folder)
        return folder, self._writable(folder / "new.npy", rows)

    def publish(self, files: list[str], known: Known) -> Pixels:
        """Writes the entry for these photographs in this order, from known rows, and returns its array."""
        temporary = temporary_folder(self.folder)
        target = self.folder / self.key(files)
        try:
            array = self._writable(temporary / "images.npy", len(files))
            written, read = Rows(array), {id(source): Rows(source) for source, _ in known.rows.values()}
            for row, sha in enumerate(files):
                source, at = known.rows[sha]
                array[row] = source[at]
                written.touched(array[row].nbytes)
                read[id(source)].touched(array[row].nbytes)
            array.flush()
            del array, written
            with open(temporary / "images.npy", "rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                os.fsync(stream.fileno())
            self._write_manifest(temporary, files, digest, known.verdicts)
            if target.exists() and self.open(target.name) is None:
                shutil.rmtree(target)
            try:
                os.rename(temporary, target)
            except OSError:
                if self.open(target.name) is None:  # else another process was quicker, with the same photographs
                    raise
            _sync(self.folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        published = self.open(target.name)
        if published is None:
            raise OSError(f"{target} cannot be read back")
        return published

    def remember(self, key: str, verdicts: Mapping[str, Verdict]) -> None:
        """Adds verdicts to an entry's manifest, atomically: a file left out is not tried again either."""
        entry = self.folder / key
        manifest = _manifest(entry)
        if manifest is None:
            return
        old = {sha: Verdict(**verdict) for sha, verdict in manifest["verdicts"].items()}
        if not set(verdicts) <= set(old):
            self._write_manifest(entry, manifest["files"], manifest["sha256"], {**old, **verdicts})

    def _write_manifest(self, folder: Path, files: list[str], digest: str, verdicts: Mapping[str, Verdict]) -> None:
        body = {
            "settings": self.settings,
            "sha256": digest,
            "files": files,
            "verdicts": {s: asdict(v) for s, v in verdicts.items()},
        }
        text = json.dumps({"body": body, "sha256": _digest(body)}, sort_keys=True)
        new = folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
        with open(new, "x", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(new, folder / "manifest.json")
        _sync(folder)

    def _writable(self, path: Path, rows: int) -> np.memmap[Any, np.dtype[np.uint8]]:
        shape = (rows, self.size, self.size, 3)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        if hasattr(
            os, "posix_fallocate"
        ):  # a full disk is an OSError here; on writing to the map it would kill the process
            with open(path, "r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
        return array


def temporary_folder(parent: Path) -> Path:
    """A new empty folder beside what it will become, the caller's to rename or remove.

    Not tempfile's: that would be closed to other users for ever. Removes what processes that were killed left behind.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.glob(f"{_TEMPORARY}*"):
        _remove_stale(old)
    folder = parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
    folder.mkdir()
    return folder


def _manifest(entry: Path) -> dict[str, Any] | None:
    """The manifest's body, or None when it is missing, torn or changed."""
    try:
        document = json.loads((entry / "manifest.json").read_text("utf-8"))
        body = document["body"]
        return body if isinstance(body, dict) and document["sha256"] == _digest(body) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _remove_stale(folder: Path) -> None:
    try:
        if time.time() - folder.stat().st_mtime > _STALE:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass  # its owner was quicker


def _sync(folder: Path) -> None:
    """Makes renames in a folder last through a power cut; Windows has no such call and needs none."""
    if os.name != "nt":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
