"""The checksum of a model in its card, and whether the model has it still: no runtime asks."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from tuner.artifacts.files import regular, sha256_of
from tuner.errors import UsageError
from tuner.export.formats import card_path

_LINE = re.compile(r"^The model's SHA-256 is `([0-9a-f]{64})`", re.MULTILINE)
_MOST = 10_000_000  # bytes of a card


def sum_of(path: Path) -> str:
    """Hex SHA-256 of a file; of a folder, of what `sha256sum` says of all files in it, by name:
    `find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum`. Raises OSError.
    """
    if not path.is_dir():
        return sha256_of(path)
    names = sorted(f"./{p.relative_to(path).as_posix()}" for p in path.rglob("*") if p.is_file() and not p.is_symlink())
    return hashlib.sha256("".join(f"{sha256_of(path / name)}  {name}\n" for name in names).encode()).hexdigest()


def told(digest: str) -> str:
    """The line of the card."""
    return f"The model's SHA-256 is `{digest}`; `tlstudy predict --verify` compares it."


def verify(path: Path) -> str:
    """The SHA-256 that a model and its card agree on. Raises UsageError when they do not, or the card has none."""
    card = card_path(path)
    try:
        with open(card, "rb", opener=regular) as file:
            text = file.read(_MOST).decode(errors="replace")
    except OSError as error:
        raise UsageError(
            f"{card}: cannot be read ({error.strerror or error}); expected the model card that `tlstudy best --export` "
            "wrote beside the model, which holds its SHA-256. Copy both, or leave --verify out."
        ) from error
    if (line := _LINE.search(text)) is None:
        raise UsageError(
            f"{card}: holds no SHA-256, expected one: cards of earlier versions have none. Export the model again, or "
            "leave --verify out."
        )
    try:
        found = sum_of(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if found != line[1]:
        raise UsageError(
            f"{path}: has the SHA-256 {found}, expected {line[1]}, as {card.name} says: it is not the file that was "
            "exported, or was damaged since. Copy it again, or export it again."
        )
    return found
