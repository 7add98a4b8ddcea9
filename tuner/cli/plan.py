"""`tlstudy plan`: what a search is going to do and to take, before anything is spent."""

from __future__ import annotations

import json
import os
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli import options
from tuner.cli.console import err, out, status
from tuner.cli.start import resolve, study_meant
from tuner.store.options import Resolved
from tuner.study import Study


class PlanFormat(StrEnum):
    table = "table"
    json = "json"


def plan(
    study: options.Study = None,
    data: options.Data = None,
    weights: options.Weights = None,
    image_size: options.ImageSize = None,
    max_epochs: options.MaxEpochs = None,
    factor: options.Factor = None,
    batch_size: options.BatchSize = None,
    unfrozen_layers: options.UnfrozenLayers = None,
    time_budget: options.TimeBudget = None,
    set_: options.Assigned = None,
    no_confirm: Annotated[bool, typer.Option("--no-confirm", help="Without the confirmation.")] = False,
    format: Annotated[PlanFormat, typer.Option(help="json gives the same as data.")] = PlanFormat.table,
) -> None:
    """Says what a search will train, and estimates time, memory and disk; trains nothing and writes no study."""
    changes = options.changes(
        set_,
        unfrozen_layers,
        weights=weights,
        image_size=image_size,
        max_epochs=max_epochs,
        factor=factor,
        batch_size=batch_size,
        time_budget=time_budget,
    )
    console = err() if format is PlanFormat.json else out()
    folder, changes, new = study_meant(study, data, changes, console, write=False)
    resolved = resolve(folder, changes, console) if new is None else Resolved(new, changes, {}, {})
    with status("Starting") as doing:
        from tuner.search import driver, planning  # noqa: F401 - the search itself, whose import is part of the time

        begun = _age()
        before = time.perf_counter()
        from tuner.evidence import results  # noqa: F401
        from tuner.report import planned  # noqa: F401

        shown = time.perf_counter() - before
        found = Study(folder).plan(resolved, confirm=not no_confirm, start=begun, end=shown, doing=doing)
    if format is PlanFormat.json:
        about = {"study": str(folder.root), "spec": resolved.spec.to_dict()}
        typer.echo(json.dumps(about | found.to_dict(), indent=1))
    else:
        out().print(planned.report(found))


def _age() -> float:
    """Seconds since this process began; of its own work alone where /proc does not tell."""
    try:
        began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        now = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return time.process_time()
    return now - began / os.sysconf("SC_CLK_TCK")
