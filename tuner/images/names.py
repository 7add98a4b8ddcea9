"""File names in messages, and which names are the system's and not the user's."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

_SYSTEM = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "__macosx",
    "$recycle.bin",
    "system volume information",
    "lost+found",
}


def shown(name: str | Path) -> str:
    """The name as it is where it can be printed on one line; else as `repr` has it (control characters, not UTF-8)."""
    text = str(name)
    return text if text.isprintable() else repr(text)


def listed(names: Iterable[str], most: int = 10, between: str = ", ") -> str:
    """The first `most` names, and how many more there are."""
    names = list(names)
    more = f"{between}and {len(names) - most} more" if len(names) > most else ""
    return between.join(shown(name) for name in names[:most]) + more


def ignored(name: str) -> bool:
    """Hidden and system files and folders: `.x`, `._x.jpg`, `Thumbs.db`, `__MACOSX`."""
    return name.startswith(".") or name.casefold() in _SYSTEM


def normal(name: str) -> str:
    """The form in which class names are compared and kept: a name from a Mac equals the same name from elsewhere."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Equal for names that some file systems cannot tell apart."""
    return normal(normal(name).casefold())
