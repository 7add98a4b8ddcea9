"""Pieces of Markdown that hold whatever the names in them are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tuner.report import words


def plain(text: object) -> str:
    """Text that Markdown shows as it is: nothing in it steers a terminal, makes markup or breaks a table."""
    escaped = re.sub(r"([\\`*_{}\[\]()<>#!|&~$])", r"\\\1", words.visible(text))
    # At the beginning of a line these would make a list or a rule of it.
    return re.sub(r"^(\s*)(?:(\d+)(?=\.(?:\s|$))|(?=[-+=]))", r"\1\2\\", escaped)


def fenced(text: str, language: str = "") -> str:
    """A code block; its fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    lines = (words.visible(line) for line in text.rstrip("\n").split("\n"))
    return "\n".join([fence + language, *lines, fence])


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
