"""A .zip of images, unpacked once and safely: nothing is written outside its folder, and no bomb goes off."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import threading
import zipfile
from functools import partial
from io import BufferedReader
from pathlib import Path

from tuner.artifacts.entries import Artifacts, Entry, Said, silent
from tuner.artifacts.files import room
from tuner.errors import DataError
from tuner.images.names import ignored, shown

MAX_MEMBERS = 200_000
MAX_BYTES = 20 * 10**9
MAX_RATIO = 200
"""Bytes unpacked over bytes packed, for members above RATIO_FROM: images hardly compress at all."""
RATIO_FROM = 10**6
DEEPEST = 100
"""Folders that a file may lie in, one in the other."""
LONGEST_NAME = 255
"""Bytes of a file's name that file systems take."""
BUDGET = 20_000_000_000
"""Bytes of all unpacked archives; those unused for longest go."""

_CHUNK = 1 << 20
_FIRST = b"PK\x03\x04"
_WHOLE = "expected one that unpacks completely. Fetch or pack it again."
_FILES = "files"  # the folder in an entry that holds what was in the zip
_used: dict[Path, Entry] = {}  # until this process ends: images are read, and shown, by their paths


def unpack(path: Path, cache: Path, said: Said = silent, stop: threading.Event | None = None) -> Path:
    """Unpacks a zip into `<cache>/archives/<sha256 of the zip>/files/`, or finds it there, and returns that folder.

    A single folder that wraps everything is stepped into. Made, checked and waited for as `artifacts.entries` says.
    Raises DataError for what is not a zip, is damaged, encrypted, too large, or would write outside its folder.
    """
    kept = Artifacts(cache / "archives")
    try:
        with _opened(path) as stream:
            key = _key(stream)
            entry = kept.made(key, partial(_unpack, path, stream, key), "unpacking the same .zip", said, stop)
    except DataError as error:
        raise DataError(f"{shown(path)}: {error}") from error
    except OSError as error:
        reason = f"cannot be unpacked into {shown(kept.folder)} ({error.strerror or error})"
        raise DataError(f"{shown(path)}: {reason}.") from error
    _used[entry.folder] = entry
    kept.prune(BUDGET)
    return _inner(entry.folder / _FILES)


def _opened(path: Path) -> BufferedReader:
    """One handle, from hashing to unpacking: a file that takes the zip's place meanwhile is not seen."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}).") from error


def _key(stream: BufferedReader) -> str:
    try:
        if zipfile.is_zipfile(stream):
            stream.seek(0)
            return hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        if stream.read(4) == _FIRST:
            raise DataError(f"a damaged or truncated zip (its end is missing); {_WHOLE}")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}).") from error
    raise DataError("a file that is not a zip; expected a folder or a .zip of one. Unpack it, or pack it as .zip.")


def _unpack(path: Path, stream: BufferedReader, key: str, entry: Path) -> str:
    folder = entry / _FILES
    folder.mkdir()
    try:
        with zipfile.ZipFile(stream) as archive:
            for member, place in _checked(archive, folder).items():
                _extract(archive, member, place)
    except (DataError, OSError):
        raise
    except Exception as error:  # zipfile raises BadZipFile, zlib.error, EOFError, NotImplementedError and more
        raise DataError(f"a damaged zip ({shown(str(error) or type(error).__name__)}); {_WHOLE}") from error
    stream.seek(0)
    if hashlib.file_digest(stream, "sha256").hexdigest() != key:
        raise DataError("changed while it was unpacked; expected a file that stays. Start again once it is whole.")
    return path.name


def _checked(archive: zipfile.ZipFile, folder: Path) -> dict[zipfile.ZipInfo, Path]:
    """Where each file goes, after every check that needs no unpacking."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise DataError(f"{len(members):,} files in the zip, at most {MAX_MEMBERS:,} are unpacked. Unpack it.")
    total, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if total > min(MAX_BYTES, free):
        limit = f"{room(free)} are free on the cache's disk"
        if total > MAX_BYTES:
            limit = f"at most {MAX_BYTES / 1e9:.0f} GB are unpacked"
        raise DataError(f"{room(total)} when unpacked; {limit}. Unpack it yourself and give the folder.")
    members_at: dict[Path, zipfile.ZipInfo] = {}
    for member in members:
        place = _place(member, folder)
        if place is None or member.is_dir():
            continue
        if place in members_at:
            raise DataError(f"{shown(member.filename)} is in the zip twice, expected once. Pack it again.")
        members_at[place] = member
    for place, member in members_at.items():
        if both := [parent for parent in place.parents if parent in members_at]:
            raise DataError(
                f"{shown(both[0].relative_to(folder).as_posix())} is a file in the zip, and a folder too, of "
                f"{shown(member.filename)}; expected one of them. Pack it again."
            )
    return {member: place for place, member in members_at.items()}


def _place(member: zipfile.ZipInfo, folder: Path) -> Path | None:
    """The member's path inside the folder, None for the system's own files; DataError for anything that is not safe."""
    name = member.orig_filename.replace("\\", "/")  # orig_filename: zipfile cuts `filename` at a NUL byte
    parts = [part for part in name.split("/") if part not in ("", ".")]
    mode = member.external_attr >> 16
    refused = ""
    if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        refused = "its path leaves the folder"
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        refused = "it is a link or a special file"
    elif any(len(part.encode(errors="replace")) > LONGEST_NAME for part in parts):
        refused = f"its name is longer than {LONGEST_NAME} bytes, more than file systems take"
    elif len(parts) > DEEPEST:
        refused = f"it lies more than {DEEPEST} folders deep"
    elif member.flag_bits & 1:
        refused = "it is encrypted"
    elif member.file_size > RATIO_FROM and member.file_size > MAX_RATIO * member.compress_size:
        refused = f"it grows more than {MAX_RATIO}-fold ({member.compress_size:,} to {member.file_size:,} bytes)"
    if refused:
        raise DataError(
            f"{shown(name)} in the zip is refused: {refused}; expected plain photographs. Nothing was unpacked."
        )
    if not parts or any(ignored(part) for part in parts):
        return None
    place = folder.joinpath(*parts)
    if not Path(os.path.realpath(place)).is_relative_to(os.path.realpath(folder)):
        raise DataError(f"{shown(name)} in the zip is refused: its path leaves the folder.")
    return place


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path) -> None:
    """Writes at most the size the directory states; zipfile checks the CRC at the end."""
    place.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with archive.open(member) as source, open(place, "xb") as sink:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise zipfile.BadZipFile(f"{member.filename} is larger than the zip says")
            sink.write(chunk)


def _inner(folder: Path) -> Path:
    """Steps into one wrapping folder, as zipping a folder makes it."""
    entries = [path for path in folder.iterdir() if not ignored(path.name)]
    if len(entries) == 1 and entries[0].is_dir() and any(path.is_dir() for path in entries[0].iterdir()):
        return entries[0]
    return folder
