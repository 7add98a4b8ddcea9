"""What is ours in a study folder or a cache, which may have come from elsewhere: no symbolic link there is followed, no
pipe is waited for, and folders that are made are for their owner alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Of every file of ours that is opened. Nonblock: a pipe in the place of a file must not hang."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | FLAGS
_KINDS = {stat.S_IFLNK: "a symbolic link", stat.S_IFREG: "", stat.S_IFDIR: "", stat.S_IFIFO: "a pipe"}


def strange(path: Path | str) -> str:
    """What stands there when it is neither a plain file nor a folder, in words; "" for those, and where nothing is."""
    try:
        return _KINDS.get(stat.S_IFMT(os.lstat(path).st_mode), "a socket or a device")
    except OSError:
        return ""


def plain(path: Path | str, flags: int) -> int:
    """Opens a plain file, a new one for its owner alone: an opener for `open`. Raises OSError for anything else."""
    if kind := strange(path):
        raise OSError(errno.EINVAL, f"{kind}, expected a plain file", str(path))
    return os.open(path, flags | FLAGS, 0o600)


def make(folder: Path, mode: int = 0o700) -> None:
    """Makes a folder, and those above it that are missing, for their owner alone; one that is there stays as it is.

    It is still there after a power cut, as is then what is synced in it.
    """
    with contextlib.suppress(FileExistsError):
        try:
            os.mkdir(folder, mode)
        except FileNotFoundError:
            if folder.parent == folder or folder.is_symlink():  # a link to nothing
                raise
            make(folder.parent, mode)
            os.mkdir(folder, mode)
        with contextlib.suppress(OSError):  # a folder in which we may write, but which we may not read
            sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable: new ones, renames, removals."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_private(folder: Path) -> None:
    """As `make`; one that is there is closed to everybody else. Raises OSError for a link, and for what is no folder.

    For folders that this package names itself: what somebody names, and may have opened to others, is left as it is.
    """
    make(folder)
    if kind := strange(folder):
        raise OSError(errno.ELOOP, f"{kind}, expected a folder of its own", str(folder))
    handle = os.open(folder, _FOLDER)
    try:
        if others := (mode := stat.S_IMODE(os.fstat(handle).st_mode)) & 0o077:
            with contextlib.suppress(OSError):  # another user's, or on a disk that cannot be written
                os.fchmod(handle, mode & ~others)
    finally:
        os.close(handle)


def names(folder: Path) -> list[str]:
    """What lies in a folder that is no link, sorted; [] where there is none."""
    try:
        handle = os.open(folder, _FOLDER)
    except OSError:
        return []
    try:
        return sorted(os.listdir(handle))
    finally:
        os.close(handle)


def remove(folder: Path, unwanted: Callable[[str], object]) -> None:
    """Removes the files in a folder whose names are `unwanted`; none where the folder is a link."""
    try:
        handle = os.open(folder, _FOLDER)
    except OSError:
        return
    try:
        for name in os.listdir(handle):
            if unwanted(name):
                with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(name, dir_fd=handle)
    finally:
        os.close(handle)
