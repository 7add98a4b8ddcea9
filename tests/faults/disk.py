"""What a disk may hold after a power cut, from a recording of what a process did to it (`recorder.c`). Linux.

Certain is only what was synced: of a file the bytes it had at its last fsync, of a folder the names it had at its own.
Everything later may be there, wholly or in part, or not.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

_RECORD = struct.Struct("=IIIIQQq")
SECTOR = 512
VARIANTS = ("least", "names", "some", "torn", "all")
"""What there is of what was not synced. least: nothing. names: files have their names, and nothing in them. some: names
up to a moment since the last sync. torn: those, and of each sector either what was there or what was written. all.
"""


class What(IntEnum):
    OPEN = 1
    WRITE = 2
    SIZE = 3
    SYNC = 4
    SYNC_FOLDER = 5
    SYNC_ALL = 6
    RENAME = 7
    UNLINK = 8
    MKDIR = 9
    RMDIR = 10
    RESERVE = 11
    EXCHANGE = 12


@dataclass(frozen=True)
class Event:
    what: What
    inode: int
    at: int
    first: str
    second: str
    data: bytes


@dataclass
class File:
    written: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    _read: bytes | None = b""

    @property
    def data(self) -> bytes:
        """The same object until something is written."""
        if self._read is None:
            self._read = bytes(self.written)
        return self._read

    def write(self, data: bytes, at: int) -> None:
        self.resize(max(len(self.written), at))
        self.written[at : at + len(data)] = data

    def resize(self, size: int) -> None:
        self._read = None
        del self.written[size:]
        self.written.extend(bytes(size - len(self.written)))


@dataclass
class Folder:
    now: dict[str, File | Folder] = field(default_factory=dict)
    synced: dict[str, File | Folder] = field(default_factory=dict)
    since: list[tuple[int, dict[str, File | Folder]]] = field(default_factory=list)
    """By the number of the event that changed them, the names since anything was last synced."""


Tree = Mapping[str, bytes | None]
"""By path its bytes; None: a folder."""


def reason() -> str:
    """Why nothing can be recorded here, or ""."""
    if sys.platform != "linux":
        return f"calls are recorded on Linux only, this is {sys.platform}"
    return "" if shutil.which("cc") else "no C compiler (cc) to build the recorder with"


def record(root: Path, command: list[str]) -> list[Event]:
    """Runs a command; what it did below `root`."""
    library, log = root.parent / "recorder.so", root.parent / "recorded"
    source = Path(__file__).with_name("recorder.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl", "-lpthread"], check=True)
    environment = os.environ | {"LD_PRELOAD": str(library), "POWER_ROOT": str(root), "POWER_LOG": str(log)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"what is recorded ended with {done.returncode}:\n{done.stdout}")
    return list(read(log.read_bytes(), root))


def read(log: bytes, root: Path) -> Iterator[Event]:
    """The events of a log, paths below `root`."""
    at, prefix = 0, f"{root}/"
    while at < len(log):
        what, first, second, _, inode, size, where = _RECORD.unpack_from(log, at)
        at += _RECORD.size
        names = log[at : at + first].decode(), log[at + first : at + first + second].decode()
        at += first + second
        kept = size if what == What.WRITE or (what == What.SYNC and where) else 0
        yield Event(What(what), inode, where, *(n.removeprefix(prefix) for n in names), log[at : at + kept])
        at += kept


class Disk:
    """Plays events; `states` are what a cut after them may leave."""

    def __init__(self) -> None:
        self.root, self.seen = Folder(), 0
        self._files: dict[int, File] = {}
        self._unsynced: list[Folder] = []

    def play(self, event: Event) -> None:
        self.seen += 1
        match event.what:
            case What.OPEN:
                folder, name = self._place(event.first)
                if name not in folder.now:
                    self._change(folder, {**folder.now, name: File()})
                self._files[event.inode] = file = _file(folder.now[name])
                if event.at:
                    file.resize(0)
            case What.WRITE:
                self._files[event.inode].write(event.data, event.at)
            case What.SIZE:
                self._files[event.inode].resize(event.at)
            case What.RESERVE:
                file = self._files[event.inode]
                file.resize(max(len(file.written), event.at))
            case What.SYNC:
                file = self._files[event.inode]
                if event.at:  # of a file that is mapped, which changes without a call
                    file.resize(0)
                    file.write(event.data, 0)
                file.synced = file.data
                self._journal()
            case What.SYNC_FOLDER:
                folder = self._folder(event.first)
                folder.synced = dict(folder.now)
                self._journal()
            case What.SYNC_ALL:
                for folder in self._folders(self.root):
                    folder.synced = dict(folder.now)
                    for node in folder.now.values():
                        if isinstance(node, File):
                            node.synced = node.data
                self._journal()
            case What.MKDIR:
                folder, name = self._place(event.first)
                self._change(folder, {**folder.now, name: Folder()})
            case What.UNLINK | What.RMDIR:
                folder, name = self._place(event.first)
                self._change(folder, {n: node for n, node in folder.now.items() if n != name})
            case What.RENAME:
                folder, name = self._place(event.first)
                moved = folder.now[name]
                self._change(folder, {n: node for n, node in folder.now.items() if n != name})
                folder, name = self._place(event.second)
                self._change(folder, {**folder.now, name: moved})

            case What.EXCHANGE:
                (one, name), (other, second) = self._place(event.first), self._place(event.second)
                moved, came = one.now[name], other.now[second]
                self._change(one, {**one.now, name: came})
                self._change(other, {**other.now, second: moved})

    def state(self, variant: str, draw: random.Random, below: str = "") -> Tree:
        """One thing that a cut now may leave in a folder, which is there itself."""
        moments = sorted({moment for folder in self._unsynced for moment, _ in folder.since})
        until = draw.choice([0, *moments]) if variant in ("some", "torn") else self.seen

        def names(folder: Folder) -> Mapping[str, File | Folder]:
            if variant == "least":
                return folder.synced
            later = [entries for moment, entries in folder.since if moment <= until]
            return later[-1] if later else folder.since[0][1] if folder.since else folder.now

        def content(file: File) -> bytes:
            if variant == "all":
                return file.data
            return _torn(file, draw) if variant == "torn" else file.synced

        return dict(_tree(self._folder(below), names, content, ""))

    def _place(self, path: str) -> tuple[Folder, str]:
        parent, _, name = path.rpartition("/")
        return self._folder(parent), name

    def _folder(self, path: str) -> Folder:
        node: File | Folder = self.root
        for name in filter(None, path.split("/")):
            assert isinstance(node, Folder)
            node = node.now[name]
        assert isinstance(node, Folder)
        return node

    def _folders(self, folder: Folder) -> Iterator[Folder]:
        yield folder
        for node in folder.now.values():
            if isinstance(node, Folder):
                yield from self._folders(node)

    def _change(self, folder: Folder, names: dict[str, File | Folder]) -> None:
        if not folder.since:
            folder.since.append((0, folder.now))
            self._unsynced.append(folder)
        folder.now = names
        folder.since.append((self.seen, names))

    def _journal(self) -> None:
        """A sync of anything writes down all names so far: on every file system with a journal, though not by POSIX,
        which is what "least" is.
        """
        for folder in self._unsynced:
            folder.since.clear()
        self._unsynced.clear()


def _file(node: File | Folder) -> File:
    assert isinstance(node, File)
    return node


def _tree(
    folder: Folder,
    names: Callable[[Folder], Mapping[str, File | Folder]],
    content: Callable[[File], bytes],
    under: str,
) -> Iterator[tuple[str, bytes | None]]:
    for name, node in sorted(names(folder).items()):
        if isinstance(node, File):
            yield under + name, content(node)
        else:
            yield under + name, None
            yield from _tree(node, names, content, f"{under}{name}/")


def _torn(file: File, draw: random.Random) -> bytes:
    if file.data == file.synced:
        return file.data
    size = draw.choice([len(file.synced), len(file.data)])
    old, new = (data[:size].ljust(size, b"\0") for data in (file.synced, file.data))
    starts = range(0, size, SECTOR)
    return b"".join((old if draw.random() < 0.5 else new)[at : at + SECTOR] for at in starts)


def digest(tree: Tree) -> int:
    """Alike for what is alike, within this process; bytes that stay the same object are read once."""
    return hash(tuple(tree.items()))


def lay_out(tree: Tree, root: Path) -> None:
    """Writes a state below `root`."""
    root.mkdir(parents=True)
    for path, data in tree.items():
        if data is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(data)
