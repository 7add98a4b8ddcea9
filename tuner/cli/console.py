"""Where text goes: consoles of at most 100 columns, a spinner, paths as the user would type them."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

WIDTH = 100


@contextmanager
def status(text: str) -> Iterator[Any]:
    """A spinner on a terminal; gives a function that changes its text."""
    console = err()
    if console.is_terminal:
        with console.status(text) as spinner:
            yield spinner.update
    else:
        yield lambda _text: None


def short(path: Path) -> str:
    """A path as the user would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir + os.sep + os.pardir) else relative


def reader_left(error: BaseException) -> bool:
    """Whether this is the end of a pipe whose reader went away; Typer and rich each make an exit with 1 of it."""
    return isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError)


def data(text: str, nl: bool = True) -> None:
    """Writes to standard output what somebody reads by program. Raises OSError where there is none: a file that was
    asked for and stays empty is no success.
    """
    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed, expected a file or a pipe for the data", "standard output")
    typer.echo(text, nl=nl)


def out() -> Console:
    """Standard output."""
    console = Console(highlight=False)
    return Console(highlight=False, width=min(console.width, WIDTH) if console.is_terminal else WIDTH)


def err() -> Console:
    """Standard error: what is not a result."""
    return Console(stderr=True, highlight=False)
