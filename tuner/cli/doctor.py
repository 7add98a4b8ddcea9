"""`tlstudy doctor`: what this machine has and what it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tuner.cli.console import out, status


def doctor(
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all of the cache and remove what is damaged; it is made again.")
    ] = False,
) -> None:
    """What this machine has: versions, backend, devices, weights, cache, disk and memory, and what is missing."""
    from rich.table import Table

    from tuner.cli.machine import examine

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    bad = 0
    with status("Reading the cache and starting the backend" if verify else "Starting the backend"):
        findings = examine(Path.cwd(), verify)
    for row in findings:
        bad += row.good is False
        mark = {True: "ok", False: "!!", None: ""}[row.good]
        table.add_row(
            Text(row.name),
            Text(mark, style="bold red" if row.good is False else "green"),
            Text(row.value + (f"\n{row.advice}" if row.advice and row.good is not True else "")),
        )
    out().print(table)
    if bad:
        raise typer.Exit(
            1
            if any(r.good is False and r.value.startswith(("missing", "none", "fails", "damaged")) for r in findings)
            else 0
        )
