"""Exports of tiny studies, and what a process far from here reads out of a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.evidence.results import Results
from tuner.export import checking
from tuner.export.formats import Contents, choose
from tuner.store.folder import StudyFolder


@dataclass(frozen=True)
class Case:
    """A study and one of its configurations as a file, with what the export said."""

    folder: StudyFolder
    target: Path
    model: Any
    exported: checking.Exported
    squares: np.ndarray
    photographs: list[Path]
    expected: np.ndarray
    classes: tuple[str, ...]
    depth: int


def export(folder: StudyFolder, target: Path, *, baseline: bool = False, force: bool = False) -> Case:
    """The whole way, as the command line goes it."""
    from tuner.export.study import export_study
    from tuner.search.session import photographs

    results = Results.open(folder.database)
    model, exported = export_study(folder, results, target, baseline=baseline, force=force, say=lambda text: None)
    dataset = photographs(results.study.spec, folder)
    row = results.baseline() if baseline else results.winner()
    assert row is not None and row["id"] == exported.configuration
    expected = results.predictions(row["id"])
    assert expected is not None
    rows = dataset.indices("val")
    paths = [dataset.root / dataset.photographs[i].path for i in rows]
    squares = np.array(dataset.images[rows])
    return Case(folder, target, model, exported, squares, paths, expected, dataset.classes, int(row["unfrozen_layers"]))


def again(case: Case, target: Path, *, force: bool = False, expected: np.ndarray | None = None) -> checking.Exported:
    """The saving, loading and checking half of an export."""
    return checking.export(
        case.model,
        target,
        choose(target),
        Contents(case.classes, 32, case.exported.contents.resize),
        squares=case.squares,
        photographs=case.photographs,
        expected=case.expected if expected is None else expected,
        labels=np.zeros(len(case.expected), int),
        force=force,
        configuration="c000",
    )


def elsewhere(code: str, place: Path, *arguments: object) -> Any:
    """What a fresh process prints as JSON on its last line; this package cannot be imported there."""
    blocked = 'import sys\nsys.modules["tuner"] = None  # not even if it is installed\n'
    done = subprocess.run(
        [sys.executable, "-I", "-c", blocked + textwrap.dedent(code), *map(json.dumps, arguments)],
        cwd=place,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
