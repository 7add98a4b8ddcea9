"""`tlstudy plan`: what a search is going to do and to take, before anything is spent."""

from __future__ import annotations

import json
import os
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from tuner.cli.changes import Assigned, BatchSize, Data, Factor, ImageSize, MaxEpochs, UnfrozenLayers, Weights
from tuner.cli.console import StudyArgument, err, out, short, status
from tuner.cli.options import assignments, numbers, only_given
from tuner.cli.start import about
from tuner.spec import spec as specs
from tuner.store import locate as studies
from tuner.store.folder import StudyFolder
from tuner.store.options import Resolved, from_here, place
from tuner.study import Study


class PlanFormat(StrEnum):
    table = "table"
    json = "json"


def plan(
    study: StudyArgument = None,
    data: Data = None,
    weights: Weights = None,
    image_size: ImageSize = None,
    max_epochs: MaxEpochs = None,
    factor: Factor = None,
    batch_size: BatchSize = None,
    unfrozen_layers: UnfrozenLayers = None,
    set_: Assigned = None,
    no_confirm: Annotated[bool, typer.Option("--no-confirm", help="Without the confirmation.")] = False,
    format: Annotated[PlanFormat, typer.Option(help="json gives the same as data.")] = PlanFormat.table,
) -> None:
    """Says what a search will train, and estimates time, memory and disk; trains nothing and writes no study."""
    changes = only_given(
        {
            "backbone.weights": weights,
            "data.image_size": image_size,
            "search.max_epochs": max_epochs,
            "search.factor": factor,
            "search.batch_size": batch_size,
            "space.unfrozen_layers": numbers(unfrozen_layers, "--unfrozen-layers"),
        }
    ) | assignments(set_ or [])
    folder, resolved = _meant(study, data, from_here(changes), format is PlanFormat.json)
    with status("Starting") as doing:
        from tuner.search import driver, planning  # noqa: F401 - the search itself, whose import is part of the time

        begun = _age()
        before = time.perf_counter()
        from tuner.evidence import results  # noqa: F401
        from tuner.report import planned  # noqa: F401

        shown = time.perf_counter() - before
        found = Study(folder).plan(resolved, confirm=not no_confirm, start=begun, end=shown, doing=doing)
    if format is PlanFormat.json:
        typer.echo(
            json.dumps({"study": str(folder.root), "spec": resolved.spec.to_dict(), **found.to_dict()}, indent=1)
        )
    else:
        out().print(planned.report(found))


def _meant(
    study: str | None, data: Path | None, changes: dict[str, Any], to_stderr: bool
) -> tuple[StudyFolder, Resolved]:
    """The study that `tlstudy search` would take, and what it would ask; nothing is written for a new one."""
    console = err() if to_stderr else out()
    if data is None or study is not None:
        located = studies.locate(study, Path.cwd())
        console.print(Text(f"Study {short(located.folder.root)} ({located.why})."))
        folder = located.folder
        if data is not None:
            changes = changes | {"data.path": str(place(data))}
        if located.is_demo and not folder.spec.exists():
            return folder, Resolved(studies.demo_spec().override(changes), changes, {}, {})
    else:
        path = place(data)
        folder = about(path)
        if not folder.spec.exists():
            from tuner.backbones.weights import check_named

            spec = specs.Spec().override({"data.path": str(path)} | changes)
            check_named(spec.backbone.weights, folder.root)
            console.print(Text(f"Study {short(folder.root)} (new; a search writes it)."))
            return folder, Resolved(spec, changes, {}, {})
        console.print(Text(f"Study {short(folder.root)} (the one about {short(path)})."))
    asked = Study(folder).resolve(changes)
    if asked.kept:
        kept = ", ".join(f"{k} = {v}" for k, v in asked.kept.items())
        console.print(Text(f"Going on with the options it was started with: {kept}."))
    return folder, asked


def _age() -> float:
    """Seconds since this process began; of its own work alone where /proc does not tell."""
    try:
        began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        now = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return time.process_time()
    return now - began / os.sysconf("SC_CLK_TCK")
