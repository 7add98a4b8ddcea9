"""Things that are made once, kept on disk and shared by all studies of a user: images, features, weights, archives.

    <cache>/<kind>/<key>/             one entry, published whole or not at all
                     <its files>
                     manifest.json    what was said of it, and of each file the checksums and the stamp
                     lock             held, shared, by every process that uses the entry
                   .lock-<key>        while one process makes an entry that others wait for
                   .part-<random>/    while an entry is made or removed

**What is believed.** An entry counts only with a whole manifest of this LAYOUT, and when each of its files is a plain
file with the size, the time of change and the inode that the manifest has (its stamp). Where a stamp differs (a copied
cache, another program's hand) the file is read once and held against its checksums, one for each CHUNK: if they are
right the new stamp is written down, if not the entry is removed and made again. So a start reads no entry whose stamps
are known, however large, and bytes that change under an unchanged stamp (a failing disk, somebody who sets the time
back) are seen by `verify` alone, which `tlstudy doctor --verify` calls: it reads everything.

**Who may remove.** Nobody removes what a live process holds: an entry that is mapped, or one that is being made; the
kernel lets go of the locks of a process that dies. Pruning also leaves what was used within the last LEASE seconds.

No symbolic link is followed below <cache>.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.artifacts import locks, own
from tuner.artifacts.files import prune, write_atomically

LAYOUT = 4
"""Entries of an earlier layout are not believed: features and images of layout 2 can hold rows that nobody wrote,
features and random weights of layout 3 may have been computed with what Keras's configuration file said.
"""
CHUNK = 64 << 20
"""Bytes of a file that one checksum covers."""
KINDS = ("images", "hashes", "alike", "archives", "features", "weights")

_MANIFEST = "manifest.json"
_DAMAGE = (ValueError, KeyError, TypeError)  # what a manifest or a file that is not ours raises
_PIECE = 1 << 20
_POLL = 0.1  # seconds between two looks at a lock that another process holds
_SYNCED = 32  # files: of more it is quicker to have the system write all that it holds
_LEFT = (locks.PART, ".lock-", ".tlstudy-tmp-")  # the last one: of earlier versions, as what ends in .part
_KEY = re.compile(r"[0-9a-f]{40}")  # in every key, and in what earlier versions wrote
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)

Said = Callable[[str], object]


def silent(text: str) -> None:
    """Says nothing."""


class Entry:
    """An entry in use: `folder` with its files, which stay for as long as this object, or a map made of it, lives.

    about: what was said when it was published.
    """

    def __init__(self, folder: Path, about: Any, handle: int) -> None:
        self.folder, self.about = folder, about
        self.close = weakref.finalize(self, os.close, handle)


@dataclass(frozen=True)
class Staged:
    """An entry that is being made: write its files into `folder`, then `publish`. handle: of its lock."""

    folder: Path
    handle: int

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.memmap[Any, Any]:
        """A writable .npy map, its blocks reserved: a full disk is an OSError here, on writing it would kill us."""
        path = self.folder / name
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array


@contextlib.contextmanager
def workspace(folder: Path) -> Iterator[Staged]:
    """A hidden place to work in inside `folder`, gone at the end. Sweeps what killed processes left of theirs.

    An error of the disk names `folder`.
    """
    parts = (name for name in os.listdir(folder) if re.fullmatch(re.escape(locks.PART) + "[0-9a-f]{16}", name))
    locks.sweep(folder / name for name in parts)
    while True:
        place = folder / f"{locks.PART}{secrets.token_hex(8)}"
        place.mkdir(0o700)
        try:
            handle, _ = locks.lock(place / locks.LOCK, new=True)
            break
        except (BlockingIOError, FileExistsError, FileNotFoundError):
            continue  # taken for left behind in the instant before it was locked
    try:
        yield Staged(place, handle)
    except OSError as error:
        if error.filename is None and error.errno in _FULL:
            error.filename = str(folder)
        raise
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(handle)


@dataclass(frozen=True)
class Artifacts:
    """The entries of one kind, in `folder`. Keys are the caller's: plain names that say all an entry depends on."""

    folder: Path

    def listed(self) -> list[str]:
        """All of ours that lies where entries lie, whole or not, sorted; other files of a user's stay unseen."""
        return [name for name in own.names(self.folder) if not name.startswith(".") and self._ours(name)]

    def about(self, key: str) -> Any:
        """What was said of an entry, from its manifest and its files' sizes alone; None when it is not whole."""
        try:
            body = self._body(key)
            whole = all(_stamp(self.folder / key / n)[0] == told["stamp"][0] for n, told in body["files"].items())
            return body["about"] if whole else None
        except (OSError, *_DAMAGE):
            return None

    def open(self, key: str) -> Entry | None:
        """The entry, checked as the module says, marked as used and held; None when there is none. Removes damage."""
        try:
            return self._open(key)
        except OSError:  # none, or one that comes or goes right now, or the disk fails
            return None
        except _DAMAGE:
            locks.sweep([self.folder / key])
            return None

    def map(self, key: str, name: str, shape: tuple[int, ...], dtype: Any) -> np.memmap[Any, Any] | None:
        """A file of an entry as a read-only map, which holds the entry; None unless it is whole and as expected."""
        if (entry := self.open(key)) is None:
            return None
        with contextlib.suppress(OSError, ValueError):
            array = np.load(entry.folder / name, mmap_mode="r", allow_pickle=False)
            if array.shape == shape and array.dtype == dtype:
                weakref.finalize(array._mmap, lambda kept: None, entry)
                return array  # type: ignore[no-any-return]
        entry.close()
        locks.sweep([self.folder / key])
        return None

    def made(
        self,
        key: str,
        make: Callable[[Path], Any],
        doing: str,
        said: Said = silent,
        stop: threading.Event | None = None,
    ) -> Entry:
        """The entry; where there is none `make` writes it into a folder and returns what is to be said about it."""
        if (found := self.open(key)) is None:
            with self.alone(key, doing, said, stop):
                if (found := self.open(key)) is None:  # else another process made it meanwhile
                    with self.staging() as staged:
                        self.publish(staged, key, make(staged.folder))
                    found = self.open(key)
        if found is None:
            raise OSError(errno.EIO, "what was just written cannot be read back", str(self.folder / key))
        return found

    @contextlib.contextmanager
    def alone(self, key: str, doing: str, said: Said = silent, stop: threading.Event | None = None) -> Iterator[None]:
        """One process at a time under the same key. Who has to wait says so, once: for another that is `doing` it.

        Raises KeyboardInterrupt when `stop` is set meanwhile. Look again for what is missing once inside.
        """
        self._make_folder()
        path, waiting = self.folder / f".lock-{key}", False
        while True:
            try:
                handle, _ = locks.lock(path)
                break
            except BlockingIOError:
                if stop is not None and stop.is_set():
                    raise KeyboardInterrupt from None
                if not waiting:
                    said(f"Another process is {doing}; waiting for it, so that it is done once.")
                waiting = True
                time.sleep(_POLL)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # first: whoever locks this one now sees that it is gone and makes another
            os.close(handle)

    @contextlib.contextmanager
    def staging(self) -> Iterator[Staged]:
        """A new entry, or a place to work in: removed at the end unless published. Sweeps what killed ones left."""
        self._make_folder()
        self._sweep()
        with workspace(self.folder) as staged:
            yield staged

    def publish(self, staged: Staged, key: str, about: Any) -> None:
        """Checksums, syncs and renames. An entry of this key that is whole stays: another process was quicker.

        Its files are for their owner alone. The entry is held until the staging ends. about: plain JSON.
        """
        folder, target = staged.folder, self.folder / key
        paths = list(folder.rglob("*"))
        names = sorted(p.relative_to(folder).as_posix() for p in paths if p.is_file())
        names.remove(locks.LOCK)
        for name in names:
            os.chmod(folder / name, 0o600)
        for path in [p for p in paths if p.is_dir()]:
            os.chmod(path, 0o700)
            own.sync_folder(path)
        if len(names) > _SYNCED:
            os.sync()
        else:
            for name in names:
                with open(folder / name, "rb") as file:
                    os.fsync(file.fileno())
        sums = _checksums(folder, names)
        files = {name: {"stamp": _stamp(folder / name), "sha256": sums[name]} for name in names}
        _write(folder, {"layout": LAYOUT, "about": about, "files": files})
        while True:
            try:
                os.rename(folder, target)
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                if self.open(key) is not None:
                    return
                with contextlib.suppress(FileNotFoundError):
                    locks.move_away(target)
        own.sync_folder(self.folder)
        with contextlib.suppress(OSError):
            fcntl.flock(staged.handle, fcntl.LOCK_SH)

    def amend(self, key: str, about: Any) -> None:
        """Says something else of an entry that the caller holds; its files stay what they are."""
        _write(self.folder / key, {**self._body(key), "about": about})

    def prune(self, budget: float) -> None:
        """Removes entries that are not whole and, until at most `budget` bytes are left, those unused for longest.

        Never one that a process holds, nor one that was used within the lease. Sweeps as `staging`. Never raises.
        """
        self._sweep()
        paths = [self.folder / key for key in self.listed()]
        locks.sweep(path for path in paths if self.about(path.name) is None)
        prune(paths, budget, locks.remove)

    def verify(self) -> Iterator[tuple[Path, str]]:
        """Reads every byte of every entry; (entry, "" or what was done about it), one after another.

        A damaged entry is not believed from then on, and it is removed unless a live process uses it.
        """
        for key in self.listed():
            path = self.folder / key
            try:
                self._open(key, thorough=True).close()
                yield path, ""
            except (BlockingIOError, FileNotFoundError):
                continue  # just published, or just gone
            except (OSError, *_DAMAGE) as error:
                with contextlib.suppress(OSError, ValueError):
                    (self._folder(key) / _MANIFEST).unlink()
                try:
                    locks.remove(path)
                    yield path, f"{error}; removed, the next search makes it again"
                except OSError:
                    yield path, f"{error}; no longer believed, but a process may use it, with wrong numbers: stop it"

    def _open(self, key: str, thorough: bool = False) -> Entry:
        """As `open`; raises BlockingIOError for one that comes or goes right now, another error for a damaged one."""
        folder = self._folder(key)
        try:
            handle, _ = locks.lock(folder / locks.LOCK, fcntl.LOCK_SH)
        except FileNotFoundError:
            raise ValueError("made by an earlier version, or damaged") from None
        try:
            body = self._body(key)
            stamps = {name: _stamp(folder / name) for name in body["files"]}
            known = {name: told["stamp"] for name, told in body["files"].items()}
            changed = sorted(name for name in stamps if thorough or stamps[name] != known[name])
            if changed:
                if any(stamps[name][0] != known[name][0] for name in changed):
                    raise ValueError("a file of another size")
                sums = _checksums(folder, changed)
                if wrong := [name for name in changed if sums[name] != body["files"][name]["sha256"]]:
                    raise ValueError(f"another checksum of {wrong[0]}")
                if stamps != known:
                    files = {name: {**told, "stamp": stamps[name]} for name, told in body["files"].items()}
                    with contextlib.suppress(OSError):  # another user's cache, perhaps: it is read again next time
                        _write(folder, {**body, "files": files})
            with contextlib.suppress(OSError):
                os.utime(folder)
            return Entry(folder, body["about"], handle)
        except BaseException as error:
            os.close(handle)
            if isinstance(error, FileNotFoundError):
                raise ValueError(f"{os.path.basename(error.filename)} is missing") from None
            raise

    def _body(self, key: str) -> dict[str, Any]:
        """The manifest without its checksum. Raises OSError or ValueError when it is missing, torn or changed."""
        with open(self._folder(key) / _MANIFEST, "rb", opener=own.plain) as file:
            document = json.load(file)
        body: dict[str, Any] = document["body"]
        if document["sha256"] != _digest(body):
            raise ValueError("a damaged manifest")
        if body["layout"] != LAYOUT:
            raise ValueError("of an earlier version")
        return body

    def _folder(self, key: str) -> Path:
        folder = self.folder / key
        if not stat.S_ISDIR(os.lstat(self.folder).st_mode):
            raise OSError(errno.ENOTDIR, "not a folder of its own", str(self.folder))
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise ValueError("not a folder")
        return folder

    def _ours(self, name: str) -> bool:
        """Whether what lies beside entries is one, or was one of any version."""
        kept = (_MANIFEST, locks.LOCK)
        return bool(_KEY.search(name)) or any(os.path.lexists(self.folder / name / file) for file in kept)

    def _sweep(self) -> None:
        with contextlib.suppress(OSError):
            hidden = [self.folder / name for name in own.names(self.folder) if name.startswith(".")]
            locks.sweep(path for path in hidden if path.name.startswith(_LEFT) or path.name.endswith(".part"))

    def _make_folder(self) -> None:
        own.make_private(self.folder)


def _write(folder: Path, body: Mapping[str, Any]) -> None:
    data = json.dumps({"body": body, "sha256": _digest(body)}, sort_keys=True).encode()
    write_atomically(folder / _MANIFEST, lambda file: file.write(data))


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _stamp(path: Path | str) -> list[int]:
    about = os.lstat(path)
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(f"{os.path.basename(path)} is not a plain file")
    return [about.st_size, about.st_mtime_ns, about.st_ino]


def _checksums(folder: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Of each file the hex SHA-256 of each chunk, in order; chunks are read side by side."""
    jobs = [(name, at) for name in names for at in range(0, max(1, _stamp(folder / name)[0]), CHUNK)]
    found: dict[str, list[str]] = {}
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for (name, _), digest in zip(jobs, pool.map(lambda job: _checksum(folder / job[0], job[1]), jobs), strict=True):
            found.setdefault(name, []).append(digest)
    return found


def _checksum(path: Path, first: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", opener=own.plain) as file:
        file.seek(first)
        left = CHUNK
        while left and (piece := file.read(min(_PIECE, left))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()
